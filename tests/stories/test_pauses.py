"""Pause and resume: what is given back, served later or forfeited, to the cent and to the day."""

from __future__ import annotations

import pytest

from tests.stories.test_changes import HALF, RENEWED, change, lines

PAUSED = ["subscription.paused", "entitlement.revoked"]
RESUMED = ["subscription.resumed", "entitlement.granted"]
DUE = "subscriptions.pause_resume_required"
COLLECTED = ["payment.succeeded", "invoice.paid", "subscription.renewed", "entitlement.granted"]


async def pause(shop, subscription, expect=200, **body):
    body = {"at": "now", **body}
    return await shop.post(f"/v1/subscriptions/{subscription}/pause", body, expect=expect)


async def resume(shop, subscription, expect=200, **body):
    return await shop.post(f"/v1/subscriptions/{subscription}/resume", body, expect=expect)


async def preview(shop, subscription, verb, **body):
    path = f"/v1/subscriptions/{subscription}/preview-{verb}"
    found = await shop.post(path, {"at": "now", **body}, expect=200)
    return found["total_minor"], found["current_period_end_at"]


async def allowed(shop, viewer):
    return (await shop.access(viewer))["allowed"]


@pytest.mark.long
async def test_what_is_unused_is_credited_and_the_rest_charged_anew(seats):
    shop, viewer, subscription = seats
    await shop.move_to(HALF)
    assert await preview(shop, subscription, "pause", credit="credit") == (
        -1000, "2026-02-28T10:00:00Z",
    )  # fmt: skip
    assert await shop.new_events(viewer) == [], "a preview leaves no trace"
    assert await allowed(shop, viewer)

    paused = await pause(shop, subscription, credit="credit")

    assert paused["status"] == "paused"
    assert paused["pause"] == {
        "state": "running", "credit": "credit", "from_at": "2026-02-14T10:00:00Z",
        "resume_at": None,
    }  # fmt: skip
    assert await shop.new_events(viewer) == [
        "subscription.paused", "invoice.finalized", "invoice.paid", "entitlement.revoked",
    ]  # fmt: skip
    invoice = await shop.last_invoice(viewer)
    assert (invoice["reason"], invoice["total_minor"], invoice["credited_minor"]) == (
        "subscription_pause", 0, 1000,
    )  # fmt: skip
    assert not await allowed(shop, viewer)
    assert (await shop.get(f"/v1/subscriptions/{subscription}/upcoming-invoice"))["lines"] == []
    await shop.check()

    await shop.move_to("2026-02-21T10:00:00")
    assert await preview(shop, subscription, "resume") == (500, "2026-02-28T10:00:00Z")
    resumed = await resume(shop, subscription)

    assert (resumed["status"], resumed["pause"]) == ("active", None)
    assert await shop.new_events(viewer) == [
        "subscription.resumed", "invoice.finalized", "invoice.paid", "entitlement.granted",
    ]  # fmt: skip
    assert await lines(shop, viewer) == (500, [("charge", 500)])
    assert await allowed(shop, viewer)
    await shop.check()
    await shop.move_to("2026-03-01")
    assert await shop.new_events(viewer) == RENEWED
    assert await lines(shop, viewer) == (2000, [("charge", 2000)])
    assert await shop.captured() == {"EUR": 2000 + 1500}, "the credit paid the rest"
    await shop.check()


@pytest.mark.long
async def test_after_the_period_the_one_that_runs_by_now_is_charged_by_its_share(seats):
    shop, viewer, subscription = seats
    await shop.move_to(HALF)
    await pause(shop, subscription, credit="credit")
    await shop.new_events(viewer)
    await shop.move_to("2026-03-14T10:00:00")
    assert await shop.new_events(viewer) == [], "nothing falls due while it is paused"
    # 17 of the 31 days from 28 February, by the grid of 31 January.
    assert await preview(shop, subscription, "resume") == (1097, "2026-03-31T09:00:00Z")

    resumed = await resume(shop, subscription)

    assert resumed["current_period_start_at"] == "2026-03-14T10:00:00Z"
    assert resumed["current_period_end_at"] == "2026-03-31T09:00:00Z"
    told = await shop.new_events(viewer)
    assert [each for each in told if not each.startswith("entitlement.")] == [
        "subscription.resumed", "invoice.finalized", *COLLECTED[:-1],
    ]  # fmt: skip
    invoice = await shop.last_invoice(viewer)
    assert (invoice["reason"], invoice["total_minor"], invoice["credit_applied_minor"]) == (
        "subscription_resume", 1097, 1000,
    )  # fmt: skip
    await shop.check()
    await shop.move_to("2026-04-01")
    assert await lines(shop, viewer) == (2000, [("charge", 2000)])
    assert await shop.captured() == {"EUR": 2000 + 97 + 2000}
    await change(shop, subscription, quantity="1", settle="now")
    await shop.check()


