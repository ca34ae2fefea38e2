"""Identity's routes: the tenant, its keys, its sandboxes, its clock."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Response

from subledger.platform import ids
from subledger.platform.db import Database, Tx, story
from subledger.platform.http.callers import Caller, CallerAdmin, CallerRead
from subledger.platform.http.idempotency import Keys
from subledger.platform.http.pages import Page, PageQuery, page
from subledger.platform.http.problems import Problem, problems
from subledger.platform.http.replay import replayed
from subledger.services.identity import problems as refusals
from subledger.services.identity import schemas, store
from subledger.services.identity.clock.mover import ClockMover
from subledger.services.identity.usecases.create_tenants import TenantRequest, create_tenants
from subledger.services.identity.usecases.issue_keys import KeyRequest, issue_keys
from subledger.services.identity.usecases.revoke_key import revoke_key
from subledger.services.identity.usecases.start_move import start_move

_READ = story("identity.read", reads=True)
_CREATE_KEY = story("identity.create_api_key")
_REVOKE_KEY = story("identity.revoke_api_key")
_CREATE_SANDBOX = story("identity.create_sandbox")
_START_MOVE = story("identity.start_clock_move")

_LAST = UUID(int=(1 << 128) - 1)


def routers(database: Database, mover: ClockMover, *, one_database: bool) -> list[APIRouter]:
    """All routes; ``one_database`` says whether clock moves are possible here."""
    keys = Keys("identity")
    tenant = APIRouter(tags=["Tenant"])
    _add_tenant(tenant, database)
    _add_opening(tenant, database, keys)
    api_keys = APIRouter(prefix="/v1/api-keys", tags=["API keys"])
    _add_key_writes(api_keys, database, keys)
    _add_key_reads(api_keys, database)
    clock = APIRouter(tags=["Clock"])
    _add_clock(clock, database)
    _add_moving(clock, database, keys, one_database=one_database)
    _add_moves(clock, database, mover)
    return [tenant, api_keys, clock]


def _add_tenant(routes: APIRouter, database: Database) -> None:
    @routes.get(
        "/v1/tenant",
        response_model=schemas.Tenant,
        summary="Get your tenant",
        description="The tenant that the key belongs to.",
        responses={**problems("not_found")},
    )
    async def get_tenant(caller: CallerRead) -> schemas.Tenant:
        async with database.transaction(_READ, tenants=[caller.tenant_id]) as tx:
            return await _tenant(tx, caller.tenant_id)

    @routes.get(
        "/v1/sandboxes",
        response_model=Page[schemas.Tenant],
        summary="List your sandbox tenants",
        description="The sandbox tenants linked to your live tenant; of a sandbox, none.",
        responses={**problems("invalid_request")},
    )
    async def list_sandboxes(caller: CallerRead, query: PageQuery) -> Page[schemas.Tenant]:
        async with database.transaction(_READ, tenants=[caller.tenant_id]) as tx:
            found = await store.sandboxes_of(
                tx, caller.tenant_id, after=_after(query.after, "ten"), limit=query.limit + 1
            )
            tx.use_tenants([caller.tenant_id, *found])
            rows = [schemas.Tenant.of(row) for row in await store.tenants(tx, found)]
        return page(rows, query, key=lambda row: (ids.text("ten", row.id),))


def _add_opening(routes: APIRouter, database: Database, keys: Keys) -> None:
    @routes.post(
        "/v1/sandboxes",
        status_code=201,
        response_model=schemas.Sandbox,
        summary="Open a sandbox tenant",
        description="A tenant of its own, linked to your live one: its own data, its own clock,"
        " its own keys (`sk_test_…`). The first key is in the answer and nowhere else.",
        responses={**problems("forbidden", "invalid_request", refusals.SANDBOX_NEEDS_LIVE_KEY)},
    )
    async def create_sandbox(
        body: schemas.NewSandbox, caller: CallerAdmin, response: Response
    ) -> schemas.Sandbox:
        if caller.principal.mode != "live":
            raise Problem(
                refusals.SANDBOX_NEEDS_LIVE_KEY, detail="This key belongs to a sandbox tenant."
            )

        async def work(tx: Tx, new_id: UUID) -> schemas.Sandbox:
            request = TenantRequest(
                tenant_id=new_id,
                name=body.name,
                live_tenant_id=caller.tenant_id,
                clock_at=body.clock_at,
            )
            opened = await create_tenants(tx, [request], cause=caller.request_id)
            return await _sandbox(tx, new_id, opened[0].key)

        async def load(tx: Tx, sandbox_id: UUID) -> schemas.Sandbox:
            tx.use_tenants([caller.tenant_id, sandbox_id])
            return await _sandbox(tx, sandbox_id, None)

        answered = await keys.run(
            database,
            _CREATE_SANDBOX,
            caller,
            operation="create_sandbox",
            body=body,
            work=work,
            load=load,
        )
        return replayed(response, answered)


async def _tenant(tx: Tx, tenant_id: UUID) -> schemas.Tenant:
    rows = await store.tenants(tx, [tenant_id])
    if not rows:
        raise Problem("not_found", detail="There is no such tenant.")
    return schemas.Tenant.of(rows[0])


async def _sandbox(tx: Tx, tenant_id: UUID, key: str | None) -> schemas.Sandbox:
    tenant = await _tenant(tx, tenant_id)
    return schemas.Sandbox(
        id=tenant.id,
        name=tenant.name,
        mode=tenant.mode,
        live_tenant_id=tenant.live_tenant_id,
        created_at=tenant.created_at,
        key=key,
    )


def _add_key_writes(routes: APIRouter, database: Database, keys: Keys) -> None:
    @routes.post(
        "",
        status_code=201,
        response_model=schemas.CreatedApiKey,
        summary="Create an API key",
        description="The key's text is in the answer and nowhere else: only its hash is kept.",
        responses={**problems("forbidden", "invalid_request")},
    )
    async def create_api_key(
        body: schemas.NewApiKey, caller: CallerAdmin, response: Response
    ) -> schemas.CreatedApiKey:
        async def work(tx: Tx, new_id: UUID) -> schemas.CreatedApiKey:
            request = KeyRequest(
                tenant_id=caller.tenant_id,
                key_id=new_id,
                mode=caller.principal.mode,
                role=body.role,
                name=body.name,
                cause=caller.request_id,
            )
            texts = await issue_keys(tx, [request])
            rows = await store.keys(tx, caller.tenant_id, [new_id])
            return schemas.CreatedApiKey.with_text(rows[0], texts[0])

        async def load(tx: Tx, key_id: UUID) -> schemas.CreatedApiKey:
            rows = await store.keys(tx, caller.tenant_id, [key_id])
            return schemas.CreatedApiKey.with_text(rows[0], None)

        answered = await keys.run(
            database,
            _CREATE_KEY,
            caller,
            operation="create_api_key",
            body=body,
            work=work,
            load=load,
        )
        return replayed(response, answered)

    @routes.delete(
        "/{api_key_id}",
        status_code=204,
        response_class=Response,
        summary="Revoke an API key",
        description="Requests with the key are refused at the latest one second later. Revoking"
        " it again changes nothing.",
        responses={**problems("forbidden", "not_found", refusals.LAST_ADMIN_KEY)},
    )
    async def revoke_api_key(
        api_key_id: Annotated[schemas.KeyId, Path()], caller: CallerAdmin
    ) -> Response:
        async def work(tx: Tx) -> None:
            await revoke_key(
                tx, tenant_id=caller.tenant_id, key_id=api_key_id, cause=caller.request_id
            )

        await database.transact(_REVOKE_KEY, work, tenants=[caller.tenant_id])
        return Response(status_code=204)


def _add_key_reads(routes: APIRouter, database: Database) -> None:
    @routes.get(
        "",
        response_model=Page[schemas.ApiKey],
        summary="List API keys",
        description="Keys of your tenant, oldest first, revoked ones too.",
        responses={**problems("invalid_request")},
    )
    async def list_api_keys(caller: CallerRead, query: PageQuery) -> Page[schemas.ApiKey]:
        async with database.transaction(_READ, tenants=[caller.tenant_id]) as tx:
            found = await store.list_keys(
                tx, caller.tenant_id, after=_after(query.after, "key"), limit=query.limit + 1
            )
        rows = [schemas.ApiKey.of(row) for row in found]
        return page(rows, query, key=lambda row: (ids.text("key", row.id),))

    @routes.get(
        "/{api_key_id}",
        response_model=schemas.ApiKey,
        summary="Get an API key",
        description="Everything about the key except its text, which is not kept.",
        responses={**problems("not_found")},
    )
    async def get_api_key(
        api_key_id: Annotated[schemas.KeyId, Path()], caller: CallerRead
    ) -> schemas.ApiKey:
        async with database.transaction(_READ, tenants=[caller.tenant_id]) as tx:
            rows = await store.keys(tx, caller.tenant_id, [api_key_id])
        if not rows:
            raise Problem("not_found", detail="There is no such API key.")
        return schemas.ApiKey.of(rows[0])


def _add_clock(routes: APIRouter, database: Database) -> None:
    @routes.get(
        "/v1/clock",
        response_model=schemas.Clock,
        summary="Get the clock",
        description="The moment that everything in your tenant goes by.",
        responses={**problems()},
    )
    async def get_clock(caller: CallerRead) -> schemas.Clock:
        async with database.transaction(_READ, tenants=[caller.tenant_id]) as tx:
            row = (await store.clocks(tx, [caller.tenant_id]))[0]
            moving = await store.open_moves(tx, caller.tenant_id)
        return schemas.Clock(
            mode=row.mode, now_at=row.now_at, clock_move_id=moving[0] if moving else None
        )


def _add_moving(routes: APIRouter, database: Database, keys: Keys, *, one_database: bool) -> None:
    @routes.post(
        "/v1/clock-moves",
        status_code=202,
        response_model=schemas.ClockMove,
        summary="Move the clock",
        description="Moves a sandbox tenant's clock forward. Everything that comes due on the way"
        " is done at its own moment, in order, before the clock goes on. The move is under way"
        " when this answers; follow the `Location` until `status` is `done`.",
        responses={
            **problems(
                "forbidden",
                "invalid_request",
                refusals.CLOCK_IS_LIVE,
                refusals.CLOCK_IS_MOVING,
                refusals.CLOCK_BACKWARDS,
                refusals.CLOCK_TOO_FAR,
                refusals.CLOCK_NEEDS_ONE_DATABASE,
            )
        },
    )
    async def create_clock_move(
        body: schemas.NewClockMove, caller: CallerAdmin, response: Response
    ) -> schemas.ClockMove:
        if not one_database:
            raise Problem(
                refusals.CLOCK_NEEDS_ONE_DATABASE, detail="Services here use several databases."
            )

        async def work(tx: Tx, new_id: UUID) -> schemas.ClockMove:
            await start_move(tx, tenant_id=caller.tenant_id, move_id=new_id, to_at=body.to_at)
            return await load(tx, new_id)

        async def load(tx: Tx, move_id: UUID) -> schemas.ClockMove:
            rows = await store.moves(tx, caller.tenant_id, [move_id])
            return schemas.ClockMove.of(rows[0])

        answered = await keys.run(
            database,
            _START_MOVE,
            caller,
            operation="create_clock_move",
            body=body,
            work=work,
            load=load,
        )
        location = ids.text("mov", answered.resource_id)
        response.headers["Location"] = f"/v1/clock-moves/{location}"
        return replayed(response, answered)


def _add_moves(routes: APIRouter, database: Database, mover: ClockMover) -> None:
    @routes.get(
        "/v1/clock-moves/{clock_move_id}",
        response_model=schemas.ClockMove,
        summary="Get a clock move",
        description="How far it has come; while it is under way, what has to be done before it"
        " goes on; at its end, what happened.",
        responses={**problems("not_found")},
    )
    async def get_clock_move(
        clock_move_id: Annotated[schemas.MoveId, Path()], caller: CallerRead
    ) -> schemas.ClockMove:
        return await _move(database, mover, caller, clock_move_id)

    @routes.get(
        "/v1/clock-moves",
        response_model=Page[schemas.ClockMove],
        summary="List clock moves",
        description="Moves of your tenant's clock, the newest first.",
        responses={**problems("invalid_request")},
    )
    async def list_clock_moves(caller: CallerRead, query: PageQuery) -> Page[schemas.ClockMove]:
        before = _after(query.after, "mov") if query.after else _LAST
        async with database.transaction(_READ, tenants=[caller.tenant_id]) as tx:
            found = await store.list_moves(
                tx, caller.tenant_id, before=before, limit=query.limit + 1
            )
        rows = [schemas.ClockMove.of(row) for row in found]
        return page(rows, query, key=lambda row: (ids.text("mov", row.id),))


async def _move(
    database: Database, mover: ClockMover, caller: Caller, move_id: UUID
) -> schemas.ClockMove:
    async with database.transaction(_READ, tenants=[caller.tenant_id]) as tx:
        rows = await store.moves(tx, caller.tenant_id, [move_id])
    if not rows:
        raise Problem("not_found", detail="There is no such clock move.")
    moving = rows[0].finished_at is None
    waiting_for = await mover.waiting_for(caller.tenant_id) if moving else []
    return schemas.ClockMove.of(rows[0], waiting_for)


def _after(key: tuple[str, ...] | None, prefix: str) -> UUID:
    """The id in a cursor that one of these lists gave."""
    if key is None:
        return store.FIRST
    try:
        return ids.parse(prefix, key[0])
    except (ids.InvalidId, IndexError):
        raise Problem(
            "invalid_request", detail="The cursor belongs to another list.", pointer="cursor"
        ) from None
