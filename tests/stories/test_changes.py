"""Change inside a period, see before what it costs, settle now or later: to the cent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stories.shop import seats_plan

PROGRAM = Path(__file__).parents[2] / "examples/recompute_invoice.py"
HALF = "2026-02-14T10:00:00"
"""Fourteen of the twenty-eight days from 31 January, 11:00 in Berlin."""
CHANGED = ["subscription.changed", "invoice.finalized", "payment.succeeded", "invoice.paid"]
RENEWED = [
    "subscriptions.renew_required", "invoice.finalized", "payment.succeeded", "invoice.paid",
    "subscription.renewed", "entitlement.granted",
]  # fmt: skip


async def change(shop, subscription, expect=200, **body):
    return await shop.post(f"/v1/subscriptions/{subscription}/change", body, expect=expect)


async def preview(shop, subscription, **body):
    found = await shop.post(f"/v1/subscriptions/{subscription}/preview-change", body, expect=200)
    return found["total_minor"], [line["net_minor"] for line in found["lines"]]


async def lines(shop, viewer):
    invoice = await shop.last_invoice(viewer)
    whole = await shop.get(f"/v1/invoices/{invoice['id']}")
    return whole["total_minor"], [(line["kind"], line["net_minor"]) for line in whole["lines"]]


async def test_more_seats_are_charged_for_the_rest_of_the_period(seats):
    shop, viewer, subscription = seats
    await shop.move_to(HALF)
    assert await preview(shop, subscription, quantity="3") == (500, [-1000, 1500])
    assert await shop.new_events(viewer) == [], "a preview leaves no trace"

    changed = await change(shop, subscription, quantity="3")

    assert changed["quantity"] == "3"
    assert changed["current_period_end_at"] == "2026-02-28T10:00:00Z"
    assert await shop.new_events(viewer) == CHANGED
    assert await lines(shop, viewer) == (500, [("credit", -1000), ("charge", 1500)])
    assert await shop.captured() == {"EUR": 2500}
    await shop.move_to("2026-03-01")
    assert await shop.new_events(viewer) == RENEWED
    assert await lines(shop, viewer) == (3000, [("charge", 3000)])
    await shop.check()


async def test_every_line_of_a_change_explains_itself(seats, tmp_path):
    shop, viewer, subscription = seats
    await shop.move_to("2026-02-10T17:30:00")
    await change(shop, subscription, quantity="7.5")
    invoice = await shop.last_invoice(viewer)
    explained = await shop.get(f"/v1/invoices/{invoice['id']}/explain")
    path = tmp_path / "explained.json"
    path.write_text(json.dumps(explained))
    found = subprocess.run(
        [sys.executable, PROGRAM, path], check=False, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.long
async def test_fewer_seats_wait_for_the_next_invoice(seats):
    shop, viewer, subscription = seats
    await shop.move_to(HALF)
    assert await preview(shop, subscription, quantity="1") == (-500, [-1000, 500])

    await change(shop, subscription, quantity="1")

    assert await shop.new_events(viewer) == ["subscription.changed"]
    upcoming = await shop.get(f"/v1/subscriptions/{subscription}/upcoming-invoice")
    assert upcoming["total_minor"] == 500
    await shop.move_to("2026-03-01")
    assert await shop.new_events(viewer) == RENEWED
    assert await lines(shop, viewer) == (
        500, [("credit", -1000), ("charge", 500), ("charge", 1000)],
    )  # fmt: skip
    await shop.move_to("2026-04-01")
    assert await lines(shop, viewer) == (1000, [("charge", 1000)])
    await shop.check()


async def test_what_gives_back_more_than_it_costs_becomes_credit_that_pays_later(seats):
    shop, viewer, subscription = seats
    await shop.move_to(HALF)
    await change(shop, subscription, quantity="1", settle="now")

    assert await shop.new_events(viewer) == [
        "subscription.changed", "invoice.finalized", "invoice.paid",
    ]  # fmt: skip
    invoice = await shop.last_invoice(viewer)
    assert (invoice["status"], invoice["total_minor"], invoice["credited_minor"]) == (
        "paid", 0, 500,
    )  # fmt: skip
    await shop.check()
    await shop.move_to("2026-03-01")
    assert await shop.new_events(viewer) == RENEWED
    renewal = await shop.last_invoice(viewer)
    assert (renewal["total_minor"], renewal["credit_applied_minor"], renewal["paid_minor"]) == (
        1000, 500, 1000,
    )  # fmt: skip
    assert await shop.captured() == {"EUR": 2000 + 500}
    await shop.check()


async def test_an_invoice_that_credit_pays_whole_needs_no_payment(seats):
    shop, viewer, subscription = seats
    await change(shop, subscription, quantity="0.1", settle="now")
    await shop.new_events(viewer)
    await shop.move_to("2026-03-01")
    assert await shop.new_events(viewer) == [
        "subscriptions.renew_required", "invoice.finalized", "invoice.paid",
        "subscription.renewed", "entitlement.granted",
    ]  # fmt: skip
    assert await shop.captured() == {"EUR": 2000}
    await shop.check()


async def test_another_plan_moves_the_access_with_it(shop):
    basic = await shop.plan("basic", resources=("film:a",))
    pro = await shop.plan("pro", amounts={"EUR": 2999}, resources=("film:a", "film:z"))
    viewer = await shop.customer()
    await shop.card(viewer)
    bought = await shop.subscribe(viewer, basic)
    await shop.new_events(viewer)
    await shop.move_to(HALF)

    # Half of 9.99 was used: 5.00, rounded; the rest comes back. Half of 29.99 is 15.00.
    assert await preview(shop, bought["id"], plan_id=pro) == (1001, [-499, 1500])
    changed = await change(shop, bought["id"], plan_id=pro)

    assert changed["plan_id"] == pro
    assert sorted(await shop.new_events(viewer)) == sorted(
        [*CHANGED, "entitlement.revoked", "entitlement.granted"]
    )
    assert (await shop.access(viewer, "film:z"))["allowed"]
    await shop.check()


@pytest.mark.long
async def test_another_interval_ends_the_period_and_begins_a_new_one(seats):
    shop, viewer, subscription = seats
    yearly = await seats_plan(shop, "yearly", amount="9000", unit="year")
    await shop.move_to(HALF)
    assert await preview(shop, subscription, plan_id=yearly) == (17000, [-1000, 18000])

    changed = await change(shop, subscription, plan_id=yearly)

    assert changed["current_period_start_at"] == "2026-02-14T10:00:00Z"
    assert changed["current_period_end_at"] == "2027-02-14T10:00:00Z"
    assert await lines(shop, viewer) == (17000, [("credit", -1000), ("charge", 18000)])
    await shop.move_to("2027-02-15")
    assert await lines(shop, viewer) == (18000, [("charge", 18000)])
    assert await shop.captured() == {"EUR": 2000 + 17000 + 18000}
    await shop.check()


async def test_a_change_waits_for_the_period_s_end_and_can_be_forgotten(seats):
    shop, viewer, subscription = seats
    waiting = await change(shop, subscription, quantity="5", at="period_end")
    assert waiting["quantity"] == "2"
    assert waiting["scheduled_change"]["effective_at"] == "2026-02-28T10:00:00Z"
    assert waiting["scheduled_change"]["quantity"] == "5"
    kept = await shop.post(f"/v1/subscriptions/{subscription}/undo-change", expect=200)
    assert kept["scheduled_change"] is None
    refused = await shop.post(f"/v1/subscriptions/{subscription}/undo-change", expect=409)
    assert refused["code"] == "change_not_scheduled"
    yearly = await seats_plan(shop, "yearly", amount="9000", unit="year")
    await change(shop, subscription, plan_id=yearly, quantity="1", at="period_end")
    await shop.new_events(viewer)

    await shop.move_to("2026-03-01")

    told = await shop.new_events(viewer)
    assert told[:2] == ["subscriptions.change_required", "subscription.changed"]
    billed = [each for each in told if not each.startswith("entitlement.")]
    assert billed[2:] == RENEWED[:-1]
    assert await lines(shop, viewer) == (9000, [("charge", 9000)])
    found = await shop.get(f"/v1/subscriptions/{subscription}")
    assert found["current_period_end_at"] == "2027-02-28T10:00:00Z"
    await shop.check()


async def test_a_change_at_a_later_date_is_settled_on_that_date(seats):
    shop, viewer, subscription = seats
    await change(shop, subscription, quantity="3", at="2026-02-14T10:00:00Z")
    assert await shop.new_events(viewer) == ["subscription.changed"]
    await shop.move_to("2026-02-15")
    assert await shop.new_events(viewer) == ["subscriptions.change_required", *CHANGED]
    assert await lines(shop, viewer) == (500, [("credit", -1000), ("charge", 1500)])
    await shop.check()


async def test_a_backdated_change_bills_from_then(seats):
    shop, viewer, subscription = seats
    await shop.move_to("2026-03-15T10:00:00")
    await shop.new_events(viewer)

    await change(shop, subscription, quantity="3", at="2026-02-14T10:00:00Z")

    assert await shop.new_events(viewer) == CHANGED
    total, made = await lines(shop, viewer)
    # Half of February's period, and all of March's.
    assert (total, sorted(made)) == (
        1500, [("charge", 1500), ("charge", 3000), ("credit", -2000), ("credit", -1000)],
    )  # fmt: skip
    await shop.check()


async def test_change_and_change_back_nets_to_nothing(seats):
    shop, viewer, subscription = seats
    await shop.move_to("2026-02-13T10:00:00")
    for quantity in ("9", "4.25", "2"):
        await change(shop, subscription, quantity=quantity, settle="next_invoice")
    assert await shop.new_events(viewer) == ["subscription.changed"] * 3
    await shop.move_to("2026-03-01")
    assert (await lines(shop, viewer))[0] == 2000
    await shop.check()


@pytest.mark.long
async def test_a_fixed_discount_is_shared_by_the_change(shop):
    plan, viewer = await seats_plan(shop), await shop.customer()
    discount = await shop.post(
        "/v1/discounts",
        {"code": "off", "name": "Off", "amount_minor": 400, "currency": "EUR",
         "duration": "once"},
    )  # fmt: skip
    await shop.card(viewer)
    bought = await shop.subscribe(viewer, plan, quantity="1", discount_ids=[discount["id"]])
    assert await shop.captured() == {"EUR": 600}
    await shop.move_to(HALF)
    await change(shop, bought["id"], quantity="2")
    # Half of the 6.00 paid comes back; half of two seats less the other half of the discount.
    assert await lines(shop, viewer) == (500, [("credit", -300), ("charge", 800)])
    await shop.move_to("2026-03-01")
    assert await lines(shop, viewer) == (2000, [("charge", 2000)])
    await shop.check()


async def test_a_change_that_the_bank_declines_is_in_force_and_dunned(seats):
    shop, viewer, subscription = seats
    await shop.card(viewer, "insufficient_funds:2")
    await shop.move_to(HALF)
    await shop.new_events(viewer)
    await change(shop, subscription, quantity="3")
    assert (await shop.new_events(viewer))[:3] == [
        "subscription.changed", "invoice.finalized", "payment.failed",
    ]  # fmt: skip
    assert await shop.status(subscription) == "past_due"
    await shop.move_to("2026-02-18")
    assert await shop.status(subscription) == "active"
    assert await shop.captured() == {"EUR": 2500}
    await shop.check()


async def test_what_cannot_be_changed_is_told(seats):
    shop, _, subscription = seats
    for body, code in (
        ({}, "nothing_to_change"),
        ({"quantity": "2"}, "nothing_to_change"),
        ({"quantity": "0"}, "invalid_request"),
        ({"quantity": "3", "at": "2026-01-31T09:59:59Z"}, "change_out_of_range"),
        ({"quantity": "3", "at": "someday"}, "invalid_request"),
        ({"quantity": "3", "colour": "red"}, "invalid_request"),
        ({"plan_id": "plan_01h455vb4pex5vsknk084sn02q"}, "unknown_reference"),
        ({"quantity": "3", "settle": "never"}, "invalid_request"),
    ):
        for verb in ("change", "preview-change"):
            answer = await shop.raw("POST", f"/v1/subscriptions/{subscription}/{verb}", json=body)
            assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    await shop.post(f"/v1/subscriptions/{subscription}/cancel", {"when": "period_end"}, expect=200)
    late = await change(shop, subscription, 422, quantity="3", at="period_end")
    assert late["code"] == "change_out_of_range"
    await shop.post(f"/v1/subscriptions/{subscription}/cancel", {"when": "now"}, expect=200)
    ended = await change(shop, subscription, 409, quantity="3")
    assert ended["code"] == "subscription_ended"
    assert (await shop.get(f"/v1/subscriptions/{subscription}"))["quantity"] == "2"
    await shop.check()


async def test_the_explanation_says_which_days_are_paid(seats):
    shop, viewer, subscription = seats
    await shop.move_to(HALF)
    await change(shop, subscription, quantity="3")
    path = f"/v1/invoices/{(await shop.last_invoice(viewer))['id']}/explain"
    for language, said in (
        ("en", "for 14 of the 28 days of the period"), ("ru", "за 14 из 28 дней периода"),
    ):  # fmt: skip
        told = await shop.raw(
            "GET", path, headers={"accept": "text/plain", "accept-language": language}
        )
        assert said in told.text, told.text


async def test_tiers_are_priced_and_told_tier_by_tier(shop):
    product = await shop.post("/v1/products", {"code": "t", "name": "T", "resources": ["film:a"]})
    price = {
        "code": "seats", "currency": "EUR", "model": "graduated",
        "tiers": [{"up_to": "5", "unit_amount": "1000"}, {"unit_amount": "750.5"}],
        "maximum_minor": 9000, "interval": {"unit": "quarter", "count": 1},
    }  # fmt: skip
    plan = await shop.post(
        "/v1/plans", {"code": "t", "name": "T", "product_id": product["id"], "prices": [price]}
    )
    assert plan["latest"]["prices"][0]["tiers"] == [
        {"up_to": "5", "unit_amount": "1000", "flat_minor": 0},
        {"up_to": None, "unit_amount": "750.5", "flat_minor": 0},
    ]
    viewer = await shop.customer()
    await shop.card(viewer)
    bought = await shop.subscribe(viewer, plan["id"], quantity="8")
    assert bought["current_period_end_at"] == "2026-04-30T09:00:00Z"
    # Five at 10.00 and three at 7.505.
    assert await lines(shop, viewer) == (7252, [("charge", 7252)])
    assert await preview(shop, bought["id"], quantity="100") == (1748, [-7252, 9000])
    await shop.check()


async def test_a_price_that_cannot_be_is_refused_with_its_place(shop):
    product = await shop.post("/v1/products", {"code": "t", "name": "T", "resources": ["film:a"]})
    base = {"code": "p", "currency": "EUR", "interval": {"unit": "month", "count": 1}}
    tier = {"unit_amount": "1"}
    for model, said in (
        ({"model": "flat"}, "amount_minor"),
        ({"model": "flat", "amount_minor": 1, "unit_amount": "1"}, "unit_amount"),
        ({"model": "flat", "amount_minor": -1}, "amount_minor"),
        ({"model": "graduated", "tiers": []}, "tiers"),
        ({"model": "graduated", "tiers": [{"up_to": "5", **tier}]}, "tiers"),
        ({"model": "volume", "tiers": [{"up_to": "9", **tier}, {"up_to": "5", **tier}, tier]},
         "tiers"),
        ({"model": "volume", "tiers": [tier] * 10_000}, "tiers"),
        ({"model": "package", "size": "0", "package_amount": "5"}, "size"),
        ({"model": "per_unit", "unit_amount": "1", "minimum_minor": 9, "maximum_minor": 5},
         "minimum_minor"),
        ({"model": "by_the_moon"}, "model"),
        ({"model": "percentage"}, "rate_percent"),
    ):  # fmt: skip
        body = {"code": "t", "name": "T", "product_id": product["id"], "prices": [base | model]}
        refused = await shop.post("/v1/plans", body, expect=422)
        told = json.dumps(refused)
        assert refused["code"] in {"invalid_request", "invalid_price"}, told
        assert said in told, told
    assert (await shop.get("/v1/plans"))["data"] == []


async def test_what_is_unused_is_given_back_when_asked_for(seats):
    shop, viewer, subscription = seats
    await shop.move_to(HALF)
    await shop.post(
        f"/v1/subscriptions/{subscription}/cancel", {"when": "now", "credit_unused": True},
        expect=200,
    )  # fmt: skip
    assert await shop.new_events(viewer) == [
        "invoice.finalized", "invoice.paid", "subscription.canceled", "entitlement.revoked",
    ]  # fmt: skip
    invoice = await shop.last_invoice(viewer)
    assert (invoice["reason"], invoice["total_minor"], invoice["credited_minor"]) == (
        "subscription_end", 0, 1000,
    )  # fmt: skip
    plan = await shop.plan("basic", amounts={"EUR": 999})
    await shop.subscribe(viewer, plan)
    assert await shop.captured() == {"EUR": 2000}, "the credit paid the next one"
    await shop.check()


@pytest.mark.parametrize("when", ["now", "period_end"])
@pytest.mark.long
async def test_a_change_that_waited_is_billed_when_the_subscription_ends(seats, when):
    shop, viewer, subscription = seats
    await shop.move_to(HALF)
    await change(shop, subscription, quantity="3", settle="next_invoice")
    await change(shop, subscription, quantity="9", at="period_end")
    await shop.post(f"/v1/subscriptions/{subscription}/cancel", {"when": when}, expect=200)
    await shop.move_to("2026-03-02")
    assert await shop.status(subscription) == "canceled"
    assert (await shop.get(f"/v1/subscriptions/{subscription}"))["scheduled_change"] is None
    assert await lines(shop, viewer) == (500, [("credit", -1000), ("charge", 1500)])
    assert await shop.captured() == {"EUR": 2500}
    await shop.check()


async def test_credit_is_given_only_for_what_was_paid(seats):
    shop, viewer, subscription = seats
    await shop.card(viewer, "soft_decline")
    await shop.move_to("2026-03-01")
    assert await shop.status(subscription) == "past_due"
    yearly = await seats_plan(shop, "yearly", amount="100", unit="year")
    for body in ({"quantity": "1", "settle": "now"}, {"plan_id": yearly}):
        refused = await change(shop, subscription, 409, **body)
        assert refused["code"] == "invoice_still_open"
    refused = await shop.post(
        f"/v1/subscriptions/{subscription}/cancel", {"when": "now", "credit_unused": True},
        expect=409,
    )  # fmt: skip
    assert refused["code"] == "invoice_still_open"
    await shop.post(f"/v1/subscriptions/{subscription}/cancel", {"when": "now"}, expect=200)
    await shop.check()


async def test_a_quantity_that_changes_later_keeps_its_version_of_the_plan(seats):
    shop, viewer, subscription = seats
    await change(shop, subscription, quantity="3", at="period_end")
    plan = (await shop.get(f"/v1/subscriptions/{subscription}"))["plan_id"]
    dearer = {"code": "seat", "currency": "EUR", "model": "per_unit", "unit_amount": "5000",
              "interval": {"unit": "month", "count": 1}}  # fmt: skip
    await shop.post(f"/v1/plans/{plan}/versions", {"prices": [dearer]})
    await shop.move_to("2026-03-01")
    assert await lines(shop, viewer) == (3000, [("charge", 3000)])
    await shop.check()


async def test_a_change_whose_moment_comes_while_an_invoice_is_open_waits_for_the_next(seats):
    shop, viewer, subscription = seats
    await change(shop, subscription, quantity="1", at="2026-03-03T10:00:00Z", settle="now")
    await shop.card(viewer, "insufficient_funds:9")
    await shop.move_to("2026-03-04")
    found = await shop.get(f"/v1/subscriptions/{subscription}")
    assert (found["quantity"], found["scheduled_change"]) == ("1", None)
    assert (await shop.last_invoice(viewer))["reason"] == "renewal"
    await shop.check()


async def test_a_change_that_is_no_longer_possible_asks_a_person(seats):
    shop, viewer, subscription = seats
    yearly = await seats_plan(shop, "yearly", amount="100", unit="year")
    await change(shop, subscription, plan_id=yearly, at="2026-03-05T10:00:00Z")
    await shop.card(viewer, "insufficient_funds:9")
    await shop.move_to("2026-03-06")
    (item,) = (await shop.get("/v1/work-items", status="open"))["data"]
    assert item["kind"] == "change_refused"
    assert "invoice_still_open" in json.dumps(item)
    found = await shop.get(f"/v1/subscriptions/{subscription}")
    assert (found["quantity"], found["scheduled_change"]) == ("2", None)
    await shop.check()
