"""Line taxes add up to the document's, gross stays gross, and an outsider gets the same figures."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger.core.errors import AmountOutOfRange, InvalidTax
from subledger.core.money import round_half_up
from subledger.core.tax import Place, Rate, Rounding, TaxLine, Ties, compute
from subledger.core.tax.amounts import apportion, rounded_ratio

HERE = Place("CA")


def rate(percent: str, name: str = "", *, compound: bool = False) -> Rate:
    return Rate(name or percent, Decimal(percent), name or percent, HERE, compound=compound)


POOL = (
    rate("19"), rate("7"), rate("7.25"), rate("0"), rate("33.333333333333"), rate("250"),
    rate("9.975", "on top", compound=True), rate("2", "on top of that", compound=True),
)  # fmt: skip
PLAIN = POOL[:5]
amounts = st.integers(-(10**7), 10**7) | st.integers(-20, 20)
lines = st.builds(
    TaxLine,
    amounts,
    st.lists(st.sampled_from(POOL), max_size=4, unique=True).map(tuple),
    inclusive=st.booleans(),
) | st.builds(
    TaxLine,
    amounts,
    st.lists(st.sampled_from(PLAIN), max_size=3, unique=True).map(tuple),
    inclusive=st.booleans(),
    of_gross=st.just(True),
)
documents = st.lists(lines, max_size=9)
roundings, ties = st.sampled_from(Rounding), st.sampled_from(Ties)


def naive_exact(line: TaxLine) -> list[Fraction]:
    """The exact taxes of a line by the definition, one after the other, on a net of 1."""
    parts = [Fraction(each.percent) / 100 for each in line.rates]
    if line.of_gross:
        gross = line.amount_minor if line.inclusive else line.amount_minor / (1 - sum(parts))
        return [gross * part for part in parts]
    of_one: dict[str, Fraction] = {}
    for compound in (False, True):
        for each, part in zip(line.rates, parts, strict=True):
            if each.compound is compound:
                of_one[each.id] = part * (1 + sum(of_one.values()) if compound else 1)
    net = line.amount_minor / (1 + sum(of_one.values())) if line.inclusive else line.amount_minor
    return [Fraction(net * of_one[each.id]) for each in line.rates]


def naive_rounded(value: Fraction, mode: Ties) -> int:
    below = value.numerator // value.denominator
    rest = value - below
    if rest == Fraction(1, 2):
        up = value > 0 if mode is Ties.HALF_UP else below % 2 == 1
        return below + up
    return below + (rest > Fraction(1, 2))


@given(documents, roundings, ties)
def test_lines_rates_and_document_add_up(document, rounding, mode):
    taxed = compute(document, rounding=rounding, ties=mode)
    assert taxed.tax_minor == sum(line.tax_minor for line in taxed.lines)
    assert taxed.tax_minor == sum(each.tax_minor for each in taxed.totals)
    assert taxed.gross_minor == taxed.net_minor + taxed.tax_minor
    for line, asked in zip(taxed.lines, document, strict=True):
        assert line.gross_minor == line.net_minor + line.tax_minor
        assert (line.gross_minor if asked.inclusive else line.net_minor) == asked.amount_minor
        assert line.tax_minor == sum(each.tax_minor for each in line.taxes)


@given(documents, roundings, ties)
def test_no_tax_is_a_unit_away_from_its_exact_amount(document, rounding, mode):
    taxed = compute(document, rounding=rounding, ties=mode)
    for line in taxed.lines:
        assert [each.exact for each in line.taxes] == naive_exact(line.line)
        assert all(-1 < each.residue < 1 for each in line.taxes)
    exact = sum((each for line in document for each in naive_exact(line)), Fraction(0))
    assert sum((each.exact for each in taxed.totals), Fraction(0)) == exact


@given(documents, ties)
def test_per_line_and_per_document_differ_by_less_than_a_unit_for_each_cell(document, mode):
    one = compute(document, rounding=Rounding.PER_LINE, ties=mode)
    for rounding in (Rounding.PER_TAX, Rounding.PER_DOCUMENT):
        other = compute(document, rounding=rounding, ties=mode)
        cells = sum(len(line.rates) for line in document)
        assert abs(one.tax_minor - other.tax_minor) < max(cells, 1)
        for a, b in zip(one.lines, other.lines, strict=True):
            for here, there in zip(a.taxes, b.taxes, strict=True):
                assert abs(here.tax_minor - there.tax_minor) <= 1


@given(st.lists(st.builds(TaxLine, amounts, st.just((rate("19"),))), max_size=9), ties)
def test_one_tax_on_net_amounts_is_rounded_once(document, mode):
    exact = Fraction(19, 100) * sum(line.amount_minor for line in document)
    for rounding in (Rounding.PER_TAX, Rounding.PER_DOCUMENT):
        taxed = compute(document, rounding=rounding, ties=mode)
        assert taxed.tax_minor == naive_rounded(exact, mode)
    alone = compute(document, rounding=Rounding.PER_LINE, ties=mode)
    assert [line.tax_minor for line in alone.lines] == [
        naive_rounded(naive_exact(line)[0], mode) for line in document
    ]


@given(amounts, st.sampled_from(POOL[:6]), roundings)
def test_the_net_of_a_gross_amount_is_rounded_and_the_tax_is_the_rest(gross, one, rounding):
    taxed = compute([TaxLine(gross, (one,), inclusive=True)], rounding=rounding)
    assert taxed.net_minor == round_half_up(gross / (1 + Fraction(one.percent) / 100))
    assert (taxed.tax_minor, taxed.gross_minor) == (gross - taxed.net_minor, gross)


@given(documents, roundings, ties)
def test_a_document_and_its_reversal_cancel_out(document, rounding, mode):
    taxed = compute(document, rounding=rounding, ties=mode)
    turned = [replace(line, amount_minor=-line.amount_minor) for line in document]
    back = compute(turned, rounding=rounding, ties=mode)
    for one, other in zip(taxed.lines, back.lines, strict=True):
        assert [each.tax_minor for each in one.taxes] == [-each.tax_minor for each in other.taxes]


def recompute(data: dict) -> list[list[int]]:
    """The whole taxes of each line from the derivation alone, with nothing of the engine."""
    result = [[0] * len(line["taxes"]) for line in data["lines"]]
    exact = [recomputed_exact(line) for line in data["lines"]]
    for group in data["groups"]:
        by_rate = {
            name: [
                (n, k)
                for n in group["lines"]
                for k, each in enumerate(data["lines"][n]["taxes"])
                if each["rate_id"] == name
            ]
            for name in group["rate_ids"]
        }
        sums = {name: sum(exact[n][k] for n, k in cells) for name, cells in by_rate.items()}
        whole, gross = sum(sums.values()), 0
        assert Fraction(group["exact"]) == whole
        if group["inclusive"]:
            gross = sum(data["lines"][n]["amount_minor"] for n in group["lines"])
            total = gross - naive_rounded(gross - whole, Ties(data["ties"]))
        else:
            total = naive_rounded(Fraction(whole), Ties(data["ties"]))
        targets = naive_split(total, list(sums.values()))
        for cells, target in zip(by_rate.values(), targets, strict=True):
            parts = naive_split(target, [exact[n][k] for n, k in cells])
            for (n, k), part in zip(cells, parts, strict=True):
                result[n][k] += part
    return result


def recomputed_exact(line: dict) -> list[Fraction]:
    rates = tuple(
        rate(each["percent"], each["rate_id"], compound=each["compound"]) for each in line["taxes"]
    )
    return naive_exact(
        TaxLine(line["amount_minor"], rates, inclusive=line["inclusive"], of_gross=line["of_gross"])
    )


def naive_split(total: int, exact: list[Fraction]) -> list[int]:
    lead = sum(exact) or next((each for each in exact if each), 0)
    if lead < 0:
        return [-part for part in naive_split(-total, [-each for each in exact])]
    parts = [each.numerator // each.denominator for each in map(Fraction, exact)]
    while sum(parts) < total:
        rests = [Fraction(each) - part for each, part in zip(exact, parts, strict=True)]
        parts[rests.index(max(rests))] += 1
    return parts


@given(documents, roundings, ties)
def test_an_independent_program_recomputes_every_cent(document, rounding, mode):
    taxed = compute(document, rounding=rounding, ties=mode)
    assert recompute(taxed.derivation()) == [
        [each.tax_minor for each in line.taxes] for line in taxed.lines
    ]


@given(amounts, st.permutations([rate("5", "gst"), rate("9.5", "qst", compound=True)]))
def test_compound_comes_on_top_whatever_the_order(amount, rates):
    taxed = compute([TaxLine(amount, tuple(rates))], rounding=Rounding.PER_LINE)
    found = {each.rate.id: each.exact for each in taxed.lines[0].taxes}
    assert found["gst"] == Fraction(amount) * Fraction(5, 100)
    assert found["qst"] == (amount + found["gst"]) * Fraction(95, 1000)


def test_a_compound_tax_says_of_what_it_was_taken():
    gst, qst = rate("5", "gst"), rate("9.5", "qst", compound=True)
    totals = compute([TaxLine(10_000, (gst, qst))]).totals
    assert [(each.base_minor, each.tax_minor) for each in totals] == [(10_000, 500), (10_500, 998)]
    assert totals[1].residue == Fraction(-1, 2)


def test_a_percentage_of_the_gross():
    ten = rate("10")
    exclusive = compute([TaxLine(100_000, (ten,), of_gross=True)])
    assert (exclusive.tax_minor, exclusive.gross_minor) == (11_111, 111_111)
    assert exclusive.totals[0].base_minor == 111_111
    inclusive = compute([TaxLine(111_111, (ten,), inclusive=True, of_gross=True)])
    assert (inclusive.net_minor, inclusive.tax_minor) == (100_000, 11_111)


def test_three_roundings_and_two_ways_for_halves():
    document = [TaxLine(4530, (rate("5"),)), TaxLine(3345, (rate("10"),))]
    assert compute(document, rounding=Rounding.PER_LINE).tax_minor == 562
    assert compute(document, rounding=Rounding.PER_TAX).tax_minor == 562
    assert compute(document, rounding=Rounding.PER_DOCUMENT).tax_minor == 561
    even = compute(document, rounding=Rounding.PER_LINE, ties=Ties.HALF_EVEN)
    assert [line.tax_minor for line in even.lines] == [226, 334]


def test_many_small_lines_do_not_starve_a_rate():
    two = (rate("30"), rate("60"))
    taxed = compute([TaxLine(1, two)] * 100, rounding=Rounding.PER_DOCUMENT)
    assert [each.tax_minor for each in taxed.totals] == [30, 60]


def test_nothing_is_taxed_with_nothing():
    taxed = compute([])
    assert (taxed.lines, taxed.totals, taxed.gross_minor) == ((), (), 0)
    assert compute([TaxLine(0, ())]).average_percent == 0
    untaxed = compute([TaxLine(500, ())])
    assert (untaxed.net_minor, untaxed.tax_minor) == (500, 0)


@given(st.integers(-(10**6), 10**6), st.integers(1, 10**4), ties)
def test_ratios_are_rounded_as_money_is(numerator, denominator, mode):
    exact = Fraction(numerator, denominator)
    assert rounded_ratio(numerator, denominator, mode) == naive_rounded(exact, mode)
    if mode is Ties.HALF_UP:
        assert rounded_ratio(numerator, denominator, mode) == round_half_up(exact)


def test_a_total_that_is_not_next_to_the_sum_is_a_mistake():
    with pytest.raises(AssertionError):
        apportion(5, [10, 10], 10)


@pytest.mark.parametrize(
    "lines",
    [
        lambda: [TaxLine(1, (rate("10"), rate("10")))],
        lambda: [TaxLine(1, tuple(rate(str(n)) for n in range(9)))],
        lambda: [TaxLine(1, (rate("5", "a"),)), TaxLine(1, (rate("6", "a"),))],
        lambda: [TaxLine(1, (rate("100"),), of_gross=True)],
        lambda: [TaxLine(1, (rate("5", "c", compound=True),), of_gross=True)],
        lambda: [TaxLine(1, ())] * 5001,
        lambda: [TaxLine(1, (rate(str(n)),)) for n in range(51)],
    ],
)
def test_documents_that_are_refused(lines):
    with pytest.raises(InvalidTax):
        compute(lines())


def test_sums_have_bounds():
    with pytest.raises(AmountOutOfRange):
        TaxLine(10**15 + 1, ())
    with pytest.raises(AmountOutOfRange):
        compute([TaxLine(10**15, (rate("1"),))])
