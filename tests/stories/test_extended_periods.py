"""Pauses that extend a period: all that was paid for is served, by days or to the second."""

from __future__ import annotations

import pytest

from tests.stories.shop import seats_plan
from tests.stories.test_changes import CHANGED, HALF, RENEWED, change, lines
from tests.stories.test_pauses import DUE, PAUSED, RESUMED, allowed, pause, preview, resume

pytestmark = pytest.mark.long


async def test_what_was_paid_for_is_served_after_the_pause(seats):
    shop, viewer, subscription = seats
    await shop.move_to(HALF)
    assert (await preview(shop, subscription, "pause", credit="extend"))[0] == 0
    await pause(shop, subscription, credit="extend", resume_at="2026-03-26T10:00:00Z")
    assert await shop.new_events(viewer) == PAUSED
    assert not await allowed(shop, viewer)
    await shop.move_to("2026-03-25")
    assert await shop.new_events(viewer) == [], "no renewal on 28 February"
    assert (await preview(shop, subscription, "resume"))[1] == "2026-04-08T09:00:00Z"
    await shop.check()

    await shop.move_to("2026-03-27")

    assert await shop.new_events(viewer) == [DUE, *RESUMED]
    found = await shop.get(f"/v1/subscriptions/{subscription}")
    # 40 local days of pause: 28 February becomes 9 April, at the same hour of a summer day.
    assert found["current_period_start_at"] == "2026-01-31T10:00:00Z"
    assert found["current_period_end_at"] == "2026-04-09T09:00:00Z"
    assert await allowed(shop, viewer)
    upcoming = await shop.get(f"/v1/subscriptions/{subscription}/upcoming-invoice")
    assert (upcoming["total_minor"], upcoming["period_end_at"]) == (2000, "2026-05-09T09:00:00Z")
    await shop.check()
    await shop.move_to("2026-04-10")
    assert await shop.new_events(viewer) == RENEWED
    found = await shop.get(f"/v1/subscriptions/{subscription}")
    assert found["current_period_end_at"] == "2026-05-09T09:00:00Z"
    assert await shop.captured() == {"EUR": 4000}
    await shop.check()
    await shop.move_to("2026-05-10")
    assert await shop.captured() == {"EUR": 6000}
    await shop.check()


@pytest.fixture
async def extended(seats):
    """A period of 28 days, half of it served, then ten days of pause: it ends on 10 March."""
    shop, viewer, subscription = seats
    await shop.move_to(HALF)
    await pause(shop, subscription, credit="extend")
    await shop.move_to("2026-02-24T10:00:00")
    resumed = await resume(shop, subscription)
    assert resumed["current_period_end_at"] == "2026-03-10T10:00:00Z"
    await shop.move_to("2026-03-03T10:00:00")
    await shop.new_events(viewer)
    return shop, viewer, subscription


async def test_a_change_in_an_extended_period_counts_the_days_that_were_paid(extended):
    shop, viewer, subscription = extended
    await change(shop, subscription, quantity="3")
    assert await shop.new_events(viewer) == CHANGED
    # Seven of 28 days are left.
    assert await lines(shop, viewer) == (250, [("credit", -500), ("charge", 750)])
    await shop.check()
    await change(shop, subscription, quantity="2", settle="now")
    assert (await shop.last_invoice(viewer))["credited_minor"] == 250
    await shop.check()
    await shop.move_to("2026-03-11")
    assert await lines(shop, viewer) == (2000, [("charge", 2000)])
    found = await shop.get(f"/v1/subscriptions/{subscription}")
    assert found["current_period_end_at"] == "2026-04-10T09:00:00Z"
    assert await shop.captured() == {"EUR": 2000 + 250 + 1750}
    await shop.check()


async def test_a_change_that_waits_in_an_extended_period_is_on_the_next_invoice(extended):
    shop, viewer, subscription = extended
    await change(shop, subscription, quantity="1")
    upcoming = await shop.get(f"/v1/subscriptions/{subscription}/upcoming-invoice")
    assert upcoming["total_minor"] == 750
    await shop.move_to("2026-03-11")
    assert await lines(shop, viewer) == (
        750, [("credit", -500), ("charge", 250), ("charge", 1000)],
    )  # fmt: skip
    await shop.check()


async def test_another_interval_ends_an_extended_period(extended):
    shop, viewer, subscription = extended
    yearly = await seats_plan(shop, "yearly", amount="9000", unit="year")
    await change(shop, subscription, plan_id=yearly)
    assert await lines(shop, viewer) == (17500, [("credit", -500), ("charge", 18000)])
    found = await shop.get(f"/v1/subscriptions/{subscription}")
    assert found["current_period_end_at"] == "2027-03-03T10:00:00Z"
    await shop.check()


