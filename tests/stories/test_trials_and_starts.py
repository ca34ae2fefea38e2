"""Trials, starts in the past and the future, and what cannot be bought."""

from __future__ import annotations

import pytest

from tests.stories.calendar_world import (
    BOUGHT,
    CONVERTED,
    ENDED,
    LAPSED,
    PAID,
    RENEWED,
    TRIED,
    act,
    lines,
    period,
    ready,
    sold,
)

# Trials -------------------------------------------------------------------------------------------


@pytest.mark.long
async def test_a_trial_grants_access_and_is_paid_from_its_end_on(shop):
    plan, viewer = await ready(shop, trial_days=14)

    bought = await shop.subscribe(viewer, plan)

    assert (bought["status"], bought["latest_invoice_id"]) == ("trialing", None)
    assert bought["trial_end_at"] == "2026-02-14T10:00:00Z"
    assert await shop.new_events(viewer) == TRIED
    assert (await shop.access(viewer))["allowed"]
    upcoming = await shop.get(f"/v1/subscriptions/{bought['id']}/upcoming-invoice")
    assert (upcoming["total_minor"], upcoming["period_start_at"]) == (3100, "2026-02-14T10:00:00Z")
    await shop.check()
    await shop.move_to("2026-02-11T09:59:59")
    assert await shop.new_events(viewer) == []
    await shop.move_to("2026-02-13")
    assert await shop.new_events(viewer) == [
        "subscriptions.trial_reminder_required", "subscription.trial_will_end",
    ]  # fmt: skip
    await shop.move_to("2026-02-15")
    assert await shop.new_events(viewer) == CONVERTED
    assert await lines(shop, viewer) == [
        ("charge", 3100, "2026-02-14T10:00:00Z", "2026-03-14T10:00:00Z")
    ]
    assert (await shop.last_invoice(viewer))["reason"] == "subscription_start"
    found = await shop.get(f"/v1/subscriptions/{bought['id']}")
    assert (found["status"], found["started_at"]) == ("active", "2026-01-31T10:00:00Z")
    await shop.move_to("2026-03-15")
    assert await shop.new_events(viewer) == RENEWED
    assert await shop.captured() == {"EUR": 6200}
    await shop.check()


async def test_a_trial_ends_in_a_stub_where_the_calendar_is_wanted(shop):
    plan, viewer = await ready(shop, trial_days=30)
    bought = await shop.subscribe(
        viewer, plan, trial_until="2026-03-12", billing_anchor={"kind": "calendar"}
    )
    assert bought["trial_end_at"] == "2026-03-11T23:00:00Z"
    await shop.move_to("2026-03-12")
    # 12 to 31 March: 20 of 31 days of 31.00.
    assert await lines(shop, viewer) == [
        ("charge", 2000, "2026-03-11T23:00:00Z", "2026-03-31T22:00:00Z")
    ]
    await shop.move_to("2026-04-01")
    assert await shop.captured() == {"EUR": 5100}
    await shop.check()


async def test_a_payment_that_fails_after_a_trial_is_past_due_and_dunned(shop):
    plan, viewer = await ready(shop, trial_days=5, card=False)
    await shop.card(viewer, "insufficient_funds:2")
    bought = await shop.subscribe(viewer, plan)
    await shop.new_events(viewer)
    await shop.move_to("2026-02-06")
    told = await shop.new_events(viewer)
    assert told[2:] == [
        "subscriptions.renew_required", "subscription.trial_ended", "invoice.finalized",
        "payment.failed", "subscription.past_due", "dunning.retry_scheduled",
        "entitlement.granted",
    ]  # fmt: skip
    assert await shop.status(bought["id"]) == "past_due"
    await shop.move_to("2026-02-16")
    assert await shop.status(bought["id"]) == "active"
    assert "subscription.activated" in await shop.new_events(viewer)
    assert await shop.captured() == {"EUR": 3100}
    await shop.check()


