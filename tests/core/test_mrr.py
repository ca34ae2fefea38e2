"""Monthly recurring revenue: exact fractions, rounded once."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger.core.calendar import MAX_COUNT, Interval, Unit
from subledger.core.mrr import monthly, total

AMOUNTS = st.integers(-(10**15), 10**15)
INTERVALS = st.builds(Interval, st.sampled_from(Unit), st.integers(1, MAX_COUNT))


@pytest.mark.parametrize(
    ("unit", "count", "amount", "expected"),
    [
        (Unit.MONTH, 1, 999, Fraction(999)),
        (Unit.MONTH, 2, 999, Fraction(999, 2)),
        (Unit.QUARTER, 1, 3000, Fraction(1000)),
        (Unit.HALF_YEAR, 1, 6000, Fraction(1000)),
        (Unit.YEAR, 1, 12000, Fraction(1000)),
        (Unit.YEAR, 2, 10000, Fraction(10000, 24)),
        (Unit.WEEK, 1, 300, Fraction(1300)),
        (Unit.WEEK, 4, 300, Fraction(325)),
        (Unit.DAY, 1, 12, Fraction(365)),
        (Unit.DAY, 30, 1000, Fraction(365000, 360)),
    ],
)
def test_a_price_in_a_month(unit: Unit, count: int, amount: int, expected: Fraction) -> None:
    assert monthly(amount, Interval(unit, count)) == expected


def test_thirds_of_a_cent_are_summed_before_they_are_rounded() -> None:
    yearly = Interval(Unit.YEAR)
    assert total([(100, yearly)]) == 8
    assert total([(100, yearly)] * 12) == 100
    assert total([(6, yearly)]) == 1, "a half goes away from zero"
    assert total([(-6, yearly)]) == -1
    assert total([]) == 0


@given(AMOUNTS, st.integers(1, 100))
def test_the_same_span_in_other_words_is_the_same_revenue(amount: int, count: int) -> None:
    year = monthly(amount, Interval(Unit.YEAR, count))
    assert year == monthly(amount, Interval(Unit.MONTH, 12 * count))
    assert year == monthly(amount, Interval(Unit.QUARTER, 4 * count))
    assert year == monthly(amount, Interval(Unit.HALF_YEAR, 2 * count))


@given(AMOUNTS, AMOUNTS, INTERVALS)
def test_it_is_linear_and_keeps_order(one: int, other: int, interval: Interval) -> None:
    assert monthly(one, interval) + monthly(other, interval) == monthly(one + other, interval)
    assert (one < other) == (monthly(one, interval) < monthly(other, interval))


@given(st.lists(st.tuples(AMOUNTS, INTERVALS), max_size=30), st.randoms(use_true_random=False))
def test_a_total_is_within_half_a_minor_unit_in_any_order_and_grouping(given_, source) -> None:
    exact = sum((monthly(*each) for each in given_), Fraction(0))
    assert abs(total(given_) - exact) <= Fraction(1, 2)
    mixed = list(given_)
    source.shuffle(mixed)
    assert total(mixed) == total(given_)
    sums: dict[Interval, int] = {}
    for amount, interval in given_:
        sums[interval] = sums.get(interval, 0) + amount
    assert total((amount, interval) for interval, amount in sums.items()) == total(given_)
