"""Free units before pricing, and parts of discounted lines."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger.core.discount_parts import Portion, Units, portion, take_units
from subledger.core.discounts import (
    UNUSED,
    Discount,
    Duration,
    Kind,
    Running,
    Spread,
    Target,
    Usage,
    take,
)
from subledger.core.errors import InvalidDiscount, InvalidQuantity

AT = datetime(2026, 1, 31, 10, tzinfo=UTC)
SEATS = frozenset({"seats"})


def free(units: str, name: str = "free", **options) -> Discount:
    terms = {"applies_to": SEATS, **options}
    return Discount(
        name, Kind.FREE_UNITS, None, None, None, Duration.PERIODS, 2,
        free_units=Decimal(units), **terms,
    )  # fmt: skip


def left(given_discounts, quantities, usage=UNUSED):
    lines = [Units(Decimal(each), SEATS) for each in quantities]
    return take_units([Running(each, usage) for each in given_discounts], lines, at=AT)


def test_units_are_free_on_each_line_or_once_over_all():
    assert left([free("3")], ["10", "2"]).quantities == (7, 0)
    assert left([free("11", spread=Spread.INVOICE)], ["10", "2"]).quantities == (0, 1)


def test_free_units_say_what_they_took_and_are_used_up():
    found = left([free("3")], ["10.5"])
    assert found.steps == (
        ({"discount_id": "free", "kind": "free_units", "base_units": "10.5", "units": "3"},),
    )
    assert found.usage == {"free": Usage(1, 0, AT)}
    assert left([free("3")], ["0"]).usage == {}
    assert left([free("3")], ["5"], usage=Usage(2)).quantities == (5,)


def test_only_the_units_in_scope_are_free():
    other = Units(Decimal(5), frozenset({"calls"}))
    assert take_units([Running(free("3"))], [other], at=AT).quantities == (5,)


def test_free_units_are_no_amount():
    found = take([Running(free("3"))], [Target(100, SEATS)], currency="EUR", at=AT)
    assert (found.total_minor, found.passed_over) == (0, ())


@pytest.mark.parametrize("options", [{"applies_to": frozenset()}, {"exclusive": True}])
def test_free_units_need_a_price_and_stack(options):
    with pytest.raises(InvalidDiscount):
        free("3", **options)


def test_free_units_are_some():
    with pytest.raises(InvalidDiscount):
        free("0")
    with pytest.raises(InvalidQuantity):
        free("-1")
    with pytest.raises(InvalidDiscount):
        left([free("1"), free("2")], ["5"])


quantities = st.decimals(0, 10**9, places=6, allow_nan=False, allow_infinity=False)


@given(
    st.lists(quantities.filter(bool), max_size=4),
    st.lists(st.one_of(quantities, st.just(Decimal(10**25) + Decimal("1e-12"))), max_size=4),
    st.randoms(),
)
def test_free_units_are_exact_in_any_order(units, wanted, random):
    attached = [free(str(each), str(n)) for n, each in enumerate(units)]
    shuffled = random.sample(attached, len(attached))
    found = left(attached, wanted)
    assert found == left(shuffled, wanted)
    for before, after, steps in zip(wanted, found.quantities, found.steps, strict=True):
        exact = max(Fraction(before) - sum(map(Fraction, units)), Fraction(0))
        assert Fraction(after) == exact
        assert sum(Fraction(step["units"]) for step in steps) == Fraction(before) - exact


# Parts of billed lines


def test_half_a_discounted_line_carries_half_the_discount():
    found = portion(10000, [("spring", 3000)], Fraction(1, 2))
    assert (found.gross_minor, found.discount_minor, found.net_minor) == (5000, 1500, 3500)
    assert found.step() == {
        "part": "1/2", "gross_minor": 5000, "discounts": [["spring", 1500]], "net_minor": 3500,
    }  # fmt: skip


def test_a_part_is_not_discounted_again():
    line = portion(10000, [("p", 1000)], Fraction(1, 2)).target()
    assert (line.gross_minor, line.discountable) == (4500, False)


def test_what_was_free_gives_nothing_back():
    assert portion(4900, [("p", 4900)], Fraction(1, 3)).net_minor == 0


def test_credits_by_hand_lower_what_is_left_and_not_the_share():
    by_hand = Portion(Fraction(0), 400)
    assert portion(1000, [], Fraction(1, 2), earlier=[by_hand]).net_minor == 500
    by_hand = Portion(Fraction(0), 800)
    assert portion(1000, [], Fraction(1, 2), earlier=[by_hand]).net_minor == 200


@pytest.mark.parametrize(
    ("gross", "stored", "part"),
    [(100, [("p", 101)], Fraction(1)), (100, [("p", -1)], Fraction(1)),
     (100, [("p", 1), ("p", 1)], Fraction(1)),
     (100, [], Fraction(-1, 2)), (100, [], Fraction(3, 2)), (-1, [], Fraction(1))],
)  # fmt: skip
def test_lines_and_parts_that_are_none(gross, stored, part):
    with pytest.raises(InvalidDiscount):
        portion(gross, stored, part)


def test_an_earlier_part_is_not_negative():
    for net, carried in ((-1, ()), (0, (("p", -1),))):
        with pytest.raises(InvalidDiscount):
            Portion(Fraction(0), net, carried)


@st.composite
def billed(draw):
    gross = draw(st.integers(0, 10**6))
    stored, rest = [], gross
    for n in range(draw(st.integers(0, 3))):
        minor = draw(st.integers(0, rest))
        stored.append((str(n), minor))
        rest -= minor
    return gross, stored


parts = st.lists(st.fractions(0, 1, max_denominator=366), max_size=6)


@given(billed(), parts)
def test_credits_together_never_exceed_the_line(line, wanted):
    gross, stored = line
    earlier: list[Portion] = []
    for part in wanted:
        earlier.append(portion(gross, stored, part, earlier=earlier))
    for found in earlier:
        assert found.net_minor >= 0
        assert all(minor >= 0 for _, minor in found.discounts)
    assert sum(each.net_minor for each in earlier) <= gross - sum(m for _, m in stored)
    for name, minor in stored:
        assert sum(dict(each.discounts)[name] for each in earlier) <= minor


@given(billed(), parts)
def test_parts_that_make_up_the_line_sum_to_it(line, wanted):
    gross, stored = line
    cuts = sorted({Fraction(0), Fraction(1), *wanted})
    found: list[Portion] = []
    for start, end in pairwise(cuts):
        found.append(portion(gross, stored, end - start, earlier=found))
    assert sum(each.gross_minor for each in found) == gross
    for name, minor in stored:
        assert sum(dict(each.discounts)[name] for each in found) == minor


@given(billed(), st.fractions(0, 1, max_denominator=366))
def test_a_first_part_is_the_share_of_what_was_paid(line, part):
    gross, stored = line
    found = portion(gross, stored, part)
    net = gross - sum(minor for _, minor in stored)
    assert abs(found.net_minor - net * part) <= Fraction(1, 2)
