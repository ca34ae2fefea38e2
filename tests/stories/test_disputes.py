"""Disputes: what the bank takes and gives back, what the books say, who may still use what."""

from __future__ import annotations

import asyncio

import pytest

from tests.stories.dispute_world import (
    CLOSED,
    FOUND_DECIDED,
    OPENED,
    decide,
    dispute,
    disputes,
    policy,
)
from tests.stories.reconciling import item, open_items, repair
from tests.stories.refund_world import MADE, at_the_provider, paid, preview, refund
from tests.stories.test_adjustments import books, credit_of

FAR = {"evidence_due_at": "2026-02-10T10:00:00Z"}


@pytest.mark.long
async def test_a_dispute_that_is_won_gives_the_money_back_and_keeps_the_fee(seats):
    shop, viewer, _ = seats
    payment, invoice = await paid(shop, viewer), await shop.last_invoice(viewer)
    before = (await shop.get(f"/v1/customers/{viewer}/statement"))["entries"]
    ref = await dispute(shop, payment, reason="not_received", **FAR)
    assert await shop.new_events(viewer) == OPENED
    (seen,) = await disputes(shop)
    assert (seen["status"], seen["amount_minor"], seen["fee_minor"]) == ("opened", 2000, 150)
    assert (seen["reason"], seen["provider_ref"]) == ("not_received", ref)
    assert (seen["evidence_due_at"], seen["evidence_days_left"]) == ("2026-02-10T10:00:00Z", 10)
    assert (seen["payment_id"], seen["invoice_id"]) == (payment, invoice["id"])
    assert await books(shop) == {
        "provider_clearing": -150, "disputed": 2000, "fees": 150, "deferred_revenue": -2000,
    }  # fmt: skip
    (item,) = (await shop.get("/v1/work-items"))["data"]
    assert (item["kind"], item["data"]["dispute_id"]) == ("dispute_opened", seen["id"])
    assert item["data"]["evidence_due_at"] == "2026-02-10T10:00:00+00:00"
    assert (await shop.get(f"/v1/payments/{payment}"))["disputed_minor"] == 2000
    assert (await shop.get(f"/v1/invoices/{invoice['id']}"))["status"] == "paid"
    assert (await shop.access(viewer))["allowed"] is True
    await shop.check()

    await decide(shop, ref, "won")

    assert await shop.new_events(viewer) == CLOSED
    closed = await shop.get(f"/v1/disputes/{seen['id']}")
    assert (closed["status"], closed["evidence_days_left"]) == ("won", None)
    assert closed["closed_at"] is not None
    assert await books(shop) == {
        "provider_clearing": 1850, "fees": 150, "deferred_revenue": -2000,
    }  # fmt: skip
    (item,) = (await shop.get("/v1/work-items"))["data"]
    assert (item["status"], item["close_reason"]) == ("closed", "The dispute is won.")
    assert (await shop.get(f"/v1/payments/{payment}"))["disputed_minor"] == 0
    assert (await shop.get(f"/v1/customers/{viewer}/statement"))["entries"] == before
    assert (await refund(shop, payment))["amount_minor"] == 2000
    assert await shop.new_events(viewer) == MADE
    await shop.check()


async def test_a_dispute_that_is_lost_is_a_loss_and_the_invoice_stays_paid(seats):
    shop, viewer, subscription = seats
    payment = await paid(shop, viewer)
    ref = await dispute(shop, payment, amount_minor=1200)
    await decide(shop, ref, "lost", fee_minor=100)
    assert await shop.new_events(viewer) == [*OPENED, *CLOSED]
    assert await books(shop) == {
        "provider_clearing": 700, "chargeback_loss": 1200, "fees": 100, "deferred_revenue": -2000,
    }  # fmt: skip
    assert (await shop.last_invoice(viewer))["status"] == "paid"
    assert await shop.status(subscription) == "active"
    assert (await shop.get(f"/v1/payments/{payment}"))["disputed_minor"] == 1200
    refused = await refund(shop, payment, amount_minor=801, expect=409)
    assert (refused["code"], refused["left_minor"]) == ("payment_disputed", 800)
    assert (await refund(shop, payment, amount_minor=800))["status"] == "succeeded"
    await shop.check()


