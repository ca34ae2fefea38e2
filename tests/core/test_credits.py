"""Credit is applied in one order, never beyond the invoice or the balance; the books balance."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger.core import credits, ledger
from subledger.core.credits import Draw, Kind, Source, apply, balance, burn_down, expire
from subledger.core.errors import AmountOutOfRange, InvalidCredit, UnknownCurrency

NOW = datetime(2026, 3, 1, tzinfo=UTC)
moments = st.sampled_from([NOW + timedelta(days=day) for day in range(-3, 4)])
at_times, kinds = st.none() | moments, st.sampled_from(Kind)
currencies = st.sampled_from(("EUR", "EUR", "EUR", "JPY"))


def source(name: str, amount: int, **changes: object) -> Source:
    return replace(Source(name, Kind.PREPAID, amount, "EUR", NOW - timedelta(days=9)), **changes)


@st.composite
def sources(draw):
    found = []
    for n in range(draw(st.integers(0, 8))):
        expires_at = draw(at_times)
        found.append(
            source(
                f"s{n}",
                draw(st.integers(0, 50)),
                kind=draw(kinds),
                currency=draw(currencies),
                created_at=draw(moments),
                priority=draw(st.integers(0, 2)),
                expires_at=expires_at,
                starts_at=draw(at_times) if expires_at is None else None,
            )
        )
    return found


def unit_by_unit(due: int, given_sources: list[Source], at: datetime) -> dict[str, int]:
    """The naive oracle: one minor unit at a time, from the first source by the written rule."""
    left = {each.id: each.balance_minor for each in given_sources}
    rank = {"credit_note": 0, "account": 1, "prepaid": 2}
    far = datetime.max.replace(tzinfo=UTC)
    for _ in range(due):
        able = [
            each
            for each in given_sources
            if left[each.id]
            and each.currency == "EUR"
            and (each.starts_at or NOW - timedelta(days=99)) <= at < (each.expires_at or far)
        ]
        if not able:
            break
        first = min(
            able,
            key=lambda each: (
                rank[each.kind], each.priority, each.expires_at or far, each.created_at, each.id,
            ),
        )  # fmt: skip
        left[first.id] -= 1
    return left


@given(st.integers(0, 200), sources(), moments)
def test_applications_are_the_naive_oracles(due, given_sources, at):
    applied = apply(due, "EUR", given_sources, at)
    after = {each.id: each.balance_minor for each in applied.sources}
    assert after == unit_by_unit(due, given_sources, at)
    assert [each.id for each in applied.sources] == [each.id for each in given_sources]


@given(st.integers(0, 200), sources(), moments)
def test_never_more_than_is_due_or_there(due, given_sources, at):
    applied = apply(due, "EUR", given_sources, at)
    can = balance(given_sources, "EUR", at).total_minor
    assert applied.applied_minor == min(due, can) == sum(u.amount_minor for u in applied.uses)
    assert applied.applied_minor + applied.left_minor == due
    assert balance(applied.sources, "EUR", at).total_minor == can - applied.applied_minor
    rest = due
    for use in applied.uses:
        step = use.step
        assert step["due_minor"] == rest
        assert use.amount_minor == min(int(step["balance_minor"]), rest) > 0
        rest -= use.amount_minor


@given(st.integers(0, 200), sources(), moments)
def test_the_order_given_changes_nothing(due, given_sources, at):
    assert (
        apply(due, "EUR", given_sources, at).uses == apply(due, "EUR", given_sources[::-1], at).uses
    )


@given(sources(), st.lists(st.tuples(moments, st.integers(0, 40)), max_size=8))
def test_what_is_burned_expired_and_left_is_what_there_was(given_sources, drawn):
    until = NOW + timedelta(days=3)
    burned = burn_down(given_sources, [Draw(at, amount) for at, amount in drawn], "EUR", until)
    taken = sum(each.applied_minor for each in burned.applied)
    assert taken + burned.overage_minor == sum(amount for _, amount in drawn)
    left = sum(each.balance_minor for each in burned.sources)
    assert taken + left + sum(burned.expired.values()) == sum(
        each.balance_minor for each in given_sources
    )


def test_credit_notes_then_account_then_grants_by_priority_expiry_age_and_id():
    soon, later = NOW + timedelta(days=1), NOW + timedelta(days=2)
    old = NOW - timedelta(days=30)
    ordered = [
        source("note", 1, kind=Kind.CREDIT_NOTE, priority=9),
        source("account", 1, kind=Kind.ACCOUNT, priority=9),
        source("urgent", 1, priority=1),
        source("soon", 1, priority=2, expires_at=soon),
        source("later", 1, priority=2, expires_at=later),
        source("old", 1, priority=2, created_at=old),
        source("a", 1, priority=2),
        source("b", 1, priority=2),
    ]
    applied = apply(100, "EUR", ordered[::-1], NOW)
    assert [each.source_id for each in applied.uses] == [each.id for each in ordered]
    assert applied.left_minor == 92


def test_expiry_is_exclusive_and_leaves_breakage():
    grants = (source("a", 70, expires_at=NOW), source("b", 30))
    assert balance(grants, "EUR", NOW).total_minor == 30
    assert balance(grants, "EUR", NOW - timedelta(microseconds=1)).prepaid_minor == 100
    kept, gone = expire(grants, NOW)
    assert gone == {"a": 70}
    assert [each.balance_minor for each in kept] == [0, 30]


def test_nothing_due_uses_nothing():
    assert apply(0, "EUR", [source("a", 5)], NOW).uses == ()


def test_what_is_not_in_order_is_refused():
    with pytest.raises(InvalidCredit, match="not negative"):
        source("a", -1)
    with pytest.raises(InvalidCredit, match="priority"):
        source("a", 1, priority=256)
    with pytest.raises(InvalidCredit, match="expires after"):
        source("a", 1, starts_at=NOW, expires_at=NOW)
    with pytest.raises(UnknownCurrency):
        source("a", 1, currency="eur")
    with pytest.raises(AmountOutOfRange):
        source("a", 10**15 + 1)
    with pytest.raises(InvalidCredit, match="each once"):
        apply(1, "EUR", [source("a", 1), source("a", 1)], NOW)
    with pytest.raises(InvalidCredit, match="not negative"):
        apply(-1, "EUR", [], NOW)
    with pytest.raises(InvalidCredit, match="each once"):
        apply(1, "EUR", [source(str(n), 1) for n in range(credits.MOST_SOURCES + 1)], NOW)
    with pytest.raises(InvalidCredit, match="none after"):
        burn_down([], [Draw(NOW + timedelta(1), 1)], "EUR", NOW)


@given(st.integers(0, 200), sources(), moments)
def test_postings_of_applications_balance(due, given_sources, at):
    applied = apply(due, "EUR", given_sources, at)
    books = [
        *ledger.finalized(customer="c", net_minor=due, tax_minor=0, currency="EUR"),
        *(
            transfer
            for use in applied.uses
            for transfer in ledger.credit_applied(
                customer="c", amount_minor=use.amount_minor, currency="EUR"
            )
        ),
    ]
    assert all(total == 0 for total in ledger.trial_balance(books).values())
    balances = ledger.balances(books)
    assert balances.get(("receivable:c", "EUR"), 0) == applied.left_minor
    assert balances.get(("credit:c", "EUR"), 0) == applied.applied_minor
