"""The calendar: months' ends come back, clock changes do not drift, periods tile."""

from __future__ import annotations

import calendar as stdlib_calendar
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger.core.calendar import (
    Anchor,
    Interval,
    Unit,
    boundary,
    index_at,
    parse_zone,
    period,
)
from subledger.core.errors import DateOutOfRange, InvalidInterval, UnknownTimeZone

ZONES = [
    "UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Kiritimati",
    "Pacific/Pago_Pago", "Australia/Lord_Howe", "Asia/Kathmandu", "America/St_Johns",
    "Europe/Moscow", "Asia/Tokyo", "Africa/Casablanca", "Pacific/Apia", "America/Caracas",
]  # fmt: skip


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def local_days(anchor: Anchor, interval: Interval, count: int) -> list[str]:
    zone = ZoneInfo(anchor.timezone)
    return [
        boundary(anchor, interval, n).astimezone(zone).strftime("%Y-%m-%d %H:%M")
        for n in range(count)
    ]


def test_the_31st_comes_back():
    anchor = Anchor(at("2026-01-31T10:00"), "UTC")
    assert local_days(anchor, Interval(Unit.MONTH), 5) == [
        "2026-01-31 10:00", "2026-02-28 10:00", "2026-03-31 10:00", "2026-04-30 10:00",
        "2026-05-31 10:00",
    ]  # fmt: skip


def test_29_february_comes_back_in_leap_years():
    anchor = Anchor(at("2024-02-29T00:00"), "UTC")
    days = [day[:10] for day in local_days(anchor, Interval(Unit.YEAR), 5)]
    assert days == ["2024-02-29", "2025-02-28", "2026-02-28", "2027-02-28", "2028-02-29"]


def test_the_wall_clock_stays_across_clock_changes():
    anchor = Anchor(at("2026-02-15T08:30"), "Europe/Berlin")  # 09:30 in winter
    assert [day[11:] for day in local_days(anchor, Interval(Unit.MONTH), 12)] == ["09:30"] * 12
    assert boundary(anchor, Interval(Unit.MONTH), 2) == at("2026-04-15T07:30")


def test_a_skipped_local_time_moves_forward_by_the_gap():
    anchor = Anchor(at("2026-02-28T01:30"), "Europe/Berlin")  # 02:30, skipped on 29 March
    days = local_days(anchor, Interval(Unit.DAY), 31)
    assert days[29] == "2026-03-29 03:30"
    assert days[30] == "2026-03-30 02:30"


def test_a_local_time_that_comes_twice_is_taken_the_first_time():
    anchor = Anchor(at("2026-09-25T00:30"), "Europe/Berlin")  # 02:30, twice on 25 October
    assert boundary(anchor, Interval(Unit.MONTH), 1) == at("2026-10-25T00:30")


def test_an_anchor_within_the_second_hour_is_itself():
    anchor = Anchor(at("2026-10-25T01:30"), "Europe/Berlin")  # 02:30 the second time
    assert boundary(anchor, Interval(Unit.MONTH), 0) == anchor.at


@pytest.mark.parametrize("name", ["Mars", "", "../etc/passwd", "/etc/localtime", "Europe/\0"])
def test_unknown_zones_are_refused(name):
    with pytest.raises(UnknownTimeZone):
        parse_zone(name)


@pytest.mark.parametrize("count", [0, -1, 1201])
def test_intervals_have_bounds(count):
    with pytest.raises(InvalidInterval):
        Interval(Unit.MONTH, count)


SKIPPED_DAYS = {
    "Pacific/Apia": "2011-12-30", "Pacific/Fakaofo": "2011-12-30",
    "Pacific/Kwajalein": "1993-08-21", "Pacific/Kiritimati": "1994-12-31",
}  # fmt: skip


def test_a_day_that_a_zone_left_out_leaves_no_empty_period():
    # Samoa went from 29 to 31 December 2011, from UTC-10 to UTC+14.
    anchor = Anchor(at("2011-12-28T20:30"), "Pacific/Apia")  # 28 December, 10:30
    assert [boundary(anchor, Interval(Unit.DAY), n) for n in range(4)] == [
        at("2011-12-28T20:30"), at("2011-12-29T20:30"),
        at("2011-12-30T08:30"), at("2011-12-30T20:30"),
    ]  # fmt: skip


