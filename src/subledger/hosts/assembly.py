"""Putting services together: which run in this process, on which databases, behind which seams."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from cryptography.fernet import Fernet, MultiFernet
from sqlalchemy import text
from sqlalchemy.engine import make_url

from subledger.contracts.books import Books
from subledger.contracts.catalogues import Catalogues
from subledger.contracts.checkouts import Checkouts
from subledger.contracts.collections import Collections
from subledger.contracts.endpoints import Endpoints
from subledger.contracts.hints import Hints
from subledger.contracts.keys import KeyRing
from subledger.contracts.refunds import Refunds
from subledger.contracts.repairs import Repairs
from subledger.hosts import boundary, keys
from subledger.hosts.gateway import build_app
from subledger.hosts.problems import HostProblem
from subledger.platform.db import Database, Wakeup, connect
from subledger.platform.eventlog.writer import append
from subledger.platform.http.idempotency import Keys as IdempotencyKeys
from subledger.platform.http.middleware import App
from subledger.platform.ids import Ids
from subledger.platform.schema import OWNER
from subledger.platform.service import Service, Step
from subledger.providers.engine import AsgiTransport, Gateway
from subledger.providers.port import HttpRequest, HttpResponse
from subledger.providers.sandbox.adapter import SandboxAdapter
from subledger.providers.sandbox.app import SandboxApp
from subledger.providers.sandbox.wiring import build as build_sandbox
from subledger.providers.transport import HttpxTransport
from subledger.services.billing.wiring import build as build_billing
from subledger.services.entitlements import http as access
from subledger.services.entitlements.memory import Memory
from subledger.services.entitlements.wiring import build as build_entitlements
from subledger.services.identity.wiring import build as build_identity
from subledger.services.payments.wiring import Limits
from subledger.services.payments.wiring import build as build_payments
from subledger.services.scheduler import jobs
from subledger.services.scheduler.wiring import build as build_scheduler
from subledger.services.webhooks.wiring import build as build_webhooks

SERVICES = ("identity", "billing", "payments", "webhooks", "scheduler", "entitlements", "sandbox")
SANDBOX_AT = "/sandbox"


class UnsafeRole(HostProblem):
    """A service would run as a role that sees every tenant; it refuses to start."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to assemble. ``url_of`` gives each service's own database URL."""

    url_of: Callable[[str], str]
    secret_key: str
    encryption_keys: Sequence[str] = ()
    public_url: str = "http://127.0.0.1:8080"
    sandbox_url: str | None = None
    """Where the sandbox provider answers if it is served by a process of its own."""
    pool_size: int = 5
    lease_s: float = 20.0
    max_stale_s: float = 30.0
    stale_policy: str = "allow"
    through_json: bool = False
    ids: Ids | None = None
    clock_s: Callable[[], int] | None = None
    monotonic_s: Callable[[], float] = time.monotonic
    """By which calls to providers are spaced and held back."""
    only: Sequence[str] = ()
    """What this process runs (none named: all). All services are built all the same: a clock
    move asks every one of them, and each question between services has its local answer."""


@dataclass(slots=True)
class _Later:
    """A transport to our own front door, which is built last."""

    app: App | None = None
    _transport: AsgiTransport | None = field(default=None)

    async def send(self, request: HttpRequest) -> HttpResponse:
        assert self.app is not None, "the application is not built yet"
        if self._transport is None:
            self._transport = AsgiTransport(self.app)
        return await self._transport.send(request)


@dataclass(slots=True)
class Assembly:
    """Everything of one process: the application and the steps that its loops run.

    ``services`` are all that exist, ``running`` those of this process."""

    services: Sequence[Service]
    running: Sequence[Service]
    databases: Mapping[str, Database]
    app: App
    steps: Sequence[Step]
    sandbox: SandboxApp
    memory: Memory
    wakeup: Wakeup
    to_sandbox: HttpxTransport | AsgiTransport

    def service(self, name: str) -> Service:
        return next(each for each in self.services if each.name == name)

    async def close(self) -> None:
        if isinstance(self.to_sandbox, HttpxTransport):
            await self.to_sandbox.close()
        for database in self.databases.values():
            await database.close()


