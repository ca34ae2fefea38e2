"""Local days, hours and weeks: starts lie at or before, nothing drifts over clock changes."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger.core.errors import InvalidInterval, NaiveInstant
from subledger.core.local_days import (
    add_local_days,
    add_local_months,
    day_in_month,
    day_of_month,
    local_date,
    local_day_start,
    local_days_between,
    local_hour_start,
    local_midnight,
    next_day_of_month,
)
from tests.core.test_calendar import at
from tests.core.test_calendar_alignment import ALL_ZONES, moments, zones


def changes(zone: str) -> list[datetime]:
    """Moments at which the zone's clock changes, from 1975 to 2037, to the quarter hour at most."""
    tz, found = ZoneInfo(zone), []
    here = at("1975-01-01T00:00")
    while here.year < 2037:
        following = here + timedelta(days=5)
        if here.astimezone(tz).utcoffset() != following.astimezone(tz).utcoffset():
            low, high = here, following
            while high - low > timedelta(seconds=1):
                middle = low + (high - low) // 2
                same = middle.astimezone(tz).utcoffset() == low.astimezone(tz).utcoffset()
                low, high = (middle, high) if same else (low, middle)
            found.append(high.replace(microsecond=0))
        here = following
    return found


@pytest.mark.parametrize("zone", sorted({*ALL_ZONES, "Antarctica/Casey", "Antarctica/Troll"}))
def test_starts_lie_at_or_before_and_on_the_same_day_around_every_clock_change(zone):
    tz = ZoneInfo(zone)
    for change in changes(zone):
        for minutes in (-61, -31, -1, 0, 1, 20, 31, 59, 61, 121):
            moment = change + timedelta(minutes=minutes)
            local = moment.astimezone(tz)
            day, hour = local_day_start(moment, zone), local_hour_start(moment, zone)
            assert day <= hour <= moment or day <= moment >= hour, (zone, moment)
            assert local_date(day, zone) == local.date()
            assert (day - timedelta(microseconds=1)).astimezone(tz).date() < local.date()
            assert hour.astimezone(tz).hour == local.hour


@given(moments, zones, st.integers(-400, 400))
def test_days_added_are_days_between(moment, zone, days):
    found = add_local_days(moment, days, zone)
    if zone not in {"Pacific/Apia", "Pacific/Fakaofo", "Pacific/Kwajalein", "Pacific/Kiritimati"}:
        assert local_days_between(moment, found, zone) == days
    assert abs(found - moment - timedelta(days=days)) <= timedelta(hours=25)


@given(moments, zones)
def test_days_between_count_local_midnights(moment, zone):
    later = moment + timedelta(days=9, hours=7)
    first, last = local_date(moment, zone), local_date(later, zone)
    midnights = [
        local_midnight(first + timedelta(days=n), zone) for n in range(1, (last - first).days + 1)
    ]
    assert len(midnights) == local_days_between(moment, later, zone)
    assert all(moment < each <= later for each in midnights)


def test_a_day_of_23_hours_keeps_the_wall_clock():
    found = add_local_days(at("2026-03-05T05:00"), 5, "America/New_York")
    assert found == at("2026-03-10T04:00")


def test_a_leap_day_and_a_month_later():
    assert add_local_months(at("2024-01-31T12:00"), 1, "UTC") == at("2024-02-29T12:00")
    assert add_local_months(at("2024-03-31T12:00"), -1, "UTC") == at("2024-02-29T12:00")
    assert add_local_months(at("2024-03-31T12:00"), 0, "UTC") == at("2024-03-31T12:00")


@pytest.mark.parametrize(
    ("moment", "zone", "hour"),
    [
        ("2026-08-13T14:37", "Asia/Kathmandu", "2026-08-13T14:15"),
        ("2026-10-25T01:30", "Europe/Berlin", "2026-10-25T01:00"),  # 02:30 the second time
        ("2024-04-06T15:15", "Australia/Lord_Howe", "2024-04-06T14:00"),  # 01:45, half an hour on
        ("2006-04-02T03:50", "America/St_Johns", "2006-04-02T03:31"),  # 00:01 became 01:01
    ],
)
def test_hours_start_where_the_clock_says(moment, zone, hour):
    assert local_hour_start(at(moment), zone) == at(hour)


def test_a_day_that_a_zone_left_out_begins_and_ends_at_once():
    gone, following = date(2011, 12, 30), date(2011, 12, 31)
    assert local_midnight(gone, "Pacific/Apia") == local_midnight(following, "Pacific/Apia")


def test_a_skipped_midnight_is_the_moment_of_the_change():
    assert local_midnight(date(2024, 3, 10), "America/Havana") == at("2024-03-10T05:00")


def test_the_anchor_day_is_local():
    moment = datetime(2012, 7, 16, 21, 17, 3, tzinfo=UTC)
    assert [day_of_month(moment, zone) for zone in ("Pacific/Honolulu", "Asia/Tokyo")] == [16, 17]


@given(st.dates(date(1990, 1, 1), date(2100, 1, 1)), st.integers(1, 31))
def test_a_new_anchor_day_takes_effect_within_a_month_and_never_before_today(today, day):
    found = next_day_of_month(today, day)
    assert 0 <= (found - today).days <= 31
    assert found == day_in_month(found, day)
    between = (today + timedelta(days=n) for n in range((found - today).days))
    assert not any(each == day_in_month(each, day) for each in between)


@pytest.mark.parametrize("day", [0, 32])
def test_anchor_days_have_bounds(day):
    with pytest.raises(InvalidInterval):
        day_in_month(date(2026, 1, 1), day)


def test_an_instant_has_a_zone():
    with pytest.raises(NaiveInstant):
        local_day_start(datetime(2026, 1, 1), "UTC")
