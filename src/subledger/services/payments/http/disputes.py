"""Routes of disputes: look."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from subledger.platform.db import Database, story
from subledger.platform.http.callers import CallerRead
from subledger.platform.http.pages import Page, PageQuery, page
from subledger.platform.http.problems import Problem, problems
from subledger.services.payments import problems as refusals
from subledger.services.payments.dispute_schemas import Dispute, DisputeId, DisputeStatus
from subledger.services.payments.flows.pay import Waiting
from subledger.services.payments.http import lists
from subledger.services.payments.schemas import CustomerId, PaymentId
from subledger.services.payments.store import disputes as store

_READ = story("payments.read_disputes", reads=True)


def router(database: Database, *, waiting: Waiting) -> APIRouter:
    """``/v1/disputes``."""
    routes = APIRouter(prefix="/v1/disputes", tags=["Disputes"])

    @routes.get(
        "",
        response_model=Page[Dispute],
        summary="List disputes",
        description="Disputes, the newest first; narrowed by one of status, customer or payment.",
        responses={**problems("invalid_request", "not_found", refusals.CUSTOMER_NOT_READY)},
    )
    async def list_disputes(
        caller: CallerRead,
        query: PageQuery,
        status: Annotated[DisputeStatus | None, Query()] = None,
        customer_id: Annotated[CustomerId | None, Query()] = None,
        payment_id: Annotated[PaymentId | None, Query()] = None,
    ) -> Page[Dispute]:
        if sum(each is not None for each in (status, customer_id, payment_id)) > 1:
            raise Problem(
                "invalid_request",
                detail="Name one of status, customer_id and payment_id.",
                fix="Leave out the other filters.",
            )
        if customer_id is not None:
            await lists.require_customer(waiting, caller, customer_id, pointer="/query/customer_id")
        if payment_id is not None and await waiting.payment(caller.tenant_id, payment_id) is None:
            raise Problem(
                "not_found", detail="There is no such payment.", pointer="/query/payment_id"
            )
        async with database.transaction(_READ, tenants=[caller.tenant_id]) as tx:
            rows = await store.listed(
                tx,
                caller.tenant_id,
                before=lists.before(query.after),
                limit=query.limit + 1,
                payment_id=payment_id,
                customer_id=customer_id,
                state=status,
            )
            now = await tx.now(caller.tenant_id)
        shown = [Dispute.of(row, now=now) for row in rows]
        return page(shown, query, key=lambda each: lists.key(each.opened_at, each.id))

    @routes.get(
        "/{dispute_id}",
        response_model=Dispute,
        summary="Get a dispute",
        description="A dispute as far as the provider has told, and how long evidence can be given"
        " there.",
        responses={**problems("not_found")},
    )
    async def get_dispute(dispute_id: DisputeId, caller: CallerRead) -> Dispute:
        key = (caller.tenant_id, dispute_id)
        async with database.transaction(_READ, tenants=[caller.tenant_id]) as tx:
            row = (await store.disputes(tx, [key])).get(key)
            now = await tx.now(caller.tenant_id)
        if row is None:
            raise Problem("not_found", detail="There is no such dispute.")
        return Dispute.of(row, now=now)

    return routes
