"""Revenue: the policy, the schedule of an invoice, the months."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query

from subledger.platform.db import Database, Tx
from subledger.platform.http.callers import CallerAdmin, CallerRead
from subledger.platform.http.problems import problems
from subledger.services.billing.http.stories import READ, SET_REVENUE_POLICY
from subledger.services.billing.schemas.references import InvoiceId
from subledger.services.billing.schemas.revenue import (
    MonthName,
    Revenue,
    RevenuePolicy,
    RevenueSchedule,
)
from subledger.services.billing.usecases import revenue


def router(database: Database) -> APIRouter:
    """``/v1/revenue-policy``, ``/v1/revenue-schedule``, ``/v1/revenue``."""
    routes = APIRouter(prefix="/v1", tags=["Revenue"])
    _add_policy(routes, database)
    _add_reads(routes, database)
    return routes


def _add_policy(routes: APIRouter, database: Database) -> None:
    @routes.get(
        "/revenue-policy",
        response_model=RevenuePolicy,
        summary="Get the revenue policy",
        description="How what you bill becomes revenue: by whole days of UTC until you set your"
        " own.",
        responses={**problems("unauthorized")},
    )
    async def get_revenue_policy(caller: CallerRead) -> RevenuePolicy:
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            mode, timezone = await revenue.policy(tx, caller.tenant_id)
        return RevenuePolicy(mode=mode.value, timezone=timezone)

    @routes.put(
        "/revenue-policy",
        response_model=RevenuePolicy,
        summary="Set the revenue policy",
        description="Holds for invoices that are finalized from now on; what was billed before is"
        " recognized as it began.",
        responses={**problems("revenue_policy_changed_often", "forbidden", "invalid_request")},
    )
    async def put_revenue_policy(body: RevenuePolicy, caller: CallerAdmin) -> RevenuePolicy:
        async def save(tx: Tx) -> None:
            await revenue.set_policy(
                tx, tenant_id=caller.tenant_id, mode=body.to_mode(), timezone=body.timezone
            )

        await database.transact(SET_REVENUE_POLICY, save, tenants=[caller.tenant_id])
        return body


def _add_reads(routes: APIRouter, database: Database) -> None:
    @routes.get(
        "/revenue-schedule",
        response_model=RevenueSchedule,
        summary="Get the revenue schedule of an invoice",
        description="When each line becomes revenue, by the months in which its service is"
        " delivered: what is recognized, and what is to come.",
        responses={**problems("not_found", "invalid_request")},
    )
    async def get_revenue_schedule(
        caller: CallerRead, invoice_id: Annotated[InvoiceId, Query()]
    ) -> RevenueSchedule:
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            lines = await revenue.revenue_schedule(
                tx, tenant_id=caller.tenant_id, invoice_id=invoice_id
            )
        return RevenueSchedule.of(invoice_id, lines)

    @routes.get(
        "/revenue",
        response_model=Revenue,
        summary="Get revenue by month",
        description="What each month recognized by the ledger, and what it will recognize of the"
        " invoices that there are, by currency; at most 60 months. Months are those of the revenue"
        " policy's zone.",
        responses={**problems("invalid_request")},
    )
    async def get_revenue(
        caller: CallerRead,
        from_month: Annotated[MonthName, Query(alias="from", description="Included.")],
        to_month: Annotated[MonthName, Query(alias="to", description="Included.")],
    ) -> Revenue:
        async with database.transaction(
            READ, tenants=[caller.tenant_id], repeatable_read=True
        ) as tx:
            found = await revenue.revenue(
                tx,
                tenant_id=caller.tenant_id,
                from_month=_first_day(from_month),
                to_month=_first_day(to_month),
            )
        return Revenue.of(found)


def _first_day(month: str) -> date:
    year, _, number = month.partition("-")
    return date(max(int(year), 1), int(number), 1)
