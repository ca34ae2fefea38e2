"""Every way to end a subscription, to keep it after all, and to begin again: to the cent."""

from __future__ import annotations

import asyncio

import pytest

from subledger.services.billing.usecases import bill
from tests.stories.shop import seats_plan
from tests.stories.test_changes import HALF, RENEWED, change, lines
from tests.stories.test_pauses import pause, resume

pytestmark = pytest.mark.long

CANCELED = ["subscription.canceled", "entitlement.revoked"]
DUE = "subscriptions.cancel_required"
RENEWAL = [
    *("subscriptions.renew_required", "invoice.finalized", "payment.succeeded"),
    *("invoice.paid", "subscription.renewed"),
]


async def cancel(shop, subscription, expect=200, **body):
    return await shop.post(f"/v1/subscriptions/{subscription}/cancel", body, expect=expect)


async def keep(shop, subscription, expect=200):
    return await shop.post(f"/v1/subscriptions/{subscription}/undo-cancel", expect=expect)


async def stop_renewals(shop, *, on):
    answer = await shop.raw(
        "PUT", "/v1/kill-switches/renewals", json={"on": on, "reason": "a wrong price"}
    )
    assert answer.status_code == 200, answer.text


async def test_why_it_was_canceled_is_kept_and_shown(seats):
    shop, viewer, subscription = seats
    planned = await cancel(
        shop, subscription, when="period_end", reason="too_expensive", comment="Bye, Ada"
    )
    assert (planned["cancel_reason"], planned["cancel_comment"]) == ("too_expensive", "Bye, Ada")
    kept = await keep(shop, subscription)
    assert (kept["cancel_reason"], kept["cancel_comment"]) == (None, None)
    ended = await cancel(shop, subscription, when="now", reason="unused", comment="x" * 500)
    assert (ended["cancel_reason"], ended["cancel_comment"]) == ("unused", "x" * 500)
    events = (await shop.get("/v1/events", customer_id=viewer, limit=100))["data"]
    [told] = [each for each in events if each["type"] == "subscription.canceled"]
    assert (told["data"]["reason"], told["data"]["cancel_reason"]) == ("requested", "unused")
    assert not any("Bye, Ada" in str(each) or "x" * 500 in str(each) for each in events)
    await shop.check()


async def test_at_a_date_in_the_period_without_credit(seats):
    shop, viewer, subscription = seats
    planned = await cancel(shop, subscription, at="2026-02-14T10:00:00Z")
    assert (planned["status"], planned["cancel_at"]) == ("active", "2026-02-14T10:00:00Z")
    assert await shop.new_events(viewer) == ["subscription.changed"]
    # A change until then is billed for the whole period, as the rest of it was.
    await change(shop, subscription, quantity="3")
    assert await lines(shop, viewer) == (1000, [("credit", -2000), ("charge", 3000)])
    await shop.new_events(viewer)
    await shop.move_to("2026-02-15")
    assert await shop.new_events(viewer) == [DUE, *CANCELED]
    assert not (await shop.access(viewer))["allowed"]
    assert await shop.captured() == {"EUR": 3000}
    await shop.check()


async def test_at_a_date_in_the_period_with_credit(seats):
    shop, viewer, subscription = seats
    planned = await cancel(
        shop, subscription, at="2026-02-14T10:00:00Z", credit_unused=True, reason="moved_away"
    )
    assert planned["cancel_credit_unused"]
    await shop.new_events(viewer)
    await shop.move_to("2026-02-15")
    assert await shop.new_events(viewer) == [DUE, "invoice.finalized", "invoice.paid", *CANCELED]
    invoice = await shop.last_invoice(viewer)
    assert (invoice["reason"], invoice["credited_minor"]) == ("subscription_end", 1000)
    assert (await shop.get(f"/v1/subscriptions/{subscription}"))["cancel_reason"] == "moved_away"
    await shop.check()


async def test_credit_at_a_date_that_nobody_paid_for_opens_a_work_item(seats):
    shop, viewer, subscription = seats
    await cancel(shop, subscription, at="2026-03-10T10:00:00Z")
    await keep(shop, subscription)
    await shop.card(viewer, "soft_decline")
    await shop.move_to("2026-03-01")
    await cancel(shop, subscription, at="2026-03-10T10:00:00Z", credit_unused=True)
    await shop.move_to("2026-03-11")
    assert await shop.status(subscription) == "canceled"
    kinds = [each["kind"] for each in (await shop.get("/v1/work-items"))["data"]]
    assert kinds == ["credit_refused"]
    await shop.check()


