"""Real PostgreSQL for every test: one server per run, one migrated template, cheap clones.

``SUBLEDGER_TEST_PG`` is ``apt`` (an installed PostgreSQL, default) or ``wheel`` (the embedded
one's binaries); ``SUBLEDGER_TEST_DATABASE_URL`` uses a server that already runs (an administrator's
URL, with ``SUBLEDGER_TEST_SECRET_KEY`` if its service roles exist already). Where there is no
server, tests that need one are skipped, and fail when ``CI=true``.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest
import uvloop
from sqlalchemy.engine import make_url

from subledger.contracts.events import Event
from subledger.platform import migrate
from subledger.platform.db import Database, Wakeup, story
from subledger.platform.eventlog.writer import append
from subledger.platform.ids import Ids
from tests.postgres import (
    SECRET_KEY,
    NoServer,
    Server,
    command,
    connect,
    migrated,
    remove,
    start_server,
    stop_server,
)

_RUN = "SUBLEDGER_TEST_RUN"
_PREFIX = "subledger-test-"


# --- one server per run -------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    """The run's folder, named after the process that owns it; xdist's workers inherit it. Loops are
    what hosts run on."""
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    if hasattr(config, "workerinput"):
        return
    _sweep()
    folder = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-")
    os.chmod(folder, 0o711)
    os.environ[_RUN] = folder


def pytest_unconfigure(config: pytest.Config) -> None:
    """The owner of the run stops its server and removes its folder."""
    if hasattr(config, "workerinput") or _RUN not in os.environ:
        return
    folder = Path(os.environ[_RUN])
    found = folder / "server.json"
    if found.exists() and "SUBLEDGER_TEST_DATABASE_URL" in os.environ:
        server = Server(**json.loads(found.read_text()))
        asyncio.run(command(server, f'DROP DATABASE IF EXISTS "{template_name()}" WITH (FORCE)'))
    remove(folder)
    del os.environ[_RUN]


def _sweep() -> None:
    """Stop servers whose run was killed before it could stop them."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            remove(folder)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Workers of one run take turns."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def template_name() -> str:
    """The migrated database of this run, which tests clone and never connect to."""
    return Path(os.environ[_RUN]).name.replace("-", "_")


@pytest.fixture(scope="session")
async def pg_server() -> Server:
    """The run's server with its migrated template; shared by xdist's workers."""
    folder = Path(os.environ[_RUN])
    found = folder / "server.json"
    with _locked(folder):
        try:
            if found.exists():
                return Server(**json.loads(found.read_text()))
            given = os.environ.get("SUBLEDGER_TEST_DATABASE_URL")
            if given:
                server = Server(admin_url=given, binaries=os.environ.get("SUBLEDGER_TEST_PG_BIN"))
            else:
                server = start_server(folder)
            await migrated(server, template_name())
            found.write_text(json.dumps(asdict(server)))
            return server
        except NoServer as reason:
            if os.environ.get("CI") == "true":
                pytest.fail(f"PostgreSQL is needed: {reason}")
            pytest.skip(f"no PostgreSQL: {reason}")


@pytest.fixture
def fresh_server() -> Iterator[Callable[[], Server]]:
    """``fresh_server()``: one more server, empty, for this test alone; stopped after it."""
    made: list[Server] = []

    def start() -> Server:
        folder = Path(tempfile.mkdtemp(dir=os.environ[_RUN]))
        folder.chmod(0o711)
        made.append(start_server(folder))
        return made[-1]

    yield start
    for each in made:
        stop_server(each)


# --- databases for tests ------------------------------------------------------------------------

NewDatabase = Callable[[], Awaitable[str]]
ServiceDatabase = Callable[..., Database]


@pytest.fixture(scope="session")
def secret_key() -> str:
    """The secret key with which the run's databases are migrated."""
    return SECRET_KEY


@pytest.fixture(scope="session")
def pg_admin_url(pg_server: Server) -> str:
    """The administrator's URL of the server (database ``postgres``)."""
    return pg_server.admin_url


