"""Disputes: the tenant's access policy. Disputes themselves are payments' (``/v1/disputes``)."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Response

from subledger.platform.db import Database, Tx
from subledger.platform.http.callers import CallerAdmin, CallerRead
from subledger.platform.http.idempotency import Keys
from subledger.platform.http.problems import problems
from subledger.platform.http.replay import replayed
from subledger.services.billing.http.stories import READ, SAVE_CUSTOMER
from subledger.services.billing.schemas.disputes import DisputePolicy
from subledger.services.billing.store import disputes as store
from subledger.services.billing.usecases import disputes


async def _policy(tx: Tx, tenant_id: UUID) -> DisputePolicy:
    return DisputePolicy.model_validate({"on_dispute": await store.policy(tx, tenant_id)})


def router(database: Database, keys: Keys) -> APIRouter:
    """``/v1/dispute-policy``."""
    routes = APIRouter(prefix="/v1/dispute-policy", tags=["Disputes"])

    @routes.get(
        "",
        response_model=DisputePolicy,
        summary="Get the dispute policy",
        description="What becomes of access while a payment is disputed.",
        responses={**problems()},
    )
    async def get_dispute_policy(caller: CallerRead) -> DisputePolicy:
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            return await _policy(tx, caller.tenant_id)

    @routes.put(
        "",
        response_model=DisputePolicy,
        summary="Replace the dispute policy",
        description="Holds for disputes that are opened from now on.",
        responses={**problems("invalid_request", "forbidden")},
    )
    async def put_dispute_policy(
        body: DisputePolicy, caller: CallerAdmin, response: Response
    ) -> DisputePolicy:
        async def work(tx: Tx, _: UUID) -> DisputePolicy:
            await disputes.set_policy(tx, tenant_id=caller.tenant_id, on_dispute=body.on_dispute)
            return await _policy(tx, caller.tenant_id)

        async def again(tx: Tx, _: UUID) -> DisputePolicy:
            return await _policy(tx, caller.tenant_id)

        answered = await keys.run(
            database,
            SAVE_CUSTOMER,
            caller,
            operation="dispute_policy.put",
            body=body,
            work=work,
            load=again,
        )
        return replayed(response, answered)

    return routes
