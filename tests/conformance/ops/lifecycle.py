"""Cases of a subscription's life. They name no operation: a case tells a subscription and its
events, and is answered under the keys it expects by what the account was billed.

Conventions by source: Kill Bill keeps only the day of month where a subscription goes on after a
pause or on another interval; Lago charges the last day and lets a trial run on across changes;
Meteroid's trial ends with a change. Dates stand for local midnights. Where a case tells neither
dates nor a plan, one of ours stands in, and no figure of it is answered.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from subledger.core import ledger, lifecycle, states
from subledger.core.calendar import (
    Alignment,
    Anchor,
    Interval,
    Unit,
    align,
    boundary,
)
from subledger.core.cycles import (
    Cycle,
    TakesEffect,
    Trial,
    next_boundary,
    reanchor,
    trial_end,
)
from subledger.core.discounts import Discount, Duration, Kind, Running
from subledger.core.lifecycle import (
    LIFECYCLE,
    ChangesBilled,
    Scheduled,
)
from subledger.core.local_days import add_local_days, day_of_month, local_date
from tests.conformance.case import Answer, Case, Operation, Unsupported
from tests.conformance.ops.lifecycle_account import Account
from tests.conformance.ops.lifecycle_reading import (
    HALF_OF_APRIL,
    SOME_PLAN,
    SOME_START,
    Subscription,
    account_of,
    instant,
    interval_of,
    plan_of,
    run_before,
    start_of,
    started,
)
from tests.conformance.ops.lifecycle_showing import answer, net


def subscriptions(case: Case) -> Answer:
    """One subscription, or several with a number each: starts, events, runs."""
    given = dict(case.given)
    events = [dict(each) for each in given.get("events", ())]
    account = account_of(given, case.source)
    several = any("sub" in each for each in events)
    known: dict[Any, Subscription] = {}
    if not several:
        known[None] = started(account, case.source, given)
    told_end = given.get("ends_at", given.get("end"))
    if told_end is not None:
        known[None].end(instant(told_end, account.zone))
    runs = "target" not in given
    # Several subscriptions are told one after another, but billed as time goes on.
    for event in sorted(events, key=lambda each: str(each.get("at", "")) if several else ""):
        if event["type"] == "start":
            run_before(account, instant(event["at"], account.zone))
            told = {**event, "start": event["at"]}
            known[event["sub"]] = started(account, case.source, told)
            continue
        of = known[event.get("sub")]
        at = of.moment(event)
        if runs:
            run_before(account, at, including=at == of.start_at)
        bill_at = of.happen(event, at)
        # With invoicing off nothing runs until it is on again.
        runs = "target" not in given and not event["type"].endswith("invoicing off")
        if runs:
            account.run(bill_at, closing=True)
    return answer(case, account, given)


# States -------------------------------------------------------------------------------------------

WORDS = {"trialing": "trial_active"}
"""Meteroid's word where it has its own."""


def _states(*triggers: str) -> list[str]:
    found, state = [], "pending"
    for each in triggers:
        state = states.step(LIFECYCLE, state, each)
        found.append(WORDS.get(state, state))
    return found


def ending(case: Case) -> Answer:
    """A fixed end: the general case with the state after it."""
    last = _states("started", "ended")[-1]
    if "state" in case.expect:
        account = account_of(case.given, case.source)
        told = started(account, case.source, case.given)
        told.end(instant(case.given.get("end") or case.given["ends_at"], account.zone))
        return answer(case, account, case.given, state=last)
    return subscriptions(case)


def stated(case: Case) -> Answer:
    """A subscription in a state, and one thing done to it."""
    state = case.given["state"]
    for event in case.given["events"]:
        trigger = event["type"]
        if trigger == "terminate":
            trigger = "canceled" if (state, "canceled") in LIFECYCLE else "terminated"
        state = states.step(LIFECYCLE, state, trigger)
    if state == "active":
        raise Unsupported("the case tells no plan, so what it is billed is not known")
    return {"state": state, "invoice": None}


