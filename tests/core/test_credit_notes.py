"""Notes over one line give back exactly the line, never more, and their postings balance."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger.core import ledger
from subledger.core.calendar import Period
from subledger.core.credit_notes import (
    CreditNote,
    Earlier,
    Invoice,
    InvoiceLine,
    OpenOf,
    Reason,
    Request,
    State,
    check_invoice_void,
    credit_note,
    left_minor,
    open_minor,
    refundable_minor,
    rest,
    unused,
    void,
)
from subledger.core.errors import AmountOutOfRange, InvalidCredit, UnknownCurrency
from subledger.core.money import round_half_up
from subledger.core.recognition import credit_split
from subledger.core.settlement import Paid, Unpaid, carried, settle


@st.composite
def lines(draw, name="a", most=400):
    gross = draw(st.integers(1, most))
    discount = draw(st.integers(0, gross))
    # A residue of an invoice's tax may leave a unit on a line whose net is zero.
    tax = draw(st.integers(0, (gross - discount) // 3 + 1))
    return InvoiceLine(name, gross, discount, tax)


@st.composite
def invoices(draw):
    found = tuple(draw(lines(name)) for name in "abc"[: draw(st.integers(1, 3))])
    total = sum(each.total_minor for each in found)
    paid = draw(st.integers(0, total))
    applied = draw(st.integers(0, total - paid))
    return Invoice("EUR", found, paid_minor=paid, credit_applied_minor=applied)


def given_back(notes: list[CreditNote], line_id: str) -> tuple[int, int, int, int]:
    found = [each for note in notes for each in note.lines if each.line_id == line_id]
    return (
        sum(each.gross_minor for each in found),
        sum(each.discount_minor for each in found),
        sum(each.net_minor for each in found),
        sum(each.tax_minor for each in found),
    )


def naive(line: InvoiceLine, parts: list[int]) -> list[tuple[int, int, int]]:
    """The oracle, in exact fractions: gross, discount and tax of each part, all from the line."""
    found, gross, discount, tax = [], 0, 0, 0
    for part in parts:
        gross += part
        discount_now = round_half_up(Fraction(line.discount_minor * gross, line.gross_minor))
        net = gross - discount_now
        tax_now = line.tax_minor
        if net != line.net_minor:
            tax_now = round_half_up(Fraction(line.tax_minor * net, line.net_minor))
        found.append((part, discount_now - discount, tax_now - tax))
        discount, tax = discount_now, tax_now
    return found


@given(lines(), st.lists(st.integers(1, 60), max_size=8))
def test_notes_over_one_line_are_the_naive_oracles_and_sum_to_it(line, wanted):
    invoice = Invoice("EUR", (line,))
    notes: list[CreditNote] = []
    parts: list[int] = []
    for part in wanted:
        left = left_minor(line, notes)
        if part > left:
            with pytest.raises(InvalidCredit) as refused:
                credit_note(invoice, [Request("a", part)], earlier=notes)
            assert refused.value.left_minor == left
            assert refused.value.pointer == "/lines/0/gross_minor"
            continue
        notes.append(credit_note(invoice, [Request("a", part)], earlier=notes))
        parts.append(part)
    if rest(invoice, notes):
        parts.append(left_minor(line, notes))
        notes.append(credit_note(invoice, rest(invoice, notes), earlier=notes))
    assert rest(invoice, notes) == ()
    stored = (line.gross_minor, line.discount_minor, line.net_minor, line.tax_minor)
    assert given_back(notes, "a") == stored
    assert naive(line, parts) == [
        (each.gross_minor, each.discount_minor, each.tax_minor) for each in notes
    ]


@given(
    invoices(),
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(1, 150), st.booleans(), st.booleans()),
        max_size=10,
    ),
)
def test_no_history_of_notes_and_voids_exceeds_a_line_or_the_invoice(invoice, history):
    notes: list[CreditNote] = []
    by_id = {each.id: each for each in invoice.lines}
    for name, part, refunds, voids in history:
        if name not in by_id:
            continue
        if wanted := min(part, left_minor(by_id[name], notes)):
            paid = Paid.REFUND if refunds else Paid.CREDIT
            note = credit_note(invoice, [Request(name, wanted)], earlier=notes, paid=paid)
            notes.append(note)
            refunded = invoice.refunded_minor + note.settlement.refund_minor
            invoice = replace(invoice, refunded_minor=refunded)
        if (
            voids
            and notes
            and not notes[0].settlement.refund_minor
            and notes[0].state is State.ISSUED
        ):
            notes[0] = void(notes[0])
    assert invoice.refunded_minor <= invoice.paid_minor
    if requests := rest(invoice, notes):
        notes.append(credit_note(invoice, requests, earlier=notes))
    standing = [each for each in notes if each.state is State.ISSUED]
    for line in invoice.lines:
        stored = (line.gross_minor, line.discount_minor, line.net_minor, line.tax_minor)
        assert given_back(standing, line.id) == stored
    for note in notes:
        for part_line in note.lines:
            assert part_line.discount_minor >= 0
            assert part_line.net_minor >= 0
            assert part_line.tax_minor >= 0
    assert sum(each.total_minor for each in standing) == invoice.total_minor


@given(invoices(), st.sampled_from(Unpaid), st.sampled_from(Paid), st.sampled_from(OpenOf))
def test_where_a_note_goes_sums_to_its_total(invoice, unpaid, paid, open_of):
    try:
        note = credit_note(invoice, rest(invoice), unpaid=unpaid, paid=paid, open_of=open_of)
    except InvalidCredit:
        assert "refuse" in (unpaid, paid)
        return
    to = note.settlement
    assert to.offset_minor + to.credit_minor + to.refund_minor == note.total_minor
    assert 0 <= to.offset_minor <= open_minor(invoice)
    assert 0 <= to.refund_minor <= refundable_minor(invoice)
    assert to.credit_minor >= 0
    assert open_minor(invoice, [note]) == open_minor(invoice) - to.offset_minor


@given(invoices(), st.integers(0, 31))
def test_postings_of_notes_balance(invoice, day):
    month = Period(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))
    at = datetime(2026, 1, 1 + min(day, 30), tzinfo=UTC)
    note = credit_note(invoice, rest(invoice), paid=Paid.REFUND)
    split = credit_split(note.net_minor, note.net_minor, month, at)
    books = ledger.credit_note(
        customer="c",
        deferred_minor=split.deferred_minor,
        revenue_minor=split.revenue_minor,
        tax_minor=note.tax_minor,
        offset_minor=note.settlement.offset_minor,
        currency="EUR",
    ) + ledger.refunded(
        connection="p",
        source=ledger.credit("c"),
        amount_minor=note.settlement.refund_minor,
        currency="EUR",
    )
    assert set(ledger.trial_balance(books).values()) <= {0}
    balances = ledger.balances(books)
    assert balances.get(("receivable:c", "EUR"), 0) == -note.settlement.offset_minor
    assert balances.get(("credit:c", "EUR"), 0) == -note.settlement.credit_minor
    assert balances.get(("provider_clearing:p", "EUR"), 0) == -note.settlement.refund_minor
    assert balances.get(("deferred_revenue", "EUR"), 0) == split.deferred_minor
    assert balances.get(("tax_payable", "EUR"), 0) == note.tax_minor


@given(invoices(), st.integers(1, 400), st.integers(1, 400))
def test_a_step_is_enough_to_recompute_its_line(invoice, first, second):
    notes: list[CreditNote] = []
    for wanted in (first, second):
        if part := min(wanted, left_minor(invoice.lines[0], notes)):
            notes.append(credit_note(invoice, [Request("a", part)], earlier=notes))
    for note in notes:
        for line in note.lines:
            step = {key: value for key, value in line.step.items() if isinstance(value, int)}
            after = step["before_gross_minor"] + step["gross_minor"]
            whole = step["line_gross_minor"]
            discount = round_half_up(Fraction(step["line_discount_minor"] * after, whole))
            net, line_net = after - discount, whole - step["line_discount_minor"]
            tax = step["line_tax_minor"]
            if net != line_net:
                tax = round_half_up(Fraction(tax * net, line_net))
            assert discount - step["before_discount_minor"] == line.discount_minor
            assert tax - step["before_tax_minor"] == line.tax_minor


def hundred(**changes: object) -> Invoice:
    """100.00 less 10.00 plus 19 % tax: 107.10."""
    return replace(Invoice("EUR", (InvoiceLine("a", 10000, 1000, 1710),)), **changes)


def test_discount_and_tax_go_back_in_proportion():
    note = credit_note(hundred(), [Request("a", 3333)], reason=Reason.GOODWILL)
    assert (note.gross_minor, note.discount_minor, note.net_minor) == (3333, 333, 3000)
    assert (note.tax_minor, note.total_minor) == (570, 3570)
    assert note.reason is Reason.GOODWILL


def test_what_is_open_goes_first_then_what_was_paid():
    partly = hundred(paid_minor=5000)
    assert open_minor(partly) == 5710
    to = credit_note(partly, rest(partly), paid=Paid.REFUND).settlement
    assert (to.offset_minor, to.credit_minor, to.refund_minor) == (5710, 0, 5000)


def test_what_credit_paid_becomes_credit_again():
    paid = hundred(state="paid", paid_minor=8710, credit_applied_minor=2000)
    to = credit_note(paid, rest(paid), paid=Paid.REFUND).settlement
    assert (to.credit_minor, to.refund_minor) == (2000, 8710)


def test_a_refund_of_a_chosen_amount_leaves_the_rest_as_credit():
    paid = hundred(state="paid", paid_minor=10710, refunded_minor=10000)
    to = credit_note(paid, rest(paid), refund_minor=700).settlement
    assert (to.credit_minor, to.refund_minor) == (10010, 700)
    with pytest.raises(InvalidCredit, match="710 can be refunded") as refused:
        credit_note(paid, rest(paid), refund_minor=711)
    assert refused.value.left_minor == 710


def test_a_line_may_be_credited_for_less_than_a_share_where_the_invoice_has_credits_itself():
    mixed = Invoice("EUR", (InvoiceLine("new", 100), InvoiceLine("old", -60)))
    with pytest.raises(InvalidCredit, match="40 of the invoice") as refused:
        credit_note(mixed, [Request("new", 41)])
    assert refused.value.left_minor == 40
    assert credit_note(mixed, [Request("new", 40)]).total_minor == 40
    with pytest.raises(InvalidCredit, match="0 of line old"):
        credit_note(mixed, [Request("old", 1)])


def test_the_unused_part_and_what_earlier_notes_leave_of_it():
    (line,) = hundred().lines
    assert unused(line, Fraction(16, 31)) == 5161
    half = [credit_note(hundred(), [Request("a", 5000)])]
    assert unused(line, Fraction(16, 31), earlier=half) == 5000
    assert unused(line, Fraction(16, 31), earlier=half, counting=Earlier.COUNT) == 161
    assert unused(line, Fraction(1, 4), earlier=half, counting=Earlier.COUNT) == 0
    assert unused(InvoiceLine("c", -500), Fraction(1)) == 0
    with pytest.raises(InvalidCredit, match="between 0 and 1"):
        unused(line, Fraction(32, 31))


def test_a_negative_total_becomes_credit():
    assert carried(-2300) == (0, 2300)
    assert carried(0) == (0, 0)
    assert carried(700) == (700, 0)


def test_a_void_note_frees_its_lines():
    note = credit_note(hundred(), rest(hundred()))
    gone = void(note)
    assert rest(hundred(), [gone]) == rest(hundred())
    assert open_minor(hundred(), [gone]) == 10710
    check_invoice_void([gone])
    with pytest.raises(InvalidCredit, match="is void"):
        void(gone)
    with pytest.raises(InvalidCredit, match="was credited"):
        check_invoice_void([gone, note])


def test_a_draft_takes_nothing_off():
    draft = credit_note(hundred(), rest(hundred()), state=State.DRAFT)
    assert open_minor(hundred(), [draft]) == draft.total_minor == 10710
    assert rest(hundred(), [draft]) == rest(hundred())
    with pytest.raises(InvalidCredit, match="is draft"):
        void(draft)


def test_a_note_that_was_used_or_refunded_stands():
    paid = hundred(state="paid", paid_minor=10710)
    with pytest.raises(InvalidCredit, match="stands"):
        void(credit_note(paid, rest(paid)), credit_used_minor=1)
    with pytest.raises(InvalidCredit, match="stands"):
        void(credit_note(paid, rest(paid), paid=Paid.REFUND))


def test_the_lines_share_of_what_is_open():
    two = Invoice("EUR", (InvoiceLine("a", 3000), InvoiceLine("b", 1000)), paid_minor=2000)
    whole = credit_note(two, [Request("a", 2500)], paid=Paid.REFUND).settlement
    assert (whole.offset_minor, whole.refund_minor) == (2000, 500)
    shared = credit_note(two, [Request("a", 2500)], paid=Paid.REFUND, open_of=OpenOf.LINES)
    assert (shared.settlement.offset_minor, shared.settlement.refund_minor) == (1500, 1000)


@pytest.mark.parametrize("state", ["void", "draft", "uncollectible"])
def test_only_open_and_paid_invoices_are_credited(state):
    with pytest.raises(InvalidCredit, match=f"is {state}"):
        credit_note(hundred(state=state), rest(hundred()))


@pytest.mark.parametrize(
    ("requests", "pointer"),
    [
        ([], "/lines"),
        ([Request("a", 1), Request("a", 1)], "/lines"),
        ([Request("b", 1)], "/lines/0/line_id"),
        ([Request("a", 0)], "/lines/0/gross_minor"),
        ([Request("a", -5)], "/lines/0/gross_minor"),
        ([Request("a", 10001)], "/lines/0/gross_minor"),
    ],
)
def test_requests_out_of_order_are_refused_with_where(requests, pointer):
    with pytest.raises(InvalidCredit) as refused:
        credit_note(hundred(), requests)
    assert refused.value.pointer == pointer
    assert refused.value.fix


def test_lines_and_invoices_that_contradict_themselves_are_refused():
    with pytest.raises(InvalidCredit, match="discount"):
        InvoiceLine("a", 10, 11)
    with pytest.raises(InvalidCredit, match="discount"):
        InvoiceLine("a", -10, 1)
    with pytest.raises(InvalidCredit, match="tax has"):
        InvoiceLine("a", 10, 0, -1)
    with pytest.raises(InvalidCredit, match="of its own"):
        Invoice("EUR", (InvoiceLine("a", 1), InvoiceLine("a", 1)))
    with pytest.raises(InvalidCredit, match="not negative"):
        hundred(paid_minor=-1)
    with pytest.raises(UnknownCurrency):
        hundred(currency="eur")
    with pytest.raises(AmountOutOfRange):
        InvoiceLine("a", 10**15 + 1)


def test_what_refuses_names_what_would_do():
    with pytest.raises(InvalidCredit, match="never paid") as refused:
        settle(100, 60, 0, unpaid=Unpaid.REFUSE)
    assert refused.value.left_minor == 40
    with pytest.raises(InvalidCredit, match="has been paid") as refused:
        settle(100, 60, 0, paid=Paid.REFUSE)
    assert refused.value.left_minor == 60
