"""Alignment: the anchor lies at or before the start, its grid tiles, days of month stay."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, datetime, time, timedelta
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
    Unit,
    align,
    anchor_on,
    boundary,
    index_at,
    parse_zone,
)
from subledger.core.errors import DateOutOfRange, InvalidInterval, NaiveInstant, UnknownTimeZone
from tests.core.test_calendar import SKIPPED_DAYS, ZONES, at

# Midnight is skipped there once a year, or was: Havana, Cairo, Beirut, Asunción, São Paulo, Tehran.
NO_MIDNIGHT = [
    "America/Havana", "Africa/Cairo", "Asia/Beirut", "America/Asuncion", "America/Sao_Paulo",
    "Asia/Tehran",
]  # fmt: skip
ALL_ZONES = [*ZONES, *NO_MIDNIGHT, *SKIPPED_DAYS, "America/Goose_Bay", "America/Scoresbysund"]
MONTHLY = Interval(Unit.MONTH)

moments = st.datetimes(datetime(1985, 1, 1), datetime(2060, 12, 31)).map(
    lambda value: value.replace(tzinfo=UTC)
)
zones = st.sampled_from(ALL_ZONES)
hours = st.sampled_from([time.min, time(0, 30), time(2, 30), time(9), time(23, 45)])

units, grids = st.sampled_from(Unit), st.sampled_from(Grid)
origins, ends = st.sampled_from(Origin), st.sampled_from(MonthEnd)
months = st.none() | st.integers(1, 12)


@st.composite
def aligned(draw) -> tuple[Interval, Alignment]:
    """An interval and an alignment that goes with it."""
    unit = draw(units)
    interval = Interval(unit, draw(st.integers(1, 18)))
    grid = draw(grids)
    origin, end = draw(origins), draw(ends)
    if grid in {Grid.ANNIVERSARY, Grid.START_DAY}:
        return interval, Alignment(grid, month_end=end)
    if grid is Grid.CALENDAR:
        return interval, Alignment(grid, origin=origin, time_of_day=draw(hours))
    month = draw(months) if unit.months else None
    last = monthrange(2024, month)[1] if month else 31 if unit.months else 7
    day = draw(st.integers(1, last))
    return interval, Alignment(grid, day, month, origin=origin, time_of_day=draw(hours))


@given(moments, zones, aligned())
def test_the_anchor_is_at_or_before_the_start_and_within_one_period(start_at, zone, how):
    interval, alignment = how
    try:
        anchor = align(start_at, zone, interval, alignment)
        following = boundary(anchor, interval, 1)
    except DateOutOfRange:
        return
    assert anchor.at <= start_at < following


STABLE = [
    (Interval(Unit.MONTH), Alignment(Grid.DAY, 30)),
    (Interval(Unit.MONTH), Alignment(Grid.DAY, 31, time_of_day=time(2, 30))),
    (Interval(Unit.YEAR), Alignment(Grid.DAY, 29, 2)),
    (Interval(Unit.YEAR, 4), Alignment(Grid.DAY, 31, 12)),
    (Interval(Unit.WEEK), Alignment(Grid.DAY, 7)),
    (Interval(Unit.WEEK, 3), Alignment(Grid.CALENDAR)),
    (Interval(Unit.MONTH, 5), Alignment(Grid.CALENDAR)),
    (Interval(Unit.QUARTER), Alignment(Grid.CALENDAR, origin=Origin.OWN_UNIT)),
    (Interval(Unit.HALF_YEAR), Alignment(Grid.CALENDAR, time_of_day=time(9))),
]


@given(moments, st.sampled_from(ZONES + NO_MIDNIGHT), st.sampled_from(STABLE), st.integers(0, 9))
def test_what_starts_on_a_boundary_hangs_there(start_at, zone, how, n):
    there = boundary(align(start_at, zone, *how), how[0], n)
    local = there.astimezone(ZoneInfo(zone))
    if str(local.date() + timedelta(days=1)) != SKIPPED_DAYS.get(zone):
        assert align(there, zone, *how).at == there


@given(
    st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1)),
    zones,
    st.integers(1, 31),
    st.sampled_from([1, 2, 3, 5, 6, 12]),
    st.sampled_from(list(Origin)),
    st.integers(-60, 240),
)
def test_boundaries_fall_on_the_day_or_the_months_last_at_local_midnight(
    start, zone, day, count, origin, n
):
    interval = Interval(Unit.MONTH, count)
    alignment = Alignment(Grid.DAY, day, origin=origin)
    try:
        anchor = align(start.replace(tzinfo=UTC), zone, interval, alignment)
        found = boundary(anchor, interval, n)
    except DateOutOfRange:
        return
    local = found.astimezone(ZoneInfo(zone))
    wanted = min(day, monthrange(local.year, local.month)[1])
    if str(local.date() + timedelta(days=1)) == SKIPPED_DAYS.get(zone):
        return  # half a day before the day left out
    assert local.day == wanted
    midnight = datetime.combine(local.date(), time.min, tzinfo=ZoneInfo(zone))
    exists = midnight.astimezone(UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    assert local.replace(tzinfo=None) == exists  # 00:00, or what it became where it is skipped
    assert found == midnight.astimezone(UTC)


CENTURY_INTERVALS = [
    Interval(Unit.DAY, 100), Interval(Unit.WEEK, 3), Interval(Unit.MONTH), Interval(Unit.MONTH, 5),
    Interval(Unit.QUARTER), Interval(Unit.HALF_YEAR), Interval(Unit.YEAR), Interval(Unit.YEAR, 3),
]  # fmt: skip


def alignments(interval: Interval) -> list[Alignment]:
    found = [Alignment(), Alignment(month_end=MonthEnd.LAST_DAY), Alignment(Grid.START_DAY)]
    for origin in Origin:
        found.append(Alignment(Grid.CALENDAR, origin=origin))
        found.append(Alignment(Grid.CALENDAR, origin=origin, time_of_day=time(2, 30)))
        found.append(Alignment(Grid.DAY, 31 if interval.unit.months else 5, origin=origin))
        if interval.unit.months:
            found.append(Alignment(Grid.DAY, 29, 2, origin=origin))
    return found


@pytest.mark.parametrize("zone", ALL_ZONES)
@pytest.mark.parametrize(
    "interval", CENTURY_INTERVALS, ids=lambda each: f"{each.count}-{each.unit}"
)
def test_a_hundred_years_tile_for_every_alignment(zone, interval):
    start_at = at("1990-08-31T23:30")
    days = interval.unit.months * 30.5 or (7 if interval.unit is Unit.WEEK else 1)
    count = int(36_525 / (days * interval.count)) + 1
    for alignment in alignments(interval):
        anchor = align(start_at, zone, interval, alignment)
        found = [boundary(anchor, interval, n) for n in range(count)]
        assert all(here < following for here, following in pairwise(found)), alignment
        assert index_at(anchor, interval, found[-1]) == count - 1


@pytest.mark.parametrize(
    ("zone", "start"),
    [("America/Havana", "2024-03-10T12:00"), ("Africa/Cairo", "2024-04-26T12:00"),
     ("America/Sao_Paulo", "2018-11-04T12:00")],
)  # fmt: skip
def test_a_skipped_midnight_is_midnight_again_the_next_time(zone, start):
    anchor = align(at(start), zone, MONTHLY, Alignment(Grid.DAY, int(start[8:10])))
    local = [boundary(anchor, MONTHLY, n).astimezone(ZoneInfo(zone)) for n in range(4)]
    assert [each.hour for each in local] == [1, 0, 0, 0]
    assert {each.day for each in local} == {int(start[8:10])}


def test_a_day_left_out_keeps_its_number():
    # Kwajalein has no 21 August 1993; the cycle of the 21st that hangs there stays one.
    anchor = align(at("1993-08-22T20:00"), "Pacific/Kwajalein", MONTHLY, Alignment(Grid.DAY, 21))
    days = [boundary(anchor, MONTHLY, n).astimezone(ZoneInfo("Pacific/Kwajalein")) for n in (1, 2)]
    assert [each.strftime("%m-%d %H:%M") for each in days] == ["09-21 00:00", "10-21 00:00"]


def first_days(start: str, interval: Interval, alignment: Alignment, count: int = 3) -> list[str]:
    anchor = align(at(start), "UTC", interval, alignment)
    return [f"{boundary(anchor, interval, n):%Y-%m-%d}" for n in range(count)]


@pytest.mark.parametrize(
    ("start", "interval", "alignment", "days"),
    [
        ("2026-05-15T10:00", Interval(Unit.QUARTER), Alignment(Grid.CALENDAR),
         ["2026-04-01", "2026-07-01", "2026-10-01"]),
        ("2026-05-15T10:00", Interval(Unit.WEEK), Alignment(Grid.CALENDAR),
         ["2026-05-11", "2026-05-18", "2026-05-25"]),
        ("2024-12-30T10:00", Interval(Unit.MONTH, 2), Alignment(Grid.CALENDAR),
         ["2024-11-01", "2025-01-01", "2025-03-01"]),
        ("2024-12-30T10:00", Interval(Unit.MONTH, 2),
         Alignment(Grid.CALENDAR, origin=Origin.OWN_UNIT),
         ["2024-12-01", "2025-02-01", "2025-04-01"]),
        ("2021-01-01T00:00", Interval(Unit.QUARTER), Alignment(Grid.DAY, 10),
         ["2020-12-10", "2021-03-10", "2021-06-10"]),
        ("2021-01-01T00:00", Interval(Unit.QUARTER),
         Alignment(Grid.DAY, 10, origin=Origin.OWN_UNIT),
         ["2020-10-10", "2021-01-10", "2021-04-10"]),
        # Quarters from February: the anchor is the quarter's own, not February's.
        ("2026-10-15T00:00", Interval(Unit.QUARTER), Alignment(Grid.DAY, 5, 2),
         ["2026-08-05", "2026-11-05", "2027-02-05"]),
        ("2026-01-15T00:00", Interval(Unit.YEAR), Alignment(Grid.DAY, 29, 2),
         ["2025-02-28", "2026-02-28", "2027-02-28"]),
        ("2025-04-30T08:00", MONTHLY, Alignment(month_end=MonthEnd.LAST_DAY),
         ["2025-04-30", "2025-05-31", "2025-06-30"]),
        ("2025-02-28T08:00", MONTHLY, Alignment(),
         ["2025-02-28", "2025-03-28", "2025-04-28"]),
        ("2025-02-28T08:00", Interval(Unit.YEAR), Alignment(month_end=MonthEnd.LAST_DAY),
         ["2025-02-28", "2026-02-28", "2027-02-28"]),
        ("2024-02-28T08:00", MONTHLY, Alignment(month_end=MonthEnd.LAST_DAY),
         ["2024-02-28", "2024-03-28", "2024-04-28"]),
        ("2026-05-14T10:00", Interval(Unit.WEEK, 2), Alignment(Grid.DAY, 5),
         ["2026-05-08", "2026-05-22", "2026-06-05"]),
        ("2026-05-14T10:00", Interval(Unit.WEEK, 2),
         Alignment(Grid.DAY, 5, origin=Origin.OWN_UNIT),
         ["2026-05-01", "2026-05-15", "2026-05-29"]),
    ],
)  # fmt: skip
def test_examples_of_grids(start, interval, alignment, days):
    assert first_days(start, interval, alignment) == days


def test_a_start_before_the_hour_of_the_grids_day_belongs_to_the_period_before():
    nine = Alignment(Grid.DAY, 15, time_of_day=time(9))
    assert align(at("2026-05-15T08:59"), "UTC", MONTHLY, nine).at == at("2026-04-15T09:00")
    assert align(at("2026-05-15T09:00"), "UTC", MONTHLY, nine).at == at("2026-05-15T09:00")


def test_a_start_in_the_second_of_two_hours_hangs_on_the_first():
    half_past_two = Alignment(Grid.DAY, 25, time_of_day=time(2, 30))
    start_at = at("2026-10-25T01:10")  # 02:10 in Berlin for the second time
    anchor = align(start_at, "Europe/Berlin", MONTHLY, half_past_two)
    assert anchor.at == at("2026-10-25T00:30")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Alignment(Grid.DAY),
        lambda: Alignment(Grid.DAY, 0),
        lambda: Alignment(Grid.DAY, 32),
        lambda: Alignment(Grid.DAY, 30, 2),
        lambda: Alignment(Grid.DAY, 1, 13),
        lambda: Alignment(Grid.CALENDAR, 5),
        lambda: Alignment(month=5),
        lambda: Alignment(time_of_day=time(9)),
        lambda: Alignment(Grid.CALENDAR, time_of_day=time(9, tzinfo=UTC)),
        lambda: align(at("2026-01-01T00:00"), "UTC", Interval(Unit.WEEK), Alignment(Grid.DAY, 8)),
        lambda: align(at("2026-01-01T00:00"), "UTC", Interval(Unit.DAY), Alignment(Grid.DAY, 1, 1)),
        lambda: Anchor(at("2026-01-01T00:00"), "UTC", 32),
        lambda: Anchor(at("2026-01-01T00:00"), "UTC", wall=datetime(2026, 1, 4)),
        lambda: Anchor(at("2026-01-01T00:00"), "UTC", wall=at("2026-01-01T00:00")),
        lambda: Interval(Unit.MONTH, 1.5),  # type: ignore[arg-type]  # refused
    ],
)  # fmt: skip
def test_what_makes_no_grid_is_refused(wrong):
    with pytest.raises(InvalidInterval):
        wrong()


def test_a_time_without_a_zone_is_no_instant():
    with pytest.raises(NaiveInstant):
        Anchor(datetime(2026, 1, 1), "UTC")
    with pytest.raises(NaiveInstant):
        align(datetime(2026, 1, 1), "UTC", MONTHLY, Alignment())


def test_an_anchor_is_kept_in_utc():
    berlin = datetime(2026, 1, 31, 10, tzinfo=ZoneInfo("Europe/Berlin"))
    anchor = Anchor(berlin, "Europe/Berlin")
    assert anchor.at.tzinfo is UTC
    assert anchor == Anchor(at("2026-01-31T09:00"), "Europe/Berlin")


@pytest.mark.parametrize("name", ["localtime", "posixrules", "right/UTC", "posix/Europe/Berlin"])
def test_the_machines_own_zone_and_leap_seconds_are_refused(name):
    with pytest.raises(UnknownTimeZone):
        parse_zone(name)


def test_an_anchor_on_a_skipped_time_keeps_what_was_meant():
    anchor = anchor_on(datetime(2015, 3, 8, 2), "America/Los_Angeles")
    assert anchor.at == at("2015-03-08T10:00")
    assert anchor.wall == datetime(2015, 3, 8, 2)
    assert boundary(anchor, MONTHLY, 1) == at("2015-04-08T09:00")  # 02:00 again
    assert anchor_on(datetime(2015, 3, 8, 4), "America/Los_Angeles").wall is None