async def test_a_trial_without_a_payment_method_goes_past_due_or_ends(shop):
    plan, viewer = await ready(shop, trial_days=5, card=False)
    await shop.card(await shop.customer("another"))
    owing = await shop.subscribe(viewer, plan)
    ending = await shop.subscribe(viewer, plan, trial_end_behavior="cancel")
    await shop.move_to("2026-02-06")
    assert await shop.status(owing["id"]) == "past_due"
    found = await shop.get(f"/v1/subscriptions/{ending['id']}")
    assert (found["status"], found["end_reason"]) == ("canceled", "trial_lapsed")
    assert found["latest_invoice_id"] is None
    assert len(await shop.invoices(viewer)) == 1
    await shop.check()


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.long
async def test_a_card_saved_in_the_trial_pays_after_it_unless_it_is_detached(shop, keeps):
    plan, viewer = await ready(shop, trial_days=5, card=False)
    bought = await shop.subscribe(viewer, plan, trial_end_behavior="cancel")
    card = await shop.card(viewer)
    if not keeps:
        assert (await shop.raw("DELETE", f"/v1/payment-methods/{card}")).status_code == 204
    await shop.new_events(viewer)
    await shop.move_to("2026-02-06")
    told = await shop.new_events(viewer)
    assert told[2:] == (CONVERTED if keeps else LAPSED)
    assert await shop.status(bought["id"]) == ("active" if keeps else "canceled")
    assert await shop.captured() == ({"EUR": 3100} if keeps else {})
    assert (await shop.access(viewer))["allowed"] is keeps
    await shop.check()


async def test_a_trial_may_take_a_card_to_begin(shop):
    plan, viewer = await ready(shop, trial_days=14, trial_requires_payment_method=True, card=False)
    body = {"customer_id": viewer, "plan_id": plan}
    for path in ("/v1/subscriptions", "/v1/subscriptions/preview"):
        refused = await shop.post(path, body, expect=422)
        assert (
            refused["code"],
            refused["errors"][0]["pointer"] if "errors" in refused else refused["pointer"],
        ) == ("payment_method_required", "/payment_method_id")
    assert await shop.new_events(viewer) == []
    await shop.card(viewer)
    bought = await shop.subscribe(viewer, plan)
    assert bought["status"] == "trialing"
    paid = await shop.subscribe(viewer, plan, trial_days=0)
    assert paid["status"] == "active"
    version = await shop.post(f"/v1/plans/{plan}/versions", {"prices": [
        {"code": "base", "currency": "EUR", "model": "flat", "amount_minor": 1,
         "interval": {"unit": "month"}}]})  # fmt: skip
    assert version["latest"]["trial_days"] == 14
    assert version["latest"]["trial_requires_payment_method"] is True
    await shop.check()


@pytest.mark.parametrize("when", ["now", "period_end"])
@pytest.mark.long
async def test_a_trial_that_is_canceled_bills_nothing(shop, when):
    plan, viewer = await ready(shop, trial_days=14)
    bought = await shop.subscribe(viewer, plan)
    await shop.new_events(viewer)
    await shop.move_to("2026-02-02")
    body = {"when": when, "credit_unused": when == "now"}
    canceled = await act(shop, bought["id"], "cancel", body)
    if when == "period_end":
        assert (canceled["status"], canceled["cancel_at"]) == ("trialing", "2026-02-14T10:00:00Z")
        assert await shop.new_events(viewer) == ["subscription.changed"]
        kept = await act(shop, bought["id"], "undo-cancel", None)
        assert kept["cancel_at"] is None
        await act(shop, bought["id"], "cancel", body)
        await shop.new_events(viewer)
    await shop.move_to("2026-03-15")
    told = await shop.new_events(viewer)
    # The reminder is due, and not told: what is canceled needs none.
    waited = ["subscriptions.trial_reminder_required", "subscriptions.cancel_required"]
    assert told == ([*waited, *ENDED] if when == "period_end" else ENDED)
    assert await shop.status(bought["id"]) == "canceled"
    assert await shop.invoices(viewer) == []
    assert not (await shop.access(viewer))["allowed"]
    await shop.check()


