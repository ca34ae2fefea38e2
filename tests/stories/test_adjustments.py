"""Credit that a person gives a customer or takes back, with the reason."""

from __future__ import annotations


async def credit_of(shop, viewer):
    (found,) = (await shop.get(f"/v1/customers/{viewer}/balance"))["balances"]
    return found["credit_minor"]


async def books(shop):
    (currency,) = (await shop.get("/v1/ledger/trial-balance"))["currencies"]
    return {
        each["account"].partition(":")[0]: each["balance_minor"]
        for each in currency["accounts"]
        if each["balance_minor"]
    }


async def adjust(shop, customer, amount, *, expect=201, direction="credit", **more):
    return await shop.post(
        "/v1/adjustments",
        {"customer_id": customer, "direction": direction, "amount_minor": amount,
         "currency": "EUR", "reason": "an apology"} | more,
        expect=expect,
    )  # fmt: skip


async def test_a_person_gives_credit_and_takes_it_back(seats):
    shop, viewer, _ = seats
    given = await adjust(shop, viewer, 700)
    taken = await adjust(shop, viewer, 200, direction="debit", reason="too much")
    assert await shop.new_events(viewer) == ["adjustment.made", "adjustment.made"]
    assert await credit_of(shop, viewer) == 500
    assert (await books(shop))["adjustment_expense"] == 500
    listed = (await shop.get("/v1/adjustments", customer_id=viewer))["data"]
    assert [each["id"] for each in listed] == [taken["id"], given["id"]]
    assert listed[0]["reason"] == "too much"
    assert listed[0]["made_by"].startswith("key_")
    entries = (await shop.get(f"/v1/customers/{viewer}/statement"))["entries"]
    assert [(e["kind"], e["debit_minor"], e["credit_minor"]) for e in entries[-2:]] == [
        ("adjusted", 0, 700), ("adjusted", 200, 0),
    ]  # fmt: skip
    refused = await adjust(shop, viewer, 501, direction="debit", expect=409)
    assert (refused["code"], refused["left_minor"]) == ("credit_insufficient", 500)
    await shop.move_to("2026-03-01")
    assert await shop.captured() == {"EUR": 2000 + 1500}
    await shop.check()


async def test_adjustments_that_cannot_be_are_told(seats):
    shop, viewer, _ = seats
    for more, code in (
        ({"currency": "USD"}, "currency_mismatch"),
        ({"customer_id": "cus_01h455vb4pex5vsknk084sn02q"}, "unknown_reference"),
        ({"amount_minor": 0}, "invalid_request"),
        ({"amount_minor": -5}, "invalid_request"),
        ({"amount_minor": 10**15 + 1}, "invalid_request"),
        ({"direction": "up"}, "invalid_request"),
        ({"reason": " "}, "invalid_request"),
    ):
        refused = await adjust(shop, viewer, 5, expect=422, **more)
        assert refused["code"] == code, refused
    await adjust(shop, viewer, 10**15)
    refused = await adjust(shop, viewer, 1, expect=422)
    assert refused["pointer"] == "/amount_minor"
    await adjust(shop, viewer, 10**15, direction="debit")
    assert (await shop.get("/v1/adjustments/adj_01h455vb4pex5vsknk084sn02q", expect=404))["code"]
    await shop.check()
