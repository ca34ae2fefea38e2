"""Where periods begin, another anchor, another zone."""

from __future__ import annotations

import pytest

from tests.stories.calendar_world import BOUGHT, PAID, RENEWED, act, lines, period, ready

# Billing anchors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first_period", "by", "due"),
    [
        ("prorated", "day", 1500),  # 14 to 28 February: 15 of 28 days of 28.00
        ("prorated", "second", 1458),  # 14 days and 14 hours of 28 days
        ("full", "day", 2800),
        ("free", "day", 0),
    ],
)
@pytest.mark.long
async def test_a_stub_up_to_the_first_of_the_month(shop, first_period, by, due):
    plan, viewer = await ready(shop, amount=2800)
    await shop.move_to("2026-02-14T09:00:00")
    wanted = {
        "customer_id": viewer, "plan_id": plan, "billing_anchor": {"kind": "calendar"},
        "first_period": first_period, "proration": by,
    }  # fmt: skip
    seen = await shop.post("/v1/subscriptions/preview", wanted, expect=200)
    first = "incomplete" if due else "active"
    assert (seen["total_minor"], seen["due_now_minor"], seen["status"]) == (due, due, first)
    assert await shop.new_events(viewer) == []

    bought = await shop.post("/v1/subscriptions", wanted)

    assert bought["status"] == "active"
    assert bought["billing_anchor"]["kind"] == "calendar"
    start, end = "2026-02-14T09:00:00Z", "2026-02-28T23:00:00Z"
    assert await lines(shop, viewer) == [("charge", due, start, end)]
    assert await period(shop, bought["id"]) == (start, end)
    free = ["subscription.created", "invoice.finalized", "invoice.paid", "subscription.activated",
            "entitlement.granted"]  # fmt: skip
    assert await shop.new_events(viewer) == (BOUGHT if due else free)
    # March begins in winter time and ends in summer time.
    await shop.move_to("2026-03-31T22:00:00")
    assert await period(shop, bought["id"]) == ("2026-03-31T22:00:00Z", "2026-04-30T22:00:00Z")
    assert await shop.new_events(viewer) == RENEWED * 2
    assert await shop.captured() == {"EUR": due + 5600}
    await shop.check()


@pytest.mark.parametrize(
    ("first_period", "made"),
    [
        ("prorated", [-700, 1400]),  # 7 of 28 days come back, and are charged twice
        ("full", [-1307, 2613]),  # 7 of the stub's 15 days, of a whole period's price
        ("free", []),
    ],
)
@pytest.mark.long
async def test_a_change_inside_a_stub_is_shared_by_what_the_stub_costs(shop, first_period, made):
    plan, viewer = await ready(shop, amount=2800)
    await shop.move_to("2026-02-14T09:00:00")
    bought = await shop.subscribe(
        viewer, plan, billing_anchor={"kind": "calendar"}, first_period=first_period
    )
    await shop.move_to("2026-02-22T09:00:00")
    await act(shop, bought["id"], "change", {"quantity": "2"})
    if made:
        assert [line[1] for line in await lines(shop, viewer)] == made
    await shop.move_to("2026-03-01")
    # A free stub costs nothing after the change either.
    assert sum([line[1] for line in await lines(shop, viewer)]) == 5600
    await shop.check()


