"""Tell the others that a payment retry, or the last step, is due."""

from __future__ import annotations

from typing import Any

from subledger.contracts.events import FINAL_STEP_REQUIRED, RETRY_REQUIRED, Event
from subledger.core.dunning_choice import avoided
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.due import Due
from subledger.services.scheduler import holds
from subledger.services.scheduler.policies import Terms
from subledger.services.scheduler.store import collections as store
from subledger.services.scheduler.store import policies
from subledger.services.scheduler.store.collections import Collection


async def announce(tx: Tx, limit: int) -> int:
    """Announce at most ``limit`` due moments and remove their rows; how many there were.

    The event is in the log as surely as the row is gone, since both commit together: there is
    nothing to announce again after a crash, and a sandbox clock finds the moment settled. Waits
    for no collection's lock (a consumer holds those while it waits for due rows). What a kill
    switch stops is set aside until it is let go.
    """
    due = await store.due.claim(tx, limit)
    if not due:
        return 0
    claimed = await holds.not_held(tx, due)
    collections = await store.open_collections(tx, [(each.tenant_id, each.id) for each in claimed])
    clocks = await tx.clocks({each.tenant_id for each in claimed})
    shelves = await policies.shelves(tx, {each.tenant_id for each in claimed})
    for each in claimed:
        collection = collections.get((each.tenant_id, each.id))
        if collection is None:
            continue  # ended meanwhile; whoever ended it is waiting to drop this row
        terms = collection.terms or shelves[each.tenant_id].default.terms
        tx.emit(
            [
                Event(
                    type=RETRY_REQUIRED if each.kind == store.RETRY else FINAL_STEP_REQUIRED,
                    tenant_id=each.tenant_id,
                    subject=each.account_id,
                    data=_wanted(each, collection, terms),
                    occurred_at=clocks[each.tenant_id],
                )
            ]
        )
    await store.due.drop(tx, [(each.tenant_id, each.kind, each.id) for each in claimed])
    return len(due)


def _wanted(due: Due, collection: Collection, terms: Terms) -> dict[str, Any]:
    data: dict[str, Any] = {
        "invoice_id": ids.text("inv", due.id),
        "customer_id": ids.text("cus", due.account_id),
    }
    if due.kind == store.FINAL:
        return data | {
            "action": terms.final_action.value,
            "downgrade_to_plan_id": terms.downgrade_to_plan_id,
        }
    method_id = collection.method_id
    return data | {
        "number": collection.retries,
        "subscription_ids": [ids.text("sub", each) for each in collection.subscription_ids],
        "payment_method_id": None if method_id is None else ids.text("pm", method_id),
        "avoid_method_ids": avoided(terms.policy(), collection.failed()),
    }
