"""What cannot be billed is taken out of the runs, and a person is asked to look at it."""

from __future__ import annotations

from subledger.contracts import events
from subledger.contracts.events import Recorded
from subledger.core.errors import CoreError
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.eventlog.consumer import caused
from subledger.services.billing.store import subscriptions
from subledger.services.billing.usecases import work_items


async def park(tx: Tx, event: Recorded, refused: CoreError) -> None:
    """Take the (locked) subscription that a command speaks of out of the runs, with the reason,
    and open a work item."""
    subscription_id = ids.parse("sub", event.data["subscription_id"])
    tenant, at = event.tenant_id, event.occurred_at
    reason = f"{refused.code}: {refused.detail}"
    data = {"subscription_id": event.data["subscription_id"], "reason": reason}
    await subscriptions.park_subscriptions(
        tx, [{"tenant_id": tenant, "id": subscription_id, "parked_reason": reason}]
    )
    await subscriptions.due.drop(tx, [(tenant, subscriptions.RENEWAL, subscription_id)])
    tx.emit([caused(event, type=events.BILLING_RUN_PARKED, data=data, occurred_at=at)])
    await work_items.open_item(
        tx,
        tenant_id=tenant,
        account_id=event.subject,
        kind="billing_run_parked",
        data=data,
        at=at,
        cause=event.id,
    )
