"""Credits give a line's tax back: in any split exactly, never more, at the stored rate."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger.core.errors import CreditExceedsLine, InvalidTax
from subledger.core.tax import (
    Place,
    Rate,
    Rounding,
    StoredTax,
    TaxLine,
    Ties,
    compute,
    credit_tax,
)

VAT = Rate("vat", Decimal("19"), "VAT", Place("DE"))
QST = Rate("qst", Decimal("9.975"), "QST", Place("CA", "QC"), compound=True)


def whole(original: StoredTax, parts: list[int], ties: Ties = Ties.HALF_UP) -> list[int]:
    """The taxes of credits of these amounts, one after the other."""
    taxes: list[int] = []
    for n, part in enumerate(parts):
        credit = credit_tax(
            original,
            credited_minor=part,
            already_credited_minor=sum(parts[:n]),
            already_credited_tax_minor=sum(taxes),
            ties=ties,
        )
        taxes.append(credit.tax_minor)
    return taxes


amounts, signs = st.integers(0, 10**6) | st.integers(0, 12), st.sampled_from((1, -1))


@st.composite
def splits(draw) -> tuple[int, list[int]]:
    amount = draw(amounts)
    cuts = sorted(draw(st.lists(st.integers(0, amount), max_size=8)))
    sign = draw(signs)
    ends = [0, *cuts, amount]
    return sign * amount, [sign * (b - a) for a, b in pairwise(ends)]


@given(
    splits(),
    st.lists(st.integers(-(10**4), 10**4), max_size=4),
    st.booleans(),
    st.sampled_from(Rounding),
    st.sampled_from(Ties),
)
def test_credits_in_any_split_give_back_exactly_the_tax(split, others, inclusive, rounding, ties):
    amount, parts = split
    rates = (VAT, QST)
    taxed = compute(
        [TaxLine(each, rates, inclusive=inclusive) for each in [amount, *others]],
        rounding=rounding,
        ties=ties,
    )
    for each in taxed.lines[0].taxes:
        taxes = whole(StoredTax.of(amount, each), parts, ties)
        assert sum(taxes) == each.tax_minor
        given_back = 0
        for part, tax in zip(parts, taxes, strict=True):
            given_back += tax
            assert tax * (1 if amount >= 0 else -1) >= 0
            assert abs(given_back) <= abs(each.tax_minor)
            assert abs(tax - each.exact * Fraction(part, amount or 1)) < 2


@given(splits())
def test_each_stage_is_the_rounded_tax_of_what_is_credited(split):
    amount, parts = split
    original = StoredTax.of(amount, compute([TaxLine(amount, (VAT,))]).lines[0].taxes[0])
    taxes = whole(original, parts)
    for n in range(len(parts)):
        through = TaxLine(sum(parts[: n + 1]), (VAT,))
        assert sum(taxes[: n + 1]) == compute([through]).tax_minor


def test_a_part_that_was_rounded_down_on_the_document_gives_no_unit_too_much():
    lines = compute([TaxLine(6833, (VAT,))] * 3).lines
    assert [line.tax_minor for line in lines] == [1299, 1298, 1298]  # 1298.27 each
    assert whole(StoredTax.of(6833, lines[1].taxes[0]), [6832, 1]) == [1298, 0]
    assert whole(StoredTax.of(6833, lines[0].taxes[0]), [6832, 1]) == [1298, 1]


def test_what_earlier_credits_left_out_comes_with_the_last():
    original = StoredTax(1000, 190, Fraction(0))
    credit = credit_tax(
        original, credited_minor=500, already_credited_minor=500, already_credited_tax_minor=0
    )
    assert credit.tax_minor == 190
    early = credit_tax(
        original, credited_minor=100, already_credited_minor=100, already_credited_tax_minor=190
    )
    assert early.tax_minor == 0


def test_a_credit_explains_itself():
    original = StoredTax(999, 190, Fraction(-19, 100))
    credit = credit_tax(
        original, credited_minor=333, already_credited_minor=333, already_credited_tax_minor=63
    )
    data = credit.derivation
    exact = data["original_tax_minor"] + Fraction(data["original_residue"])
    through = exact * Fraction(data["through_minor"], data["original_minor"])
    assert abs(through - data["through_tax_minor"]) <= Fraction(1, 2)
    assert data["tax_minor"] == data["through_tax_minor"] - data["already_credited_tax_minor"] == 64


@pytest.mark.parametrize(
    ("credited", "before", "before_tax"),
    [(601, 400, 0), (-1, 400, 0), (1, -1, 0), (1, 0, -1), (1, 0, 191), (1001, 0, 0)],
)
def test_no_credit_exceeds_the_line(credited, before, before_tax):
    with pytest.raises(CreditExceedsLine):
        credit_tax(
            StoredTax(1000, 190, Fraction(0)),
            credited_minor=credited,
            already_credited_minor=before,
            already_credited_tax_minor=before_tax,
        )


@pytest.mark.parametrize(
    ("amount", "tax", "residue"),
    [(100, 19, Fraction(1)), (100, 19, Fraction(-1)), (100, -19, Fraction(0)),
     (-100, 19, Fraction(0)), (0, 1, Fraction(0))],
)  # fmt: skip
def test_stored_taxes_that_cannot_be(amount, tax, residue):
    with pytest.raises(InvalidTax):
        StoredTax(amount, tax, residue)
