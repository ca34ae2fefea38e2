"""Answers about disputes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from pydantic import Field
from sqlalchemy import Row

from subledger.platform.http.fields import IdOf, Strict, Timestamp
from subledger.services.payments.disputing import OPEN
from subledger.services.payments.schemas import (
    AttemptId,
    ConnectionId,
    CustomerId,
    InvoiceId,
    PaymentId,
)

if TYPE_CHECKING:  # a type checker sees what a field holds
    DisputeId = UUID
else:
    DisputeId = IdOf("dsp")

_ID = "01h455vb4pex5vsknk084sn02q"
_DAY = timedelta(days=1)
_DISPUTE: Any = {
    "id": f"dsp_{_ID}",
    "payment_id": f"pay_{_ID}",
    "attempt_id": f"att_{_ID}",
    "customer_id": f"cus_{_ID}",
    "invoice_id": f"inv_{_ID}",
    "connection_id": f"conn_{_ID}",
    "provider_ref": "dp_1",
    "amount_minor": 999,
    "currency": "EUR",
    "reason": "fraudulent",
    "status": "opened",
    "fee_minor": 1500,
    "evidence_due_at": "2026-03-15T00:00:00Z",
    "evidence_days_left": 14,
    "opened_at": "2026-03-01T00:00:00Z",
    "closed_at": None,
}
DisputeStatus = Literal["opened", "won", "lost"]


class Dispute(Strict):
    """A payment, or a part of it, that the payer's bank took back until it decides. ``won``: the
    money is back; ``lost``: the bank keeps it. Evidence is given at the provider."""

    model_config = Strict.model_config | {"json_schema_extra": {"examples": [_DISPUTE]}}
    id: DisputeId
    payment_id: PaymentId
    attempt_id: AttemptId
    customer_id: CustomerId
    invoice_id: InvoiceId | None
    connection_id: ConnectionId
    provider_ref: str = Field(description="The dispute's name at the provider.")
    amount_minor: int
    currency: str
    reason: str = Field(description="As the provider says it.")
    status: DisputeStatus
    fee_minor: int = Field(description="What the provider keeps for it, beside the amount.")
    evidence_due_at: Timestamp | None = Field(
        description="The last moment for evidence, where the provider says it."
    )
    evidence_days_left: int | None = Field(
        description="Whole days until then; 0 on the last day and later, none once it is decided."
    )
    opened_at: Timestamp
    closed_at: Timestamp | None

    @classmethod
    def of(cls, row: Row[Any], *, now: datetime) -> Dispute:
        due = row.evidence_due_at
        left = None if due is None or row.state != OPEN else max((due - now) // _DAY, 0)
        return cls(
            id=row.id,
            payment_id=row.payment_id,
            attempt_id=row.attempt_id,
            customer_id=row.customer_id,
            invoice_id=row.invoice_id,
            connection_id=row.connection_id,
            provider_ref=row.provider_ref,
            amount_minor=row.amount_minor,
            currency=row.currency,
            reason=row.reason,
            status=row.state,
            fee_minor=row.fee_minor,
            evidence_due_at=due,
            evidence_days_left=left,
            opened_at=row.opened_at,
            closed_at=row.closed_at,
        )
