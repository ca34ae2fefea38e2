"""Two charges that begin at one moment: what is given back ends where the one that stands ends."""

from __future__ import annotations


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
