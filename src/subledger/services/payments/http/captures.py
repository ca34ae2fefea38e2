"""The route that takes what was authorized."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Response

from subledger.platform.db import Database, Tx, story
from subledger.platform.http.callers import CallerAdmin
from subledger.platform.http.idempotency import Keys
from subledger.platform.http.problems import Problem, problems
from subledger.platform.http.replay import replayed
from subledger.services.payments import problems as refusals
from subledger.services.payments.addresses import Addresses
from subledger.services.payments.flows.pay import Waiting
from subledger.services.payments.schemas import NewCapture, Payment, PaymentId
from subledger.services.payments.usecases.capture import want_capture

_CAPTURE = story("payments.request_capture")
_EVERYTHING = NewCapture()
"""Of a request without a body."""


def router(database: Database, keys: Keys, *, waiting: Waiting, addresses: Addresses) -> APIRouter:
    """``/v1/payments/{payment_id}/capture``."""
    routes = APIRouter(prefix="/v1/payments", tags=["Payments"])

    @routes.post(
        "/{payment_id}/capture",
        response_model=Payment,
        summary="Capture an authorized payment",
        description="Takes the money that was authorized, whole or `amount_minor` of it, once; what"
        " is left is the payer's again. A part pays its part of the invoice, which stays open for"
        " the rest. The same capture asked for again is answered as the first. `unknown` means that"
        " the provider did not answer: it is asked until it does.",
        responses={
            **problems(
                "forbidden",
                "not_found",
                "invalid_request",
                refusals.NOT_CAPTURABLE,
                refusals.CAPTURE_EXCEEDS,
            )
        },
    )
    async def capture_payment(
        payment_id: PaymentId,
        caller: CallerAdmin,
        response: Response,
        body: NewCapture = _EVERYTHING,
    ) -> Payment:
        async def work(tx: Tx, _: UUID) -> None:
            await want_capture(tx, caller.tenant_id, payment_id, body.amount_minor)

        async def load(_: Tx, __: UUID) -> None:
            """The answer is built from the payment."""

        answered = await keys.run(
            database,
            _CAPTURE,
            caller,
            operation="capture_payment",
            body=body,
            work=work,
            load=load,
            new_id=payment_id,
        )
        replayed(response, answered)
        seen = await waiting.captured(caller.tenant_id, payment_id, wait_s=caller.wait_s)
        shown = Payment.of(seen.payment, seen.attempts, addresses=addresses)
        held = shown.authorization
        if shown.status == "authorized" and held is not None and held.wanted is None:
            raise Problem(
                refusals.NOT_CAPTURABLE,
                detail="The provider did not capture it; it is authorized still.",
                reason="refused_by_provider",
            )
        return shown

    return routes
