"""What every long-running host does: find the data, migrate, start the loops, stop in order."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from subledger.hosts.assembly import Assembly, Options, assemble, refuse_unsafe_roles
from subledger.hosts.problems import HostProblem
from subledger.platform import crashpoints, migrate, postgres
from subledger.platform.db import sql, story
from subledger.platform.ids import Ids
from subledger.platform.settings import Settings
from subledger.services.identity import store
from subledger.services.identity.usecases.create_tenants import (
    Opened,
    TenantRequest,
    create_tenants,
)

KEYS_FILE = "keys"
_FIRST_TENANT = story("hosts.first_tenant")
_CREATE_TENANT = story("hosts.create_tenant")
# One process at a time looks whether there is a tenant yet.
_ONE_AT_A_TIME = sql("SELECT pg_catalog.pg_advisory_xact_lock(7326411904)")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the data is: an administrator's URL (None where every service has a URL of its own)
    and the installation's secret key."""

    admin_url: str | None
    secret_key: str

    def __repr__(self) -> str:
        return "Place(…)"


@asynccontextmanager
async def place(settings: Settings) -> AsyncIterator[Place]:
    """The database of the settings; without one, the embedded PostgreSQL, started or shared, and
    left (by its last user: stopped) at the end."""
    if settings.database_url is not None or settings.service_urls:
        if settings.secret_key is None:
            raise HostProblem(
                "a database is set, but no secret key: set SUBLEDGER_SECRET_KEY to a long random"
                " text, the same for every process of the installation."
            )
        url = settings.database_url
        yield Place(
            admin_url=None if url is None else url.get_secret_value(),
            secret_key=settings.secret_key.get_secret_value(),
        )
        return
    async with await postgres.start(settings.folder()) as server:
        own = settings.secret_key
        yield Place(
            admin_url=server.admin_url,
            secret_key=server.secret_key if own is None else own.get_secret_value(),
        )


@asynccontextmanager
async def assembled(
    settings: Settings, where: Place, *, only: Sequence[str] = (), migrated: bool = True
) -> AsyncIterator[Assembly]:
    """The services on a database that is at this release; their pools are closed at the end.

    The crash point of ``CRASH_AT`` is armed here: all are known once the services are built.
    """
    options = options_of(settings, where, only=only)
    assembly = assemble(options)
    crashpoints.install_from_environment()
    try:
        if migrated and where.admin_url is not None:
            await migrate.migrate(where.admin_url, secret_key=where.secret_key)
        await refuse_unsafe_roles(options.url_of)
        yield assembly
    finally:
        await assembly.close()


def options_of(settings: Settings, where: Place, *, only: Sequence[str] = ()) -> Options:
    """How the settings want the services assembled on the database of ``where``."""

    def url_of(name: str) -> str:
        own = settings.service_urls.get(name)
        if own is not None:
            return own.get_secret_value()
        if where.admin_url is None:
            raise HostProblem(
                f"no database is known for {name}: set SUBLEDGER_DATABASE_URL, or give"
                " SUBLEDGER_SERVICE_URLS an entry for it."
            )
        return migrate.service_url(where.admin_url, name, where.secret_key)

    return Options(
        url_of=url_of,
        secret_key=where.secret_key,
        encryption_keys=[each.get_secret_value() for each in settings.encryption_keys],
        public_url=settings.base_url,
        sandbox_url=settings.sandbox_url,
        pool_size=settings.pool_size,
        lease_s=settings.lease_s,
        max_stale_s=settings.max_stale_s,
        stale_policy=_WHEN_STALE[settings.stale_policy],
        only=tuple(only),
    )


_WHEN_STALE = {"allow": "allow", "deny": "deny", "unavailable": "problem"}


async def create_tenant(assembly: Assembly, name: str) -> list[Opened]:
    """A live tenant and a sandbox of it whose clock starts now, each with its key."""
    requests = _with_sandbox(Ids(), name)
    async with assembly.databases["identity"].transaction(_CREATE_TENANT) as tx:
        return await create_tenants(tx, requests)


async def first_tenant(assembly: Assembly, folder: Path) -> list[Opened]:
    """On the first start, the tenant ``default``; its keys are kept in ``folder/keys`` (0600).

    Empty if there is a tenant already. The file is written before the commit: keys that were
    committed but written nowhere would be lost.
    """
    requests = _with_sandbox(Ids(), "default")
    async with assembly.databases["identity"].transaction(_FIRST_TENANT) as tx:
        await tx.rows(_ONE_AT_A_TIME)
        if await store.all_tenants(tx, limit=1):
            return []
        opened = await create_tenants(tx, requests)
        await asyncio.to_thread(_write_keys, folder / KEYS_FILE, opened)
        return opened


def _with_sandbox(ids: Ids, name: str) -> list[TenantRequest]:
    live = TenantRequest(tenant_id=ids.new(), name=name)
    sandbox = TenantRequest(
        tenant_id=ids.new(), name=f"{name} (sandbox)", live_tenant_id=live.tenant_id
    )
    return [live, sandbox]


def _write_keys(path: Path, opened: Sequence[Opened]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.writelines(f"{each.mode} {each.key}\n" for each in opened)
    fresh.rename(path)


@asynccontextmanager
async def interruptible() -> AsyncIterator[asyncio.Event]:
    """An event that Ctrl-C and SIGTERM set; a second one ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def asked() -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, asked)
    try:
        yield stop
    finally:
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(each)
