"""Routes of the tenant's dunning policies."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from fastapi import APIRouter, Response

from subledger.contracts.calls import Call
from subledger.contracts.catalogues import Catalogues
from subledger.core.errors import InvalidPolicy
from subledger.platform import ids
from subledger.platform.db import Database, Tx, story
from subledger.platform.http.callers import Caller, CallerAdmin, CallerRead
from subledger.platform.http.idempotency import Answered, Keys
from subledger.platform.http.pages import Page, PageAsked, PageQuery, page
from subledger.platform.http.problems import UNKNOWN_REFERENCE, Problem, problems
from subledger.platform.http.replay import replayed
from subledger.services.scheduler import problems as refusals
from subledger.services.scheduler.schemas import (
    DunningPolicy,
    NamedDunningPolicy,
    NewDunningPolicy,
    PolicyId,
)
from subledger.services.scheduler.store import policies as store
from subledger.services.scheduler.usecases import policies

_READ = story("scheduler.read_policies", reads=True)
_SET = story("scheduler.set_policy")
_LAST = UUID(int=(1 << 128) - 1)
_REFUSED = (
    *("forbidden", "invalid_request", "idempotency_in_progress", "idempotency_key_reused"),
    *(UNKNOWN_REFERENCE, refusals.INVALID_POLICY, refusals.NAME_TAKEN),
)
_HOLDS = (
    " A collection that has begun goes on by the version with which it began; the new one holds"
    " for invoices whose first payment fails from now on."
)


def default_router(database: Database, catalogues: Catalogues) -> APIRouter:
    """``GET`` and ``PUT /v1/dunning-policy``."""
    routes = APIRouter(prefix="/v1/dunning-policy", tags=["Dunning"])

    @routes.get(
        "",
        response_model=DunningPolicy,
        summary="Get the default dunning policy",
        description="It holds where none of `/v1/dunning-policies` fits: after 1, 3, 5 and 7 days,"
        " then `cancel`, until you set your own.",
        responses={**problems("unauthorized")},
    )
    async def get_policy(caller: CallerRead) -> DunningPolicy:
        async with database.transaction(_READ, tenants=[caller.tenant_id]) as tx:
            found = await store.shelves(tx, [caller.tenant_id])
        return DunningPolicy.of(found[caller.tenant_id].default.terms)

    @routes.put(
        "",
        response_model=DunningPolicy,
        summary="Set the default dunning policy",
        description=f"Replaces the default policy.{_HOLDS}",
        responses={
            **problems("forbidden", "invalid_request", UNKNOWN_REFERENCE, refusals.INVALID_POLICY)
        },
    )
    async def put_policy(body: DunningPolicy, caller: CallerAdmin) -> DunningPolicy:
        await _check(body, caller, catalogues)

        async def save(tx: Tx) -> None:
            await policies.put_default(tx, caller.tenant_id, body.terms())

        await database.transact(_SET, save, tenants=[caller.tenant_id])
        return body

    return routes


def router(database: Database, keys: Keys, catalogues: Catalogues) -> APIRouter:
    """``/v1/dunning-policies``."""
    routes = APIRouter(prefix="/v1/dunning-policies", tags=["Dunning"])
    _add_writes(routes, database, keys, catalogues)
    _add_reads(routes, database)
    return routes


def _add_writes(routes: APIRouter, database: Database, keys: Keys, catalogues: Catalogues) -> None:
    async def put(
        body: NewDunningPolicy, caller: Caller, response: Response, policy_id: UUID | None
    ) -> NamedDunningPolicy:
        await _check(body, caller, catalogues)
        return replayed(response, await _put(database, keys, caller, body, policy_id))

    @routes.post(
        "",
        status_code=201,
        response_model=NamedDunningPolicy,
        summary="Create a dunning policy",
        description="For a segment of the unpaid invoices; the most specific one that fits holds:"
        " a plan before a product, then the highest amount, then a currency. At most 100.",
        responses={**problems(*_REFUSED, refusals.TOO_MANY)},
    )
    async def create_dunning_policy(
        body: NewDunningPolicy, caller: CallerAdmin, response: Response
    ) -> NamedDunningPolicy:
        return await put(body, caller, response, None)

    @routes.put(
        "/{policy_id}",
        response_model=NamedDunningPolicy,
        summary="Change a dunning policy",
        description=f"Makes its next version.{_HOLDS}",
        responses={**problems("not_found", *_REFUSED)},
    )
    async def put_dunning_policy(
        policy_id: PolicyId, body: NewDunningPolicy, caller: CallerAdmin, response: Response
    ) -> NamedDunningPolicy:
        return await put(body, caller, response, policy_id)

    @routes.delete(
        "/{policy_id}",
        status_code=204,
        summary="Delete a dunning policy",
        description="It holds for nothing new; a collection that has begun by it goes on by it.",
        responses={**problems("not_found", "forbidden")},
    )
    async def delete_dunning_policy(policy_id: PolicyId, caller: CallerAdmin) -> Response:
        async def work(tx: Tx) -> None:
            await policies.delete_policy(tx, caller.tenant_id, policy_id)

        await database.transact(_SET, work, tenants=[caller.tenant_id])
        return Response(status_code=204)


async def _put(
    database: Database, keys: Keys, caller: Caller, body: NewDunningPolicy, policy_id: UUID | None
) -> Answered[NamedDunningPolicy]:
    async def work(tx: Tx, resource_id: UUID) -> NamedDunningPolicy:
        await policies.put_policy(
            tx,
            caller.tenant_id,
            resource_id,
            name=body.name,
            named=body.segment.named(),
            terms=body.terms(),
            is_new=policy_id is None,
        )
        return await load(tx, resource_id)

    async def load(tx: Tx, resource_id: UUID) -> NamedDunningPolicy:
        kept = await policies.get_policy(tx, caller.tenant_id, resource_id)
        return NamedDunningPolicy.of_kept(kept)

    return await keys.run(
        database,
        _SET,
        caller,
        operation="dunning_policies.put" if policy_id else "dunning_policies.create",
        body=body,
        work=work,
        load=load,
        new_id=policy_id,
    )


def _add_reads(routes: APIRouter, database: Database) -> None:
    @routes.get(
        "",
        response_model=Page[NamedDunningPolicy],
        summary="List dunning policies",
        description="Those for segments, the newest first; the default one is"
        " `/v1/dunning-policy`.",
        responses={**problems("invalid_request")},
    )
    async def list_dunning_policies(
        caller: CallerRead, query: PageQuery
    ) -> Page[NamedDunningPolicy]:
        before = _before(query)
        async with database.transaction(_READ, tenants=[caller.tenant_id]) as tx:
            rows = await store.listed(tx, caller.tenant_id, before=before, limit=query.limit + 1)
        shown = [NamedDunningPolicy.of_kept(each) for each in rows]
        return page(shown, query, key=lambda each: (ids.text("dun", each.id),))

    @routes.get(
        "/{policy_id}",
        response_model=NamedDunningPolicy,
        summary="Get a dunning policy",
        description="In its newest version.",
        responses={**problems("not_found")},
    )
    async def get_dunning_policy(policy_id: PolicyId, caller: CallerRead) -> NamedDunningPolicy:
        async with database.transaction(_READ, tenants=[caller.tenant_id]) as tx:
            kept = await policies.get_policy(tx, caller.tenant_id, policy_id)
        return NamedDunningPolicy.of_kept(kept)


def _before(query: PageAsked) -> UUID:
    if query.after is None:
        return _LAST
    try:
        (text,) = query.after
        return ids.parse("dun", text)
    except ValueError:
        raise Problem(
            "invalid_request",
            pointer="/query/cursor",
            detail="The cursor belongs to another list.",
            fix="Use next_cursor of the page before, unchanged.",
        ) from None


async def _check(body: DunningPolicy, caller: Caller, catalogues: Catalogues) -> None:
    """Raises invalid_policy for what the core refuses, unknown_reference for plans and products
    that do not exist."""
    try:
        body.terms().policy()
        if isinstance(body, NewDunningPolicy):
            body.segment.named().segment()
    except InvalidPolicy as refused:
        raise _refused(refused.detail, refused.pointer, refused.fix) from refused
    if (body.final_action == "downgrade") != (body.downgrade_to_plan_id is not None):
        raise _refused(
            "downgrade needs the plan to which it leads, and nothing else has one",
            "/downgrade_to_plan_id",
            "Give both, or neither.",
        )
    call = Call(caller.tenant_id)
    if body.downgrade_to_plan_id is not None:
        wanted = [body.downgrade_to_plan_id]
        _none(await catalogues.unknown_plans(call, wanted), "/downgrade_to_plan_id", "plan")
    if isinstance(body, NewDunningPolicy):
        segment = body.segment
        if segment.plan_ids:
            unknown = await catalogues.unknown_plans(call, segment.plan_ids)
            _none(unknown, "/segment/plan_ids", "plan")
        if segment.product_ids:
            unknown = await catalogues.unknown_products(call, segment.product_ids)
            _none(unknown, "/segment/product_ids", "product")


def _refused(detail: str, pointer: str, fix: str) -> Problem:
    return Problem(refusals.INVALID_POLICY, detail=detail, pointer=pointer, fix=fix)


def _none(unknown: Sequence[UUID], pointer: str, what: str) -> None:
    if unknown:
        raise Problem(UNKNOWN_REFERENCE, pointer=pointer, detail=f"There is no such {what}.")
