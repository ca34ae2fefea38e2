"""The refund protocol's rules, over every state and finding."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger.core.states import REFUND
from subledger.services.payments.protocol import (
    HORIZON,
    MOST_TRIES,
    RECONCILE,
    Absent,
    ActionNeeded,
    Captured,
    Closed,
    Finding,
    Lost,
    NotSent,
    Refused,
)
from subledger.services.payments.refunding import (
    OVER,
    Known,
    Listed,
    Standing,
    compare,
    decide,
)

AT = datetime(2026, 3, 1, tzinfo=UTC)
STATES = sorted({state for state, _ in REFUND} | {"refused"})
FINDINGS: list[Finding] = [
    Captured("rf_1", 100),
    ActionNeeded("http://page", "page_1"),
    Refused("hard", "no"),
    Lost("timeout"),
    NotSent("refused"),
    NotSent("circuit_open"),
    Absent(),
    Closed(),
]
EVERY = list(product(STATES, FINDINGS, (False, True), (None, AT - HORIZON, AT), (0, MOST_TRIES)))


@pytest.mark.parametrize("state", STATES)
def test_every_finding_moves_along_the_table_and_is_applied_once(state: str) -> None:
    steps = {(before, after) for (before, _), after in REFUND.items()}
    # Nothing was sent, we thought; the provider knows better.
    steps |= {("ready", "succeeded"), ("ready", "failed")}
    for here, finding, looked, lost_at, tries in EVERY:
        if here != state:
            continue
        now = Standing(state, tries, lost_at, looked=looked)
        decided = decide(now, finding, AT)
        if decided is None:
            continue
        assert decided.state == state or (state, decided.state) in steps
        assert (decided.event is None) == (decided.state in {state, "ready"})
        if decided.state in OVER:
            assert decide(Standing(decided.state, 0, None), finding, AT) is None
        else:
            assert decided.look_in or decided.back_off_s or decided.exhausted, "someone goes on"


def test_unknown_is_never_sent_again_before_the_horizon() -> None:
    for finding in FINDINGS:
        decided = decide(Standing("unknown", 0, AT, looked=True), finding, AT)
        assert decided is None or decided.state != "ready", finding
    late = decide(Standing("unknown", 1, AT - HORIZON, looked=True), Absent(), AT)
    assert late is not None
    assert late.state == "ready"
    spent = decide(Standing("unknown", MOST_TRIES, AT - HORIZON, looked=True), Absent(), AT)
    assert spent is not None
    assert (spent.state, spent.code) == ("failed", "not_executed")


def test_what_others_say_does_not_end_a_call_under_way_unless_it_is_definite() -> None:
    for finding in FINDINGS:
        decided = decide(Standing("in_flight", 0, None, looked=True), finding, AT)
        assert (decided is None) != isinstance(finding, Captured | Refused)


def test_looking_ends_with_a_person_and_hints_put_nothing_off() -> None:
    lost, now = Standing("unknown", 0, AT, looked=True), AT
    looks = []
    while (decided := decide(lost, Lost("silence"), now)) is not None and decided.look_in:
        hinted = decide(lost, Lost("silence"), now + decided.look_in / 2)
        assert hinted is not None
        assert hinted.look_in == decided.look_in / 2
        looks.append(decided.look_in)
        now += decided.look_in
    assert tuple(looks) == RECONCILE
    assert decided is not None
    assert decided.exhausted


NAMES = st.integers(0, 5)


@given(st.sets(NAMES), st.lists(st.tuples(NAMES, NAMES, st.booleans(), st.booleans()), max_size=6))
def test_a_list_says_something_of_each_of_ours_and_finds_the_others(
    ours: set[int], drawn: list[tuple[int, int, bool, bool]]
) -> None:
    known = [Known(UUID(int=n), f"ref_{n}", f"rf_{n}" if n % 2 else None) for n in ours]
    listed = [
        Listed(
            f"rf_{ref}",
            f"ref_{name}" if named else None,
            100,
            Captured(f"rf_{ref}", 100) if done else Lost("processing"),
        )
        for ref, name, named, done in drawn
    ]
    found, outside = compare(known, listed)
    assert set(found) == {each.id for each in known}
    for each in outside:
        assert isinstance(each.finding, Captured)
        assert each.name not in {one.name for one in known}
        assert each.provider_ref not in {one.provider_ref for one in known}
    for one in known:
        mine = [
            each.finding
            for each in listed
            if each.name == one.name or each.provider_ref == one.provider_ref
        ]
        assert found[one.id] in mine or (
            found[one.id] == Absent()
            and all(each.provider_ref in {k.provider_ref for k in known} for each in listed
                    if each.name == one.name)
        )  # fmt: skip
