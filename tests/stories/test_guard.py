"""The guard against mass mistakes: a wrong price is stopped before anything is billed; what is
stopped goes on when a person says so, and is billed once."""

from __future__ import annotations

import pytest

from subledger.hosts import kill_switch
from subledger.hosts.problems import HostProblem
from tests.stories.guarding import (
    DUE,
    PARKED_JOB,
    RENEWED,
    limit,
    parks,
    release,
    switch,
    tenant_events,
    two,
    version,
)
from tests.stories.test_changes import seats_plan

__all__ = ["two"]


@pytest.mark.long
async def test_a_zero_too_many_is_stopped_before_anything_is_billed(two):
    shop, plan, viewers = two
    await limit(shop, total_minor=5000)
    await version(shop, plan, 9990)  # 99.90, and 9.99 was meant
    for viewer, subscription in viewers:
        await shop.post(
            f"/v1/subscriptions/{subscription}/change",
            {"plan_id": plan, "at": "period_end"},
            expect=200,
        )
        await shop.new_events(viewer)

    move = await shop.move_to(DUE)

    assert move["result"]["waits"] == [
        {"what": "billing's guard: due renewal, renewals are stopped", "count": 2}
    ]
    for viewer, _ in viewers:
        assert await shop.new_events(viewer) == [
            "subscriptions.change_required", "subscription.changed",
            "subscriptions.renew_required",
        ]  # fmt: skip
        assert [total for _, _, total in await shop.invoices(viewer)] == [999]
    [park] = await parks(shop)
    assert (park["status"], park["job"]) == ("parked", "renewals")
    assert park["reason"] == "2026-02-28 EUR: total_minor would be 19980, 5000 is the most"
    assert park["numbers"] == [
        {
            "day": "2026-02-28", "currency": "EUR",
            "beyond": [{"limit": "total_minor", "most": 5000, "would_be": 19980}],
            "billed": {"count": 0, "total_minor": 0, "average_minor": 0, "largest_minor": 0},
            "batch": {
                "count": 2, "total_minor": 19980, "average_minor": 9990, "largest_minor": 9990,
            },
        }
    ]  # fmt: skip
    [item] = (await shop.get("/v1/work-items", status="open"))["data"]
    assert (item["kind"], item["customer_id"]) == ("billing_guard", None)
    assert item["data"]["park_id"] == park["id"]
    await shop.check()

    await version(shop, plan, 999)
    for viewer, subscription in viewers:
        await shop.post(f"/v1/subscriptions/{subscription}/change", {"plan_id": plan}, expect=200)
        assert await shop.new_events(viewer) == ["subscription.changed"]
    released = await release(shop, park["id"])
    assert (released["status"], released["release_reason"]) == ("released", "looked at it")
    for viewer, _ in viewers:
        assert await shop.new_events(viewer) == RENEWED
        assert [total for _, _, total in await shop.invoices(viewer)] == [999, 999]
    assert [each["type"] for each in await tenant_events(shop)] == [
        "billing_limits.changed", *PARKED_JOB, "work_item.closed", "billing_run.released",
    ]  # fmt: skip
    assert (await shop.get(f"/v1/work-items/{item['id']}"))["status"] == "closed"
    assert await shop.captured() == {"EUR": 4 * 999}
    await shop.move_to("2026-04-01")
    assert await shop.captured() == {"EUR": 6 * 999}
    await shop.check()