async def test_another_interval_at_the_end_of_an_extended_period(extended):
    shop, viewer, subscription = extended
    yearly = await seats_plan(shop, "yearly", amount="9000", unit="year")
    await change(shop, subscription, plan_id=yearly, at="period_end")
    await shop.move_to("2026-03-11")
    assert await lines(shop, viewer) == (18000, [("charge", 18000)])
    found = await shop.get(f"/v1/subscriptions/{subscription}")
    assert found["current_period_end_at"] == "2027-03-10T10:00:00Z"
    await shop.check()


async def test_an_extended_period_is_given_back_by_the_days_that_were_paid(extended):
    shop, viewer, subscription = extended
    await shop.post(
        f"/v1/subscriptions/{subscription}/cancel", {"when": "now", "credit_unused": True},
        expect=200,
    )  # fmt: skip
    assert (await shop.last_invoice(viewer))["credited_minor"] == 500
    await shop.check()


async def test_an_extended_period_is_extended_again(extended):
    shop, viewer, subscription = extended
    await pause(shop, subscription, credit="extend")
    await shop.move_to("2026-03-20T20:00:00")
    resumed = await resume(shop, subscription)
    assert resumed["current_period_end_at"] == "2026-03-27T10:00:00Z"
    await shop.check()
    await shop.move_to("2026-03-23T10:00:00")
    await change(shop, subscription, quantity="3")
    # Four of 28 days are left.
    assert await lines(shop, viewer) == (143, [("credit", -286), ("charge", 429)])
    await shop.check()
    await shop.move_to("2026-03-28")
    assert await lines(shop, viewer) == (3000, [("charge", 3000)])
    await shop.check()


@pytest.mark.parametrize("credit", ["credit", "none"])
@pytest.mark.parametrize("until", ["2026-03-05T10:00:00", "2026-03-15T10:00:00"])
async def test_an_extended_period_is_paused_otherwise(extended, credit, until):
    shop, viewer, subscription = extended
    await pause(shop, subscription, credit=credit)
    await shop.check()
    await shop.move_to(until)
    await resume(shop, subscription)
    await shop.check()
    found = await shop.get(f"/v1/subscriptions/{subscription}")
    if until < "2026-03-10":
        assert found["current_period_end_at"] == "2026-03-10T10:00:00Z"
        # Of the seven days that were given back five are charged again.
        assert await lines(shop, viewer) == (
            (357, [("charge", 357)]) if credit == "credit" else (2000, [("charge", 2000)])
        )
        await shop.move_to("2026-03-11")
        assert await lines(shop, viewer) == (2000, [("charge", 2000)])
        found = await shop.get(f"/v1/subscriptions/{subscription}")
    else:
        # 26 of the 31 days from 10 March, where the next cycle hangs.
        assert await lines(shop, viewer) == (1677, [("charge", 1677)])
    assert found["current_period_end_at"] == "2026-04-10T09:00:00Z"
    await shop.check()


async def test_to_the_second(shop):
    plan, viewer = await seats_plan(shop), await shop.customer()
    await shop.card(viewer)
    bought = await shop.subscribe(viewer, plan, proration="second")
    await shop.move_to(HALF)
    await pause(shop, bought["id"], credit="extend")
    await shop.move_to("2026-02-16T16:30:15")
    resumed = await resume(shop, bought["id"])
    assert resumed["current_period_end_at"] == "2026-03-02T16:30:15Z"
    await shop.check()
    await shop.move_to("2026-02-23T16:30:15")
    await change(shop, bought["id"], quantity="2")
    assert await lines(shop, viewer) == (250, [("credit", -250), ("charge", 500)])
    await shop.check()


async def test_a_change_for_the_period_s_end_moves_with_it(seats):
    shop, viewer, subscription = seats
    await change(shop, subscription, quantity="5", at="period_end")
    await shop.move_to(HALF)
    await pause(shop, subscription, credit="extend")
    await shop.move_to("2026-03-04T10:00:00")
    resumed = await resume(shop, subscription)
    assert resumed["scheduled_change"]["effective_at"] == "2026-03-18T10:00:00Z"
    await shop.move_to("2026-03-19")
    assert await lines(shop, viewer) == (5000, [("charge", 5000)])
    await shop.check()


async def mixed_plan(shop):
    """Ten a month, and a base for a year, beside each other."""
    product = await shop.post("/v1/products", {"code": "m", "name": "M", "resources": ["film:a"]})
    prices = [
        {"code": "seat", "currency": "EUR", "model": "flat", "amount_minor": 1000,
         "interval": {"unit": "month", "count": 1}},
        {"code": "base", "currency": "EUR", "model": "flat", "amount_minor": 36500,
         "interval": {"unit": "year", "count": 1}},
    ]  # fmt: skip
    made = await shop.post(
        "/v1/plans", {"code": "m", "name": "M", "product_id": product["id"], "prices": prices}
    )
    return made["id"]


