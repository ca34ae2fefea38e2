"""Dunning as data: policies by segment, other methods, last steps, and all of it shown ahead."""

from __future__ import annotations

import pytest

from tests.stories.test_first_main_job import RENEWED

DAY = 86_400
RETRY, FAILED = "payments.retry_required", "payment.failed"
PLANNED, LAST = "dunning.retry_scheduled", "dunning.final_step_scheduled"
REFUSED = ["subscriptions.renew_required", "invoice.finalized", FAILED]
PAST_DUE = [*REFUSED, "subscription.past_due", PLANNED, "entitlement.granted"]
ENDING = [*REFUSED, "subscription.past_due", LAST]
RECOVERED = RENEWED[2:]
PLAIN = {"delays_s": [DAY], "final_action": "uncollectible", "hard_decline_stops": True}


async def put(shop, path="/v1/dunning-policy", expect=200, **changes):
    answer = await shop.raw("PUT", path, json=PLAIN | changes)
    assert answer.status_code == expect, answer.text
    return answer.json()


async def owing(shop, kind, *, amount=999, **more):
    """A subscription whose renewal of 28 February, 10:00 UTC, the default card declines."""
    plan = shop.plans.get("basic") or await shop.plan(amounts={"EUR": amount})
    viewer = await shop.customer(**more)
    good = await shop.card(viewer)
    bought = await shop.subscribe(viewer, plan)
    bad = await shop.card(viewer, kind)
    await shop.new_events(viewer)
    return viewer, bought["id"], good, bad


async def dunning(shop, subscription, **query):
    await shop.pump.woken()
    return await shop.get(f"/v1/subscriptions/{subscription}/dunning", **query)


def steps(ahead):
    """What, how sure, the customer's clock, and the retry's number or the last action."""
    return [
        (each["kind"], each["status"], each["local_at"], each["number"] or each["action"])
        for each in ahead
    ]


@pytest.mark.long
async def test_each_class_has_its_delays_and_hours_are_the_customers_over_a_clock_change(shop):
    await put(
        shop,
        delays_by_class_s={"insufficient_funds": [28 * DAY, 2 * DAY]},
        preferred={"hour": 9, "weekdays": [1, 2, 3, 4, 5, 7]},
    )
    viewer, subscription, _, bad = await owing(shop, "insufficient_funds:3")
    before = await dunning(shop, subscription)
    # A soft decline now, on Saturday 31 January at 11:00, is tried a day later, on the next 9:00.
    assert before["timezone"] == "Europe/Berlin"
    assert before["policy"] == {"id": None, "name": "default", "version": 1}
    assert before["invoices"] == []
    assert steps(before["if_a_payment_failed_now"]) == [
        ("retry", "expected", "2026-02-02T09:00:00+01:00", 1),
        ("final_step", "expected", "2026-02-02T09:00:00+01:00", "uncollectible"),
    ]
    assert before["if_a_payment_failed_now"][0]["payment_method_id"] == bad

    await shop.move_to("2026-03-01")

    [owed] = (await dunning(shop, subscription))["invoices"]
    assert owed["amount_minor"] == 999
    assert owed["failures"] == [
        {"at": "2026-02-28T10:00:00Z", "decline": "insufficient_funds",
         "code": "insufficient_funds", "counted": True, "payment_method_id": bad}
    ]  # fmt: skip
    # 28 March, 11:00, is past nine: 29 March, 9:00, on which the clocks went forward.
    assert owed["ahead"][0]["at"] == "2026-03-29T07:00:00Z"
    assert steps(owed["ahead"]) == [
        ("retry", "scheduled", "2026-03-29T09:00:00+02:00", 1),
        ("final_step", "expected", "2026-03-29T09:00:00+02:00", "uncollectible"),
    ]
    await shop.move_to("2026-03-29T06:59:59")
    assert await shop.new_events(viewer) == PAST_DUE
    await shop.move_to("2026-03-29T07:00:00")
    assert await shop.new_events(viewer) == [RETRY, FAILED, PLANNED]
    [owed] = (await dunning(shop, subscription))["invoices"]
    # Two days later, Tuesday at nine; then the card has money.
    assert steps(owed["ahead"])[0] == ("retry", "scheduled", "2026-03-31T09:00:00+02:00", 2)
    await shop.move_to("2026-03-31T07:00:00")
    assert (await shop.new_events(viewer))[0] == RETRY
    assert (await dunning(shop, subscription))["invoices"] == []
    assert await shop.captured() == {"EUR": 2 * 999}
    await shop.check()