@pytest.mark.parametrize(
    ("unit", "count", "anchor", "ends"),
    [
        ("day", 10, {"kind": "start_day"}, ["2026-02-09T23:00", "2026-02-19T23:00"]),
        ("week", 1, {"kind": "calendar"}, ["2026-02-01T23:00", "2026-02-08T23:00"]),
        ("week", 2, {"kind": "day", "day": 5}, ["2026-02-12T23:00", "2026-02-26T23:00"]),
        ("month", 1, {"kind": "day", "day": 31}, ["2026-02-27T23:00", "2026-03-30T22:00"]),
        ("month", 1, {"kind": "anniversary"}, ["2026-02-28T10:00", "2026-03-31T09:00"]),
        ("month", 5, {"kind": "anniversary"}, ["2026-06-30T09:00", "2026-11-30T10:00"]),
        ("quarter", 1, {"kind": "calendar"}, ["2026-03-31T22:00", "2026-06-30T22:00"]),
        ("quarter", 1, {"kind": "day", "day": 10}, ["2026-04-09T22:00", "2026-07-09T22:00"]),
        (
            "quarter",
            1,
            {"kind": "day", "day": 10, "origin": "own_unit"},
            ["2026-04-09T22:00", "2026-07-09T22:00"],
        ),
        ("half_year", 1, {"kind": "anniversary"}, ["2026-07-31T09:00", "2027-01-31T10:00"]),
        ("half_year", 1, {"kind": "calendar"}, ["2026-06-30T22:00", "2026-12-31T23:00"]),
        (
            "year",
            1,
            {"kind": "day", "day": 29, "month": 2},
            ["2026-02-27T23:00", "2027-02-27T23:00"],
        ),
        ("year", 2, {"kind": "anniversary"}, ["2028-01-31T10:00", "2030-01-31T10:00"]),
    ],
)
@pytest.mark.long
async def test_every_unit_and_anchor(shop, unit, count, anchor, ends):
    """From Saturday, 31 January 2026, 11:00 in Berlin."""
    plan, viewer = await ready(shop, unit=unit, count=count)
    bought = await shop.subscribe(viewer, plan, billing_anchor=anchor)
    assert bought["current_period_end_at"] == f"{ends[0]}:00Z"
    await shop.move_to(f"{ends[0]}:00")
    assert await period(shop, bought["id"]) == (f"{ends[0]}:00Z", f"{ends[1]}:00Z")
    assert await lines(shop, viewer) == [("charge", 3100, f"{ends[0]}:00Z", f"{ends[1]}:00Z")]
    await shop.check()


async def test_months_ends_come_back_also_in_a_leap_year(shop):
    plan, viewer = await ready(shop)
    bought = await shop.subscribe(viewer, plan, start_at="2027-12-31T11:00:00Z")
    ends = []
    for moment in ("2027-12-31", "2028-01-31", "2028-02-29", "2028-03-31", "2028-04-30"):
        await shop.move_to(f"{moment}T11:00:00")
        ends.append((await period(shop, bought["id"]))[1])
    assert ends == [
        "2028-01-31T11:00:00Z", "2028-02-29T11:00:00Z", "2028-03-31T10:00:00Z",
        "2028-04-30T10:00:00Z", "2028-05-31T10:00:00Z",
    ]  # fmt: skip
    await shop.check()


async def test_the_last_day_of_the_month_on_request(shop):
    plan, viewer = await ready(shop)
    await shop.move_to("2026-02-28T11:00:00")
    kept = await shop.subscribe(viewer, plan)
    last = await shop.subscribe(
        viewer, plan, billing_anchor={"kind": "anniversary", "month_end": "last_day"}
    )
    assert kept["current_period_end_at"] == "2026-03-28T11:00:00Z"
    assert last["current_period_end_at"] == "2026-03-31T10:00:00Z"
    await shop.check()


# Another anchor, another zone ---------------------------------------------------------------------


async def test_another_anchor_now_gives_back_and_charges_up_to_it(shop):
    plan, viewer = await ready(shop, amount=2800)
    bought = await shop.subscribe(viewer, plan)
    await shop.move_to("2026-02-14T10:00:00")
    await shop.new_events(viewer)
    anchor = {"kind": "day", "day": 1}
    seen = await act(shop, bought["id"], "preview-change", {"billing_anchor": anchor})
    # Half of 31 January to 28 February comes back; 15 of February's 28 days are charged.
    assert (seen["total_minor"], seen["restarts_period"]) == (-1400 + 1500, True)

    changed = await act(
        shop, bought["id"], "change-anchor", {"billing_anchor": anchor, "when": "now"}
    )

    assert changed["billing_anchor"]["kind"] == "day"
    assert await period(shop, bought["id"]) == ("2026-02-14T10:00:00Z", "2026-02-28T23:00:00Z")
    assert await lines(shop, viewer) == [
        ("credit", -1400, "2026-02-14T10:00:00Z", "2026-02-28T10:00:00Z"),
        ("charge", 1500, "2026-02-14T10:00:00Z", "2026-02-28T23:00:00Z"),
    ]
    told = await shop.new_events(viewer)
    assert [each for each in told if each != "entitlement.granted"] == [
        "subscription.changed", *PAID,
    ]  # fmt: skip
    await shop.move_to("2026-03-02")
    assert await period(shop, bought["id"]) == ("2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z")
    assert await shop.captured() == {"EUR": 2800 + 100 + 2800}
    await shop.check()


