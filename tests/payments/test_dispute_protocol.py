"""The dispute protocol's rules, over every state, and over any order of what is listed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger.core.states import DISPUTE
from subledger.services.payments.disputing import (
    DAILY,
    PATIENCE,
    Found,
    Known,
    Waiting,
    compare,
    decide,
    look_again,
    next_look,
)
from subledger.services.payments.protocol import RECONCILE

AT = datetime(2026, 3, 1, tzinfo=UTC)
STATES = ["opened", "won", "lost"]
DUE = AT + timedelta(days=9)


def found(state: str, *, ref: str = "dp_1", fee: int = 150, due: datetime | None = DUE) -> Found:
    return Found(ref, 1000, "EUR", "fraudulent", state, due, fee)


def known(state: str, *, ref: str = "dp_1", fee: int = 150) -> Known:
    return Known(UUID(int=1), ref, state, DUE, fee)


@pytest.mark.parametrize("state", STATES)
def test_a_new_one_is_told_as_opened_and_then_as_it_was_decided(state: str) -> None:
    decided = decide(None, found(state))
    assert decided is not None
    assert decided.state == state
    assert decided.events == (
        ("dispute.opened",) if state == "opened" else ("dispute.opened", "dispute.closed")
    )


@pytest.mark.parametrize(("before", "after"), list(product(STATES, STATES)))
def test_every_step_is_along_the_table_and_a_decided_one_is_never_open_again(
    before: str, after: str
) -> None:
    decided = decide(known(before), found(after))
    if (before, after) in DISPUTE:
        assert decided is not None
        assert (decided.state, decided.events) == (after, ("dispute.closed",))
    else:
        assert decided is None


def test_another_fee_or_moment_is_told_and_an_old_one_of_a_decided_dispute_is_not() -> None:
    for state in STATES:
        changed = decide(known(state), found(state, fee=0))
        assert changed is not None
        assert (changed.events, changed.fee_minor) == (("dispute.updated",), 0)
    later = decide(known("opened"), found("opened", due=AT))
    assert later is not None
    assert (later.events, later.evidence_due_at) == (("dispute.updated",), AT)
    assert decide(known("won"), found("won", due=None)) is None
    assert decide(known("lost"), found("opened", fee=0)) is None, "an answer of before"


@given(st.lists(st.tuples(st.sampled_from(["dp_1", "dp_2"]), st.sampled_from(STATES)), max_size=8))
def test_whatever_is_listed_how_often_each_dispute_is_opened_once_and_ends_decided(
    looks: list[tuple[str, str]],
) -> None:
    """One look after the other, each with one dispute, in any order and repeated."""
    ours: dict[str, Known] = {}
    told: list[tuple[str, str]] = []
    for ref, state in looks:
        for before, listed, decided in compare(list(ours.values()), [found(state, ref=ref)] * 2):
            assert before == ours.get(ref)
            told += [(ref, each) for each in decided.events]
            ours[ref] = replace(known(decided.state, ref=listed.provider_ref))
        assert compare(list(ours.values()), [found(state, ref=ref)]) == [], "once is enough"
    for ref in {ref for ref, _ in looks}:
        mine = [each for name, each in told if name == ref]
        assert mine.count("dispute.opened") == 1
        assert mine[0] == "dispute.opened"
        given_states = [state for name, state in looks if name == ref]
        assert ("dispute.closed" in mine) == (set(given_states) != {"opened"})
        decided_last = [each for each in given_states if each != "opened"]
        assert ours[ref].state == (decided_last[-1] if decided_last else "opened")


def test_what_is_listed_no_more_stays_as_it_is() -> None:
    assert compare([known("opened")], []) == []


def test_it_is_asked_daily_and_when_evidence_is_due_until_patience_ends() -> None:
    assert next_look([], AT) is None
    assert next_look([Waiting(AT, None)], AT) == DAILY
    assert next_look([Waiting(AT, AT + timedelta(hours=3))], AT) == timedelta(hours=3)
    assert next_look([Waiting(AT, AT)], AT) == DAILY
    assert next_look([Waiting(AT, AT + DAILY * 9), Waiting(AT, None)], AT) == DAILY
    assert next_look([Waiting(AT - PATIENCE, None)], AT) is None
    assert next_look([Waiting(AT - PATIENCE, AT - DAILY)], AT) == DAILY


@given(st.datetimes(AT.replace(tzinfo=None), datetime(2027, 1, 1)), st.none() | st.integers(0, 200))
def test_asking_ends(opened: datetime, due_days: int | None) -> None:
    opened = opened.replace(tzinfo=UTC)
    due = None if due_days is None else opened + timedelta(days=due_days, hours=5)
    at, looks = opened, 0
    while (wait := next_look([Waiting(opened, due)], at)) is not None:
        assert timedelta(0) < wait <= DAILY
        at += wait
        looks += 1
    assert looks <= (due_days or 0) + PATIENCE.days + 2
    assert due is None or at >= due + PATIENCE


def test_a_look_that_teaches_nothing_is_repeated_a_few_times() -> None:
    waits = [look_again(tries) for tries in range(len(RECONCILE) + 1)]
    assert waits == [*RECONCILE, None]