async def test_release_may_raise_the_limits_for_this_day_alone(two):
    shop, _, viewers = two
    await limit(shop, count=1)
    await shop.move_to(DUE)
    [park] = await parks(shop)
    assert park["numbers"][0]["beyond"] == [{"limit": "count", "most": 1, "would_be": 2}]

    await release(shop, park["id"])  # nothing was changed: it parks again
    await shop.pump.quiet()
    again, first = await parks(shop)
    assert (again["status"], first["status"]) == ("parked", "released")
    assert await shop.captured() == {"EUR": 2 * 999}
    today = [{"currency": "EUR", "count": 2}]
    await release(shop, again["id"], limits_today=today)
    await shop.pump.quiet()

    assert await shop.captured() == {"EUR": 4 * 999}
    for viewer, _ in viewers:
        assert [total for _, _, total in await shop.invoices(viewer)] == [999, 999]
    refused = await release(shop, again["id"], 409)
    assert refused["code"] == "billing_park_released"
    await shop.move_to("2026-04-01")
    assert [each["status"] for each in await parks(shop)] == ["parked", "released", "released"]
    assert await shop.captured() == {"EUR": 4 * 999}
    changes = (await shop.get("/v1/billing-guard-changes"))["data"]
    assert [each["kind"] for each in changes] == ["job_released", "job_released", "limits_set"]
    assert changes[0]["reason"] == "looked at it"
    assert changes[0]["changed_by"].startswith("key")
    assert changes[0]["data"]["limits_today"]["EUR"]["count"] == 2
    await shop.check()


async def test_an_average_too_high_parks_and_purchases_count(two):
    shop, _, _ = two
    await shop.move_to("2026-02-28T09:00:00")
    cheap = await shop.plan("cheap", amounts={"EUR": 1})
    eve = await shop.customer("eve")
    await shop.card(eve)
    await limit(shop, average_minor=500, count=3)
    for _ in range(2):
        await shop.subscribe(eve, cheap)
    # 2 × 0.01 and 2 × 9.99 are 20.00 over four: 5.00 is not above the average, 4 is above the count
    await shop.move_to(DUE)
    [park] = await parks(shop)
    assert park["numbers"][0]["beyond"] == [{"limit": "count", "most": 3, "would_be": 4}]
    assert park["numbers"][0]["billed"]["total_minor"] == 2
    await limit(shop, average_minor=499)
    await release(shop, park["id"])
    await shop.pump.quiet()
    [second, _] = await parks(shop)
    assert second["numbers"][0]["beyond"] == [
        {"limit": "average_minor", "most": 499, "would_be": 500}
    ]
    await limit(shop, average_minor=500)
    await release(shop, second["id"])
    await shop.pump.quiet()
    assert await shop.captured() == {"EUR": 4 * 999 + 2}
    await shop.check()


async def test_one_invoice_too_large_parks_its_subscription_and_the_others_go_on(two):
    shop, _, [(ada, _), (bob, _)] = two
    dear = await shop.plan("dear", amounts={"EUR": 50000})
    eve = await shop.customer("eve")
    await shop.card(eve)
    bought = await shop.subscribe(eve, dear)
    await shop.new_events(eve)
    await limit(shop, largest_minor=49999)

    await shop.move_to(DUE)

    for viewer in (ada, bob):
        assert await shop.new_events(viewer) == RENEWED
    assert await shop.new_events(eve) == [
        "subscriptions.renew_required", "billing_run.parked", "work_item.opened",
    ]  # fmt: skip
    parked = await shop.get(f"/v1/subscriptions/{bought['id']}")
    assert parked["parked_reason"] == (
        "billing_limit_exceeded: the invoice of 50000 EUR (minor units) is above the largest"
        " allowed, 49999"
    )
    assert await parks(shop) == []
    path = f"/v1/subscriptions/{bought['id']}/release"
    body = {"reason": "as agreed", "most_minor": 49999}
    await shop.post(path, body, expect=200)  # still too much: it parks again
    assert await shop.new_events(eve) == [
        "work_item.closed", "billing_run.released", "subscriptions.renew_required",
        "billing_run.parked", "work_item.opened",
    ]  # fmt: skip
    body["most_minor"] = 50000
    released = await shop.post(path, body, expect=200, Idempotency_Key="go")
    assert released["parked_reason"] is None
    await shop.post(path, body, expect=200, Idempotency_Key="go")
    assert await shop.new_events(eve) == [
        "work_item.closed", "billing_run.released", *RENEWED,
    ]  # fmt: skip
    assert (await shop.post(path, body, expect=409))["code"] == "subscription_not_parked"
    await shop.move_to("2026-04-01")  # the next run is held to the limit again
    assert await shop.status(bought["id"]) == "active"
    assert (await shop.get(f"/v1/subscriptions/{bought['id']}"))["parked_reason"] is not None
    assert await shop.captured() == {"EUR": 6 * 999 + 2 * 50000}
    await shop.check()


