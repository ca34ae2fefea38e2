"""Prices of every timing, metered, committed, ramped and agreed: to the cent."""

from __future__ import annotations

import pytest

MONTH = {"unit": "month", "count": 1}


async def plan_of(shop, *prices, code="mix"):
    product = await shop.post(
        "/v1/products", {"code": code, "name": code.title(), "resources": [code]}
    )
    plan = await shop.post(
        "/v1/plans",
        {"code": code, "name": code.title(), "product_id": product["id"], "prices": [
            {"currency": "EUR", "interval": MONTH, **each} for each in prices]},
    )  # fmt: skip
    return plan["id"], {each["code"]: each["id"] for each in plan["latest"]["prices"]}


async def lines(shop, viewer):
    invoice = await shop.last_invoice(viewer)
    whole = await shop.get(f"/v1/invoices/{invoice['id']}")
    return {line["description"].split("(")[1][:-1]: line["net_minor"] for line in whole["lines"]}


async def use(shop, subscription, price, expect=200, **given):
    answer = await shop.raw(
        "PUT", f"/v1/subscriptions/{subscription}/quantities", json={"price_id": price, **given}
    )
    assert answer.status_code == expect, answer.text
    return answer.json()


BASE = {"code": "base", "model": "flat", "amount_minor": 1000}
LATE = {"code": "late", "model": "flat", "amount_minor": 310, "timing": "arrears"}
SET_UP = {"code": "set-up", "model": "flat", "amount_minor": 5000, "timing": "once"}
CALLS = {"code": "calls", "model": "per_unit", "unit_amount": "0.5", "timing": "arrears",
         "metered": True}  # fmt: skip


@pytest.fixture
async def viewer(shop):
    customer = await shop.customer()
    await shop.card(customer)
    return customer


@pytest.mark.long
async def test_a_set_up_fee_once_and_what_is_in_arrears_at_the_end(shop, viewer):
    plan, _ = await plan_of(shop, BASE, LATE, SET_UP)
    bought = await shop.subscribe(viewer, plan)
    assert await lines(shop, viewer) == {"base": 1000, "set-up": 5000}
    await shop.move_to("2026-03-01")
    assert await lines(shop, viewer) == {"base": 1000, "late": 310}
    await shop.post(f"/v1/subscriptions/{bought['id']}/cancel", {"when": "period_end"}, expect=200)
    await shop.move_to("2026-04-01")
    assert await lines(shop, viewer) == {"late": 310}, "the last period's arrears"
    assert await shop.captured() == {"EUR": 6000 + 1310 + 310}
    await shop.check()


async def test_what_the_end_billed_in_arrears_is_not_billed_again_when_it_goes_on(shop, viewer):
    """Seed 5001 of the simulation: the last invoice bills what was used, the renewal all of it."""
    plan, prices = await plan_of(shop, BASE, LATE, CALLS)
    bought = await shop.subscribe(viewer, plan)
    path = f"/v1/subscriptions/{bought['id']}"
    await use(shop, bought["id"], prices["calls"], quantity="100")
    await shop.move_to("2026-02-14T10:00:00")
    await shop.post(f"{path}/cancel", {"when": "now"}, expect=200)
    await shop.pump.quiet()
    assert await lines(shop, viewer) == {"late": 155, "calls": 50}, "the half that was used"

    await shop.post(f"{path}/reactivate", {}, expect=200)
    await shop.pump.quiet()
    await shop.move_to("2026-03-01")

    invoice = await shop.last_invoice(viewer)
    assert (invoice["reason"], invoice["total_minor"]) == ("renewal", 1000 + 155)
    assert await shop.captured() == {"EUR": 1000 + 205 + 1155}
    await shop.check()
    await shop.move_to("2026-04-01")
    assert await lines(shop, viewer) == {"base": 1000, "late": 310, "calls": 0}
    await shop.check()


