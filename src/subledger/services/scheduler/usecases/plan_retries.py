"""What follows failed payments: the next try, or the policy's last step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from subledger.contracts.events import PAYMENT_CANCELED, Recorded
from subledger.core.dunning import Decline, Final, Retry, next_step
from subledger.core.dunning_choice import Debt, avoided
from subledger.core.money import Money
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.services.scheduler.policies import DEFAULT_NAME, Shelf
from subledger.services.scheduler.store import collections as store
from subledger.services.scheduler.store import known, policies
from subledger.services.scheduler.store.collections import Attempted, Collection, Key
from subledger.services.scheduler.usecases.follow import Following, follow, terms_of


async def plan_retries(tx: Tx, events: Sequence[Recorded]) -> None:
    """Write the due moment that follows each failure, at most one per account.

    A failure while a retry still waits for its moment is the payer's own try in between: it
    neither uses up nor postpones the schedule, and the same event twice changes nothing. An
    announced retry that was canceled before it reached the bank (its invoice was reserved by
    another attempt) is tried again without using up the schedule. Where a new method came while a
    retry was under way, it is tried at once.
    """
    concerned = [event for event in events if _concerns_dunning(event)]
    if not concerned:
        return
    collections = await store.lock_collections(tx, [_invoice(event) for event in concerned])
    shelves = await policies.shelves(tx, [event.tenant_id for event in concerned])
    await _begin(tx, concerned, collections, shelves)
    zones = await known.timezones(tx, [(e.tenant_id, e.subject) for e in concerned])

    following: list[Following] = []
    for event in concerned:
        collection = collections.get(_invoice(event))
        if collection is None or not _follows(collection, event):
            continue
        terms_of(collection, shelves[event.tenant_id])
        collection.failures.append(_attempted(collection, event))
        zone = zones.get((event.tenant_id, event.subject), "UTC")
        following.append(Following(collection, _next(collection, event, zone), event))
    await follow(tx, following)


def _concerns_dunning(event: Recorded) -> bool:
    data = event.data
    if not data["dunning"] or data["invoice_id"] is None:
        return False
    return event.type == PAYMENT_CANCELED or bool(data["final"])


def _invoice(event: Recorded) -> Key:
    return event.tenant_id, ids.parse("inv", event.data["invoice_id"])


async def _begin(
    tx: Tx,
    events: Sequence[Recorded],
    collections: dict[Key, Collection],
    shelves: Mapping[UUID, Shelf],
) -> None:
    """A collection for each invoice whose first payment failed, by the policy that fits it now."""
    first = [e for e in events if _invoice(e) not in collections and e.type != PAYMENT_CANCELED]
    if not first:
        return
    accounts = {_invoice(e): ids.parse("cus", e.data["customer_id"]) for e in first}
    numbers = await store.last_numbers(tx, [(t, accounts[t, i]) for t, i in accounts])
    billed = {_invoice(event): _billed(event) for event in first}
    rows = await known.subscriptions(
        tx, {(tenant, each) for (tenant, _), found in billed.items() for each in found}
    )
    for event in first:
        tenant_id, invoice_id = _invoice(event)
        account_id = accounts[tenant_id, invoice_id]
        numbers[tenant_id, account_id] = numbers.get((tenant_id, account_id), 0) + 1
        subscription_ids = billed[tenant_id, invoice_id]
        named = [rows[tenant_id, each] for each in subscription_ids if (tenant_id, each) in rows]
        amount_minor, currency = event.data.get("amount_minor"), event.data.get("currency") or ""
        collection = Collection(
            tenant_id=tenant_id,
            invoice_id=invoice_id,
            account_id=account_id,
            number=numbers[tenant_id, account_id],
            failures=[],
            retries=0,
            first_failed_at=event.occurred_at,
            subscription_ids=subscription_ids,
            amount_minor=amount_minor,
            currency=currency or None,
            policy_id=None,
            policy_name=DEFAULT_NAME,
            policy_version=0,
            terms=None,
            is_new=True,
        )
        debt = Debt(
            currency=currency,
            plans=frozenset(ids.text("plan", row.plan_id) for row in named),
            products=frozenset(ids.text("prod", row.product_id) for row in named),
            amount=None if amount_minor is None else Money(amount_minor, currency),
        )
        collection.begin_by(shelves[tenant_id].choose(debt))
        collections[tenant_id, invoice_id] = collection


def _billed(event: Recorded) -> list[UUID]:
    return [ids.parse("sub", each) for each in event.data.get("subscription_ids", ())]


def _follows(collection: Collection, event: Recorded) -> bool:
    if collection.outcome != "open" or collection.is_waiting:
        return False
    return all(each.attempt_id != event.data["attempt_id"] for each in collection.failures)


def _attempted(collection: Collection, event: Recorded) -> Attempted:
    data = event.data
    if event.type == PAYMENT_CANCELED:
        return Attempted(
            attempt_id=data["attempt_id"],
            at=event.occurred_at,
            decline=Decline.CONFIG,
            counted=False,
        )
    failed = Attempted(
        attempt_id=data["attempt_id"],
        at=event.occurred_at,
        decline=Decline(data["decline"]),
        counted=bool(data["counted"]),
        code=data.get("code"),
        method_id=data.get("payment_method_id"),
    )
    assert collection.terms is not None, "it was given its terms"
    refused = avoided(collection.terms.policy(), [*collection.failed(), failed.failure()])
    others = data.get("other_method_ids", ())
    return msgspec.structs.replace(failed, elsewhere=any(each not in refused for each in others))


def _next(collection: Collection, event: Recorded, timezone: str) -> Retry | Final:
    collection.method_id, collection.new_method_id = collection.new_method_id, None
    if collection.method_id is not None:
        return Retry(event.occurred_at, len(collection.failures))
    assert collection.terms is not None, "it was given its terms"
    wish = event.data.get("retry_not_before")
    return next_step(
        collection.terms.policy(),
        collection.failed(),
        retry_not_before=datetime.fromisoformat(wish) if wish else None,
        timezone=timezone,
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