@pytest.mark.parametrize("zone", sorted(SKIPPED_DAYS))
@pytest.mark.parametrize("hour", ["00:00", "12:00", "23:59:59.999999"])
def test_days_increase_past_a_day_left_out(zone, hour):
    day = date.fromisoformat(SKIPPED_DAYS[zone]) - timedelta(days=9)
    wall = datetime.fromisoformat(f"{day}T{hour}").replace(tzinfo=ZoneInfo(zone))
    anchor = Anchor(wall.astimezone(UTC), zone)
    found = [boundary(anchor, Interval(Unit.DAY), n) for n in range(20)]
    assert all(here < following for here, following in pairwise(found))


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(
    "interval",
    [Interval(Unit.WEEK), Interval(Unit.MONTH), Interval(Unit.MONTH, 3), Interval(Unit.YEAR)],
    ids=lambda each: f"{each.count}-{each.unit}",
)
def test_a_hundred_years_tile(zone, interval):
    anchor = Anchor(at("1996-01-31T23:30"), zone)
    count = {Unit.WEEK: 5_200, Unit.MONTH: 1_200, Unit.YEAR: 100}[interval.unit] // interval.count
    found = [boundary(anchor, interval, n) for n in range(count + 1)]
    assert all(here < following for here, following in pairwise(found))
    assert found[-1] - found[0] > timedelta(days=36_380)


def test_the_far_future_is_refused():
    with pytest.raises(DateOutOfRange):
        boundary(Anchor(at("2026-01-01T00:00"), "UTC"), Interval(Unit.YEAR, 1200), 1)


moments = st.datetimes(datetime(1990, 1, 1), datetime(2099, 12, 31)).map(
    lambda value: value.replace(tzinfo=UTC)
)
anchors = st.builds(Anchor, moments, st.sampled_from(ZONES))
intervals = st.builds(Interval, st.sampled_from(list(Unit)), st.integers(1, 40))


def naive_local_date(start: date, interval: Interval, n: int) -> date:
    """Another way to the same day: walk the months one at a time."""
    if interval.unit in {Unit.DAY, Unit.WEEK}:
        return start + timedelta(days=n * interval.count * (7 if interval.unit is Unit.WEEK else 1))
    year, month = start.year, start.month
    months = {Unit.MONTH: 1, Unit.QUARTER: 3, Unit.HALF_YEAR: 6, Unit.YEAR: 12}[interval.unit]
    for _ in range(n * interval.count * months):
        month += 1
        if month > 12:
            year, month = year + 1, 1
    last = stdlib_calendar.monthrange(year, month)[1]
    return date(year, month, min(start.day, last))


@given(anchors, intervals, st.integers(0, 60))
def test_consecutive_periods_tile(anchor, interval, n):
    try:
        here, following = period(anchor, interval, n), period(anchor, interval, n + 1)
    except DateOutOfRange:
        return
    assert here.end_at == following.start_at
    assert here.start_at < here.end_at


@given(anchors, intervals, st.integers(1, 60))
def test_boundaries_fall_on_the_day_that_a_naive_walk_finds(anchor, interval, n):
    try:
        found = boundary(anchor, interval, n)
    except DateOutOfRange:
        return
    zone = ZoneInfo(anchor.timezone)
    start = anchor.at.astimezone(zone)
    day = naive_local_date(start.date(), interval, n)
    wall = datetime.combine(day, start.time(), tzinfo=zone)
    if wall.astimezone(UTC).astimezone(zone) - wall >= timedelta(days=1):
        return  # a day left out has tests of its own
    # A skipped local time may land on the next hour, never on another computation's instant.
    assert found == wall.replace(fold=0).astimezone(UTC)


@given(anchors, intervals, moments)
def test_every_moment_lies_in_exactly_the_period_that_is_found(anchor, interval, moment):
    try:
        n = index_at(anchor, interval, moment)
        found = period(anchor, interval, n)
    except DateOutOfRange:
        return
    assert found.start_at <= moment < found.end_at


def _known(name: str) -> bool:
    try:
        parse_zone(name)
    except UnknownTimeZone:
        return False
    return True


EVERY_ZONE = sorted(filter(_known, available_timezones()))


@given(
    st.datetimes(datetime(1990, 1, 1), datetime(2049, 12, 31)),
    st.sampled_from(EVERY_ZONE),
    st.builds(Interval, st.sampled_from(list(Unit)), st.integers(1, 12)),
    st.integers(0, 36_525),
)
def test_a_hundred_years_tile_in_every_zone(start_at, zone, interval, days):
    """Around any day of the hundred years after any start: the boundaries are those of the naive
    walk, each after the one before, and the moment lies between two of them."""
    anchor = Anchor(start_at.replace(tzinfo=UTC), zone)
    moment = anchor.at + timedelta(days=days)
    n = index_at(anchor, interval, moment)
    found = {k: boundary(anchor, interval, k) for k in range(max(n - 2, 0), n + 3)}
    assert all(here < following for here, following in pairwise(found.values()))
    assert found[n] <= moment < found[n + 1]
    local = anchor.at.astimezone(ZoneInfo(zone))
    for k, at_found in found.items():
        day = naive_local_date(local.date(), interval, k)
        wall = datetime.combine(day, local.time(), tzinfo=ZoneInfo(zone)).replace(fold=0)
        there = wall.astimezone(UTC).astimezone(ZoneInfo(zone))
        if k and there - wall < timedelta(days=1):  # a day left out has tests of its own
            assert at_found == wall.astimezone(UTC)
