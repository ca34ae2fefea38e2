"""What payments' events say: payloads in the public form."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row

from subledger.contracts.events import Event
from subledger.platform import ids

STATUS: Final[Mapping[str, str]] = {
    "requested": "processing",
    "ready": "processing",
    "in_flight": "processing",
    "unknown": "unknown",
    "succeeded": "succeeded",
    "failed": "failed",
    "refused": "refused",
}
"""A refund's state as the API says it."""


def payment(
    row: Row[Any],
    *,
    connection_id: UUID | None,
    method_id: UUID | None,
    customer_id: UUID | None = None,
) -> dict[str, Any]:
    """The fields of ``payment.*`` for a row of ``store.payments.lock``."""
    return {
        "payment_id": ids.text("pay", row.id),
        "attempt_id": ids.text("att", row.attempt_id),
        "invoice_id": None if row.invoice_id is None else ids.text("inv", row.invoice_id),
        "customer_id": ids.text("cus", customer_id or row.customer_id),
        "connection_id": None if connection_id is None else ids.text("conn", connection_id),
        "payment_method_id": None if method_id is None else ids.text("pm", method_id),
        "subscription_ids": [ids.text("sub", each) for each in row.subscription_ids],
        "amount_minor": row.amount_minor,
        "currency": row.currency,
        "dunning": row.dunning,
        "into_account": row.invoice_id is None,
    }


def refund(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of ``refund.*`` for a refund with its payment's columns."""
    note, invoice = values["credit_note_id"], values["invoice_id"]
    return {
        "refund_id": ids.text("ref", values["id"]),
        "payment_id": ids.text("pay", values["payment_id"]),
        "attempt_id": ids.text("att", values["attempt_id"]),
        "invoice_id": None if invoice is None else ids.text("inv", invoice),
        "customer_id": ids.text("cus", values["customer_id"]),
        "connection_id": ids.text("conn", values["connection_id"]),
        "credit_note_id": None if note is None else ids.text("cn", note),
        "amount_minor": values["amount_minor"],
        "currency": values["currency"],
        "to": values["destination"],
        "origin": values["origin"],
        "status": STATUS[values["state"]],
        "code": values["code"],
    }


def dispute(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of ``dispute.*`` for a dispute with its payment's columns."""
    invoice, due = values["invoice_id"], values["evidence_due_at"]
    return {
        "dispute_id": ids.text("dsp", values["id"]),
        "payment_id": ids.text("pay", values["payment_id"]),
        "attempt_id": ids.text("att", values["attempt_id"]),
        "invoice_id": None if invoice is None else ids.text("inv", invoice),
        "customer_id": ids.text("cus", values["customer_id"]),
        "connection_id": ids.text("conn", values["connection_id"]),
        "amount_minor": values["amount_minor"],
        "currency": values["currency"],
        "reason": values["reason"],
        "status": values["state"],
        "fee_minor": values["fee_minor"],
        "evidence_due_at": None if due is None else due.isoformat(),
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
    """``payment_method.attached``, ``updated``, ``detached`` or ``default_changed``."""
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
