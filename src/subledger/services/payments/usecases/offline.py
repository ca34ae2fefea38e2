"""Money that a person says has arrived: recorded, and taken back if it was none after all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from subledger.contracts import events
from subledger.contracts.events import Event
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.payments import facts
from subledger.services.payments import problems as refusals
from subledger.services.payments.store import offline as store
from subledger.services.payments.store import payments


@dataclass(frozen=True, slots=True)
class Arrived:
    """Money for an invoice, or for a customer's account. ``reference`` is a person's own."""

    tenant_id: UUID
    invoice_id: UUID | None
    customer_id: UUID | None
    amount_minor: int
    currency: str
    method: str
    reference: str
    received_at: datetime | None
    cause: UUID


async def record(tx: Tx, arrived: Arrived, *, payment_id: UUID) -> None:
    """Write it down; billing is asked whether it may be booked. Raises invalid_request for money
    that arrives in the future."""
    now = await tx.now(arrived.tenant_id)
    if arrived.received_at is not None and arrived.received_at > now:
        raise Problem(
            "invalid_request",
            detail="Money cannot have arrived in the future.",
            pointer="/received_at",
            fix="Leave it out, or give a moment up to now (GET /v1/clock).",
        )
    payment = {
        "tenant_id": arrived.tenant_id,
        "id": payment_id,
        "customer_id": arrived.customer_id,
        "invoice_id": arrived.invoice_id,
        "connection_id": None,
        "method_id": None,
        "mode": "offline",
        "dunning": False,
        "amount_minor": arrived.amount_minor,
        "currency": arrived.currency,
        "status": "processing",
        "return_url": None,
        "cause": arrived.cause,
        "occurred_at": now,
        "created_at": now,
        "subscription_ids": "[]",
    }
    attempt = {
        "tenant_id": arrived.tenant_id,
        "id": tx.ids.new(),
        "payment_id": payment_id,
        "kind": "offline",
        "state": "reserving",
        "created_at": now,
    }
    await payments.insert(tx, [payment], [attempt])
    how = {
        "tenant_id": arrived.tenant_id,
        "payment_id": payment_id,
        "method": arrived.method,
        "reference": arrived.reference,
        "received_at": arrived.received_at or now,
    }
    await store.insert(tx, [how])


async def reverse(tx: Tx, tenant_id: UUID, payment_id: UUID, *, reason: str) -> None:
    """Take a recorded payment back, once; billing books it. Raises not_found and
    payment_not_reversible."""
    key = (tenant_id, payment_id)
    attempts = (await payments.attempts_of(tx, [key])).get(key)
    if not attempts:
        raise Problem("not_found", detail="There is no such payment.")
    attempt = (tenant_id, attempts[-1].id)
    row = (await payments.lock(tx, [attempt]))[attempt]
    how = (await store.of_payments(tx, [key])).get(key)
    if how is None or row.status != "succeeded" or how.reversed_at is not None:
        said = "went through a provider" if how is None else f"is {row.status}"
        if how is not None and how.reversed_at is not None:
            said = "is reversed already"
        raise Problem(refusals.NOT_REVERSIBLE, detail=f"The payment {said}.")
    at = max(await tx.now(tenant_id), row.occurred_at)
    await store.reverse(tx, key, at=at, reason=reason)
    tx.emit(
        [
            Event(
                type=events.PAYMENT_REVERSED,
                tenant_id=tenant_id,
                subject=row.customer_id,
                data=facts.payment(row, connection_id=None, method_id=None),
                occurred_at=at,
                cause=row.cause,
            )
        ]
    )