def encryption(secret_key: str, given: Sequence[str]) -> MultiFernet:
    """The cipher for secrets at rest: of the given keys the first one writes and all read. The key
    derived from the installation's secret key reads too, and writes where none is given."""
    return MultiFernet([Fernet(key) for key in [*given, keys.fernet_key(secret_key)]])


def _server_and_database(url: str) -> tuple[object, ...]:
    parts = make_url(url)
    return (parts.host, parts.port, parts.database, tuple(sorted(parts.query.items())))


def _databases(options: Options, wakeup: Wakeup, ids: Ids) -> dict[str, Database]:
    """Each service's way to its schema. Raises HostProblem for services that there are not."""
    unknown = sorted(set(options.only) - set(SERVICES))
    if unknown:
        raise HostProblem(
            f"there is no service {', '.join(unknown)}; there are {', '.join(SERVICES)}."
        )
    return {
        name: Database(
            url=options.url_of(name),
            append=append,
            ids=ids,
            wakeup=wakeup,
            pool_size=options.pool_size,
        )
        for name in SERVICES
    }


def assemble(options: Options) -> Assembly:
    """Build all services of one process. Opens no connection yet."""
    wakeup, ids = Wakeup(), options.ids or Ids()
    databases = _databases(options, wakeup, ids)
    fernet = encryption(options.secret_key, options.encryption_keys)
    front = _Later()

    sandbox = build_sandbox(
        database=databases["sandbox"],
        secret_key=options.secret_key,
        public_url=options.sandbox_url or f"{options.public_url.rstrip('/')}{SANDBOX_AT}",
        transport=front,
    )
    sandbox_app = sandbox.attributes["app"]
    assert isinstance(sandbox_app, SandboxApp)
    to_sandbox = _to_sandbox(sandbox_app, options)
    seam = partial(_seam, through_json=options.through_json)
    # Payments is asked by billing and webhooks and asks both; built last, its seams come later.
    late: dict[str, Any] = {}
    hints = seam(Hints, _Forward(late, "hints"))
    webhooks = _webhooks(options, databases, hints=hints, fernet=fernet)
    checkouts = seam(Checkouts, _Forward(late, "checkouts"))
    billing = build_billing(
        database=databases["billing"],
        checkouts=checkouts,
        repairs=seam(Repairs, _Forward(late, "repairs")),
    )
    payments = _payments(
        options,
        databases,
        billing,
        webhooks,
        sandbox=sandbox_app,
        to_sandbox=to_sandbox,
        fernet=fernet,
        seam=seam,
    )
    late |= payments.attributes
    entitlements = build_entitlements(database=databases["entitlements"])
    catalogues = seam(Catalogues, billing.attributes["catalogues"])
    scheduler = _scheduler(databases, billing, catalogues=catalogues, checkouts=checkouts)
    others = [billing, payments, webhooks, scheduler, entitlements, sandbox]
    identity = build_identity(
        database=databases["identity"],
        services=others,
        one_database=len({_server_and_database(each.url) for each in databases.values()}) == 1,
    )
    services = [identity, *others]
    running = [each for each in services if each.name in (options.only or SERVICES)]

    memory = entitlements.attributes["memory"]
    assert isinstance(memory, Memory)
    ring = seam(KeyRing, identity.attributes["key_ring"])
    app, steps = _edge(running, ring, memory, sandbox_app, options, ids)
    # The sandbox's notifications reach webhooks also where webhooks is not served.
    front.app = app if webhooks in running else build_app([webhooks], key_ring=ring, ids=ids)
    return Assembly(
        services=services,
        running=running,
        databases=databases,
        app=app,
        steps=steps,
        sandbox=sandbox_app,
        memory=memory,
        wakeup=wakeup,
        to_sandbox=to_sandbox,
    )


def _webhooks(
    options: Options, databases: Mapping[str, Database], *, hints: Hints, fernet: MultiFernet
) -> Service:
    adapter = SandboxAdapter()
    clock: dict[str, Any] = {} if options.clock_s is None else {"clock_s": options.clock_s}
    return build_webhooks(
        database=databases["webhooks"],
        adapters={adapter.name: adapter},
        fernet=fernet,
        hints=hints,
        **clock,
    )