async def test_purchases_and_changes_are_refused_above_the_largest_and_by_nothing_else(two):
    shop, plan, [(ada, subscription), _] = two
    await limit(shop, largest_minor=1500, total_minor=1, count=1, average_minor=1)
    eve = await shop.customer("eve")
    await shop.card(eve)
    dear = await shop.plan("dear", amounts={"EUR": 1501})
    dearer = await shop.plan("dearer", amounts={"EUR": 2500})
    before = await shop.captured()

    refused = await shop.post(
        "/v1/subscriptions", {"customer_id": eve, "plan_id": dear}, expect=422
    )
    assert (refused["code"], refused["pointer"]) == ("billing_limit_exceeded", "/plan_id")
    assert (refused["most_minor"], refused["would_be_minor"]) == (1500, 1501)
    for what in ("change", "preview-change"):
        refused = await shop.post(
            f"/v1/subscriptions/{subscription}/{what}", {"plan_id": dearer}, expect=422
        )
        assert (refused["code"], refused["would_be_minor"]) == ("billing_limit_exceeded", 1501)
    assert await shop.captured() == before
    assert await shop.new_events(eve) == [
        "customer.created", "payment_method.attached",
    ]  # fmt: skip
    assert await shop.new_events(ada) == []
    await shop.subscribe(eve, plan)
    assert await shop.captured() == {"EUR": 3 * 999}
    assert await parks(shop) == []
    await shop.check()


@pytest.mark.long
async def test_a_kill_switch_in_the_middle_of_a_month(two):
    shop, _, [(ada, first), (bob, second)] = two
    await shop.move_to("2026-02-14")
    turned = await switch(shop, "renewals", True)
    assert (turned["on"], turned["reason"]) == (True, "looks wrong")
    await switch(shop, "renewals", True)  # changes nothing
    await shop.post(f"/v1/subscriptions/{second}/cancel", {"when": "period_end"}, expect=200)
    await shop.new_events(bob)

    move = await shop.move_to("2026-03-10")

    assert move["result"]["waits"] == [
        {"what": "billing's guard: due renewal, renewals are stopped", "count": 1}
    ]
    assert await shop.new_events(ada) == []
    assert await shop.new_events(bob) == [
        "subscriptions.cancel_required", "subscription.canceled", "entitlement.revoked",
    ]  # fmt: skip
    await shop.check()
    await switch(shop, "renewals", False)
    assert await shop.new_events(ada) == RENEWED
    renewed = await shop.get(f"/v1/subscriptions/{first}")
    assert renewed["current_period_start_at"] == "2026-02-28T10:00:00Z"
    assert renewed["current_period_end_at"] == "2026-03-31T09:00:00Z"
    await shop.move_to("2026-04-01")
    assert await shop.new_events(ada) == RENEWED
    assert await shop.captured() == {"EUR": 4 * 999}
    switches = (await shop.get("/v1/kill-switches"))["data"]
    assert [(each["job"], each["on"]) for each in switches] == [
        ("renewals", False), ("collections", False), ("dunning", False),
    ]  # fmt: skip
    assert [each["type"] for each in await tenant_events(shop)] == ["kill_switch.changed"] * 2
    await shop.check()


