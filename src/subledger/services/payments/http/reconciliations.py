"""Routes of reconciliations and payouts."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Response

from subledger.platform.db import Database, Tx, story
from subledger.platform.http.callers import CallerAdmin, CallerRead
from subledger.platform.http.idempotency import Keys
from subledger.platform.http.pages import Page, PageQuery, page
from subledger.platform.http.problems import Problem, problems
from subledger.platform.http.replay import replayed
from subledger.services.payments.http import lists
from subledger.services.payments.reconciliation_schemas import (
    DailyReconciliation,
    NewReconciliation,
    Payout,
    Reconciliation,
    ReconciliationId,
)
from subledger.services.payments.schemas import ConnectionId
from subledger.services.payments.store import payouts
from subledger.services.payments.store import reconciliations as store
from subledger.services.payments.usecases import begin_runs

_BEGIN = story("payments.reconcile_begin")
_DAILY = story("payments.reconcile_daily")
_READ = story("payments.read_reconciliations", reads=True)
_AS_EVER = NewReconciliation()
"""Of a request without a body."""


def router(database: Database, keys: Keys) -> APIRouter:
    """``/v1/reconciliations``, ``/v1/payouts``, and what begins a run of a connection."""
    routes = APIRouter(prefix="/v1", tags=["Reconciliation"])
    _add_begin(routes, database, keys)
    _add_daily(routes, database)
    _add_reads(routes, database)
    return routes


def _add_begin(routes: APIRouter, database: Database, keys: Keys) -> None:
    @routes.post(
        "/connections/{connection_id}/reconcile",
        status_code=202,
        response_model=Reconciliation,
        summary="Compare a connection with its provider's list",
        description="Begins a run. Captures that are open or unknown here are settled or booked,"
        " payouts are matched to captures and booked, and what differs becomes work items.",
        responses={
            **problems(
                "forbidden",
                "not_found",
                "invalid_request",
                "idempotency_in_progress",
                "idempotency_key_reused",
            )
        },
    )
    async def reconcile_connection(
        connection_id: ConnectionId,
        caller: CallerAdmin,
        response: Response,
        body: NewReconciliation = _AS_EVER,
    ) -> Reconciliation:
        async def work(tx: Tx, new_id: UUID) -> None:
            await begin_runs.begin(
                tx,
                (caller.tenant_id, connection_id),
                origin="asked",
                run_id=new_id,
                since=body.since,
                until=body.until,
            )

        async def load(_: Tx, __: UUID) -> None:
            """The answer is built from the run."""

        answered = await keys.run(
            database,
            _BEGIN,
            caller,
            operation="reconcile_connection",
            body=body,
            work=work,
            load=load,
        )
        replayed(response, answered)
        return await _one(database, caller.tenant_id, answered.resource_id)


async def _one(database: Database, tenant_id: UUID, run_id: UUID) -> Reconciliation:
    async with database.transaction(_READ, tenants=[tenant_id]) as tx:
        row = await store.run(tx, (tenant_id, run_id))
    if row is None:
        raise Problem("not_found", detail="There is no such reconciliation.")
    return Reconciliation.of(row)


def _add_daily(routes: APIRouter, database: Database) -> None:
    @routes.put(
        "/connections/{connection_id}/reconciliation",
        response_model=DailyReconciliation,
        summary="Compare a connection every day",
        description="Or no longer. A run begins an hour after midnight (UTC, the tenant's clock).",
        responses={**problems("forbidden", "not_found", "invalid_request")},
    )
    async def set_daily_reconciliation(
        connection_id: ConnectionId, body: DailyReconciliation, caller: CallerAdmin
    ) -> DailyReconciliation:
        async def work(tx: Tx) -> None:
            key = (caller.tenant_id, connection_id)
            await begin_runs.set_daily(tx, key, daily=body.daily)

        await database.transact(_DAILY, work, tenants=[caller.tenant_id])
        return body


def _add_reads(routes: APIRouter, database: Database) -> None:
    @routes.get(
        "/reconciliations",
        response_model=Page[Reconciliation],
        summary="List reconciliations",
        description="Comparisons with providers' lists, the newest first.",
        responses={**problems("invalid_request")},
    )
    async def list_reconciliations(caller: CallerRead, query: PageQuery) -> Page[Reconciliation]:
        async with database.transaction(_READ, tenants=[caller.tenant_id]) as tx:
            rows = await store.listed_runs(
                tx, caller.tenant_id, before=lists.before(query.after), limit=query.limit + 1
            )
        shown = [Reconciliation.of(row) for row in rows]
        return page(shown, query, key=lambda each: lists.key(each.created_at, each.id))

    @routes.get(
        "/reconciliations/{reconciliation_id}",
        response_model=Reconciliation,
        summary="Get a reconciliation",
        description="A comparison as far as it has come.",
        responses={**problems("not_found")},
    )
    async def get_reconciliation(
        reconciliation_id: ReconciliationId, caller: CallerRead
    ) -> Reconciliation:
        return await _one(database, caller.tenant_id, reconciliation_id)

    @routes.get(
        "/payouts",
        response_model=Page[Payout],
        summary="List payouts",
        description="What providers paid out, the newest first, matched to captures and fees.",
        responses={**problems("invalid_request")},
    )
    async def list_payouts(caller: CallerRead, query: PageQuery) -> Page[Payout]:
        async with database.transaction(_READ, tenants=[caller.tenant_id]) as tx:
            rows = await payouts.listed_payouts(
                tx, caller.tenant_id, before=lists.before(query.after), limit=query.limit + 1
            )
        shown = [Payout.of(row) for row in rows]
        return page(shown, query, key=lambda each: lists.key(each.paid_at, each.id))
