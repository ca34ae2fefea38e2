"""Cycles: periods tile from start to end, changes of the grid leave no gap and no overlap."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger.core.calendar import (
    Alignment,
    Anchor,
    Grid,
    Interval,
    MonthEnd,
    Origin,
    Period,
    Unit,
    boundary,
    index_at,
)
from subledger.core.cycles import (
    MAX_PERIODS,
    Billed,
    Change,
    Cycle,
    TakesEffect,
    Trial,
    billed_through,
    boundary_from,
    change_zone,
    cycle,
    due_periods,
    elapsed_cycles,
    first_period,
    next_boundary,
    period_containing,
    period_to_bill,
    periods,
    reanchor,
    trial_end,
    whole_periods_between,
)
from subledger.core.errors import DateOutOfRange, InvalidPeriod, NaiveInstant, TooManyPeriods
from subledger.core.local_days import local_day_start, local_days_between
from tests.core.test_calendar import SKIPPED_DAYS, at
from tests.core.test_calendar_alignment import MONTHLY, aligned, zones

QUARTERLY = Interval(Unit.QUARTER)
FIRSTS = Alignment(Grid.CALENDAR)
moments = st.datetimes(datetime(2000, 1, 1), datetime(2050, 12, 31)).map(
    lambda value: value.replace(tzinfo=UTC)
)
spans = st.timedeltas(timedelta(0), timedelta(days=2_000))
lengths = st.none() | spans


@st.composite
def cycles(draw) -> Cycle:
    interval, alignment = draw(aligned())
    start_at = draw(moments)
    length = draw(lengths)
    end_at = None if length is None else start_at + length
    return cycle(start_at, draw(zones), interval, alignment, end_at)


@given(cycles(), spans)
def test_periods_tile_from_the_start_to_the_end(of, span):
    until = of.start_at + span
    found = periods(of, of.start_at, until)
    assert all(here.end_at == following.start_at for here, following in pairwise(found))
    assert all(each.start_at < each.end_at for each in found)
    ended = of.end_at is not None and of.end_at <= until
    if found:
        assert found[0].start_at == of.start_at
        assert found[-1].end_at == of.end_at if ended else found[-1].end_at >= until
    else:
        assert span == timedelta(0) or of.end_at == of.start_at
    assert [period_containing(of, each.start_at).served for each in found] == found


@given(cycles(), spans, st.sampled_from(list(Billed)))
def test_what_is_billed_through_is_what_falls_due(of, span, billed):
    moment = of.start_at + span
    due, reached = due_periods(of, moment, billed), billed_through(of, moment, billed)
    if due:
        assert reached == due[-1].end_at
        # Whoever bills on from there bills the rest once.
        later = due_periods(of, moment + timedelta(days=99), billed, since=reached)
        assert due + later == due_periods(of, moment + timedelta(days=99), billed)
    else:
        assert reached in {None, of.start_at}
    arrears = due_periods(of, moment, Billed.ARREARS)
    assert elapsed_cycles(of, moment) == len(arrears)
    if due:
        assert period_to_bill(of, moment, billed).served == due[-1]


@given(cycles(), spans)
def test_a_stretch_lies_within_its_grids_period(of, span):
    try:
        found = period_containing(of, of.start_at + span)
    except DateOutOfRange:
        return
    assert found.grid.start_at <= found.served.start_at < found.served.end_at <= found.grid.end_at
    assert 0 <= found.days <= found.grid_days


@given(cycles(), moments)
def test_boundaries_after_and_from_a_moment(of, moment):
    after = next_boundary(of.anchor, of.interval, moment)
    first = boundary_from(of.anchor, of.interval, moment)
    n = index_at(of.anchor, of.interval, moment)
    here = boundary(of.anchor, of.interval, n)
    assert here <= moment < after == boundary(of.anchor, of.interval, n + 1)
    assert first == (here if here == moment else after)
    assert boundary_from(of.anchor, of.interval, after) == after


@given(moments, spans, zones, st.sampled_from(list(Unit)), st.integers(1, 5))
def test_whole_periods_fit_and_one_more_does_not(start_at, span, zone, unit, count):
    interval = Interval(unit, count)
    n = whole_periods_between(start_at, start_at + span, zone, interval)
    anchor = Anchor(start_at, zone)
    assert boundary(anchor, interval, n) <= start_at + span < boundary(anchor, interval, n + 1)


def test_no_periods_before_the_start():
    of = cycle(at("2026-01-15T00:00"), "UTC", MONTHLY)
    assert whole_periods_between(of.start_at, at("2025-01-01T00:00"), "UTC", MONTHLY) == 0
    assert elapsed_cycles(of, at("2025-01-01T00:00")) == 0
    assert periods(of, at("2024-01-01T00:00"), of.start_at) == []
    assert billed_through(of, at("2025-01-01T00:00"), Billed.ADVANCE) is None
    with pytest.raises(DateOutOfRange):
        period_containing(of, at("2025-01-01T00:00"))


def test_a_stub_knows_its_grids_period():
    found = first_period(cycle(at("2026-02-15T10:00"), "UTC", MONTHLY, FIRSTS))
    assert found.served == Period(at("2026-02-15T10:00"), at("2026-03-01T00:00"))
    assert found.grid == Period(at("2026-02-01T00:00"), at("2026-03-01T00:00"))
    assert (found.days, found.grid_days, found.is_stub) == (14, 28, True)


def test_a_start_at_another_hour_of_the_grids_day_is_no_stub():
    found = first_period(cycle(at("2026-02-01T10:00"), "UTC", MONTHLY, FIRSTS))
    assert found.served.start_at == at("2026-02-01T10:00")
    assert (found.days, found.is_stub) == (28, False)


def test_days_of_a_stub_are_local_over_a_clock_change():
    start_at = at("2026-03-15T04:00")  # midnight in New York, a week after the change
    found = first_period(cycle(start_at, "America/New_York", MONTHLY, FIRSTS))
    assert found.grid == Period(at("2026-03-01T05:00"), at("2026-04-01T04:00"))
    assert (found.days, found.grid_days) == (17, 31)


def test_both_conventions_of_a_stubs_grid():
    start_at = at("2021-01-01T00:00")
    before = first_period(cycle(start_at, "UTC", QUARTERLY, Alignment(Grid.DAY, 10)))
    own = Alignment(Grid.DAY, 10, origin=Origin.OWN_UNIT)
    counted_back = first_period(cycle(start_at, "UTC", QUARTERLY, own))
    assert before.grid == Period(at("2020-12-10T00:00"), at("2021-03-10T00:00"))
    assert counted_back.grid == Period(at("2020-10-10T00:00"), at("2021-01-10T00:00"))
    assert (counted_back.days, counted_back.grid_days) == (9, 92)


def test_an_anchor_in_the_future_leaves_a_stub_up_to_it():
    of = Cycle(at("2024-05-15T00:00"), Anchor(at("2024-06-01T00:00"), "UTC"), MONTHLY)
    ends = [each.end_at for each in periods(of, of.start_at, at("2024-07-15T00:00"))]
    assert ends == [at("2024-06-01T00:00"), at("2024-07-01T00:00"), at("2024-08-01T00:00")]
    assert first_period(of).is_stub


def test_the_end_cuts_the_last_period():
    of = cycle(at("2026-01-15T00:00"), "UTC", MONTHLY, end_at=at("2026-02-20T00:00"))
    found = period_containing(of, at("2026-02-19T00:00"))
    assert found.served.end_at == of.end_at
    assert (found.days, found.grid_days) == (5, 28)
    assert period_to_bill(of, at("2027-01-01T00:00"), Billed.ARREARS).served == found.served
    assert elapsed_cycles(of, of.end_at) == 2


def test_a_cycle_that_ends_at_its_start_has_no_period():
    of = cycle(at("2026-01-15T00:00"), "UTC", MONTHLY, end_at=at("2026-01-15T00:00"))
    assert due_periods(of, at("2026-03-01T00:00"), Billed.ADVANCE) == []
    assert elapsed_cycles(of, at("2026-03-01T00:00")) == 0
    with pytest.raises(InvalidPeriod):
        period_to_bill(of, at("2026-03-01T00:00"), Billed.ADVANCE)


def test_nothing_is_unbounded():
    of = cycle(at("2000-01-01T00:00"), "UTC", Interval(Unit.DAY))
    assert len(periods(of, of.start_at, at("2000-01-11T00:00"), limit=10)) == 10
    with pytest.raises(TooManyPeriods):
        periods(of, of.start_at, at("2000-01-12T00:00"), limit=10)
    with pytest.raises(TooManyPeriods):
        periods(of, of.start_at, at("2100-01-01T00:00"), limit=10**9)
    with pytest.raises(TooManyPeriods):
        due_periods(of, at("2100-01-01T00:00"), Billed.ARREARS)
    assert MAX_PERIODS == 10_000


def test_a_bad_cycle_is_refused():
    start_at, anchor = at("2026-01-15T00:00"), Anchor(at("2026-01-15T00:00"), "UTC")
    with pytest.raises(InvalidPeriod):
        Cycle(start_at, anchor, MONTHLY, at("2026-01-14T00:00"))
    with pytest.raises(NaiveInstant):
        Cycle(datetime(2026, 1, 15), anchor, MONTHLY)


# Trials -------------------------------------------------------------------------------------------


def test_trial_days_are_local_and_the_cycle_hangs_on_their_end():
    start_at = at("2017-03-02T07:30")  # 1 March, 23:30 in Los Angeles
    end_at = trial_end(start_at, "America/Los_Angeles", Trial(days=30))
    assert end_at == at("2017-04-01T06:30")  # 31 March, 23:30, an hour less in between
    found = first_period(cycle(end_at, "America/Los_Angeles", MONTHLY)).served
    assert found.end_at == at("2017-05-01T06:30")  # 30 April, 23:30


def test_a_trial_until_a_date_ends_as_that_date_begins():
    found = trial_end(at("2026-05-01T10:00"), "Europe/Berlin", Trial(until=date(2026, 6, 1)))
    assert found == at("2026-05-31T22:00")
    assert trial_end(found, "Europe/Berlin", Trial(days=0)) == found


@pytest.mark.parametrize(
    "wrong", [{}, {"days": 1, "until": date(2026, 1, 1)}, {"days": -1}, {"days": 1_101}]
)
def test_a_trial_has_days_or_a_date(wrong):
    with pytest.raises(InvalidPeriod):
        Trial(**wrong)


@pytest.mark.parametrize("until", [date(2026, 5, 1), date(2020, 1, 1), date(2030, 1, 1)])
def test_a_trial_ends_after_it_starts_and_not_too_late(until):
    with pytest.raises(InvalidPeriod):
        trial_end(at("2026-05-01T10:00"), "UTC", Trial(until=until))


# Changes of the grid ------------------------------------------------------------------------------


def assert_joined(of: Cycle, change: Change) -> None:
    """One stretch of time, without a gap and without an overlap."""
    joint = change.following.start_at
    old = periods(replace(of, end_at=joint), of.start_at, joint)
    new = periods(change.following, joint, joint + timedelta(days=800))
    found = old + new
    assert found[0].start_at == of.start_at
    assert all(here.end_at == following.start_at for here, following in pairwise(found))
    assert all(each.start_at < each.end_at for each in found)
    assert new[0] == change.first.served
    assert (old[-1] if old else None) == (change.last.served if change.last else None)


@given(cycles(), aligned(), st.sampled_from(list(TakesEffect)), spans)
def test_a_change_of_anchor_leaves_no_gap_and_no_overlap(of, how, takes_effect, span):
    interval, alignment = how
    of, moment = replace(of, end_at=None), of.start_at + span
    change = reanchor(of, moment, alignment, takes_effect, interval)
    joint = change.following.start_at
    assert joint >= moment
    assert_joined(of, change)
    if takes_effect is TakesEffect.NOW:
        assert joint == moment
    elif takes_effect is TakesEffect.PERIOD_END:
        assert change.last is not None
        assert change.last.served.end_at == change.last.grid.end_at
    else:
        assert boundary_from(change.following.anchor, interval, joint) == joint or (
            alignment.grid is Grid.START_DAY
        )


@given(cycles(), zones, spans)
def test_a_change_of_zone_keeps_the_end_and_the_calendar(of, zone, span):
    of, moment = replace(of, end_at=None), of.start_at + span
    running = period_containing(of, moment)
    change = change_zone(of, moment, zone)
    assert change.last == running
    assert change.following.start_at == running.served.end_at
    assert_joined(of, change)
    whole = change.first
    assert whole.served == whole.grid
    # The next period is the old grid's, moved by the zones' distance at its end only.
    n = index_at(of.anchor, of.interval, running.served.end_at)
    old_end = boundary(of.anchor, of.interval, n + 1)
    assert abs(whole.served.end_at - old_end) <= timedelta(hours=39)


@given(cycles(), zones, spans)
def test_a_zone_and_back_is_the_same_grid(of, zone, span):
    if of.interval.unit is Unit.DAY or {zone, of.anchor.timezone} & SKIPPED_DAYS.keys():
        return
    of = replace(of, end_at=None)
    there = change_zone(of, of.start_at + span, zone).following
    back = change_zone(there, there.start_at, of.anchor.timezone).following
    moment = next_boundary(back.anchor, back.interval, back.start_at)
    assert boundary_from(of.anchor, of.interval, moment) == moment


def test_calendar_months_go_on_in_the_new_zone():
    of = cycle(at("2022-01-01T00:00"), "UTC", MONTHLY, FIRSTS)
    change = change_zone(of, at("2022-01-20T00:00"), "America/Los_Angeles")
    assert change.first.served == Period(at("2022-02-01T00:00"), at("2022-03-01T08:00"))
    assert (change.first.days, change.first.is_stub) == (28, False)
    east = change_zone(of, at("2022-01-20T00:00"), "Asia/Tokyo")
    assert east.first.served == Period(at("2022-02-01T00:00"), at("2022-02-28T15:00"))
    assert (east.first.days, east.first.is_stub) == (28, False)


def test_the_31st_stays_the_31st_in_another_zone():
    of = cycle(at("2026-01-31T12:00"), "UTC", MONTHLY)
    following = change_zone(of, at("2026-02-10T00:00"), "Europe/Berlin").following
    local = [
        each.end_at.astimezone(ZoneInfo("Europe/Berlin")).strftime("%m-%d %H:%M")
        for each in periods(following, following.start_at, at("2026-06-01T00:00"))
    ]
    assert local == ["03-31 12:00", "04-30 12:00", "05-31 12:00", "06-30 12:00"]


def test_days_go_on_between_the_zones_furthest_apart():
    of = cycle(at("2026-01-10T10:00"), "Pacific/Kiritimati", Interval(Unit.DAY))  # midnight
    change = change_zone(of, at("2026-01-10T12:00"), "Pacific/Pago_Pago")
    assert change.first.served == Period(at("2026-01-11T10:00"), at("2026-01-12T11:00"))


def test_a_new_anchor_day_now_at_the_periods_end_and_on_its_next_day():
    of = cycle(at("2026-01-20T09:00"), "UTC", MONTHLY)
    moment, fifth = at("2026-03-02T12:00"), Alignment(Grid.DAY, 5)

    now = reanchor(of, moment, Alignment(), TakesEffect.NOW)
    assert now.last is not None
    assert now.last.served == Period(at("2026-02-20T09:00"), moment)
    assert now.first.served == Period(moment, at("2026-04-02T12:00"))

    end = reanchor(of, moment, fifth, TakesEffect.PERIOD_END)
    assert end.first.served == Period(at("2026-03-20T09:00"), at("2026-04-05T00:00"))
    assert (end.first.days, end.first.grid_days) == (16, 31)

    day = reanchor(of, moment, fifth, TakesEffect.NEXT_GRID_DAY)
    assert day.last is not None
    assert day.last.served == Period(at("2026-02-20T09:00"), at("2026-03-05T00:00"))
    assert day.first.served == Period(at("2026-03-05T00:00"), at("2026-04-05T00:00"))
    assert not day.first.is_stub


def test_the_next_day_of_a_quarters_grid_is_at_most_a_month_away():
    of = cycle(at("2026-01-20T00:00"), "UTC", QUARTERLY)
    moment = at("2026-02-07T15:00")
    change = reanchor(of, moment, Alignment(Grid.DAY, 5), TakesEffect.NEXT_GRID_DAY)
    assert change.first.served == Period(at("2026-03-05T00:00"), at("2026-06-05T00:00"))
    # Today counts for who asks from the day's start.
    today = local_day_start(moment, "UTC")
    change = reanchor(of, today, Alignment(Grid.DAY, 7), TakesEffect.NEXT_GRID_DAY)
    assert change.following.start_at == today


def test_a_new_interval_may_keep_the_anchor():
    of = cycle(at("2026-01-31T00:00"), "UTC", MONTHLY)
    yearly = Interval(Unit.YEAR)
    change = reanchor(of, at("2026-04-10T00:00"), None, TakesEffect.PERIOD_END, yearly)
    assert change.first.served == Period(at("2026-04-30T00:00"), at("2027-01-31T00:00"))
    assert change.first.grid == Period(at("2026-01-31T00:00"), at("2027-01-31T00:00"))


def test_last_days_of_months_as_a_new_anchor():
    of = cycle(at("2026-04-30T00:00"), "UTC", MONTHLY)
    last = Alignment(month_end=MonthEnd.LAST_DAY)
    change = reanchor(of, at("2026-05-10T00:00"), last, TakesEffect.PERIOD_END)
    assert change.first.served == Period(at("2026-05-30T00:00"), at("2026-06-30T00:00"))


def test_a_change_at_the_start_serves_nothing_of_the_old_grid():
    of = cycle(at("2026-01-20T00:00"), "UTC", MONTHLY)
    assert reanchor(of, of.start_at, FIRSTS, TakesEffect.NOW).last is None


def test_only_a_running_cycle_changes():
    of = cycle(at("2026-01-20T00:00"), "UTC", MONTHLY, end_at=at("2026-03-01T00:00"))
    for moment in (at("2026-01-19T00:00"), of.end_at):
        with pytest.raises(InvalidPeriod):
            reanchor(of, moment, FIRSTS)
    with pytest.raises(InvalidPeriod):  # the running period is the last
        change_zone(of, at("2026-02-25T00:00"), "Asia/Tokyo")
    kept = change_zone(of, at("2026-02-10T00:00"), "Asia/Tokyo")
    assert kept.following.end_at == of.end_at
    assert kept.first.served.end_at == of.end_at


@given(cycles())
def test_days_of_a_stub_and_what_is_missing_make_the_grids(of):
    found = first_period(replace(of, end_at=None))
    zone = of.anchor.timezone
    if zone in SKIPPED_DAYS:
        return
    missing = local_days_between(found.grid.start_at, found.served.start_at, zone)
    assert found.days + missing == found.grid_days
