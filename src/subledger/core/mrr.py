"""Monthly recurring revenue: what an amount per interval comes to in a month, exactly.

A year has 12 months, 52 weeks, 365 days, whatever the calendar says: MRR compares prices, it bills
nobody. So a yearly price counts a twelfth, a weekly one 52/12, a daily one 365/12 (Stripe and
Recurly divide a year by 12; Glassfy takes 365/12 days; Paddle and others use 4.33 weeks and 30
days, which are these fractions rounded). What is summed stays a fraction: it is rounded once, at
the end, halves away from zero, so that no number of small subscriptions loses a cent each.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from typing import Final

from subledger.core.calendar import Interval, Unit, boundary
from subledger.core.errors import InvalidInterval
from subledger.core.invoicing import draft
from subledger.core.money import round_half_up
from subledger.core.timeline import MOST_EVERY, Item, Phase, Timeline, Timing

MONTHS_OF_A_YEAR: Final = 12
PER_YEAR: Final = {Unit.DAY: 365, Unit.WEEK: 52}
"""How many of the units that have no months make a year."""


def turn(everies: Iterable[int]) -> int:
    """After how many periods of a subscription all its prices have come round: 12 with yearly
    prices beside monthly ones. Raises InvalidInterval beyond 1,200."""
    periods = 1
    for each in everies:
        periods = each * Fraction(periods, each).numerator  # the least common multiple
    if periods > MOST_EVERY:
        raise InvalidInterval(
            f"its prices come round together after {periods} periods, {MOST_EVERY} is the most",
            fix="Give prices intervals that fit one another.",
        )
    return periods


def recurring(timeline: Timeline, *, first_period: int) -> int:
    """What one turn of the prices costs from a period on, in minor units before tax, after the
    discounts that hold in it. It is the invoices' own computation of these periods, with nothing
    used and every price billed at its start; what is billed once does not recur.

    Raises as ``turn`` and ``draft`` do.
    """
    start_at = boundary(timeline.anchor, timeline.interval, first_period)
    place = max(sum(each.from_at <= start_at for each in timeline.phases) - 1, 0)
    present, *later = timeline.phases[place:]
    phases = (
        Phase(start_at, _recurring(present)),
        *(Phase(each.from_at, _recurring(each)) for each in later),
    )
    periods = turn(item.every for each in phases for item in each.items)
    whole = replace(timeline, phases=phases, ended_at=None, used={})
    found = draft(
        whole,
        first_period=first_period,
        horizon_at=boundary(timeline.anchor, timeline.interval, first_period + periods),
        most_periods=periods,
    )
    return found.subtotal_minor - found.discount_minor - found.tax_included_minor


def _recurring(phase: Phase) -> tuple[Item, ...]:
    return tuple(
        replace(each, timing=Timing.ADVANCE)
        for each in phase.items
        if each.timing is not Timing.ONCE
    )


def monthly(amount_minor: int, interval: Interval) -> Fraction:
    """``amount_minor`` once per interval, as minor units a month: exact, not rounded."""
    months = interval.unit.months
    if months:
        return Fraction(amount_minor, months * interval.count)
    return Fraction(amount_minor * PER_YEAR[interval.unit], MONTHS_OF_A_YEAR * interval.count)


def total(given: Iterable[tuple[int, Interval]]) -> int:
    """The MRR of amounts per interval, in minor units of one currency, rounded once. Sums of
    subscriptions with the same interval may be given as one amount."""
    return round_half_up(sum((monthly(each, interval) for each, interval in given), Fraction(0)))
