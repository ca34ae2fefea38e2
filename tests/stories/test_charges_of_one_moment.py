"""Two charges that begin at one moment: what is given back ends where the one that stands ends."""

from __future__ import annotations

import pytest


async def deferred(shop):
    [euro] = (await shop.get("/v1/ledger/trial-balance"))["currencies"]
    return -sum(
        each["balance_minor"] for each in euro["accounts"] if each["account"] == "deferred_revenue"
    )


async def test_a_credit_ends_with_the_charge_that_stands(seats):
    """The cycle is hung elsewhere in the moment of purchase, so that the month is given back and a
    shorter period charged from the same moment on; then a pause gives back the rest of that."""
    shop, viewer, subscription = seats
    await shop.post(
        f"/v1/subscriptions/{subscription}/change-anchor",
        {"billing_anchor": {"kind": "day", "day": 15}, "when": "now"},
        expect=200,
    )
    await shop.move_to("2026-02-05T10:00:00")
    await shop.post(
        f"/v1/subscriptions/{subscription}/pause", {"at": "now", "credit": "credit"}, expect=200
    )

    invoice = await shop.last_invoice(viewer)
    whole = await shop.get(f"/v1/invoices/{invoice['id']}")
    assert [
        (line["kind"], line["service_start_at"], line["service_end_at"]) for line in whole["lines"]
    ] == [("credit", "2026-02-05T10:00:00Z", "2026-02-14T23:00:00Z")]
    await shop.move_to("2026-02-16")
    assert await deferred(shop) == 0, "all that is left was served"
    await shop.check()


async def test_a_charge_billed_anew_after_a_pause_at_its_start_is_the_same_charge(seats):
    """What a credit note gave back of it counts against both: more seats and a pause, both in the
    moment of purchase, are billed in the period that the pause has extended."""
    shop, viewer, subscription = seats
    first = await shop.last_invoice(viewer)
    await shop.post("/v1/credit-notes", {"invoice_id": first["id"], "reason": "goodwill"})
    changed = {"quantity": "3", "settle": "next_invoice"}
    await shop.post(f"/v1/subscriptions/{subscription}/change", changed, expect=200)
    await shop.post(
        f"/v1/subscriptions/{subscription}/pause", {"at": "now", "credit": "extend"}, expect=200
    )
    await shop.move_to("2026-02-05T10:00:00")
    await shop.post(f"/v1/subscriptions/{subscription}/resume", {"at": "now"}, expect=200)
    await shop.post(f"/v1/subscriptions/{subscription}/cancel", {"when": "period_end"}, expect=200)
    await shop.move_to("2026-03-10")

    whole = await shop.get(f"/v1/invoices/{(await shop.last_invoice(viewer))['id']}")
    assert [
        (line["kind"], line["gross_minor"], line["service_start_at"], line["service_end_at"])
        for line in whole["lines"]
    ] == [
        ("credit", -2000, "2026-02-05T10:00:00Z", "2026-03-05T10:00:00Z"),
        ("charge", 3000, "2026-02-05T10:00:00Z", "2026-03-05T10:00:00Z"),
    ]
    await shop.check()


@pytest.mark.long
async def test_a_note_of_a_charge_without_duration_is_voided(shop):
    """A charge of once is delivered in the moment it is made; taken back and given again, too."""
    viewer = await shop.customer()
    await shop.card(viewer)
    once = {"code": "gift", "currency": "EUR", "model": "flat", "amount_minor": 150,
            "interval": {"unit": "month", "count": 1}, "timing": "once"}  # fmt: skip
    base = {**once, "code": "base", "amount_minor": 999, "timing": "advance"}
    product = await shop.post("/v1/products", {"code": "p", "name": "P", "resources": ["film:a"]})
    plan = await shop.post(
        "/v1/plans",
        {"code": "p", "name": "P", "product_id": product["id"], "prices": [base, once]},
    )
    bought = await shop.subscribe(viewer, plan["id"])
    gift = next(each["id"] for each in plan["latest"]["prices"] if each["code"] == "gift")
    await shop.post(f"/v1/subscriptions/{bought['id']}/charges", {"price_id": gift}, expect=200)
    await shop.pump.quiet()
    charged = await shop.last_invoice(viewer)
    note = await shop.post("/v1/credit-notes", {"invoice_id": charged["id"], "reason": "goodwill"})

    voided = await shop.post(
        f"/v1/credit-notes/{note['id']}/void", {"reason": "a mistake"}, expect=200
    )

    assert voided["status"] == "void"
    await shop.move_to("2026-03-01")
    assert await deferred(shop) > 0, "the next month is still to be served"
    await shop.move_to("2026-03-31T08:00:00")
    await shop.check()


async def test_a_change_in_the_moment_of_the_start_charges_the_new_plans_set_up_once(shop):
    """A weekly plan is changed to a monthly one, with a set-up fee, before a second has passed: the
    fee is due with the first month and never again, not when the subscription ends either."""
    viewer = await shop.customer()
    await shop.card(viewer)
    product = await shop.post("/v1/products", {"code": "s", "name": "S", "resources": ["film:a"]})
    weekly = {"code": "base", "currency": "EUR", "model": "flat", "amount_minor": 700,
              "interval": {"unit": "week", "count": 1}, "timing": "advance"}  # fmt: skip
    monthly = {**weekly, "amount_minor": 3000, "interval": {"unit": "month", "count": 1}}
    once = {**monthly, "code": "setup", "amount_minor": 500, "timing": "once"}
    first, then = [
        await shop.post(
            "/v1/plans", {"code": code, "name": code, "product_id": product["id"], "prices": prices}
        )
        for code, prices in (("weekly", [weekly]), ("monthly", [monthly, once]))
    ]
    bought = await shop.subscribe(viewer, first["id"])
    await shop.post(f"/v1/subscriptions/{bought['id']}/change", {"plan_id": then["id"]}, expect=200)
    await shop.pump.quiet()

    changed = await shop.get(f"/v1/invoices/{(await shop.last_invoice(viewer))['id']}")
    assert [
        (line["kind"], line["description"], line["gross_minor"]) for line in changed["lines"]
    ] == [
        ("credit", "weekly (base)", -700),
        ("charge", "monthly (base)", 3000),
        ("charge", "monthly (setup)", 500),
    ]
    await shop.post(f"/v1/subscriptions/{bought['id']}/cancel", {"when": "period_end"}, expect=200)
    await shop.move_to("2026-04-10")
    assert (await shop.last_invoice(viewer))["id"] == changed["id"], "nothing is billed at the end"
    await shop.check()
