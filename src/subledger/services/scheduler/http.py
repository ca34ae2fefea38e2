"""The scheduler's routes: the tenant's dunning policy."""

from __future__ import annotations

from fastapi import APIRouter

from subledger.platform.db import Database, Tx, story
from subledger.platform.http.callers import CallerAdmin, CallerRead
from subledger.platform.http.problems import problems
from subledger.services.scheduler import store
from subledger.services.scheduler.schemas import DunningPolicy

_READ = story("scheduler.read_policy", reads=True)
_SET = story("scheduler.set_policy")


def router(database: Database) -> APIRouter:
    """``GET`` and ``PUT /v1/dunning-policy``."""
    routes = APIRouter(prefix="/v1/dunning-policy", tags=["Dunning"])

    @routes.get(
        "",
        response_model=DunningPolicy,
        summary="Get the dunning policy",
        description="The policy of your tenant; the default one (after 1, 3, 5 and 7 days, then"
        " `cancel`) until you set your own.",
        responses={**problems("unauthorized")},
    )
    async def get_policy(caller: CallerRead) -> DunningPolicy:
        async with database.transaction(_READ, tenants=[caller.tenant_id]) as tx:
            found = await store.policies(tx, [caller.tenant_id])
        return DunningPolicy.of(found[caller.tenant_id])

    @routes.put(
        "",
        response_model=DunningPolicy,
        summary="Set the dunning policy",
        description="Replaces the policy. It decides what follows the next failure, also of"
        " invoices that are in dunning already; a retry that is planned keeps its moment.",
        responses={**problems("forbidden", "invalid_request")},
    )
    async def put_policy(body: DunningPolicy, caller: CallerAdmin) -> DunningPolicy:
        wanted = body.policy()

        async def save(tx: Tx) -> None:
            at = await tx.now(caller.tenant_id)
            await store.save_policy(tx, caller.tenant_id, wanted, at=at)

        await database.transact(_SET, save, tenants=[caller.tenant_id])
        return DunningPolicy.of(wanted)

    return routes
