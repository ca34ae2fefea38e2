"""Bodies and answers of payments' API."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

import msgspec
from pydantic import AfterValidator, Field
from sqlalchemy import Row

from subledger.platform.http.fields import IdOf, Strict, Text, Timestamp
from subledger.services.payments.addresses import Addresses

if TYPE_CHECKING:  # a type checker sees what a field holds
    CustomerId = UUID
    InvoiceId = UUID
    PaymentId = UUID
    AttemptId = UUID
    MethodId = UUID
    ConnectionId = UUID
    ReceivedId = UUID
else:
    CustomerId = IdOf("cus")
    InvoiceId = IdOf("inv")
    PaymentId = IdOf("pay")
    AttemptId = IdOf("att")
    MethodId = IdOf("pm")
    ConnectionId = IdOf("conn")
    ReceivedId = IdOf("whr")

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
    "processing", "requires_action", "authorized", "unknown", "succeeded", "failed", "canceled"
]


class NewMethod(Strict):
    """A test method of the sandbox. Real methods are saved on the hosted page only."""

    model_config = Strict.model_config | {
        "json_schema_extra": {"examples": [{"customer_id": f"cus_{_ID}", "test_kind": "visa_ok"}]}
    }
    customer_id: CustomerId
    test_kind: TestKind
    make_default: bool = False
    expires_on: Annotated[
        date | None, Field(description="The last day on which the card is valid.")
    ] = None


class NewSetup(Strict):
    """A page on which a customer saves a payment method without paying."""

    model_config = Strict.model_config | {
        "json_schema_extra": {"examples": [{"return_url": "https://cinema.example/account"}]}
    }
    return_url: ReturnUrl | None = None
    make_default: bool = True


class MethodOrder(Strict):
    """A customer's payment methods, the one that is tried first in front."""

    model_config = Strict.model_config | {
        "json_schema_extra": {"examples": [{"payment_method_ids": [f"pm_{_ID}"]}]}
    }
    payment_method_ids: Annotated[list[MethodId], Field(max_length=50)]


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
    expires_on: date | None = None

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
            expires_on=row.expires_on,
        )


class Mandate(Strict):
    """What a payer agreed to when a method was saved. Personal data: never in events."""

    text: str = Field(description="The text exactly as it was shown.")
    language: str
    given_at: Timestamp
    address: str = Field(description="The payer's network address.")


class MethodMandate(Strict):
    """The mandate of a saved method, if its payer gave one."""

    model_config = Strict.model_config | {
        "json_schema_extra": {
            "examples": [
                {
                    "payment_method_id": f"pm_{_ID}",
                    "mandate": {
                        "text": "I agree to be charged at each renewal until I cancel.",
                        "language": "en",
                        "given_at": "2026-03-01T00:00:00Z",
                        "address": "192.0.2.7",
                    },
                }
            ]
        }
    }
    payment_method_id: MethodId
    mandate: Mandate | None


class NextAction(Strict):
    """Where to send the payer."""

    type: Literal["redirect"] = "redirect"
    redirect_url: str


class MethodSetup(Strict):
    """A method that its payer is to save, and where. It is ``active`` once that is done, and
    ``failed`` when nobody did it within 23 hours."""

    model_config = Strict.model_config | {
        "json_schema_extra": {
            "examples": [
                {
                    "payment_method_id": f"pm_{_ID}",
                    "status": "attaching",
                    "next_action": {
                        "type": "redirect",
                        "redirect_url": "https://pay.example/setup/1",
                    },
                }
            ]
        }
    }
    payment_method_id: MethodId
    status: Literal["attaching", "active", "failed", "detached"]
    next_action: NextAction | None


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
    capture_method: Annotated[
        Literal["automatic", "manual"],
        Field(
            description="`manual` only authorizes, a saved method or on the page: the money is set"
            " aside until it is captured by POST /v1/payments/{id}/capture, or let go."
        ),
    ] = "automatic"


class NewCapture(Strict):
    """Take what was authorized: all of it, unless an amount is given."""

    model_config = Strict.model_config | {
        "json_schema_extra": {"examples": [{"amount_minor": 500}]}
    }
    amount_minor: Annotated[int | None, Field(gt=0, le=10**15)] = None


class Authorization(Strict):
    """Money that is set aside at the provider. ``wanted`` while it is being captured or voided;
    what nobody captures is voided a day before ``expires_at``."""

    amount_minor: int
    expires_at: Timestamp
    wanted: Literal["capture", "void"] | None

    @classmethod
    def of(cls, row: Row[Any]) -> Authorization | None:
        if row.held is None:
            return None
        known = msgspec.json.decode(row.held)
        return cls.model_validate(
            {
                "amount_minor": known["authorized_minor"],
                "expires_at": known["expires_at"],
                "wanted": known["wish"],
            }
        )


class Attempt(Strict):
    """One attempt to take the money. ``outcome`` holds codes only, never what the payer typed."""

    id: AttemptId
    n: int
    kind: Literal["charge", "page", "offline"]
    state: str
    provider_ref: str | None
    outcome: dict[str, Any]
    created_at: Timestamp
    finished_at: Timestamp | None


class Offline(Strict):
    """How money came that no provider took, and that it was none after all (``reversed_at``)."""

    method: Literal["bank_transfer", "cash", "check", "other"]
    reference: str
    received_at: Timestamp
    reversed_at: Timestamp | None
    reversal_reason: str | None

    @classmethod
    def of(cls, row: Row[Any]) -> Offline | None:
        if row.offline is None:
            return None
        known = msgspec.json.decode(row.offline)
        return cls.model_validate({name: known[name] for name in cls.model_fields})


class Payment(Strict):
    """A payment of an invoice, or into the customer's account (`invoice_id` is null). ``unknown``
    means that the provider did not answer: it is asked until it does, and nothing else is charged
    for the invoice meanwhile."""

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
                    "refunded_minor": 0,
                    "disputed_minor": 0,
                    "decline": None,
                    "failure_code": None,
                    "next_action": None,
                    "status_url": "https://billing.example/pay/status/AZX0...",
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
    mode: Literal["automatic", "manual", "page", "offline"]
    amount_minor: int | None
    currency: str | None
    status: PaymentStatus
    capture_method: Literal["automatic", "manual"] = "automatic"
    authorization: Authorization | None = None
    refunded_minor: int = Field(description="What of it went back to the payment method.")
    disputed_minor: int = Field(
        default=0,
        description="What of it the payer's bank has taken back: under dispute, or lost. See"
        " GET /v1/disputes?payment_id=….",
    )
    decline: str | None
    failure_code: str | None
    offline: Offline | None = None
    next_action: NextAction | None
    status_url: str = Field(
        description="A page for the payer that tells the payment's true state; no login, so give it"
        " to nobody else. With `Accept: application/json` it answers as data."
    )
    created_at: Timestamp
    finished_at: Timestamp | None
    attempts: list[Attempt]

    @classmethod
    def of(cls, row: Row[Any], attempts: list[Row[Any]], *, addresses: Addresses) -> Payment:
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
            capture_method=row.capture_method,
            authorization=Authorization.of(row),
            refunded_minor=row.refunded_minor,
            disputed_minor=row.disputed_minor,
            decline=row.decline,
            failure_code=row.failure_code,
            offline=Offline.of(row),
            next_action=NextAction(redirect_url=row.redirect_url) if redirects else None,
            status_url=addresses.status(row.tenant_id, row.id),
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