async def test_a_bank_that_decides_again_is_booked_again(seats):
    shop, viewer, _ = seats
    ref = await dispute(shop, await paid(shop, viewer), amount_minor=900)
    await decide(shop, ref, "lost")
    await decide(shop, ref, "won")
    assert await shop.new_events(viewer) == [*OPENED, *CLOSED, "dispute.closed"]
    assert await books(shop) == {
        "provider_clearing": 1850, "fees": 150, "deferred_revenue": -2000,
    }  # fmt: skip
    await decide(shop, ref, "won", fee_minor=0)
    assert await shop.new_events(viewer) == ["dispute.updated"]
    assert await books(shop) == {"provider_clearing": 2000, "deferred_revenue": -2000}
    await decide(shop, ref, "lost")
    assert await shop.new_events(viewer) == ["dispute.closed"]
    assert await books(shop) == {
        "provider_clearing": 1100, "chargeback_loss": 900, "deferred_revenue": -2000,
    }  # fmt: skip
    await shop.check()


async def test_nothing_that_is_disputed_is_refunded_in_any_way(seats):
    shop, viewer, _ = seats
    payment, invoice = await paid(shop, viewer), await shop.last_invoice(viewer)
    await shop.post(
        "/v1/credit-notes",
        {"invoice_id": invoice["id"], "reason": "goodwill",
         "lines": [{"n": 1, "gross_minor": 300}]},
    )  # fmt: skip
    await dispute(shop, payment, amount_minor=1900)
    await shop.new_events(viewer)
    for body in (
        {}, {"amount_minor": 101}, {"to": "credit"}, {"to": "credit", "amount_minor": 101},
        {"source": "credit", "amount_minor": 300},
    ):  # fmt: skip
        if not body.get("amount_minor"):
            continue
        for path in ("refunds", "refund-preview"):
            refused = await shop.post(f"/v1/payments/{payment}/{path}", body, expect=409)
            assert (refused["code"], refused["left_minor"]) == ("payment_disputed", 100), body
    assert (await preview(shop, payment))["refundable_minor"] == 100
    assert await shop.new_events(viewer) == []
    assert (await refund(shop, payment))["amount_minor"] == 100
    beyond = await refund(shop, payment, amount_minor=2000, expect=409)
    assert (beyond["code"], beyond["left_minor"]) == ("refund_exceeds_payment", 0)
    await shop.check()


async def test_what_was_refunded_before_cannot_be_disputed_and_both_stand_in_the_books(seats):
    shop, viewer, _ = seats
    payment = await paid(shop, viewer)
    await refund(shop, payment, amount_minor=500)
    assert await dispute(shop, payment, amount_minor=1501, expect=422) == "dispute_exceeds_charge"
    await dispute(shop, payment)
    assert await shop.new_events(viewer) == [*MADE, *OPENED]
    assert [each["amount_minor"] for each in await disputes(shop)] == [1500]
    assert await books(shop) == {
        "provider_clearing": -150, "disputed": 1500, "fees": 150, "deferred_revenue": -1500,
    }  # fmt: skip
    await shop.check()


async def test_a_refund_and_a_dispute_at_once_never_give_more_back_than_was_paid(seats):
    shop, viewer, _ = seats
    payment = await paid(shop, viewer)
    seen = await shop.get(f"/v1/payments/{payment}")
    key, _ = shop.assembly.sandbox.credentials(shop.tenant_id)
    refunding, disputing = await shop.pump.during(
        asyncio.gather(
            shop.api.post(f"/v1/payments/{payment}/refunds", json={"amount_minor": 1500}),
            shop.api.post(
                "/sandbox/v1/disputes",
                json={"attempt_id": seen["attempts"][-1]["id"], "amount_minor": 1500},
                headers={"authorization": f"Bearer {key}"},
            ),
        )
    )
    taken = 1500 * (disputing.status_code == 200)
    back = 1500 * (refunding.status_code == 201 and refunding.json()["status"] == "succeeded")
    assert taken + back == 1500
    journal = await shop.journal()
    assert journal["captured_minor"] == {"EUR": 2000 - back}
    assert journal["disputed_minor"].get("EUR", 0) == taken
    await shop.check()


async def test_a_refund_that_the_bank_refuses_for_a_dispute_is_credit_again(seats):
    """The dispute is known to the bank, not yet to us: its word decides."""
    shop, viewer, _ = seats
    payment = await paid(shop, viewer)
    await shop.fault("webhook_never", 1)
    ref = await dispute(shop, payment, amount_minor=1800)
    made = await refund(shop, payment, amount_minor=300)
    assert (made["status"], made["code"]) == ("failed", "charge_disputed")
    assert await shop.new_events(viewer) == [
        "credit_note.issued", "refund.created", "refund.failed", "work_item.opened",
    ]  # fmt: skip
    assert await credit_of(shop, viewer) == 300
    await decide(shop, ref, "lost")
    assert await shop.new_events(viewer) == FOUND_DECIDED
    await shop.check()


