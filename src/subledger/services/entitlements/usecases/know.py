"""Know whom and what access is about: customers and what products contain."""

from __future__ import annotations

from collections.abc import Sequence

from subledger.contracts.events import CUSTOMER_DELETED, Recorded
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.services.entitlements import store
from subledger.services.entitlements.store import Customer, Product


async def know_customers(tx: Tx, events: Sequence[Recorded]) -> None:
    """Created, updated or deleted customers, by both of their ids."""
    await store.save_customers(
        tx,
        [
            Customer(
                tenant_id=event.tenant_id,
                id=ids.parse("cus", event.data["customer_id"]),
                external_id=event.data["external_id"],
                changed_at=event.recorded_at,
                deleted_at=event.occurred_at if event.type == CUSTOMER_DELETED else None,
            )
            for event in events
        ],
    )


async def know_products(tx: Tx, events: Sequence[Recorded]) -> None:
    """Created or updated products: their resources as they are now."""
    await store.save_products(
        tx,
        [
            Product(
                tenant_id=event.tenant_id,
                id=ids.parse("prod", event.data["product_id"]),
                resources=event.data["resources"],
            )
            for event in events
        ],
    )