async def test_the_most_specific_policy_holds(shop):
    await put(shop)
    plan = await shop.plan(amounts={"EUR": 5000})
    for name, segment, delay in (
        ("currency", {"currencies": ["EUR", "USD"]}, 2),
        ("dear", {"amount_above": {"amount_minor": 4999, "currency": "EUR"}}, 3),
        ("dearer", {"amount_above": {"amount_minor": 5000, "currency": "EUR"}}, 4),
        ("plan", {"plan_ids": [plan], "currencies": ["USD"]}, 5),
    ):
        body = PLAIN | {"name": name, "segment": segment, "delays_s": [delay * DAY]}
        made = await shop.post("/v1/dunning-policies", body)
        assert (made["version"], made["segment"]["currencies"]) == (
            1, segment.get("currencies", []),
        )  # fmt: skip
    _, subscription, _, _ = await owing(shop, "soft_decline")
    assert (await dunning(shop, subscription))["policy"]["name"] == "currency"
    asked = await dunning(shop, subscription, amount_minor=5001)
    assert asked["policy"]["name"] == "dearer"
    await shop.move_to("2026-03-01")
    [owed] = (await dunning(shop, subscription))["invoices"]
    assert owed["policy"]["name"] == "dear"
    assert owed["ahead"][0]["at"] == "2026-03-03T10:00:00Z"
    listed = (await shop.get("/v1/dunning-policies", limit=2))["data"]
    assert [each["name"] for each in listed] == ["plan", "dearer"]


async def test_a_collection_goes_on_by_the_policy_it_began_with(shop):
    named = {"name": "slow", "segment": {"currencies": ["EUR"]}}
    made = await shop.post("/v1/dunning-policies", PLAIN | named | {"delays_s": [DAY, DAY]})
    viewer, subscription, _, _ = await owing(shop, "soft_decline")
    await shop.move_to("2026-02-28T12:00:00")
    path = f"/v1/dunning-policies/{made['id']}"
    assert (await put(shop, path, **named, delays_s=[7 * DAY]))["version"] == 2
    assert (await shop.raw("DELETE", path)).status_code == 204

    [owed] = (await dunning(shop, subscription))["invoices"]
    assert owed["policy"] == {"id": made["id"], "name": "slow", "version": 1}
    assert [each[2][:10] for each in steps(owed["ahead"])] == [
        "2026-03-01", "2026-03-02", "2026-03-02",
    ]  # fmt: skip
    await shop.move_to("2026-03-03")
    assert await shop.new_events(viewer) == [
        *PAST_DUE, RETRY, FAILED, PLANNED, RETRY, FAILED, LAST,
        "payments.final_step_required", "invoice.uncollectible",
    ]  # fmt: skip
    assert (await dunning(shop, subscription))["policy"]["name"] == "default"


async def test_a_retry_turns_to_the_next_method_and_passes_over_a_card_that_expired(shop):
    await put(shop, fallback_after=["hard"])
    viewer, subscription, good, bad = await owing(shop, "hard_decline")
    gone = await shop.post(
        "/v1/payment-methods",
        {"customer_id": viewer, "test_kind": "mastercard_ok", "expires_on": "2026-02-27"},
    )
    path = f"/v1/customers/{viewer}/payment-methods/order"
    ordered = await shop.raw("PUT", path, json={"payment_method_ids": [gone["id"], good]})
    assert ordered.json() == {"payment_method_ids": [bad, gone["id"], good]}
    await shop.new_events(viewer)

    await shop.move_to("2026-03-01")

    assert await shop.get(path) == {"payment_method_ids": [bad, good]}
    [owed] = (await dunning(shop, subscription))["invoices"]
    assert [each["payment_method_id"] for each in owed["ahead"]] == [good, None]
    assert await shop.new_events(viewer) == PAST_DUE
    await shop.move_to("2026-03-01T10:00:00")
    assert await shop.new_events(viewer) == [RETRY, *RECOVERED]
    payment = (await shop.get("/v1/payments", customer_id=viewer))["data"][0]
    assert payment["payment_method_id"] == good
    assert await shop.captured() == {"EUR": 2 * 999}
    await shop.check()


async def test_without_another_method_a_hard_decline_ends_it_at_once(shop):
    await put(shop, fallback_after=["hard"])
    viewer, _, good, _ = await owing(shop, "hard_decline")
    assert (await shop.raw("DELETE", f"/v1/payment-methods/{good}")).status_code == 204
    await shop.new_events(viewer)
    await shop.move_to("2026-03-01")
    told = await shop.new_events(viewer)
    assert PLANNED not in told
    assert told[-2:] == ["payments.final_step_required", "invoice.uncollectible"]
    await shop.check()


