"""The route of money that a customer pays into the account."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import Field

from subledger.platform import ids
from subledger.platform.db import Database, Tx, story
from subledger.platform.http.callers import Caller, CallerAdmin
from subledger.platform.http.fields import PositiveAmountMinor, Strict
from subledger.platform.http.idempotency import Keys
from subledger.platform.http.problems import RETURN_URL_NOT_ALLOWED, Problem, problems
from subledger.platform.http.replay import HEADER as REPLAYED
from subledger.platform.http.replay import replayed
from subledger.services.payments import problems as refusals
from subledger.services.payments.flows.pay import Seen, Waiting
from subledger.services.payments.http import lists
from subledger.services.payments.http.payments import usable
from subledger.services.payments.http.public import Public
from subledger.services.payments.schemas import CustomerId, MethodId, Payment, ReturnUrl
from subledger.services.payments.usecases.reserve import METHOD_MISMATCH
from subledger.services.payments.usecases.top_up import TopUp, top_up

_TOP_UP = story("payments.request_top_up")


class NewTopUp(Strict):
    """Money into the customer's account: by a saved method (the default one if none is named), or
    on a page."""

    model_config = Strict.model_config | {
        "json_schema_extra": {
            "examples": [
                {"amount_minor": 2000, "currency": "EUR"},
                {
                    "amount_minor": 2000,
                    "currency": "EUR",
                    "collection": "page",
                    "return_url": "https://cinema.example/account",
                },
            ]
        }
    }
    amount_minor: PositiveAmountMinor
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$", description="The customer's own.")]
    collection: Literal["method", "page"] = "method"
    payment_method_id: MethodId | None = None
    return_url: ReturnUrl | None = None


def router(database: Database, keys: Keys, *, waiting: Waiting, public: Public) -> APIRouter:
    """``/v1/customers/{customer_id}/payments``."""
    routes = APIRouter(prefix="/v1/customers", tags=["Payments"])

    @routes.post(
        "/{customer_id}/payments",
        status_code=201,
        response_model=Payment,
        summary="Pay into a customer's account",
        description="Charges a saved method (the customer's default unless you name one), or"
        " opens a hosted page (`collection: page`) and answers where to send the payer. No invoice"
        " asks for the money: it is the customer's unapplied money, shown in the statement. Waits"
        " up to `Prefer: wait=n` seconds for the outcome. A refusal is 402 and stays one.",
        responses={
            **problems(
                "forbidden",
                "payment_declined",
                "not_found",
                "invalid_request",
                "idempotency_in_progress",
                "idempotency_key_reused",
                refusals.CUSTOMER_NOT_READY,
                refusals.METHOD_NOT_ACTIVE,
                refusals.CURRENCY_NOT_TAKEN,
                RETURN_URL_NOT_ALLOWED,
            )
        },
    )
    async def pay_into_account(
        customer_id: CustomerId, body: NewTopUp, caller: CallerAdmin, response: Response
    ) -> Payment:
        if body.collection == "page" and body.payment_method_id is not None:
            raise Problem(
                "invalid_request",
                detail="On a page the payer chooses the method.",
                pointer="/payment_method_id",
                fix="Leave out payment_method_id, or use collection: method.",
            )
        await lists.require_customer(waiting, caller, customer_id, pointer="/path/customer_id")

        async def work(tx: Tx, new_id: UUID) -> None:
            await public.returns.require(tx, caller.tenant_id, body.return_url)
            wish = await _wish(tx, caller, customer_id, body)
            await top_up(tx, wish, payment_id=new_id)

        async def load(_: Tx, __: UUID) -> None:
            """The answer is built from the payment, driven on if it stopped half-way."""

        answered = await keys.run(
            database,
            _TOP_UP,
            caller,
            operation=f"pay_into_account {customer_id}",
            body=body,
            work=work,
            load=load,
        )
        replayed(response, answered)
        seen = await waiting.paid(caller.tenant_id, answered.resource_id, wait_s=caller.wait_s)
        _refuse(seen, again=answered.replayed)
        return Payment.of(seen.payment, seen.attempts, addresses=public.addresses)

    return routes


async def _wish(tx: Tx, caller: Caller, customer_id: UUID, body: NewTopUp) -> TopUp:
    connection_id = None
    if body.payment_method_id is not None:
        connection_id = await usable(tx, caller.tenant_id, body.payment_method_id)
    return TopUp(
        tenant_id=caller.tenant_id,
        customer_id=customer_id,
        amount_minor=body.amount_minor,
        currency=body.currency,
        page=body.collection == "page",
        method_id=body.payment_method_id,
        connection_id=connection_id,
        return_url=body.return_url,
        cause=caller.request_id,
    )


def _refuse(seen: Seen, *, again: bool) -> None:
    """A committed refusal, told again as it was told first."""
    payment = seen.payment
    code = payment.failure_code
    told = {"payment_id": ids.text("pay", payment.id)}
    headers = {REPLAYED: "true"} if again else {}
    if payment.status == "failed" and code == refusals.CURRENCY_NOT_TAKEN:
        raise Problem(
            refusals.CURRENCY_NOT_TAKEN,
            detail=f"No connection of the tenant takes {payment.currency}.",
            pointer="/currency",
            headers=headers,
            **told,
        )
    if payment.status == "failed":
        raise Problem(
            "payment_declined",
            detail=f"The payment was declined: {code}.",
            decline=payment.decline,
            failure_code=code,
            headers=headers,
            **told,
        )
    if payment.status != "canceled" or seen.attempts[-1].provider_ref is not None:
        return
    known = {
        "unknown_customer": ("not_found", "There is no such customer.", "/path/customer_id"),
        "currency_mismatch": (
            "invalid_request",
            "The account is in another currency.",
            "/currency",
        ),
        METHOD_MISMATCH: (
            refusals.METHOD_NOT_ACTIVE,
            "The payment method is not one of the customer's.",
            "/payment_method_id",
        ),
    }
    otherwise = ("invalid_request", f"The payment was canceled: {code}.", "/amount_minor")
    problem, detail, pointer = known.get(code, otherwise)
    raise Problem(problem, detail=detail, pointer=pointer, headers=headers, **told)
