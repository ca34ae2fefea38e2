"""Subscriptions: another billing anchor."""

from __future__ import annotations

from fastapi import APIRouter, Response

from subledger.core.errors import CoreError
from subledger.platform.db import Tx
from subledger.platform.http.callers import CallerAdmin
from subledger.platform.http.problems import problems
from subledger.services.billing.http.changes import Actions, refused
from subledger.services.billing.schemas.anchors import AnchorChange
from subledger.services.billing.schemas.references import SubscriptionId
from subledger.services.billing.schemas.subscriptions import Subscription
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import reanchor


def add(routes: APIRouter, actions: Actions, memory: TermsMemory) -> None:
    """``/change-anchor`` of ``/v1/subscriptions/{id}``."""

    @routes.post(
        "/{subscription_id}/change-anchor",
        response_model=Subscription,
        summary="Change a subscription's billing anchor",
        description="From the change on, periods begin on another day: now, at the period's end,"
        " on the new anchor's next day, or at a given moment. A period that is cut gives back what"
        " is unused of it, and the time up to the first new boundary is charged, by the"
        " subscription's proration. To be seen before by preview-change with `billing_anchor` (and"
        " `at`); one that waits is forgotten by undo-change.",
        responses={
            **problems(
                "not_found",
                "subscription_ended",
                "subscription_not_active",
                "change_out_of_range",
                "billing_anchor_does_not_fit",
                "invoice_still_open",
                "tax_rate_missing",
                "tax_location_missing",
                "tax_unavailable",
                "invalid_request",
                "forbidden",
            )
        },
    )
    async def change_anchor(
        subscription_id: SubscriptionId, body: AnchorChange, caller: CallerAdmin, response: Response
    ) -> Subscription:
        async def do(tx: Tx) -> None:
            try:
                await reanchor.change_anchor(
                    tx,
                    memory,
                    tenant_id=caller.tenant_id,
                    subscription_id=subscription_id,
                    billing_anchor=body.billing_anchor.text(),
                    when=body.moment(),
                    cause=caller.request_id,
                )
            except CoreError as wrong:
                raise refused(wrong, "/billing_anchor") from wrong

        return await actions.act(caller, response, subscription_id, "change_anchor", body, do)
