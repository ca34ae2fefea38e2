"""The billing calendar: boundaries counted from an anchor, in the customer's own zone.

Every boundary is computed from the anchor, never from the boundary before, so that months' ends
come back: 31 January, 28 February, 31 March. Boundaries keep the anchor's local wall-clock time
in its IANA zone; periods are half-open and tile without gap or overlap.
"""

from __future__ import annotations

from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

from subledger.core.errors import DateOutOfRange, InvalidInterval, UnknownTimeZone

MIN_YEAR, MAX_YEAR = 1970, 2200
MAX_COUNT = 1_200
_DAY = timedelta(days=1)


class Unit(StrEnum):
    """What an interval counts in."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


@dataclass(frozen=True, slots=True)
class Interval:
    """Every ``count`` days, weeks, months or years. Raises InvalidInterval outside 1…1200."""

    unit: Unit
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MAX_COUNT:
            raise InvalidInterval(
                f"an interval counts 1 to {MAX_COUNT} units, not {self.count}",
                pointer="/count",
                fix="Use a positive whole number.",
            )


@lru_cache(maxsize=1_000)
def parse_zone(name: str) -> ZoneInfo:
    """An IANA zone. Raises UnknownTimeZone for names that the tz database does not know."""
    try:
        if not name or name.startswith(("/", ".")) or "\0" in name:
            raise ValueError(name)
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:
        raise UnknownTimeZone(
            f"{name!r} is not an IANA time zone",
            fix="Use a name such as Europe/Berlin or UTC.",
        ) from error


@dataclass(frozen=True, slots=True)
class Anchor:
    """The moment (UTC) on which a cycle hangs, and the zone in which it is counted."""

    at: datetime
    timezone: str

    def __post_init__(self) -> None:
        assert self.at.tzinfo is not None, "an anchor is an instant"
        parse_zone(self.timezone)


@dataclass(frozen=True, slots=True)
class Period:
    """Half-open: ``start_at`` belongs to it, ``end_at`` does not. Both UTC."""

    start_at: datetime
    end_at: datetime


def boundary(anchor: Anchor, interval: Interval, n: int) -> datetime:
    """The n-th boundary (UTC); boundary 0 is the anchor itself, to the microsecond.

    A day that a month lacks becomes its last day. A local time that a clock change skips moves
    forward by the gap; one that comes twice is taken the first time (Python's fold=0). Where a
    zone left out a whole day (Samoa, 30 December 2011) the boundary lies half a day before that,
    since moved by the whole gap it would meet the next day's and leave an empty period. So
    boundaries always increase. Raises DateOutOfRange outside the years 1970 to 2200.
    """
    if n == 0:
        return anchor.at
    zone = parse_zone(anchor.timezone)
    local = anchor.at.astimezone(zone)
    match interval.unit:
        case Unit.MONTH | Unit.YEAR:
            months = n * interval.count * (12 if interval.unit is Unit.YEAR else 1)
            wall = _plus_months(local, months)
        case Unit.DAY | Unit.WEEK:
            days = n * interval.count * (7 if interval.unit is Unit.WEEK else 1)
            wall = _plus_days(local, days)
    return _instant(wall, zone)


def _instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """The instant of a local time, by the rules of ``boundary``."""
    found = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    # In a gap Python reads fold=0 by the offset before it and fold=1 by the one after.
    skipped = found - wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    return found - skipped // 2 if skipped >= _DAY else found


def _plus_months(local: datetime, months: int) -> datetime:
    year, month0 = divmod(local.year * 12 + local.month - 1 + months, 12)
    _check_year(year)
    last = monthrange(year, month0 + 1)[1]
    return local.replace(year=year, month=month0 + 1, day=min(local.day, last), tzinfo=None)


def _plus_days(local: datetime, days: int) -> datetime:
    if abs(days) > (MAX_YEAR - MIN_YEAR) * 366:
        _check_year(MAX_YEAR + 1)
    wall = local.replace(tzinfo=None) + timedelta(days=days)
    _check_year(wall.year)
    return wall


def _check_year(year: int) -> None:
    if not MIN_YEAR <= year <= MAX_YEAR:
        raise DateOutOfRange(
            f"billing dates lie between {MIN_YEAR} and {MAX_YEAR}",
            fix="Use a nearer date or a shorter interval.",
        )


def period(anchor: Anchor, interval: Interval, n: int) -> Period:
    """The n-th period: from boundary n to boundary n + 1."""
    return Period(boundary(anchor, interval, n), boundary(anchor, interval, n + 1))


def index_at(anchor: Anchor, interval: Interval, at: datetime) -> int:
    """The number of the period that contains ``at``."""
    guess = _guess(anchor, interval, at)
    while boundary(anchor, interval, guess) > at:
        guess -= 1
    while boundary(anchor, interval, guess + 1) <= at:
        guess += 1
    return guess


def _guess(anchor: Anchor, interval: Interval, at: datetime) -> int:
    """At most a step or two from the truth, so that ``index_at`` needs no long walk."""
    zone = parse_zone(anchor.timezone)
    start, local = anchor.at.astimezone(zone), at.astimezone(zone)
    _check_year(local.year)
    months = (local.year - start.year) * 12 + local.month - start.month
    match interval.unit:
        case Unit.MONTH:
            return months // interval.count
        case Unit.YEAR:
            return months // (12 * interval.count)
        case Unit.WEEK:
            return (local.date() - start.date()).days // (7 * interval.count)
        case Unit.DAY:
            return (local.date() - start.date()).days // interval.count
