"""Revenue is recognized as the service is delivered: a line's net over its service period.

Evenly, by local days or to the instant (IFRS 15.B18 and ASC 606-10-55-184 call it the straight
line over time). What is recognized is always computed from the start of the period, never from
the release before, so that releases sum to the net whatever moments they are taken at.

A credit note takes the part not yet delivered from deferred revenue and the rest from revenue, so
that afterwards what is left of the line is recognized as if it had never been more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum

from subledger.core.calendar import (
    Alignment,
    Grid,
    Interval,
    Period,
    Unit,
    align,
    boundary,
    parse_zone,
)
from subledger.core.errors import InvalidRecognition
from subledger.core.local_days import local_date, local_midnight
from subledger.core.money import check_amount

MOST_MONTHS = 1_200
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Mode(StrEnum):
    """By whole local days (the default: what a person can recount), or to the instant."""

    DAY = "day"
    SECOND = "second"


@dataclass(frozen=True, slots=True)
class Delivered:
    """``done`` of ``whole`` units of the service: local days, or microseconds."""

    done: int
    whole: int
    mode: Mode


@dataclass(frozen=True, slots=True)
class Release:
    """What is to be released now (minor units; its sign is the net's, or the opposite where too
    much was released before) and the step it comes from."""

    amount_minor: int
    recognized_minor: int
    step: dict[str, str | int]


@dataclass(frozen=True, slots=True)
class Month:
    """What is recognized within one local month (``2026-01``)."""

    month: str
    amount_minor: int


@dataclass(frozen=True, slots=True)
class CreditSplit:
    """A credited net: its undelivered part, its delivered part (minor units, not negative)."""

    deferred_minor: int
    revenue_minor: int
    step: dict[str, str | int]


def share_minor(total_minor: int, part: int, whole: int) -> int:
    """``total × part ÷ whole``, rounded half away from zero; ``whole`` is positive.

    The integers' own ``money.round_half_up``. Taken of growing parts and subtracted, it splits a
    total exactly (cumulative rounding).
    """
    if total_minor < 0:
        return -share_minor(-total_minor, part, whole)
    return (2 * total_minor * part + whole) // (2 * whole)


def delivered(
    period: Period, at: datetime, *, mode: Mode = Mode.DAY, timezone: str = "UTC"
) -> Delivered:
    """How much of the service is delivered by ``at``: nothing up to the start, all from the end.

    By days a day counts once it is over, in ``timezone``; the day of the start belongs to the
    period, the day of the end does not (half-open local dates, as periods are billed). A period
    within one local day has no whole day and is delivered at its end.
    Raises InvalidRecognition for an empty period, UnknownTimeZone.
    """
    if period.end_at <= period.start_at:
        raise InvalidRecognition(
            "a service period ends after its start", pointer="/period", fix="Give both moments."
        )
    if mode is Mode.DAY:
        zone = parse_zone(timezone)
        start = period.start_at.astimezone(zone).toordinal()
        whole = period.end_at.astimezone(zone).toordinal() - start
        done = 0 if at <= period.start_at else at.astimezone(zone).toordinal() - start
    else:
        whole = (period.end_at - period.start_at) // _MICROSECOND
        done = (at - period.start_at) // _MICROSECOND
    if at >= period.end_at:
        return Delivered(max(whole, 1), max(whole, 1), mode)
    return Delivered(min(max(done, 0), whole), whole, mode) if whole else Delivered(0, 1, mode)


def unit_at(at: datetime, *, mode: Mode, timezone: str) -> int:
    """The unit that is under way at a moment: the local day's ordinal, or microseconds since 1970.
    Everything before it is over. Whole numbers, so that a store can sum many lines by itself."""
    if mode is Mode.DAY:
        return local_date(at, timezone).toordinal()
    return (at - _EPOCH) // _MICROSECOND


def unit_start(unit: int, *, mode: Mode, timezone: str) -> datetime:
    """The first moment (UTC) of a unit."""
    if mode is Mode.DAY:
        return local_midnight(date.fromordinal(unit), timezone)
    return _EPOCH + unit * _MICROSECOND


def span(period: Period, *, mode: Mode, timezone: str) -> tuple[int, int]:
    """The units of a service: first, and behind the last; at least one.

    Where a unit begins, ``delivered`` is ``unit − first`` of ``behind − first``, within bounds.
    """
    first = unit_at(period.start_at, mode=mode, timezone=timezone)
    return first, max(unit_at(period.end_at, mode=mode, timezone=timezone), first + 1)


def recognized_minor(
    net_minor: int,
    period: Period,
    at: datetime,
    *,
    mode: Mode = Mode.DAY,
    timezone: str = "UTC",
) -> int:
    """What of a net (minor units; negative for a credit line) is recognized by ``at``.

    Zero up to the start, the net from the end on, monotone between. Raises as ``delivered``, and
    AmountOutOfRange.
    """
    check_amount(net_minor, pointer="/net_minor")
    found = delivered(period, at, mode=mode, timezone=timezone)
    return share_minor(net_minor, found.done, found.whole)


def release(
    net_minor: int,
    period: Period,
    at: datetime,
    *,
    released_minor: int,
    mode: Mode = Mode.DAY,
    timezone: str = "UTC",
) -> Release:
    """What is recognized by ``at`` less what was released before."""
    check_amount(net_minor, pointer="/net_minor")
    found = delivered(period, at, mode=mode, timezone=timezone)
    target = share_minor(net_minor, found.done, found.whole)
    step: dict[str, str | int] = {
        "kind": "recognized",
        "unit": mode.value,
        "net_minor": net_minor,
        "done": found.done,
        "whole": found.whole,
        "rounding": "half_up",
        "recognized_minor": target,
        "released_before_minor": released_minor,
        "amount_minor": target - released_minor,
    }
    return Release(amount_minor=target - released_minor, recognized_minor=target, step=step)


def over_minor(
    net_minor: int, units: tuple[int, int], unit: int, pauses: Sequence[tuple[int, int]] = ()
) -> int:
    """What of a net (minor units) is recognized where ``unit`` begins: of a service from the first
    of ``units`` (local days or microseconds, as ``unit_at``) up to the second, which stands still
    from and until the units of each of its ``pauses``; they leave at least one unit of it."""
    first, behind = units
    whole = behind - first - sum(until - start for start, until in pauses)
    over = min(max(unit, first), behind) - first
    over -= sum(max(min(unit, until) - start, 0) for start, until in pauses)
    return share_minor(net_minor, over, whole)


def by_month(
    net_minor: int,
    period: Period,
    *,
    mode: Mode = Mode.DAY,
    timezone: str = "UTC",
    pauses: Sequence[tuple[int, int]] = (),
) -> tuple[Month, ...]:
    """The schedule of a line: what each local month recognizes, first to last; sums to the net.

    Months in which nothing is recognized are listed with zero. ``pauses``: as ``over_minor``;
    they lie within the period. Raises InvalidRecognition above 1200 months.
    """
    recognized_minor(net_minor, period, period.start_at, mode=mode, timezone=timezone)
    units = span(period, mode=mode, timezone=timezone)
    zone = parse_zone(timezone)
    one = Interval(Unit.MONTH)
    anchor = align(period.start_at, timezone, one, Alignment(Grid.CALENDAR))
    months: list[Month] = []
    before, n, start_at = 0, 0, anchor.at
    while start_at < period.end_at:
        if n == MOST_MONTHS:
            raise InvalidRecognition(
                f"a schedule has at most {MOST_MONTHS} months",
                pointer="/period",
                fix="Split the line.",
            )
        end_at = boundary(anchor, one, n + 1)
        by_end = net_minor
        if end_at < period.end_at:
            reached = unit_at(end_at, mode=mode, timezone=timezone)
            by_end = over_minor(net_minor, units, reached, pauses)
        # Its middle names a month surely: a zone may skip the very midnight of the 1st.
        name = (start_at + (end_at - start_at) // 2).astimezone(zone).strftime("%Y-%m")
        months.append(Month(name, by_end - before))
        before, n, start_at = by_end, n + 1, end_at
    return tuple(months)


def credit_split(
    net_minor: int,
    credited_minor: int,
    period: Period,
    at: datetime,
    *,
    mode: Mode = Mode.DAY,
    timezone: str = "UTC",
) -> CreditSplit:
    """Splits a credited net between deferred revenue and revenue at the note's moment.

    ``net_minor`` is what of the line stood before the note. The delivered share of the credit
    leaves revenue: it falls by what had been recognized beyond what is left; ``release`` with the
    net that is left goes on from there.
    Raises InvalidRecognition if more is credited than stands.
    """
    if not 0 <= credited_minor <= net_minor:
        raise InvalidRecognition(
            f"between 0 and {net_minor} can be credited, not {credited_minor}",
            pointer="/credited_minor",
            fix="Credit at most what stands.",
        )
    before = recognized_minor(net_minor, period, at, mode=mode, timezone=timezone)
    left = net_minor - credited_minor
    after = recognized_minor(left, period, at, mode=mode, timezone=timezone)
    revenue = max(before - after, 0)
    step: dict[str, str | int] = {
        "kind": "credit_split",
        "net_minor": net_minor,
        "credited_minor": credited_minor,
        "recognized_before_minor": before,
        "recognized_after_minor": after,
        "revenue_minor": revenue,
        "deferred_minor": credited_minor - revenue,
    }
    return CreditSplit(credited_minor - revenue, revenue, step)