async def test_webhooks_that_repeat_or_come_in_any_order_book_once(seats):
    shop, viewer, _ = seats
    payment = await paid(shop, viewer)
    await shop.fault("webhook_thrice", 2)
    ref = await dispute(shop, payment)
    await decide(shop, ref, "won")
    assert await shop.new_events(viewer) == [*OPENED, *CLOSED]
    # The first news of a second one is that it was decided.
    await shop.fault("webhook_never", 1)
    second = await dispute(shop, payment, amount_minor=700)
    assert await shop.new_events(viewer) == []
    await decide(shop, second, "lost")
    assert await shop.new_events(viewer) == FOUND_DECIDED
    assert await books(shop) == {
        "provider_clearing": 1000, "chargeback_loss": 700, "fees": 300, "deferred_revenue": -2000,
    }  # fmt: skip
    assert [each["status"] for each in await disputes(shop, payment_id=payment)] == ["lost", "won"]
    await shop.check()


async def test_an_open_dispute_is_asked_about_daily_and_when_evidence_is_due(seats):
    shop, viewer, _ = seats
    payment = await paid(shop, viewer)
    ref = await dispute(shop, payment, evidence_due_at="2026-02-02T12:00:00Z")
    await shop.new_events(viewer)
    await shop.fault("webhook_never", 1)
    await decide(shop, ref, "won")
    await shop.move_to("2026-02-01T09:59:00")
    assert await shop.new_events(viewer) == []
    await shop.move_to("2026-02-01T10:00:00")
    assert await shop.new_events(viewer) == CLOSED
    await shop.check()


@pytest.mark.long
async def test_a_dispute_in_an_hour_is_told_by_its_webhook_also_of_a_payment_just_made(shop):
    plan, viewer = await shop.plan("film"), await shop.customer()
    await shop.card(viewer, "disputed")
    await shop.subscribe(viewer, plan)
    await shop.new_events(viewer)
    await shop.move_to("2026-01-31T11:00:00")
    assert await shop.new_events(viewer) == OPENED
    other = await shop.customer("eve")
    await shop.card(other, "disputed_at_once")
    await shop.subscribe(other, plan)
    told = await shop.new_events(other)
    assert told.count("dispute.opened") == 1
    assert told.index("payment.succeeded") < told.index("dispute.opened")
    assert len(await disputes(shop, customer_id=other)) == 1
    assert len(await disputes(shop, status="opened")) == 2
    await shop.check()


async def test_money_that_is_found_late_may_be_disputed_already(shop):
    plan, viewer = await shop.plan("film"), await shop.customer()
    await shop.card(viewer, "timeout")
    await shop.post("/v1/subscriptions", {"customer_id": viewer, "plan_id": plan}, Prefer="wait=0")
    await shop.pump.woken()
    payment = await paid(shop, viewer)
    await dispute(shop, payment)
    await shop.new_events(viewer)
    await shop.move_to("2026-01-31T10:05:00")
    await shop.new_events(viewer)
    assert [each["amount_minor"] for each in await disputes(shop)] == [999]
    await shop.check()


async def test_suspended_access_comes_back_when_the_dispute_is_won(seats):
    shop, viewer, subscription = seats
    await policy(shop, "suspend")
    ref = await dispute(shop, await paid(shop, viewer))
    assert await shop.new_events(viewer) == [
        *OPENED, "subscription.paused", "entitlement.revoked",
    ]  # fmt: skip
    assert (await shop.access(viewer))["allowed"] is False
    assert await shop.status(subscription) == "paused"
    await decide(shop, ref, "won")
    assert sorted(await shop.new_events(viewer)) == sorted(
        [*CLOSED, "subscription.resumed", "entitlement.granted"]
    )
    assert (await shop.access(viewer))["allowed"] is True
    assert await shop.status(subscription) == "active"
    await shop.check()


