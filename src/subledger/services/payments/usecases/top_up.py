"""Money that a customer pays into the account: no invoice asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from subledger.platform.db import Tx
from subledger.services.payments.store import payments


@dataclass(frozen=True, slots=True)
class TopUp:
    """How much of what, and by what: ``page``, or a saved method (None: the default one)."""

    tenant_id: UUID
    customer_id: UUID
    amount_minor: int
    currency: str
    page: bool
    method_id: UUID | None
    connection_id: UUID | None
    return_url: str | None
    cause: UUID


async def top_up(tx: Tx, wish: TopUp, *, payment_id: UUID) -> None:
    """Write the wish down; billing decides whether the account takes the money, then it is
    collected as an invoice is."""
    now = await tx.now(wish.tenant_id)
    payment = {
        "tenant_id": wish.tenant_id,
        "id": payment_id,
        "customer_id": wish.customer_id,
        "invoice_id": None,
        "connection_id": wish.connection_id,
        "method_id": wish.method_id,
        "mode": "page" if wish.page else "manual",
        "dunning": False,
        "amount_minor": wish.amount_minor,
        "currency": wish.currency,
        "status": "processing",
        "return_url": wish.return_url,
        "cause": wish.cause,
        "occurred_at": now,
        "created_at": now,
        "subscription_ids": "[]",
    }
    attempt = {
        "tenant_id": wish.tenant_id,
        "id": tx.ids.new(),
        "payment_id": payment_id,
        "kind": "page" if wish.page else "charge",
        "state": "reserving",
        "created_at": now,
    }
    await payments.insert(tx, [payment], [attempt])
