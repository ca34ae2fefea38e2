"""The billing calendar: boundaries counted from an anchor, in the customer's own zone.

Every boundary is computed from the anchor, never from the boundary before, so that months' ends
come back: 31 January, 28 February, 31 March. Boundaries keep the anchor's local wall-clock time
in its IANA zone; periods are half-open and tile without gap or overlap.

A cycle that is aligned to the calendar or to a given day hangs on the last boundary of its grid at
or before its start; what lies before the first boundary after the start is a stub, a part of the
grid's period that contains it. ``cycles`` tells what happens along a cycle.
"""

from __future__ import annotations

from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Never
from zoneinfo import ZoneInfo

from subledger.core.errors import DateOutOfRange, InvalidInterval, NaiveInstant, UnknownTimeZone

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
        if not isinstance(self.count, int) or not 1 <= self.count <= MAX_COUNT:
            raise InvalidInterval(
                f"an interval counts 1 to {MAX_COUNT} units, not {self.count}",
                pointer="/count",
                fix="Use a positive whole number.",
            )


def times_in(longer: Interval, shorter: Interval) -> int | None:
    """How many of the shorter interval make the longer one, whatever the date; None if no whole
    number does: months are not made of weeks."""
    months = (longer.unit.months * longer.count, shorter.unit.months * shorter.count)
    if not any(months):
        days = [each.count * (7 if each.unit is Unit.WEEK else 1) for each in (longer, shorter)]
        return None if days[0] % days[1] else days[0] // days[1]
    return None if not all(months) or months[0] % months[1] else months[0] // months[1]


_NOT_ZONES = ("/", ".", "localtime", "posixrules", "Factory", "posix/", "right/")


@lru_cache(maxsize=1_000)
def parse_zone(name: str) -> ZoneInfo:
    """An IANA zone. Raises UnknownTimeZone for names that the tz database does not know, and for
    those that mean the machine's own zone or count leap seconds."""
    try:
        if not name or name.startswith(_NOT_ZONES) or "\0" in name:
            raise ValueError(name)
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:
        raise UnknownTimeZone(
            f"{name!r} is not an IANA time zone",
            fix="Use a name such as Europe/Berlin or UTC.",
        ) from error


def utc(at: datetime) -> datetime:
    """The same instant in UTC. Raises NaiveInstant: a time without a zone is no instant, and
    Python would read it in the machine's own."""
    if at.tzinfo is UTC:
        return at
    if at.utcoffset() is None:
        raise NaiveInstant("an instant needs a zone", fix="Give the time with Z or an offset.")
    return at.astimezone(UTC)


@dataclass(frozen=True, slots=True)
class Anchor:
    """The moment (UTC) on which a cycle hangs, and the zone in which it is counted.

    ``day`` (1 to 31) is the day of month that every boundary wants where it is not the anchor's
    own: a cycle of the 31st may hang on 30 April. ``wall`` is the local time from which the other
    boundaries are counted where the clock did not show it at the anchor: a midnight that a clock
    change skipped, or a cycle that went on in another zone. Raises NaiveInstant, UnknownTimeZone,
    InvalidInterval.
    """

    at: datetime
    timezone: str
    day: int | None = None
    wall: datetime | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", utc(self.at))
        zone = parse_zone(self.timezone)
        if self.day is not None and not 1 <= self.day <= 31:
            raise InvalidInterval(
                "an anchor day lies between 1 and 31", pointer="/day", fix="Give a day of month."
            )
        if self.wall is not None and (
            self.wall.tzinfo is not None or abs(_instant(self.wall, zone) - self.at) > _WIDEST
        ):
            raise InvalidInterval(
                "an anchor's local time lies within two days of its instant",
                pointer="/wall",
                fix="Give the local time without a zone, or leave it out.",
            )


_WIDEST = 2 * _DAY  # zones lie up to 26 hours apart


def anchor_on(wall: datetime, timezone: str, day: int | None = None) -> Anchor:
    """The anchor at a local time (no tzinfo). One that a clock change skips is still what every
    other boundary wants."""
    zone = parse_zone(timezone)
    _check_year(wall.year)
    at = _instant(wall, zone)
    shown = at.astimezone(zone).replace(tzinfo=None, fold=0)
    return Anchor(at, timezone, day, None if shown == wall else wall)


class Grid(StrEnum):
    """On what a cycle hangs."""

    ANNIVERSARY = "anniversary"
    START_DAY = "start_day"
    CALENDAR = "calendar"
    DAY = "day"


