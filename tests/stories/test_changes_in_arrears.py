"""Changes between plans that bill nothing in advance."""

from __future__ import annotations


async def plan_of(shop, code, unit):
    """A price for what was used, billed when its period is over."""
    product = await shop.post("/v1/products", {"code": code, "name": code, "resources": ["film:a"]})
    price = {
        "code": "calls", "currency": "EUR", "model": "per_unit", "unit_amount": "10",
        "timing": "arrears", "metered": True, "interval": {"unit": unit, "count": 1},
    }  # fmt: skip
    body = {"code": code, "name": code, "product_id": product["id"], "prices": [price]}
    return (await shop.post("/v1/plans", body))["id"]


async def test_a_cycle_that_begins_anew_with_nothing_to_bill_has_a_run_of_its_own(shop):
    """Found by ``tests/previews``: the new cycle had no run, so that the next one began where none
    had ended."""
    monthly, weekly = await plan_of(shop, "monthly", "month"), await plan_of(shop, "weekly", "week")
    viewer = await shop.customer(timezone="UTC")
    await shop.card(viewer)
    bought = await shop.subscribe(viewer, monthly)
    await shop.new_events(viewer)

    path = f"/v1/subscriptions/{bought['id']}"
    seen = await shop.post(f"{path}/preview-change", {"plan_id": weekly}, expect=200)
    assert (seen["restarts_period"], seen["total_minor"], seen["lines"]) == (True, 0, [])
    changed = await shop.post(f"{path}/change", {"plan_id": weekly}, expect=200)

    assert changed["current_period_end_at"] == seen["current_period_end_at"]
    assert changed["current_period_end_at"] == "2026-02-07T10:00:00Z"
    assert await shop.invoices(viewer) == [], "an invoice has a line"
    assert await shop.new_events(viewer) == [
        "subscription.changed", "entitlement.revoked", "entitlement.granted",
    ]  # fmt: skip
    await shop.check()
    await shop.move_to("2026-02-10")
    assert [each[2] for each in await shop.invoices(viewer)] == [0]
    await shop.check()


async def test_what_a_plan_that_was_left_billed_in_arrears_is_not_billed_again(shop):
    """Found by the simulation (seed 6111): the invoice after such a plan was left looked back at
    what was billed in advance, and not at what the period before had billed in arrears."""
    product = await shop.post("/v1/products", {"code": "p", "name": "P", "resources": ["film:a"]})
    price = {"currency": "EUR", "model": "flat", "interval": {"unit": "month", "count": 1}}
    base = {**price, "code": "base", "amount_minor": 1000}
    support = {**price, "code": "support", "amount_minor": 280, "timing": "arrears"}
    body = {"product_id": product["id"]}
    plain = await shop.post("/v1/plans", body | {"code": "a", "name": "A", "prices": [base]})
    helped = await shop.post(
        "/v1/plans", body | {"code": "b", "name": "B", "prices": [base, support]}
    )
    viewer = await shop.customer(timezone="UTC")
    await shop.card(viewer)
    bought = await shop.subscribe(viewer, plain["id"])
    path = f"/v1/subscriptions/{bought['id']}/change"
    await shop.move_to("2026-02-14")
    await shop.post(path, {"plan_id": helped["id"], "settle": "next_invoice"}, expect=200)
    await shop.move_to("2026-03-15")
    await shop.post(path, {"plan_id": plain["id"], "settle": "next_invoice"}, expect=200)
    await shop.move_to("2026-04-20")

    assert [each[2] for each in await shop.invoices(viewer)] == [1000, 1000 + 140, 1000 + 135]
    [paid] = [each["id"] for each in helped["latest"]["prices"] if each["code"] == "support"]
    numbers = [each["id"] for each in (await shop.get("/v1/invoices", limit=100))["data"]]
    lines = [
        (line["service_start_at"][:10], line["service_end_at"][:10], line["gross_minor"])
        for invoice in numbers
        for line in (await shop.get(f"/v1/invoices/{invoice}"))["lines"]
        if line["price_id"] == paid
    ]
    # 14 of 28 days of 2.80, then 15 of 31.
    assert sorted(lines) == [("2026-02-14", "2026-02-28", 140), ("2026-02-28", "2026-03-15", 135)]
    await shop.check()
