"""Routes of refunds: see before, refund, look."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Response
from sqlalchemy import Row

from subledger.platform.db import Database, Tx, story
from subledger.platform.http.callers import Caller, CallerAdmin, CallerRead
from subledger.platform.http.idempotency import Keys
from subledger.platform.http.pages import Page, PageQuery, page
from subledger.platform.http.problems import Problem, problems
from subledger.platform.http.replay import HEADER as REPLAYED
from subledger.platform.http.replay import replayed
from subledger.services.payments import problems as refusals
from subledger.services.payments.flows.pay import Waiting
from subledger.services.payments.flows.refund import Refunding
from subledger.services.payments.http import lists
from subledger.services.payments.refund_schemas import NewRefund, Refund, RefundId, RefundPreview
from subledger.services.payments.schemas import PaymentId
from subledger.services.payments.store import payments
from subledger.services.payments.store import refunds as store
from subledger.services.payments.usecases.refunds import Wish, refusal, request

_REFUND = story("payments.refund_request")
_READ = story("payments.read_refunds", reads=True)
_ALL_OF_IT = NewRefund()
"""Of a request without a body."""


def router(database: Database, keys: Keys, *, waiting: Waiting, refunding: Refunding) -> APIRouter:
    """``/v1/payments/{payment_id}/refunds`` and ``/v1/refunds``."""
    routes = APIRouter(prefix="/v1", tags=["Refunds"])
    _preview_route(routes, waiting=waiting, refunding=refunding)
    _refund_route(routes, database, keys, waiting=waiting, refunding=refunding)

    @routes.get(
        "/payments/{payment_id}/refunds",
        response_model=Page[Refund],
        summary="List a payment's refunds",
        description="Refunds, the newest first; also those that somebody made at the provider.",
        responses={**problems("invalid_request", "not_found")},
    )
    async def list_refunds(
        payment_id: PaymentId, caller: CallerRead, query: PageQuery
    ) -> Page[Refund]:
        key = (caller.tenant_id, payment_id)
        async with database.transaction(_READ, tenants=[caller.tenant_id]) as tx:
            if key not in await payments.payments(tx, [key]):
                raise Problem("not_found", detail="There is no such payment.")
            rows = await store.listed(
                tx, *key, before=lists.before(query.after), limit=query.limit + 1
            )
        shown = [Refund.of(row) for row in rows]
        return page(shown, query, key=lambda each: lists.key(each.created_at, each.id))

    @routes.get(
        "/refunds/{refund_id}",
        response_model=Refund,
        summary="Get a refund",
        description="A refund as far as it has come.",
        responses={**problems("not_found")},
    )
    async def get_refund(refund_id: RefundId, caller: CallerRead) -> Refund:
        key = (caller.tenant_id, refund_id)
        async with database.transaction(_READ, tenants=[caller.tenant_id]) as tx:
            row = (await store.refunds(tx, [key])).get(key)
        if row is None:
            raise Problem("not_found", detail="There is no such refund.")
        return Refund.of(row)

    return routes


def _preview_route(routes: APIRouter, *, waiting: Waiting, refunding: Refunding) -> None:
    @routes.post(
        "/payments/{payment_id}/refund-preview",
        response_model=RefundPreview,
        summary="See what a refund would do",
        description="How much can go back, what it is taken from, its tax, and what the unused time"
        " has cost. Computed as the refund is; nothing is kept.",
        responses={
            **problems(
                "not_found",
                "invalid_request",
                refusals.NOT_REFUNDABLE,
                refusals.REFUND_EXCEEDS,
                refusals.DISPUTED,
                refusals.PARTIAL_REFUND,
                refusals.REFUND_NOT_READY,
            )
        },
    )
    async def preview_refund(
        payment_id: PaymentId, caller: CallerRead, body: NewRefund = _ALL_OF_IT
    ) -> RefundPreview:
        wish = _wish(caller, payment_id, body)
        await refunding.check_part(wish)
        grant = await refunding.preview(wish)
        if grant.refusal == "not_booked":
            raise Problem(refusals.REFUND_NOT_READY, detail="Billing has not booked it yet.")
        if not grant.granted:
            raise refusal(grant.refusal, grant.refundable_minor)
        seen = await waiting.payment(caller.tenant_id, payment_id)
        assert seen is not None, "it was refundable"
        return RefundPreview.of(payment_id, body, grant, refunded_minor=seen.payment.refunded_minor)


def _refund_route(
    routes: APIRouter, database: Database, keys: Keys, *, waiting: Waiting, refunding: Refunding
) -> None:
    @routes.post(
        "/payments/{payment_id}/refunds",
        status_code=201,
        response_model=Refund,
        summary="Refund a payment",
        description="Gives back a part of the payment or all of it, to the payment method or as the"
        " customer's credit, and issues the credit note that backs it. With"
        " `cancel_subscription` what the payment's invoice bills ends as soon as the refund is"
        " granted. Waits up to `Prefer: wait=n` seconds for the outcome. A refused"
        " refund stays refused.",
        responses={
            **problems(
                "forbidden",
                "not_found",
                "invalid_request",
                "idempotency_in_progress",
                "idempotency_key_reused",
                refusals.NOT_REFUNDABLE,
                refusals.REFUND_EXCEEDS,
                refusals.DISPUTED,
                refusals.PARTIAL_REFUND,
            )
        },
    )
    async def refund_payment(
        payment_id: PaymentId, body: NewRefund, caller: CallerAdmin, response: Response
    ) -> Refund:
        wish = _wish(caller, payment_id, body)
        await refunding.check_part(wish)

        async def work(tx: Tx, new_id: UUID) -> None:
            await request(tx, wish, refund_id=new_id, cause=caller.request_id)

        async def load(_: Tx, __: UUID) -> None:
            """The answer is built from the refund, driven on if it stopped half-way."""

        answered = await keys.run(
            database,
            _REFUND,
            caller,
            operation="refund_payment",
            body=body,
            work=work,
            load=load,
        )
        replayed(response, answered)
        row = await waiting.refunded(caller.tenant_id, answered.resource_id, wait_s=caller.wait_s)
        _refuse(row, again=answered.replayed)
        return Refund.of(row)


def _wish(caller: Caller, payment_id: UUID, body: NewRefund) -> Wish:
    if body.to == "credit" and body.source == "credit":
        raise Problem(
            "invalid_request",
            detail="Credit that the customer has cannot become credit.",
            pointer="/source",
            fix="Use source: invoice, or to: method.",
        )
    return Wish(
        tenant_id=caller.tenant_id,
        payment_id=payment_id,
        amount_minor=body.amount_minor,
        to=body.to,
        source=body.source,
        reason=body.reason,
        cancel_subscription=body.cancel_subscription,
    )


def _refuse(row: Row[Any], *, again: bool) -> None:
    """A committed refusal, told again as it was told first."""
    if row.state != "refused":
        return
    problem = refusal(row.code, row.refundable_minor)
    problem.headers.update({REPLAYED: "true"} if again else {})
    raise problem