async def test_a_change_in_the_trial_bills_nothing_and_the_trial_runs_on(shop):
    plan, viewer = await ready(shop, trial_days=14)
    yearly = await sold(shop, "yearly", amount=36500, unit="year")
    bought = await shop.subscribe(viewer, plan, billing_anchor={"kind": "calendar"})
    await shop.new_events(viewer)
    await shop.move_to("2026-02-02")
    await act(shop, bought["id"], "change", {"quantity": "3"})
    changed = await act(shop, bought["id"], "change", {"plan_id": yearly, "quantity": "1"})
    assert (changed["status"], changed["trial_end_at"]) == ("trialing", "2026-02-14T10:00:00Z")
    assert changed["current_period_end_at"] == "2026-02-14T10:00:00Z"
    told = await shop.new_events(viewer)
    assert [each for each in told if not each.startswith("entitlement.")] == (
        ["subscription.changed"] * 2
    )
    await act(shop, bought["id"], "change", {"quantity": "2", "at": "period_end"})
    await shop.move_to("2026-02-15")
    # 14 February to 31 December: 321 of 365 days of two years' price, aligned to the calendar.
    assert await lines(shop, viewer) == [
        ("charge", 64200, "2026-02-14T10:00:00Z", "2026-12-31T23:00:00Z")
    ]
    assert len(await shop.invoices(viewer)) == 1
    await shop.check()


# Starts -------------------------------------------------------------------------------------------


async def test_a_start_in_the_past_bills_all_periods_at_once(shop):
    plan, viewer = await ready(shop)
    await shop.move_to("2026-03-10T12:00:00")
    bought = await shop.subscribe(viewer, plan, start_at="2025-12-31T11:00:00Z")
    assert await lines(shop, viewer) == [
        ("charge", 3100, "2025-12-31T11:00:00Z", "2026-01-31T11:00:00Z"),
        ("charge", 3100, "2026-01-31T11:00:00Z", "2026-02-28T11:00:00Z"),
        ("charge", 3100, "2026-02-28T11:00:00Z", "2026-03-31T10:00:00Z"),
    ]
    assert (bought["status"], bought["started_at"]) == ("active", "2025-12-31T11:00:00Z")
    assert await period(shop, bought["id"]) == ("2026-02-28T11:00:00Z", "2026-03-31T10:00:00Z")
    assert await shop.new_events(viewer) == BOUGHT
    await shop.check()
    # A change reaches back into a period that was billed with others.
    await act(shop, bought["id"], "change", {"quantity": "2", "at": "2026-02-28T11:00:00Z"})
    assert sum(line[1] for line in await lines(shop, viewer)) == 3100
    await shop.move_to("2026-04-01")
    assert await shop.captured() == {"EUR": 9300 + 3100 + 6200}
    await shop.check()


async def test_a_discount_of_two_periods_ends_inside_a_backdated_invoice(shop):
    plan, viewer = await ready(shop)
    off = await shop.post(
        "/v1/discounts",
        {"code": "half", "name": "Half", "percent": "50", "duration": "periods", "periods": 2},
    )
    await shop.subscribe(viewer, plan, start_at="2025-11-30T11:00:00Z", discount_ids=[off["id"]])
    assert [line[1] for line in await lines(shop, viewer)] == [1550, 1550, 3100]
    await shop.check()


