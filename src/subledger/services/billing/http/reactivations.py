"""Subscriptions: begin again what has ended."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Response

from subledger.contracts.calls import Call
from subledger.contracts.checkouts import Checkouts
from subledger.core.errors import CoreError
from subledger.platform.db import Tx
from subledger.platform.http.callers import CallerAdmin
from subledger.platform.http.problems import foreign_return_url, problems
from subledger.platform.http.replay import replayed
from subledger.services.billing.flows.buy import Buyers
from subledger.services.billing.http import outcomes
from subledger.services.billing.http.changes import Actions, refused
from subledger.services.billing.http.stories import SUBSCRIBE
from subledger.services.billing.schemas.pauses import Reactivate
from subledger.services.billing.schemas.references import SubscriptionId
from subledger.services.billing.schemas.subscriptions import Purchase
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import reactivate
from subledger.services.billing.usecases.reactivate import ReactivateRequest

_AS_IT_WAS = Reactivate.model_validate({})
"""Of a request without a body."""


def add(
    routes: APIRouter,
    buyers: Buyers,
    checkouts: Checkouts,
    actions: Actions,
    memory: TermsMemory,
) -> None:
    """``/v1/subscriptions/{id}/reactivate``."""

    @routes.post(
        "/{subscription_id}/reactivate",
        response_model=Purchase,
        summary="Reactivate a subscription",
        description="An ended subscription lives again, with its quantity and discounts as they"
        " stand. If a part of the period was charged and neither served nor given back, the period"
        " goes on and nothing is billed. Otherwise a new cycle begins now: its first invoice is"
        " collected as for a new subscription, with the same answers and refusals.",
        responses={
            **problems(
                "payment_declined",
                "not_found",
                "subscription_not_ended",
                "customer_deleted",
                "invoice_still_open",
                *("price_missing_for_currency", "billing_anchor_does_not_fit"),
                *("return_url_not_allowed", "invalid_request", "forbidden"),
            )
        },
    )
    async def reactivate_subscription(
        subscription_id: SubscriptionId, caller: CallerAdmin, response: Response,
        body: Reactivate = _AS_IT_WAS,
    ) -> Purchase:  # fmt: skip
        request = ReactivateRequest(
            tenant_id=caller.tenant_id,
            subscription_id=subscription_id,
            version=body.version,
            collection=body.collection,
            return_url=body.return_url,
            cause=caller.request_id,
        )

        returns_to = body.return_url
        allowed = returns_to is None or await checkouts.return_allowed(
            Call(caller.tenant_id), returns_to
        )

        async def work(tx: Tx, _subscription_id: UUID) -> None:
            if not allowed:  # here: a repeated request gets its first answer
                raise foreign_return_url()
            try:
                await reactivate.reactivate(tx, memory, request)
            except CoreError as wrong:
                raise refused(wrong) from wrong

        async def again(_tx: Tx, _subscription_id: UUID) -> None:
            return None

        answered = await actions.keys.run(
            actions.database,
            SUBSCRIBE,
            caller,
            operation="subscriptions.reactivate",
            body=body,
            work=work,
            load=again,
            new_id=subscription_id,
        )
        replayed(response, answered)
        return await outcomes.waited(buyers, caller, subscription_id)
