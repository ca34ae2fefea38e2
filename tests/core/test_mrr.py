"""Monthly recurring revenue: exact fractions, rounded once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger.core.calendar import MAX_COUNT, Anchor, Interval, Unit
from subledger.core.discounts import Discount, Duration, Kind, Running, Usage
from subledger.core.errors import InvalidInterval
from subledger.core.mrr import monthly, recurring, total, turn
from subledger.core.pricing import Flat, PerUnit
from subledger.core.timeline import Item, Phase, Timeline, Timing

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


START = datetime(2026, 1, 31, 10, tzinfo=UTC)
ONE = Decimal(1)


def subscription(*items: Item, discount: Discount | None = None, used: int = 0) -> Timeline:
    attached = () if discount is None else (Running(discount, Usage(used, 0, START)),)
    return Timeline(
        anchor=Anchor(START, "Europe/Berlin"), interval=Interval(Unit.MONTH), currency="EUR",
        phases=(Phase(START, items),), attached=attached,
    )  # fmt: skip


def half_off(periods: int) -> Discount:
    return Discount(
        id="half", kind=Kind.PERCENT, percent=Decimal(50), amount_minor=None, currency=None,
        duration=Duration.PERIODS, periods=periods,
    )  # fmt: skip


def test_prices_of_several_intervals_are_taken_for_a_whole_turn() -> None:
    items = (
        Item("base", Flat(1000), ONE),
        Item("care", Flat(5000), ONE, timing=Timing.ARREARS, every=12),
        Item("seats", PerUnit(Decimal("10.5")), Decimal(3), every=3),
        Item("set-up", Flat(9900), ONE, timing=Timing.ONCE),
        Item("calls", PerUnit(Decimal(2)), ONE, timing=Timing.ARREARS, metered=True),
    )
    # 31.5 is rounded in each of the four quarters, as its invoices do.
    whole = 12 * 1000 + 5000 + 4 * 32
    for first in (0, 1, 7, 12):
        assert recurring(subscription(*items), first_period=first) == whole
    assert turn(each.every for each in items) == 12
    assert total([(whole, Interval(Unit.MONTH, 12))]) == 1427


def test_a_discount_counts_in_the_periods_that_it_still_holds() -> None:
    def of(periods: int, used: int) -> int:
        known = subscription(Item("base", Flat(1000), ONE), discount=half_off(periods), used=used)
        return recurring(known, first_period=used)

    assert (of(3, 0), of(3, 2), of(3, 3)) == (500, 500, 1000)
    yearly = Item("care", Flat(5000), ONE, every=12)
    known = subscription(Item("base", Flat(1000), ONE), yearly, discount=half_off(3))
    assert recurring(known, first_period=0) == 12 * 1000 - 3 * 500 + 2500


def test_a_ramp_is_taken_from_its_moment_on() -> None:
    later = datetime(2026, 3, 31, 9, tzinfo=UTC)
    cheap, dear = Item("base", Flat(1000), ONE), Item("base", Flat(1500), ONE)
    known = replace(subscription(cheap), phases=(Phase(START, (cheap,)), Phase(later, (dear,))))
    assert [recurring(known, first_period=n) for n in range(4)] == [1000, 1000, 1500, 1500]
    yearly = Item("care", Flat(6000), ONE, every=12)
    both = replace(known, phases=(Phase(START, (cheap, yearly)), Phase(later, (dear, yearly))))
    assert recurring(both, first_period=0) == 2 * 1000 + 10 * 1500 + 6000


def test_what_does_not_recur_is_nothing_and_what_never_meets_is_refused() -> None:
    once = Item("set-up", Flat(9900), ONE, timing=Timing.ONCE)
    assert recurring(subscription(once), first_period=1) == 0
    assert turn([]) == 1
    with pytest.raises(InvalidInterval):
        turn([1199, 1200])


@given(st.lists(st.tuples(st.integers(0, 10**9), st.sampled_from([1, 2, 3, 4, 6, 12])),
                min_size=1, max_size=6), st.integers(0, 40))  # fmt: skip
def test_a_turn_of_fixed_prices_is_what_they_come_to_in_a_month(prices, first: int) -> None:
    items = [
        Item(f"p{n}", Flat(minor), ONE, every=every) for n, (minor, every) in enumerate(prices)
    ]
    periods = turn(each.every for each in items)
    whole = recurring(subscription(*items), first_period=first)
    assert monthly(whole, Interval(Unit.MONTH, periods)) == sum(
        monthly(minor, Interval(Unit.MONTH, every)) for minor, every in prices
    )