class MonthEnd(StrEnum):
    """What becomes of a start on a month's last day that is not the 31st.

    CLAMP keeps the day (28 February stays on the 28th); LAST_DAY keeps to last days.
    """

    CLAMP = "clamp"
    LAST_DAY = "last_day"


class Origin(StrEnum):
    """Where a grid of several months, years or weeks is counted from, and so where a stub ends.

    PRECEDING: a given day from its last occurrence at or before the start; the calendar from its
    own beginning. OWN_UNIT: from the given day within the start's own month (with ``month`` own
    year, for weeks own week), be it before the start or after; the calendar from the unit that
    contains the start. (Kill Bill and Meteroid count a given day so, flexprice the calendar.)
    A quarterly cycle of the 10th that starts on 1 January has its first boundary on 10 March by
    PRECEDING, on 10 January by OWN_UNIT.
    """

    PRECEDING = "preceding"
    OWN_UNIT = "own_unit"


@dataclass(frozen=True, slots=True)
class Alignment:
    """Anniversary of the start to the microsecond; of the start's local midnight (START_DAY); the
    calendar (the 1st of a month, quarter, half-year or year; Monday); or a given day: of the month
    (1 to 31, 31 is always the last), with ``month`` for months and years, or ISO weekday (1 to 7)
    for weeks.

    ``time_of_day`` is the local time of a calendar's or a day's boundaries. Days align to nothing
    but the time of day. Raises InvalidInterval for a day or month out of range or without use.
    """

    grid: Grid = Grid.ANNIVERSARY
    day: int | None = None
    month: int | None = None
    month_end: MonthEnd = MonthEnd.CLAMP
    origin: Origin = Origin.PRECEDING
    time_of_day: time = time.min

    def __post_init__(self) -> None:
        day, month = self.day, self.month
        if self.grid is not Grid.DAY and (day is not None or month is not None):
            _refuse("only a cycle on a given day takes a day or a month", "/anchor_day")
        if self.grid is Grid.DAY and (day is None or not 1 <= day <= 31):
            _refuse("an anchor day lies between 1 and 31", "/anchor_day")
        if month is not None and not 1 <= month <= 12:
            _refuse("an anchor month lies between 1 and 12", "/anchor_month")
        if month is not None and (day or 1) > monthrange(2024, month)[1]:
            _refuse("that month never has this day", "/anchor_day")
        if self.time_of_day.tzinfo is not None:
            _refuse("the time of day is local and has no zone", "/time_of_day")
        if self.time_of_day != time.min and self.grid not in {Grid.CALENDAR, Grid.DAY}:
            _refuse("the start gives the time of day", "/time_of_day")


def _refuse(detail: str, pointer: str) -> Never:
    raise InvalidInterval(detail, pointer=pointer, fix="Give one in that range, or leave it out.")


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
    return _instant(wall_time(anchor, interval, n), parse_zone(anchor.timezone))


def wall_time(anchor: Anchor, interval: Interval, n: int) -> datetime:
    """The local time (no tzinfo) that boundary n wants; the clock may skip it."""
    local = _wall(anchor)
    if n == 0:
        return local
    if interval.unit.months:
        months = n * interval.count * interval.unit.months
        return _plus_months(local, months, anchor.day or local.day)
    return _plus_days(local, n * interval.count * (7 if interval.unit is Unit.WEEK else 1))


def _wall(anchor: Anchor) -> datetime:
    if anchor.wall is not None:
        return anchor.wall
    return anchor.at.astimezone(parse_zone(anchor.timezone)).replace(tzinfo=None, fold=0)


def _instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """The instant of a local time, by the rules of ``boundary``."""
    local = wall.replace(tzinfo=zone, fold=0)
    # In a gap Python reads fold=0 by the offset before it and fold=1 by the one after.
    offset, other = local.utcoffset(), local.replace(fold=1).utcoffset()
    assert offset is not None
    assert other is not None
    found = (wall - offset).replace(tzinfo=UTC)
    return found - (other - offset) // 2 if other - offset >= _DAY else found


def _plus_months(local: datetime, months: int, day: int) -> datetime:
    year, month0 = divmod(local.year * 12 + local.month - 1 + months, 12)
    _check_year(year)
    last = monthrange(year, month0 + 1)[1]
    return local.replace(year=year, month=month0 + 1, day=min(day, last))