@pytest.mark.parametrize(
    ("terms", "ended", "went_on"),
    [
        ({}, 155, 78),  # 14 of 28 days, and 7
        ({"last_day_charged": True}, 166, 78),  # 15, and 7
        ({"proration": "none"}, 310, 0),
    ],
)
async def test_nothing_is_billed_in_arrears_for_the_days_between_an_end_and_going_on(
    shop, viewer, terms, ended, went_on
):
    plan, prices = await plan_of(shop, BASE, LATE, CALLS)
    bought = await shop.subscribe(viewer, plan, **terms)
    path = f"/v1/subscriptions/{bought['id']}"
    await use(shop, bought["id"], prices["calls"], quantity="100")
    await shop.move_to("2026-02-14T10:00:00")
    await shop.post(f"{path}/cancel", {"when": "now"}, expect=200)
    await shop.pump.quiet()
    assert await lines(shop, viewer) == {"late": ended, "calls": 50}
    await shop.move_to("2026-02-21T10:00:00")
    await shop.post(f"{path}/reactivate", {}, expect=200)
    await shop.pump.quiet()
    await use(shop, bought["id"], prices["calls"], quantity="130")
    await shop.move_to("2026-03-01")

    renewal = await shop.last_invoice(viewer)
    whole = await shop.get(f"/v1/invoices/{renewal['id']}")
    late = [
        (line["net_minor"], line["service_start_at"])
        for line in whole["lines"]
        if "late" in line["description"]
    ]
    assert late == [(went_on, "2026-02-21T10:00:00Z")]
    assert renewal["total_minor"] == 1000 + went_on + 15, "30 calls more than were billed"
    await shop.check()
    await shop.move_to("2026-04-01")
    assert await lines(shop, viewer) == {"base": 1000, "late": 310, "calls": 0}
    await shop.check()


async def test_what_was_used_is_said_and_billed_at_the_period_s_end(shop, viewer):
    plan, prices = await plan_of(shop, BASE, CALLS)
    bought = await shop.subscribe(viewer, plan)
    await use(shop, bought["id"], prices["calls"], quantity="100")
    told = await use(shop, bought["id"], prices["calls"], quantity="301")
    assert [each["used"] for each in told["data"]] == [{"quantity": "301"}]
    await shop.move_to("2026-03-01")
    assert await lines(shop, viewer) == {"base": 1000, "calls": 151}
    await shop.move_to("2026-04-01")
    assert await lines(shop, viewer) == {"base": 1000, "calls": 0}, "nothing was said"
    await shop.check()


async def test_percentages_and_matrices_read_what_was_used(shop, viewer):
    plan, prices = await plan_of(
        shop, BASE,
        {"code": "fee", "model": "percentage", "rate_percent": "2.9", "event_amount": "30",
         "event_maximum_minor": 200, "timing": "arrears", "metered": True},
        {"code": "grid", "model": "matrix", "dimensions": ["region"],
         "rates": [{"values": ["eu"], "unit_amount": "3"}, {"values": ["us"], "unit_amount": "2"}],
         "timing": "arrears", "metered": True},
    )  # fmt: skip
    bought = await shop.subscribe(viewer, plan)
    await use(shop, bought["id"], prices["fee"], event_amounts=["1000", "100000"])
    await use(
        shop, bought["id"], prices["grid"],
        by_dimensions=[{"values": ["eu"], "quantity": "10"}, {"values": ["us"], "quantity": "5"}],
    )  # fmt: skip
    refused = await use(
        shop, bought["id"], prices["grid"], expect=422,
        by_dimensions=[{"values": ["mars"], "quantity": "1"}],
    )  # fmt: skip
    assert refused["code"] == "invalid_request"
    await shop.move_to("2026-03-01")
    # 2.9 % of 10.00 and 0.30 are 0.59; of 1,000.00 at most 2.00.
    assert await lines(shop, viewer) == {"base": 1000, "fee": 259, "grid": 40}
    await shop.check()


async def test_a_commitment_is_trued_up(shop, viewer):
    plan, prices = await plan_of(
        shop, BASE, CALLS,
        {"code": "least", "model": "commitment", "commitment_minor": 2000, "timing": "arrears"},
    )  # fmt: skip
    bought = await shop.subscribe(viewer, plan)
    await use(shop, bought["id"], prices["calls"], quantity="400")
    await shop.move_to("2026-03-01")
    assert await lines(shop, viewer) == {"base": 1000, "calls": 200, "least": 800}
    await use(shop, bought["id"], prices["calls"], quantity="9000")
    await shop.move_to("2026-04-01")
    assert await lines(shop, viewer) == {"base": 1000, "calls": 4500, "least": 0}
    await shop.check()


@pytest.mark.long
async def test_a_ramp_and_a_yearly_price_beside_monthly_ones(shop, viewer):
    plan, _ = await plan_of(
        shop,
        BASE | {"ramp": [{"from_period": 1, "model": "flat", "amount_minor": 1500},
                         {"from_period": 3, "model": "flat", "amount_minor": 2000}]},
        {"code": "domain", "model": "flat", "amount_minor": 1200,
         "interval": {"unit": "year", "count": 1}},
    )  # fmt: skip
    await shop.subscribe(viewer, plan)
    assert await lines(shop, viewer) == {"base": 1000, "domain": 1200}
    amounts = []
    for moment in ("2026-03-01", "2026-04-01", "2026-05-01"):
        await shop.move_to(moment)
        amounts.append(await lines(shop, viewer))
    assert amounts == [{"base": 1500}, {"base": 1500}, {"base": 2000}]
    await shop.check()


