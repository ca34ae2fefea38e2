"""Routes of the log: what providers told us, one of it with its body, and telling it again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import parse_qsl
from uuid import UUID

import msgspec
from cryptography.fernet import InvalidToken, MultiFernet
from fastapi import APIRouter, Query
from sqlalchemy import Row

from subledger.contracts.calls import Call
from subledger.contracts.hints import Hints
from subledger.platform.db import Database, Tx, story
from subledger.platform.http.callers import CallerAdmin, CallerRead
from subledger.platform.http.fields import Timestamp
from subledger.platform.http.pages import Page, PageQuery, decode, encode, page
from subledger.platform.http.problems import Problem, problems
from subledger.platform.telemetry.logs import masked
from subledger.providers.port import Adapter
from subledger.services.webhooks import problems as refusals
from subledger.services.webhooks import store
from subledger.services.webhooks.schemas import (
    ConnectionId,
    Received,
    ReceivedId,
    ReceivedWhole,
    Replay,
    ReplayRange,
    Trust,
    Waiting,
)
from subledger.services.webhooks.usecases.replay import replay_one, replay_range

_READ = story("webhooks.read_log", reads=True)
_REPLAY = story("webhooks.replay")
_NEVER = datetime(9999, 1, 1, tzinfo=UTC)
_EVER = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = UUID(int=0)


def router(
    database: Database, *, fernet: MultiFernet, adapters: Mapping[str, Adapter], hints: Hints | None
) -> APIRouter:
    """``/v1/received-webhooks``. ``hints`` knows what still waits; None where nobody answers."""
    routes = APIRouter(prefix="/v1/received-webhooks", tags=["Received webhooks"])
    _add_list(routes, database)
    _add_one(routes, database, fernet=fernet, hints=hints)
    _add_replays(routes, database, fernet=fernet, adapters=adapters)
    return routes


def _add_list(routes: APIRouter, database: Database) -> None:
    @routes.get(
        "",
        response_model=Page[Received],
        summary="List received webhooks",
        description="What providers told us and was verified, kept 30 days, the newest first;"
        " within a time, and narrowed by one of connection, kind and trust.",
        responses={**problems("invalid_request", "not_found")},
    )
    async def list_received_webhooks(
        caller: CallerRead,
        query: PageQuery,
        connection_id: Annotated[ConnectionId | None, Query()] = None,
        kind: Annotated[str | None, Query(max_length=100)] = None,
        trust: Annotated[Trust | None, Query()] = None,
        since: Annotated[Timestamp | None, Query(alias="from")] = None,
        until: Annotated[Timestamp | None, Query()] = None,
    ) -> Page[Received]:
        named: list[tuple[str, object]] = [
            (name, value) for name, value in (("kind", kind), ("trust", trust)) if value is not None
        ]
        if len(named) + (connection_id is not None) > 1:
            raise Problem(
                "invalid_request",
                detail="Name one of connection_id, kind and trust.",
                fix="Leave out the other filters.",
            )
        tenant_id = caller.tenant_id
        async with database.transaction(_READ, tenants=[tenant_id]) as tx:
            if connection_id is not None:
                endpoint = await store.endpoint_of(tx, tenant_id, connection_id)
                if endpoint is None:
                    raise _no_connection("/query/connection_id")
                named = [("endpoint_id", endpoint.id)]
            rows = await store.listed(
                tx,
                tenant_id,
                before=_place(query.after, (until or _NEVER, _FIRST)),
                since=since or _EVER,
                limit=query.limit + 1,
                by=named[0] if named else None,
            )
        shown = [Received.of(row) for row in rows]
        return page(shown, query, key=lambda each: _key(each.received_at, each.id))


def _add_one(
    routes: APIRouter, database: Database, *, fernet: MultiFernet, hints: Hints | None
) -> None:
    @routes.get(
        "/{received_id}",
        response_model=ReceivedWhole,
        summary="Get a received webhook",
        description="With its body for admins, what is secret or personal masked. `waiting` says"
        " that what it speaks of is not known yet and will be looked for again.",
        responses={**problems("not_found")},
    )
    async def get_received_webhook(received_id: ReceivedId, caller: CallerRead) -> ReceivedWhole:
        async with database.transaction(_READ, tenants=[caller.tenant_id]) as tx:
            row = await store.received(tx, caller.tenant_id, received_id)
        if row is None:
            raise Problem("not_found", detail="There is no such received webhook.")
        waiting = None
        if hints is not None:
            found = await hints.waiting_hints(Call(caller.tenant_id), [received_id])
            waiting = next(
                (Waiting(looks=each.looks, next_look_at=each.next_look_at) for each in found), None
            )
        body = _body(row, fernet) if caller.principal.role == "admin" else None
        return ReceivedWhole.whole(row, body=body, waiting=waiting)


def _add_replays(
    routes: APIRouter, database: Database, *, fernet: MultiFernet, adapters: Mapping[str, Adapter]
) -> None:
    @routes.post(
        "/{received_id}/replay",
        response_model=Replay,
        summary="Replay a received webhook",
        description="Tells it again to whoever handles it, who asks the provider: what was handled"
        " already stays as it is.",
        responses={**problems("forbidden", "not_found", refusals.SEALED)},
    )
    async def replay_received_webhook(received_id: ReceivedId, caller: CallerAdmin) -> Replay:
        async def work(tx: Tx) -> None:
            await replay_one(
                tx,
                fernet,
                adapters,
                tenant_id=caller.tenant_id,
                received_id=received_id,
                cause=caller.request_id,
            )

        await database.transact(_REPLAY, work, tenants=[caller.tenant_id])
        return Replay(replayed=1, unreadable=0, next_cursor=None)

    @routes.post(
        "/replay",
        response_model=Replay,
        summary="Replay a range of received webhooks",
        description="Tells again what a connection received within a time, at most 1,000 a call.",
        responses={**problems("forbidden", "not_found", "invalid_request")},
    )
    async def replay_received_webhooks(body: ReplayRange, caller: CallerAdmin) -> Replay:
        after = _place(None if body.cursor is None else decode(body.cursor), (body.since, _FIRST))

        async def work(tx: Tx) -> Replay:
            done = await replay_range(
                tx,
                fernet,
                adapters,
                tenant_id=caller.tenant_id,
                connection_id=body.connection_id,
                after=after,
                until=body.until,
                cause=caller.request_id,
            )
            last = done.last
            return Replay(
                replayed=done.replayed,
                unreadable=done.unreadable,
                next_cursor=None if last is None else encode(_key(last.received_at, last.id)),
            )

        return await database.transact(_REPLAY, work, tenants=[caller.tenant_id])


def _key(received_at: datetime, row_id: UUID) -> tuple[str, str]:
    return received_at.isoformat(), str(row_id)


def _place(
    after: tuple[str, ...] | None, otherwise: tuple[datetime, UUID]
) -> tuple[datetime, UUID]:
    """Where a page begins. Raises invalid_request for a cursor of another list."""
    if after is None:
        return otherwise
    try:
        received_at, row_id = after
        moment = datetime.fromisoformat(received_at)
        if moment.tzinfo is None:
            raise ValueError("without an offset")
        return moment, UUID(row_id)
    except ValueError:
        raise Problem(
            "invalid_request",
            detail="The cursor belongs to another list.",
            pointer="/cursor",
            fix="Use next_cursor of the call before, unchanged.",
        ) from None


def _body(row: Row[Any], fernet: MultiFernet) -> Any:
    """What the provider sent, masked; None if no key opens it or it is neither JSON nor a form."""
    try:
        raw = fernet.decrypt(bytes(row.body_encrypted))
        try:
            return masked(msgspec.json.decode(raw))
        except msgspec.DecodeError:
            return masked(dict(parse_qsl(raw.decode(), strict_parsing=True, max_num_fields=1000)))
    except (InvalidToken, ValueError):
        return None


def _no_connection(pointer: str) -> Problem:
    return Problem("not_found", detail="There is no such connection.", pointer=pointer)
