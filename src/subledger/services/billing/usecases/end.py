"""Subscriptions end, whatever for: their state, what waited for them, the fact that is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.events import Event, Recorded
from subledger.core.states import SUBSCRIPTION, step
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import facts, problems
from subledger.services.billing.store import pauses, phases, subscriptions
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.terms import PlanTerms, TermsMemory
from subledger.services.billing.usecases import recognize_pauses, redeem

LIVE = frozenset({"pending", "trialing", "incomplete", "active", "past_due", "paused"})
MOST_AHEAD = timedelta(days=3660)
"""How far ahead something can be planned: ten years."""


@dataclass(frozen=True, slots=True)
class Ending:
    """A locked subscription whose end is recorded ``at`` a moment. ``charged_until_at`` is up to
    where it was charged, if that lies later than its end: nothing was given back. ``planned_at``:
    when it was to end, if that has passed; then that is when it ended."""

    row: Row[Any]
    at: datetime
    reason: str
    cause: UUID | None
    charged_until_at: datetime | None = None
    cancel_reason: str | None = None
    planned_at: datetime | None = None

    @property
    def ended_at(self) -> datetime:
        """From when on it is not served any more."""
        return self.at if self.planned_at is None else min(self.at, self.planned_at)

    @property
    def status(self) -> str:
        """The state that it ends in."""
        trigger = "expired" if self.reason == "incomplete_expired" else "canceled"
        return step(SUBSCRIPTION, self.row.status, trigger)


async def lock_any(tx: Tx, tenant_id: UUID, subscription_id: UUID) -> tuple[Row[Any], datetime]:
    """Lock a subscription, ended or not, behind its payer's account. Raises not_found."""
    found = await subscriptions.subscriptions(tx, [(tenant_id, subscription_id)])
    if not found:
        raise Problem("not_found", detail="There is no such subscription.")
    accounts = await subscriptions.lock_accounts(tx, [(tenant_id, found[0].payer_id)])
    row = (await subscriptions.lock_subscriptions(tx, [(tenant_id, subscription_id)]))[0]
    at = await subscriptions.moments(tx, accounts, accounts)
    return row, at[tenant_id, row.payer_id]


async def lock_one(tx: Tx, tenant_id: UUID, subscription_id: UUID) -> tuple[Row[Any], datetime]:
    """Lock a live subscription as ``lock_any`` does. Raises subscription_ended too."""
    row, at = await lock_any(tx, tenant_id, subscription_id)
    check_live(row)
    return row, at


async def look_at_one(tx: Tx, tenant_id: UUID, subscription_id: UUID) -> tuple[Row[Any], datetime]:
    """A live subscription and the present moment, for a preview: nothing is locked. Raises as
    ``lock_one``."""
    found = await subscriptions.subscriptions(tx, [(tenant_id, subscription_id)])
    if not found:
        raise Problem("not_found", detail="There is no such subscription.")
    row = found[0]
    check_live(row)
    account = (tenant_id, row.payer_id)
    accounts = await subscriptions.accounts(tx, [account])
    clock = (await tx.clocks({tenant_id}))[tenant_id]
    return row, max(clock, accounts[account].last_occurred_at)


def check_live(row: Row[Any]) -> None:
    """Raises subscription_ended."""
    if row.status not in LIVE:
        raise Problem(
            problems.SUBSCRIPTION_ENDED, detail=f"The subscription ended: it is {row.status}."
        )


async def due_subscriptions(
    tx: Tx, given: Sequence[Recorded]
) -> tuple[list[tuple[Recorded, Row[Any]]], dict[Key, datetime]]:
    """The live subscriptions that commands speak of, locked, with their accounts' moments."""
    by_id = {
        (event.tenant_id, ids.parse("sub", event.data["subscription_id"])): event for event in given
    }
    accounts = await subscriptions.accounts(tx, {(e.tenant_id, e.subject) for e in given})
    rows = await subscriptions.lock_subscriptions(tx, by_id)
    at = await subscriptions.moments(tx, accounts, accounts)
    return [(by_id[r.tenant_id, r.id], r) for r in rows if r.status in LIVE], at


async def end(tx: Tx, memory: TermsMemory, ended: Sequence[Ending]) -> None:
    """End subscriptions, drop everything that was due for them, and tell it."""
    terms = await memory.load(tx, {(e.row.tenant_id, e.row.plan_version_id) for e in ended})
    await _end(tx, ended, terms)


async def lapse(
    tx: Tx,
    given: Sequence[tuple[Row[Any], datetime, UUID]],
    terms: Mapping[Key, PlanTerms],
) -> None:
    """Trials (locked) that end without a payment method: the subscription ends, nothing is
    billed."""
    await _end(tx, [Ending(row, at, "trial_lapsed", cause) for row, at, cause in given], terms)


async def _end(tx: Tx, ended: Sequence[Ending], terms: Mapping[Key, PlanTerms]) -> None:
    # What a subscription redeemed that was paid for before it was reactivated stays redeemed.
    unpaid = [each for each in ended if each.row.last_run_number <= 1]
    await redeem.release(tx, [(each.row, each.at, each.cause) for each in unpaid])
    await subscriptions.end_subscriptions(
        tx,
        [
            {
                "tenant_id": each.row.tenant_id,
                "id": each.row.id,
                "status": each.status,
                "ended_at": each.ended_at,
                "end_reason": each.reason,
                "cancel_at": each.row.cancel_at,
                "charged_until_at": max(each.charged_until_at or each.ended_at, each.ended_at),
            }
            for each in ended
        ],
    )
    await subscriptions.append_changes(
        tx,
        [
            {
                "tenant_id": each.row.tenant_id,
                "subscription_id": each.row.id,
                "kind": "canceled",
                "effective_at": each.ended_at,
                "data": msgspec.json.encode({"reason": each.reason}).decode(),
                "recorded_at": each.at,
            }
            for each in ended
        ],
    )
    kinds = (
        *(subscriptions.RENEWAL, subscriptions.CANCELLATION, subscriptions.EXPIRY),
        *(subscriptions.CHANGE, subscriptions.PAUSE, subscriptions.REMINDER),
    )
    keys = [(each.row.tenant_id, each.row.id) for each in ended]
    await subscriptions.due.drop(
        tx, ((tenant, kind, subscription) for tenant, subscription in keys for kind in kinds)
    )
    await phases.unschedule(tx, keys)
    await pauses.forget(tx, keys)
    await pauses.stop(tx, keys)
    at = {(each.row.tenant_id, each.row.id): each.ended_at for each in ended}
    paused = [each.row for each in ended if each.row.status == "paused"]
    await recognize_pauses.stop(tx, paused, at=lambda row: at[row.tenant_id, row.id])
    tx.emit(
        Event(
            type=events.SUBSCRIPTION_CANCELED,
            tenant_id=each.row.tenant_id,
            subject=each.row.payer_id,
            data=facts.subscription(
                each.row,
                terms[each.row.tenant_id, each.row.plan_version_id],
                status=each.status,
            )
            | {
                "reason": each.reason,
                "cancel_reason": each.cancel_reason,
                "ended_at": facts.moment(each.ended_at),
            },
            occurred_at=each.at,
            cause=each.cause,
        )
        for each in ended
    )
