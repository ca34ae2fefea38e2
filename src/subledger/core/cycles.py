"""What happens along a billing cycle, and arithmetic on local days.

A cycle is a start, a grid of boundaries (``calendar.Anchor`` and ``Interval``) and maybe an end.
Its periods are the grid's, the first cut to the start, the last to the end; they tile. A change of
anchor, interval or zone says where the old grid stops and hands out the new one from that very
moment, so that nothing is left out or counted twice.

Instants are UTC; days are days of the customer's zone.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from itertools import islice
from zoneinfo import ZoneInfo

from subledger.core.calendar import (
    Alignment,
    Anchor,
    Interval,
    Period,
    Unit,
    align,
    anchor_on,
    boundary,
    index_at,
    parse_zone,
    period,
    utc,
    wall_time,
)
from subledger.core.errors import DateOutOfRange, InvalidInterval, InvalidPeriod, TooManyPeriods

MAX_PERIODS = 10_000
MAX_TRIAL_DAYS = 1_100
_DAY = timedelta(days=1)
_ANNIVERSARY = Alignment()


# Local days ---------------------------------------------------------------------------------------


def local_date(at: datetime, timezone: str) -> date:
    """The date that a calendar in ``timezone`` shows."""
    return utc(at).astimezone(parse_zone(timezone)).date()


def day_of_month(at: datetime, timezone: str) -> int:
    """1 to 31 in ``timezone``: the anchor day of what starts then."""
    return local_date(at, timezone).day


def local_midnight(day: date, timezone: str) -> datetime:
    """The first moment (UTC) of a local day. Where a clock change skips midnight, the moment of
    the change; a day that a zone left out begins and ends at once."""
    return _first_moment(datetime.combine(day, time.min), parse_zone(timezone))


def local_day_start(at: datetime, timezone: str) -> datetime:
    """The first moment of the local day that contains ``at``."""
    return local_midnight(local_date(at, timezone), timezone)


def local_week_start(at: datetime, timezone: str, first_weekday: int = 1) -> datetime:
    """The first moment of the local week that contains ``at``; weeks begin on the ISO weekday
    ``first_weekday`` (1 is Monday). Raises InvalidInterval outside 1 to 7."""
    if not 1 <= first_weekday <= 7:
        raise InvalidInterval(
            "a weekday lies between 1 (Monday) and 7", pointer="/first_weekday", fix="Give 1-7."
        )
    day = local_date(at, timezone)
    return local_midnight(
        day - timedelta(days=(day.isoweekday() - first_weekday) % 7), timezone
    )


def local_hour_start(at: datetime, timezone: str) -> datetime:
    """The first moment of the local clock hour that contains ``at``. An hour that comes twice is
    two hours."""
    zone = parse_zone(timezone)
    local = utc(at).astimezone(zone)
    found = at - timedelta(
        minutes=local.minute, seconds=local.second, microseconds=local.microsecond
    )
    if found.astimezone(zone).utcoffset() == local.utcoffset():
        return utc(found)
    # The clock changed within this hour: after the change, or, where it went back by less than
    # an hour or an hour's first minutes were skipped, at the hour's first moment.
    return _first_moment(local.replace(minute=0, second=0, microsecond=0, tzinfo=None), zone)


def _first_moment(wall: datetime, zone: ZoneInfo) -> datetime:
    """The first instant at which the zone's clock shows ``wall`` or, if it skips that, later."""
    late = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    early = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    if early >= late:
        return late
    before = early.astimezone(zone).utcoffset()
    while late - early > timedelta(seconds=1):
        middle = early + (late - early) // 2
        if middle.astimezone(zone).utcoffset() == before:
            early = middle
        else:
            late = middle
    return late.replace(microsecond=0)


def local_days_between(start_at: datetime, end_at: datetime, timezone: str) -> int:
    """Local midnights passed from ``start_at`` to ``end_at``: the days of the half-open stretch
    where both lie on midnights. Negative if the end lies on an earlier day."""
    return (local_date(end_at, timezone) - local_date(start_at, timezone)).days


def add_local_days(at: datetime, days: int, timezone: str) -> datetime:
    """``days`` local days later (or earlier) at the same local time, by the rules of
    ``calendar.boundary``: 24 hours a day are not promised. Raises DateOutOfRange."""
    return boundary(Anchor(at, timezone), Interval(Unit.DAY), days)


def add_local_months(at: datetime, months: int, timezone: str) -> datetime:
    """``months`` local months later (or earlier) at the same local time and day of month, or the
    month's last day if that is earlier. Raises DateOutOfRange."""
    return boundary(Anchor(at, timezone), Interval(Unit.MONTH), months)


def day_in_month(of: date, day: int) -> date:
    """The anchor day ``day`` in the month of ``of``, at most the month's last day."""
    if not 1 <= day <= 31:
        raise InvalidInterval(
            "an anchor day lies between 1 and 31", pointer="/anchor_day", fix="Give the day."
        )
    return of.replace(day=min(day, monthrange(of.year, of.month)[1]))


def next_day_of_month(today: date, day: int) -> date:
    """The date on which a new anchor day takes effect: its first occurrence from today on, today
    included."""
    found = day_in_month(today, day)
    return found if found >= today else day_in_month(today.replace(day=1) + 31 * _DAY, day)


# The grid -----------------------------------------------------------------------------------------


