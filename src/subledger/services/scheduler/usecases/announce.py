"""Tell the others that a payment retry, or the last step, is due."""

from __future__ import annotations

from subledger.contracts.events import FINAL_STEP_REQUIRED, RETRY_REQUIRED, Event
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.services.scheduler import holds, store


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
    retries = await store.retry_numbers(tx, [(each.tenant_id, each.id) for each in claimed])
    clocks = await tx.clocks({each.tenant_id for each in claimed})
    policies = await store.policies(tx, {each.tenant_id for each in claimed})
    for each in claimed:
        number = retries.get((each.tenant_id, each.id))
        if number is None:
            continue  # ended meanwhile; whoever ended it is waiting to drop this row
        data: dict[str, object] = {
            "invoice_id": ids.text("inv", each.id),
            "customer_id": ids.text("cus", each.account_id),
        }
        if each.kind == store.RETRY:
            kind, data["number"] = RETRY_REQUIRED, number
        else:
            kind, data["action"] = FINAL_STEP_REQUIRED, policies[each.tenant_id].final.value
        tx.emit(
            [
                Event(
                    type=kind,
                    tenant_id=each.tenant_id,
                    subject=each.account_id,
                    data=data,
                    occurred_at=clocks[each.tenant_id],
                )
            ]
        )
    await store.due.drop(tx, [(each.tenant_id, each.kind, each.id) for each in claimed])
    return len(due)
