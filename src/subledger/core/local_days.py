"""Arithmetic on the days, hours and months that clocks and calendars in a zone show.

Instants are UTC, days are dates in the zone named. A local day may have 23 or 25 hours.
"""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from subledger.core.calendar import Anchor, Interval, Unit, boundary, parse_zone, utc
from subledger.core.errors import InvalidInterval

_DAY = timedelta(days=1)


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
