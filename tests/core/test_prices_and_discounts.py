"""Prices are exact; discounts never exceed what is there."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger.core import discounts
from subledger.core.discounts import Discount, Duration, Kind
from subledger.core.errors import (
    InvalidDiscount,
    InvalidPrice,
    InvalidQuantity,
    UnknownCurrency,
)
from subledger.core.pricing import Flat, PerUnit, check_quantity, price

quantities = st.decimals(0, 10**9, allow_nan=False, allow_infinity=False, places=3)


def percent(value: str, *, duration=Duration.FOREVER, periods=None, name="p") -> Discount:
    return Discount(name, Kind.PERCENT, Decimal(value), None, None, duration, periods)


def fixed(amount: int, *, currency="EUR", name="f") -> Discount:
    return Discount(name, Kind.FIXED, None, amount, currency, Duration.FOREVER, None)


def test_a_flat_price_is_the_same_for_any_quantity():
    assert price(Flat(999), Decimal(1)).amount == price(Flat(999), Decimal(50)).amount == 999


def test_unit_prices_may_be_fractions_of_a_cent():
    priced = price(PerUnit(Decimal("0.35")), Decimal(7))
    assert priced.amount == Fraction(49, 20)
    assert priced.steps[0].amount == "49/20"


@given(quantities, st.decimals(0, 10**6, places=4, allow_nan=False, allow_infinity=False))
def test_unit_prices_are_exact(quantity, unit):
    assert price(PerUnit(unit), quantity).amount == Fraction(quantity) * Fraction(unit)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-1", "1e40", "0.0000000000001"])
def test_quantities_that_are_none(value):
    with pytest.raises(InvalidQuantity):
        check_quantity(Decimal(value))


@pytest.mark.parametrize("value", ["NaN", "-3", "1e40"])
@pytest.mark.parametrize("model", [Flat(5), PerUnit(Decimal(5))])
def test_no_price_is_asked_for_such_a_quantity(model, value):
    with pytest.raises(InvalidQuantity):
        price(model, Decimal(value))


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e-13", "1e-999999"])
def test_unit_amounts_and_percentages_have_few_decimals(value):
    with pytest.raises(InvalidPrice):
        PerUnit(Decimal(value))
    with pytest.raises(InvalidDiscount):
        percent(value)


@pytest.mark.parametrize("amount", [-1, 10**15 + 1])
def test_prices_have_bounds(amount):
    with pytest.raises(InvalidPrice):
        Flat(amount)
    with pytest.raises(InvalidPrice):
        PerUnit(Decimal(amount))


def test_percentages_come_first_whatever_the_order():
    one = discounts.apply([fixed(500), percent("10")], [2000], currency="EUR")
    other = discounts.apply([percent("10"), fixed(500)], [2000], currency="EUR")
    assert one.by_line_minor == other.by_line_minor == (700,)  # 200, then 500


def test_of_two_fixed_amounts_the_larger_is_taken_and_the_smaller_kept():
    given_discounts = [fixed(100, name="small"), fixed(1000, name="large")]
    for ordered in (given_discounts, given_discounts[::-1]):
        applied = discounts.apply(ordered, [800], currency="EUR")
        assert applied.by_line_minor == (800,)
        assert applied.used == ("large",)


def test_a_discount_that_rounds_to_nothing_is_not_used_up():
    applied = discounts.apply([percent("1")], [10, 20], currency="EUR")
    assert (applied.by_line_minor, applied.used) == ((0, 0), ())


def test_a_discount_is_not_taken_twice():
    with pytest.raises(InvalidDiscount):
        discounts.apply([percent("10"), percent("20")], [1000], currency="EUR")


def test_a_fixed_amount_is_split_over_the_lines_in_proportion():
    applied = discounts.apply([fixed(100)], [100, 100, 100], currency="EUR")
    assert applied.by_line_minor == (34, 33, 33)


def test_a_fixed_amount_in_another_currency_is_passed_over():
    applied = discounts.apply([fixed(100, currency="USD")], [1000], currency="EUR")
    assert applied.by_line_minor == (0,)
    assert applied.used == ()


def test_a_discount_that_finds_nothing_left_is_not_used_up():
    applied = discounts.apply([percent("100", name="all"), fixed(5)], [1000], currency="EUR")
    assert applied.by_line_minor == (1000,)
    assert applied.used == ("all",)


@pytest.mark.parametrize(
    ("duration", "periods", "used", "runs"),
    [
        (Duration.ONCE, None, 0, True), (Duration.ONCE, None, 1, False),
        (Duration.PERIODS, 3, 2, True), (Duration.PERIODS, 3, 3, False),
        (Duration.FOREVER, None, 10**6, True),
    ],
)  # fmt: skip
def test_durations(duration, periods, used, runs):
    assert discounts.applies(percent("5", duration=duration, periods=periods), used) is runs


@pytest.mark.parametrize("value", ["0", "-1", "100.01", "NaN"])
def test_percentages_have_bounds(value):
    with pytest.raises(InvalidDiscount):
        percent(value)


def test_a_fixed_discount_needs_a_currency_and_periods_need_a_number():
    with pytest.raises(InvalidDiscount):
        Discount("x", Kind.FIXED, None, 5, None, Duration.ONCE, None)
    with pytest.raises(InvalidDiscount):
        percent("5", duration=Duration.PERIODS)
    with pytest.raises(UnknownCurrency):
        fixed(5, currency="eur")


any_discount = st.one_of(
    st.decimals(Decimal("0.01"), 100, places=2).map(lambda v: percent(str(v))),
    st.integers(1, 10**6).map(fixed),
)


many_discounts = st.lists(any_discount, max_size=6).map(
    lambda found: [replace(each, id=str(n)) for n, each in enumerate(found)]
)


@given(many_discounts, st.lists(st.integers(0, 10**7), min_size=1, max_size=8), st.randoms())
def test_the_order_of_attachment_does_not_matter(given_discounts, gross, random):
    shuffled = list(given_discounts)
    random.shuffle(shuffled)
    assert discounts.apply(shuffled, gross, currency="EUR") == discounts.apply(
        given_discounts, gross, currency="EUR"
    )


@given(
    many_discounts,
    st.lists(st.integers(0, 10**7), min_size=1, max_size=8),
)
def test_discounts_never_exceed_the_line_and_their_steps_sum_up(given_discounts, gross):
    applied = discounts.apply(given_discounts, gross, currency="EUR")
    for line, taken, steps in zip(gross, applied.by_line_minor, applied.steps, strict=True):
        assert 0 <= taken <= line
        assert sum(step["amount_minor"] for step in steps) == taken
    fixed_total = sum(d.amount_minor or 0 for d in given_discounts)
    percents = [d.percent for d in given_discounts if d.percent]
    if not percents:
        assert sum(applied.by_line_minor) == min(fixed_total, sum(gross))
