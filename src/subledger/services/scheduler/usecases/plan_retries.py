"""What follows failed payments: the next try, or the policy's last step."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from subledger.contracts.events import PAYMENT_CANCELED, Recorded
from subledger.core.dunning import Decline, Policy, Retry, next_step
from subledger.core.states import DUE_RANK
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.due import Due
from subledger.services.scheduler import store
from subledger.services.scheduler.store import Attempted, Collection, Key


async def plan_retries(tx: Tx, events: Sequence[Recorded]) -> None:
    """Write the due moment that follows each failure, at most one per account.

    A failure while a retry still waits for its moment is the payer's own try in between: it
    neither uses up nor postpones the schedule, and the same event twice changes nothing. An
    announced retry that was canceled before it reached the bank (its invoice was reserved by
    another attempt) is tried again without using up the schedule.
    """
    concerned = [event for event in events if _concerns_dunning(event)]
    if not concerned:
        return
    collections = await store.lock_collections(tx, [_invoice(event) for event in concerned])
    await _begin(tx, concerned, collections)
    policies = await store.policies(tx, [event.tenant_id for event in concerned])

    changed: list[Collection] = []
    moments: list[Due] = []
    for event in concerned:
        collection = collections.get(_invoice(event))
        if collection is None or not _follows(collection, event):
            continue
        collection.failures.append(_attempted(event))
        moments.append(_next(collection, policies[event.tenant_id], event))
        changed.append(collection)

    await store.save_collections(tx, changed)
    await store.due.put(tx, moments)


def _concerns_dunning(event: Recorded) -> bool:
    data = event.data
    if not data["dunning"] or data["invoice_id"] is None:
        return False
    return event.type == PAYMENT_CANCELED or bool(data["final"])


def _invoice(event: Recorded) -> Key:
    return event.tenant_id, ids.parse("inv", event.data["invoice_id"])


async def _begin(tx: Tx, events: Sequence[Recorded], collections: dict[Key, Collection]) -> None:
    """A collection for each invoice whose first payment failed."""
    first = [e for e in events if _invoice(e) not in collections and e.type != PAYMENT_CANCELED]
    if not first:
        return
    accounts = {_invoice(e): ids.parse("cus", e.data["customer_id"]) for e in first}
    numbers = await store.last_numbers(tx, [(t, accounts[t, i]) for t, i in accounts])
    for event in first:
        tenant_id, invoice_id = _invoice(event)
        account_id = accounts[tenant_id, invoice_id]
        numbers[tenant_id, account_id] = numbers.get((tenant_id, account_id), 0) + 1
        collections[tenant_id, invoice_id] = Collection(
            tenant_id=tenant_id,
            invoice_id=invoice_id,
            account_id=account_id,
            number=numbers[tenant_id, account_id],
            failures=[],
            retries=0,
            first_failed_at=event.occurred_at,
            is_new=True,
        )


def _follows(collection: Collection, event: Recorded) -> bool:
    if collection.outcome != "open" or collection.is_waiting:
        return False
    return all(each.attempt_id != event.data["attempt_id"] for each in collection.failures)


def _attempted(event: Recorded) -> Attempted:
    if event.type == PAYMENT_CANCELED:
        return Attempted(
            attempt_id=event.data["attempt_id"],
            at=event.occurred_at,
            decline=Decline.CONFIG,
            counted=False,
        )
    return Attempted(
        attempt_id=event.data["attempt_id"],
        at=event.occurred_at,
        decline=Decline(event.data["decline"]),
        counted=bool(event.data["counted"]),
    )


def _next(collection: Collection, policy: Policy, event: Recorded) -> Due:
    wish = event.data.get("retry_not_before")
    step = next_step(
        policy,
        collection.failed(),
        retry_not_before=datetime.fromisoformat(wish) if wish else None,
    )
    kind = store.FINAL
    if isinstance(step, Retry):
        kind = store.RETRY
        collection.retries = step.number
    return Due(
        tenant_id=collection.tenant_id,
        kind=kind,
        id=collection.invoice_id,
        account_id=collection.account_id,
        due_at=step.at,
        rank=DUE_RANK[kind],
        number=collection.number,
    )


async def end_collections(tx: Tx, events: Sequence[Recorded], *, outcome: str) -> None:
    """The invoices are paid, void or given up: nothing of theirs is due any more."""
    open_ones = [
        each
        for each in (await store.lock_collections(tx, [_invoice(e) for e in events])).values()
        if each.outcome == "open"
    ]
    if not open_ones:
        return
    ended: dict[UUID, datetime] = {_invoice(e)[1]: e.occurred_at for e in events}
    for each in open_ones:
        each.outcome = outcome
        each.ended_at = ended[each.invoice_id]
    await store.save_collections(tx, open_ones)
    await store.due.drop(
        tx,
        [
            (c.tenant_id, kind, c.invoice_id)
            for c in open_ones
            for kind in (store.RETRY, store.FINAL)
        ],
    )
