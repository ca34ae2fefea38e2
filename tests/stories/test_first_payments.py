"""First payments that fall due by themselves: on a start day, and on a page after a trial."""

from __future__ import annotations

import pytest

from tests.stories.test_calendar_stories import PAID, act, lines, period, ready

STARTED = ["subscriptions.renew_required", "subscription.started"]
DECLINED = ["invoice.finalized", "payment.failed"]
TRIAL_OVER = [
    "subscriptions.trial_reminder_required", "subscription.trial_will_end",
    "subscriptions.renew_required", "subscription.trial_ended",
]  # fmt: skip
ASKED = ["invoice.finalized", "payment.requires_action"]
SHUT_AND_ASKED = ["invoice.finalized", "entitlement.revoked", "payment.requires_action"]
ACTIVE = ["payment.succeeded", "invoice.paid", "subscription.activated", "entitlement.granted"]


async def declined(shop, **plan):
    """A subscription from 1 March on, whose card has no money that day."""
    made, viewer = await ready(shop, card=False, **plan)
    await shop.card(viewer, "insufficient_funds:2")
    bought = await shop.subscribe(viewer, made, start_at="2026-03-01T10:00:00Z")
    await shop.new_events(viewer)
    await shop.move_to("2026-03-01T12:00:00")
    return bought["id"], viewer


async def test_a_first_payment_that_fails_on_the_start_day_gives_no_access(shop):
    sub, viewer = await declined(shop)

    assert await shop.new_events(viewer) == [*STARTED, *DECLINED]
    assert await shop.status(sub) == "incomplete"
    assert not (await shop.access(viewer))["allowed"]
    [(_, status, total)] = await shop.invoices(viewer)
    assert (status, total) == ("open", 3100)
    invoice = await shop.last_invoice(viewer)
    assert invoice["reason"] == "subscription_create"
    await shop.check()

    # Nobody is dunned for it: after three days it expires, and its invoice is void.
    await shop.move_to("2026-03-04T09:59:59")
    assert await shop.new_events(viewer) == []
    await shop.move_to("2026-04-02")
    assert await shop.new_events(viewer) == [
        "subscriptions.expiry_required", "invoice.voided", "subscription.canceled",
    ]  # fmt: skip
    assert await shop.status(sub) == "incomplete_expired"
    assert [each[1:] for each in await shop.invoices(viewer)] == [("void", 3100)]
    assert await shop.captured() == {}
    await shop.check()


async def test_who_pays_within_three_days_has_what_was_bought(shop):
    sub, viewer = await declined(shop)
    await shop.new_events(viewer)
    invoice = await shop.last_invoice(viewer)
    await shop.move_to("2026-03-02T12:00:00")

    await shop.post("/v1/payments", {"invoice_id": invoice["id"]})

    assert await shop.new_events(viewer) == ACTIVE
    assert await shop.status(sub) == "active"
    assert (await shop.access(viewer))["allowed"]
    assert await period(shop, sub) == ("2026-03-01T10:00:00Z", "2026-04-01T09:00:00Z")
    await shop.move_to("2026-04-01T12:00:00")
    assert await shop.new_events(viewer) == [
        "subscriptions.renew_required", *PAID, "subscription.renewed", "entitlement.granted",
    ]  # fmt: skip
    assert await shop.captured() == {"EUR": 6200}
    await shop.check()


async def test_a_plan_may_leave_grace_on_the_start_day(shop):
    sub, viewer = await declined(shop, grace_at_start=True)
    assert await shop.new_events(viewer) == [
        *STARTED, *DECLINED, "subscription.past_due", "dunning.retry_scheduled",
        "entitlement.granted",
    ]  # fmt: skip
    assert await shop.status(sub) == "past_due"
    assert (await shop.access(viewer))["allowed"]
    assert (await shop.last_invoice(viewer))["reason"] == "subscription_start"
    await shop.move_to("2026-03-12")
    assert "payment.succeeded" in await shop.new_events(viewer)
    assert await shop.status(sub) == "active"
    assert await shop.captured() == {"EUR": 3100}
    await shop.check()


async def test_the_next_version_of_a_plan_keeps_its_grace_on_the_start_day(shop):
    plan, _ = await ready(shop, grace_at_start=True)
    price = {"code": "base", "currency": "EUR", "model": "flat", "amount_minor": 1,
             "interval": {"unit": "month"}}  # fmt: skip
    version = await shop.post(f"/v1/plans/{plan}/versions", {"prices": [price]})
    assert version["latest"]["grace_at_start"] is True
    version = await shop.post(
        f"/v1/plans/{plan}/versions", {"prices": [price], "grace_at_start": False}
    )
    assert version["latest"]["grace_at_start"] is False