@pytest.mark.parametrize("how", ["new", "default"])
@pytest.mark.long
async def test_a_new_card_or_default_tries_what_is_past_due_at_once(shop, how):
    await put(shop, delays_s=[5 * DAY])
    viewer, subscription, good, _ = await owing(shop, "soft_decline")
    await shop.move_to("2026-03-01")
    await shop.new_events(viewer)
    if how == "new":
        card = {"customer_id": viewer, "test_kind": "mastercard_ok"}
        method = (await shop.post("/v1/payment-methods", card))["id"]
        said = "payment_method.attached"
    else:
        method = good
        await shop.post(f"/v1/payment-methods/{good}/default", expect=200)
        said = "payment_method.default_changed"
    assert await shop.new_events(viewer) == [said, PLANNED, RETRY, *RECOVERED]
    payment = (await shop.get("/v1/payments", customer_id=viewer))["data"][0]
    assert (payment["payment_method_id"], payment["mode"]) == (method, "automatic")
    assert await shop.status(subscription) == "active"
    await shop.move_to("2026-03-10")
    assert await shop.new_events(viewer) == [], "the retry that waited is the one that was made"
    assert await shop.captured() == {"EUR": 2 * 999}
    await shop.check()


@pytest.mark.long
async def test_a_card_that_comes_while_a_retry_is_under_way_waits_for_its_outcome(shop):
    await put(shop)
    viewer, subscription, _, _ = await owing(shop, "pending_decline")
    await shop.move_to("2026-02-28T14:00:00")  # it was declined some time after it was charged
    [owed] = (await dunning(shop, subscription))["invoices"]
    retry_at = owed["ahead"][0]["at"]
    assert retry_at.startswith("2026-03-01T")
    await shop.move_to(retry_at.removesuffix("Z"))
    [owed] = (await dunning(shop, subscription))["invoices"]
    assert steps(owed["ahead"])[0][:2] == ("retry", "under_way")
    card = {"customer_id": viewer, "test_kind": "visa_ok"}
    method = (await shop.post("/v1/payment-methods", card))["id"]
    assert (await shop.new_events(viewer))[-1] == "payment_method.attached"
    assert await shop.captured() == {"EUR": 999}

    await shop.move_to("2026-03-01T20:00:00")

    told = await shop.new_events(viewer)
    assert told[-len(RECOVERED) - 3 :] == [FAILED, PLANNED, RETRY, *RECOVERED]
    payment = (await shop.get("/v1/payments", customer_id=viewer))["data"][0]
    assert payment["payment_method_id"] == method
    assert await shop.captured() == {"EUR": 2 * 999}
    await shop.check()


@pytest.mark.long
async def test_the_last_step_pauses_and_paying_goes_on(shop):
    await put(shop, delays_s=[], final_action="pause")
    viewer, subscription, _, _ = await owing(shop, "soft_decline")
    await shop.move_to("2026-03-02")
    assert await shop.new_events(viewer) == [
        *ENDING, "entitlement.granted", "payments.final_step_required", "subscription.paused",
        "entitlement.revoked",
    ]  # fmt: skip
    assert await shop.status(subscription) == "paused"
    assert not (await shop.access(viewer))["allowed"]
    assert (await shop.last_invoice(viewer))["status"] == "open"
    [owed] = (await dunning(shop, subscription))["invoices"]
    assert owed["ahead"] == []

    await shop.post("/v1/payment-methods", {"customer_id": viewer, "test_kind": "visa_ok"})

    assert await shop.new_events(viewer) == [
        "payment_method.attached", PLANNED, RETRY, "payment.succeeded", "invoice.paid",
        "subscription.resumed", "entitlement.granted",
    ]  # fmt: skip
    assert await shop.status(subscription) == "active"
    assert (await shop.access(viewer))["valid_until"] == "2026-03-31T09:00:00Z"
    await shop.check()
    await shop.card(viewer)
    await shop.move_to("2026-04-01")
    assert await shop.invoices(viewer) == [
        ("INV-000001", "paid", 999), ("INV-000002", "paid", 999), ("INV-000003", "paid", 999),
    ]  # fmt: skip
    await shop.check()


