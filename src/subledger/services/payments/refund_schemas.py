"""Bodies and answers of refunds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from pydantic import Field
from sqlalchemy import Row

from subledger.contracts.refunds import RefundGrant
from subledger.platform.http.fields import IdOf, PositiveAmountMinor, Strict, Timestamp
from subledger.services.payments.facts import STATUS
from subledger.services.payments.schemas import CustomerId, InvoiceId, PaymentId

if TYPE_CHECKING:  # a type checker sees what a field holds
    RefundId = UUID
    CreditNoteId = UUID
    SubscriptionId = UUID
else:
    RefundId = IdOf("ref")
    CreditNoteId = IdOf("cn")
    SubscriptionId = IdOf("sub")

_ID = "01h455vb4pex5vsknk084sn02q"
_ASKED: Any = {"amount_minor": 500, "to": "method", "source": "invoice", "reason": "goodwill"}
_PREVIEW: Any = {
    "payment_id": f"pay_{_ID}",
    "to": "method",
    "source": "invoice",
    "amount_minor": 500,
    "currency": "EUR",
    "refunded_minor": 0,
    "refundable_minor": 999,
    "from_unapplied_minor": 0,
    "from_credit_minor": 0,
    "credit_note_minor": 500,
    "tax_minor": 80,
    "unused_minor": 412,
    "fees_kept_minor": 0,
    "ends_subscription_ids": [],
}
_REFUND: Any = {
    "id": f"ref_{_ID}",
    "payment_id": f"pay_{_ID}",
    "customer_id": f"cus_{_ID}",
    "invoice_id": f"inv_{_ID}",
    "credit_note_id": f"cn_{_ID}",
    "to": "method",
    "source": "invoice",
    "origin": "asked",
    "reason": "goodwill",
    "cancel_subscription": False,
    "amount_minor": 500,
    "currency": "EUR",
    "status": "succeeded",
    "code": None,
    "provider_ref": "rf_1",
    "created_at": "2026-03-01T00:00:00Z",
    "finished_at": "2026-03-01T00:00:00Z",
}

To = Literal["method", "credit"]
Source = Literal["invoice", "credit"]
Reason = Literal[
    "duplicate", "fraudulent", "order_change", "cancellation", "unsatisfactory", "pricing_error",
    "goodwill", "other",
]  # fmt: skip


class NewRefund(Strict):
    """How much goes back, where to, and what backs it."""

    model_config = Strict.model_config | {"json_schema_extra": {"examples": [_ASKED]}}
    amount_minor: PositiveAmountMinor | None = Field(
        default=None, description="Left out: all that can go back."
    )
    to: To = Field(
        default="method",
        description="`method`: the money goes back to what was paid with. `credit`: it stays, as"
        " the customer's credit for later invoices.",
    )
    source: Source = Field(
        default="invoice",
        description="`invoice`: a credit note takes the amount off the payment's invoice, with its"
        " tax. `credit`: it is taken from the customer's credit, as after a cancellation that gave"
        " credit. Money that paid for nothing goes back first in any case.",
    )
    reason: Reason = Field(default="other", description="The credit note's reason.")
    cancel_subscription: bool = Field(
        default=False,
        description="The subscriptions that the payment's invoice bills end when the refund is"
        " granted, without further credit. They stay ended if the provider refuses the refund.",
    )


class RefundPreview(Strict):
    """What a refund would do now."""

    model_config = Strict.model_config | {"json_schema_extra": {"examples": [_PREVIEW]}}
    payment_id: PaymentId
    to: To
    source: Source
    amount_minor: int
    currency: str
    refunded_minor: int = Field(description="What went back to the method before.")
    refundable_minor: int = Field(description="The most that can go back so.")
    from_unapplied_minor: int = Field(description="Of it from money that paid for nothing.")
    from_credit_minor: int = Field(description="Of it from the customer's credit.")
    credit_note_minor: int = Field(description="Of it backed by a credit note.")
    tax_minor: int = Field(description="The tax that the credit note gives back.")
    unused_minor: int = Field(
        description="What the invoice's service that is not delivered yet has cost, by seconds."
    )
    fees_kept_minor: int = Field(
        description="Fees that the provider keeps: 0, the sandbox provider takes none."
    )
    ends_subscription_ids: list[SubscriptionId] = Field(
        description="What `cancel_subscription` would end."
    )

    @classmethod
    def of(
        cls, payment_id: UUID, body: NewRefund, grant: RefundGrant, *, refunded_minor: int
    ) -> RefundPreview:
        return cls(
            payment_id=payment_id,
            to=body.to,
            source=body.source,
            amount_minor=grant.amount_minor,
            currency=grant.currency,
            refunded_minor=refunded_minor,
            refundable_minor=grant.refundable_minor,
            from_unapplied_minor=grant.from_unapplied_minor,
            from_credit_minor=grant.from_credit_minor,
            credit_note_minor=grant.note_minor,
            tax_minor=grant.tax_minor,
            unused_minor=grant.unused_minor,
            fees_kept_minor=0,
            ends_subscription_ids=list(grant.ends),
        )


class Refund(Strict):
    """A refund. ``unknown`` means that the provider did not say whether the money went back: it is
    asked until it does. ``failed`` leaves the money as the customer's credit."""

    model_config = Strict.model_config | {"json_schema_extra": {"examples": [_REFUND]}}
    id: RefundId
    payment_id: PaymentId
    customer_id: CustomerId
    invoice_id: InvoiceId | None
    credit_note_id: CreditNoteId | None = Field(
        description="The note behind it; none for a refund of credit, and for one made outside see"
        " the invoice's notes."
    )
    to: To
    source: Source
    origin: Literal["asked", "outside"] = Field(
        description="`outside`: somebody made it at the provider."
    )
    reason: Reason
    cancel_subscription: bool
    amount_minor: int | None = Field(description="None until billing has granted it.")
    currency: str
    status: Literal["processing", "unknown", "succeeded", "failed", "refused"]
    code: str | None
    provider_ref: str | None
    created_at: Timestamp
    finished_at: Timestamp | None

    @classmethod
    def of(cls, row: Row[Any]) -> Refund:
        return cls(
            id=row.id,
            payment_id=row.payment_id,
            customer_id=row.customer_id,
            invoice_id=row.invoice_id,
            credit_note_id=row.credit_note_id,
            to=row.destination,
            source=row.source,
            origin=row.origin,
            reason=row.reason,
            cancel_subscription=row.cancel_subscription,
            amount_minor=row.amount_minor,
            currency=row.currency,
            status=STATUS[row.state],  # type: ignore[arg-type]  # one of the table's values
            code=row.code,
            provider_ref=row.provider_ref,
            created_at=row.created_at,
            finished_at=row.finished_at,
        )
