"""The protocol's rules, over every state and finding."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from subledger.core.states import ATTEMPT
from subledger.services.payments.protocol import (
    HORIZON,
    MOST_TRIES,
    NOT_CONFIRMED,
    RECONCILE,
    TERMINAL,
    Absent,
    ActionNeeded,
    Captured,
    Closed,
    Finding,
    Lost,
    NotSent,
    Refused,
    Standing,
    decide,
)

AT = datetime(2026, 3, 1, tzinfo=UTC)
PAYMENT_OF = {"reserving": "processing", "ready": "processing", "in_flight": "processing"}
STATES = sorted({state for state, _ in ATTEMPT} | {"succeeded"})
FINDINGS: list[Finding] = [
    Captured("ch_1", 100),
    ActionNeeded("http://page", "page_1"),
    Refused("soft", "no"),
    Lost("timeout"),
    NotSent("refused"),
    NotSent("circuit_open"),
    Absent(),
    Closed(),
]
EVERY = list(
    product(
        ("charge", "page"),
        STATES,
        FINDINGS,
        ("call", "fetch", "reconcile", "expire"),
        (None, AT - HORIZON, AT),
    )
)


def standing(
    kind: str, state: str, action: str = "call", lost_at: datetime | None = None, **rest: int
) -> Standing:
    return Standing(
        kind=kind,
        state=state,
        payment_status=PAYMENT_OF.get(state, state),
        tries=rest.get("tries", 0),
        fetches=rest.get("fetches", 0),
        lost_at=lost_at,
        action=action,
    )


def test_every_combination_keeps_the_rules() -> None:
    for kind, state, found, action, lost_at in EVERY:
        now = standing(kind, state, action, lost_at)
        decision = decide(now, found, AT)
        if state in TERMINAL:
            late = isinstance(found, Captured) and state != "succeeded"
            assert (decision is not None) == late, (now, found)
        if decision is None:
            continue
        if decision.state == "ready":
            # Only what certainly did not run, or moves no money, is called again.
            assert isinstance(found, NotSent) or kind == "page", (now, found)
            assert decision.back_off_s > 0
        if decision.state == "unknown" and not decision.exhausted:
            assert decision.reconcile_in or decision.expire_in, (now, found)
        if decision.state == "failed":
            assert decision.refused is not None
        if decision.event is not None:
            assert decision.payment_status != now.payment_status, (now, found)
        assert decision.payment_status == PAYMENT_OF.get(decision.state, decision.state)


def test_captured_money_is_a_success_from_every_state_but_before_the_call() -> None:
    for kind, state in product(("charge", "page"), STATES):
        decision = decide(standing(kind, state), Captured("ch_1", 100), AT)
        if state in {"succeeded", "reserving"}:
            assert decision is None
        else:
            assert decision is not None
            assert decision.state == "succeeded"


@pytest.mark.parametrize("seconds", [0, 299])
def test_not_found_is_no_verdict_before_the_horizon(seconds: int) -> None:
    now = standing("charge", "unknown", "reconcile", AT - timedelta(seconds=seconds))
    decision = decide(now, Absent(), AT)
    assert decision is not None
    assert (decision.state, decision.reconcile_in) == ("unknown", RECONCILE[1])


def test_an_unknown_attempt_is_asked_about_seven_times_and_then_needs_a_person() -> None:
    waits, fetches = [], 0
    while True:
        now = standing("charge", "unknown", "reconcile", AT, fetches=fetches)
        decision = decide(now, Lost("timeout"), AT)
        assert decision is not None
        if decision.exhausted:
            break
        waits.append(decision.reconcile_in)
        fetches = decision.fetches
    assert waits == list(RECONCILE[1:])


def test_a_provider_that_cannot_be_reached_fails_without_counting() -> None:
    tries = 0
    while True:
        decision = decide(standing("charge", "in_flight", tries=tries), NotSent("ConnectError"), AT)
        assert decision is not None
        if decision.state != "ready":
            break
        tries = decision.tries
    assert tries == MOST_TRIES - 1
    assert decision.refused == Refused("soft", "ConnectError", counted=False)


def test_an_open_circuit_waits_and_uses_up_no_try() -> None:
    decision = decide(standing("charge", "in_flight", tries=4), NotSent("circuit_open"), AT)
    assert decision is not None
    assert (decision.state, decision.tries, decision.back_off_s) == ("ready", 4, 10.0)


def test_a_decline_on_an_open_page_changes_nothing() -> None:
    assert decide(standing("page", "requires_action", "fetch"), Refused("soft", "no"), AT) is None


@pytest.mark.parametrize(("kind", "ended"), [("page", "canceled"), ("charge", "failed")])
def test_what_waited_for_its_payer_in_vain_is_over(kind: str, ended: str) -> None:
    decision = decide(standing(kind, "requires_action", "expire"), Closed(), AT)
    assert decision is not None
    assert decision.state == ended
    assert decision.refused == (None if kind == "page" else NOT_CONFIRMED)


def test_a_payer_who_refuses_at_the_bank_fails_the_charge() -> None:
    refused = Refused("action", "authentication_failed")
    decision = decide(standing("charge", "requires_action", "fetch"), refused, AT)
    assert decision is not None
    assert (decision.state, decision.refused) == ("failed", refused)