def _to_sandbox(app: SandboxApp, options: Options) -> HttpxTransport | AsgiTransport:
    """The way to the sandbox provider: real HTTP where another process serves it."""
    if options.sandbox_url is None or "sandbox" in (options.only or SERVICES):
        return AsgiTransport(app)
    return HttpxTransport(options.sandbox_url)


def _payments(
    options: Options,
    databases: Mapping[str, Database],
    billing: Service,
    webhooks: Service,
    *,
    sandbox: SandboxApp,
    to_sandbox: HttpxTransport | AsgiTransport,
    fernet: MultiFernet,
    seam: Callable[[type, object], Any],
) -> Service:
    adapter = SandboxAdapter()
    return build_payments(
        database=databases["payments"],
        collections=seam(Collections, billing.attributes["collections"]),
        refunds=seam(Refunds, billing.attributes["refunds"]),
        books=seam(Books, billing.attributes["books"]),
        endpoints=seam(Endpoints, webhooks.attributes["endpoints"]),
        gateways={adapter.name: Gateway(adapter, to_sandbox, now_s=options.monotonic_s)},
        accounts=sandbox,
        fernet=fernet,
        page_secret=keys.page_secret(options.secret_key),
        public_url=options.public_url,
        limits=Limits(lease_s=options.lease_s, call_s=options.lease_s * 0.6),
    )


def _seam(protocol: type, answerer: object, *, through_json: bool) -> Any:
    return boundary.local(protocol, answerer, through_json=through_json)


def _scheduler(
    databases: Mapping[str, Database],
    billing: Service,
    *,
    catalogues: Catalogues,
    checkouts: Checkouts,
) -> Service:
    announce = billing.attributes["announce"]
    assert isinstance(announce, Step)
    return build_scheduler(
        database=databases["scheduler"],
        catalogues=catalogues,
        checkouts=checkouts,
        announcers=[announce],
        housekeeping=[
            jobs.expiring(name, databases[name], IdempotencyKeys(name))
            for name in ("billing", "payments", "identity", "scheduler")
        ],
    )


def _edge(
    running: Sequence[Service],
    ring: KeyRing,
    memory: Memory,
    sandbox: SandboxApp,
    options: Options,
    ids: Ids,
) -> tuple[App, list[Step]]:
    """The application and the steps of the services that run in this process."""
    names = {each.name for each in running}
    steps = [step for service in running for step in service.all_steps()]
    mounts: dict[str, App] = {SANDBOX_AT: sandbox} if "sandbox" in names else {}
    if "entitlements" not in names:
        return build_app(running, key_ring=ring, ids=ids, mounts=mounts), steps
    route = access.access_route(
        memory, ring, max_stale_s=options.max_stale_s, when_stale=options.stale_policy
    )
    app = build_app(
        running,
        key_ring=ring,
        ids=ids,
        plain_routes={access.ROUTE: (route, access.OPERATION)},
        mounts=mounts,
    )
    return access.ahead_of(app, route), [*steps, memory.tail_step()]


class _Forward:
    """An answerer that is known later."""

    def __init__(self, late: Mapping[str, Any], name: str) -> None:
        self._late = late
        self._name = name

    def __getattr__(self, method: str) -> Any:
        async def call(*given: Any) -> Any:
            return await getattr(self._late[self._name], method)(*given)

        return call


_ROLE = text(
    "SELECT current_user AS name, r.rolsuper OR r.rolbypassrls"
    " OR pg_has_role(current_user, :owner, 'MEMBER') AS unsafe"
    " FROM pg_roles r WHERE r.rolname = current_user"
)


async def refuse_unsafe_roles(url_of: Callable[[str], str]) -> None:
    """Raise UnsafeRole if a service would run as a superuser, as the owner, or past row-level
    security: the second wall between tenants would not stand."""
    for url in sorted({url_of(name) for name in SERVICES}):
        engine = connect(url, pool_size=1)
        try:
            async with engine.connect() as connection:
                row = (await connection.execute(_ROLE, {"owner": OWNER})).one()
        finally:
            await engine.dispose()
        if row.unsafe:
            raise UnsafeRole(
                f"the role {row.name} is a superuser, the owner, or bypasses row-level security."
                " Give each service its own role (subledger migrate creates them)."
            )
