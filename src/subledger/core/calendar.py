"""The billing calendar: boundaries counted from an anchor, in the customer's own zone.

Every boundary is computed from the anchor, never from the boundary before, so that months' ends
come back: 31 January, 28 February, 31 March. Boundaries keep the anchor's local wall-clock time
in its IANA zone; periods are half-open and tile without gap or overlap.

A cycle that is aligned to the calendar or to a given day hangs on a grid point at or before its
start, or on the first one after it; what lies before the first boundary is a stub, a part of the
grid's period that contains it.
"""

from __future__ import annotations

from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
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
    QUARTER = "quarter"
    HALF_YEAR = "half_year"
    YEAR = "year"

    @property
    def months(self) -> int:
        """Months of one unit; 0 for days and weeks."""
        return _MONTHS.get(self, 0)


_MONTHS = {Unit.MONTH: 1, Unit.QUARTER: 3, Unit.HALF_YEAR: 6, Unit.YEAR: 12}


@dataclass(frozen=True, slots=True)
class Interval:
    """Every ``count`` units. Raises InvalidInterval outside 1…1200."""

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
    """The moment (UTC) on which a cycle hangs, and the zone in which it is counted.

    ``day`` (1 to 31) is the day of month that every boundary wants where it is not the anchor's
    own: a cycle of the 31st may hang on 30 April.
    """

    at: datetime
    timezone: str
    day: int | None = None

    def __post_init__(self) -> None:
        assert self.at.tzinfo is not None, "an anchor is an instant"
        assert self.day is None or 1 <= self.day <= 31, "a day of month"
        parse_zone(self.timezone)


class Grid(StrEnum):
    """On what a cycle hangs."""

    ANNIVERSARY = "anniversary"
    CALENDAR = "calendar"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class Alignment:
    """Anniversary of the start; the calendar (the 1st of a month, quarter, half-year or year;
    Monday); or a given day: of the month (1 to 31, 31 is always the last), with ``month`` for
    years, or ISO weekday (1 to 7) for weeks.

    Days align to nothing but the start's midnight. Raises InvalidInterval for a day out of range.
    """

    grid: Grid = Grid.ANNIVERSARY
    day: int | None = None
    month: int | None = None

    def __post_init__(self) -> None:
        if self.grid is Grid.DAY and (self.day is None or not 1 <= self.day <= 31):
            raise InvalidInterval(
                "an anchor day lies between 1 and 31", pointer="/anchor_day", fix="Give the day."
            )
        if self.month is not None and not 1 <= self.month <= 12:
            raise InvalidInterval(
                "an anchor month lies between 1 and 12", pointer="/anchor_month", fix="Give 1-12."
            )
        if self.month is not None and (self.day or 1) > monthrange(2024, self.month)[1]:
            raise InvalidInterval(
                "that month never has this day", pointer="/anchor_day", fix="Use an earlier day."
            )


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
    if interval.unit.months:
        months = n * interval.count * interval.unit.months
        wall = _plus_months(local, months, anchor.day or local.day)
    else:
        days = n * interval.count * (7 if interval.unit is Unit.WEEK else 1)
        wall = _plus_days(local, days)
    return _instant(wall, zone)


def _instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """The instant of a local time, by the rules of ``boundary``."""
    found = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    # In a gap Python reads fold=0 by the offset before it and fold=1 by the one after.
    skipped = found - wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    return found - skipped // 2 if skipped >= _DAY else found


def _plus_months(local: datetime, months: int, day: int) -> datetime:
    year, month0 = divmod(local.year * 12 + local.month - 1 + months, 12)
    _check_year(year)
    last = monthrange(year, month0 + 1)[1]
    return local.replace(year=year, month=month0 + 1, day=min(day, last), tzinfo=None)


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
    if interval.unit.months:
        months = (local.year - start.year) * 12 + local.month - start.month
        return months // (interval.unit.months * interval.count)
    days = (local.date() - start.date()).days
    return days // ((7 if interval.unit is Unit.WEEK else 1) * interval.count)


def align(start_at: datetime, timezone: str, interval: Interval, alignment: Alignment) -> Anchor:
    """The anchor of a subscription that starts at ``start_at`` (UTC).

    Anniversary: the start itself. Otherwise the local midnight of the last grid day at or before
    the start, so that the first period is a stub, the rest of the grid's period (a start on a
    grid day at another hour too: the day belongs to the period).
    For n units the grid is counted from the calendar's own: quarters begin in January, n-month
    cycles in months counted from January of year 0, weeks on Mondays counted from 1970-01-05;
    with a given day from the unit that contains the start.
    """
    if alignment.grid is Grid.ANNIVERSARY:
        return Anchor(start_at, timezone)
    zone = parse_zone(timezone)
    today = start_at.astimezone(zone).date()
    if interval.unit.months:
        found, day = _month_grid(today, interval, alignment)
    else:
        found, day = _day_grid(today, interval, alignment), None
    _check_year(found.year)
    return Anchor(_instant(datetime.combine(found, _MIDNIGHT), zone), timezone, day)


def _month_grid(today: date, interval: Interval, alignment: Alignment) -> tuple[date, int | None]:
    wanted = alignment.day or 1 if alignment.grid is Grid.DAY else 1
    step = interval.unit.months * interval.count
    months = today.year * 12 + today.month - 1
    if alignment.grid is Grid.CALENDAR:
        months -= months % step
    elif alignment.month is not None:
        months -= (months - (alignment.month - 1)) % 12
    found = _clamped(months, wanted)
    if found > today:
        found = _clamped(months - (12 if alignment.month is not None else 1), wanted)
    return found, wanted if wanted > 28 else None


def _clamped(months: int, day: int) -> date:
    year, month0 = divmod(months, 12)
    return date(year, month0 + 1, min(day, monthrange(year, month0 + 1)[1]))


_MIDNIGHT = time.min
_FIRST_MONDAY = date(1970, 1, 5)


def _day_grid(today: date, interval: Interval, alignment: Alignment) -> date:
    if interval.unit is Unit.DAY:
        return today
    weekday = alignment.day if alignment.grid is Grid.DAY and alignment.day else 1
    if weekday > 7:
        raise InvalidInterval(
            "a weekday lies between 1 (Monday) and 7", pointer="/anchor_day", fix="Give 1-7."
        )
    found = today - timedelta(days=(today.isoweekday() - weekday) % 7)
    if alignment.grid is Grid.CALENDAR:
        found -= timedelta(days=(found - _FIRST_MONDAY).days % (7 * interval.count))
    return found