def next_boundary(anchor: Anchor, interval: Interval, after: datetime) -> datetime:
    """The first boundary later than ``after``."""
    return boundary(anchor, interval, index_at(anchor, interval, after) + 1)


def boundary_from(anchor: Anchor, interval: Interval, at: datetime) -> datetime:
    """The first boundary at or after ``at``."""
    return boundary(anchor, interval, _last_before(anchor, interval, at) + 1)


def whole_periods_between(
    start_at: datetime, end_at: datetime, timezone: str, interval: Interval
) -> int:
    """How many intervals from ``start_at`` end at or before ``end_at``; 0 for an earlier end."""
    if end_at < start_at:
        return 0
    return index_at(Anchor(start_at, timezone), interval, end_at)


def _last_before(anchor: Anchor, interval: Interval, at: datetime) -> int:
    """The number of the period that contains the last moment before ``at``."""
    n = index_at(anchor, interval, at)
    return n - 1 if boundary(anchor, interval, n) == at else n


# Cycles -------------------------------------------------------------------------------------------


class Billed(StrEnum):
    """When a period falls due: at its start or at its end."""

    ADVANCE = "advance"
    ARREARS = "arrears"


@dataclass(frozen=True, slots=True)
class Cycle:
    """What is billed every ``interval`` from ``start_at`` on a grid; ``end_at`` is exclusive.

    The grid may hang anywhere: an anchor after the start leaves a stub up to it. Raises
    InvalidPeriod for an end before the start, NaiveInstant.
    """

    start_at: datetime
    anchor: Anchor
    interval: Interval
    end_at: datetime | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "start_at", utc(self.start_at))
        if self.end_at is None:
            return
        object.__setattr__(self, "end_at", utc(self.end_at))
        if self.end_at < self.start_at:
            raise InvalidPeriod(
                "a cycle ends at or after its start", pointer="/end_at", fix="Give a later end."
            )


@dataclass(frozen=True, slots=True)
class Stretch:
    """A period as it is served, and the grid's period that contains it: the same, or a stub's.

    ``days`` and ``grid_days`` count local days of both, by date: the day of the start belongs to
    it, the day of the end does not.
    """

    served: Period
    grid: Period
    days: int
    grid_days: int

    @property
    def is_stub(self) -> bool:
        """Whether days of the grid's period are missing. A start at another hour of the grid's
        first day is none."""
        return self.days != self.grid_days


def cycle(
    start_at: datetime,
    timezone: str,
    interval: Interval,
    alignment: Alignment = _ANNIVERSARY,
    end_at: datetime | None = None,
) -> Cycle:
    """The cycle of a subscription that starts at ``start_at``, aligned as asked."""
    return Cycle(start_at, align(start_at, timezone, interval, alignment), interval, end_at)


def first_period(of: Cycle) -> Stretch:
    """From the start to the next boundary (or the end), and the grid's period around it."""
    return _cut(of, index_at(of.anchor, of.interval, of.start_at))


def period_containing(of: Cycle, at: datetime) -> Stretch:
    """The period that contains ``at``. Raises DateOutOfRange before the start and from the end."""
    if at < of.start_at or (of.end_at is not None and at >= of.end_at):
        raise DateOutOfRange("the cycle does not run at that moment", pointer="/at")
    return _cut(of, index_at(of.anchor, of.interval, at))


def _cut(of: Cycle, n: int) -> Stretch:
    return stretch(of.anchor, of.interval, n, of.start_at, of.end_at)


def stretch(
    anchor: Anchor,
    interval: Interval,
    n: int,
    start_at: datetime | None = None,
    end_at: datetime | None = None,
) -> Stretch:
    """The grid's n-th period, cut to what lies between ``start_at`` and ``end_at``."""
    grid = period(anchor, interval, n)
    first = wall_time(anchor, interval, n).date()
    last = wall_time(anchor, interval, n + 1).date()
    served, begins, ends = grid, first, last
    if start_at is not None and start_at > grid.start_at:
        served, begins = replace(served, start_at=start_at), local_date(start_at, anchor.timezone)
    if end_at is not None and end_at < grid.end_at:
        served, ends = replace(served, end_at=end_at), local_date(end_at, anchor.timezone)
    if served.start_at > served.end_at:
        raise InvalidPeriod("nothing of that period is served", pointer="/end_at")
    return Stretch(served, grid, (ends - begins).days, (last - first).days)


def periods(of: Cycle, since: datetime, until: datetime, limit: int = MAX_PERIODS) -> list[Period]:
    """The cycle's periods that start before ``until`` and end after ``since``, in order, none of
    them cut by the two. Raises TooManyPeriods beyond ``limit`` (at most 10,000)."""
    since = max(since, of.start_at)
    if since >= until:
        return []
    walk = _walk(of, since)
    return _bounded((each for each in walk if each.start_at < until), limit)


def _walk(of: Cycle, since: datetime) -> Iterator[Period]:
    """Periods from the one that contains ``since`` on; each boundary is computed once."""
    n = index_at(of.anchor, of.interval, since)
    here = max(boundary(of.anchor, of.interval, n), of.start_at)
    while of.end_at is None or here < of.end_at:
        n += 1
        following = boundary(of.anchor, of.interval, n)
        if of.end_at is not None:
            following = min(following, of.end_at)
        yield Period(here, following)
        here = following
