"""Money: exponents, limits, rounding, exact allocation."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger.core.errors import AmountOutOfRange, CurrencyMismatch, UnknownCurrency
from subledger.core.money import (
    LIMIT_MINOR,
    Money,
    allocate,
    exponent,
    format_minor,
    round_half_up,
)


@pytest.mark.parametrize(
    ("currency", "decimals"), [("EUR", 2), ("JPY", 0), ("KWD", 3), ("RUB", 2), ("CLF", 4)]
)
def test_exponents_are_those_of_iso_4217(currency, decimals):
    assert exponent(currency) == decimals


@pytest.mark.parametrize("code", ["eur", "EURO", "", "XXX", "BTC", "EU"])
def test_unknown_codes_are_refused(code):
    with pytest.raises(UnknownCurrency):
        exponent(code)


def test_sums_do_not_mix_currencies():
    with pytest.raises(CurrencyMismatch):
        Money(1, "EUR") + Money(1, "USD")


def test_amounts_have_a_limit():
    Money(LIMIT_MINOR, "EUR")
    with pytest.raises(AmountOutOfRange):
        Money(LIMIT_MINOR + 1, "EUR")


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [(1000, "EUR", "10.00"), (-5, "EUR", "-0.05"), (7, "JPY", "7"), (1234, "KWD", "1.234")],
)
def test_plain_text(amount, currency, text):
    assert format_minor(amount, currency) == text


@given(
    st.decimals(
        allow_nan=False, allow_infinity=False, places=6, min_value=-(10**9), max_value=10**9
    )
)
def test_rounding_agrees_with_the_decimal_module(value):
    assert round_half_up(Fraction(value)) == int(value.quantize(Decimal(1), ROUND_HALF_UP))


@given(
    st.integers(-(10**15), 10**15),
    st.lists(st.integers(0, 10**12), min_size=1, max_size=40),
)
def test_parts_sum_to_the_whole_and_are_fair(total, weights):
    parts = allocate(total, weights)
    assert sum(parts) == total
    assert allocate(-total, weights) == [-part for part in parts]
    whole = sum(weights)
    for part, weight in zip(parts, weights, strict=True):
        ideal = Fraction(total * weight, whole) if whole else Fraction(total, len(weights))
        assert abs(part - ideal) < 1


def test_equal_remainders_go_to_the_earlier_part():
    assert allocate(100, [1, 1, 1]) == [34, 33, 33]
    assert allocate(-100, [1, 1, 1]) == [-34, -33, -33]
    assert allocate(5, [0, 0]) == [3, 2]
