"""What a refund does to the subscription, by wish and by the tenant's policy."""

from __future__ import annotations

import pytest

from tests.stories.refund_world import (
    MADE,
    at_the_provider,
    cancel_there,
    items,
    paid,
    preview,
    refund,
    refund_policy,
)
from tests.stories.test_adjustments import books, credit_of
from tests.stories.test_changes import HALF

GRANTED = ["credit_note.issued", "subscription.canceled", "refund.created", "refund.succeeded"]
OUTSIDE = ["refund.succeeded", "credit_note.issued", "work_item.opened"]


REVOKED = "entitlement.revoked"


async def _told(shop, viewer):
    """The events in order; access, which another service takes at the same time, at the end."""
    return sorted(await shop.new_events(viewer), key=REVOKED.__eq__)


@pytest.mark.long
async def test_a_refund_ends_the_subscription_if_that_is_asked_for(seats):
    shop, viewer, sub = seats
    payment = await paid(shop, viewer)
    await shop.move_to(HALF)
    assert (await preview(shop, payment, amount_minor=1000))["ends_subscription_ids"] == []
    seen = await preview(shop, payment, amount_minor=1000, cancel_subscription=True)
    assert seen["ends_subscription_ids"] == [sub]
    assert (seen["amount_minor"], seen["unused_minor"]) == (1000, 1000)
    assert await shop.new_events(viewer) == [], "a preview leaves no trace"

    made = await refund(shop, payment, amount_minor=1000, cancel_subscription=True)

    assert (made["status"], made["cancel_subscription"]) == ("succeeded", True)
    assert await _told(shop, viewer) == [*GRANTED, REVOKED]
    ended = await shop.get(f"/v1/subscriptions/{sub}")
    assert (ended["status"], ended["end_reason"]) == ("canceled", "refund")
    assert (await shop.access(viewer))["allowed"] is False
    assert await credit_of(shop, viewer) == 0, "nothing is given back beside the refund"
    assert await shop.captured() == {"EUR": 1000}
    assert await books(shop) == {
        "provider_clearing": 1000,
        "revenue": -500,
        "deferred_revenue": -500,
    }
    assert (await preview(shop, payment, cancel_subscription=True))["ends_subscription_ids"] == []
    assert (await refund(shop, payment, cancel_subscription=True))["amount_minor"] == 1000
    assert await shop.new_events(viewer) == MADE
    await shop.move_to("2026-03-01")
    assert await shop.new_events(viewer) == []
    await shop.check()


async def test_without_the_wish_it_goes_on_and_a_refused_refund_ends_nothing(seats):
    shop, viewer, sub = seats
    payment = await paid(shop, viewer)
    await refund(shop, payment, amount_minor=2001, cancel_subscription=True, expect=409)
    assert await shop.new_events(viewer) == []
    await refund(shop, payment)
    assert await shop.new_events(viewer) == MADE
    assert (await shop.get(f"/v1/subscriptions/{sub}"))["status"] == "active"
    await shop.check()


async def test_a_refund_that_fails_later_begins_nothing_again(seats):
    shop, viewer, sub = seats
    payment = await paid(shop, viewer)
    await shop.fault("refund_declined", 1)
    made = await refund(shop, payment, cancel_subscription=True)
    assert made["status"] == "failed"
    assert await _told(shop, viewer) == [
        "credit_note.issued", "subscription.canceled", "refund.created", "refund.failed",
        "work_item.opened", REVOKED,
    ]  # fmt: skip
    assert (await shop.get(f"/v1/subscriptions/{sub}"))["status"] == "canceled"
    assert await credit_of(shop, viewer) == 2000
    await shop.check()


@pytest.mark.parametrize(("policy", "status"), [("keep", "active"), ("cancel", "canceled")])
async def test_a_whole_refund_at_the_provider_follows_the_policy(seats, policy, status):
    shop, viewer, sub = seats
    payment = await paid(shop, viewer)
    await refund_policy(shop, policy)
    assert (await shop.get("/v1/refund-policy"))["on_outside_refund"] == policy
    await at_the_provider(shop, payment, 500)
    assert await shop.new_events(viewer) == OUTSIDE
    assert (await shop.get(f"/v1/subscriptions/{sub}"))["status"] == "active", "a part ends nothing"

    await at_the_provider(shop, payment, 1500)

    ends = ["subscription.canceled", REVOKED] if policy == "cancel" else []
    assert await _told(shop, viewer) == [*OUTSIDE, *ends]
    assert (await shop.get(f"/v1/subscriptions/{sub}"))["status"] == status
    assert (await shop.access(viewer))["allowed"] is (policy == "keep")
    assert await items(shop) == [("refund_outside", 1500), ("refund_outside", 500)]
    assert await books(shop) == {}
    await shop.check()


async def test_an_earlier_period_that_goes_back_at_the_provider_ends_nothing(seats):
    shop, viewer, sub = seats
    earlier = await paid(shop, viewer)
    await refund_policy(shop, "cancel")
    await shop.move_to("2026-03-01")
    await shop.new_events(viewer)
    await at_the_provider(shop, earlier, 2000)
    assert await shop.new_events(viewer) == OUTSIDE
    assert (await shop.get(f"/v1/subscriptions/{sub}"))["status"] == "active"
    await shop.check()


async def test_a_policy_is_one_of_two(shop):
    assert (await shop.get("/v1/refund-policy"))["on_outside_refund"] == "keep"
    wrong = await shop.raw("PUT", "/v1/refund-policy", json={"on_outside_refund": "ask"})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_request")


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.long
async def test_a_pending_charge_that_the_provider_cancels_has_failed(shop, told):
    plan, viewer = await shop.plan("film"), await shop.customer()
    await shop.card(viewer)
    sub = await shop.subscribe(viewer, plan)
    await shop.card(viewer, "pending_ok")
    await shop.move_to("2026-02-28T10:00:00")
    payment = await paid(shop, viewer)
    assert (await shop.get(f"/v1/payments/{payment}"))["status"] == "unknown"
    await shop.new_events(viewer)
    if not told:
        await shop.fault("webhook_never", 1)
    await cancel_there(shop, payment)
    if not told:
        await shop.move_to("2026-02-28T10:10:00")
    told_first = sorted(await shop.new_events(viewer), key="entitlement.granted".__eq__)
    assert told_first == [
        "payment.failed", "subscription.past_due", "dunning.retry_scheduled",
        "entitlement.granted",
    ]  # fmt: skip
    seen = await shop.get(f"/v1/payments/{payment}")
    assert (seen["status"], seen["failure_code"]) == ("failed", "canceled")
    assert (await shop.get(f"/v1/subscriptions/{sub['id']}"))["status"] == "past_due"
    await shop.check()
    await shop.card(viewer)
    await shop.move_to("2026-03-10")
    assert (await shop.last_invoice(viewer))["status"] == "paid"
    assert await shop.captured() == {"EUR": 1998}
    await shop.check()
