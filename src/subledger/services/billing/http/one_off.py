"""Subscriptions: one-off charges."""

from __future__ import annotations

from fastapi import APIRouter, Response

from subledger.core.errors import CoreError
from subledger.platform.db import Tx
from subledger.platform.http.callers import CallerAdmin
from subledger.platform.http.problems import problems
from subledger.services.billing.http.changes import Actions, refused
from subledger.services.billing.schemas.quantities import OneOffCharge
from subledger.services.billing.schemas.references import SubscriptionId
from subledger.services.billing.schemas.subscriptions import Subscription
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import one_off


def add(routes: APIRouter, actions: Actions, memory: TermsMemory) -> None:
    """``/charges`` of ``/v1/subscriptions/{id}``."""

    @routes.post(
        "/{subscription_id}/charges",
        response_model=Subscription,
        summary="Charge once",
        description="A price of the catalogue with timing `once` on an invoice of its own, which is"
        " collected like a renewal's. Discounts do not apply, and no later change takes it back: a"
        " credit note does.",
        responses={
            **problems(
                *("not_found", "subscription_ended", "subscription_not_active"),
                *("unknown_reference", "price_missing_for_currency", "invalid_request"),
                *("billing_limit_exceeded", "forbidden"),
            )
        },
    )
    async def charge_once(
        subscription_id: SubscriptionId, body: OneOffCharge, caller: CallerAdmin, response: Response
    ) -> Subscription:
        async def do(tx: Tx) -> None:
            try:
                await one_off.charge_once(
                    tx,
                    memory,
                    tenant_id=caller.tenant_id,
                    subscription_id=subscription_id,
                    price_id=body.price_id,
                    quantity=body.quantity,
                    cause=caller.request_id,
                )
            except CoreError as wrong:
                raise refused(wrong, "/quantity") from wrong

        return await actions.act(caller, response, subscription_id, "charge", body, do)
