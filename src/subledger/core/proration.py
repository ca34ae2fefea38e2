"""Proration: how much of a period's price a part of it costs.

Every mode counts marks (local days, microseconds) from one fixed origin, never from the part, so
that the parts of a split telescope: their fractions sum to exactly one. By days a moment stands
for the start of its local day; the day of a change therefore belongs to what begins on it
(conformance README, "day of a change"). A day is a date of the local clock, however long; one that
comes twice counts once, one that a zone left out counts as a date (it was neither used nor sold).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from subledger.core.calendar import (
    MAX_YEAR,
    MIN_YEAR,
    Anchor,
    Interval,
    Period,
    boundary,
    parse_zone,
)
from subledger.core.errors import DateOutOfRange, InvalidProration, InvalidSequence
from subledger.core.money import check_amount, round_half_up
from subledger.core.pricing import exact_text

MOST_DECIMALS = 18


class By(StrEnum):
    """What is counted. ``NONE`` splits nothing: the whole price goes to the part that begins the
    period, so a change in between costs and gives back nothing."""

    DAY = "day"
    SECOND = "second"
    MONTH_OF_30 = "month_of_30"
    NONE = "none"


class Denominator(StrEnum):
    """What a stub is measured against.

    ``GRID``: the grid's period that contains it. ``COUNTED_BACK`` (Kill Bill): a leading stub by
    the period that ends at the first boundary, counted back from it by plain months, without the
    anchor's own day. ``IMAGINED`` (Stripe): a leading stub by a period that begins with it.
    A trailing stub always by the period that starts at the last boundary.
    """

    GRID = "grid"
    COUNTED_BACK = "counted_back"
    IMAGINED = "imagined"


class Rounds(StrEnum):
    """Which side of what was billed in advance is rounded where a change cuts it; the other side
    is the rest, so that both always make up what was billed. They differ by one minor unit, and
    only where the cut is exactly half of one.

    ``USED``: what was used. ``CREDIT``: what is given back (Stripe, Polar, Meteroid, Kill Bill).
    """

    USED = "used"
    CREDIT = "credit"


@dataclass(frozen=True, slots=True)
class ByTime:
    """Proration by elapsed time.

    ``last_day_charged``: use that ends within a local day is charged to that day's end
    (``charged_until``; Lago, Flexprice). ``scale``: fractions are cut to so many decimals, half up
    (Kill Bill: 9); None keeps them exact. Raises InvalidProration for a scale outside 1…18.
    """

    by: By = By.DAY
    last_day_charged: bool = False
    denominator: Denominator = Denominator.GRID
    scale: int | None = None
    rounds: Rounds = Rounds.USED

    def __post_init__(self) -> None:
        if self.scale is not None and not 1 <= self.scale <= MOST_DECIMALS:
            raise InvalidProration(
                f"a fraction is cut to 1 to {MOST_DECIMALS} decimals",
                pointer="/scale",
                fix="Leave it out to keep fractions exact.",
            )


Mode = ByTime
"""Modes that look at consumption join here as a union."""

BY_DAY = ByTime()
BY_SECOND = ByTime(By.SECOND)
BY_MONTH_OF_30 = ByTime(By.MONTH_OF_30)
NONE = ByTime(By.NONE)


_NOTHING = Fraction(0)


@dataclass(frozen=True, slots=True)
class Share:
    """A part's fraction of its whole and the counts that made it.

    ``before`` counts from the whole's start to the part's; ``unit`` is ``day``, ``second``,
    ``microsecond``, ``day_of_30`` or ``period``. ``rest`` is the fraction that follows the part and
    that is rounded in its stead (``Rounds.CREDIT``); zero if the part itself is rounded.
    """

    fraction: Fraction
    by: By
    unit: str
    before: int
    part: int
    whole: int
    scale: int | None = None
    rest: Fraction = _NOTHING

    @property
    def derivation(self) -> dict[str, Any]:
        """fraction = part / whole; with ``scale`` s the difference of (before + part) / whole and
        before / whole, each rounded half up to s decimals."""
        data: dict[str, Any] = {
            "mode": self.by.value,
            "unit": self.unit,
            "before": self.before,
            "part": self.part,
            "whole": self.whole,
            "fraction": exact_text(self.fraction),
        }
        if self.scale is not None:
            data["scale"] = self.scale
        return data


def share(part: Period, whole: Period, mode: Mode, timezone: str) -> Share:
    """The share of ``whole`` that ``part`` takes, in [0, 1]; shares of a split sum to exactly 1.

    A whole that no counted day begins in (shorter than a day) is counted in time instead. Raises
    InvalidSequence for a part that ends before it starts or an empty whole, InvalidProration for a
    part outside the whole, UnknownTimeZone, DateOutOfRange.
    """
    _check_inside(part, whole)
    if mode.by is By.NONE:
        begins = part.start_at == whole.start_at and part.end_at > part.start_at
        return Share(Fraction(begins), mode.by, "period", int(not begins), int(begins), 1)
    zone = parse_zone(timezone)
    mark, unit = _MARKS[mode.by]
    if (total := mark(whole.end_at, zone) - (origin := mark(whole.start_at, zone))) <= 0:
        mark, unit = _MARKS[By.SECOND]
        origin = mark(whole.start_at, zone)
        total = mark(whole.end_at, zone) - origin
    before = mark(part.start_at, zone) - origin
    count = mark(part.end_at, zone) - origin - before
    if unit == "microsecond" and not (before % 10**6 or count % 10**6 or total % 10**6):
        unit, before, count, total = "second", before // 10**6, count // 10**6, total // 10**6
    if mode.scale is None:
        fraction = Fraction(count, total)
    else:
        # Cut the running sums, not the parts: thirds of 0.333 would leave a thousandth over.
        cut = _cut(before + count, total, mode.scale) - _cut(before, total, mode.scale)
        fraction = Fraction(cut, 10**mode.scale)
    return Share(fraction, mode.by, unit, before, count, total, mode.scale)


def fraction(part: Period, whole: Period, mode: Mode, timezone: str) -> Fraction:
    """``share`` without its counts."""
    return share(part, whole, mode, timezone).fraction


def _check_inside(part: Period, whole: Period) -> None:
    if part.end_at < part.start_at or whole.end_at <= whole.start_at:
        raise InvalidSequence(
            "a period ends after it starts", pointer="/end_at", fix="Exchange start and end."
        )
    if part.start_at < whole.start_at or part.end_at > whole.end_at:
        raise InvalidProration(
            "a part lies within its period", pointer="/start_at", fix="Clip it to its period."
        )


def _cut(count: int, total: int, scale: int) -> int:
    power: int = 10**scale
    return (2 * count * power + total) // (2 * total)


_EPOCH = datetime(MIN_YEAR, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def _instant_mark(at: datetime, zone: ZoneInfo) -> int:
    return (at - _EPOCH) // _MICROSECOND


def _day_mark(at: datetime, zone: ZoneInfo) -> int:
    """The ordinal of the last local day that had begun by ``at``; it never decreases."""
    local = at.astimezone(zone)
    if not MIN_YEAR <= local.year <= MAX_YEAR:
        raise DateOutOfRange(
            f"billing dates lie between {MIN_YEAR} and {MAX_YEAR}", fix="Use a nearer date."
        )
    day = local.toordinal()
    # Newfoundland set clocks back at 00:01: the old date came again after the new day had begun.
    return day + 1 if local.fold and _day_start(day + 1, zone) <= at else day


def _day_start(day: int, zone: ZoneInfo) -> datetime:
    return datetime.fromordinal(day).replace(tzinfo=zone).astimezone(UTC)


def _day_of_30_mark(at: datetime, zone: ZoneInfo) -> int:
    """Days if every month had 30: a 31st costs nothing, the last day of February makes up."""
    day = date.fromordinal(_day_mark(at, zone))
    return (day.year * 12 + day.month) * 30 + day.day


_MARKS: dict[By, tuple[Callable[[datetime, ZoneInfo], int], str]] = {
    By.DAY: (_day_mark, "day"),
    By.SECOND: (_instant_mark, "microsecond"),
    By.MONTH_OF_30: (_day_of_30_mark, "day_of_30"),
}


def local_days(start_at: datetime, end_at: datetime, timezone: str) -> int:
    """Local dates from the day of ``start_at`` to that of ``end_at``: a day of 23 hours is one."""
    zone = parse_zone(timezone)
    return _day_mark(end_at, zone) - _day_mark(start_at, zone)


def charged_until(at: datetime, whole: Period, mode: Mode, timezone: str) -> datetime:
    """Until when use that ends at ``at`` (exclusive) is charged: ``at`` itself or, where the mode
    charges the last day, the end of the local day in which it falls, at most the period's end. A
    day that has not begun at local midnight is not charged."""
    if not mode.last_day_charged or not whole.start_at < at < whole.end_at:
        return at
    zone = parse_zone(timezone)
    day = _day_mark(at, zone)
    if at == _day_start(day, zone):
        return at
    return min(_day_start(day + 1, zone), whole.end_at)


@dataclass(frozen=True, slots=True)
class Prorated:
    """An amount rounded once (minor units), what it was exactly, and exact less rounded."""

    amount_minor: int
    exact: int | Fraction
    residue: int | Fraction


def prorate(
    amount: int | Fraction, fraction: int | Fraction, rest: Fraction = _NOTHING
) -> Prorated:
    """``amount`` (minor units, may be negative) times ``fraction``, rounded half away from zero.

    With a ``rest`` that is rounded instead: what both cost together, less what the rest does.
    Raises InvalidProration for fractions outside [0, 1], AmountOutOfRange beyond ±10^15.
    """
    together = fraction + rest if rest else fraction
    if not fraction.numerator >= 0 or not rest.numerator >= 0 or together > 1:
        raise InvalidProration(
            "a fraction lies between 0 and 1", pointer="/fraction", fix="Take whole periods off."
        )
    exact = amount * fraction
    if rest:
        amount_minor = round_half_up(amount * together) - round_half_up(amount * rest)
    else:
        amount_minor = round_half_up(exact)
    return Prorated(check_amount(amount_minor, pointer="/amount"), exact, exact - amount_minor)


def measured(stub: Period, whole: Period, mode: Mode, timezone: str, interval: Interval) -> Period:
    """What a leading ``stub`` of a grid's period ``whole`` is measured against, by the mode.

    Never shorter than the stub: an imagined period from 30 April ends on 30 May, while the stub may
    last to 31 May; then the stub is the whole. In mode ``NONE`` a stub costs the full price.
    """
    if mode.by is By.NONE:
        return stub
    match mode.denominator:
        case Denominator.GRID:
            return whole
        case Denominator.COUNTED_BACK:
            back = boundary(Anchor(whole.end_at, timezone), interval, -1)
            return Period(min(back, stub.start_at), whole.end_at)
        case Denominator.IMAGINED:
            ahead = boundary(Anchor(stub.start_at, timezone), interval, 1)
            return Period(stub.start_at, max(ahead, stub.end_at))