@pytest.mark.long
async def test_what_another_cycle_billed_is_left_alone(shop):
    """Three cycles and two quantities in a month: each day costs its share of its own period."""
    plan, viewer = await ready(shop, amount=2800)
    await shop.move_to("2026-02-05T10:00:00")
    bought = await shop.subscribe(viewer, plan)
    total = 2800
    for day, verb, body, made in (
        # 19 of 28 days come back; 15 of February's 28 days are charged.
        ("14", "change-anchor", {"billing_anchor": {"kind": "calendar"}, "when": "now"},
         [-1900, 1500]),
        # 9 of 28 days come back, and are charged twice.
        ("20", "change", {"quantity": "2"}, [-900, 1800]),
        # 4 of 28 days of two come back; a whole period of two begins.
        ("25", "change-anchor", {"billing_anchor": {"kind": "anniversary"}, "when": "now"},
         [-800, 5600]),
        # 26 of 28 days of one come back, with the next invoice.
        ("27", "change", {"quantity": "1"}, [-5200, 2600]),
    ):  # fmt: skip
        await shop.move_to(f"2026-02-{day}T12:00:00")
        await act(shop, bought["id"], verb, body)
        if sum(made) > 0:
            assert [line[1] for line in await lines(shop, viewer)] == made
            await shop.check()
        total += sum(made)
    await shop.move_to("2026-03-26")
    # The last change waited for the next invoice, which bills 28.00 for one.
    assert await shop.captured() == {"EUR": total + 2800}
    await shop.check()


async def test_another_anchor_at_the_period_s_end_begins_with_a_stub(shop):
    plan, viewer = await ready(shop)
    bought = await shop.subscribe(viewer, plan)
    waiting = await act(
        shop, bought["id"], "change-anchor", {"billing_anchor": {"kind": "day", "day": 15}}
    )
    assert waiting["scheduled_change"]["billing_anchor"]["day"] == 15
    assert waiting["scheduled_change"]["effective_at"] == "2026-02-28T10:00:00Z"
    await shop.move_to("2026-03-01")
    assert await period(shop, bought["id"]) == ("2026-02-28T10:00:00Z", "2026-03-14T23:00:00Z")
    # 28 February to 14 March: 15 of the 28 days from 15 February on, of 31.00.
    assert await lines(shop, viewer) == [
        ("charge", 1661, "2026-02-28T10:00:00Z", "2026-03-14T23:00:00Z")
    ]
    await shop.move_to("2026-03-16")
    assert await period(shop, bought["id"]) == ("2026-03-14T23:00:00Z", "2026-04-14T22:00:00Z")
    await shop.check()


async def test_another_anchor_on_its_next_day_cuts_the_period_there(shop):
    plan, viewer = await ready(shop, amount=2800)
    bought = await shop.subscribe(viewer, plan)
    waiting = await act(
        shop, bought["id"], "change-anchor",
        {"billing_anchor": {"kind": "day", "day": 14}, "when": "next_grid_day"},
    )  # fmt: skip
    assert waiting["scheduled_change"]["effective_at"] == "2026-02-13T23:00:00Z"
    await shop.move_to("2026-02-14")
    assert await lines(shop, viewer) == [
        ("credit", -1400, "2026-02-13T23:00:00Z", "2026-02-28T10:00:00Z"),
        ("charge", 2800, "2026-02-13T23:00:00Z", "2026-03-13T23:00:00Z"),
    ]
    await shop.check()


