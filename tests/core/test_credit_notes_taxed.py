"""Credit notes of taxed lines, against fractions: never more of a line than was charged, in net nor
in tax, the rest exactly that, and the tax by the rates that the line has stored."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from subledger.core.amounts import NOTHING, Amounts
from subledger.core.credit_notes import (
    CreditNote,
    Invoice,
    InvoiceLine,
    Request,
    State,
    credit_note,
    left_minor,
    rest,
    void,
)
from subledger.core.tax import Place, Rate, Rounding, TaxLine, Ties, compute


def rate(percent: str, name: str, *, compound: bool = False) -> Rate:
    return Rate(name, Decimal(percent), name.upper(), Place("DE"), levy=name, compound=compound)


VAT, LOW, CITY, ODD = (
    rate("19", "vat"),
    rate("7", "low"),
    rate("2.5", "city", compound=True),
    rate("9.975", "odd", compound=True),
)
# What a line may have been taxed at; the first is what today's rate would be.
RATES = ((rate("21", "new"),), (), (VAT,), (LOW,), (VAT, CITY), (LOW, ODD), (VAT, CITY, ODD))


@dataclass(frozen=True)
class Billed:
    """A line as it was billed, with the rates of its day."""

    stored: InvoiceLine
    rates: tuple[Rate, ...]
    inclusive: bool

    @property
    def priced_minor(self) -> int:
        return self.stored.gross_minor - self.stored.discount_minor

    def exact_tax(self, priced_minor: int) -> Fraction:
        """Naive: the percentages one after the other, compound ones on all before."""
        plain = sum((Fraction(each.percent) for each in self.rates if not each.compound),
                    Fraction(0)) / 100  # fmt: skip
        share = plain
        for each in self.rates:
            if each.compound:
                share += (1 + share) * Fraction(each.percent) / 100
        return priced_minor * share / (1 + share if self.inclusive else 1)


grosses = st.integers(1, 30) | st.integers(1, 10**6)
rates, roundings, all_ties = map(st.sampled_from, (RATES, Rounding, Ties))


@st.composite
def documents(draw) -> tuple[Billed, ...]:
    """Up to four lines of rates that changed between them, rounded together in some way."""
    made = []
    for _ in range(draw(st.integers(1, 4))):
        gross = draw(grosses)
        discount = draw(st.integers(0, gross)) * draw(st.booleans())
        made.append((gross, discount, draw(rates), draw(st.booleans())))
    taxed = compute(
        [TaxLine(gross - off, rates, inclusive=inside) for gross, off, rates, inside in made],
        rounding=draw(roundings),
        ties=draw(all_ties),
    )
    return tuple(
        Billed(
            InvoiceLine(
                str(n), gross, off, found.tax_minor, found.tax_minor if inside else 0
            ),
            rates,
            inside,
        )
        for n, ((gross, off, rates, inside), found) in enumerate(
            zip(made, taxed.lines, strict=True)
        )
    )  # fmt: skip


# Which lines a note names, how much of 16 parts of what is left of each it gives back, and which
# earlier note is made void before.
histories = st.lists(
    st.tuples(
        st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True),
        st.integers(1, 16),
        st.none() | st.none() | st.integers(0, 5),
    ),
    max_size=7,
)


def half_up(value: Fraction) -> int:
    return int(value + Fraction(1, 2))


def naive(line: InvoiceLine, gross: int) -> Amounts:
    """All that is given back once so much of a line's gross is: shares of what is stored."""
    discount = half_up(Fraction(line.discount_minor * gross, line.gross_minor))
    priced, all_of_it = gross - discount, line.gross_minor - line.discount_minor
    share = Fraction(priced, all_of_it) if all_of_it else Fraction(1)
    included = half_up(line.tax_included_minor * share)
    return Amounts(gross, discount, priced - included, half_up(line.tax_minor * share))


def noted(document: tuple[Billed, ...], history) -> list[CreditNote]:
    """The notes of a history, in its order."""
    invoice = Invoice("EUR", tuple(each.stored for each in document))
    notes: list[CreditNote] = []
    for places, parts, gone in history:
        if gone is not None and notes and notes[gone % len(notes)].state is State.ISSUED:
            notes[gone % len(notes)] = void(notes[gone % len(notes)])
        requests = []
        for place in sorted(each for each in places if each < len(document)):
            line = document[place].stored
            if gross := -(-left_minor(line, notes) * parts // 16):
                requests.append(Request(line.id, gross))
        if requests:
            notes.append(credit_note(invoice, requests, earlier=notes))
            _never_more(document, notes)
    if requests := rest(invoice, notes):
        notes.append(credit_note(invoice, requests, earlier=notes))
    return notes


def given_back(notes: list[CreditNote], line_id: str) -> Amounts:
    total = NOTHING
    for note in notes:
        if note.state is State.ISSUED:
            total = sum((each.amounts for each in note.lines if each.line_id == line_id), total)
    return total


def _never_more(document: tuple[Billed, ...], notes: list[CreditNote]) -> None:
    for each in document:
        found, line = given_back(notes, each.stored.id), each.stored
        assert 0 <= found.gross_minor <= line.gross_minor
        assert 0 <= found.discount_minor <= line.discount_minor
        assert 0 <= found.net_minor <= line.net_minor
        assert 0 <= found.tax_minor <= line.tax_minor
        assert 0 <= found.tax_included_minor <= line.tax_included_minor


@given(documents(), histories)
def test_notes_in_any_order_never_exceed_a_line_and_the_rest_is_exactly_it(document, history):
    notes = noted(document, history)
    _never_more(document, notes)
    standing = [each for each in notes if each.state is State.ISSUED]
    for each in document:
        assert given_back(notes, each.stored.id) == each.stored.amounts
    whole = sum(each.stored.total_minor for each in document)
    assert sum(each.total_minor for each in standing) == whole
    for note in notes:
        assert all(min(x.gross_minor, x.net_minor, x.tax_minor) >= 0 for x in note.lines)


@given(documents(), histories)
def test_each_note_is_the_naive_share_of_what_is_stored(document, history):
    """Without voids: line by line the difference of two rounded shares, in fractions."""
    notes = noted(document, [(places, parts, None) for places, parts, _ in history])
    lines = {each.stored.id: each.stored for each in document}
    before = dict.fromkeys(lines, 0)
    for note in notes:
        for found in note.lines:
            line, so_far = lines[found.line_id], before[found.line_id]
            through = so_far + found.gross_minor
            nothing = naive(line, so_far) if so_far else NOTHING
            assert found.amounts == naive(line, through) - nothing
            before[found.line_id] = through


@given(documents(), histories)
def test_the_tax_share_is_by_the_stored_rates_whatever_todays_rate(document, history):
    """At every stage the tax given back is within a unit of rounding and the line's residue of the
    stored rates' tax on what was given back: today's 21 % never enters."""
    notes = noted(document, [(places, parts, None) for places, parts, _ in history])
    for each in document:
        line = each.stored
        residue = abs(each.exact_tax(each.priced_minor) - line.tax_minor)
        for count in range(1, len(notes) + 1):
            found = given_back(notes[:count], line.id)
            exact = each.exact_tax(found.priced_minor)
            assert abs(found.tax_minor - exact) <= residue + Fraction(1, 2)
