"""States by what an account owes, what a block gives back, and campaigns by overdue sums."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger.core.errors import CurrencyMismatch, InvalidPolicy
from subledger.core.money import Money
from subledger.core.overdue import (
    Campaign,
    Leaves,
    Level,
    Overdue,
    Progress,
    Settling,
    State,
    Unpaid,
    Waiting,
    may_bill,
    may_change,
    run_campaign,
    settled,
    state_days,
    state_on,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TODAY = date(2026, 1, 1)
DAY = timedelta(days=1)
WARNING = State("warning", min_age_days=10)
MANY = State("many", min_count=3, blocks_change=True)
BLOCKED = State("blocked", min_balances=(Money(500, "EUR"), Money(900, "USD")), level=Level.BLOCKED)
ENDED = State("ended", min_age_days=60, min_count=2, level=Level.CANCELLED)
STATES = (WARNING, MANY, BLOCKED, ENDED)
SOFT, STICKY = Overdue(STATES), Overdue(STATES, Leaves.WHEN_PAID)

unpaid = st.lists(
    st.builds(
        Unpaid,
        st.integers(0, 90).map(lambda n: TODAY - n * DAY),
        st.builds(Money, st.integers(0, 600), st.sampled_from(["EUR", "USD"])),
    ),
    max_size=5,
)


def owed(age: int, amount: int = 1, currency: str = "EUR") -> Unpaid:
    return Unpaid(TODAY - age * DAY, Money(amount, currency))


@pytest.mark.parametrize(
    ("invoices", "state"),
    [
        ([], None),
        ([owed(9)], None),
        ([owed(10)], WARNING),
        ([owed(10, 0)], None),
        ([owed(1)] * 3, MANY),
        ([owed(1, 250)] * 2, BLOCKED),
        ([owed(1, 400), owed(1, 400, "USD")], None),
        ([owed(1, 900, "USD")], BLOCKED),
        ([owed(1, 499)], None),
        ([owed(60)], WARNING),
        ([owed(60), owed(0)], ENDED),
        ([owed(-1, 900)], None),
    ],
)
def test_the_severest_state_whose_conditions_all_hold(invoices, state):
    assert state_on(SOFT, invoices, TODAY) == state


@given(unpaid, st.sampled_from([None, *STATES[:-1]]))
def test_hysteresis_never_goes_back_before_all_is_paid(invoices, before):
    now = state_on(STICKY, invoices, TODAY, before)
    owes = any(each.balance.amount_minor for each in invoices)
    if not owes:
        assert now is None
    elif before is not None:
        assert now is not None
        assert STATES.index(now) >= STATES.index(before)
    assert state_on(SOFT, invoices, TODAY, before) == state_on(SOFT, invoices, TODAY)


@pytest.mark.parametrize("policy", [SOFT, STICKY])
def test_what_was_cancelled_stays_so(policy):
    assert state_on(policy, [], TODAY, ENDED) == ENDED


@given(unpaid)
def test_the_days_foretold_are_those_on_which_the_state_changes(invoices):
    foretold = state_days(SOFT, invoices, TODAY)
    seen, before = {}, None
    for n in range(100):
        day = TODAY + n * DAY
        now = state_on(SOFT, invoices, day, before)
        if now is not None and now != before:
            seen[day] = now
        before = now
    assert foretold == seen


def test_what_a_state_forbids():
    assert may_change(None)
    assert may_bill(None)
    assert may_change(WARNING)
    assert not may_change(MANY)
    assert not may_change(BLOCKED)
    assert may_bill(MANY)
    assert not may_bill(BLOCKED)
    assert not may_bill(ENDED)


@pytest.mark.parametrize("how", [each for each in Settling if each is not Settling.CHARGEBACK])
def test_every_way_of_settling_clears(how):
    rest = settled(owed(30, 700), how, Money(700, "EUR"))
    assert state_on(SOFT, [rest], TODAY) is None
    assert settled(owed(30, 700), how, Money(800, "EUR")) == owed(30, 0)
    again = settled(rest, Settling.CHARGEBACK, Money(700, "EUR"))
    assert state_on(SOFT, [again], TODAY) == BLOCKED


def test_a_settlement_is_an_amount_of_the_same_currency():
    with pytest.raises(InvalidPolicy):
        settled(owed(1), Settling.PAYMENT, Money(0, "EUR"))
    with pytest.raises(CurrencyMismatch):
        settled(owed(1), Settling.PAYMENT, Money(1, "USD"))


CAMPAIGN = Campaign((Money(100, "EUR"), Money(200, "USD")), max_attempts=2, days_between=3)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 5),
            st.lists(
                st.builds(Money, st.integers(0, 150), st.sampled_from(["EUR", "USD", "JPY"])),
                max_size=4,
            ),
        ),
        max_size=20,
    ),
    st.sampled_from(Waiting),
)
def test_a_campaign_never_asks_too_often_too_soon_or_for_too_little(runs, waiting):
    campaign = Campaign(CAMPAIGN.thresholds, 2, 3, waiting)
    at, progress, asked = NOW, Progress({}), []
    for days, overdue in runs:
        at += days * DAY
        done = run_campaign(campaign, progress, overdue, at=at)
        for currency in done.requests:
            limit = next(each for each in campaign.thresholds if each.currency == currency)
            assert sum(o.amount_minor for o in overdue if o.currency == currency) >= (
                limit.amount_minor
            )
        if done.requests:
            apart = 4 * DAY if waiting is Waiting.MORE_THAN else 3 * DAY
            assert not asked or at - asked[-1] >= apart
            asked.append(at)
        else:
            assert done.progress == progress
            assert not done.finishes
        progress = done.progress
    assert all(each <= 2 for each in progress.attempts.values())


def test_a_campaign_sums_and_waits():
    overdue = [Money(60, "EUR"), Money(40, "EUR"), Money(199, "USD")]
    first = run_campaign(CAMPAIGN, Progress({}), overdue, at=NOW)
    assert first.requests == ("EUR",)
    assert not first.finishes
    later = run_campaign(CAMPAIGN, first.progress, overdue, at=NOW + 2 * DAY)
    assert later.requests == ()
    last = run_campaign(CAMPAIGN, first.progress, overdue, at=NOW + 3 * DAY)
    assert (last.requests, last.finishes) == (("EUR",), True)
    over = run_campaign(CAMPAIGN, last.progress, overdue, at=NOW + 30 * DAY)
    assert (over.requests, over.finishes) == ((), False)
    both = run_campaign(
        CAMPAIGN, Progress({"USD": 1}), [Money(100, "EUR"), Money(200, "USD")], at=NOW
    )
    assert both.requests == ("USD", "EUR")
    assert run_campaign(CAMPAIGN, Progress({}), overdue, at=NOW, excluded=True).requests == ()


@pytest.mark.parametrize(
    ("build", "pointer"),
    [
        (lambda: State("", min_count=1), "/name"),
        (lambda: State("clear", min_count=1), "/name"),
        (lambda: State("x"), "/min_age_days"),
        (lambda: State("x", min_age_days=-1), "/min_age_days"),
        (lambda: State("x", min_age_days=3_651), "/min_age_days"),
        (lambda: State("x", min_count=0), "/min_count"),
        (lambda: State("x", min_balances=(Money(0, "EUR"),)), "/min_balances"),
        (lambda: State("x", min_balances=(Money(1, "EUR"),) * 2), "/min_balances"),
        (lambda: Overdue((WARNING, WARNING)), "/states"),
        (lambda: Overdue((ENDED, WARNING)), "/states"),
        (lambda: Overdue(tuple(State(str(n), min_age_days=n) for n in range(21))), "/states"),
        (lambda: Campaign((), 1, 1), "/thresholds"),
        (lambda: Campaign((Money(-1, "EUR"),), 1, 1), "/thresholds"),
        (lambda: Campaign((Money(1, "EUR"),), 0, 1), "/max_attempts"),
        (lambda: Campaign((Money(1, "EUR"),), 101, 1), "/max_attempts"),
        (lambda: Campaign((Money(1, "EUR"),), 1, 0), "/days_between"),
        (lambda: Campaign((Money(1, "EUR"),), 1, 366), "/days_between"),
    ],
)
def test_what_is_no_policy_is_refused(build, pointer):
    with pytest.raises(InvalidPolicy) as refused:
        build()
    assert refused.value.pointer == pointer
    assert refused.value.fix