async def test_another_anchor_at_a_given_moment(shop):
    plan, viewer = await ready(shop, amount=2800)
    bought = await shop.subscribe(viewer, plan)
    await shop.new_events(viewer)
    body = {"billing_anchor": {"kind": "calendar"}, "at": "2026-02-14T10:00:00Z"}
    seen = await act(shop, bought["id"], "preview-change", body)
    assert (seen["effective_at"], seen["restarts_period"]) == ("2026-02-14T10:00:00Z", True)

    waiting = await act(shop, bought["id"], "change-anchor", body)

    assert waiting["scheduled_change"]["effective_at"] == "2026-02-14T10:00:00Z"
    assert waiting["scheduled_change"]["billing_anchor"]["kind"] == "calendar"
    assert await shop.new_events(viewer) == ["subscription.changed"]
    undone = await act(shop, bought["id"], "undo-change", None)
    assert undone["scheduled_change"] is None
    assert await shop.new_events(viewer) == ["subscription.changed"]
    await act(shop, bought["id"], "change-anchor", body)
    await shop.new_events(viewer)
    await shop.move_to("2026-02-15")
    # Half of 31 January to 28 February comes back; 15 of February's 28 days are charged.
    assert await lines(shop, viewer) == [
        ("credit", -1400, "2026-02-14T10:00:00Z", "2026-02-28T10:00:00Z"),
        ("charge", 1500, "2026-02-14T10:00:00Z", "2026-02-28T23:00:00Z"),
    ]
    told = await shop.new_events(viewer)
    assert [each for each in told if each != "entitlement.granted"] == [
        "subscriptions.change_required", "subscription.changed", *PAID,
    ]  # fmt: skip
    await shop.move_to("2026-03-02")
    assert await period(shop, bought["id"]) == ("2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z")
    assert await shop.captured() == {"EUR": 2800 + 100 + 2800}
    await shop.check()


async def test_a_moment_for_another_anchor_in_a_later_period_and_ones_that_are_refused(shop):
    plan, viewer = await ready(shop, amount=2800)
    bought = await shop.subscribe(viewer, plan)
    anchor = {"billing_anchor": {"kind": "anniversary"}}
    await shop.move_to("2026-02-05")
    past = anchor | {"at": "2026-02-04T10:00:00Z"}
    refused = await act(shop, bought["id"], "change-anchor", past, expect=422)
    assert (refused["code"], refused["pointer"]) == ("change_out_of_range", "/at")
    both = anchor | {"at": "2026-03-14T10:00:00Z", "when": "now"}
    refused = await act(shop, bought["id"], "change-anchor", both, expect=422)
    assert refused["code"] == "invalid_request"
    await shop.new_events(viewer)
    await act(shop, bought["id"], "change-anchor", anchor | {"at": "2026-03-14T10:00:00Z"})
    await shop.move_to("2026-03-15")
    # 17 of the 31 days from 28 February on come back; a whole period begins.
    assert await lines(shop, viewer) == [
        ("credit", -1535, "2026-03-14T10:00:00Z", "2026-03-31T09:00:00Z"),
        ("charge", 2800, "2026-03-14T10:00:00Z", "2026-04-14T09:00:00Z"),
    ]
    await shop.check()


async def test_another_anchor_in_a_trial_hangs_the_first_period_elsewhere(shop):
    plan, viewer = await ready(shop, trial_days=14)
    bought = await shop.subscribe(viewer, plan)
    for when in ("now", "next_grid_day"):
        await act(
            shop, bought["id"], "change-anchor",
            {"billing_anchor": {"kind": "day", "day": 15}, "when": when},
        )  # fmt: skip
    assert await shop.status(bought["id"]) == "trialing"
    await shop.move_to("2026-02-14T12:00:00")
    # One day of the 31 from 15 January on.
    assert await lines(shop, viewer) == [
        ("charge", 100, "2026-02-14T10:00:00Z", "2026-02-14T23:00:00Z")
    ]
    await shop.check()


async def test_an_anchor_that_does_not_fit_the_interval_is_refused_whenever_it_should_begin(shop):
    _, viewer = await ready(shop)
    weekly = await shop.plan("weekly", unit="week")
    bought = await shop.subscribe(viewer, weekly)
    body = {"billing_anchor": {"kind": "day", "day": 15}}
    for when in ("now", "period_end", "next_grid_day"):
        path = f"/v1/subscriptions/{bought['id']}/change-anchor"
        refused = await shop.post(path, body | {"when": when}, expect=422)
        assert (refused["code"], refused["pointer"]) == (
            "billing_anchor_does_not_fit", "/billing_anchor",
        )  # fmt: skip
    await shop.check()


