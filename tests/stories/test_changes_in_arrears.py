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
