"""The comparison is a function of two sets: no order, no repetition, nothing invented."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from subledger.services.payments.comparing import (
    SIGNS,
    Held,
    Ours,
    Theirs,
    compare,
    paid_out,
)

_START = datetime(2026, 3, 1, tzinfo=UTC)
attempt = st.integers(1, 4).map(lambda n: UUID(int=n))
theirs = st.lists(
    st.builds(
        Theirs,
        ref=st.integers(1, 6).map("ch_{}".format),
        attempt_id=st.none() | attempt,
        amount_minor=st.sampled_from([100, 999]),
        currency=st.sampled_from(["EUR", "USD"]),
        at=st.integers(0, 3).map(lambda n: _START + timedelta(hours=n)),
    ),
    max_size=6,
    unique_by=lambda each: each.ref,
)
ours = st.lists(
    st.builds(
        Ours,
        attempt_id=attempt,
        ref=st.none() | st.integers(1, 6).map("ch_{}".format),
        state=st.sampled_from(["succeeded", "unknown", "failed", "ready"]),
        amount_minor=st.sampled_from([100, 999]),
        currency=st.sampled_from(["EUR", "USD"]),
    ),
    max_size=4,
    unique_by=(lambda each: each.attempt_id, lambda each: each.ref or each.attempt_id),
)


@given(theirs, ours, st.randoms())
def test_neither_order_nor_repetition_matters(theirs, ours, random):
    found = compare(theirs, ours)
    mixed, own = [*theirs, *theirs], [*ours]
    random.shuffle(mixed)
    random.shuffle(own)
    assert compare(mixed, own) == found


@given(theirs, ours)
def test_every_entry_and_every_attempt_is_accounted_for_once(theirs, ours):
    found = compare(theirs, ours)
    told = [each.theirs.ref for each in found if each.theirs is not None]
    assert len(told) == len(set(told)), "an entry differs in one way"
    missing = {each.ours.attempt_id for each in found if each.kind == "payment_missing"}
    unknown = [each for each in found if each.kind == "capture_unknown"]
    twice = [each for each in found if each.kind == "capture_twice"]
    held = {each.attempt_id for each in ours if each.state == "succeeded"} - missing
    open_ = [each for each in found if each.kind == "capture_unsettled"]
    assert len(theirs) == len(unknown) + len(twice) + len(open_) + len(held)


@given(theirs)
def test_what_was_settled_as_listed_agrees(theirs):
    settled = [
        Ours(UUID(int=100 + n), each.ref, "succeeded", each.amount_minor, each.currency)
        for n, each in enumerate(theirs)
    ]
    assert compare(theirs, settled) == []


def test_what_differs_says_how():
    one, two, three = (UUID(int=n) for n in (1, 2, 3))
    entries = [
        Theirs("ch_1", one, 100, "EUR", _START),
        Theirs("ch_2", one, 100, "EUR", _START + timedelta(hours=1)),
        Theirs("ch_3", None, 5, "EUR", _START),
        Theirs("ch_4", two, 99, "EUR", _START),
    ]
    known = [
        Ours(one, "ch_2", "succeeded", 100, "EUR"),
        Ours(two, None, "succeeded", 100, "EUR"),
        Ours(three, None, "succeeded", 100, "EUR"),
    ]
    assert [(each.kind, each.subject) for each in compare(entries, known)] == [
        ("amount_differs", "ch_4"),
        ("capture_twice", "ch_1"),
        ("capture_unknown", "ch_3"),
        ("payment_missing", str(three)),
    ]


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(SIGNS)), st.integers(0, 10**6), st.integers(-100, 100)),
        max_size=8,
    ),
    st.integers(-3, 3),
)
def test_a_payout_is_its_entries_less_fees_and_a_difference(entries, off):
    gross = sum(SIGNS[kind] * amount for kind, amount, _ in entries)
    fees = sum(fee for _, _, fee in entries)
    parts = paid_out(gross - fees + off, entries)
    assert (parts.gross_minor, parts.fee_minor, parts.difference_minor) == (gross, fees, -off)


def test_a_gap_is_what_the_lists_do_not_explain():
    assert Held(provider_minor=100, clearing_minor=70, explained_minor=30).gap_minor == 0
    assert Held(provider_minor=100, clearing_minor=70, explained_minor=0).gap_minor == 30
