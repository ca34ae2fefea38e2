"""Routes of money that no provider took."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import Field

from subledger.platform import ids
from subledger.platform.db import Database, Tx, story
from subledger.platform.http.callers import CallerAdmin
from subledger.platform.http.fields import PositiveAmountMinor, Strict, Text, Timestamp
from subledger.platform.http.idempotency import Keys
from subledger.platform.http.problems import Problem, problems
from subledger.platform.http.replay import HEADER as REPLAYED
from subledger.platform.http.replay import replayed
from subledger.services.payments import problems as refusals
from subledger.services.payments.addresses import Addresses
from subledger.services.payments.flows.pay import Seen, Waiting
from subledger.services.payments.http import lists
from subledger.services.payments.schemas import CustomerId, InvoiceId, Payment, PaymentId
from subledger.services.payments.usecases.offline import Arrived, record, reverse

_RECORD = story("payments.record_offline")
_REVERSE = story("payments.reverse_offline")
_ID = "01h455vb4pex5vsknk084sn02q"


class NewOfflinePayment(Strict):
    """Money that arrived otherwise: for an invoice, or into a customer's account."""

    model_config = Strict.model_config | {
        "json_schema_extra": {
            "examples": [
                {
                    "invoice_id": f"inv_{_ID}",
                    "amount_minor": 999,
                    "currency": "EUR",
                    "method": "bank_transfer",
                    "reference": "statement 12, line 3",
                }
            ]
        }
    }
    invoice_id: InvoiceId | None = None
    customer_id: CustomerId | None = None
    amount_minor: PositiveAmountMinor
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$", examples=["EUR"])]
    method: Literal["bank_transfer", "cash", "check", "other"]
    reference: Annotated[Text, Field(max_length=200)] = ""
    received_at: Annotated[Timestamp | None, Field(description="Now, if null.")] = None


class Reversal(Strict):
    """Why the money was none after all."""

    model_config = Strict.model_config | {
        "json_schema_extra": {"examples": [{"reason": "the check bounced"}]}
    }
    reason: Annotated[Text, Field(min_length=1, max_length=500)]


def router(database: Database, keys: Keys, *, waiting: Waiting, addresses: Addresses) -> APIRouter:
    """``/v1/offline-payments`` and ``/v1/payments/{payment_id}/reverse``."""
    routes = APIRouter(prefix="/v1", tags=["Payments"])
    _record_route(routes, database, keys, waiting=waiting, addresses=addresses)

    @routes.post(
        "/payments/{payment_id}/reverse",
        response_model=Payment,
        summary="Reverse an off-line payment",
        description="The money was none after all: a check bounced. It leaves the books once;"
        " invoices that it paid stay as they are, the customer owes the amount, and a work item"
        " `payment_reversed` asks a person.",
        responses={**problems("forbidden", "not_found", refusals.NOT_REVERSIBLE)},
    )
    async def reverse_payment(
        payment_id: PaymentId, body: Reversal, caller: CallerAdmin, response: Response
    ) -> Payment:
        async def work(tx: Tx, _: UUID) -> None:
            await reverse(tx, caller.tenant_id, payment_id, reason=body.reason)

        async def load(_: Tx, __: UUID) -> None:
            """The answer is built from the payment."""

        answered = await keys.run(
            database,
            _REVERSE,
            caller,
            operation="reverse_payment",
            body=body,
            work=work,
            load=load,
            new_id=payment_id,
        )
        replayed(response, answered)
        seen = await waiting.payment(caller.tenant_id, payment_id)
        assert seen is not None, "reversed by this request"
        return Payment.of(seen.payment, seen.attempts, addresses=addresses)

    return routes


def _record_route(
    routes: APIRouter, database: Database, keys: Keys, *, waiting: Waiting, addresses: Addresses
) -> None:
    @routes.post(
        "/offline-payments",
        status_code=201,
        response_model=Payment,
        summary="Record an off-line payment",
        description="Money that arrived by bank transfer, in cash or by check. It pays the invoice"
        " or a part of it, which stays open for the rest; what is too much is the customer's"
        " unapplied money, as is all of it without an invoice (name the customer then). An invoice"
        " that another payment holds is refused. Booked from `bank`.",
        responses={
            **problems(
                "forbidden",
                "not_found",
                "invalid_request",
                "idempotency_in_progress",
                "idempotency_key_reused",
                refusals.NOT_COLLECTABLE,
                refusals.ALREADY_RESERVED,
                refusals.CUSTOMER_NOT_READY,
            )
        },
    )
    async def record_offline_payment(
        body: NewOfflinePayment, caller: CallerAdmin, response: Response
    ) -> Payment:
        if body.invoice_id is None and body.customer_id is None:
            raise Problem(
                "invalid_request",
                detail="Money is for an invoice or for a customer's account.",
                pointer="/invoice_id",
                fix="Give invoice_id or customer_id; both, if the invoice must be that customer's.",
            )
        if body.customer_id is not None:
            await lists.require_customer(waiting, caller, body.customer_id, pointer="/customer_id")
        arrived = Arrived(
            tenant_id=caller.tenant_id,
            invoice_id=body.invoice_id,
            customer_id=body.customer_id,
            amount_minor=body.amount_minor,
            currency=body.currency,
            method=body.method,
            reference=body.reference,
            received_at=body.received_at,
            cause=caller.request_id,
        )

        async def work(tx: Tx, new_id: UUID) -> None:
            await record(tx, arrived, payment_id=new_id)

        async def load(_: Tx, __: UUID) -> None:
            """The answer is built from the payment, driven on if it stopped half-way."""

        answered = await keys.run(
            database,
            _RECORD,
            caller,
            operation="record_offline_payment",
            body=body,
            work=work,
            load=load,
        )
        replayed(response, answered)
        seen = await waiting.paid(caller.tenant_id, answered.resource_id, wait_s=caller.wait_s)
        _refuse(seen, again=answered.replayed)
        return Payment.of(seen.payment, seen.attempts, addresses=addresses)


def _refuse(seen: Seen, *, again: bool) -> None:
    """A committed refusal, told again as it was told first."""
    payment = seen.payment
    if payment.status != "canceled":
        return
    headers = {REPLAYED: "true"} if again else {}
    code, detail, pointer = {
        "unknown_invoice": ("not_found", "There is no such invoice.", "/invoice_id"),
        "unknown_customer": ("not_found", "There is no such customer.", "/customer_id"),
        "currency_mismatch": (
            "invalid_request",
            "The invoice or the account is in another currency.",
            "/currency",
        ),
        "reserved": (
            refusals.ALREADY_RESERVED,
            "Another payment holds the invoice. Without invoice_id, with customer_id, the money can"
            " be recorded as the customer's unapplied money.",
            "/invoice_id",
        ),
    }.get(
        payment.failure_code,
        (refusals.NOT_COLLECTABLE, f"Billing refused it: {payment.failure_code}.", "/invoice_id"),
    )
    raise Problem(
        code,
        detail=detail,
        pointer=pointer,
        headers=headers,
        payment_id=ids.text("pay", payment.id),
    )