async def test_a_start_in_the_future_is_billed_then(shop):
    plan, viewer = await ready(shop)
    bought = await shop.subscribe(
        viewer, plan, start_at="2026-03-15T00:00:00+01:00", billing_anchor={"kind": "day", "day": 1}
    )
    assert (bought["status"], bought["started_at"]) == ("pending", "2026-03-14T23:00:00Z")
    assert await shop.new_events(viewer) == ["subscription.created"]
    assert not (await shop.access(viewer))["allowed"]
    await shop.check()
    await shop.move_to("2026-03-16")
    assert await shop.new_events(viewer) == [
        "subscriptions.renew_required", "subscription.started", *PAID, "subscription.activated",
        "entitlement.granted",
    ]  # fmt: skip
    # 15 to 31 March: 17 of 31 days.
    assert await lines(shop, viewer) == [
        ("charge", 1700, "2026-03-14T23:00:00Z", "2026-03-31T22:00:00Z")
    ]
    await shop.check()


@pytest.mark.long
async def test_a_start_in_the_future_may_begin_with_a_trial_and_be_changed_before(shop):
    plan, viewer = await ready(shop, trial_days=7)
    bought = await shop.subscribe(viewer, plan, start_at="2026-03-01T10:00:00Z")
    assert (bought["status"], bought["trial_end_at"]) == ("pending", "2026-03-08T10:00:00Z")
    upcoming = await shop.get(f"/v1/subscriptions/{bought['id']}/upcoming-invoice")
    assert (upcoming["total_minor"], upcoming["period_start_at"]) == (3100, "2026-03-08T10:00:00Z")
    changed = await act(shop, bought["id"], "change", {"quantity": "2"})
    assert changed["scheduled_change"]["effective_at"] == "2026-03-01T10:00:00Z"
    await shop.new_events(viewer)
    await shop.move_to("2026-03-02")
    told = await shop.new_events(viewer)
    assert told == [
        "subscriptions.change_required", "subscription.changed",
        "subscriptions.renew_required", "subscription.trial_started", "entitlement.granted",
    ]  # fmt: skip
    assert await shop.status(bought["id"]) == "trialing"
    await shop.check()
    await shop.move_to("2026-03-09")
    assert await shop.captured() == {"EUR": 6200}
    await shop.check()


async def test_a_start_that_is_canceled_before_bills_nothing(shop):
    plan, viewer = await ready(shop)
    for when in ("now", "period_end"):
        bought = await shop.subscribe(viewer, plan, start_at="2026-03-01T10:00:00Z")
        await shop.new_events(viewer)
        await act(shop, bought["id"], "cancel", {"when": when})
        assert await shop.new_events(viewer) == ["subscription.canceled"]
    await shop.move_to("2026-03-02")
    assert await shop.new_events(viewer) == []
    assert await shop.invoices(viewer) == []
    await shop.check()


# What cannot be -----------------------------------------------------------------------------------