async def test_collections_stop_and_go_on_with_nothing_lost_or_doubled(two):
    shop, plan, [(ada, _), (bob, _)] = two
    await switch(shop, "collections", True)
    await shop.pump.quiet()

    move = await shop.move_to(DUE)

    assert move["result"]["waits"] == [
        {"what": "payments' kill switch: charges, collections are stopped", "count": 2}
    ]
    for viewer in (ada, bob):
        assert await shop.new_events(viewer) == [
            "subscriptions.renew_required",
            "invoice.finalized",
        ]
        assert [status for _, status, _ in await shop.invoices(viewer)] == ["paid", "open"]
    assert await shop.captured() == {"EUR": 2 * 999}
    eve = await shop.customer("eve")  # a page that a person pays on goes on
    bought = await shop.post(
        "/v1/subscriptions",
        {"customer_id": eve, "plan_id": plan, "collection": "page",
         "return_url": "http://shop.test/x"},
    )  # fmt: skip
    await shop.pay_page(bought["next_action"]["redirect_url"])
    await shop.pump.quiet()
    assert await shop.status(bought["id"]) == "active"
    assert await shop.captured() == {"EUR": 3 * 999}
    await shop.check()
    await switch(shop, "collections", False)
    await shop.pump.quiet()

    assert await shop.captured() == {"EUR": 5 * 999}
    for viewer in (ada, bob):
        assert await shop.new_events(viewer) == RENEWED[2:]
    await shop.check()


FAILED = [
    "subscriptions.renew_required", "invoice.finalized", "payment.failed", "subscription.past_due",
    "dunning.retry_scheduled", "entitlement.granted",
]  # fmt: skip
RETRIED = "payments.retry_required"
RECOVERED = ["payment.succeeded", "invoice.paid", "subscription.renewed", "entitlement.granted"]
SWITCHED = "dunning's kill switch: due"


async def owing(shop, kind):
    """A subscription that is renewed on 28 February by a card that declines from then on."""
    plan, viewer = await shop.plan(), await shop.customer()
    await shop.card(viewer)
    bought = await shop.subscribe(viewer, plan)
    await shop.card(viewer, kind)
    await shop.new_events(viewer)
    return viewer, bought["id"]


@pytest.mark.long
async def test_dunning_stops_and_goes_on_with_the_retry_that_waited(shop):
    viewer, subscription = await owing(shop, "insufficient_funds:2")
    await switch(shop, "dunning", True)
    await shop.move_to(DUE)
    assert await shop.new_events(viewer) == FAILED, "a first charge is no retry"

    move = await shop.move_to("2026-03-20")

    assert move["result"]["waits"] == [
        {"what": f"{SWITCHED} payment_retry, dunning is stopped", "count": 1}
    ]
    assert await shop.new_events(viewer) == []
    assert await shop.status(subscription) == "past_due"
    assert await shop.captured() == {"EUR": 999}
    await shop.check()
    switches = (await shop.get("/v1/kill-switches"))["data"]
    assert [(each["job"], each["on"], each["reason"]) for each in switches][2] == (
        "dunning", True, "looks wrong",
    )  # fmt: skip
    await switch(shop, "dunning", False)
    assert await shop.new_events(viewer) == [RETRIED, *RECOVERED]
    assert await shop.captured() == {"EUR": 2 * 999}
    await shop.check()


@pytest.mark.long
async def test_nobody_loses_a_subscription_to_dunning_that_is_stopped(shop):
    viewer, subscription = await owing(shop, "hard_decline")
    await switch(shop, "dunning", True)
    move = await shop.move_to("2026-03-01")
    assert [each["what"] for each in move["result"]["waits"]] == [
        f"{SWITCHED} final_dunning_step, dunning is stopped"
    ]
    assert await shop.status(subscription) == "past_due"
    assert await shop.new_events(viewer) == [
        *FAILED[:-2], "dunning.final_step_scheduled", "entitlement.granted",
    ]  # fmt: skip
    await shop.check()
    await switch(shop, "dunning", False)
    assert await shop.new_events(viewer) == [
        "payments.final_step_required", "invoice.uncollectible", "subscription.canceled",
        "entitlement.revoked",
    ]  # fmt: skip
    assert await shop.status(subscription) == "canceled"
    assert [status for _, status, _ in await shop.invoices(viewer)] == ["paid", "uncollectible"]
    await shop.check()