async def test_suspended_access_ends_when_the_dispute_is_lost(seats):
    shop, viewer, subscription = seats
    await policy(shop, "suspend")
    ref = await dispute(shop, await paid(shop, viewer))
    await shop.new_events(viewer)
    await decide(shop, ref, "lost")
    assert sorted(await shop.new_events(viewer)) == sorted([*CLOSED, "subscription.canceled"])
    found = await shop.get(f"/v1/subscriptions/{subscription}")
    assert (found["status"], found["end_reason"]) == ("canceled", "dispute")
    assert (await shop.access(viewer))["allowed"] is False
    await shop.check()


async def test_two_disputes_hold_a_subscription_until_both_are_won(seats):
    shop, viewer, subscription = seats
    await policy(shop, "suspend")
    payment = await paid(shop, viewer)
    first = await dispute(shop, payment, amount_minor=1000)
    await shop.pump.woken()
    second = await dispute(shop, payment, amount_minor=400)
    await shop.pump.woken()
    await decide(shop, first, "won")
    assert await shop.status(subscription) == "paused"
    await decide(shop, second, "won")
    assert await shop.status(subscription) == "active"
    await shop.check()


async def test_a_pause_that_somebody_ended_and_began_anew_is_not_the_disputes(seats):
    shop, viewer, subscription = seats
    await policy(shop, "suspend")
    ref = await dispute(shop, await paid(shop, viewer))
    await shop.pump.woken()
    await shop.post(f"/v1/subscriptions/{subscription}/resume", {"at": "now"}, expect=200)
    await shop.post(
        f"/v1/subscriptions/{subscription}/pause", {"at": "now", "credit": "none"}, expect=200
    )
    await decide(shop, ref, "won")
    assert await shop.status(subscription) == "paused"
    await shop.check()


async def test_a_policy_may_cancel_at_once(seats):
    shop, viewer, subscription = seats
    await policy(shop, "cancel")
    ref = await dispute(shop, await paid(shop, viewer))
    assert await shop.new_events(viewer) == [
        *OPENED, "subscription.canceled", "entitlement.revoked",
    ]  # fmt: skip
    await decide(shop, ref, "won")
    assert await shop.new_events(viewer) == CLOSED
    assert await shop.status(subscription) == "canceled"
    await shop.check()


async def test_what_is_asked_wrong_is_told(seats):
    shop, viewer, _ = seats
    unknown = "dsp_01h455vb4pex5vsknk084sn02q"
    assert (await shop.get(f"/v1/disputes/{unknown}", expect=404))["code"] == "not_found"
    for query, status in (
        ({"status": "pending"}, 422), ({"payment_id": "pay_01h455vb4pex5vsknk084sn02q"}, 404),
        ({"status": "won", "customer_id": viewer}, 422), ({"cursor": "x"}, 422),
    ):  # fmt: skip
        await shop.get("/v1/disputes", expect=status, **query)
    wrong = await shop.raw("PUT", "/v1/dispute-policy", json={"on_dispute": "ask"})
    assert wrong.status_code == 422
    assert (await shop.get("/v1/dispute-policy"))["on_dispute"] == "keep"


async def test_a_refund_outside_and_a_dispute_share_the_payment(seats):
    shop, viewer, _ = seats
    payment = await paid(shop, viewer)
    await at_the_provider(shop, payment, 300)
    await dispute(shop, payment)
    await shop.pump.woken()
    assert (await shop.get(f"/v1/payments/{payment}"))["disputed_minor"] == 1700
    await shop.check()


@pytest.mark.long
async def test_a_dispute_that_nobody_decides_is_a_persons_in_the_end(seats):
    shop, viewer, _ = seats
    ref = await dispute(shop, await paid(shop, viewer), evidence_due_at="2026-02-02T00:00:00Z")
    await shop.move_to("2026-05-10")
    assert [each["status"] for each in await disputes(shop)] == ["opened"]
    found = ("dispute_unknown", 2000)
    assert (await open_items(shop)).count(found) == 1
    assert (await item(shop, "dispute_unknown"))["data"]["reason"] == "not_decided"
    await repair(shop, "dispute_unknown")
    await shop.pump.woken()
    assert found in await open_items(shop), "the bank says nothing new"
    await shop.fault("webhook_never", 1)
    await decide(shop, ref, "lost")
    await repair(shop, "dispute_unknown")
    await shop.pump.woken()
    assert [each["status"] for each in await disputes(shop)] == ["lost"]
    assert (await item(shop, "dispute_unknown"))["close_reason"] == "agrees"
    await shop.check()
