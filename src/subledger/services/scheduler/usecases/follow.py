"""The step that follows is written down as a due moment, and told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from subledger.contracts.events import (
    DUNNING_FINAL_STEP_SCHEDULED,
    DUNNING_RETRY_SCHEDULED,
    Event,
    Recorded,
)
from subledger.core.dunning import Final, Retry
from subledger.core.states import DUE_RANK
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.due import Due
from subledger.platform.eventlog.consumer import caused
from subledger.services.scheduler.policies import Shelf
from subledger.services.scheduler.store import collections as store
from subledger.services.scheduler.store.collections import Collection


@dataclass(frozen=True, slots=True)
class Following:
    """A locked collection, what is to happen next, and because of which event."""

    collection: Collection
    step: Retry | Final
    event: Recorded


def terms_of(collection: Collection, shelf: Shelf) -> None:
    """Give terms to a collection that began before policies had versions."""
    if collection.terms is None:
        collection.begin_by(shelf.default)


async def follow(tx: Tx, following: Sequence[Following]) -> None:
    """Save the collections with what follows, in place of what waited, and tell it."""
    if not following:
        return
    for each in following:
        if isinstance(each.step, Retry):
            each.collection.retries = each.step.number
    await store.save_collections(tx, [each.collection for each in following])
    waited = [each.collection for each in following if each.collection.is_waiting]
    await store.due.drop(
        tx,
        [
            (each.tenant_id, kind, each.invoice_id)
            for each in waited
            for kind in (store.RETRY, store.FINAL)
        ],
    )
    await store.due.put(tx, [_due(each) for each in following])
    clocks = await tx.clocks({each.collection.tenant_id for each in following})
    tx.emit(_told(each, clocks[each.collection.tenant_id]) for each in following)


def _due(each: Following) -> Due:
    kind = store.RETRY if isinstance(each.step, Retry) else store.FINAL
    return Due(
        tenant_id=each.collection.tenant_id,
        kind=kind,
        id=each.collection.invoice_id,
        account_id=each.collection.account_id,
        due_at=each.step.at,
        rank=DUE_RANK[kind],
        number=each.collection.number,
    )


def _told(each: Following, at: datetime) -> Event:
    collection, step = each.collection, each.step
    policy_id = collection.policy_id
    data: dict[str, Any] = {
        "invoice_id": ids.text("inv", collection.invoice_id),
        "customer_id": ids.text("cus", collection.account_id),
        "subscription_ids": [ids.text("sub", one) for one in collection.subscription_ids],
        "failures": sum(one.counted for one in collection.failures),
        "policy_id": None if policy_id is None else ids.text("dun", policy_id),
        "policy_version": collection.policy_version,
    }
    if isinstance(step, Retry):
        data |= {"number": step.number, "retry_at": step.at.isoformat()}
        return caused(each.event, type=DUNNING_RETRY_SCHEDULED, data=data, occurred_at=at)
    data |= {"action": step.action.value, "final_at": step.at.isoformat()}
    return caused(each.event, type=DUNNING_FINAL_STEP_SCHEDULED, data=data, occurred_at=at)