async def test_a_stub_after_a_pause_is_changed_and_given_back_by_the_same_days(seats):
    shop, viewer, subscription = seats
    await shop.move_to(HALF)
    await pause(shop, subscription, credit="credit")
    await shop.move_to("2026-03-14T10:00:00")
    await resume(shop, subscription)
    await shop.move_to("2026-03-21T10:00:00")
    # 10 days are left: 1,097 less 7/31 of 20.00, and 10/31 of 30.00.
    await change(shop, subscription, quantity="3")
    assert await lines(shop, viewer) == (323, [("credit", -645), ("charge", 968)])
    await shop.check()


async def test_what_is_forfeited_is_not_charged_again_in_the_same_period(seats):
    shop, viewer, subscription = seats
    await shop.move_to(HALF)
    await pause(shop, subscription, credit="none")
    assert await shop.new_events(viewer) == PAUSED
    await shop.move_to("2026-02-21T10:00:00")
    await resume(shop, subscription)
    assert await shop.new_events(viewer) == RESUMED
    assert await shop.captured() == {"EUR": 2000}
    await shop.move_to("2026-03-01")
    assert await shop.new_events(viewer) == RENEWED
    await shop.check()


async def test_what_is_forfeited_ends_with_the_period(seats):
    shop, viewer, subscription = seats
    await change(shop, subscription, quantity="3", settle="next_invoice")
    await shop.move_to(HALF)
    await pause(shop, subscription, credit="none")
    await shop.move_to("2026-03-14T10:00:00")
    await resume(shop, subscription)
    # The change that waited, 20.00 against 30.00, and 17 of 31 days at 30.00.
    assert (await lines(shop, viewer))[0] == 1000 + 1645
    await shop.check()


@pytest.mark.parametrize("credit", ["none", "credit", "extend"])
@pytest.mark.long
async def test_a_pause_from_the_period_s_end_with_a_date(seats, credit):
    shop, viewer, subscription = seats
    planned = await pause(
        shop, subscription, at="period_end", credit=credit, resume_at="2026-03-14T12:00:00Z"
    )
    assert planned["status"] == "active"
    assert planned["pause"]["state"] == "scheduled"
    assert await shop.new_events(viewer) == ["subscription.changed"]
    await shop.check()
    await shop.move_to("2026-03-01")
    assert await shop.new_events(viewer) == [DUE, *PAUSED]
    await shop.check()
    await shop.move_to("2026-03-15")
    told = [x for x in await shop.new_events(viewer) if not x.startswith("entitlement.")]
    found = await shop.get(f"/v1/subscriptions/{subscription}")
    if credit == "extend":
        # Nothing of the period was left: the next one begins, and hangs, where it is resumed.
        assert told == [DUE, "subscription.resumed", *RENEWED[:-1]]
        assert found["current_period_end_at"] == "2026-04-14T11:00:00Z"
        assert await lines(shop, viewer) == (2000, [("charge", 2000)])
    else:
        assert told == [DUE, "subscription.resumed", "invoice.finalized", *COLLECTED[:-1]]
        assert found["current_period_end_at"] == "2026-03-31T09:00:00Z"
        assert await lines(shop, viewer) == (1097, [("charge", 1097)])
    await shop.check()


async def test_resumed_at_the_very_end_of_the_period_it_is_renewed_whole(seats):
    shop, viewer, subscription = seats
    await pause(shop, subscription, at="2026-02-14T10:00:00Z", credit="none",
                resume_at="2026-02-28T10:00:00Z")  # fmt: skip
    await shop.move_to("2026-03-01")
    assert await lines(shop, viewer) == (2000, [("charge", 2000)])
    assert await shop.captured() == {"EUR": 4000}
    await shop.check()


async def test_a_planned_pause_is_forgotten_or_replaced(seats):
    shop, viewer, subscription = seats
    await pause(shop, subscription, at="period_end", credit="none")
    replaced = await pause(shop, subscription, at="2026-02-20T00:00:00Z", credit="credit")
    assert replaced["pause"]["from_at"] == "2026-02-20T00:00:00Z"
    path = f"/v1/subscriptions/{subscription}/undo-pause"
    assert (await shop.post(path, expect=200))["pause"] is None
    refused = await shop.post(path, expect=409)
    assert refused["code"] == "pause_not_scheduled"
    assert await shop.new_events(viewer) == ["subscription.changed"] * 3
    await shop.move_to("2026-03-01")
    assert await shop.new_events(viewer) == RENEWED
    await pause(shop, subscription, credit="none")
    assert (await shop.post(path, expect=409))["code"] == "pause_not_scheduled"
    await shop.check()


