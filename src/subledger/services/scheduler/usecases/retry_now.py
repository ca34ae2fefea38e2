"""A new payment method, or another default one: what is past due is tried at once."""

from __future__ import annotations

from collections.abc import Sequence

from subledger.contracts.events import Recorded
from subledger.core.dunning import Retry
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.services.scheduler.store import collections as store
from subledger.services.scheduler.store import policies
from subledger.services.scheduler.usecases.follow import Following, follow, terms_of


async def retry_now(tx: Tx, events: Sequence[Recorded]) -> None:
    """Bring forward the retry of each open collection of the customer, by the new method; at most
    one event per account.

    It is the retry that the schedule would have made later, and counts as one of its tries; where
    none was to follow any more it is one more. A collection whose retry is under way waits for its
    outcome: two charges of one invoice are never asked for.
    """
    by_account = {(event.tenant_id, event.subject): event for event in events}
    keys = await store.open_of_accounts(tx, by_account)
    if not keys:
        return
    collections = await store.lock_with_due(tx, keys)
    shelves = await policies.shelves(tx, [tenant for tenant, _ in keys])
    following, later = [], []
    for _, each in sorted(collections.items(), key=lambda item: (item[1].account_id, item[0])):
        if each.outcome != "open":
            continue
        event = by_account[each.tenant_id, each.account_id]
        method_id = ids.parse("pm", event.data["payment_method_id"])
        terms_of(each, shelves[each.tenant_id])
        if each.is_under_way:
            each.new_method_id = method_id
            later.append(each)
            continue
        each.method_id = method_id
        following.append(Following(each, Retry(event.occurred_at, len(each.failures)), event))
    await store.save_collections(tx, later)
    await follow(tx, following)