def _plus_days(local: datetime, days: int) -> datetime:
    if abs(days) > (MAX_YEAR - MIN_YEAR) * 366:
        _check_year(MAX_YEAR + 1)
    wall = local + timedelta(days=days)
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
    """The number of the period that contains ``at``; negative before the anchor."""
    guess = _guess(anchor, interval, at)
    while boundary(anchor, interval, guess) > at:
        guess -= 1
    while boundary(anchor, interval, guess + 1) <= at:
        guess += 1
    return guess


def _guess(anchor: Anchor, interval: Interval, at: datetime) -> int:
    """At most a step or two from the truth, so that ``index_at`` needs no long walk."""
    start, local = _wall(anchor), utc(at).astimezone(parse_zone(anchor.timezone))
    _check_year(local.year)
    if interval.unit.months:
        months = (local.year - start.year) * 12 + local.month - start.month
        return months // (interval.unit.months * interval.count)
    days = (local.date() - start.date()).days
    return days // ((7 if interval.unit is Unit.WEEK else 1) * interval.count)


def align(start_at: datetime, timezone: str, interval: Interval, alignment: Alignment) -> Anchor:
    """The anchor of a subscription that starts at ``start_at`` (UTC).

    Anniversary: the start itself. Otherwise the last boundary of the grid at or before the start,
    so that the first period is a stub, the rest of the grid's period (a start at another hour of
    a grid day too: the day belongs to the period).
    For n units the calendar is counted from its own beginning: quarters begin in January, n-month
    cycles in months counted from January of year 0, weeks on Mondays counted from 1970-01-05;
    a given day from its last occurrence before the start; ``Origin`` tells the other way.
    Raises InvalidInterval for a weekday beyond 7 or a month where weeks or days are counted.
    """
    local = utc(start_at).astimezone(parse_zone(timezone)).replace(tzinfo=None, fold=0)
    months = interval.unit.months
    if alignment.grid in {Grid.ANNIVERSARY, Grid.START_DAY}:
        day = _last_day(local, alignment) if months else None
        if alignment.grid is Grid.ANNIVERSARY:
            return Anchor(start_at, timezone, day)
        return anchor_on(datetime.combine(local, time.min), timezone, day)
    if months:
        found, day = _month_grid(local.date(), interval, alignment)
    else:
        found, day = _day_grid(local.date(), interval, alignment), None
    anchor = anchor_on(datetime.combine(found, alignment.time_of_day), timezone, day)
    # The day found may lie some periods away, or its hour on the start's other side.
    n = index_at(anchor, interval, start_at)
    return anchor_on(wall_time(anchor, interval, n), timezone, day) if n else anchor


def _last_day(local: datetime, alignment: Alignment) -> int | None:
    if alignment.month_end is MonthEnd.CLAMP:
        return None
    return 31 if local.day == monthrange(local.year, local.month)[1] else None


def _month_grid(today: date, interval: Interval, alignment: Alignment) -> tuple[date, int | None]:
    own_unit = alignment.origin is Origin.OWN_UNIT
    months = today.year * 12 + today.month - 1
    if alignment.grid is Grid.CALENDAR:
        step = interval.unit.months * (1 if own_unit else interval.count)
        months -= months % step
        _check_year(months // 12)
        return _clamped(months, 1), None
    wanted, every = alignment.day or 1, 1
    if alignment.month is not None:
        months, every = today.year * 12 + alignment.month - 1, 12
    found = _clamped(months, wanted)
    if found > today and not own_unit:
        found = _clamped(months - every, wanted)
    return found, wanted if wanted > 28 else None


def _clamped(months: int, day: int) -> date:
    year, month0 = divmod(months, 12)
    return date(year, month0 + 1, min(day, monthrange(year, month0 + 1)[1]))


_FIRST_MONDAY = date(1970, 1, 5)


def _day_grid(today: date, interval: Interval, alignment: Alignment) -> date:
    if alignment.month is not None:
        _refuse("weeks and days take no anchor month", "/anchor_month")
    if interval.unit is Unit.DAY:
        return today
    weekday = alignment.day or 1
    if weekday > 7:
        _refuse("a weekday lies between 1 (Monday) and 7", "/anchor_day")
    monday = today - timedelta(days=today.weekday())
    if alignment.origin is Origin.OWN_UNIT:
        return monday + timedelta(days=weekday - 1)
    if alignment.grid is Grid.CALENDAR:
        return monday - timedelta(days=(monday - _FIRST_MONDAY).days % (7 * interval.count))
    return today - timedelta(days=(today.isoweekday() - weekday) % 7)
