"""Dunning: the file names no operation, so the shape of a case says what is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

from subledger.core.calendar import Anchor, Interval, Period, Unit, boundary
from subledger.core.cycles import next_boundary
from subledger.core.dunning import (
    Decline,
    Failure,
    Final,
    FinalAction,
    FinalAt,
    Nothing,
    Owed,
    Policy,
    Retry,
    Rules,
    Standing,
    Success,
    decide,
    next_step,
    plan_ahead,
    subscription_after,
)
from subledger.core.invoicing import draft
from subledger.core.money import Money
from subledger.core.overdue import (
    CLEAR,
    Campaign,
    Level,
    Overdue,
    Progress,
    Settling,
    State,
    Unpaid,
    Waiting,
    may_bill,
    run_campaign,
    settled,
    state_on,
)
from subledger.core.states import INVOICE, SUBSCRIPTION, step
from tests.conformance.case import Answer, Case, Operation, Unsupported
from tests.conformance.ops.proration_engine import CREDIT_BY_DAY, cycle_of, flat, known

NOW = datetime(2025, 1, 1, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
MONTH = Interval(Unit.MONTH)
CURRENCY = "USD"  # where a case names none
SUM = Money(10_000, CURRENCY)  # where a case tells an amount in words only
POLAR = Rules(
    renewal=Policy(
        tuple(each * DAY for each in (2, 5, 7, 7)), FinalAction.CANCEL, final_at=FinalAt.DEADLINE
    ),
    one_off=Policy((), FinalAction.NONE),
    voided=FinalAction.CANCEL,
)
CALLED: Mapping[str, Mapping[str, str]] = {
    "polar": {"canceled": "revoked"},
    "dodo": {"past_due": "on_hold"},
}
"""What a source calls a state of ours."""


def at(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def day(moment: datetime) -> str:
    return moment.date().isoformat()


def _days(moment: datetime) -> int:
    return (moment - NOW).days


def _called(case: Case, state: str) -> str:
    return CALLED.get(case.source, {}).get(state, state)


# Retries


def retry_dates(case: Case) -> Answer:
    """Each invoice's own schedule, as far as the source watched it (it tells no day of payment)."""
    given = case.given
    if not isinstance(given["retry_days"], list):
        return _attempts_in_words()
    policy = Policy(tuple(each * DAY for each in given["retry_days"]), FinalAction.NONE)
    failures = given.get("failures") or [given["first_failure"]]
    keys = list(case.expect)
    if len(keys) != len(failures):
        raise Unsupported("the case tells no list of dates for each failure")
    return {
        key: [day(each) for each in plan_ahead(policy, at(failed))][: len(case.expect[key])]
        for key, failed in zip(keys, failures, strict=True)
    }


def _attempts_in_words() -> Answer:
    """The first attempt and its retries for every possible number of delays."""
    beyond = set()
    for n in range(21):
        failures, following = _until_final(Policy((DAY,) * n, FinalAction.NONE))
        beyond.add(len(failures) - n)
    if len(beyond) != 1:
        raise Unsupported("the number of attempts is no sum")
    return {
        "attempts": f"n + {beyond.pop()}",
        "last_state": "aborted" if isinstance(following, Final) else "retried",
    }


def _until_final(policy: Policy) -> tuple[list[Failure], Final]:
    failures = [Failure(NOW, Decline.SOFT)]
    while isinstance(following := next_step(policy, failures), Retry):
        failures.append(Failure(following.at, Decline.SOFT))
    return failures, following


def schedule(case: Case) -> Answer:
    """All retries of the source's policy from a day on, and what comes after the last."""
    policy = POLAR.renewal
    first = NOW + case.given["first_failure_day"] * DAY
    failures, last = _until_final(policy)
    after = subscription_after("past_due", last, at=last.at)
    return {
        "retry_on_day": [_days(each) for each in plan_ahead(policy, first)],
        "intervals_days": [(b.at - a.at).days for a, b in pairwise(failures)],
        "after_last": f"subscription {_called(case, after)}",
    }


