"""Subscriptions: change, take it back, and see before what it would do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

from fastapi import APIRouter, Response

from subledger.core.errors import CoreError
from subledger.core.timeline import Draft
from subledger.platform.db import Database, Tx
from subledger.platform.http.callers import Caller, CallerAdmin, CallerRead
from subledger.platform.http.fields import Strict
from subledger.platform.http.idempotency import Keys
from subledger.platform.http.problems import Problem, problems
from subledger.platform.http.replay import replayed
from subledger.services.billing import facts
from subledger.services.billing.http.stories import CHANGE_SUBSCRIPTION, READ
from subledger.services.billing.schemas.guard import ReleaseRun
from subledger.services.billing.schemas.references import SubscriptionId
from subledger.services.billing.schemas.subscriptions import (
    ChangeNew,
    Subscription,
)
from subledger.services.billing.schemas.upcoming import ChangePreview
from subledger.services.billing.store import reads
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import change, taxes, unpark
from subledger.services.billing.usecases.change import ChangeRequest

Load = Callable[[Tx, UUID, UUID], Awaitable[Subscription]]

_REFUSALS = (
    "not_found",
    "subscription_ended",
    "subscription_not_active",
    "subscription_paused",
    "nothing_to_change",
    "change_out_of_range",
    "invoice_still_open",
    "unknown_reference",
    "price_missing_for_currency",
    "billing_anchor_does_not_fit",
    "billing_limit_exceeded",
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
        billing_anchor=None if body.billing_anchor is None else body.billing_anchor.text(),
    )


async def descriptions(tx: Tx, tenant_id: UUID, draft: Draft | None) -> dict[str, str]:
    """What the lines of a draft are for, by the id of their price."""
    lines = () if draft is None else draft.lines
    prices = await reads.prices(tx, {(tenant_id, UUID(each.price_id)) for each in lines})
    return {str(row.id): facts.price_text(row.plan_name, row.code) for row in prices.values()}


def refused(error: CoreError, pointer: str | None = None) -> Problem:
    """What the core refuses, as a problem; ``pointer`` is the field to blame, if it is one."""
    told = taxes.problem(error)
    if told is not None:
        return told
    return Problem("invalid_request", detail=error.detail, pointer=pointer, fix=error.fix)


@dataclass(frozen=True, slots=True)
class Actions:
    """What the routes that act on one subscription share: each takes an idempotency key and
    answers the subscription as it is afterwards."""

    database: Database
    keys: Keys
    load: Load

    async def act(
        self,
        caller: Caller,
        response: Response,
        subscription_id: UUID,
        name: str,
        body: Strict | None,
        do: Callable[[Tx], Awaitable[None]],
    ) -> Subscription:
        """``do`` it once for the key; the same request again answers without doing."""

        async def work(tx: Tx, _: UUID) -> Subscription:
            await do(tx)
            return await self.load(tx, caller.tenant_id, subscription_id)

        async def again(tx: Tx, _: UUID) -> Subscription:
            return await self.load(tx, caller.tenant_id, subscription_id)

        answered = await self.keys.run(
            self.database,
            CHANGE_SUBSCRIPTION,
            caller,
            operation=f"subscriptions.{name}",
            body=body,
            work=work,
            load=again,
            new_id=subscription_id,
        )
        return replayed(response, answered)


def add(routes: APIRouter, actions: Actions, memory: TermsMemory) -> None:
    """``/change``, ``/preview-change``, ``/undo-change`` and ``/release`` of
    ``/v1/subscriptions/{id}``."""
    _add_change(routes, actions, memory)
    _add_preview(routes, actions.database, memory)
    _add_undo(routes, actions, memory)
    _add_release(routes, actions)


def _add_change(routes: APIRouter, actions: Actions, memory: TermsMemory) -> None:
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
        async def do(tx: Tx) -> None:
            try:
                await change.change(tx, memory, _request(caller, subscription_id, body))
            except CoreError as wrong:
                raise refused(wrong, "/quantity") from wrong

        return await actions.act(caller, response, subscription_id, "change", body, do)


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
            except CoreError as wrong:
                raise refused(wrong, "/quantity") from wrong
            described = await descriptions(tx, tenant_id, planned.draft)
        return ChangePreview.of(planned, described)


def _add_undo(routes: APIRouter, actions: Actions, memory: TermsMemory) -> None:
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
        async def do(tx: Tx) -> None:
            await change.undo_change(
                tx,
                memory,
                tenant_id=caller.tenant_id,
                subscription_id=subscription_id,
                cause=caller.request_id,
            )

        return await actions.act(caller, response, subscription_id, "undo_change", None, do)


def _add_release(routes: APIRouter, actions: Actions) -> None:
    @routes.post(
        "/{subscription_id}/release",
        response_model=Subscription,
        summary="Release a parked subscription",
        description="Its renewal is due again, and is billed once. With `most_minor` this run may"
        " bill so much whatever the tenant's largest invoice is; without, what parked it may park"
        " it again. Closes the work item; keeps who released it and why.",
        responses={
            **problems(
                "not_found",
                "subscription_ended",
                "subscription_not_parked",
                "invalid_request",
                "forbidden",
            ),
        },
    )
    async def release_subscription(
        subscription_id: SubscriptionId, body: ReleaseRun, caller: CallerAdmin, response: Response
    ) -> Subscription:
        async def do(tx: Tx) -> None:
            await unpark.release_run(
                tx,
                tenant_id=caller.tenant_id,
                subscription_id=subscription_id,
                most_minor=body.most_minor,
                reason=body.reason,
                by=caller.principal.id,
                cause=caller.request_id,
            )

        return await actions.act(caller, response, subscription_id, "release", body, do)
