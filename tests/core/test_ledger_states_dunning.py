"""Postings balance by construction, machines only step where a table says so, dunning is data."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger.core import dunning, ledger, states
from subledger.core.dunning import DEFAULT, Decline, Failure, Final, FinalAction, Policy, Retry
from subledger.core.errors import IllegalTransition, InvalidPolicy

NOW = datetime(2026, 3, 1, tzinfo=UTC)
amounts = st.integers(0, 10**15)


@given(st.lists(st.tuples(amounts, amounts, st.sampled_from(["EUR", "JPY", "KWD"])), max_size=20))
def test_the_books_of_any_history_balance(history):
    transfers = []
    for net, tax, currency in history:
        finalized = ledger.finalized(customer="c", net_minor=net, tax_minor=tax, currency=currency)
        transfers += finalized
        if net % 3 == 0:
            transfers += ledger.reversed_transfers(finalized)
        elif net % 3 == 1:
            transfers += ledger.paid(
                connection="p", customer="c", amount_minor=net + tax, currency=currency
            )
        else:
            transfers += ledger.written_off(customer="c", amount_minor=net + tax, currency=currency)
        transfers += ledger.unapplied_receipt(
            connection="p", customer="c", amount_minor=tax, currency=currency
        )
    assert all(total == 0 for total in ledger.trial_balance(transfers).values())
    for (account, _), balance in ledger.balances(transfers).items():
        if account == "receivable:c":
            assert balance == 0


def test_what_was_given_up_and_is_paid_after_all_leaves_no_loss():
    books = [
        *ledger.finalized(customer="c", net_minor=999, tax_minor=190, currency="EUR"),
        *ledger.written_off(customer="c", amount_minor=1189, currency="EUR"),
        *ledger.recovered(connection="p", customer="c", amount_minor=1189, currency="EUR"),
    ]
    assert ledger.balances(books) == {
        ("receivable:c", "EUR"): 0, ("deferred_revenue", "EUR"): -999,
        ("tax_payable", "EUR"): -190, ("bad_debt", "EUR"): 0,
        ("provider_clearing:p", "EUR"): 1189,
    }  # fmt: skip


def test_a_refund_gives_back_what_the_customer_had_unapplied():
    books = [
        *ledger.unapplied_receipt(connection="p", customer="c", amount_minor=500, currency="JPY"),
        *ledger.refunded(
            connection="p", source=ledger.unapplied("c"), amount_minor=500, currency="JPY"
        ),
    ]
    assert set(ledger.balances(books).values()) == {0}


def test_a_zero_amount_makes_no_transfer():
    assert ledger.finalized(customer="c", net_minor=0, tax_minor=0, currency="EUR") == ()


@pytest.mark.parametrize("name", sorted(states.MACHINES))
def test_machines_reach_an_end_from_every_state(name):
    machine = states.MACHINES[name]
    following: dict[str, set[str]] = {}
    for (state, _), to in machine.items():
        following.setdefault(state, set()).add(to)
    ends = set(machine.values()) - set(following) | {"succeeded", "canceled", "won", "lost"}
    for state in following:
        seen, todo = set(), [state]
        while todo:
            here = todo.pop()
            if here not in seen:
                seen.add(here)
                todo += following.get(here, ())
        assert seen & ends, f"{name}: {state} never ends"


def test_what_no_table_allows_is_refused():
    assert states.step(states.INVOICE, "open", "paid") == "paid"
    with pytest.raises(IllegalTransition):
        states.step(states.INVOICE, "void", "paid")
    assert not states.can(states.PAYMENT, "succeeded", "failed")


def test_the_order_of_due_work_is_the_architectures():
    ordered = sorted(states.DUE_RANK, key=lambda kind: states.DUE_RANK[kind])
    named = [
        "trial_end", "scheduled_change", "pause_resume", "cancellation", "renewal",
        "credit_expiry", "invoice_finalization", "payment_retry", "final_dunning_step", "reminder",
    ]  # fmt: skip
    assert [kind for kind in ordered if kind in named] == named


def failures(*specs: tuple[int, Decline, bool]) -> list[Failure]:
    return [Failure(NOW + timedelta(days=day), decline, counted) for day, decline, counted in specs]


def test_the_default_policy_tries_after_1_3_5_and_7_days_then_cancels():
    seen = []
    history: list[Failure] = [Failure(NOW, Decline.SOFT)]
    while isinstance(step := dunning.next_step(DEFAULT, history), Retry):
        seen.append((step.at - NOW).days)
        history.append(Failure(step.at, Decline.SOFT))
    assert seen == [1, 4, 9, 16]
    assert step == Final(FinalAction.CANCEL, NOW + timedelta(days=16))
    assert [(at - NOW).days for at in dunning.plan_ahead(DEFAULT, NOW)] == seen


def test_a_hard_decline_ends_it_at_once():
    assert dunning.next_step(DEFAULT, failures((0, Decline.HARD, True))) == Final(
        FinalAction.CANCEL, NOW
    )


def test_what_never_reached_the_bank_uses_up_no_delay():
    history = failures((0, Decline.SOFT, True), (1, Decline.SOFT, False))
    step = dunning.next_step(DEFAULT, history)
    assert step == Retry(NOW + timedelta(days=1, hours=6), 2)
    history.append(Failure(step.at, Decline.SOFT))
    following = dunning.next_step(DEFAULT, history)
    assert isinstance(following, Retry)
    assert following.at == step.at + timedelta(days=3)


def test_the_provider_may_postpone_a_retry_but_not_hasten_it():
    later = NOW + timedelta(days=2)
    step = dunning.next_step(DEFAULT, failures((0, Decline.SOFT, True)), retry_not_before=later)
    assert step == Retry(later, 1)


def test_the_provider_cannot_postpone_a_retry_for_ever():
    far = NOW + timedelta(days=36_500)
    step = dunning.next_step(DEFAULT, failures((0, Decline.SOFT, True)), retry_not_before=far)
    assert step == Retry(NOW + timedelta(days=90), 1)


@pytest.mark.parametrize("delays", [[timedelta(0)], [timedelta(days=91)], [timedelta(1)] * 21])
def test_policies_have_bounds(delays):
    with pytest.raises(InvalidPolicy):
        Policy(tuple(delays), FinalAction.CANCEL)


@given(st.lists(st.tuples(st.sampled_from(list(Decline)), st.booleans()), max_size=80))
def test_dunning_always_ends(answers):
    history = [Failure(NOW, Decline.SOFT)]
    for decline, counted in answers + [(Decline.SOFT, False)] * 200:
        step = dunning.next_step(DEFAULT, history)
        if isinstance(step, Final):
            break
        assert step.at > history[-1].at
        history.append(Failure(step.at, decline, counted))
    assert isinstance(dunning.next_step(DEFAULT, history), Final)
    assert len(history) <= 5 + dunning.MAX_NOT_COUNTED + 1
