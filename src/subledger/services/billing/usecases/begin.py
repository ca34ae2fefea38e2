"""Subscriptions that begin by themselves: on their start day, or at their trial's end.

Until then nothing is billed, and the wait or the trial is the current period. Its end is a renewal
like any other. After a trial the first invoice is collected as a renewal's is, so that a payment
that fails leads to dunning. On a start day, and wherever a hosted page was asked for, it is
collected as a purchase's is (``pays_first``): the subscription is incomplete until it is paid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.events import Event, Recorded
from subledger.core.local_days import add_local_days
from subledger.core.states import SUBSCRIPTION, step
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.services.billing import facts
from subledger.services.billing.store import methods, subscriptions
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.terms import PlanTerms, TermsMemory
from subledger.services.billing.usecases import end
from subledger.services.billing.usecases.anchors import NOT_BEGUN

REMINDED_DAYS = 3
"""``subscription.trial_will_end`` is told so many local days before, or at once for a shorter
trial (Stripe tells it so)."""

UNPAID_FOR = timedelta(days=3)
"""How long (the tenant's clock) a first payment may take that falls due by itself: its payer is not
there, as a buyer is."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A subscription (its row's columns) that is pending or trialing from ``at`` on."""

    row: Mapping[str, Any]
    terms: PlanTerms
    at: datetime
    cause: UUID | None


async def wait(tx: Tx, given: Sequence[Waiting]) -> None:
    """New subscriptions whose start day or trial's end is awaited."""
    await subscriptions.put_renewals(tx, [each.row for each in given])
    await _tell_trials(tx, [each for each in given if each.row["status"] == "trialing"])


async def first_periods(
    tx: Tx,
    rows: Sequence[Row[Any]],
    *,
    at: Mapping[Key, datetime],
    terms: Mapping[Key, PlanTerms],
    causes: Mapping[Key, UUID],
) -> list[Row[Any]]:
    """Of due subscriptions (locked) those whose next period is to be billed. Of the others a
    start day opens the trial, or the trial lapses since nobody could pay after it."""
    waiting = [row for row in rows if row.status in NOT_BEGUN]
    if not waiting:
        return list(rows)
    lapsing = await without_method(tx, waiting)
    trials, lapsed = [], []
    for row in waiting:
        key, moment = (row.tenant_id, row.id), at[row.tenant_id, row.payer_id]
        its = terms[row.tenant_id, row.plan_version_id]
        if row.trial_end_at is not None and row.trial_end_at > moment:
            trials.append(Waiting(_in_trial(row), its, moment, causes[key]))
        elif key in lapsing:
            lapsed.append((row, moment, causes[key]))
    await subscriptions.begin_trials(tx, [each.row for each in trials])
    await wait(tx, trials)
    await end.lapse(tx, lapsed, terms)
    done = {(each.row["tenant_id"], each.row["id"]) for each in trials}
    done |= {(row.tenant_id, row.id) for row, _, _ in lapsed}
    return [row for row in rows if (row.tenant_id, row.id) not in done]


async def without_method(tx: Tx, rows: Sequence[Row[Any]]) -> set[Key]:
    """Those that are to end with their trial since their payer has no payment method."""
    asked = [row for row in rows if row.trial_end_at and row.trial_end_behavior == "cancel"]
    if not asked:
        return set()
    able = await methods.with_methods(tx, {(row.tenant_id, row.payer_id) for row in asked})
    return {(row.tenant_id, row.id) for row in asked if (row.tenant_id, row.payer_id) not in able}


def _in_trial(row: Row[Any]) -> dict[str, Any]:
    return row._asdict() | {
        "status": step(SUBSCRIPTION, row.status, "trial_started"),
        "current_period_start_at": row.started_at,
        "current_period_end_at": row.trial_end_at,
        "billed_through_at": row.trial_end_at,
    }


async def _tell_trials(tx: Tx, given: Sequence[Waiting]) -> None:
    tx.emit(_event(events.SUBSCRIPTION_TRIAL_STARTED, each, each.row) for each in given)
    await subscriptions.put_due(
        tx,
        subscriptions.REMINDER,
        [(each.row, max(_reminded_at(each.row), each.at)) for each in given],
    )


def _reminded_at(row: Mapping[str, Any]) -> datetime:
    return add_local_days(row["trial_end_at"], -REMINDED_DAYS, row["timezone"])


def pays_first(row: Mapping[str, Any], terms: PlanTerms) -> bool:
    """Whether a subscription that begins now gives nothing (more) before its first payment, as a
    purchase: nobody was served before a start day, unless the plan trusts its buyers; and who
    asked for a page agreed to be charged by no saved method. (Stripe's incomplete subscriptions.)
    """
    if row["status"] == "pending":
        return not terms.grace_at_start or row["collection"] == "page"
    return bool(row["status"] == "trialing" and row["collection"] == "page")


def begun(row: Mapping[str, Any], *, is_unpaid: bool = False) -> dict[str, Any]:
    """A subscription's columns once its first period begins, incomplete if that ``is_unpaid``; as
    they are if it has begun."""
    if row["status"] not in NOT_BEGUN:
        return dict(row)
    trigger = "trial_ended" if row["status"] == "trialing" else "started"
    if is_unpaid:
        trigger = "first_due"
    return dict(row) | {"status": step(SUBSCRIPTION, row["status"], trigger)}


async def tell_begun(tx: Tx, given: Sequence[tuple[Row[Any], Waiting]]) -> None:
    """``subscription.started`` or ``trial_ended`` of subscriptions (as they were, as they are)
    whose first period is being billed."""
    begins = [(was, now) for was, now in given if was.status in NOT_BEGUN]
    await subscriptions.set_statuses(
        tx,
        [
            {"tenant_id": was.tenant_id, "id": was.id, "status": now.row["status"]}
            for was, now in begins
        ],
    )
    await subscriptions.due.drop(
        tx, ((was.tenant_id, subscriptions.REMINDER, was.id) for was, _ in begins)
    )
    tx.emit(
        _event(
            events.SUBSCRIPTION_TRIAL_ENDED
            if was.status == "trialing"
            else events.SUBSCRIPTION_STARTED,
            now,
            now.row,
        )
        for was, now in begins
    )


async def remind(tx: Tx, memory: TermsMemory, given: Sequence[Recorded]) -> None:
    """Trials that end soon are told of, unless they are to be canceled then. Each once: the
    moment is due no more afterwards."""
    by_id = {
        (event.tenant_id, ids.parse("sub", event.data["subscription_id"])): event for event in given
    }
    accounts = await subscriptions.accounts(tx, {(e.tenant_id, e.subject) for e in given})
    rows = await subscriptions.lock_subscriptions(tx, by_id)
    at = await subscriptions.moments(tx, accounts, accounts)
    terms = await memory.load(tx, {(row.tenant_id, row.plan_version_id) for row in rows})
    due = [
        Waiting(
            row._asdict(),
            terms[row.tenant_id, row.plan_version_id],
            at[row.tenant_id, row.payer_id],
            by_id[row.tenant_id, row.id].id,
        )
        for row in rows
        if row.status == "trialing"
        and row.cancel_at is None
        and _reminded_at(row._asdict()) <= at[row.tenant_id, row.payer_id]
    ]
    await subscriptions.due.drop(
        tx, ((tenant, subscriptions.REMINDER, id_) for tenant, id_ in by_id)
    )
    tx.emit(_event(events.SUBSCRIPTION_TRIAL_WILL_END, each, each.row) for each in due)


def _event(type_: str, each: Waiting, row: Mapping[str, Any]) -> Event:
    return Event(
        type=type_,
        tenant_id=row["tenant_id"],
        subject=row["payer_id"],
        data=facts.subscription(row, each.terms),
        occurred_at=each.at,
        cause=each.cause,
    )
