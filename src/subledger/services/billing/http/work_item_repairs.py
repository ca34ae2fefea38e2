"""Repairing what a work item is about, in one call."""

from __future__ import annotations

import asyncio
import time
from uuid import UUID

from fastapi import APIRouter

from subledger.contracts.calls import Call
from subledger.contracts.repairs import RepairAnswer, RepairRequest, Repairs
from subledger.platform.db import Database
from subledger.platform.http.callers import Caller, CallerAdmin
from subledger.platform.http.problems import Problem, problems
from subledger.services.billing import problems as refusals
from subledger.services.billing.http.stories import READ
from subledger.services.billing.schemas.ledger import RepairWorkItem, WorkItem
from subledger.services.billing.schemas.references import WorkItemId
from subledger.services.billing.store import accounts, reads, reconciled

_LOOK_AGAIN_S, _MOST_S = 0.05, 2.0
_REFUSALS = {
    "unknown": "There is nothing to be repaired in it.",
    "no_such_action": "It cannot be repaired by this action.",
    "no_customer": "Say by customer_id whose money it is: a customer that payments knows.",
    "no_reference": "Say by reference what it is known from.",
    "refunded": "Money of the payment went back, or is about to: settle its refunds first.",
}


def router(database: Database, repairs: Repairs) -> APIRouter:
    """``/v1/work-items/{work_item_id}/repair``."""
    routes = APIRouter(prefix="/v1/work-items", tags=["Work items"])

    @routes.post(
        "/{work_item_id}/repair",
        response_model=WorkItem,
        summary="Repair what a work item is about",
        description="Does the one right thing about what reconciliation found, or the action named."
        " Asked again for what is repaired it changes nothing. The item closes by itself.",
        responses={
            **problems(
                "not_found",
                "forbidden",
                "invalid_request",
                refusals.UNKNOWN_REFERENCE,
                refusals.WORK_ITEM_NOT_REPAIRABLE,
                refusals.REPAIR_UNSURE,
            )
        },
    )
    async def repair_work_item(
        work_item_id: WorkItemId, body: RepairWorkItem, caller: CallerAdmin
    ) -> WorkItem:
        item, difference = await _load(database, caller, work_item_id)
        if body.customer_id is not None:
            await _require_customer(database, caller, body.customer_id)
        if item.status == "closed":
            return item
        answer = RepairAnswer(done=False, refusal="unknown")
        if difference is not None:
            request = RepairRequest(
                difference_id=difference,
                action=body.action,
                by=caller.principal.id,
                reference=body.reference,
                customer_id=body.customer_id,
            )
            answer = await repairs.repair(Call(caller.tenant_id, caller.request_id), request)
        _refuse(answer)
        until_s = time.monotonic() + min(caller.wait_s, _MOST_S)
        while item.status == "open" and time.monotonic() < until_s:
            await asyncio.sleep(_LOOK_AGAIN_S)
            item, _ = await _load(database, caller, work_item_id)
        return item

    return routes


async def _require_customer(database: Database, caller: Caller, customer_id: UUID) -> None:
    """Raises unknown_reference for a customer that does not exist (any more)."""
    key = (caller.tenant_id, customer_id)
    async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
        known = (await accounts.customers(tx, [key])).get(key)
    if known is None or known.deleted_at is not None:
        raise Problem(
            refusals.UNKNOWN_REFERENCE, pointer="/customer_id", detail="There is no such customer."
        )


async def _load(
    database: Database, caller: Caller, work_item_id: UUID
) -> tuple[WorkItem, UUID | None]:
    key = (caller.tenant_id, work_item_id)
    async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
        row = (await reads.work_items(tx, [key])).get(key)
        difference = None if row is None else await reconciled.difference_of(tx, key)
    if row is None:
        raise Problem("not_found", detail="There is no such work item.")
    return WorkItem.of(row), difference


def _refuse(answer: RepairAnswer) -> None:
    if answer.done or answer.refusal == "closed":
        return
    if answer.refusal == "unsure":
        raise Problem(
            refusals.REPAIR_UNSURE, detail="The provider gave no definite answer; it stays open."
        )
    raise Problem(refusals.WORK_ITEM_NOT_REPAIRABLE, detail=_REFUSALS[answer.refusal or "unknown"])
