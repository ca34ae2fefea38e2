"""Subscriptions: pause and resume, see before what it would do, forget a pause that waits."""

from __future__ import annotations

from fastapi import APIRouter, Response

from subledger.core.errors import CoreError
from subledger.platform.db import Database, Tx
from subledger.platform.http.callers import Caller, CallerAdmin, CallerRead
from subledger.platform.http.problems import problems
from subledger.services.billing.http.changes import Actions, descriptions, refused
from subledger.services.billing.http.stories import READ
from subledger.services.billing.schemas.pauses import Pause, PausePreview, Resume
from subledger.services.billing.schemas.references import SubscriptionId
from subledger.services.billing.schemas.subscriptions import Subscription
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import pause, resume
from subledger.services.billing.usecases.pause import PauseRequest
from subledger.services.billing.usecases.resume import ResumeRequest

_NOW = Resume()
"""Of a request without a body."""

_PAUSING = (
    "not_found",
    "subscription_ended",
    "subscription_not_active",
    "subscription_paused",
    "pause_out_of_range",
    "renewal_under_way",
    "invoice_still_open",
    "invalid_request",
)
_RESUMING = (
    "not_found",
    "subscription_ended",
    "subscription_not_paused",
    "pause_out_of_range",
    "invalid_request",
)


def add(routes: APIRouter, actions: Actions, memory: TermsMemory) -> None:
    """``/pause``, ``/preview-pause``, ``/undo-pause``, ``/resume`` and ``/preview-resume`` of
    ``/v1/subscriptions/{id}``."""
    _add_pause(routes, actions, memory)
    _add_undo(routes, actions, memory)
    _add_resume(routes, actions, memory)
    _add_previews(routes, actions.database, memory)


def _pause(caller: Caller, subscription_id: SubscriptionId, body: Pause) -> PauseRequest:
    return PauseRequest(
        tenant_id=caller.tenant_id,
        subscription_id=subscription_id,
        at=body.at,
        credit=body.credit,
        resume_at=body.resume_at,
        cause=caller.request_id,
    )


def _resume(caller: Caller, subscription_id: SubscriptionId, body: Resume) -> ResumeRequest:
    return ResumeRequest(
        tenant_id=caller.tenant_id,
        subscription_id=subscription_id,
        at=body.at,
        cause=caller.request_id,
    )


def _add_pause(routes: APIRouter, actions: Actions, memory: TermsMemory) -> None:
    @routes.post(
        "/{subscription_id}/pause",
        response_model=Subscription,
        summary="Pause a subscription",
        description="Now, at the period's end or at a date, until it is resumed by hand or at"
        " `resume_at`. While it is paused nothing is billed and nothing may be used; what it owes"
        " is collected as before. `credit` says what becomes of the part of the period that was"
        " paid for and not used. A pause that waited is replaced.",
        responses={**problems(*_PAUSING, "forbidden")},
    )
    async def pause_subscription(
        subscription_id: SubscriptionId, body: Pause, caller: CallerAdmin, response: Response
    ) -> Subscription:
        async def do(tx: Tx) -> None:
            try:
                await pause.pause(tx, memory, _pause(caller, subscription_id, body))
            except CoreError as wrong:
                raise refused(wrong) from wrong

        return await actions.act(caller, response, subscription_id, "pause", body, do)


def _add_undo(routes: APIRouter, actions: Actions, memory: TermsMemory) -> None:
    @routes.post(
        "/{subscription_id}/undo-pause",
        response_model=Subscription,
        summary="Forget a scheduled pause",
        description="The subscription goes on as it is. A pause that has begun is ended by"
        " `/resume`.",
        responses={
            **problems("not_found", "subscription_ended", "pause_not_scheduled", "forbidden")
        },
    )
    async def undo_pause(
        subscription_id: SubscriptionId, caller: CallerAdmin, response: Response
    ) -> Subscription:
        async def do(tx: Tx) -> None:
            await pause.undo_pause(
                tx,
                memory,
                tenant_id=caller.tenant_id,
                subscription_id=subscription_id,
                cause=caller.request_id,
            )

        return await actions.act(caller, response, subscription_id, "undo_pause", None, do)


def _add_resume(routes: APIRouter, actions: Actions, memory: TermsMemory) -> None:
    @routes.post(
        "/{subscription_id}/resume",
        response_model=Subscription,
        summary="Resume a subscription",
        description="Now, or at a date, which replaces the one that was planned. After `extend`"
        " the period ends later and nothing is charged, but for the renewal if nothing was left of"
        " it. Otherwise the cycle keeps its grid: what is"
        " left of a period that is still running is charged anew if it was given back; if it is"
        " over, the period that runs by now is charged from this moment on, by its share.",
        responses={**problems(*_RESUMING, "forbidden")},
    )
    async def resume_subscription(
        subscription_id: SubscriptionId,
        caller: CallerAdmin,
        response: Response,
        body: Resume = _NOW,
    ) -> Subscription:
        async def do(tx: Tx) -> None:
            try:
                await resume.resume(tx, memory, _resume(caller, subscription_id, body))
            except CoreError as wrong:
                raise refused(wrong) from wrong

        return await actions.act(caller, response, subscription_id, "resume", body, do)


def _add_previews(routes: APIRouter, database: Database, memory: TermsMemory) -> None:
    @routes.post(
        "/{subscription_id}/preview-pause",
        response_model=PausePreview,
        summary="Preview a pause",
        description="What the same pause would give back now. Nothing is saved.",
        responses={**problems(*_PAUSING)},
    )
    async def preview_pause(
        subscription_id: SubscriptionId, body: Pause, caller: CallerRead
    ) -> PausePreview:
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            try:
                planned = await pause.preview(tx, memory, _pause(caller, subscription_id, body))
            except CoreError as wrong:
                raise refused(wrong) from wrong
            described = await descriptions(tx, caller.tenant_id, planned.draft)
        return PausePreview.of(planned, described)

    @routes.post(
        "/{subscription_id}/preview-resume",
        response_model=PausePreview,
        summary="Preview a resumption",
        description="What the same resumption would charge now, and where the period would end."
        " Nothing is saved.",
        responses={**problems(*_RESUMING)},
    )
    async def preview_resume(
        subscription_id: SubscriptionId, caller: CallerRead, body: Resume = _NOW
    ) -> PausePreview:
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            try:
                planned = await resume.preview(tx, memory, _resume(caller, subscription_id, body))
            except CoreError as wrong:
                raise refused(wrong) from wrong
            described = await descriptions(tx, caller.tenant_id, planned.draft)
        return PausePreview.of(planned, described)