@pytest.mark.parametrize("free", ["discount", "terms"])
async def test_a_start_that_needs_no_payment_now_is_active_at_once(shop, free):
    plan, viewer = await ready(shop, card=False)
    more = {}
    if free == "discount":
        off = await shop.post(
            "/v1/discounts", {"code": "all", "name": "All", "percent": "100", "duration": "once"}
        )
        more["discount_ids"] = [off["id"]]
    else:
        later = {"net_days": 14, "consolidate": False}
        await shop.raw("PUT", f"/v1/customers/{viewer}/invoice-terms", json=later)
    bought = await shop.subscribe(viewer, plan, start_at="2026-03-01T10:00:00Z", **more)
    await shop.new_events(viewer)
    await shop.move_to("2026-03-02")
    paid = ["invoice.paid"] if free == "discount" else []
    assert await shop.new_events(viewer) == [
        *STARTED, "invoice.finalized", *paid, "subscription.activated", "entitlement.granted",
    ]  # fmt: skip
    found = await shop.get(f"/v1/subscriptions/{bought['id']}")
    assert (found["status"], found["current_period_end_at"]) == ("active", "2026-04-01T09:00:00Z")
    await shop.check()


# A page after a trial -----------------------------------------------------------------------------


async def page_of(shop, viewer):
    """The page of the customer's only payment."""
    [payment] = (await shop.get("/v1/payments", customer_id=viewer))["data"]
    found = await shop.get(f"/v1/payments/{payment['id']}")
    return found["next_action"]["redirect_url"]


@pytest.mark.parametrize("has_card", [True, False])
async def test_who_asked_for_a_page_pays_on_it_after_the_trial(shop, has_card):
    """The saved card is another purchase's: it is not charged."""
    plan, viewer = await ready(shop, trial_days=5, card=has_card)
    if not has_card:
        await shop.card(await shop.customer("another"))
    bought = await shop.subscribe(viewer, plan, collection="page")
    assert bought["status"] == "trialing"
    await shop.new_events(viewer)

    await shop.move_to("2026-02-05T12:00:00")

    assert await shop.new_events(viewer) == [*TRIAL_OVER, *SHUT_AND_ASKED]
    assert await shop.status(bought["id"]) == "incomplete"
    assert not (await shop.access(viewer))["allowed"]
    assert await shop.captured() == {}
    await shop.check()

    await shop.pay_page(await page_of(shop, viewer))

    told = await shop.new_events(viewer)
    assert [each for each in told if not each.startswith(("payment_method.", "webhook."))] == ACTIVE
    assert await lines(shop, viewer) == [
        ("charge", 3100, "2026-02-05T10:00:00Z", "2026-03-05T10:00:00Z")
    ]
    assert await shop.captured() == {"EUR": 3100}
    await shop.check()


async def test_a_page_after_the_trial_that_nobody_opens_ends_it(shop):
    plan, viewer = await ready(shop, trial_days=5)
    bought = await shop.subscribe(viewer, plan, collection="page")
    await shop.new_events(viewer)
    await shop.move_to("2026-02-20")
    told = await shop.new_events(viewer)
    assert told[:7] == [*TRIAL_OVER, *SHUT_AND_ASKED]
    assert told[-2:] == ["invoice.voided", "subscription.canceled"]
    assert await shop.status(bought["id"]) == "incomplete_expired"
    assert await shop.captured() == {}
    await shop.check()


async def test_a_page_on_a_start_day_is_no_charge_of_a_saved_method(shop):
    plan, viewer = await ready(shop, grace_at_start=True)
    bought = await shop.subscribe(viewer, plan, collection="page", start_at="2026-03-01T10:00:00Z")
    await shop.new_events(viewer)
    await shop.move_to("2026-03-01T12:00:00")
    assert await shop.new_events(viewer) == [*STARTED, *ASKED]
    assert await shop.status(bought["id"]) == "incomplete"
    await act(shop, bought["id"], "cancel", {"when": "now"}, expect=409)
    await shop.pay_page(await page_of(shop, viewer))
    assert await shop.status(bought["id"]) == "active"
    assert await shop.captured() == {"EUR": 3100}
    await shop.check()
