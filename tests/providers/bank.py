"""The sandbox provider on a real PostgreSQL, its merchants, and where its webhooks arrive."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import asyncpg
import msgspec
import uvicorn

from subledger.platform.db import Database
from subledger.platform.ids import Ids
from subledger.providers.engine import AsgiTransport, Gateway
from subledger.providers.port import (
    ChargeRequest,
    CheckoutRequest,
    Connection,
    HttpRequest,
    HttpResponse,
    Outcome,
    SavedMethod,
    Transport,
)
from subledger.providers.sandbox import wiring
from subledger.providers.sandbox.adapter import SandboxAdapter
from subledger.providers.sandbox.app import SandboxApp
from subledger.providers.transport import HttpxTransport

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
BACK = "https://shop.test/back?order=7"
_NEW = Ids()


class Inbox:
    """Where webhooks arrive; answers with the next of ``statuses``, then with 200."""

    def __init__(self) -> None:
        self.got: list[HttpRequest] = []
        self.statuses: list[int] = []

    async def send(self, request: HttpRequest) -> HttpResponse:
        self.got.append(request)
        return HttpResponse(self.statuses.pop(0) if self.statuses else 200, {}, b"{}")

    def told(self, merchant: Merchant) -> list[dict[str, Any]]:
        """The notifications that this merchant got, in order."""
        return [
            msgspec.json.decode(each.body) for each in self.got if each.path == merchant.hook_path
        ]


class Bank:
    """One provider, to be served at ``url``; a second one on its database is another process."""

    def __init__(self, admin: asyncpg.Connection[Any], database: Database, url: str) -> None:
        self.admin = admin
        self.url = url
        self.inbox = Inbox()
        self.service = wiring.build(
            database=database, secret_key="bank", public_url=url, transport=self.inbox
        )
        self.app = cast(SandboxApp, self.service.attributes["app"])
        self.in_process: Transport = AsgiTransport(self.app)
        self.over_http: Transport = HttpxTransport(url)

    async def merchant(self) -> Merchant:
        tenant = _NEW.new()
        await self.admin.execute(
            "INSERT INTO identity.tenants VALUES ($1, 'shop', 'sandbox', $2, now(), NULL)",
            *(tenant, _NEW.new()),
        )
        await self.admin.execute(
            "INSERT INTO identity.clocks (tenant_id, mode, now_at) VALUES ($1, 'sandbox', $2)",
            *(tenant, START),
        )
        hook_path = f"/hooks/{tenant}"
        key, secret = await self.app.provision(tenant, hook_path)
        connection = Connection(f"conn-{tenant}", "sandbox", key, secret)
        return Merchant(self, tenant, connection, hook_path)

    async def settle(self) -> None:
        """Run the provider's steps until there is nothing to do."""
        while sum([await step.run(step.limit) for step in self.service.steps]):
            continue


class Merchant:
    """A tenant's account at the provider, over one of the two transports."""

    def __init__(self, bank: Bank, tenant: UUID, connection: Connection, hook_path: str) -> None:
        self.bank = bank
        self.tenant = tenant
        self.connection = connection
        self.hook_path = hook_path
        self.over(bank.in_process)

    def over(self, transport: Transport) -> Merchant:
        self.transport = transport
        self.gateway = Gateway(SandboxAdapter(), transport, breaks=False)
        return self

    async def method(self, kind: str) -> SavedMethod:
        saved = await self.gateway.attach_test_method(self.connection, kind, f"key-{_NEW.new()}")
        assert isinstance(saved, SavedMethod)
        return saved

    async def charge(
        self,
        method: SavedMethod,
        attempt: str,
        *,
        amount_minor: int = 1250,
        currency: str = "EUR",
        capture: bool = True,
    ) -> Outcome:
        request = ChargeRequest(attempt, method.token, amount_minor, currency, capture=capture)
        return await self.gateway.charge_saved(self.connection, request)

    async def page(
        self,
        attempt: str,
        *,
        amount_minor: int = 1250,
        currency: str = "EUR",
        save: bool = True,
        capture: bool = True,
    ) -> Outcome:
        request = CheckoutRequest(
            attempt, amount_minor, currency, BACK, save, "en", "Cinema", capture=capture
        )
        return await self.gateway.start_checkout(self.connection, request)

    async def ask(
        self, method: str, path: str, data: Any = None, *, key: str | None = None
    ) -> tuple[int, Any]:
        """A request of the interface as a merchant's own program would make it."""
        headers = {"authorization": f"Bearer {self.connection.api_key}"}
        if key is not None:
            headers["idempotency-key"] = key
        body = b"" if data is None else msgspec.json.encode(data)
        answer = await self.transport.send(HttpRequest(method, path, headers, body))
        return answer.status, msgspec.json.decode(answer.body)

    async def fault(self, mode: str, remaining: int = 1) -> None:
        answer = await self.ask("POST", "/v1/faults", {"mode": mode, "remaining": remaining})
        assert answer == (200, {"mode": mode, "remaining": remaining})

    async def summary(self) -> Any:
        """All that the provider's journal says."""
        status, data = await self.ask("GET", "/v1/journal/summary")
        assert status == 200
        return data

    async def journal(self) -> Any:
        """What it says of captures."""
        summary = await self.summary()
        return {name: summary[name] for name in ("captured_minor", "captures", "doubles")}

    async def advance(self, by: timedelta) -> None:
        await self.bank.admin.execute(
            "UPDATE identity.clocks SET now_at = now_at + $2 WHERE tenant_id = $1", self.tenant, by
        )


@asynccontextmanager
async def served(build: Callable[[str], Any]) -> AsyncIterator[Any]:
    """What ``build(url)`` made, its ``app`` served by a real server on a free port."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    made = build(f"http://127.0.0.1:{listening.getsockname()[1]}")
    config = uvicorn.Config(made.app, lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    # Without its signal handlers: they belong to the test run.
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[listening])
    yield made
    server.should_exit = True
    await server.shutdown(sockets=[listening])
