"""How much of a period's price a part of it costs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction

from subledger.core.calendar import Period, parse_zone


@dataclass(frozen=True, slots=True)
class Mode:
    kind: str


BY_DAY = Mode("day")
BY_SECOND = Mode("second")
NONE = Mode("none")


def fraction(part: Period, whole: Period, mode: Mode, timezone: str) -> Fraction:
    """The share of ``part`` in ``whole``."""
    if mode.kind == "none":
        return Fraction(1)
    if mode.kind == "second":
        return Fraction(
            (part.end_at - part.start_at) // timedelta(microseconds=1),
            (whole.end_at - whole.start_at) // timedelta(microseconds=1),
        )
    zone = parse_zone(timezone)
    days = [
        each.astimezone(zone).date()
        for each in (part.start_at, part.end_at, whole.start_at, whole.end_at)
    ]
    return Fraction((days[1] - days[0]).days, (days[3] - days[2]).days)