async def test_the_last_step_moves_to_a_lower_plan_and_the_debt_can_still_be_paid(shop):
    lite = await shop.plan("lite", amounts={"EUR": 100}, resources=("film:b",))
    await put(shop, delays_s=[], final_action="downgrade", downgrade_to_plan_id=lite)
    viewer, subscription, _, _ = await owing(shop, "insufficient_funds:2")

    await shop.move_to("2026-03-02")

    told = await shop.new_events(viewer)
    assert told[: len(ENDING)] == ENDING
    assert sorted(told[len(ENDING) :]) == sorted(
        ["payments.final_step_required", "invoice.uncollectible", "subscription.changed",
         "invoice.finalized", "payment.succeeded", "invoice.paid", "entitlement.revoked",
         "entitlement.granted", "entitlement.granted"]
    )  # fmt: skip
    found = await shop.get(f"/v1/subscriptions/{subscription}")
    assert (found["status"], found["plan_id"]) == ("active", lite)
    assert (found["current_period_start_at"], found["current_period_end_at"]) == (
        "2026-02-28T10:00:00Z", "2026-03-28T10:00:00Z",
    )  # fmt: skip
    assert not (await shop.access(viewer, "film:a"))["allowed"]
    assert (await shop.access(viewer, "film:b"))["allowed"]
    assert await shop.invoices(viewer) == [
        ("INV-000001", "paid", 999), ("INV-000002", "uncollectible", 999),
        ("INV-000003", "paid", 100),
    ]  # fmt: skip
    await shop.check()
    page = await shop.get("/v1/invoices", customer_id=viewer, limit=100)
    [owed] = [each for each in page["data"] if each["status"] == "uncollectible"]
    await shop.post("/v1/payments", {"invoice_id": owed["id"]})
    assert await shop.captured() == {"EUR": 2 * 999 + 100}
    assert (await shop.get(f"/v1/subscriptions/{subscription}"))["plan_id"] == lite
    await shop.check()


async def test_a_last_step_that_is_not_possible_is_left_to_a_person(shop):
    foreign = await shop.plan("dollars", amounts={"USD": 100})
    await put(shop, delays_s=[], final_action="downgrade", downgrade_to_plan_id=foreign)
    viewer, subscription, _, _ = await owing(shop, "soft_decline")
    await shop.move_to("2026-03-01")
    assert (await shop.new_events(viewer))[-2:] == ["invoice.uncollectible", "work_item.opened"]
    [item] = (await shop.get("/v1/work-items"))["data"]
    assert item["kind"] == "dunning_step_refused"
    assert item["data"]["reason"].startswith("price_missing_for_currency")
    assert await shop.status(subscription) == "active"
    await shop.check()


async def test_the_last_step_may_be_none(shop):
    await put(shop, delays_s=[], final_action="none")
    viewer, subscription, _, _ = await owing(shop, "soft_decline")
    await shop.move_to("2026-03-05")
    assert (await shop.new_events(viewer))[-1] == "payments.final_step_required"
    assert await shop.status(subscription) == "past_due"
    assert (await shop.last_invoice(viewer))["status"] == "open"
    await shop.check()


async def test_what_is_no_policy_is_refused_with_its_place(shop):
    plan = await shop.plan()
    for change, code, pointer in (
        ({"delays_by_class_s": {"hard": [91 * DAY]}}, "invalid_request", None),
        ({"since": "first_failure", "delays_s": [2 * DAY, DAY]}, "invalid_policy", "/delays_s"),
        ({"since": "first_failure", "delays_by_class_s": {"soft": [DAY, DAY]}}, "invalid_policy",
         "/delays_by_class_s/soft"),
        ({"max_retries": 21}, "invalid_policy", "/max_retries"),
        ({"preferred": {"hour": 24}}, "invalid_policy", "/preferred/hour"),
        ({"preferred": {"weekdays": [8]}}, "invalid_policy", "/preferred/weekdays"),
        ({"preferred": {"weekdays": [1], "month_days": [1]}}, "invalid_policy", "/preferred"),
        ({"final_action": "downgrade"}, "invalid_policy", "/downgrade_to_plan_id"),
        ({"downgrade_to_plan_id": plan}, "invalid_policy", "/downgrade_to_plan_id"),
        ({"segment": {}}, "invalid_policy", "/segment"),
        ({"segment": {"plan_ids": ["plan_01h455vb4pex5vsknk084sn02q"]}}, "unknown_reference",
         "/segment/plan_ids"),
        ({"name": "default"}, "dunning_policy_name_taken", "/name"),
        ({"name": " "}, "invalid_request", "/name"),
    ):  # fmt: skip
        body = PLAIN | {"name": "p", "segment": {"currencies": ["EUR"]}} | change
        answer = await shop.raw("POST", "/v1/dunning-policies", json=body)
        told = answer.json()
        assert told["code"] == code, (change, told)
        assert pointer in {None, told["pointer"]}, (change, told)
    assert (await shop.get("/v1/dunning-policies"))["data"] == []
    viewer = await shop.customer()
    path = f"/v1/customers/{viewer}/payment-methods/order"
    card = await shop.card(viewer)
    twice = await shop.raw("PUT", path, json={"payment_method_ids": [card, card]})
    assert (twice.status_code, twice.json()["pointer"]) == (422, "/payment_method_ids")