async def test_what_cannot_be_bought_is_told(shop):
    plan, viewer = await ready(shop)
    daily = await sold(shop, "daily", unit="day")
    weekly = await sold(shop, "weekly", unit="week")
    for body, code in (
        ({"start_at": "2031-02-01T10:00:00Z"}, "start_out_of_range"),
        ({"start_at": "2024-01-31T09:00:00Z"}, "start_out_of_range"),
        ({"start_at": "1969-12-31T23:59:59Z"}, "start_out_of_range"),
        ({"start_at": "9999-12-31T23:59:59Z"}, "start_out_of_range"),
        ({"start_at": "0001-01-01T00:00:00Z"}, "start_out_of_range"),
        ({"start_at": "2025-12-01T10:00:00Z", "plan_id": daily}, "start_out_of_range"),
        ({"start_at": "tomorrow"}, "invalid_request"),
        ({"trial_days": -1}, "invalid_request"),
        ({"trial_days": 1101}, "invalid_request"),
        ({"trial_days": True}, "invalid_request"),
        ({"trial_days": 3, "trial_until": "2026-03-01"}, "invalid_request"),
        ({"trial_until": "2026-01-31"}, "invalid_request"),
        ({"trial_until": "2036-01-31"}, "invalid_request"),
        ({"trial_until": "2026-02-30"}, "invalid_request"),
        ({"trial_until": 1}, "invalid_request"),
        ({"trial_end_behavior": "pause"}, "invalid_request"),
        ({"first_period": "half"}, "invalid_request"),
        ({"billing_anchor": {"kind": "moon"}}, "invalid_request"),
        ({"billing_anchor": {"kind": "day"}}, "invalid_request"),
        ({"billing_anchor": {"kind": "day", "day": 32}}, "invalid_request"),
        ({"billing_anchor": {"kind": "day", "day": 31, "month": 2}}, "invalid_request"),
        ({"billing_anchor": {"kind": "calendar", "day": 3}}, "invalid_request"),
        ({"billing_anchor": {"kind": "day", "day": 8}, "plan_id": weekly}, "invalid_request"),
        ({"billing_anchor": {"kind": "day", "day": 1, "month": 1}, "plan_id": weekly},
         "invalid_request"),
        ({"billing_anchor": "calendar"}, "invalid_request"),
    ):  # fmt: skip
        whole = {"customer_id": viewer, "plan_id": plan, **body}
        for path in ("/v1/subscriptions", "/v1/subscriptions/preview"):
            answer = await shop.raw("POST", path, json=whole)
            assert (answer.status_code, answer.json()["code"]) == (422, code), (body, answer.text)
    assert await shop.new_events(viewer) == []
    assert (await shop.get("/v1/subscriptions"))["data"] == []
    for trial in (-1, 1101, "7", 1.5):
        refused = await shop.raw("POST", "/v1/plans", json={
            "code": "t", "name": "T", "product_id": "prod_01h455vb4pex5vsknk084sn02q",
            "prices": [], "trial_days": trial})  # fmt: skip
        assert refused.status_code == 422
    await shop.check()


@pytest.mark.long
async def test_an_anchor_that_cannot_be_is_told(shop):
    plan, viewer = await ready(shop)
    weekly = await sold(shop, "weekly", unit="week")
    bought = await shop.subscribe(viewer, plan, billing_anchor={"kind": "day", "day": 20})
    for verb, body, code in (
        ("change-anchor", {}, "invalid_request"),
        ("change-anchor", {"billing_anchor": {"kind": "day"}}, "invalid_request"),
        ("change-anchor", {"billing_anchor": {"kind": "calendar"}, "when": "later"},
         "invalid_request"),
        ("change", {"plan_id": weekly}, "billing_anchor_does_not_fit"),
        ("preview-change", {"plan_id": weekly}, "billing_anchor_does_not_fit"),
        ("change", {"billing_anchor": {"kind": "calendar"}, "at": "2026-01-31T10:00:00Z"},
         "change_out_of_range"),
    ):  # fmt: skip
        await shop.move_to("2026-02-01")
        refused = await act(shop, bought["id"], verb, body, 422)
        assert refused["code"] == code, refused
    changed = await act(
        shop, bought["id"], "change",
        {"plan_id": weekly, "billing_anchor": {"kind": "calendar"}},
    )  # fmt: skip
    assert changed["current_period_end_at"] == "2026-02-01T23:00:00Z"
    gone = "/v1/subscriptions/sub_01h455vb4pex5vsknk084sn02q/change-anchor"
    await shop.post(gone, {"billing_anchor": {"kind": "calendar"}}, expect=404)
    await shop.check()


async def test_the_same_purchase_twice_is_one_also_when_it_waits(shop):
    plan, viewer = await ready(shop, trial_days=7)
    body = {"customer_id": viewer, "plan_id": plan}
    first = await shop.post("/v1/subscriptions", body, Idempotency_Key="once")
    again = await shop.post("/v1/subscriptions", body, Idempotency_Key="once")
    assert first["id"] == again["id"]
    assert await shop.new_events(viewer) == TRIED
    path = f"/v1/subscriptions/{first['id']}/change-anchor"
    body = {"billing_anchor": {"kind": "calendar"}, "when": "now"}
    for _ in range(2):
        await shop.post(path, body, expect=200, Idempotency_Key="hang")
    assert await shop.new_events(viewer) == ["subscription.changed"]
    await shop.check()
