"""Saving a payment method without paying: a page of the provider's."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Response
from sqlalchemy import Row

from subledger.platform.db import Database, Tx, story
from subledger.platform.http.callers import CallerAdmin
from subledger.platform.http.idempotency import Keys
from subledger.platform.http.problems import Problem, problems
from subledger.platform.http.replay import replayed
from subledger.services.payments import problems as refusals
from subledger.services.payments.flows.connect import Connecting, CurrencyNotTaken, NoConnection
from subledger.services.payments.flows.pay import Waiting
from subledger.services.payments.http import lists
from subledger.services.payments.http.public import Public
from subledger.services.payments.schemas import CustomerId, MethodSetup, NewSetup, NextAction
from subledger.services.payments.usecases import setups

_START = story("payments.start_setup")
_PLAIN = NewSetup()
"""Of a request without a body."""


def router(
    database: Database, keys: Keys, *, waiting: Waiting, connecting: Connecting, public: Public
) -> APIRouter:
    """``/v1/customers/{id}/payment-method-setups``; payers go to our own front page when a request
    names no place."""
    routes = APIRouter(prefix="/v1/customers", tags=["Payment methods"])

    @routes.post(
        "/{customer_id}/payment-method-setups",
        status_code=201,
        response_model=MethodSetup,
        summary="Save a payment method without a payment",
        description="Opens a page of the provider on which the customer saves a method, and answers"
        " where to send the payer. The method is `active` (and `payment_method.attached` is told)"
        " when that is done; what is past due is then tried by it at once. After 23 hours the page"
        " is closed and the method has `failed`.",
        responses={
            **problems(
                *("forbidden", "not_found", "invalid_request", "idempotency_in_progress"),
                *("idempotency_key_reused", refusals.NO_CONNECTION),
                *(refusals.CURRENCY_NOT_TAKEN, refusals.CUSTOMER_NOT_READY),
            )
        },
    )
    async def set_up_payment_method(
        customer_id: CustomerId,
        caller: CallerAdmin,
        response: Response,
        body: NewSetup = _PLAIN,
    ) -> MethodSetup:
        customer = await lists.require_customer(
            waiting, caller, customer_id, pointer="/path/customer_id"
        )
        connection_id = await _connection(connecting, caller.tenant_id, customer.currency)

        async def work(tx: Tx, new_id: UUID) -> None:
            await public.returns.require(tx, caller.tenant_id, body.return_url)
            await setups.start(
                tx,
                tenant_id=caller.tenant_id,
                method_id=new_id,
                customer_id=customer_id,
                connection_id=connection_id,
                make_default=body.make_default,
                return_url=body.return_url or public.returns.public_url,
            )

        async def load(_: Tx, __: UUID) -> None:
            """The answer is built from the method."""

        answered = await keys.run(
            database,
            _START,
            caller,
            operation="set_up_payment_method",
            body=body,
            work=work,
            load=load,
        )
        replayed(response, answered)
        row = await waiting.set_up(caller.tenant_id, answered.resource_id, wait_s=caller.wait_s)
        return _shown(row)

    return routes


async def _connection(connecting: Connecting, tenant_id: UUID, currency: str) -> UUID:
    """Where a method of a customer of this currency is saved."""
    try:
        return await connecting.choose(tenant_id, currency)
    except NoConnection:
        raise Problem(
            refusals.NO_CONNECTION, detail="There is no connection to a provider."
        ) from None
    except CurrencyNotTaken:
        raise Problem(
            refusals.CURRENCY_NOT_TAKEN,
            detail=f"No connection takes {currency}.",
            pointer="/path/customer_id",
        ) from None


def _shown(row: Row[object]) -> MethodSetup:
    opened = row.status == "attaching" and row.redirect_url is not None
    return MethodSetup(
        payment_method_id=row.id,
        status=row.status,
        next_action=NextAction(redirect_url=row.redirect_url) if opened else None,
    )
