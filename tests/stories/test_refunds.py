"""Refunds: what goes back, what backs it in the books, and that nothing goes back twice."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from subledger.providers.sandbox.adapter import SandboxAdapter
from tests.stories.refund_world import MADE, at_the_provider, found, items, paid, preview, refund
from tests.stories.shop import seats_plan
from tests.stories.tax_shop import buyer, rule, settings
from tests.stories.test_adjustments import books, credit_of
from tests.stories.test_changes import HALF

UNSURE = ["credit_note.issued", "refund.created", "refund.unknown"]


@pytest.mark.long
async def test_a_part_goes_back_behind_a_credit_note_and_then_the_rest(seats):
    shop, viewer, _ = seats
    payment = await paid(shop, viewer)
    await shop.move_to(HALF)
    seen = await preview(shop, payment, amount_minor=500)
    assert await shop.new_events(viewer) == [], "a preview leaves no trace"
    assert (seen["refundable_minor"], seen["unused_minor"], seen["refunded_minor"]) == (
        2000, 1000, 0,
    )  # fmt: skip
    assert (seen["credit_note_minor"], seen["tax_minor"], seen["fees_kept_minor"]) == (500, 0, 0)

    made = await refund(shop, payment, amount_minor=500, reason="unsatisfactory")

    assert (made["status"], made["amount_minor"], made["origin"]) == ("succeeded", 500, "asked")
    assert await shop.new_events(viewer) == MADE
    note = await shop.get(f"/v1/credit-notes/{made['credit_note_id']}")
    assert (note["total_minor"], note["credit_minor"], note["refund_minor"]) == (500, 0, 500)
    assert note["reason"] == "unsatisfactory"
    # Half of the service is delivered: half of what goes back had been earned.
    assert await books(shop) == {
        "provider_clearing": 1500, "deferred_revenue": -750, "revenue": -750,
    }  # fmt: skip
    assert (await shop.get(f"/v1/payments/{payment}"))["refunded_minor"] == 500
    assert await shop.captured() == {"EUR": 1500}

    rest = await refund(shop, payment)
    assert (rest["amount_minor"], rest["status"]) == (1500, "succeeded")
    assert await shop.new_events(viewer) == MADE
    assert await books(shop) == {}
    assert await shop.captured() == {}
    assert (await shop.get(f"/v1/payments/{payment}"))["refunded_minor"] == 2000
    listed = (await shop.get(f"/v1/payments/{payment}/refunds"))["data"]
    assert [each["id"] for each in listed] == [rest["id"], made["id"]]
    again = await refund(shop, payment, expect=409)
    assert (again["code"], again["left_minor"]) == ("refund_exceeds_payment", 0)
    assert await items(shop) == []
    await shop.check()


@pytest.mark.long
async def test_the_tax_goes_back_by_the_rate_that_was_stored(shop):
    await settings(shop)
    await rule(shop, "de", "19")
    plan = await seats_plan(shop)
    viewer = await buyer(shop, country="DE")
    await shop.card(viewer)
    await shop.subscribe(viewer, plan, quantity="1")
    payment = await paid(shop, viewer)
    await shop.new_events(viewer)
    assert (await preview(shop, payment))["refundable_minor"] == 1190
    seen = await preview(shop, payment, amount_minor=595)
    assert (seen["tax_minor"], seen["unused_minor"]) == (95, 1190)

    made = await refund(shop, payment, amount_minor=595)
    note = await shop.get(f"/v1/credit-notes/{made['credit_note_id']}")
    assert (note["net_minor"], note["tax_minor"], note["refund_minor"]) == (500, 95, 595)

    # Where no net amount and its tax sum to what goes back, the cent above is the customer's.
    small = await refund(shop, payment, amount_minor=3)
    note = await shop.get(f"/v1/credit-notes/{small['credit_note_id']}")
    assert note["refund_minor"] == 3
    assert note["total_minor"] == 3 + note["credit_minor"] <= 4
    assert await shop.new_events(viewer) == [*MADE, *MADE]
    assert await shop.captured() == {"EUR": 1190 - 595 - 3}
    await shop.check()


async def test_a_refund_to_credit_pays_the_next_invoice_and_no_money_moves(seats):
    shop, viewer, _ = seats
    payment = await paid(shop, viewer)
    made = await refund(shop, payment, amount_minor=700, to="credit")
    assert (made["status"], made["to"], made["provider_ref"]) == ("succeeded", "credit", None)
    assert await shop.new_events(viewer) == MADE
    assert await credit_of(shop, viewer) == 700
    assert (await shop.get(f"/v1/payments/{payment}"))["refunded_minor"] == 0
    await shop.move_to("2026-03-01")
    renewal = await shop.last_invoice(viewer)
    assert (renewal["total_minor"], renewal["credit_applied_minor"]) == (2000, 700)
    assert await shop.captured() == {"EUR": 2000 + 1300}
    await shop.check()


async def test_credit_of_a_note_goes_back_as_money_and_is_gone(seats):
    shop, viewer, _ = seats
    payment, invoice = await paid(shop, viewer), await shop.last_invoice(viewer)
    noted = await shop.post(
        "/v1/credit-notes",
        {"invoice_id": invoice["id"], "reason": "goodwill",
         "lines": [{"n": 1, "gross_minor": 800}]},
    )  # fmt: skip
    await shop.new_events(viewer)
    seen = await preview(shop, payment, source="credit")
    assert (seen["refundable_minor"], seen["from_credit_minor"]) == (800, 800)
    assert (await preview(shop, payment))["refundable_minor"] == 1200

    made = await refund(shop, payment, source="credit")

    assert (made["amount_minor"], made["credit_note_id"]) == (800, None)
    assert await shop.new_events(viewer) == ["refund.created", "refund.succeeded"]
    assert await credit_of(shop, viewer) == 0
    refused = await refund(shop, payment, source="credit", amount_minor=1, expect=409)
    assert (refused["code"], refused["left_minor"]) == ("refund_exceeds_payment", 0)
    await shop.post(f"/v1/credit-notes/{noted['id']}/void", {"reason": "no"}, expect=409)
    assert await shop.captured() == {"EUR": 1200}
    await shop.check()


async def test_a_note_behind_a_refund_stands(seats):
    shop, viewer, _ = seats
    made = await refund(shop, await paid(shop, viewer), amount_minor=10)
    path = f"/v1/credit-notes/{made['credit_note_id']}/void"
    refused = await shop.post(path, {"reason": "no"}, expect=409)
    assert refused["code"] == "credit_note_used"
    assert "10 of it went back as money" in refused["detail"]


@pytest.mark.parametrize("fault", ["refund_no_reply", "refund_500", "refund_html"])
@pytest.mark.long
async def test_a_refund_without_an_answer_is_unknown_until_the_provider_says(seats, fault):
    shop, viewer, _ = seats
    payment = await paid(shop, viewer)
    await shop.fault(fault, 1)
    await shop.fault("webhook_never", 1)
    made = await refund(shop, payment)
    assert made["status"] == "unknown"
    assert await shop.new_events(viewer) == UNSURE
    again = await refund(shop, payment, expect=409)
    assert again["code"] == "refund_exceeds_payment", "unknown blocks"

    await shop.move_to("2026-01-31T10:05:00")

    assert (await found(shop, made["id"]))["status"] == "succeeded"
    assert await shop.new_events(viewer) == ["refund.succeeded"]
    assert await shop.captured() == {}
    await shop.check()


async def test_a_webhook_says_sooner_what_became_of_a_refund(seats):
    shop, viewer, _ = seats
    payment = await paid(shop, viewer)
    await shop.fault("refund_no_reply", 1)
    await shop.fault("webhook_thrice", 1)
    made = await refund(shop, payment, amount_minor=1)
    assert (await found(shop, made["id"]))["status"] == "succeeded"
    assert await shop.new_events(viewer) == [*UNSURE, "refund.succeeded"]
    await shop.check()


async def test_a_refund_that_the_bank_refuses_leaves_the_money_as_credit(seats):
    shop, viewer, _ = seats
    payment = await paid(shop, viewer)
    await shop.fault("refund_declined", 1)
    made = await refund(shop, payment, amount_minor=600)
    assert (made["status"], made["code"]) == ("failed", "refund_declined")
    assert await shop.new_events(viewer) == [
        "credit_note.issued", "refund.created", "refund.failed", "work_item.opened",
    ]  # fmt: skip
    assert await items(shop) == [("refund_failed", 600)]
    assert await credit_of(shop, viewer) == 600
    assert await shop.captured() == {"EUR": 2000}
    await shop.check()

    tried_again = await refund(shop, payment, source="credit")
    assert (tried_again["amount_minor"], tried_again["status"]) == (600, "succeeded")
    assert await credit_of(shop, viewer) == 0
    assert await shop.captured() == {"EUR": 1400}
    await shop.check()


async def test_a_refund_that_is_decided_later_is_followed(seats):
    shop, viewer, _ = seats
    payment = await paid(shop, viewer)
    await shop.fault("refund_pending", 1)
    later = await refund(shop, payment, amount_minor=100)
    await shop.fault("refund_pending_declined", 1)
    never = await refund(shop, payment, amount_minor=200)
    assert (later["status"], never["status"]) == ("unknown", "unknown")
    assert await shop.new_events(viewer) == [*UNSURE, *UNSURE]
    await shop.move_to("2026-01-31T11:10:00")
    assert (await found(shop, later["id"]))["status"] == "succeeded"
    assert (await found(shop, never["id"]))["status"] == "failed"
    assert await shop.new_events(viewer) == [
        "refund.succeeded", "refund.failed", "work_item.opened",
    ]  # fmt: skip
    assert await shop.captured() == {"EUR": 1900}
    assert await credit_of(shop, viewer) == 200
    await shop.check()


async def test_a_refund_made_at_the_provider_is_found_and_booked(seats):
    shop, viewer, _ = seats
    payment = await paid(shop, viewer)
    await at_the_provider(shop, payment, 300)
    assert await shop.new_events(viewer) == [
        "refund.succeeded", "credit_note.issued", "work_item.opened",
    ]  # fmt: skip
    (seen,) = (await shop.get(f"/v1/payments/{payment}/refunds"))["data"]
    assert (seen["origin"], seen["status"], seen["amount_minor"]) == ("outside", "succeeded", 300)
    assert await items(shop) == [("refund_outside", 300)]
    assert await books(shop) == {"provider_clearing": 1700, "deferred_revenue": -1700}
    await shop.check()
    assert (await refund(shop, payment))["amount_minor"] == 1700
    await shop.check()


@pytest.mark.long
async def test_money_that_is_found_late_may_have_gone_back_before(shop):
    plan, viewer = await shop.plan("film"), await shop.customer()
    await shop.card(viewer, "timeout")
    await shop.post("/v1/subscriptions", {"customer_id": viewer, "plan_id": plan}, Prefer="wait=0")
    await shop.pump.woken()
    payment = await paid(shop, viewer)
    await at_the_provider(shop, payment, 400)
    await shop.new_events(viewer)
    assert (await shop.get(f"/v1/payments/{payment}"))["status"] == "unknown"
    await shop.move_to("2026-01-31T10:05:00")
    told = [each for each in await shop.new_events(viewer) if each.startswith(("pay", "ref"))]
    assert told == ["payment.succeeded", "refund.succeeded"]
    assert await items(shop) == [("refund_outside", 400)]
    assert await shop.captured() == {"EUR": 599}
    await shop.check()


async def test_two_refunds_of_the_rest_at_once_are_one(seats):
    shop, viewer, _ = seats
    path = f"/v1/payments/{await paid(shop, viewer)}/refunds"
    answers = await shop.pump.during(
        asyncio.gather(*(shop.api.post(path, json={"amount_minor": 1500}) for _ in range(2)))
    )
    assert sorted(each.status_code for each in answers) == [201, 409]
    assert await shop.new_events(viewer) == MADE
    assert await shop.captured() == {"EUR": 500}
    await shop.check()


async def test_a_refund_and_a_note_of_the_same_line_at_once_give_it_back_once(seats):
    shop, viewer, _ = seats
    payment, invoice = await paid(shop, viewer), await shop.last_invoice(viewer)
    back, credited = await shop.pump.during(
        asyncio.gather(
            shop.api.post(f"/v1/payments/{payment}/refunds", json={"amount_minor": 2000}),
            shop.api.post(
                "/v1/credit-notes", json={"invoice_id": invoice["id"], "reason": "other"}
            ),
        )
    )
    assert sorted((back.status_code, credited.status_code)) == [201, 409]
    kept = {"EUR": 2000} if credited.status_code == 201 else {}
    assert await shop.captured() == kept
    await shop.check()


async def test_the_same_request_twice_is_one_refund(seats):
    shop, viewer, _ = seats
    path = f"/v1/payments/{await paid(shop, viewer)}/refunds"
    headers = {"idempotency-key": "back-1"}
    first = await shop.raw("POST", path, json={"amount_minor": 5}, headers=headers)
    again = await shop.raw("POST", path, json={"amount_minor": 5}, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["id"] == again.json()["id"]
    assert again.headers["idempotent-replayed"] == "true"
    assert await shop.captured() == {"EUR": 1995}


async def test_what_cannot_be_refunded_is_refused_and_nothing_happens(seats):
    shop, viewer, _ = seats
    payment = await paid(shop, viewer)
    for body, status, code in (
        ({"amount_minor": 2001}, 409, "refund_exceeds_payment"),
        ({"amount_minor": 0}, 422, "invalid_request"),
        ({"amount_minor": -5}, 422, "invalid_request"),
        ({"amount_minor": 1.5}, 422, "invalid_request"),
        ({"amount_minor": 10**16}, 422, "invalid_request"),
        ({"amount_minor": 5, "currency": "JPY"}, 422, "invalid_request"),
        ({"to": "bank"}, 422, "invalid_request"),
        ({"to": "credit", "source": "credit"}, 422, "invalid_request"),
        ({"source": "credit"}, 409, "refund_exceeds_payment"),
        ({"reason": "whim"}, 422, "invalid_request"),
    ):
        for path in ("refunds", "refund-preview"):
            refused = await shop.raw("POST", f"/v1/payments/{payment}/{path}", json=body)
            assert (refused.status_code, refused.json()["code"]) == (status, code), (path, body)
    poor = await shop.customer("poor")
    await shop.card(poor, "soft_decline")
    await shop.refused(poor, await shop.plan("film"))
    unpaid = await paid(shop, poor)
    for path in ("refunds", "refund-preview"):
        refused = await shop.post(f"/v1/payments/{unpaid}/{path}", {}, expect=409)
        assert refused["code"] == "payment_not_refundable"
        nobody = f"pay_{'0' * 25}1"
        await shop.post(f"/v1/payments/{nobody}/{path}", {}, expect=404)
    assert await shop.new_events(viewer) == []
    assert await shop.captured() == {"EUR": 2000}
    await shop.check()


async def test_a_provider_that_splits_nothing_is_not_asked_to(seats, monkeypatch):
    shop, viewer, _ = seats
    payment = await paid(shop, viewer)
    whole = replace(SandboxAdapter.capabilities, partial_refund=False)
    monkeypatch.setattr(SandboxAdapter, "capabilities", whole)
    refused = await refund(shop, payment, amount_minor=5, expect=409)
    assert refused["code"] == "partial_refund_unavailable"
    assert (await preview(shop, payment, amount_minor=5, expect=409))["code"] == refused["code"]
    assert (await refund(shop, payment))["status"] == "succeeded"
    assert await shop.captured() == {}


async def test_yen_go_back_without_decimals(shop):
    plan = await shop.plan("film", amounts={"JPY": 900})
    viewer = await shop.customer(currency="JPY")
    await shop.card(viewer)
    await shop.subscribe(viewer, plan)
    made = await refund(shop, await paid(shop, viewer), amount_minor=301)
    assert (made["amount_minor"], made["currency"]) == (301, "JPY")
    assert await shop.captured() == {"JPY": 599}
    await shop.check()