@pytest.fixture
async def mixed(shop):
    viewer = await shop.customer()
    await shop.card(viewer)
    bought = await shop.subscribe(viewer, await mixed_plan(shop))
    await shop.move_to(HALF)
    await shop.new_events(viewer)
    return shop, viewer, bought["id"]


async def test_a_yearly_price_beside_is_given_back_and_charged_anew(mixed):
    shop, viewer, subscription = mixed
    await pause(shop, subscription, credit="credit")
    # Fourteen of 28 days, and 351 of 365.
    assert (await shop.last_invoice(viewer))["credited_minor"] == 500 + 35100
    await shop.move_to("2026-02-21T10:00:00")
    await resume(shop, subscription)
    assert sorted((await lines(shop, viewer))[1]) == [("charge", 250), ("charge", 34400)]
    await shop.check()
    await shop.move_to("2026-03-01")
    assert await lines(shop, viewer) == (1000, [("charge", 1000)])
    await shop.check()


async def test_a_yearly_price_beside_goes_on_in_a_later_month(mixed):
    shop, viewer, subscription = mixed
    await pause(shop, subscription, credit="credit")
    await shop.move_to("2026-03-14T10:00:00")
    await resume(shop, subscription)
    # 17 of 31 days, and 323 of 365.
    assert sorted((await lines(shop, viewer))[1]) == [("charge", 548), ("charge", 32300)]
    await shop.check()


async def test_a_yearly_price_beside_is_not_forfeited_twice(mixed):
    shop, viewer, subscription = mixed
    await pause(shop, subscription, credit="none")
    await shop.move_to("2026-03-14T10:00:00")
    await resume(shop, subscription)
    assert await lines(shop, viewer) == (548, [("charge", 548)])
    await shop.check()


async def test_a_yearly_price_beside_is_settled_where_the_extended_month_ends(mixed):
    shop, viewer, subscription = mixed
    await pause(shop, subscription, credit="extend")
    await shop.move_to("2026-02-24T10:00:00")
    await resume(shop, subscription)
    await shop.check()
    await shop.move_to("2026-03-11")
    # 28 of its 365 days were served; a new year begins with the new cycle.
    total, made = await lines(shop, viewer)
    assert (total, sorted(made)) == (
        3800, [("charge", 1000), ("charge", 36500), ("credit", -33700)],
    )  # fmt: skip
    await shop.check()


async def test_a_calendar_anchor_finds_its_day_again(shop):
    plan, viewer = await seats_plan(shop), await shop.customer()
    await shop.card(viewer)
    bought = await shop.subscribe(viewer, plan, billing_anchor={"kind": "calendar"})
    await shop.move_to("2026-02-15T10:00:00")
    await pause(shop, bought["id"], credit="extend")
    await shop.move_to("2026-02-20T10:00:00")
    resumed = await resume(shop, bought["id"])
    assert resumed["current_period_end_at"] == "2026-03-05T23:00:00Z"
    await shop.move_to("2026-03-06")
    # A stub of 26 of March's 31 days, from 6 March in Berlin.
    assert await lines(shop, viewer) == (839, [("charge", 839)])
    found = await shop.get(f"/v1/subscriptions/{bought['id']}")
    assert found["current_period_end_at"] == "2026-03-31T22:00:00Z"
    await shop.check()


async def test_a_resumption_with_nothing_left_says_that_the_renewal_follows(seats):
    """Paused at the period's end to be served later, there is nothing to serve: the preview says
    so, and the next month is billed in the moment of the resumption."""
    shop, viewer, subscription = seats
    asked = {"at": "period_end", "credit": "extend"}
    await shop.post(f"/v1/subscriptions/{subscription}/pause", asked, expect=200)
    await shop.move_to("2026-03-10T10:00:00")
    await shop.new_events(viewer)
    path = f"/v1/subscriptions/{subscription}"
    seen = [
        await shop.post(f"{path}/preview-resume", {"at": at}, expect=200)
        for at in ("now", "2026-03-12T10:00:00Z")
    ]
    assert [(p["period_is_over"], p["is_scheduled"], p["lines"]) for p in seen] == [
        (True, False, []), (False, True, []),
    ]  # fmt: skip

    await shop.post(f"{path}/resume", {"at": "now"}, expect=200)

    assert await shop.new_events(viewer) == [
        "subscription.resumed", "entitlement.granted", "subscriptions.renew_required",
        "invoice.finalized", "payment.succeeded", "invoice.paid", "subscription.renewed",
        "entitlement.granted",
    ]  # fmt: skip
    last = await shop.last_invoice(viewer)
    assert (last["reason"], last["total_minor"]) == ("renewal", 2000)
    await shop.check()