@pytest.mark.parametrize("credit", [True, False])
async def test_at_a_date_in_a_later_period_that_is_billed_cut(seats, credit):
    shop, viewer, subscription = seats
    await cancel(shop, subscription, at="2026-03-14T10:00:00Z", credit_unused=credit)
    upcoming = await shop.get(f"/v1/subscriptions/{subscription}/upcoming-invoice")
    assert upcoming["total_minor"] == 903, "14 of 31 days"
    await shop.move_to("2026-03-01")
    assert await lines(shop, viewer) == (903, [("charge", 903)])
    await shop.new_events(viewer)
    await change(shop, subscription, quantity="4")
    # 13 of the 14 days are left: less 1/31 of 20.00, and 13/31 of 40.00.
    assert await lines(shop, viewer) == (839, [("credit", -838), ("charge", 1677)])
    await shop.new_events(viewer)
    await shop.move_to("2026-03-15")
    assert await shop.new_events(viewer) == [DUE, *CANCELED], "nothing is left to give back"
    assert await shop.captured() == {"EUR": 2000 + 903 + 839}
    await shop.check()


@pytest.mark.parametrize("credit", [True, False])
async def test_an_end_that_waited_for_stopped_renewals_is_as_of_its_date(seats, credit):
    shop, viewer, subscription = seats
    await cancel(shop, subscription, at="2026-03-14T10:00:00Z", credit_unused=credit)
    await stop_renewals(shop, on=True)
    await shop.new_events(viewer)
    await shop.move_to("2026-04-05")
    assert await shop.new_events(viewer) == []
    assert await shop.status(subscription) == "active"

    await stop_renewals(shop, on=False)
    told = await shop.new_events(viewer)
    access = [each for each in told if each.startswith("entitlement.")]
    assert access == ["entitlement.granted", "entitlement.revoked"]
    assert [each for each in told if each not in access] == [*RENEWAL, DUE, "subscription.canceled"]
    assert [*await shop.invoices(viewer)][-1][1:] == ("paid", 903), "14 of 31 days, no day more"
    ended = await shop.get(f"/v1/subscriptions/{subscription}")
    assert (ended["status"], ended["ended_at"]) == ("canceled", "2026-03-14T10:00:00Z")
    assert ended["ended_at"] == ended["cancel_at"]
    assert await shop.captured() == {"EUR": 2000 + 903}
    assert not (await shop.access(viewer))["allowed"]
    await shop.check()


async def test_what_was_billed_cut_is_billed_whole_when_it_is_kept(seats):
    shop, viewer, subscription = seats
    await cancel(shop, subscription, at="2026-03-14T10:00:00Z")
    await shop.move_to("2026-03-05")
    await shop.new_events(viewer)
    await keep(shop, subscription)
    assert await shop.new_events(viewer) == [
        "subscription.changed", "invoice.finalized", "payment.succeeded", "invoice.paid",
    ]  # fmt: skip
    total, _ = await lines(shop, viewer)
    assert total == 2000 - 903
    await shop.check()
    await shop.move_to("2026-04-01")
    assert await lines(shop, viewer) == (2000, [("charge", 2000)])
    assert await shop.captured() == {"EUR": 6000}
    await shop.check()


async def test_what_was_billed_cut_is_billed_up_to_a_later_date(seats):
    shop, viewer, subscription = seats
    await cancel(shop, subscription, at="2026-03-14T10:00:00Z")
    await shop.move_to("2026-03-05")
    await cancel(shop, subscription, at="2026-03-21T10:00:00Z")
    assert (await lines(shop, viewer))[0] == 1355 - 903, "21 of 31 days"
    await cancel(shop, subscription, at="2026-03-10T10:00:00Z")
    await shop.move_to("2026-03-22")
    assert await shop.captured() == {"EUR": 2000 + 1355}
    await shop.check()