@pytest.mark.long
async def test_a_customer_who_moves_is_counted_in_the_new_zone_from_the_next_boundary(shop):
    plan, viewer = await ready(shop)
    calendar = await shop.subscribe(viewer, plan, billing_anchor={"kind": "calendar"})
    monthly = await shop.subscribe(viewer, plan)
    trial = await shop.subscribe(viewer, plan, trial_days=30)
    await shop.new_events(viewer)
    await shop.move_to("2026-02-10")
    await act(shop, monthly["id"], "change", {"quantity": "2", "settle": "next_invoice"})
    await shop.new_events(viewer)
    moved = await shop.raw(
        "PATCH", f"/v1/customers/{viewer}", json={"timezone": "America/New_York"}
    )
    assert moved.status_code == 200
    assert await shop.new_events(viewer) == ["customer.updated"]
    found = await shop.get(f"/v1/subscriptions/{monthly['id']}")
    assert (found["timezone"], found["current_period_end_at"]) == (
        "Europe/Berlin", "2026-02-28T10:00:00Z",
    )  # fmt: skip
    upcoming = await shop.get(f"/v1/subscriptions/{monthly['id']}/upcoming-invoice")
    # 18 of 28 days of one more seat, and two for the next period.
    assert upcoming["total_minor"] == 1993 + 6200
    # 11:00 in New York is five hours later than in Berlin, in summer time on either side six.
    assert upcoming["period_end_at"] == "2026-03-31T15:00:00Z"

    await shop.move_to("2026-03-04")

    assert await period(shop, monthly["id"]) == ("2026-02-28T10:00:00Z", "2026-03-31T15:00:00Z")
    # Midnight in Berlin still ends February; midnight in New York ends March.
    assert await period(shop, calendar["id"]) == ("2026-02-28T23:00:00Z", "2026-04-01T04:00:00Z")
    found = await shop.get(f"/v1/subscriptions/{calendar['id']}")
    assert found["timezone"] == "America/New_York"
    # A trial keeps its end; the first period after it is counted in the new zone.
    assert await period(shop, trial["id"]) == ("2026-03-02T10:00:00Z", "2026-04-02T09:00:00Z")
    told = await shop.new_events(viewer)
    assert told.count("subscription.changed") == 3
    amounts = [total for _, _, total in await shop.invoices(viewer)]
    assert sorted(amounts)[-3:] == [3100, 3100, 8193]
    await shop.move_to("2026-05-02")
    assert await period(shop, monthly["id"]) == ("2026-04-30T15:00:00Z", "2026-05-31T15:00:00Z")
    assert await period(shop, calendar["id"]) == ("2026-05-01T04:00:00Z", "2026-06-01T04:00:00Z")
    await shop.check()


def beside(unit, amount):
    return {"code": unit, "currency": "EUR", "model": "per_unit", "unit_amount": str(amount),
            "interval": {"unit": unit}}  # fmt: skip


async def test_prices_of_several_intervals_move_when_all_of_them_begin_anew(shop):
    plan, viewer = await ready(shop, prices=[beside("month", 3100), beside("quarter", 9000)])
    bought = await shop.subscribe(viewer, plan)
    answer = await shop.raw("PATCH", f"/v1/customers/{viewer}", json={"timezone": "Asia/Tokyo"})
    assert answer.status_code == 200
    ends = []
    for moment in ("2026-02-28T10:00:00", "2026-03-31T09:00:00", "2026-04-30T09:00:00"):
        await shop.move_to(moment)
        ends.append((await period(shop, bought["id"]))[1])
    # 11:00 in Berlin until the quarter is over, then 11:00 in Tokyo.
    assert ends == ["2026-03-31T09:00:00Z", "2026-04-30T09:00:00Z", "2026-05-31T02:00:00Z"]
    assert await shop.captured() == {"EUR": 4 * 3100 + 2 * 9000}
    await shop.check()


async def test_another_anchor_gives_back_what_is_left_of_a_longer_price(shop):
    plan, viewer = await ready(shop, prices=[beside("month", 3100), beside("year", 36500)])
    bought = await shop.subscribe(viewer, plan)
    await act(shop, bought["id"], "change-anchor", {"billing_anchor": {"kind": "day", "day": 15}})
    await shop.move_to("2026-03-01")
    # 28 of 365 days are used. From 28 February on: 15 of 28, and 352 of 365 days.
    assert sorted(line[1] for line in await lines(shop, viewer)) == [-33700, 1661, 35200]
    assert await period(shop, bought["id"]) == ("2026-02-28T10:00:00Z", "2026-03-14T23:00:00Z")
    await shop.move_to("2026-03-16")
    assert [line[1] for line in await lines(shop, viewer)] == [3100]
    await shop.check()
