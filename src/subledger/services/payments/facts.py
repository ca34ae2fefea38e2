"""What payments' events say: payloads in the public form."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.contracts.events import Event
from subledger.platform import ids


def payment(
    row: Row[Any], *, connection_id: UUID | None, customer_id: UUID | None = None
) -> dict[str, Any]:
    """The fields of ``payment.*`` for a row of ``store.payments.lock``."""
    return {
        "payment_id": ids.text("pay", row.id),
        "attempt_id": ids.text("att", row.attempt_id),
        "invoice_id": None if row.invoice_id is None else ids.text("inv", row.invoice_id),
        "customer_id": ids.text("cus", customer_id or row.customer_id),
        "connection_id": None if connection_id is None else ids.text("conn", connection_id),
        "amount_minor": row.amount_minor,
        "currency": row.currency,
        "dunning": row.dunning,
    }


def method(
    kind: str,
    *,
    tenant_id: UUID,
    method_id: UUID,
    customer_id: UUID,
    brand: str,
    last_four: str,
    is_default: bool,
    occurred_at: datetime,
    cause: UUID | None,
) -> Event:
    """``payment_method.attached`` or ``detached``."""
    return Event(
        type=kind,
        tenant_id=tenant_id,
        subject=customer_id,
        data={
            "payment_method_id": ids.text("pm", method_id),
            "customer_id": ids.text("cus", customer_id),
            "brand": brand,
            "last_four": last_four,
            "is_default": is_default,
        },
        occurred_at=occurred_at,
        cause=cause,
    )
