"""A tiny service of the tests' own: books on a tenant's shelf, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
from fastapi import APIRouter, Response
from sqlalchemy import text

from subledger.contracts.keys import Principal
from subledger.core.errors import IllegalTransition, InvalidPrice
from subledger.hosts.gateway import build_app
from subledger.platform import ids
from subledger.platform.db import Database, Tx, story
from subledger.platform.http.callers import CallerAdmin, CallerRead
from subledger.platform.http.fields import (
    AmountMinor,
    CurrencyCode,
    Email,
    ExternalId,
    Flag,
    IdOf,
    Name,
    PositiveAmountMinor,
    Quantity,
    Strict,
    Timestamp,
    TimeZoneName,
    Whole,
)
from subledger.platform.http.idempotency import Keys
from subledger.platform.http.middleware import App
from subledger.platform.http.pages import Page, PageQuery, page
from subledger.platform.http.problems import Problem, problems
from subledger.platform.ids import Ids
from subledger.platform.service import Service

TABLE = """
CREATE SCHEMA shelf;
CREATE TABLE shelf.books (tenant_id uuid NOT NULL, id uuid NOT NULL, title text NOT NULL,
    PRIMARY KEY (tenant_id, id));
GRANT USAGE ON SCHEMA shelf TO subledger_identity;
GRANT SELECT, INSERT ON shelf.books TO subledger_identity
"""
# Not registered with sql(): the test of all stores' statements knows no such schema.
_PUT = text("INSERT INTO shelf.books (tenant_id, id, title) VALUES (:tenant, :id, :title)")
_LOOK = text(
    "SELECT id, title FROM shelf.books WHERE tenant_id = :tenant AND id > :after"
    " ORDER BY id LIMIT :limit"
)
_ONE = text("SELECT id, title FROM shelf.books WHERE tenant_id = :tenant AND id = :id")
_WRITE, _READ = story("tests.put_book"), story("tests.read_books")
_FIRST = UUID(int=0)
# Declared once and shared: crash points and problems have one name each.
KEYS = Keys("identity")

BookId = IdOf("book")


class Book(Strict):
    id: BookId
    title: str


class Author(Strict):
    name: Name


class NewBook(Strict):
    title: Name
    currency: CurrencyCode | None = None
    timezone: TimeZoneName | None = None
    email: Email | None = None
    external_id: ExternalId | None = None
    amount_minor: AmountMinor | None = None
    price_minor: PositiveAmountMinor | None = None
    quantity: Quantity | None = None
    printed_at: Timestamp | None = None
    pages: Whole | None = None
    bound: Flag | None = None
    previous_id: BookId | None = None
    authors: tuple[Author | Whole, ...] = ()


@dataclass
class Ring:
    """The boundary: which key is whose. Counts how often it was asked."""

    principals: dict[str, Principal] = field(default_factory=dict)
    asked: int = 0

    async def principal(self, credential: str) -> Principal | None:
        self.asked += 1
        return self.principals.get(credential)


@dataclass
class Shelf:
    """The running application and its tenants' keys: ``admin``, ``read``, ``admin2`` (the same
    tenant's second key) and ``other`` (another tenant's)."""

    app: App
    client: httpx.AsyncClient
    database: Database
    ring: Ring
    tenant_id: UUID
    hold: asyncio.Event
    held: asyncio.Event

    async def ask(
        self, method: str, path: str, *, key: str | None = "admin", **options: Any
    ) -> httpx.Response:
        headers = {**options.pop("headers", {})}
        if key is not None:
            headers["authorization"] = f"Bearer sk_live_{key}"
        return await self.client.request(method, path, headers=headers, **options)

    async def put(self, title: str, *, idempotency_key: str, **more: Any) -> httpx.Response:
        headers = {"Idempotency-Key": idempotency_key}
        key = more.pop("key", "admin")
        body = {"title": title, **more}
        return await self.ask("POST", "/v1/books", key=key, headers=headers, json=body)

    async def raw(self, body: bytes, **headers: str) -> httpx.Response:
        given = {"content-type": "application/json", **headers}
        return await self.ask("POST", "/v1/books", content=body, headers=given)

    async def titles(self, key: str = "admin") -> list[str]:
        answer = await self.ask("GET", "/v1/books?limit=100", key=key)
        return sorted(each["title"] for each in answer.json()["data"])


def _routes(database: Database, hold: asyncio.Event, held: asyncio.Event) -> APIRouter:
    routes = APIRouter(prefix="/v1/books", tags=["Books"])

    @routes.post(
        "",
        status_code=201,
        response_model=Book,
        summary="Put a book",
        description="Puts it on the shelf.",
        responses={**problems("conflict", "forbidden")},
    )
    async def put_book(body: NewBook, caller: CallerAdmin, response: Response) -> Book:
        async def work(tx: Tx, new_id: UUID) -> Book:
            await tx.run(_PUT, tenant=caller.tenant_id, id=new_id, title=body.title)
            if body.title == "slow":
                held.set()
                await hold.wait()
            if body.title == "refused":
                raise Problem("conflict", detail="The shelf does not want it.")
            if body.title == "core":
                raise InvalidPrice("the price is odd", pointer="/price_minor", fix="Use another.")
            if body.title == "ended":
                raise IllegalTransition("an ended thing cannot start")
            if body.title == "broken":
                raise RuntimeError("the secret text of an error")
            return await load(tx, new_id)

        async def load(tx: Tx, book_id: UUID) -> Book:
            row = (await tx.rows(_ONE, tenant=caller.tenant_id, id=book_id))[0]
            return Book(id=row.id, title=row.title)

        answered = await KEYS.run(
            database, _WRITE, caller, operation="put_book", body=body, work=work, load=load
        )
        if answered.replayed:
            response.headers["Idempotent-Replayed"] = "true"
        return answered.value

    @routes.get("", response_model=Page[Book], summary="List books", responses={**problems()})
    async def list_books(caller: CallerRead, query: PageQuery) -> Page[Book]:
        after = ids.parse("book", query.after[0]) if query.after else _FIRST
        async with database.transaction(_READ, tenants=[caller.tenant_id]) as tx:
            rows = await tx.rows(_LOOK, tenant=caller.tenant_id, after=after, limit=query.limit + 1)
        books = [Book(id=row.id, title=row.title) for row in rows]
        return page(books, query, key=lambda each: (ids.text("book", each.id),))

    @routes.get(
        "/{book_id}", response_model=Book, summary="Get a book", responses=problems("not_found")
    )
    async def get_book(book_id: BookId, caller: CallerRead) -> Book:
        async with database.transaction(_READ, tenants=[caller.tenant_id]) as tx:
            rows = await tx.rows(_ONE, tenant=caller.tenant_id, id=book_id)
        if not rows:
            raise Problem("not_found", detail="There is no such book.")
        return Book(id=rows[0].id, title=rows[0].title)

    @routes.get("/wait/{seconds}", include_in_schema=False)
    async def wait(seconds: float, caller: CallerRead) -> dict[str, float]:
        await asyncio.sleep(seconds)
        return {"wait_s": caller.wait_s}

    return routes


@asynccontextmanager
async def open_shelf(
    *, url: str, service_database: Any, make_tenant: Any, admin: Callable[[str], Awaitable[Any]]
) -> AsyncIterator[Shelf]:
    """A shelf with two tenants in the database at ``url``."""
    connection = await admin(url)
    if not await connection.fetchval("SELECT to_regnamespace('shelf') IS NOT NULL"):
        await connection.execute(TABLE)
    await connection.close()
    tenant_id, other_id = await make_tenant(url), await make_tenant(url)

    def known(name: str, tenant: UUID, role: str) -> tuple[str, Principal]:
        return f"sk_live_{name}", Principal(tenant_id=tenant, id=name, role=role, mode="live")

    ring = Ring(
        dict(
            [
                known("admin", tenant_id, "admin"),
                known("admin2", tenant_id, "admin"),
                known("read", tenant_id, "read"),
                known("other", other_id, "admin"),
            ]
        )
    )
    database: Database = service_database(url, "identity", ids=Ids())
    hold, held = asyncio.Event(), asyncio.Event()
    service = Service(name="identity", database=database, routers=[_routes(database, hold, held)])
    app = build_app([service], key_ring=ring, timeout_s=5)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield Shelf(
            app=app,
            client=client,
            database=database,
            ring=ring,
            tenant_id=tenant_id,
            hold=hold,
            held=held,
        )
