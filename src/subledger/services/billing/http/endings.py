"""Subscriptions: cancel now, at the period's end or at a date, and keep what was to end."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Response

from subledger.core.errors import CoreError
from subledger.platform.db import Tx
from subledger.platform.http.callers import CallerAdmin
from subledger.platform.http.problems import Problem, problems
from subledger.services.billing.http.changes import Actions, refused
from subledger.services.billing.schemas.pauses import Cancel
from subledger.services.billing.schemas.references import SubscriptionId
from subledger.services.billing.schemas.subscriptions import Subscription
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import cancel
from subledger.services.billing.usecases.cancel import CancelRequest


def add(routes: APIRouter, actions: Actions, memory: TermsMemory) -> None:
    """``/cancel`` and ``/undo-cancel`` of ``/v1/subscriptions/{id}``."""
    _add_cancel(routes, actions, memory)
    _add_undo_cancel(routes, actions, memory)


def _moment(body: Cancel) -> datetime | Literal["now", "period_end"]:
    if body.when is not None and body.at is None:
        return body.when
    if body.at is not None and body.when is None:
        return body.at
    raise Problem(
        "invalid_request",
        pointer="/when",
        detail="Say when it ends by `when` or by `at`, one of them.",
        fix='Send {"when": "now"}, {"when": "period_end"}, or {"at": "2026-03-16T12:00:00Z"}.',
    )


def _add_cancel(routes: APIRouter, actions: Actions, memory: TermsMemory) -> None:
    @routes.post(
        "/{subscription_id}/cancel",
        response_model=Subscription,
        summary="Cancel a subscription",
        description="`period_end` lets it run until what is paid for is over; `now` ends it at"
        " once; `at` ends it at a date, and a later period that this cuts is billed cut. A"
        " subscription that was never paid ends at once, and its invoice is voided. Changes that"
        " waited for the next invoice are billed by a last one; with `credit_unused` it gives the"
        " rest of the period back as credit. A cancellation that waited is replaced.",
        responses={
            **problems(
                "not_found",
                "subscription_ended",
                "invoice_reserved",
                "invoice_still_open",
                "cancellation_out_of_range",
                "invalid_request",
                "forbidden",
            ),
        },
    )
    async def cancel_subscription(
        subscription_id: SubscriptionId, body: Cancel, caller: CallerAdmin, response: Response
    ) -> Subscription:
        request = CancelRequest(
            tenant_id=caller.tenant_id,
            subscription_id=subscription_id,
            at=_moment(body),
            credit_unused=body.credit_unused,
            reason=body.reason,
            comment=body.comment,
            cause=caller.request_id,
        )

        async def do(tx: Tx) -> None:
            try:
                await cancel.cancel(tx, memory, request)
            except CoreError as wrong:
                raise refused(wrong) from wrong

        return await actions.act(caller, response, subscription_id, "cancel", body, do)


def _add_undo_cancel(routes: APIRouter, actions: Actions, memory: TermsMemory) -> None:
    @routes.post(
        "/{subscription_id}/undo-cancel",
        response_model=Subscription,
        summary="Keep a subscription",
        description="Takes back a cancellation at the period's end or at a date. What was billed"
        " only up to that date is billed up to the period's end now.",
        responses={
            **problems(
                "not_found",
                "subscription_ended",
                "cancellation_not_scheduled",
                "invalid_request",
                "forbidden",
            ),
        },
    )
    async def undo_cancel(
        subscription_id: SubscriptionId, caller: CallerAdmin, response: Response
    ) -> Subscription:
        async def do(tx: Tx) -> None:
            try:
                await cancel.undo_cancel(
                    tx,
                    memory,
                    tenant_id=caller.tenant_id,
                    subscription_id=subscription_id,
                    cause=caller.request_id,
                )
            except CoreError as wrong:
                raise refused(wrong) from wrong

        return await actions.act(caller, response, subscription_id, "undo_cancel", None, do)
