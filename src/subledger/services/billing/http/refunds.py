"""Refunds: the tenant's policy. Refunds themselves are payments' (``/v1/refunds``)."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Response

from subledger.platform.db import Database, Tx
from subledger.platform.http.callers import CallerAdmin, CallerRead
from subledger.platform.http.idempotency import Keys
from subledger.platform.http.problems import problems
from subledger.platform.http.replay import replayed
from subledger.services.billing.http.stories import READ, SAVE_CUSTOMER
from subledger.services.billing.schemas.refunds import RefundPolicy
from subledger.services.billing.store import refunds as store
from subledger.services.billing.usecases import refund_endings


async def _policy(tx: Tx, tenant_id: UUID) -> RefundPolicy:
    return RefundPolicy.model_validate({"on_outside_refund": await store.policy(tx, tenant_id)})


def router(database: Database, keys: Keys) -> APIRouter:
    """``/v1/refund-policy``."""
    routes = APIRouter(prefix="/v1/refund-policy", tags=["Refunds"])

    @routes.get(
        "",
        response_model=RefundPolicy,
        summary="Get the refund policy",
        description="What a refund made at the provider does to the subscription.",
        responses={**problems()},
    )
    async def get_refund_policy(caller: CallerRead) -> RefundPolicy:
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            return await _policy(tx, caller.tenant_id)

    @routes.put(
        "",
        response_model=RefundPolicy,
        summary="Replace the refund policy",
        description="Holds for refunds that are found from now on.",
        responses={**problems("invalid_request", "forbidden")},
    )
    async def put_refund_policy(
        body: RefundPolicy, caller: CallerAdmin, response: Response
    ) -> RefundPolicy:
        async def work(tx: Tx, _: UUID) -> RefundPolicy:
            await refund_endings.set_policy(
                tx, tenant_id=caller.tenant_id, on_outside_refund=body.on_outside_refund
            )
            return await _policy(tx, caller.tenant_id)

        async def again(tx: Tx, _: UUID) -> RefundPolicy:
            return await _policy(tx, caller.tenant_id)

        answered = await keys.run(
            database,
            SAVE_CUSTOMER,
            caller,
            operation="refund_policy.put",
            body=body,
            work=work,
            load=again,
        )
        return replayed(response, answered)

    return routes