async def test_a_customer_pays_what_was_agreed_from_the_next_period_on(shop, viewer):
    plan, prices = await plan_of(shop, BASE)
    await shop.subscribe(viewer, plan)
    path = f"/v1/customers/{viewer}/prices/{prices['base']}"
    answer = await shop.raw("PUT", path, json={"model": "flat", "amount_minor": 700})
    assert answer.status_code == 200, answer.text
    assert [each["amount_minor"] for each in answer.json()["data"]] == [700]
    assert await lines(shop, viewer) == {"base": 1000}, "the present period stays"
    await shop.move_to("2026-03-01")
    assert await lines(shop, viewer) == {"base": 700}
    await shop.subscribe(viewer, plan)
    assert await lines(shop, viewer) == {"base": 700}, "a new purchase at once"
    other = await shop.customer("bob")
    await shop.card(other)
    await shop.subscribe(other, plan)
    assert await lines(shop, other) == {"base": 1000}
    await shop.check()


async def test_a_one_off_charge_stands_apart_from_what_the_plan_bills(shop, viewer):
    plan, prices = await plan_of(shop, BASE, SET_UP)
    bought = (await shop.subscribe(viewer, plan))["id"]
    await shop.new_events(viewer)
    path = f"/v1/subscriptions/{bought}/charges"
    await shop.post(path, {"price_id": prices["set-up"]}, expect=200)
    assert await shop.new_events(viewer) == [
        "invoice.finalized", "payment.succeeded", "invoice.paid",
    ]  # fmt: skip
    assert await lines(shop, viewer) == {"set-up": 5000}
    assert (await shop.last_invoice(viewer))["reason"] == "one_off_charge"
    await shop.move_to("2026-02-14T10:00:00")
    # A change of the period takes back nothing of it.
    found = await shop.post(
        f"/v1/subscriptions/{bought}/cancel", {"when": "now", "credit_unused": True}, expect=200
    )
    assert found["status"] == "canceled"
    assert await lines(shop, viewer) == {"base": -500}
    refused = await shop.raw("POST", path, json={"price_id": prices["set-up"]})
    assert refused.json()["code"] == "subscription_ended"
    other = (await shop.subscribe(viewer, plan))["id"]
    refused = await shop.raw(
        "POST", f"/v1/subscriptions/{other}/charges", json={"price_id": prices["base"]}
    )
    assert refused.json()["code"] == "unknown_reference"
    await shop.check()


async def test_wrong_prices_and_quantities_are_told(shop, viewer):
    product = await shop.post("/v1/products", {"code": "w", "name": "W", "resources": []})
    for wrong in (
        CALLS | {"timing": "advance"},
        BASE | {"model": "percentage", "rate_percent": "2"},
        BASE | {"timing": "later"},
        BASE | {"ramp": [{"from_period": 2, "model": "flat", "amount_minor": 1},
                         {"from_period": 1, "model": "flat", "amount_minor": 1}]},
        BASE | {"ramp": [{"from_period": 1, "model": "flat"}]},
        {"code": "least", "model": "commitment", "commitment_minor": 1},
        BASE | {"model": "matrix", "dimensions": [], "rates": [], "metered": True,
                "timing": "arrears"},
    ):  # fmt: skip
        answer = await shop.raw("POST", "/v1/plans", json={
            "code": "w", "name": "W", "product_id": product["id"],
            "prices": [{"currency": "EUR", "interval": MONTH, **wrong}],
        })  # fmt: skip
        assert answer.status_code == 422, (wrong, answer.text)
        assert answer.json()["pointer"].startswith("/prices/0"), answer.text
    mixed = await shop.raw("POST", "/v1/plans", json={
        "code": "w", "name": "W", "product_id": product["id"], "prices": [
            {"currency": "EUR", "interval": MONTH, **BASE},
            {"currency": "EUR", "interval": {"unit": "week", "count": 1}, **LATE}],
    })  # fmt: skip
    assert mixed.json()["code"] == "mixed_intervals"
    plan, prices = await plan_of(shop, BASE, CALLS)
    bought = (await shop.subscribe(viewer, plan))["id"]
    await use(shop, bought, prices["base"], expect=422, quantity="1")
    await use(shop, bought, prices["calls"], expect=422, quantity="-1")
    await use(shop, bought, prices["calls"], expect=422, quantity="1" * 41)
    await use(shop, bought, prices["calls"], expect=422)
    await use(shop, bought, prices["calls"], expect=422, quantity="1", event_amounts=["1"])
    path = f"/v1/customers/{viewer}/prices/{prices['base']}"
    for body in ({"model": "flat"}, {"model": "flat", "amount_minor": -1}):
        assert (await shop.raw("PUT", path, json=body)).status_code == 422
    await shop.check()
