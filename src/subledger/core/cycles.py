"""What happens along a billing cycle.

A cycle is a start, a grid of boundaries (``calendar.Anchor`` and ``Interval``) and maybe an end.
Its periods are the grid's, the first cut to the start, the last to the end; they tile. A change of
anchor, interval or zone says where the old grid stops and hands out the new one from that very
moment, so that nothing is left out or counted twice.

Instants are UTC; days are days of the customer's zone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from itertools import islice, takewhile

from subledger.core.calendar import (
    Alignment,
    Anchor,
    Grid,
    Interval,
    Period,
    Unit,
    align,
    anchor_on,
    boundary,
    index_at,
    period,
    utc,
    wall_time,
)
from subledger.core.errors import DateOutOfRange, InvalidPeriod, TooManyPeriods
from subledger.core.local_days import add_local_days, local_date, local_midnight

MAX_PERIODS = 10_000
MAX_TRIAL_DAYS = 1_100
_DAY = timedelta(days=1)
_ANNIVERSARY = Alignment()


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
    at = utc(at)
    if at < of.start_at or (of.end_at is not None and at >= of.end_at):
        raise DateOutOfRange(
            "the cycle does not run at that moment",
            pointer="/at",
            fix="Ask for a moment from its start to before its end.",
        )
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
    """The cycle's periods that end after ``since`` and start before ``until``, in order; the two
    choose and cut none. Raises TooManyPeriods beyond ``limit`` (at most 10,000)."""
    until = utc(until)
    walk = _walk(of, since)
    return _bounded(takewhile(lambda each: each.start_at < until, walk), limit)


def due_periods(
    of: Cycle, at: datetime, billed: Billed, since: datetime | None = None, limit: int = MAX_PERIODS
) -> list[Period]:
    """The periods that end after ``since`` (default: all) and have fallen due by ``at``: in
    advance those that start at or before it, in arrears those that end so. Raises
    TooManyPeriods."""
    at = utc(at)
    walk = _walk(of, of.start_at if since is None else since)
    if billed is Billed.ADVANCE:
        return _bounded(takewhile(lambda each: each.start_at <= at, walk), limit)
    return _bounded(takewhile(lambda each: each.end_at <= at, walk), limit)


def _walk(of: Cycle, since: datetime) -> Iterator[Period]:
    """Periods from the one that contains ``since`` on; each boundary is computed once."""
    since = max(utc(since), of.start_at)
    if of.end_at is not None and of.end_at <= since:
        return
    n = index_at(of.anchor, of.interval, since)
    here = max(boundary(of.anchor, of.interval, n), of.start_at)
    while of.end_at is None or here < of.end_at:
        n += 1
        following = boundary(of.anchor, of.interval, n)
        if of.end_at is not None:
            following = min(following, of.end_at)
        yield Period(here, following)
        here = following


def _bounded(found: Iterator[Period], limit: int) -> list[Period]:
    limit = min(limit, MAX_PERIODS)
    taken = list(islice(found, limit + 1))
    if len(taken) > limit:
        raise TooManyPeriods(
            f"more than {limit} periods", pointer="/until", fix="Ask for a shorter time."
        )
    return taken


def billed_through(of: Cycle, at: datetime, billed: Billed) -> datetime | None:
    """Up to where bills reach once all that is due by ``at`` is billed.

    In advance the end of the period that contains ``at``; in arrears the last boundary at or
    before it (the start counts if it is one). Never beyond the end; None while nothing is due.
    """
    at = utc(at)
    if at < of.start_at:
        return None
    if of.end_at is not None and of.end_at <= at:
        return of.end_at
    if billed is Billed.ADVANCE:
        return period_containing(of, at).served.end_at
    found = boundary(of.anchor, of.interval, index_at(of.anchor, of.interval, at))
    return found if found >= of.start_at else None


def period_to_bill(of: Cycle, at: datetime, billed: Billed) -> Stretch:
    """The period that a bill at ``at`` is about: in advance the one that contains ``at``, in
    arrears the last that is over. Before any is over it is the first, from the end on the last.
    Raises InvalidPeriod for a cycle that ended at its start."""
    first = index_at(of.anchor, of.interval, of.start_at)
    if of.end_at is None or utc(at) < of.end_at:
        n = index_at(of.anchor, of.interval, at)
        return _cut(of, max(n - 1 if billed is Billed.ARREARS else n, first))
    if of.end_at == of.start_at:
        raise InvalidPeriod("the cycle has no period", fix="Bill nothing for it.")
    return _cut(of, _last_before(of.anchor, of.interval, of.end_at))


def elapsed_cycles(of: Cycle, at: datetime) -> int:
    """How many periods have ended at or before ``at``; a stub counts as one. 0 before the start."""
    at = utc(at)
    if at <= of.start_at:
        return 0
    first = index_at(of.anchor, of.interval, of.start_at)
    if of.end_at is not None and of.end_at <= at:
        if of.end_at == of.start_at:
            return 0
        return _last_before(of.anchor, of.interval, of.end_at) + 1 - first
    return index_at(of.anchor, of.interval, at) - first


# Trials -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial of ``days`` local days, or up to the first moment of the local date ``until`` (that
    day is paid). Raises InvalidPeriod unless exactly one is given, or beyond 1,100 days."""

    days: int | None = None
    until: date | None = None

    def __post_init__(self) -> None:
        if (self.days is None) == (self.until is None):
            raise InvalidPeriod(
                "a trial has a number of days or a last date", fix="Give one of the two."
            )
        if self.days is not None and not 0 <= self.days <= MAX_TRIAL_DAYS:
            raise InvalidPeriod(
                f"a trial has 0 to {MAX_TRIAL_DAYS} days", pointer="/days", fix="Give fewer days."
            )