async def test_a_planned_resumption_is_moved(seats):
    shop, viewer, subscription = seats
    await pause(shop, subscription, credit="none", resume_at="2026-02-10T00:00:00Z")
    moved = await resume(shop, subscription, at="2026-02-12T00:00:00Z")
    assert moved["pause"]["resume_at"] == "2026-02-12T00:00:00Z"
    await shop.move_to("2026-02-11")
    assert await shop.status(subscription) == "paused"
    await shop.move_to("2026-02-13")
    assert await shop.status(subscription) == "active"
    assert await shop.new_events(viewer) == [*PAUSED, "subscription.changed", DUE, *RESUMED]
    await shop.check()


async def test_a_change_waits_for_the_resumption(seats):
    shop, viewer, subscription = seats
    await change(shop, subscription, quantity="5", at="2026-02-20T00:00:00Z")
    await shop.move_to(HALF)
    await pause(shop, subscription, credit="credit")
    refused = await change(shop, subscription, 409, quantity="3")
    assert refused["code"] == "subscription_paused"
    await shop.move_to("2026-02-24T10:00:00")
    waiting = await shop.get(f"/v1/subscriptions/{subscription}")
    assert (waiting["quantity"], waiting["scheduled_change"]["quantity"]) == ("2", "5")
    await resume(shop, subscription)
    await shop.pump.quiet()
    changed = await shop.get(f"/v1/subscriptions/{subscription}")
    assert (changed["quantity"], changed["scheduled_change"]) == ("5", None)
    # Four of 28 days: 286 for two seats, taken back, and 714 for five.
    assert await lines(shop, viewer) == (428, [("credit", -286), ("charge", 714)])
    await shop.check()


@pytest.mark.long
async def test_what_a_paused_subscription_owes_is_collected_and_dunned(seats):
    shop, viewer, subscription = seats
    await shop.card(viewer, "insufficient_funds:3")
    await shop.move_to("2026-03-01")
    assert await shop.status(subscription) == "past_due"
    await shop.new_events(viewer)
    refused = await pause(shop, subscription, 409, credit="credit")
    assert refused["code"] == "invoice_still_open", "credit is given for what was paid"
    await pause(shop, subscription, credit="extend")
    assert await shop.new_events(viewer) == PAUSED
    await resume(shop, subscription)
    assert await shop.status(subscription) == "past_due"
    until = (await shop.access(viewer))["valid_until"]
    assert until == "2026-03-16T10:00:00Z", "no more grace than without the pause"
    await pause(shop, subscription, credit="extend")
    await shop.move_to("2026-03-12")
    assert [each[1] for each in await shop.invoices(viewer)] == ["paid", "paid"]
    assert await shop.status(subscription) == "paused"
    assert not await allowed(shop, viewer)
    await resume(shop, subscription)
    assert await shop.status(subscription) == "active"
    assert await allowed(shop, viewer)
    await shop.check()


