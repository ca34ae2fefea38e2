"""Money that a provider took and we know nothing of becomes a payment: it is always booked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from subledger.contracts import events
from subledger.contracts.events import Event
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.services.payments.store import looks, payments


@dataclass(frozen=True, slots=True)
class Adopted:
    """A capture and whose it is. ``attempt_id`` is the one that it names, None if it names none or
    one that has its own capture; the invoice is what it says that it pays."""

    tenant_id: UUID
    connection_id: UUID
    customer_id: UUID
    invoice_id: UUID | None
    attempt_id: UUID | None
    provider_ref: str
    amount_minor: int
    currency: str
    at: datetime


async def adopt(tx: Tx, captures: Sequence[Adopted]) -> int:
    """Write payments down for captures, as succeeded, and tell them: billing pays the invoice with
    it if that is open, else it is the customer's unapplied money. What has its payment already is
    skipped. Their refunds are asked for: money may have gone back before it was found."""
    if not captures:
        return 0
    known = await payments.attempts_by_ref(
        tx, ((each.tenant_id, each.provider_ref) for each in captures)
    )
    fresh = [each for each in captures if (each.tenant_id, each.provider_ref) not in known]
    clocks = await tx.clocks({each.tenant_id for each in fresh})
    rows, attempts, told, asked = [], [], [], []
    for each in fresh:
        now = clocks[each.tenant_id]
        payment_id = tx.ids.new()
        attempt_id = each.attempt_id or tx.ids.new()
        rows.append(_payment(each, payment_id, now))
        attempts.append(
            {
                "tenant_id": each.tenant_id,
                "id": attempt_id,
                "payment_id": payment_id,
                "kind": "charge",
                "state": "ready",
                "created_at": now,
            }
        )
        told.append(_event(each, payment_id, attempt_id, now))
        asked.append((each.tenant_id, attempt_id))
    await payments.insert(tx, rows, attempts)
    await payments.save_payments(tx, [_succeeded(row) for row in rows])
    await payments.save_attempts(
        tx, [_captured(row, each) for row, each in zip(attempts, fresh, strict=True)]
    )
    tx.emit(told)
    await looks.REFUNDS.ask(tx, asked)
    return len(fresh)


def _payment(each: Adopted, payment_id: UUID, now: datetime) -> dict[str, Any]:
    return {
        "tenant_id": each.tenant_id,
        "id": payment_id,
        "customer_id": each.customer_id,
        "invoice_id": each.invoice_id,
        "connection_id": each.connection_id,
        "method_id": None,
        "mode": "manual",
        "dunning": False,
        "amount_minor": each.amount_minor,
        "currency": each.currency,
        "status": "processing",
        "return_url": None,
        "cause": None,
        "occurred_at": now,
        "created_at": now,
        "subscription_ids": "[]",
    }


def _succeeded(row: Mapping[str, Any]) -> dict[str, Any]:
    done = {"status": "succeeded", "finished_at": row["created_at"]}
    return {**row, **done, "decline": None, "failure_code": None, "redirect_url": None}


def _captured(row: Mapping[str, Any], each: Adopted) -> dict[str, Any]:
    outcome = {"captured_minor": each.amount_minor}
    return {
        **row,
        "state": "succeeded",
        "ready_at": row["created_at"],
        "tries": 0,
        "fetches": 0,
        "lost_at": None,
        "exhausted_at": None,
        "provider_ref": each.provider_ref,
        "outcome": msgspec.json.encode(outcome).decode(),
        "finished_at": row["created_at"],
    }


def _event(each: Adopted, payment_id: UUID, attempt_id: UUID, now: datetime) -> Event:
    invoice = each.invoice_id
    return Event(
        type=events.PAYMENT_SUCCEEDED,
        tenant_id=each.tenant_id,
        subject=each.customer_id,
        data={
            "payment_id": ids.text("pay", payment_id),
            "attempt_id": ids.text("att", attempt_id),
            "invoice_id": None if invoice is None else ids.text("inv", invoice),
            "customer_id": ids.text("cus", each.customer_id),
            "connection_id": ids.text("conn", each.connection_id),
            "payment_method_id": None,
            "subscription_ids": [],
            "amount_minor": each.amount_minor,
            "currency": each.currency,
            "dunning": False,
            "captured_at": each.at.isoformat(),
        },
        occurred_at=now,
    )
