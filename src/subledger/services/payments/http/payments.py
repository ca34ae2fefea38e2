"""Routes of payments."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from subledger.platform import ids
from subledger.platform.db import Database, Tx, story
from subledger.platform.http.callers import CallerAdmin, CallerRead
from subledger.platform.http.fields import Timestamp
from subledger.platform.http.idempotency import Keys
from subledger.platform.http.pages import Page, PageQuery, page
from subledger.platform.http.problems import RETURN_URL_NOT_ALLOWED, Problem, problems
from subledger.platform.http.replay import HEADER as REPLAYED
from subledger.platform.http.replay import replayed
from subledger.services.payments import problems as refusals
from subledger.services.payments.addresses import Addresses
from subledger.services.payments.flows.pay import Seen, Waiting
from subledger.services.payments.http import lists
from subledger.services.payments.http.public import Public
from subledger.services.payments.schemas import (
    ConnectionId,
    CustomerId,
    InvoiceId,
    NewPayment,
    Payment,
    PaymentId,
    PaymentStatus,
)
from subledger.services.payments.store import methods
from subledger.services.payments.store import payments as store
from subledger.services.payments.usecases.cancel import cancel
from subledger.services.payments.usecases.collect import collect_manually
from subledger.services.payments.usecases.reserve import METHOD_MISMATCH

_PAY = story("payments.request_payment")
_CANCEL = story("payments.request_cancel")
_READ = story("payments.read_payments", reads=True)


def router(database: Database, keys: Keys, *, waiting: Waiting, public: Public) -> APIRouter:
    """``/v1/payments``."""
    routes = APIRouter(prefix="/v1/payments", tags=["Payments"])
    _pay_route(routes, database, keys, waiting=waiting, public=public)
    _cancel_route(routes, database, keys, waiting=waiting, addresses=public.addresses)
    _list_route(routes, database, waiting=waiting, addresses=public.addresses)

    @routes.get(
        "/{payment_id}",
        response_model=Payment,
        summary="Get a payment",
        description="A payment with its attempts, the provider's references and its answers"
        " (codes only).",
        responses={**problems("not_found")},
    )
    async def get_payment(payment_id: PaymentId, caller: CallerRead) -> Payment:
        seen = await waiting.payment(caller.tenant_id, payment_id)
        if seen is None:
            raise Problem("not_found", detail="There is no such payment.")
        return Payment.of(seen.payment, seen.attempts, addresses=public.addresses)

    return routes


def _pay_route(
    routes: APIRouter, database: Database, keys: Keys, *, waiting: Waiting, public: Public
) -> None:
    @routes.post(
        "",
        status_code=201,
        response_model=Payment,
        summary="Pay an invoice",
        description="Charges a saved method (the customer's default unless you name one), or"
        " opens a hosted page (`mode: page`) and answers where to send the payer. Waits up to"
        " `Prefer: wait=n` seconds for the outcome. A refusal is 402 and stays one.",
        responses={
            **problems(
                "forbidden",
                "payment_declined",
                "not_found",
                "invalid_request",
                "idempotency_in_progress",
                "idempotency_key_reused",
                refusals.NOT_COLLECTABLE,
                refusals.ALREADY_RESERVED,
                refusals.METHOD_NOT_ACTIVE,
                refusals.CURRENCY_NOT_TAKEN,
                refusals.TWO_STAGE,
                RETURN_URL_NOT_ALLOWED,
            )
        },
    )
    async def pay_invoice(body: NewPayment, caller: CallerAdmin, response: Response) -> Payment:
        _check(body)

        async def work(tx: Tx, new_id: UUID) -> None:
            await public.returns.require(tx, caller.tenant_id, body.return_url)
            connection_id = None
            if body.payment_method_id is not None:
                connection_id = await usable(tx, caller.tenant_id, body.payment_method_id)
            await collect_manually(
                tx,
                tenant_id=caller.tenant_id,
                payment_id=new_id,
                invoice_id=body.invoice_id,
                method_id=body.payment_method_id,
                connection_id=connection_id,
                page=body.mode == "page",
                return_url=body.return_url,
                cause=caller.request_id,
                capture_method=body.capture_method,
            )

        async def load(_: Tx, __: UUID) -> None:
            """The answer is built from the payment, driven on if it stopped half-way."""

        answered = await keys.run(
            database,
            _PAY,
            caller,
            operation="pay_invoice",
            body=body,
            work=work,
            load=load,
        )
        replayed(response, answered)
        seen = await waiting.paid(caller.tenant_id, answered.resource_id, wait_s=caller.wait_s)
        _refuse(seen, again=answered.replayed)
        return Payment.of(seen.payment, seen.attempts, addresses=public.addresses)


def _list_route(
    routes: APIRouter, database: Database, *, waiting: Waiting, addresses: Addresses
) -> None:
    @routes.get(
        "",
        response_model=Page[Payment],
        summary="List payments",
        description="Payments, the newest first; narrowed by any of invoice, customer, connection,"
        " status and the time of their creation.",
        responses={**problems("invalid_request", "not_found", refusals.CUSTOMER_NOT_READY)},
    )
    async def list_payments(
        caller: CallerRead,
        query: PageQuery,
        invoice_id: Annotated[InvoiceId | None, Query()] = None,
        customer_id: Annotated[CustomerId | None, Query()] = None,
        connection_id: Annotated[ConnectionId | None, Query()] = None,
        status: Annotated[PaymentStatus | None, Query()] = None,
        created_from: Annotated[Timestamp | None, Query(description="Inclusive.")] = None,
        created_until: Annotated[Timestamp | None, Query(description="Exclusive.")] = None,
    ) -> Page[Payment]:
        if customer_id is not None:
            await lists.require_customer(waiting, caller, customer_id, pointer="/query/customer_id")
        wanted = store.Wanted(
            invoice_id=invoice_id,
            customer_id=customer_id,
            connection_id=connection_id,
            status=status,
            created_from=created_from,
            created_until=created_until,
        )
        before, limit = lists.before(query.after), query.limit + 1
        async with database.transaction(_READ, tenants=[caller.tenant_id]) as tx:
            rows = await store.listed(tx, caller.tenant_id, wanted, before=before, limit=limit)
            attempts = await store.attempts_of(tx, ((row.tenant_id, row.id) for row in rows))
        shown = [
            Payment.of(row, attempts.get((row.tenant_id, row.id), []), addresses=addresses)
            for row in rows
        ]
        return page(shown, query, key=lambda each: lists.key(each.created_at, each.id))


def _cancel_route(
    routes: APIRouter, database: Database, keys: Keys, *, waiting: Waiting, addresses: Addresses
) -> None:
    @routes.post(
        "/{payment_id}/cancel",
        response_model=Payment,
        summary="Cancel a payment",
        description="Before the provider is asked the payment is just canceled. An open hosted page"
        " is closed at the provider, and so is a charge that waits for its payer's bank (which is"
        " then `failed`); if the payer was quicker, the answer says `succeeded`. What is authorized"
        " is let go at the provider. Then"
        " the invoice is free again; it stays open, and an automatic charge that was canceled is"
        " not tried again by itself.",
        responses={**problems("forbidden", "not_found", refusals.NOT_CANCELABLE)},
    )
    async def cancel_payment(
        payment_id: PaymentId, caller: CallerAdmin, response: Response
    ) -> Payment:
        await waiting.reserved(caller.tenant_id, payment_id)

        async def work(tx: Tx, _: UUID) -> None:
            await cancel(tx, caller.tenant_id, payment_id)

        async def load(_: Tx, __: UUID) -> None:
            """The answer is built from the payment."""

        answered = await keys.run(
            database,
            _CANCEL,
            caller,
            operation="cancel_payment",
            body=None,
            work=work,
            load=load,
            new_id=payment_id,
        )
        replayed(response, answered)
        seen = await waiting.closed(caller.tenant_id, payment_id, wait_s=caller.wait_s)
        return Payment.of(seen.payment, seen.attempts, addresses=addresses)


def _check(body: NewPayment) -> None:
    """A page leaves nothing to choose beforehand."""
    if body.mode == "page" and body.payment_method_id is not None:
        raise Problem(
            "invalid_request",
            detail="On a page the payer chooses the method.",
            pointer="/payment_method_id",
            fix="Leave out payment_method_id, or use mode: method.",
        )


async def usable(tx: Tx, tenant_id: UUID, method_id: UUID) -> UUID:
    """The connection of a method that can be charged. Raises not_found and
    payment_method_not_active."""
    row = (await methods.methods(tx, [(tenant_id, method_id)])).get((tenant_id, method_id))
    if row is None:
        raise Problem(
            "not_found", detail="There is no such payment method.", pointer="/payment_method_id"
        )
    if row.status != "active":
        raise Problem(
            refusals.METHOD_NOT_ACTIVE,
            detail=f"The payment method is {row.status}.",
            pointer="/payment_method_id",
        )
    return UUID(int=row.connection_id.int)


def _refuse(seen: Seen, *, again: bool) -> None:
    """A committed refusal, told again as it was told first."""
    payment = seen.payment
    headers = {REPLAYED: "true"} if again else {}
    told = ids.text("pay", payment.id)
    if payment.status == "failed" and payment.failure_code == refusals.CURRENCY_NOT_TAKEN:
        raise Problem(
            refusals.CURRENCY_NOT_TAKEN,
            detail=f"No connection of the tenant takes {payment.currency}.",
            pointer="/invoice_id",
            headers=headers,
            payment_id=told,
        )
    if payment.status == "failed" and payment.failure_code == refusals.TWO_STAGE:
        raise Problem(
            refusals.TWO_STAGE,
            detail="The provider takes the money at once or not at all.",
            pointer="/capture_method",
            headers=headers,
            payment_id=told,
        )
    if payment.status == "failed":
        raise Problem(
            "payment_declined",
            detail=f"The payment was declined: {payment.failure_code}.",
            decline=payment.decline,
            failure_code=payment.failure_code,
            headers=headers,
            payment_id=told,
        )
    if payment.status != "canceled" or seen.attempts[-1].provider_ref is not None:
        return
    if payment.failure_code == "unknown_invoice":
        raise Problem(
            "not_found", detail="There is no such invoice.", pointer="/invoice_id", headers=headers
        )
    if payment.failure_code == METHOD_MISMATCH:
        raise Problem(
            refusals.METHOD_NOT_ACTIVE,
            detail="The payment method is not one of the invoice's customer.",
            pointer="/payment_method_id",
            headers=headers,
            payment_id=told,
        )
    code = (
        refusals.ALREADY_RESERVED
        if payment.failure_code == "reserved"
        else refusals.NOT_COLLECTABLE
    )
    raise Problem(
        code,
        detail=f"Billing refused the payment: {payment.failure_code}.",
        pointer="/invoice_id",
        reason=payment.failure_code,
        headers=headers,
        payment_id=told,
    )