def every_day(case: Case) -> Answer:
    """Retries a day apart, at most so many and no later than the days of grace."""
    policy = Policy(
        (DAY,),
        FinalAction.CANCEL,
        max_retries=case.given["max_attempts"],
        max_span=case.given["grace_days"] * DAY,
    )
    failures, last = _until_final(policy)
    waiting = subscription_after("active", Retry(NOW, 1), at=NOW)
    return {
        "attempts_after_hours": [(each.at - NOW) // HOUR for each in failures],
        "states": [waiting, subscription_after(waiting, last, at=last.at)],
    }


def window(case: Case) -> Answer:
    """A window for recovery after which the subscription is left as it is."""
    span = case.given["recovery_window_days_default"] * DAY
    for each in case.given.get("allowed", ()):
        Policy((DAY,), FinalAction.NONE, max_span=each * DAY)
    policy = Policy((DAY,), FinalAction.NONE, max_retries=20, max_span=span)
    failures, last = _until_final(policy)
    during = subscription_after("active", next_step(policy, failures[:1]), at=NOW)
    over = subscription_after(during, last, at=policy.deadline(NOW))
    anchor = Anchor(NOW, "UTC")
    kept = next_boundary(anchor, MONTH, policy.deadline(NOW)) == boundary(anchor, MONTH, 1)
    return {
        "during": _called(case, during),
        "success": _paid(during) + (", next billing date as normal" if kept else ""),
        "window_over": ("stays " if over == during else "") + _called(case, over),
    }


def _paid(subscription: str) -> str:
    return step(SUBSCRIPTION, subscription, "paid")


# One failure, and what is known of the invoice


def after_failures(case: Case) -> Answer:
    """What follows this many failures (and successes, which are told before them)."""
    given = case.given
    attempts: list[Failure | Success] = [Success(NOW - DAY)] * given.get("succeeded", 0)
    wanted = given.get("failures", given.get("failed", 0)) + ("plus" in given)
    planned = (NOW, *plan_ahead(POLAR.renewal, NOW))
    moments = [planned[min(n, len(planned) - 1)] for n in range(wanted)]
    codes = [None] * (wanted - 1) + [given.get("decline")]
    attempts += [
        Failure(moment, Decline.SOFT, code=code)
        for moment, code in zip(moments, codes, strict=True)
    ]
    return _decided(case, Standing(subscription="active"), attempts)


def declined(case: Case) -> Answer:
    """One failure with the bank's code."""
    failure = Failure(NOW, Decline.SOFT, code=case.given["decline"])
    return _decided(case, Standing(subscription="active"), [failure])


def order(case: Case) -> Answer:
    """A failure of an invoice that is a one-off, or closed already."""
    told = case.given["order"]
    if told == "without subscription":
        standing = Standing(owed=Owed.ONE_OFF)
    else:
        closed = {"refunded": "paid"}.get(told, told)
        standing = Standing(invoice=closed, subscription="past_due")
    return _decided(case, standing, [Failure(NOW, Decline.SOFT)])


def ended(case: Case) -> Answer:
    """A failure of a subscription that is in this state already."""
    state = {"ended": "canceled"}.get(case.given["subscription"], case.given["subscription"])
    return _decided(case, Standing(subscription=state), [Failure(NOW, Decline.SOFT)])


def succeeded(case: Case) -> Answer:
    """The retry brings the money, and invoice and subscription step by it; or it fails."""
    if "retry fails" in case.given["event"]:
        again = [Failure(each, Decline.SOFT) for each in (NOW, *plan_ahead(POLAR.renewal, NOW)[:1])]
        return _decided(case, Standing(subscription="past_due"), again)
    if "retry succeeds" not in case.given["event"]:
        raise Unsupported(f"no event is called {case.given['event']}")
    standing = Standing(step(INVOICE, "open", "paid"), subscription=_paid("past_due"))
    return _decided(case, standing, [Failure(NOW, Decline.SOFT), Success(NOW)])


def _decided(case: Case, standing: Standing, attempts: Sequence[Failure | Success]) -> Answer:
    now = attempts[-1].at
    following = decide(POLAR, standing, attempts, at=now)
    after = standing.subscription and subscription_after(standing.subscription, following, at=now)
    return {
        "next_attempt": _next_attempt(following, now),
        "next_attempt_in_days": (
            (following.at - now).days if isinstance(following, Retry) else None
        ),
        "retries": isinstance(following, Retry),
        "subscription": after and _called(case, after),
        "order": standing.invoice,
        "state": "unchanged" if after == standing.subscription else after,
    }


def _next_attempt(following: Retry | Final | Nothing, now: datetime) -> str | None:
    """The moment of a retry; the deadline, where the final action waits for it."""
    if isinstance(following, Retry):
        return day(following.at)
    if isinstance(following, Final) and now < following.at == POLAR.renewal.deadline(NOW):
        after = subscription_after("past_due", following, at=following.at)
        return f"past-due deadline, when it is {CALLED['polar'][after]}"
    return None


# States of an account


def overdue_states(case: Case) -> Answer:
    """The state on each day asked for."""
    policy = Overdue(tuple(_state(each) for each in case.given["states"]))
    unpaid = [Unpaid(date.fromisoformat(case.given["earliest_unpaid_invoice"]), SUM)]
    return {
        "states_on": {
            each: _name(state_on(policy, unpaid, date.fromisoformat(each)))
            for each in case.expect["states_on"]
        }
    }


def _state(told: Mapping[str, Any]) -> State:
    blocks = told.get("disables_entitlement_and_billing", False)
    balance = told.get("unpaid_balance_minor")
    return State(
        told["name"],
        min_age_days=told.get("days_since_earliest_unpaid"),
        min_count=told.get("unpaid_invoices"),
        min_balances=() if balance is None else (Money(balance, CURRENCY),),
        level=Level.BLOCKED if blocks else Level.WARNING,
        blocks_change=told.get("blocks_change", False),
    )


def _name(state: State | None) -> str:
    return CLEAR if state is None else state.name


SETTLINGS: Sequence[tuple[str, Settling]] = (
    ("external payment", Settling.EXTERNAL_PAYMENT),
    ("chargeback", Settling.CHARGEBACK),
    ("write", Settling.WRITE_OFF),
    ("credit", Settling.CREDIT),
    ("adjustment", Settling.ADJUSTMENT),
    ("payment", Settling.PAYMENT),
)


def settling(case: Case) -> Answer:
    """An overdue invoice is settled in full, or a paid one is charged back."""
    told = case.given["event"]
    how = next((found for word, found in SETTLINGS if word in told), None)
    if how is None:
        raise Unsupported(f"no event is called {told}")
    unpaid = Unpaid(NOW.date(), SUM)
    if how is Settling.CHARGEBACK:
        unpaid = settled(unpaid, Settling.PAYMENT, SUM)
    policy = Overdue((State(case.given.get("state", "overdue"), min_age_days=0),))
    return {"state": _name(state_on(policy, [settled(unpaid, how, SUM)], NOW.date()))}


# A block that ends


def blocked(case: Case) -> Answer:
    """The credit for the blocked days, and the invoice that takes it."""
    given, plan = case.given, case.given["plan"]
    if "blocked_from" not in given:
        raise Unsupported("the case tells no period and no block from which its figures follow")
    paid = at(given["paid_on"])
    billed = _billed(given, paid)
    blocked_from = max(at(given["blocked_from"]), billed.start_at)
    credit_minor, served = _blocked(plan["amount_minor"], billed, blocked_from, paid)
    anchor = _anchor(given, billed)
    follows = Period(billed.end_at, next_boundary(anchor, MONTH, billed.end_at))
    recurring = {
        "type": "recurring",
        "period": _period(follows),
        "amount_minor": plan["amount_minor"],
    }
    repair = {"period": _period(served), "amount_minor": -credit_minor}
    return {
        "repair": repair,
        "account_credit_minor": credit_minor,
        "next_invoice": {
            "date": day(billed.end_at),
            "items_minor": [plan["amount_minor"], -credit_minor],
        },
        "no_invoice_while_blocked": not may_bill(State("x", min_age_days=0, level=Level.BLOCKED)),
        "items": [recurring, {"type": "repair", **repair}],
    }


def _blocked(
    price_minor: int, billed: Period, from_at: datetime, until_at: datetime
) -> tuple[int, Period]:
    """A block is a pause: what is given back of a billed period, and for which time of it."""
    items, cycle = (flat("plan", price_minor),), cycle_of(billed)
    first = draft(
        known(cycle, (billed.start_at, items), mode=CREDIT_BY_DAY),
        first_period=0,
        horizon_at=billed.start_at,
    )
    paused = known(
        cycle,
        (billed.start_at, items),
        (from_at, ()),
        (until_at, items),
        mode=CREDIT_BY_DAY,
    )
    found = draft(paused, first_period=0, horizon_at=until_at, billed=first.lines)
    return -found.total_minor, Period(from_at, min(until_at, billed.end_at))


def _billed(given: Mapping[str, Any], paid: datetime) -> Period:
    """The period told, or the month that ends on the day of payment."""
    if "period" in given:
        return Period(*(at(each) for each in given["period"]))
    return Period(boundary(Anchor(paid, "UTC"), MONTH, -1), paid)


def _anchor(given: Mapping[str, Any], billed: Period) -> Anchor:
    return Anchor(billed.end_at, "UTC", day=given.get("anchor_day", billed.end_at.day))


def _period(of: Period) -> list[str]:
    return [day(of.start_at), day(of.end_at)]


# Campaigns


def campaign(case: Case) -> Answer:
    """The runs of a campaign over what falls overdue."""
    given = case.given
    rule = _campaign(
        _moneys(given["campaign"]["thresholds_minor"]),
        given["campaign"]["max_attempts"],
        given["campaign"]["days_between_attempts"],
    )
    progress, actions = Progress({}), []
    for wanted in case.expect["actions"]:
        now = at(wanted["at"])
        overdue = [
            money
            for event in given["events"]
            if at(event["at"]).date() <= now.date()
            for key in ("overdue_minor", "overdue_added_minor")
            for money in _moneys(event.get(key, {}))
        ]
        done = run_campaign(rule, progress, overdue, at=now)
        progress = done.progress
        action = {"at": wanted["at"], "requests": done.requests}
        actions.append({**action, "finished": True} if done.finishes else action)
    return {"actions": actions, "attempts": progress.attempts}


def attempt(case: Case) -> Answer:
    """Whether one run asks for anything. What the case does not tell does not stand against it."""
    given = case.given
    thresholds = _moneys(given.get("thresholds_minor", given.get("threshold_minor", SUM)))
    overdue = _moneys(given.get("overdue_minor", thresholds))
    if "less than threshold" in given.get("overdue", ""):
        overdue = [each - Money(1, each.currency) for each in thresholds]
    ago = given.get("last_attempt_days_ago")
    done = run_campaign(
        _campaign(thresholds, given.get("max_attempts", 5), given.get("days_between_attempts", 1)),
        Progress(
            {each.currency: given.get("attempts", 0) for each in thresholds},
            None if ago is None else NOW - ago * DAY,
        ),
        overdue,
        at=NOW,
        excluded=given.get("excluded", False),
    )
    return {"attempt": bool(done.requests), "attempts": done.requests}


def _campaign(thresholds: Sequence[Money], attempts: int, days: int) -> Campaign:
    return Campaign(tuple(thresholds), attempts, days, Waiting.MORE_THAN)


def _moneys(told: Any) -> list[Money]:
    """``{"EUR": 5}``, ``[5, 6]`` and ``5`` (in no currency) as amounts."""
    if isinstance(told, Mapping):
        return [Money(amount, currency) for currency, amount in told.items()]
    listed = told if isinstance(told, list) else [told]
    return [each if isinstance(each, Money) else Money(each, CURRENCY) for each in listed]


SHAPES: Sequence[tuple[str, Operation]] = (
    ("campaign", campaign),
    ("retry_days", retry_dates),
    ("first_failure_day", schedule),
    ("grace_days", every_day),
    ("recovery_window_days_default", window),
    ("states", overdue_states),
    ("paid_on", blocked),
    ("failures", after_failures),
    ("failed", after_failures),
    ("decline", declined),
    ("order", order),
    ("subscription", ended),
    *((key, attempt) for key in ("thresholds_minor", "threshold_minor", "overdue", "excluded")),
    *((key, attempt) for key in ("days_between_attempts", "max_attempts", "overdue_minor")),
)
"""The first key that a case has says what it asks."""


def dispatch(case: Case) -> Answer:
    if "event" in case.given:
        return (settling if case.source == "killbill" else succeeded)(case)
    for key, operation in SHAPES:
        if key in case.given:
            return operation(case)
    raise Unsupported("no case of this shape is known")


OPERATIONS: dict[str, Operation] = {"": dispatch}