async def test_what_cannot_be_paused_or_resumed_is_told(seats):
    shop, _, subscription = seats
    path = f"/v1/subscriptions/{subscription}"
    now = "2026-01-31T10:00:00Z"
    for body, pointer in (
        ({"at": "2026-01-31T09:59:59Z", "credit": "none"}, "/at"),
        ({"at": "2036-03-01T00:00:00Z", "credit": "none"}, "/at"),
        ({"at": "now", "credit": "none", "resume_at": now}, "/resume_at"),
        ({"at": "period_end", "credit": "none", "resume_at": "2026-02-28T10:00:00Z"},
         "/resume_at"),
        ({"at": "2026-02-02T00:00:00Z", "credit": "none", "resume_at": "2026-02-01T00:00:00Z"},
         "/resume_at"),
        ({"at": "now", "credit": "none", "resume_at": "2036-03-01T00:00:00Z"}, "/resume_at"),
    ):  # fmt: skip
        for verb in ("pause", "preview-pause"):
            told = await shop.post(f"{path}/{verb}", body, expect=422)
            assert (told["code"], told["pointer"]) == ("pause_out_of_range", pointer), body
    for body in (
        {}, {"at": "now"}, {"at": "someday", "credit": "none"}, {"at": "now", "credit": "all"},
        {"at": None, "credit": "none"}, {"at": "now", "credit": "none", "resume_at": "later"},
        {"at": "now", "credit": "none", "colour": "red"},
    ):  # fmt: skip
        assert (await shop.post(f"{path}/pause", body, expect=422))["code"] == "invalid_request"
    for verb in ("resume", "preview-resume"):
        refused = await shop.post(f"{path}/{verb}", expect=409)
        assert refused["code"] == "subscription_not_paused"
    await shop.post(f"{path}/cancel", {"at": "2026-02-20T00:00:00Z"}, expect=200)
    late = await pause(shop, subscription, 422, at="2026-02-20T00:00:00Z", credit="none")
    assert late["code"] == "pause_out_of_range"
    await pause(shop, subscription, credit="none")
    for verb in ("pause", "preview-pause"):
        again = await shop.post(f"{path}/{verb}", {"at": "now", "credit": "none"}, expect=409)
        assert again["code"] == "subscription_paused"
    for at in ("2026-01-31T09:59:59Z", "2036-03-01T00:00:00Z", "2026-02-20T00:00:00Z"):
        assert (await resume(shop, subscription, 422, at=at))["code"] == "pause_out_of_range"
    await shop.post(f"{path}/cancel", {"when": "now"}, expect=200)
    assert (await pause(shop, subscription, 409, credit="none"))["code"] == "subscription_ended"
    assert (await resume(shop, subscription, 409))["code"] == "subscription_ended"
    assert (await shop.get(path))["pause"] is None
    nobody = "sub_01h455vb4pex5vsknk084sn02q"
    assert (await pause(shop, nobody, 404, credit="none"))["code"] == "not_found"
    assert (await resume(shop, nobody, 404))["code"] == "not_found"
    await shop.check()


async def test_an_unpaid_purchase_is_not_paused(shop):
    plan, viewer = await shop.plan(), await shop.customer()
    await shop.card(viewer, "soft_decline")
    bought = await shop.refused(viewer, plan)
    refused = await pause(shop, bought["subscription_id"], 409, credit="none")
    assert refused["code"] == "subscription_not_active"
    await shop.check()


async def test_a_key_is_used_once(seats):
    shop, viewer, subscription = seats
    body, path = {"at": "now", "credit": "extend"}, f"/v1/subscriptions/{subscription}"
    for _ in range(2):
        done = await shop.post(f"{path}/pause", body, expect=200, Idempotency_Key="p")
        assert done["status"] == "paused"
    assert await shop.new_events(viewer) == PAUSED
    for _ in range(2):
        done = await shop.post(f"{path}/resume", expect=200, Idempotency_Key="r")
        assert done["status"] == "active"
    assert await shop.new_events(viewer) == RESUMED
    await shop.check()


async def test_a_planned_pause_that_cannot_give_back_opens_a_work_item(seats):
    shop, viewer, subscription = seats
    await pause(shop, subscription, at="2026-03-05T00:00:00Z", credit="credit")
    await shop.card(viewer, "soft_decline")
    await shop.move_to("2026-03-06")
    found = await shop.get(f"/v1/subscriptions/{subscription}")
    assert (found["status"], found["pause"]) == ("past_due", None)
    [item] = (await shop.get("/v1/work-items"))["data"]
    assert item["kind"] == "pause_refused"
    assert item["data"]["reason"].startswith("invoice_still_open: ")
    await shop.check()


@pytest.mark.parametrize("begins", ["pending", "trialing"])
@pytest.mark.parametrize("when", ["now", "2026-03-20T10:00:00Z"])
@pytest.mark.long
async def test_what_has_not_begun_is_not_paused_and_is_told_what_to_do(shop, begins, when):
    plan, viewer = await shop.plan(), await shop.customer()
    await shop.card(viewer)
    more = {"pending": {"start_at": "2026-03-01T10:00:00Z"}, "trialing": {"trial_days": 29}}
    bought = await shop.subscribe(viewer, plan, **more[begins])
    await shop.new_events(viewer)
    for credit in ("none", "credit", "extend"):
        refused = await pause(shop, bought["id"], 409, credit=credit, at=when)
        assert (refused["code"], refused["detail"]) == (
            "subscription_not_active", f"The subscription is {begins}.",
        )  # fmt: skip
        assert refused["fix"].startswith(
            {"pending": "Nothing is served before", "trialing": "A trial runs on"}[begins]
        )
    assert await shop.new_events(viewer) == []
    await shop.move_to("2026-03-02")
    assert await shop.status(bought["id"]) == "active"
    paused = await pause(shop, bought["id"], credit="none", at="2026-03-20T10:00:00Z")
    assert paused["pause"]["state"] == "scheduled"
    await shop.check()
