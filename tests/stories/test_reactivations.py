"""Ended subscriptions begin again: where they were paid, or with a new cycle and its payment."""

from __future__ import annotations

import pytest

from tests.stories.test_cancellations import cancel
from tests.stories.test_changes import HALF, RENEWED, change, lines

pytestmark = pytest.mark.long


async def reactivate(shop, subscription, expect=200, **body):
    found = await shop.post(f"/v1/subscriptions/{subscription}/reactivate", body, expect=expect)
    await shop.pump.quiet()
    return found


async def test_an_ended_one_goes_on_where_it_was_paid(seats):
    shop, viewer, subscription = seats
    await shop.move_to(HALF)
    assert (await reactivate(shop, subscription, 409))["code"] == "subscription_not_ended"
    await cancel(shop, subscription, when="now", reason="unused")
    await shop.new_events(viewer)
    await shop.move_to("2026-02-20")

    again = await reactivate(shop, subscription)

    assert (again["status"], again["ended_at"], again["end_reason"]) == ("active", None, None)
    assert (again["cancel_reason"], again["current_period_end_at"]) == (
        None, "2026-02-28T10:00:00Z",
    )  # fmt: skip
    assert await shop.new_events(viewer) == ["subscription.reactivated", "entitlement.granted"]
    assert await shop.captured() == {"EUR": 2000}
    await shop.check()
    await shop.move_to("2026-03-01")
    assert await shop.new_events(viewer) == RENEWED
    await shop.check()


BEGUN = [
    "subscription.reactivated", "invoice.finalized", "payment.succeeded", "invoice.paid",
    "subscription.activated", "entitlement.granted",
]  # fmt: skip


async def test_what_was_given_back_begins_again(seats):
    shop, viewer, subscription = seats
    await shop.move_to(HALF)
    await cancel(shop, subscription, when="now", credit_unused=True)
    await shop.move_to("2026-02-20T10:00:00")
    await shop.new_events(viewer)
    again = await reactivate(shop, subscription)
    assert (again["status"], again["current_period_end_at"]) == ("active", "2026-03-20T10:00:00Z")
    assert await shop.new_events(viewer) == BEGUN
    invoice = await shop.last_invoice(viewer)
    assert (invoice["reason"], invoice["total_minor"], invoice["credit_applied_minor"]) == (
        "subscription_reactivate", 2000, 1000,
    )  # fmt: skip
    await shop.check()
    await shop.move_to("2026-03-21")
    assert await shop.captured() == {"EUR": 2000 + 1000 + 2000}
    await shop.check()


async def test_a_new_cycle_with_the_newest_version(seats):
    shop, viewer, subscription = seats
    plan = (await shop.get(f"/v1/subscriptions/{subscription}"))["plan_id"]
    price = {"code": "seat", "currency": "EUR", "model": "per_unit", "unit_amount": "1500",
             "interval": {"unit": "month", "count": 1}}  # fmt: skip
    await shop.post(f"/v1/plans/{plan}/versions", {"prices": [price]})
    await cancel(shop, subscription, when="period_end")
    await shop.move_to("2026-05-05T08:00:00")
    assert await shop.status(subscription) == "canceled"
    await shop.new_events(viewer)
    await reactivate(shop, subscription, version="newest")
    assert await shop.new_events(viewer) == BEGUN
    assert await lines(shop, viewer) == (3000, [("charge", 3000)])
    found = await shop.get(f"/v1/subscriptions/{subscription}")
    assert found["current_period_start_at"] == "2026-05-05T08:00:00Z"
    assert found["started_at"] == "2026-01-31T10:00:00Z"
    await shop.check()
    await shop.move_to("2026-05-20T08:00:00")
    await change(shop, subscription, quantity="1", settle="now")
    # 16 of 31 days are left of half of 30.00.
    assert (await shop.last_invoice(viewer))["credited_minor"] == 774
    await shop.check()


