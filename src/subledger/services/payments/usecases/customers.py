"""What payments has to know about customers, learnt from billing's events."""

from __future__ import annotations

from collections.abc import Sequence

from subledger.contracts import events
from subledger.contracts.events import Recorded
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.services.payments import facts
from subledger.services.payments.store import method_tasks, methods


async def learn(tx: Tx, given: Sequence[Recorded]) -> None:
    """Keep id, external id and currency of created and updated customers."""
    await methods.put_customers(
        tx,
        [
            {
                "tenant_id": event.tenant_id,
                "id": ids.parse("cus", event.data["customer_id"]),
                "external_id": event.data["external_id"],
                "currency": event.data["currency"],
            }
            for event in given
        ],
    )


async def forget(tx: Tx, given: Sequence[Recorded]) -> None:
    """A deleted customer's methods cannot be charged any more, and are given up there too."""
    deleted = {
        (event.tenant_id, ids.parse("cus", event.data["customer_id"])): event for event in given
    }
    customers = await methods.lock_customers(tx, deleted)
    clocks = await tx.clocks({tenant for tenant, _ in customers})
    saved = [
        row
        for row in await methods.lock_methods_of(tx, customers)
        if row.status in {"active", "attaching"}
    ]
    await methods.delete_customers(
        tx,
        [
            {"tenant_id": tenant, "id": customer, "deleted_at": clocks[tenant]}
            for tenant, customer in sorted(customers)
        ],
    )
    await methods.save_methods(
        tx,
        [
            {
                "tenant_id": row.tenant_id,
                "id": row.id,
                "status": "detached",
                "token": row.token,
                "brand": row.brand,
                "last_four": row.last_four,
                "detached_at": clocks[row.tenant_id],
            }
            for row in saved
        ],
    )
    await method_tasks.ask(tx, ((row.tenant_id, row.id) for row in saved if row.token), "detach")
    tx.emit(
        facts.method(
            events.PAYMENT_METHOD_DETACHED,
            tenant_id=row.tenant_id,
            method_id=row.id,
            customer_id=row.customer_id,
            brand=row.brand,
            last_four=row.last_four,
            is_default=False,
            occurred_at=clocks[row.tenant_id],
            cause=deleted[row.tenant_id, row.customer_id].id,
        )
        for row in saved
        if row.status == "active"
    )
