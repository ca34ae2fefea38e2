"""Adjustments of customers' credit: make, look."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from subledger.platform.db import Database, Tx
from subledger.platform.http.callers import CallerAdmin, CallerRead
from subledger.platform.http.idempotency import Keys
from subledger.platform.http.pages import Page, PageQuery, page
from subledger.platform.http.problems import Problem, problems
from subledger.platform.http.replay import replayed
from subledger.services.billing.http import customers
from subledger.services.billing.http.paging import before_id, id_key
from subledger.services.billing.http.stories import READ, SAVE_CREDIT_NOTE
from subledger.services.billing.schemas.credit_notes import Adjustment, AdjustmentNew
from subledger.services.billing.schemas.references import AdjustmentId, CustomerId
from subledger.services.billing.store import credit_notes as store
from subledger.services.billing.usecases.adjustments import AdjustmentRequest, adjust


async def _load(tx: Tx, tenant_id: UUID, adjustment_id: UUID) -> Adjustment:
    """Raises not_found."""
    found = await store.adjustments(tx, [(tenant_id, adjustment_id)])
    if not found:
        raise Problem("not_found", detail="There is no such adjustment.")
    return Adjustment.of(found[tenant_id, adjustment_id])


def router(database: Database, keys: Keys) -> APIRouter:
    """``/v1/adjustments``."""
    routes = APIRouter(prefix="/v1/adjustments", tags=["Adjustments"])
    _add_make(routes, database, keys)
    _add_reads(routes, database)
    return routes


def _add_make(routes: APIRouter, database: Database, keys: Keys) -> None:
    @routes.post(
        "",
        status_code=201,
        response_model=Adjustment,
        summary="Adjust a customer's credit",
        description="Gives a customer credit that pays for later invoices, or takes credit back,"
        " with the reason; it is shown in the statement. An invoice that is open is not paid by"
        " it: credit that by a credit note.",
        responses={
            **problems(
                "unknown_reference",
                "currency_mismatch",
                "credit_insufficient",
                "invalid_request",
                "forbidden",
            )
        },
    )
    async def make_adjustment(
        body: AdjustmentNew, caller: CallerAdmin, response: Response
    ) -> Adjustment:
        async def work(tx: Tx, adjustment_id: UUID) -> Adjustment:
            await adjust(
                tx,
                AdjustmentRequest(
                    tenant_id=caller.tenant_id,
                    adjustment_id=adjustment_id,
                    customer_id=body.customer_id,
                    direction=body.direction,
                    amount_minor=body.amount_minor,
                    currency=body.currency,
                    reason=body.reason,
                    made_by=caller.principal.id,
                    cause=caller.request_id,
                ),
            )
            return await again(tx, adjustment_id)

        async def again(tx: Tx, adjustment_id: UUID) -> Adjustment:
            return await _load(tx, caller.tenant_id, adjustment_id)

        answered = await keys.run(
            database,
            SAVE_CREDIT_NOTE,
            caller,
            operation="adjustments.make",
            body=body,
            work=work,
            load=again,
        )
        return replayed(response, answered)


def _add_reads(routes: APIRouter, database: Database) -> None:
    @routes.get(
        "",
        response_model=Page[Adjustment],
        summary="List adjustments",
        description="Newest first; of one customer, or all.",
        responses={**problems("not_found", "invalid_request")},
    )
    async def list_adjustments(
        caller: CallerRead,
        query: PageQuery,
        customer_id: Annotated[CustomerId | None, Query()] = None,
    ) -> Page[Adjustment]:
        tenant_id, before = caller.tenant_id, before_id(query, "adj")
        async with database.transaction(READ, tenants=[tenant_id]) as tx:
            if customer_id is not None:
                await customers.load(tx, tenant_id, customer_id)
            rows = await store.list_adjustments(
                tx, tenant_id, account_id=customer_id, before=before, limit=query.limit + 1
            )
        found = page(rows, query, key=lambda row: id_key(row, "adj"))
        return Page(
            data=[Adjustment.of(row) for row in found.data],
            has_more=found.has_more,
            next_cursor=found.next_cursor,
        )

    @routes.get(
        "/{adjustment_id}",
        response_model=Adjustment,
        summary="Get an adjustment",
        description="An adjustment with its reason.",
        responses={**problems("not_found")},
    )
    async def get_adjustment(adjustment_id: AdjustmentId, caller: CallerRead) -> Adjustment:
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            return await _load(tx, caller.tenant_id, adjustment_id)