async def test_a_date_is_replaced_and_taken_back(seats):
    shop, viewer, subscription = seats
    await cancel(shop, subscription, at="2026-02-14T10:00:00Z")
    replaced = await cancel(shop, subscription, at="2026-02-20T10:00:00Z", credit_unused=True)
    assert replaced["cancel_at"] == "2026-02-20T10:00:00Z"
    await shop.move_to("2026-02-16")
    kept = await keep(shop, subscription)
    assert kept["cancel_at"] is None
    assert (await keep(shop, subscription, 409))["code"] == "cancellation_not_scheduled"
    await shop.new_events(viewer)
    await shop.move_to("2026-03-01")
    assert await shop.new_events(viewer) == RENEWED
    assert await shop.captured() == {"EUR": 4000}
    await shop.check()


async def test_what_cannot_be_canceled_so_is_told(seats):
    shop, _, subscription = seats
    path = f"/v1/subscriptions/{subscription}/cancel"
    for body in (
        {}, {"when": "later"}, {"when": "now", "at": "2026-02-14T10:00:00Z"}, {"at": "someday"},
        {"when": "now", "reason": "because"}, {"when": "now", "comment": "x" * 501},
        {"when": "now", "credit_unused": "yes"}, {"when": "now", "comment": ""},
    ):  # fmt: skip
        assert (await shop.post(path, body, expect=422))["code"] == "invalid_request", body
    for at in ("2026-01-31T09:59:59Z", "2036-03-01T00:00:00Z"):
        told = await cancel(shop, subscription, 422, at=at)
        assert (told["code"], told["pointer"]) == ("cancellation_out_of_range", "/at")
    assert await shop.status(subscription) == "active"
    await cancel(shop, subscription, at="2026-01-31T10:00:00Z")
    assert await shop.status(subscription) == "canceled", "this very moment is now"
    assert (await cancel(shop, subscription, 409, when="now"))["code"] == "subscription_ended"
    await shop.check()


async def test_a_paused_one_ends(seats):
    shop, viewer, subscription = seats
    await shop.move_to(HALF)
    await pause(shop, subscription, credit="credit", resume_at="2026-05-01T00:00:00Z")
    await shop.new_events(viewer)
    ended = await cancel(shop, subscription, when="now", credit_unused=True)
    assert (ended["status"], ended["pause"]) == ("canceled", None)
    assert await shop.new_events(viewer) == ["subscription.canceled"], "nothing more to take back"
    await shop.move_to("2026-05-02")
    assert await shop.new_events(viewer) == []
    assert len(await shop.invoices(viewer)) == 2
    await shop.check()


async def test_a_paused_one_gives_back_what_was_to_be_served_later(seats):
    shop, viewer, subscription = seats
    await shop.move_to(HALF)
    await pause(shop, subscription, credit="extend")
    await shop.move_to("2026-03-14T10:00:00")
    await cancel(shop, subscription, when="now", credit_unused=True)
    assert (await shop.last_invoice(viewer))["credited_minor"] == 1000
    await shop.check()


async def test_a_paused_one_ends_at_a_date_in_the_pause(seats):
    shop, viewer, subscription = seats
    await shop.move_to(HALF)
    await pause(shop, subscription, credit="extend")
    await cancel(shop, subscription, at="2026-03-10T00:00:00Z", credit_unused=True)
    await shop.move_to("2026-03-11")
    assert await shop.status(subscription) == "canceled"
    assert (await shop.last_invoice(viewer))["credited_minor"] == 1000
    await shop.check()


async def test_the_end_of_the_period_moves_with_the_pause(seats):
    shop, viewer, subscription = seats
    await cancel(shop, subscription, when="period_end")
    await shop.move_to(HALF)
    await pause(shop, subscription, credit="extend")
    await shop.move_to("2026-03-06T10:00:00")
    assert await shop.status(subscription) == "paused"
    await shop.check()
    resumed = await resume(shop, subscription)
    assert resumed["cancel_at"] == "2026-03-20T10:00:00Z"
    await shop.check()
    await pause(shop, subscription, credit="extend")
    await keep(shop, subscription)
    await cancel(shop, subscription, when="period_end")
    await shop.move_to("2026-03-16T10:00:00")
    resumed = await resume(shop, subscription)
    assert resumed["cancel_at"] == "2026-03-30T10:00:00Z"[:11] + "09:00:00Z"
    await shop.move_to("2026-03-31")
    assert await shop.status(subscription) == "canceled"
    assert await shop.captured() == {"EUR": 2000}
    await shop.check()
    assert len(await shop.invoices(viewer)) == 1