@pytest.fixture(scope="session")
async def new_database(pg_server: Server) -> AsyncIterator[NewDatabase]:
    """``await new_database()``: the administrator's URL of a fresh clone, dropped at the end."""
    made: list[str] = []

    async def clone() -> str:
        name = f"t_{os.getpid()}_{secrets.token_hex(6)}"
        made.append(name)
        await command(pg_server, f'CREATE DATABASE "{name}" TEMPLATE "{template_name()}"')
        return pg_server.url(name)

    yield clone
    for name in made:
        await command(pg_server, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


async def _fresh(server: Server, new: NewDatabase) -> AsyncIterator[str]:
    url = await new()
    yield url
    await command(server, f'DROP DATABASE IF EXISTS "{make_url(url).database}" WITH (FORCE)')


@pytest.fixture
async def database_url(pg_server: Server, new_database: NewDatabase) -> AsyncIterator[str]:
    """A fresh migrated database for one test (the administrator's URL)."""
    async for url in _fresh(pg_server, new_database):
        yield url


@pytest.fixture(scope="module")
async def module_database_url(pg_server: Server, new_database: NewDatabase) -> AsyncIterator[str]:
    """A fresh migrated database for one module (the administrator's URL)."""
    async for url in _fresh(pg_server, new_database):
        yield url


@pytest.fixture(scope="session")
async def shared_database_url(new_database: NewDatabase) -> str:
    """A migrated database for all modules whose tests live in tenants of their own, in one process
    (the administrator's URL)."""
    return await new_database()


@pytest.fixture(scope="session")
async def service_database() -> AsyncIterator[ServiceDatabase]:
    """``service_database(url, "billing")``: a service's Database under its own role; closed at the
    end of the run."""
    made: list[Database] = []

    def build(
        url: str,
        service: str,
        *,
        ids: Ids | None = None,
        wakeup: Wakeup | None = None,
        pool_size: int = 5,
    ) -> Database:
        made.append(
            Database(
                url=migrate.service_url(url, service, SECRET_KEY),
                append=append,
                ids=ids,
                wakeup=wakeup,
                pool_size=pool_size,
            )
        )
        return made[-1]

    yield build
    for each in made:
        await each.close()


@pytest.fixture(scope="session")
def admin() -> Callable[[str], Awaitable[asyncpg.Connection[asyncpg.Record]]]:
    """``await admin(url)``: a plain asyncpg connection as the administrator; the caller closes."""
    return connect


# --- tenants and their events -------------------------------------------------------------------

_EMIT = story("tests.emit")


@pytest.fixture(scope="session")
def make_tenant() -> Callable[..., Awaitable[UUID]]:
    """``await make_tenant(url, now_at=None)``: a sandbox tenant whose clock says ``now_at``, or a
    live one without it."""

    async def make(url: str, *, now_at: datetime | None = None) -> UUID:
        connection = await connect(url)
        tenant_id, live_id = Ids().new(), Ids().new()
        mode = "live" if now_at is None else "sandbox"
        try:
            await connection.execute(
                "INSERT INTO identity.tenants (tenant_id, name, mode, live_tenant_id, created_at)"
                " VALUES ($1, 'Test', $2, $3, clock_timestamp())",
                *(tenant_id, mode, None if now_at is None else live_id),
            )
            await connection.execute(
                "INSERT INTO identity.clocks (tenant_id, mode, now_at) VALUES ($1, $2, $3)",
                *(tenant_id, mode, now_at),
            )
        finally:
            await connection.close()
        return tenant_id

    return make


@pytest.fixture(scope="session")
def emit() -> Callable[..., Awaitable[None]]:
    """``await emit(database, event, ...)``: append events in one transaction, as a service does."""

    async def append_all(database: Database, *events: Event) -> None:
        async with database.transaction(_EMIT, tenants={e.tenant_id for e in events}) as tx:
            tx.emit(events)

    return append_all


@pytest.fixture(scope="session")
def events_of() -> Callable[..., Awaitable[list[tuple[str, dict[str, Any]]]]]:
    """``await events_of(url, tenant_id)``: ``(type, data)`` of the tenant's events; of one subject
    in the account's order if ``subject`` is given."""

    async def read(
        url: str, tenant_id: UUID, subject: UUID | None = None
    ) -> list[tuple[str, dict[str, Any]]]:
        connection = await connect(url)
        try:
            rows = await connection.fetch(
                "SELECT type, data FROM eventlog.events WHERE tenant_id = $1"
                " AND ($2::uuid IS NULL OR subject = $2) ORDER BY partition, position",
                *(tenant_id, subject),
            )
        finally:
            await connection.close()
        return [(row["type"], msgspec.json.decode(row["data"])) for row in rows]

    return read