def trial_end(start_at: datetime, timezone: str, trial: Trial) -> datetime:
    """Where a trial ends; a cycle that starts there (``cycle``) hangs there. Raises InvalidPeriod
    for a date that has begun by the start."""
    if trial.until is None:
        return add_local_days(start_at, trial.days or 0, timezone)
    found = local_midnight(trial.until, timezone)
    if found <= start_at:
        raise InvalidPeriod(
            "the trial would end before it starts", pointer="/until", fix="Give a later date."
        )
    if found - start_at > (MAX_TRIAL_DAYS + 1) * _DAY:
        raise InvalidPeriod(
            f"a trial has at most {MAX_TRIAL_DAYS} days", pointer="/until", fix="Give less."
        )
    return found


# Changes of the grid ------------------------------------------------------------------------------


class TakesEffect(StrEnum):
    """When a new grid takes over: at once, when the running period ends, or on the new grid's
    first day at or after the change (the old grid runs on until then)."""

    NOW = "now"
    PERIOD_END = "period_end"
    NEXT_GRID_DAY = "next_grid_day"


@dataclass(frozen=True, slots=True)
class Change:
    """Where the old grid stops and the new one goes on: ``last`` ends and ``first`` starts at
    ``following.start_at``. ``last`` is None if nothing of the old grid was served."""

    last: Stretch | None
    following: Cycle
    first: Stretch


def reanchor(
    of: Cycle,
    at: datetime,
    alignment: Alignment | None,
    takes_effect: TakesEffect = TakesEffect.PERIOD_END,
    interval: Interval | None = None,
) -> Change:
    """A change of anchor (``alignment``; None keeps the old one), of interval, or both, made at
    ``at``. Raises InvalidPeriod outside the cycle and where it ends before the change."""
    at, interval, anchor = utc(at), interval or of.interval, of.anchor
    _check_runs(of, at)
    effective_at = at
    if takes_effect is TakesEffect.PERIOD_END:
        effective_at = next_boundary(of.anchor, of.interval, at)
    elif takes_effect is TakesEffect.NEXT_GRID_DAY:
        effective_at = _next_grid_day(of.anchor, interval, at, alignment)
    if alignment is not None:
        anchor = align(effective_at, of.anchor.timezone, interval, alignment)
    return _change(of, effective_at, anchor, interval)


def _next_grid_day(
    anchor: Anchor, interval: Interval, at: datetime, alignment: Alignment | None
) -> datetime:
    if alignment is None:
        return boundary_from(anchor, interval, at)
    if alignment.grid in {Grid.ANNIVERSARY, Grid.START_DAY}:
        return at
    if alignment.grid is Grid.DAY and interval.unit.months:
        # The day's next occurrence, whatever the interval: a quarter need not pass first.
        interval = Interval(Unit.MONTH if alignment.month is None else Unit.YEAR)
    elif interval.unit in {Unit.WEEK, Unit.DAY} and alignment.grid is Grid.DAY:
        interval = Interval(interval.unit)
    return boundary_from(align(at, anchor.timezone, interval, alignment), interval, at)


def change_zone(of: Cycle, at: datetime, timezone: str) -> Change:
    """The customer's zone changes at ``at``. The running period keeps its end; from there on the
    same local days and hours are counted in the new zone, so that the next period is a whole one,
    some hours longer or shorter. Raises InvalidPeriod outside the cycle and in its last period.
    """
    at, anchor, interval = utc(at), of.anchor, of.interval
    _check_runs(of, at)
    n = index_at(anchor, interval, at) + 1
    ends_at, wall = boundary(anchor, interval, n), wall_time(anchor, interval, n)
    day = None
    if interval.unit.months:
        day = anchor.day or wall_time(anchor, interval, 0).day
    elif interval.unit is Unit.DAY:
        # Zones lie up to 26 hours apart, more than a day's period: take the nearest day.
        today = local_date(ends_at, timezone)
        shown = wall.replace(year=today.year, month=today.month, day=today.day)
        wall = min(
            (shown + days * _DAY for days in (-1, 0, 1)),
            key=lambda each: abs(anchor_on(each, timezone).at - ends_at),
        )
    return _change(of, ends_at, Anchor(ends_at, timezone, day, wall), interval)


def _check_runs(of: Cycle, at: datetime) -> None:
    if at < of.start_at or (of.end_at is not None and at >= of.end_at):
        raise InvalidPeriod(
            "only a running cycle changes", pointer="/at", fix="Give a moment while it runs."
        )


def _change(of: Cycle, effective_at: datetime, anchor: Anchor, interval: Interval) -> Change:
    if of.end_at is not None and of.end_at <= effective_at:
        raise InvalidPeriod(
            "the cycle ends before the change takes effect",
            pointer="/end_at",
            fix="Let it take effect earlier, or not at all.",
        )
    last = None
    if effective_at > of.start_at:
        n = _last_before(of.anchor, of.interval, effective_at)
        last = stretch(of.anchor, of.interval, n, of.start_at, effective_at)
    following = Cycle(effective_at, anchor, interval, of.end_at)
    return Change(last, following, first_period(following))
