"""What billing told: in which zone an account lives, and what its subscriptions are for."""

from __future__ import annotations

from collections.abc import Sequence

from subledger.contracts.events import Recorded
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.services.scheduler.store import known


async def know_accounts(tx: Tx, given: Sequence[Recorded]) -> None:
    """Customers that were created or updated: their zone."""
    await known.put_accounts(
        tx,
        [
            {
                "tenant_id": event.tenant_id,
                "id": event.subject,
                "timezone": event.data["timezone"],
            }
            for event in given
        ],
    )


async def know_subscriptions(tx: Tx, given: Sequence[Recorded]) -> None:
    """Subscriptions that were created or changed: their plan and product."""
    await known.put_subscriptions(
        tx,
        [
            {
                "tenant_id": event.tenant_id,
                "id": ids.parse("sub", event.data["subscription_id"]),
                "account_id": event.subject,
                "plan_id": ids.parse("plan", event.data["plan_id"]),
                "product_id": ids.parse("prod", event.data["product_id"]),
                "currency": event.data["currency"],
            }
            for event in given
        ],
    )
