"""Subscriptions: change plan or quantity, see before what it would do, forget a change."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

from fastapi import APIRouter, Response

from subledger.core.errors import CoreError
from subledger.platform.db import Database, Tx
from subledger.platform.http.callers import Caller, CallerAdmin, CallerRead
from subledger.platform.http.idempotency import Keys
from subledger.platform.http.problems import Problem, problems
from subledger.services.billing import facts
from subledger.services.billing.http.replay import replayed
from subledger.services.billing.http.stories import CHANGE_SUBSCRIPTION, READ
from subledger.services.billing.schemas.references import SubscriptionId
from subledger.services.billing.schemas.subscriptions import (
    ChangeNew,
    ChangePreview,
    Subscription,
)
from subledger.services.billing.store import reads
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import change
from subledger.services.billing.usecases.change import ChangeRequest

Load = Callable[[Tx, UUID, UUID], Awaitable[Subscription]]

_REFUSALS = (
    "not_found",
    "subscription_ended",
    "subscription_not_active",
    "nothing_to_change",
    "change_out_of_range",
    "invoice_still_open",
    "unknown_reference",
    "price_missing_for_currency",
    "invalid_request",
)


def _request(caller: Caller, subscription_id: UUID, body: ChangeNew) -> ChangeRequest:
    return ChangeRequest(
        tenant_id=caller.tenant_id,
        subscription_id=subscription_id,
        plan_id=body.plan_id,
        quantity=body.quantity,
        at=body.at,
        settle=body.settle,
        cause=caller.request_id,
    )


def _refused(error: CoreError) -> Problem:
    return Problem("invalid_request", detail=error.detail, pointer="/quantity", fix=error.fix)


def add(
    routes: APIRouter, database: Database, memory: TermsMemory, keys: Keys, *, load: Load
) -> None:
    """``/change``, ``/preview-change``, ``/undo-change`` of ``/v1/subscriptions/{id}``."""
    _add_change(routes, database, memory, keys, load)
    _add_preview(routes, database, memory)
    _add_undo(routes, database, memory, keys, load)


def _add_change(
    routes: APIRouter, database: Database, memory: TermsMemory, keys: Keys, load: Load
) -> None:
    @routes.post(
        "/{subscription_id}/change",
        response_model=Subscription,
        summary="Change a subscription",
        description="Another plan, the plan's newest version, or another quantity: now, at a"
        " moment past or future, or at the period's end. Inside a period the unused part of what"
        " was billed is credited and the rest charged anew, by days or to the second. What gives"
        " back more than it costs becomes credit that pays for later invoices. A change that waits"
        " for its moment is replaced.",
        responses={**problems(*_REFUSALS, "forbidden")},
    )
    async def change_subscription(
        subscription_id: SubscriptionId, body: ChangeNew, caller: CallerAdmin, response: Response
    ) -> Subscription:
        async def work(tx: Tx, _: UUID) -> Subscription:
            try:
                await change.change(tx, memory, _request(caller, subscription_id, body))
            except CoreError as refused:
                raise _refused(refused) from refused
            return await load(tx, caller.tenant_id, subscription_id)

        async def again(tx: Tx, _: UUID) -> Subscription:
            return await load(tx, caller.tenant_id, subscription_id)

        answered = await keys.run(
            database,
            CHANGE_SUBSCRIPTION,
            caller,
            operation="subscriptions.change",
            body=body,
            work=work,
            load=again,
            new_id=subscription_id,
        )
        return replayed(response, answered)


def _add_preview(routes: APIRouter, database: Database, memory: TermsMemory) -> None:
    @routes.post(
        "/{subscription_id}/preview-change",
        response_model=ChangePreview,
        summary="Preview a change",
        description="The lines and the total that the same change would bill now. Nothing is"
        " saved.",
        responses={**problems(*_REFUSALS)},
    )
    async def preview_change(
        subscription_id: SubscriptionId, body: ChangeNew, caller: CallerRead
    ) -> ChangePreview:
        tenant_id = caller.tenant_id
        async with database.transaction(READ, tenants=[tenant_id]) as tx:
            try:
                planned = await change.preview(tx, memory, _request(caller, subscription_id, body))
            except CoreError as refused:
                raise _refused(refused) from refused
            lines = () if planned.draft is None else planned.draft.lines
            prices = await reads.prices(tx, {(tenant_id, UUID(each.price_id)) for each in lines})
        described = {
            str(row.id): facts.price_text(row.plan_name, row.code) for row in prices.values()
        }
        return ChangePreview.of(planned, described)


def _add_undo(
    routes: APIRouter, database: Database, memory: TermsMemory, keys: Keys, load: Load
) -> None:
    @routes.post(
        "/{subscription_id}/undo-change",
        response_model=Subscription,
        summary="Forget a scheduled change",
        description="The subscription goes on as it is.",
        responses={
            **problems("not_found", "subscription_ended", "change_not_scheduled", "forbidden")
        },
    )
    async def undo_change(
        subscription_id: SubscriptionId, caller: CallerAdmin, response: Response
    ) -> Subscription:
        async def work(tx: Tx, _: UUID) -> Subscription:
            await change.undo_change(
                tx,
                memory,
                tenant_id=caller.tenant_id,
                subscription_id=subscription_id,
                cause=caller.request_id,
            )
            return await load(tx, caller.tenant_id, subscription_id)

        async def again(tx: Tx, _: UUID) -> Subscription:
            return await load(tx, caller.tenant_id, subscription_id)

        answered = await keys.run(
            database,
            CHANGE_SUBSCRIPTION,
            caller,
            operation="subscriptions.undo_change",
            body=None,
            work=work,
            load=again,
            new_id=subscription_id,
        )
        return replayed(response, answered)