async def test_a_new_cycle_waits_for_its_payment(seats):
    shop, viewer, subscription = seats
    await cancel(shop, subscription, when="period_end")
    await shop.move_to("2026-03-05")
    await shop.card(viewer, "soft_decline")
    refused = await reactivate(shop, subscription, 402)
    assert (refused["code"], refused["subscription_id"]) == ("payment_declined", subscription)
    assert await shop.status(subscription) == "incomplete"
    assert not (await shop.access(viewer))["allowed"]
    await shop.check()
    await shop.move_to("2026-03-07")
    assert await shop.status(subscription) == "incomplete_expired"
    assert [each[1] for each in await shop.invoices(viewer)] == ["paid", "void"]
    await shop.check()
    await shop.card(viewer)
    assert (await reactivate(shop, subscription))["status"] == "active"
    assert (await shop.access(viewer))["allowed"]
    await shop.check()


async def test_a_new_cycle_by_a_page(seats):
    shop, _, subscription = seats
    await cancel(shop, subscription, when="period_end")
    await shop.move_to("2026-03-05")
    asked = await reactivate(shop, subscription, collection="page", return_url="http://shop.test/x")
    assert (asked["status"], asked["payment_status"]) == ("incomplete", "requires_action")
    await shop.pay_page(asked["next_action"]["redirect_url"])
    await shop.pump.quiet()
    assert await shop.status(subscription) == "active"
    await shop.check()


async def test_what_it_owes_comes_first(seats):
    shop, viewer, subscription = seats
    await shop.card(viewer, "soft_decline")
    await shop.move_to("2026-03-01")
    await cancel(shop, subscription, when="now")
    owing = await reactivate(shop, subscription)
    assert owing["status"] == "past_due", "the period that is not paid yet goes on"
    await shop.check()
    await cancel(shop, subscription, when="now")
    invoice = (await shop.last_invoice(viewer))["id"]
    await shop.move_to("2026-03-31T10:00:00")
    if (await shop.last_invoice(viewer))["status"] == "open":
        assert (await reactivate(shop, subscription, 409))["code"] == "invoice_still_open"
        await shop.post(f"/v1/invoices/{invoice}/void", {"reason": "gone"}, expect=200)
    await shop.card(viewer)
    assert (await reactivate(shop, subscription))["status"] == "active"
    await shop.check()


async def test_one_whose_invoice_was_given_up_begins_again(seats):
    shop, viewer, subscription = seats
    await shop.card(viewer, "soft_decline")
    await shop.move_to("2026-03-01")
    await cancel(shop, subscription, when="now")
    invoice = (await shop.last_invoice(viewer))["id"]
    await shop.post(f"/v1/invoices/{invoice}/void", {"reason": "gone"}, expect=200)
    await shop.card(viewer)
    await shop.new_events(viewer)
    assert (await reactivate(shop, subscription))["status"] == "active"
    assert await shop.new_events(viewer) == BEGUN
    await shop.check()


async def test_what_cannot_begin_again_is_told(seats):
    shop, viewer, subscription = seats
    await cancel(shop, subscription, when="now", credit_unused=True)
    for body in ({"version": "first"}, {"collection": "cash"}, {"return_url": "nowhere"}):
        assert (await reactivate(shop, subscription, 422, **body))["code"] == "invalid_request"
    nobody = "sub_01h455vb4pex5vsknk084sn02q"
    assert (await reactivate(shop, nobody, 404))["code"] == "not_found"
    assert (await shop.raw("DELETE", f"/v1/customers/{viewer}")).status_code == 204
    await shop.pump.quiet()
    assert (await reactivate(shop, subscription, 409))["code"] == "customer_deleted"
    await shop.check()


async def test_what_was_billed_cut_and_ended_earlier_goes_on_whole(seats):
    shop, viewer, subscription = seats
    await cancel(shop, subscription, at="2026-03-14T10:00:00Z")
    await shop.move_to("2026-03-05")
    await cancel(shop, subscription, when="now")
    await shop.new_events(viewer)
    await reactivate(shop, subscription)
    assert await shop.new_events(viewer) == ["subscription.reactivated", "entitlement.granted"]
    await shop.move_to("2026-04-01")
    assert await shop.captured() == {"EUR": 6000}, "the rest is on the next invoice"
    await shop.check()
