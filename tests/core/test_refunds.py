"""Giving money back: the parts sum to the whole, and nothing beyond what there is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger.core.credit_notes import Invoice, InvoiceLine, credit_note, part, rest
from subledger.core.errors import InvalidCredit
from subledger.core.refunds import Funds, Served, back, unused_minor

AMOUNT = st.integers(0, 10**6)
START = datetime(2026, 3, 1, tzinfo=UTC)


@given(AMOUNT, AMOUNT, AMOUNT, AMOUNT, st.none() | st.integers(-5, 10**6))
def test_a_refund_is_taken_from_what_there_is(captured, refunded, unapplied, backed, asked):
    funds = Funds(captured, refunded, unapplied, backed)
    most = funds.refundable_minor
    assert 0 <= most <= max(captured - refunded, 0)
    if (asked is not None and not 0 < asked <= most) or most == 0:
        with pytest.raises(InvalidCredit) as refused:
            back(funds, asked)
        assert refused.value.left_minor == most
        return
    taken = back(funds, asked)
    assert taken.amount_minor == (most if asked is None else asked)
    assert 0 <= taken.unapplied_minor <= unapplied
    assert 0 <= taken.backed_minor <= backed
    # What a note or credit would back is left alone while money lies unused.
    assert taken.backed_minor == 0 or taken.unapplied_minor == unapplied


@given(AMOUNT, st.integers(1, 10**6), st.integers(-100, 10**6 + 100))
def test_unused_time_falls_from_the_whole_to_nothing(total, seconds, passed):
    line = Served(total, START, START + timedelta(seconds=seconds))
    left = unused_minor([line], START + timedelta(seconds=passed))
    assert 0 <= left <= total
    assert left >= unused_minor([line], START + timedelta(seconds=passed + 1))
    if passed <= 0:
        assert left == total
    if passed >= seconds:
        assert left == 0


def test_unused_time_is_rounded_line_by_line():
    day = timedelta(days=1)
    lines = [Served(1000, START, START + 3 * day), Served(5, START, START)]
    assert unused_minor(lines, START + day) == 667
    assert unused_minor([], START) == 0


LINE = st.tuples(st.integers(1, 5000), st.integers(0, 100), st.sampled_from([0, 7, 19, 23]))


@given(st.lists(LINE, min_size=1, max_size=4), st.data())
def test_a_part_of_an_invoice_is_the_amount_or_the_least_above_it(drawn, data):
    lines = tuple(
        InvoiceLine(
            id=str(n),
            gross_minor=gross,
            discount_minor=gross * off // 100,
            tax_minor=(gross - gross * off // 100) * percent // 100,
        )
        for n, (gross, off, percent) in enumerate(drawn, start=1)
    )
    invoice = Invoice("EUR", lines, "paid", paid_minor=sum(each.total_minor for each in lines))
    whole = invoice.total_minor
    if whole == 0:
        return
    wanted = data.draw(st.integers(1, whole))

    requests = part(invoice, wanted)

    note = credit_note(invoice, requests, refund_minor=wanted)
    assert note.settlement.refund_minor == wanted
    assert 0 <= note.settlement.credit_minor <= 2 * len(lines)
    assert note.total_minor == wanted + note.settlement.credit_minor
    if wanted == whole:
        assert note.total_minor == whole
    left = rest(invoice, [note])
    assert sum(each.gross_minor for each in (*requests, *left)) <= sum(
        each.gross_minor for each in lines
    )
