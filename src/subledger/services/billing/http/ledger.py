"""The trial balance, and work items."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response

from subledger.platform.db import Database, Tx
from subledger.platform.http.callers import CallerAdmin, CallerRead
from subledger.platform.http.idempotency import Keys
from subledger.platform.http.pages import Page, PageQuery, page
from subledger.platform.http.problems import Problem, problems
from subledger.platform.http.replay import replayed
from subledger.services.billing.http.paging import before_id, id_key
from subledger.services.billing.http.stories import CLOSE_WORK_ITEM, READ
from subledger.services.billing.schemas.ledger import (
    CloseWorkItem,
    TrialBalance,
    TrialBalanceCurrency,
    WorkItem,
)
from subledger.services.billing.schemas.references import WorkItemId
from subledger.services.billing.store import reads
from subledger.services.billing.usecases import work_items
from subledger.services.billing.usecases.trial_balance import trial_balance


def routers(database: Database, keys: Keys) -> list[APIRouter]:
    """``/v1/ledger``, ``/v1/work-items``."""
    books = APIRouter(prefix="/v1/ledger", tags=["Ledger"])
    items = APIRouter(prefix="/v1/work-items", tags=["Work items"])
    _add_trial_balance(books, database)
    _add_reads(items, database)
    _add_close(items, database, keys)
    return [books, items]


def _add_trial_balance(routes: APIRouter, database: Database) -> None:
    @routes.get(
        "/trial-balance",
        response_model=TrialBalance,
        summary="Get the trial balance",
        description="Debits and credits of every ledger account by currency (minor units);"
        " customers' receivables, credits and unapplied money are one account each.",
        responses={**problems()},
    )
    async def get_trial_balance(caller: CallerRead) -> TrialBalance:
        async with database.transaction(
            READ, tenants=[caller.tenant_id], repeatable_read=True
        ) as tx:
            sums = await trial_balance(tx, tenant_id=caller.tenant_id)
        return TrialBalance(currencies=[TrialBalanceCurrency.of(each) for each in sums])


async def _load(tx: Tx, tenant_id: UUID, work_item_id: UUID) -> WorkItem:
    found = await reads.work_items(tx, [(tenant_id, work_item_id)])
    if not found:
        raise Problem("not_found", detail="There is no such work item.")
    return WorkItem.of(found[tenant_id, work_item_id])


def _add_reads(routes: APIRouter, database: Database) -> None:
    @routes.get(
        "",
        response_model=Page[WorkItem],
        summary="List work items",
        description="What a person has to decide, newest first.",
        responses={**problems("invalid_request")},
    )
    async def list_work_items(
        caller: CallerRead,
        query: PageQuery,
        status: Annotated[Literal["open", "closed"] | None, Query()] = None,
    ) -> Page[WorkItem]:
        before = before_id(query, "wrk")
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            rows = await reads.list_work_items(
                tx, caller.tenant_id, status=status, before=before, limit=query.limit + 1
            )
        found = page(rows, query, key=lambda row: id_key(row, "wrk"))
        return Page(
            data=[WorkItem.of(row) for row in found.data],
            has_more=found.has_more,
            next_cursor=found.next_cursor,
        )

    @routes.get(
        "/{work_item_id}",
        response_model=WorkItem,
        summary="Get a work item",
        description="A work item, closed ones too.",
        responses={**problems("not_found")},
    )
    async def get_work_item(work_item_id: WorkItemId, caller: CallerRead) -> WorkItem:
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            return await _load(tx, caller.tenant_id, work_item_id)


def _add_close(routes: APIRouter, database: Database, keys: Keys) -> None:
    @routes.post(
        "/{work_item_id}/close",
        response_model=WorkItem,
        summary="Close a work item",
        description="Says what was decided; keeps who closed it and why.",
        responses={**problems("not_found", "work_item_closed", "invalid_request", "forbidden")},
    )
    async def close_work_item(
        work_item_id: WorkItemId, body: CloseWorkItem, caller: CallerAdmin, response: Response
    ) -> WorkItem:
        async def work(tx: Tx, _: UUID) -> WorkItem:
            await work_items.close(
                tx,
                tenant_id=caller.tenant_id,
                work_item_id=work_item_id,
                closed_by=caller.principal.id,
                reason=body.reason,
                cause=caller.request_id,
            )
            return await _load(tx, caller.tenant_id, work_item_id)

        async def again(tx: Tx, _: UUID) -> WorkItem:
            return await _load(tx, caller.tenant_id, work_item_id)

        answered = await keys.run(
            database,
            CLOSE_WORK_ITEM,
            caller,
            operation="work_items.close",
            body=body,
            work=work,
            load=again,
            new_id=work_item_id,
        )
        return replayed(response, answered)