async def test_at_the_end_of_a_period_that_is_over_a_paused_one_ends_at_once(seats):
    shop, _, subscription = seats
    await pause(shop, subscription, credit="none")
    await shop.move_to("2026-03-10")
    ended = await cancel(shop, subscription, when="period_end")
    assert ended["status"] == "canceled"
    await shop.check()


async def test_one_that_owes_ends_and_is_still_dunned(seats):
    shop, viewer, subscription = seats
    await shop.card(viewer, "insufficient_funds:2")
    await shop.move_to("2026-03-01")
    refused = await cancel(shop, subscription, 409, when="now", credit_unused=True)
    assert refused["code"] == "invoice_still_open"
    await cancel(shop, subscription, when="now")
    await shop.move_to("2026-03-20")
    assert [each[1] for each in await shop.invoices(viewer)] == ["paid", "paid"]
    assert await shop.status(subscription) == "canceled"
    await shop.check()


async def test_between_a_new_cycle_and_its_first_invoice_nothing_is_given_back(seats):
    """At the period's end a yearly plan takes over; before its renewal runs, it is canceled."""
    shop, viewer, subscription = seats
    await shop.move_to("2026-03-05")
    yearly = await seats_plan(shop, "yearly", amount="9000", unit="year")
    await change(shop, subscription, plan_id=yearly, at="period_end")
    await shop.new_events(viewer)
    await shop.api.post("/v1/clock-moves", json={"to_at": "2026-04-02T00:00:00Z"})
    await _until_changed(shop, subscription, yearly)
    answer = await shop.api.post(
        f"/v1/subscriptions/{subscription}/cancel", json={"when": "now", "credit_unused": True}
    )
    assert answer.json()["status"] == "canceled", answer.text
    await shop.pump.quiet()
    told = [x for x in await shop.new_events(viewer) if not x.startswith("entitlement.")]
    assert told == [
        "subscriptions.change_required", "subscription.changed", "subscription.canceled",
    ]  # fmt: skip
    assert await shop.captured() == {"EUR": 4000}, "January's and February's"
    await shop.check()


async def _until_changed(shop, subscription, plan):
    """Run the process's steps, one by one, until the plan is another."""
    for _ in range(3_000):
        for step in shop.pump.steps:
            await step.run(step.limit)
            found = (await shop.api.get(f"/v1/subscriptions/{subscription}")).json()
            if found["plan_id"] == plan:
                return
        await asyncio.sleep(0)
    raise AssertionError("the change was not reached")


async def test_a_last_invoice_that_cannot_be_made_parks_and_lets_it_end(seats, monkeypatch):
    """A run of too many lines: no event of the account waits for it."""
    shop, viewer, subscription = seats
    await change(shop, subscription, quantity="3", settle="next_invoice")
    await cancel(shop, subscription, when="period_end")
    await shop.new_events(viewer)
    monkeypatch.setattr(bill, "MOST_LINES", 0)
    await shop.move_to("2026-03-01")
    assert await shop.new_events(viewer) == [
        DUE, "billing_run.parked", "work_item.opened", *CANCELED,
    ]  # fmt: skip
    found = await shop.get(f"/v1/subscriptions/{subscription}")
    assert (found["status"], found["parked_reason"]) == (
        "canceled", "run_too_large: 2 lines in one run",
    )  # fmt: skip
    monkeypatch.undo()
    await shop.check()
    again = await shop.post(f"/v1/subscriptions/{subscription}/reactivate", expect=200)
    assert (again["status"], again["parked_reason"]) == ("active", None)
    await shop.check()


async def test_a_pause_that_cannot_be_billed_is_refused(seats, monkeypatch):
    shop, _, subscription = seats
    await change(shop, subscription, quantity="3", settle="next_invoice")
    monkeypatch.setattr(bill, "MOST_LINES", 0)
    told = await pause(shop, subscription, 422, credit="credit")
    assert (told["code"], told["detail"]) == ("invalid_request", "1 lines in one run")
    ended = await cancel(shop, subscription, 422, when="now", credit_unused=True)
    assert (ended["detail"], "pointer" in ended) == ("1 lines in one run", False)
    assert await shop.status(subscription) == "active"
    await shop.check()
