"""Notes and later invoices together never give back more of a charge than was charged."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from subledger.core.amounts import NOTHING, Amounts
from subledger.core.calendar import Anchor, Interval, Unit
from subledger.core.credit_notes import Invoice, InvoiceLine, Request, credit_note, left_minor, rest
from subledger.core.difference import difference
from subledger.core.discounts import Discount, Duration, Kind, Running, Usage
from subledger.core.invoicing import draft
from subledger.core.noted import Charged, of, taken_back
from subledger.core.pricing import PerUnit
from subledger.core.tax import Place, Rate
from subledger.core.timeline import Item, Line, Phase, Taxed, Timeline

START = datetime(2026, 3, 1, tzinfo=UTC)
SPRING = Discount(
    id="spring", kind=Kind.PERCENT, percent=Decimal("12.5"), amount_minor=None, currency=None,
    duration=Duration.FOREVER, periods=None,
)  # fmt: skip
UNUSED = Usage(0, 0, None)


def taxed(percent, inclusive):
    """At 0 there is no rate: the tax was abolished."""
    rates = (Rate(f"vat-{percent}", Decimal(percent), "VAT", Place("DE")),) if percent else ()
    return Taxed(rates, inclusive)


def timeline(phases, how):
    return Timeline(
        anchor=Anchor(START, "UTC"),
        interval=Interval(Unit.MONTH),
        currency="EUR",
        phases=tuple(
            replace(each, items=tuple(replace(item, taxed=how) for item in each.items))
            for each in phases
        ),
        attached=(Running(SPRING, UNUSED),),
    )


def phase(day, seats, price="a"):
    items = (Item(price, PerUnit(Decimal("99.7")), Decimal(seats)),) if seats else ()
    return Phase(START + timedelta(days=day), items)


def bill(known, billed):
    return draft(known, first_period=0, horizon_at=START + timedelta(days=40), billed=billed).lines


def standing(lines):
    """By charge: what is charged less what is given back, in gross, net and tax."""
    found: dict[object, Amounts] = {}
    for line in lines:
        found[line.key] = found.get(line.key, NOTHING) + of(line) - line.noted
    return found


def noted(lines, share):
    """A note on each charging line for its share (of 16) of what is left, as the service does."""
    groups: dict[object, list[int]] = {}
    for place, line in enumerate(lines):
        groups.setdefault(line.key, []).append(place)
    result = list(lines)
    for places in groups.values():
        charged = [Charged(str(n), of(lines[n]), lines[n].noted) for n in places]
        taken = taken_back(charged)
        for n in places:
            line = lines[n]
            if line.gross_minor <= 0:
                continue
            before = line.noted + taken.get(str(n), NOTHING)
            gross = (line.gross_minor - before.gross_minor) * share // 16
            if gross <= 0:
                continue
            stored = InvoiceLine(
                "x", line.gross_minor, line.discount_minor, line.tax_minor, line.tax_included_minor
            )
            note = credit_note(
                Invoice("EUR", (stored,)), [Request("x", gross)], taken={"x": before}
            )
            result[n] = replace(line, noted=line.noted + note.lines[0].amounts)
    return result


changes = st.lists(
    st.tuples(
        st.integers(0, 30),
        st.integers(0, 9),
        st.sampled_from("ab"),
        st.integers(0, 16),
        st.sampled_from((19, 7, 0)),
    ),
    max_size=6,
)


@given(changes, st.booleans())
def test_no_history_of_changes_notes_and_tax_rates_gives_back_more_than_was_charged(
    history, inclusive
):
    phases, how = [phase(0, 5)], taxed(19, inclusive)
    billed: list[Line] = list(bill(timeline(phases, how), ()))
    for day, seats, price, share, percent in sorted(history, key=lambda each: each[0]):
        billed, how = noted(billed, share), taxed(percent, inclusive)
        earlier = [each for each in phases if each.from_at < START + timedelta(days=day)]
        phases = [*earlier, phase(day, seats, price)]
        if phases[0].from_at != START:
            phases.insert(0, phase(0, 5))
        added = bill(timeline(phases, how), billed)
        billed += added
        assert bill(timeline(phases, how), billed) == (), "billed once"
        for left in standing(billed).values():
            assert left.gross_minor >= 0
            assert left.priced_minor >= 0
            assert left.tax_minor >= 0
            assert left.total_minor >= 0


@given(changes)
def test_goodwill_stays(history):
    """With a note on the first line, what a charge costs in the end is what it should less what
    was noted, never below zero."""
    for given_back in (False, True):
        phases, how = [phase(0, 5)], taxed(19, inclusive=False)
        billed: list[Line] = list(bill(timeline(phases, how), ()))
        if given_back:
            billed = noted(billed, 3)
            given_amounts = billed[0].noted
        for day, seats, price, _, _ in sorted(history, key=lambda each: each[0]):
            phases = [*(each for each in phases if each.from_at < START + timedelta(days=day)),
                      phase(day, seats, price)]  # fmt: skip
            if phases[0].from_at != START:
                phases.insert(0, phase(0, 5))
            billed += bill(timeline(phases, how), billed)
        found = standing(billed)
        if not given_back:
            without = found
    first = billed[0].key
    for key, plain in without.items():
        left = plain.gross_minor - (given_amounts.gross_minor if key == first else 0)
        assert found[key].gross_minor == max(left, 0)


def line(gross, *, end_day=28, kind="charge", taken=0, noted=NOTHING, tax=0):
    taxes = [{"rate_id": "vat", "percent": "19", "compound": False, "tax_minor": tax,
              "residue": "0"}] if tax else []  # fmt: skip
    return Line(
        kind=kind, price_id="a", charged_from_at=START, service_start_at=START,
        service_end_at=START + timedelta(days=end_day), quantity=Decimal(1), gross_minor=gross,
        discount_minor=taken, net_minor=gross - taken, tax_minor=tax, tax_rate=Decimal(0),
        derivation={"discounts": [], "taxes": taxes}, noted=noted,
    )  # fmt: skip


def test_a_credit_is_as_large_as_notes_leave_it():
    half = line(1000, end_day=14)
    for given_back, credited in ((0, 1000), (500, 1000), (1000, 1000), (1400, 600), (2000, None)):
        whole = line(2000, noted=Amounts(given_back, 0, given_back, 0))
        added = difference([half], [whole])
        assert [each.net_minor for each in added] == ([] if credited is None else [-credited])
        if credited and credited < 1000:
            (cut,) = added
            assert cut.derivation["capped"]["net_minor"] == -1000
            assert (cut.derivation["exact"], cut.derivation["net_minor"]) == ("-600", -600)
        assert difference([half], [whole, *added]) == [], "cut once"


def test_what_is_billed_right_is_not_billed_anew_because_of_a_note():
    whole = line(2000, noted=Amounts(2000, 0, 2000, 0))
    assert difference([line(2000)], [whole]) == []


def test_tax_is_given_back_once_too():
    stored = line(1000, tax=190, noted=Amounts(600, 0, 600, 114))
    (cut,) = difference([], [stored])
    assert (cut.gross_minor, cut.net_minor, cut.tax_minor) == (-400, -400, -76)
    assert [each["tax_minor"] for each in cut.derivation["taxes"]] == [-76]


def test_what_later_invoices_took_back_is_taken_of_the_oldest_charge():
    def charged(name, gross, noted=0):
        return Charged(name, Amounts(gross, 0, gross, 0), Amounts(noted, 0, noted, 0))

    found = taken_back([charged("1", 2000, 500), charged("2", -2000), charged("3", 3000)])
    assert {name: each.gross_minor for name, each in found.items()} == {"1": 1500, "3": 500}


@given(st.integers(1, 500), st.data(), st.lists(st.integers(1, 80), max_size=6))
def test_tax_that_a_gross_contains_goes_back_with_it_and_never_more(gross, data, wanted):
    discount = data.draw(st.integers(0, gross))
    included = data.draw(st.integers(0, gross - discount))
    more = data.draw(st.integers(0, 100)) if gross > discount else 0
    stored = InvoiceLine("a", gross, discount, included + more, included)
    invoice, notes = Invoice("EUR", (stored,)), []
    for part in wanted:
        if part <= left_minor(stored, notes):
            notes.append(credit_note(invoice, [Request("a", part)], earlier=notes))
    if requests := rest(invoice, notes):
        notes.append(credit_note(invoice, requests, earlier=notes))
    total = NOTHING
    for each in notes:
        (given_back,) = each.lines
        assert min(given_back.net_minor, given_back.tax_minor, given_back.discount_minor) >= 0
        assert given_back.amounts.tax_included_minor >= 0
        total += given_back.amounts
    assert total == stored.amounts
    assert stored.total_minor == gross - discount + more


def test_an_invoice_that_bills_less_than_its_charges_is_credited_for_what_it_bills():
    mixed = Invoice("EUR", (InvoiceLine("old", -1000), InvoiceLine("new", 1500, 0, 285)))
    assert rest(mixed) == (Request("new", 660),)
    note = credit_note(mixed, rest(mixed))
    assert (note.net_minor, note.tax_minor, note.total_minor) == (660, 125, 785)
    assert rest(mixed, [note]) == ()