def trial(case: Case) -> Answer:
    """A trial that is given with the subscription: free up to its end, or paid from the start."""
    given = dict(case.given)
    account = account_of(given, case.source)
    start_at = start_of(given, account.zone)
    ends_at = trial_end(start_at, account.zone, Trial(given["trial_days"]))
    told = Subscription(account, case.source, given, start_at, plan_of(given))
    events = given.get("events", ())
    missing = given.get("checkout_done") is False or "checkout" in given
    lapses = given.get("activation") == "on_checkout" and missing and given.get("trial") != "paid"
    triggers = ["trial_started"]
    more: dict[str, Any] = {}
    account.now = start_at - timedelta(microseconds=1)
    if events:
        (event,) = events
        at = instant(event["at"], account.zone)
        told.begin(at, event["plan"])
        triggers.append("changed" if at < ends_at else "trial_ended")
    elif given.get("trial") == "paid":
        told.begin(start_at, told.plan)
        triggers.append("trial_ended")
    elif lapses:
        triggers.append("trial_lapsed")
        if given.get("checkout") == "after expiry":
            triggers.append("paid")
            told.begin(add_local_days(ends_at, 1, account.zone), told.plan)
    else:
        told.begin(ends_at, told.plan)
        triggers.append("trial_ended")
    if "renewals" in case.expect:
        account.run_for(1 + case.expect["renewals"])
        more["renewals"] = sum(
            each.draft.lines[0].key[1] != told.anchor.at for each in account.invoices
        )
    if "status_change_without_invoice" in case.expect:
        probe = lifecycle.due(
            told.current[0].timeline,
            ends_at,
            billed=lifecycle.due(told.current[0].timeline, start_at).lines,
        )
        more["status_change_without_invoice"] = (
            None if probe.lines else local_date(ends_at, account.zone).isoformat()
        )
    stages = _states(*triggers)
    more |= {"states": stages, "state": stages[-1]}
    return answer(case, account, given, {"trial end": ends_at}, **more)


def untried(case: Case) -> Answer:
    """A change to a plan with a trial: the subscription is no trial, nor becomes one."""
    account = account_of(case.given, case.source)
    told = started(account, case.source, case.given)
    run_before(account, told.start_at, including=True)
    (event,) = case.given["events"]
    at = told.moment(event)
    told.happen(event, at)
    account.run(at)
    trialing = "trial_active" in _states("started", "changed")
    return answer(case, account, case.given, trial=trialing)


def late_trial(case: Case) -> Answer:
    """A trial that a plan gets later leaves subscriptions that run as they are."""
    account = account_of(case.given, case.source)
    told = started(account, case.source, {**case.given, "plan": SOME_PLAN})
    run_before(account, told.start_at, including=True)
    account.run(trial_end(told.start_at, account.zone, Trial(HALF_OF_APRIL)))
    return answer(case, account, case.given)


# Plans for later ----------------------------------------------------------------------------------


def scheduled(case: Case) -> Answer:
    """Things planned for the end of a period, in words."""
    ends_at = boundary(Anchor(instant(SOME_START, "UTC"), "UTC"), Interval(Unit.MONTH), 1)
    pending: tuple[Scheduled, ...] = ()
    for told in case.given["events"]:
        kind = "cancellation" if "cancel" in told else "plan change"
        pending = lifecycle.schedule(pending, Scheduled(kind, told.split()[-1], ends_at))
    if "renewal_minor" in case.expect:
        raise Unsupported("the case does not tell what the plans cost")
    wanted = case.expect["pending"]
    kinds = [each.kind for each in pending]
    return {
        "pending": kinds if isinstance(wanted, list) else len(kinds),
        "executed": f"{pending[-1].name} at period end",
    }


# Changes of other sources -------------------------------------------------------------------------


def restarted(case: Case) -> Answer:
    """Ended and begun again in one step: the grid goes on, and every moment is on one side."""
    if [each["type"] for each in case.given["events"]] != ["terminate and recreate in one step"]:
        raise Unsupported("events in words")
    start_at = instant(SOME_START, "UTC")
    interval = interval_of(case.given["plan"])
    cycle = Cycle(start_at, align(start_at, "UTC", interval, Alignment()), interval)
    at = add_local_days(start_at, HALF_OF_APRIL, "UTC")
    change = reanchor(cycle, at, None, TakesEffect.NOW)
    assert change.last is not None
    before, after = change.last.served, change.first.served
    used_at = at - timedelta(microseconds=1)
    return {
        "new_subscription_starts": "at the termination instant"
        if change.following.start_at == at
        else change.following.start_at.isoformat(),
        "anchor": "unchanged" if change.following.anchor == cycle.anchor else "moved",
        "usage_billed_once": (before.start_at <= used_at < before.end_at)
        and not after.start_at <= used_at < after.end_at,
    }


