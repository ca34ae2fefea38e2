"""Monthly recurring revenue: what an amount per interval comes to in a month, exactly.

A year has 12 months, 52 weeks, 365 days, whatever the calendar says: MRR compares prices, it bills
nobody. So a yearly price counts a twelfth, a weekly one 52/12, a daily one 365/12 (Stripe and
Recurly divide a year by 12; Glassfy takes 365/12 days; Paddle and others use 4.33 weeks and 30
days, which are these fractions rounded). What is summed stays a fraction: it is rounded once, at
the end, halves away from zero, so that no number of small subscriptions loses a cent each.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Final

from subledger.core.calendar import Interval, Unit
from subledger.core.money import round_half_up

MONTHS_OF_A_YEAR: Final = 12
PER_YEAR: Final = {Unit.DAY: 365, Unit.WEEK: 52}
"""How many of the units that have no months make a year."""


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