async def test_what_is_paid_meanwhile_is_not_tried_again(shop):
    viewer, subscription = await owing(shop, "insufficient_funds:2")
    await shop.move_to(DUE)
    await switch(shop, "dunning", True)
    await shop.move_to("2026-03-20")
    await shop.new_events(viewer)
    invoice = await shop.last_invoice(viewer)
    await shop.post("/v1/payments", {"invoice_id": invoice["id"]})
    assert await shop.new_events(viewer) == RECOVERED
    await switch(shop, "dunning", False)
    assert await shop.new_events(viewer) == []
    assert await shop.status(subscription) == "active"
    assert await shop.captured() == {"EUR": 2 * 999}
    await shop.check()


async def test_the_operator_stops_a_job_of_every_tenant_beside_its_own_switch(two):
    shop, _, [(ada, _), (bob, _)] = two
    await kill_switch.turn(shop.assembly, "renewals", on=True, reason="a bad release")
    await switch(shop, "renewals", True)
    await shop.move_to(DUE)
    [renewals, _, _] = (await shop.get("/v1/kill-switches"))["data"]
    assert (renewals["on"], renewals["installation_on"]) == (True, True)
    await switch(shop, "renewals", False)
    await shop.pump.quiet()
    assert await shop.new_events(ada) == [], "the operator's switch is on"
    again = await kill_switch.turn(shop.assembly, "renewals", on=False, reason="mended")
    assert again >= 1
    for viewer in (ada, bob):
        assert await shop.new_events(viewer) == RENEWED
    assert await shop.captured() == {"EUR": 4 * 999}
    with pytest.raises(HostProblem):
        await kill_switch.turn(shop.assembly, "renewals", on=True, reason=" ")
    await shop.check()


async def test_a_closed_work_item_releases_nothing_and_a_change_waits_behind_its_renewal(two):
    shop, _, [(ada, first), (bob, _)] = two
    half = await shop.plan("half", amounts={"EUR": 499})
    await limit(shop, total_minor=1)
    await shop.post(
        f"/v1/subscriptions/{first}/change",
        {"plan_id": half, "at": "2026-03-28T10:00:00Z"},
        expect=200,
    )
    await shop.new_events(ada)
    move = await shop.move_to("2026-03-30")
    assert move["result"]["waits"] == [
        {"what": "billing's guard: due renewal, renewals are stopped", "count": 2},
        {"what": "billing's guard: due scheduled_change, renewals are stopped", "count": 1},
    ]
    [park] = await parks(shop)
    await shop.post(f"/v1/work-items/{park['work_item_id']}/close", {"reason": "seen"}, expect=200)
    await shop.pump.quiet()
    assert await shop.captured() == {"EUR": 2 * 999}
    await limit(shop)
    await release(shop, park["id"])
    # The renewal first, then the change that came after it.
    told = await shop.new_events(ada)
    assert told.count("subscriptions.renew_required") == 2, "before the park and after it"
    assert told.count("subscription.renewed") == 1
    assert told.index("invoice.finalized") < told.index("subscriptions.change_required")
    assert told.index("subscriptions.change_required") < told.index("subscription.changed")
    assert await shop.captured() == {"EUR": 4 * 999}
    assert [total for _, _, total in await shop.invoices(bob)] == [999, 999]
    await shop.check()


async def test_a_change_inside_a_period_whose_renewal_is_held_is_billed_by_parts(shop):
    plan, viewer = await seats_plan(shop), await shop.customer()
    await shop.card(viewer)
    bought = (await shop.subscribe(viewer, plan, quantity="2"))["id"]
    path = f"/v1/subscriptions/{bought}/change"
    await switch(shop, "renewals", True)
    await shop.move_to("2026-03-16T10:00:00")
    await shop.post(path, {"quantity": "4"}, expect=200)
    await shop.move_to("2026-04-10")
    refused = await shop.post(path, {"quantity": "5"}, expect=422)
    assert refused["detail"] == "The renewal of 2026-02-28T10:00:00+00:00 is not billed yet."

    await switch(shop, "renewals", False)
    await shop.pump.quiet()

    # 28 February to 31 March is 31 days: 16 of them with two seats (10.32), 15 with four (19.35).
    assert [total for _, _, total in await shop.invoices(viewer)] == [2000, 2967, 4000]
    await shop.check()
