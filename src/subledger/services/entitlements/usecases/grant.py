"""Give and take access as subscriptions live and end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from subledger.contracts.events import (
    ENTITLEMENT_GRANTED,
    ENTITLEMENT_REVOKED,
    Event,
    Recorded,
)
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.eventlog.consumer import caused
from subledger.services.entitlements import store
from subledger.services.entitlements.store import Grant, Key


async def grant(tx: Tx, events: Sequence[Recorded]) -> None:
    """A trial, activated, renewed, past due, resumed or reactivated: access until the period's, or
    the grace's, end. One whose first payment is not made yet gives none."""
    events = [event for event in events if event.data.get("status") != "incomplete"]
    clocks = await tx.clocks({event.tenant_id for event in events})
    granted = [_grant(event, at=_now(event, clocks[event.tenant_id])) for event in events]
    await store.save_grants(tx, granted)
    tx.emit(_granted(event, each) for event, each in zip(events, granted, strict=True))


async def change(tx: Tx, events: Sequence[Recorded]) -> None:
    """A changed subscription: another product, beneficiary or period's end moves the access, and
    grace ends when its invoice was written off (past due no more).

    Whatever else changed (a cancellation planned for later) changes no access and emits nothing;
    so does a change of a subscription that gives none.
    """
    before = await store.lock_grants(tx, [_subscription(event) for event in events])
    clocks = await tx.clocks({event.tenant_id for event in events})
    saved: list[Grant] = []
    for event in events:
        old = before.get(_subscription(event))
        if old is None or old.state == "revoked":
            continue
        new = _grant(event, at=_now(event, clocks[event.tenant_id]))
        if old.state == "grace" and event.data.get("status") == "past_due":
            new = replace(new, state="grace", valid_until_at=old.valid_until_at)
        if replace(new, changed_at=old.changed_at) == old:
            continue
        if (new.customer_id, new.product_id) != (old.customer_id, old.product_id):
            tx.emit([_revoked(event, replace(old, changed_at=new.changed_at), "changed")])
        tx.emit([_granted(event, new)])
        saved.append(new)
    await store.save_grants(tx, saved)


async def end_trials(tx: Tx, events: Sequence[Recorded]) -> None:
    """A trial after which a page has to be paid first gives nothing more; any other goes on into
    the paid period, by the leeway until its payment is known."""
    await revoke(tx, [event for event in events if event.data["status"] == "incomplete"])


async def revoke(tx: Tx, events: Sequence[Recorded]) -> None:
    """Ended subscriptions take back what they gave; one that never gave anything emits nothing."""
    before = await store.lock_grants(tx, [_subscription(event) for event in events])
    clocks = await tx.clocks({event.tenant_id for event in events})
    saved: list[Grant] = []
    for event in events:
        old = before.get(_subscription(event))
        if old is None or old.state == "revoked":
            continue
        at = _now(event, clocks[event.tenant_id])
        new = replace(old, state="revoked", changed_at=at)
        tx.emit([_revoked(event, new, event.data.get("reason", "unpaid"))])
        saved.append(new)
    await store.save_grants(tx, saved)


def _subscription(event: Recorded) -> Key:
    return event.tenant_id, ids.parse("sub", event.data["subscription_id"])


def _now(event: Recorded, clock: datetime) -> datetime:
    return max(clock, event.occurred_at)


def _grant(event: Recorded, *, at: datetime) -> Grant:
    data = event.data
    is_grace = data.get("status") == "past_due" and "grace_until_at" in data
    until = data["grace_until_at"] if is_grace else data["current_period_end_at"]
    return Grant(
        tenant_id=event.tenant_id,
        subscription_id=ids.parse("sub", data["subscription_id"]),
        customer_id=ids.parse("cus", data["beneficiary_id"]),
        product_id=ids.parse("prod", data["product_id"]),
        state="grace" if is_grace else "active",
        valid_until_at=datetime.fromisoformat(until),
        changed_at=at,
    )


def _granted(event: Recorded, each: Grant) -> Event:
    return caused(
        event,
        type=ENTITLEMENT_GRANTED,
        data={
            "customer_id": ids.text("cus", each.customer_id),
            "subscription_id": event.data["subscription_id"],
            "product_id": ids.text("prod", each.product_id),
            "reason": each.state,
            "valid_until_at": each.valid_until_at.isoformat(),
        },
        occurred_at=each.changed_at,
    )


def _revoked(event: Recorded, each: Grant, reason: str) -> Event:
    return caused(
        event,
        type=ENTITLEMENT_REVOKED,
        data={
            "customer_id": ids.text("cus", each.customer_id),
            "subscription_id": event.data["subscription_id"],
            "product_id": ids.text("prod", each.product_id),
            "reason": reason,
            "valid_until_at": each.changed_at.isoformat(),
        },
        occurred_at=each.changed_at,
    )
