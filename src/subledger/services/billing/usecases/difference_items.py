"""What payments found to differ, as work items: opened once, closed when it is over."""

from __future__ import annotations

from collections.abc import Sequence

from subledger.contracts.events import Recorded
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.services.billing.store import invoices, reads, reconciled, subscriptions
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import work_items

_ITS_OWN = {"kind", "customer_id"}
"""Fields of the event that the work item shows by itself."""


async def found(tx: Tx, _: TermsMemory, given: Sequence[Recorded]) -> None:
    """A work item for each difference. One about a customer that billing does not know is the
    tenant's."""
    for event in given:
        key = (event.tenant_id, ids.parse("diff", event.data["difference_id"]))
        if await reconciled.items_of(tx, [key]):
            continue
        account, named = None, event.data["customer_id"]
        if named is not None:
            owner = (event.tenant_id, ids.parse("cus", named))
            account = owner if await subscriptions.lock_accounts(tx, [owner]) else None
        item = await work_items.open_item(
            tx,
            tenant_id=event.tenant_id,
            account_id=None if account is None else account[1],
            kind=event.data["kind"],
            data={name: value for name, value in event.data.items() if name not in _ITS_OWN},
            at=event.occurred_at,
            cause=event.id,
        )
        row = {"tenant_id": key[0], "id": key[1], "work_item_id": item}
        await reconciled.insert_differences(tx, [row])


async def closed(tx: Tx, _: TermsMemory, given: Sequence[Recorded]) -> None:
    """The difference is over: so is its work item, unless a person closed that before."""
    for event in given:
        key = (event.tenant_id, ids.parse("diff", event.data["difference_id"]))
        item = (await reconciled.items_of(tx, [key])).get(key)
        if item is None:
            continue
        about = (event.tenant_id, item)
        await invoices.lock_work_items(tx, [about])
        row = (await reads.work_items(tx, [about]))[about]
        if row.closed_at is None:
            await work_items.close_locked(
                tx,
                row,
                at=max(event.occurred_at, row.opened_at),
                closed_by=event.data["by"],
                reason=event.data["how"],
                cause=event.id,
            )
