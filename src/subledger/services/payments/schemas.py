"""Bodies and answers of payments' API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

import msgspec
from pydantic import AfterValidator, Field
from sqlalchemy import Row

from subledger.platform.http.fields import IdOf, Strict, Text, Timestamp

if TYPE_CHECKING:  # a type checker sees what a field holds
    CustomerId = UUID
    InvoiceId = UUID
    PaymentId = UUID
    AttemptId = UUID
    MethodId = UUID
    ConnectionId = UUID
else:
    CustomerId = IdOf("cus")
    InvoiceId = IdOf("inv")
    PaymentId = IdOf("pay")
    AttemptId = IdOf("att")
    MethodId = IdOf("pm")
    ConnectionId = IdOf("conn")

_ID = "01h455vb4pex5vsknk084sn02q"


def _web_address(value: str) -> str:
    if not value.startswith(("https://", "http://")) or " " in value:
        raise ValueError("a return address begins with https:// or http://")
    return value


ReturnUrl = Annotated[
    Text,
    AfterValidator(_web_address),
    Field(max_length=2000, examples=["https://cinema.example/account"]),
]
TestKind = Annotated[str, Field(pattern=r"^[a-z_]{1,40}(:[0-9]{1,3})?$", examples=["visa_ok"])]
PaymentStatus = Literal[
    "processing", "requires_action", "unknown", "succeeded", "failed", "canceled"
]


class NewMethod(Strict):
    """A test method of the sandbox. Real methods are saved on the hosted page only."""

    model_config = Strict.model_config | {
        "json_schema_extra": {"examples": [{"customer_id": f"cus_{_ID}", "test_kind": "visa_ok"}]}
    }
    customer_id: CustomerId
    test_kind: TestKind
    make_default: bool = False


class Method(Strict):
    """A saved payment method: what may be shown of it."""

    model_config = Strict.model_config | {
        "json_schema_extra": {
            "examples": [
                {
                    "id": f"pm_{_ID}",
                    "customer_id": f"cus_{_ID}",
                    "status": "active",
                    "brand": "visa",
                    "last_four": "4242",
                    "is_default": True,
                    "created_at": "2026-03-01T00:00:00Z",
                }
            ]
        }
    }
    id: MethodId
    customer_id: CustomerId
    status: Literal["attaching", "active", "failed", "detached"]
    brand: str
    last_four: str
    is_default: bool
    created_at: Timestamp

    @classmethod
    def of(cls, row: Row[Any], *, default_method_id: UUID | None) -> Method:
        return cls(
            id=row.id,
            customer_id=row.customer_id,
            status=row.status,
            brand=row.brand,
            last_four=row.last_four,
            is_default=row.id == default_method_id,
            created_at=row.created_at,
        )


class NewPayment(Strict):
    """Pay an invoice: by a saved method (the default one if none is named), or on a page."""

    model_config = Strict.model_config | {
        "json_schema_extra": {
            "examples": [
                {"invoice_id": f"inv_{_ID}", "payment_method_id": f"pm_{_ID}"},
                {
                    "invoice_id": f"inv_{_ID}",
                    "mode": "page",
                    "return_url": "https://cinema.example/account",
                },
            ]
        }
    }
    invoice_id: InvoiceId
    mode: Literal["method", "page"] = "method"
    payment_method_id: MethodId | None = None
    return_url: ReturnUrl | None = None


class NextAction(Strict):
    """Where to send the payer."""

    type: Literal["redirect"] = "redirect"
    redirect_url: str


class Attempt(Strict):
    """One attempt to take the money. ``outcome`` holds codes only, never what the payer typed."""

    id: AttemptId
    n: int
    kind: Literal["charge", "page"]
    state: str
    provider_ref: str | None
    outcome: dict[str, Any]
    created_at: Timestamp
    finished_at: Timestamp | None


class Payment(Strict):
    """A payment of an invoice. ``unknown`` means that the provider did not answer: it is asked
    until it does, and nothing else is charged for the invoice meanwhile."""

    model_config = Strict.model_config | {
        "json_schema_extra": {
            "examples": [
                {
                    "id": f"pay_{_ID}",
                    "customer_id": f"cus_{_ID}",
                    "invoice_id": f"inv_{_ID}",
                    "payment_method_id": f"pm_{_ID}",
                    "connection_id": f"conn_{_ID}",
                    "mode": "manual",
                    "amount_minor": 999,
                    "currency": "EUR",
                    "status": "succeeded",
                    "decline": None,
                    "failure_code": None,
                    "next_action": None,
                    "created_at": "2026-03-01T00:00:00Z",
                    "finished_at": "2026-03-01T00:00:00Z",
                    "attempts": [],
                }
            ]
        }
    }
    id: PaymentId
    customer_id: CustomerId | None
    invoice_id: InvoiceId | None
    payment_method_id: MethodId | None
    connection_id: ConnectionId | None
    mode: Literal["automatic", "manual", "page"]
    amount_minor: int | None
    currency: str | None
    status: PaymentStatus
    decline: str | None
    failure_code: str | None
    next_action: NextAction | None
    created_at: Timestamp
    finished_at: Timestamp | None
    attempts: list[Attempt]

    @classmethod
    def of(cls, row: Row[Any], attempts: list[Row[Any]]) -> Payment:
        redirects = row.status == "requires_action" and row.redirect_url is not None
        return cls(
            id=row.id,
            customer_id=row.customer_id,
            invoice_id=row.invoice_id,
            payment_method_id=row.method_id,
            connection_id=row.connection_id,
            mode=row.mode,
            amount_minor=row.amount_minor,
            currency=row.currency,
            status=row.status,
            decline=row.decline,
            failure_code=row.failure_code,
            next_action=NextAction(redirect_url=row.redirect_url) if redirects else None,
            created_at=row.created_at,
            finished_at=row.finished_at,
            attempts=[
                Attempt(
                    id=each.id,
                    n=each.n,
                    kind=each.kind,
                    state=each.state,
                    provider_ref=each.provider_ref,
                    outcome=msgspec.json.decode(each.outcome),
                    created_at=each.created_at,
                    finished_at=each.finished_at,
                )
                for each in attempts
            ],
        )