def polar_change(case: Case) -> Answer:
    """A change inside a period by a named behaviour."""
    given = dict(case.given)
    if given["behavior"] not in {"reset", "prorate"}:
        raise Unsupported(f"no behaviour {given['behavior']!r}")
    account = account_of(given, case.source)
    told = started(account, case.source, {**given, "plan": {"amount_minor": given["old_minor"]}})
    run_before(account, told.start_at, including=True)
    at = instant(given["at"], account.zone)
    new = {"type": "change", "plan": {"amount_minor": given["new_minor"]}}
    if given["behavior"] == "reset":
        # What was billed stands: the old grid is closed, not credited.
        account.contracts.clear()
        told.begin(at, new["plan"], Alignment())  # type: ignore[arg-type]  # plain data
    else:
        told.happen(new, at)
    account.run(at)
    credits = account.invoices[-1].lines("credit")
    charge = account.invoices[-1].lines("charge")[-1]
    return {
        "credit_minor": -net(credits) if credits else None,
        "debit_minor": charge.net_minor,
        "new_period_start": local_date(charge.service_start_at, account.zone).isoformat(),
        "anchor_day": day_of_month(told.anchor.at, account.zone),
    }


def switched(case: Case) -> Answer:
    """From one interval to another."""
    given = dict(case.given)
    account = account_of(given, case.source)
    told = started(account, case.source, given)
    run_before(account, told.start_at, including=True)
    event = {"type": "change", "plan": given["new"], "at": given["at"]}
    at = told.moment(event)
    told.happen(event, at)
    account.run(at)
    last = account.invoices[-1]
    return {
        "invoiced_now": last.at == at,
        "credit_minor": -net(last.lines("credit")),
        "debit_minor": net(last.lines("charge")),
        "cycle": "restarts at the switch" if told.anchor.at == at else "goes on",
    }


def waiting_credit(case: Case) -> Answer:
    """A downgrade that is billed with the next invoice."""
    if case.given["event"] != "downgrade in advance":
        raise Unsupported(f"an event in words: {case.given['event']!r}")
    account = Account("UTC", changes=ChangesBilled.NEXT_INVOICE)
    told = started(account, case.source, {"plan": {"amount_minor": 2000}})
    run_before(account, told.start_at, including=True)
    at = told.moment({"type": "downgrade"})
    told.happen({"type": "downgrade", "plan": {"amount_minor": 1000}}, at)
    account.run_before(next_boundary(told.anchor, told.interval, at), including=True)
    last = account.invoices[-1]
    found = last.lines("credit")
    booked = ledger.finalized(
        customer="c", net_minor=last.draft.total_minor, tax_minor=0, currency="EUR"
    )
    paid_out = [each for each in booked if each.credit.startswith("provider_clearing")]
    waits = len(account.invoices) == 2 and len(found) == 1 and found[0].net_minor < 0
    return {
        "refund": paid_out or None,
        "invoiced_now": any(each.at == at for each in account.invoices),
        "credit": "waits as a negative item for the next invoice" if waits else "invoiced",
    }


def free_of_charge(case: Case) -> Answer:
    """A coupon that leaves nothing to pay."""
    given, coupon = case.given, case.given["coupon"]
    if coupon["type"] == "percent":
        value = Decimal(str(coupon["value"]))
        discount = Discount("c", Kind.PERCENT, value, None, None, Duration.FOREVER, None)
    else:
        value = coupon["value"]
        discount = Discount("c", Kind.FIXED, None, value, "EUR", Duration.FOREVER, None)
    account = account_of(given, case.source)
    told = started(account, case.source, given)
    (contract,) = told.current
    contract.paid = replace(contract.paid, attached=(Running(discount),))
    run_before(account, told.start_at, including=True)
    total = account.invoices[0].draft.total_minor
    owed = ledger.finalized(customer="c", net_minor=total, tax_minor=0, currency="EUR")
    state = "incomplete" if owed else states.step(states.SUBSCRIPTION, "incomplete", "paid")
    return {"invoice": {"total_minor": total}, "payments": len(owed), "state": state}


# Shapes -------------------------------------------------------------------------------------------


def by_shape(case: Case) -> Answer:
    """The first shape that fits."""
    given = case.given
    events = given.get("events", ())
    in_words = bool(events) and all(isinstance(each, str) for each in events)
    for fits, operation in (
        (in_words, scheduled),
        ("event" in given, waiting_credit),
        ("behavior" in given, polar_change),
        ("old" in given and "new" in given, switched),
        ("state" in given, stated),
        ("trial_days" in given, trial),
        ("coupon" in given, free_of_charge),
        ("trial" in case.expect, untried),
        ("new_subscription_starts" in case.expect, restarted),
        (str(given.get("plan")).startswith("trial added"), late_trial),
        ("end" in given or "ends_at" in given, ending),
        (True, subscriptions),
    ):
        if fits:
            try:
                return operation(case)
            except (LookupError, ArithmeticError) as error:
                raise ValueError(f"no such invoice or line: {error!r}") from error
    raise AssertionError


OPERATIONS: dict[str, Operation] = {"": by_shape}
