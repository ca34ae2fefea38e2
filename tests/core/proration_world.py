"""Moments, zones and modes that the tests of proration share."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from subledger.core.calendar import Alignment, Anchor, Grid, Interval, Period, Unit, align
from subledger.core.proration import By, ByTime

MONTH = Interval(Unit.MONTH)
# Clocks change at midnight, after it by a minute, by half an hour, by a whole day left out.
ZONES = [
    "UTC", "Europe/Berlin", "America/New_York", "America/St_Johns", "America/Sao_Paulo",
    "America/Havana", "America/Asuncion", "Australia/Lord_Howe", "Pacific/Apia",
    "Pacific/Kiritimati", "Asia/Kathmandu", "Africa/Casablanca", "Asia/Beirut", "Asia/Tehran",
]  # fmt: skip
MODES = [
    ByTime(by, scale=scale) for by in By for scale in (None, 9, 2) if by is not By.NONE or not scale
]


def at(text: str, zone: str = "UTC") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def span(start: str, end: str, zone: str = "UTC") -> Period:
    return Period(at(start, zone), at(end, zone))


def anchored(day: int, start: str) -> Anchor:
    return align(at(start), "UTC", MONTH, Alignment(Grid.DAY, day))


FEBRUARY = span("2026-02-01", "2026-03-01")
MOMENTS = st.datetimes(datetime(1975, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))
