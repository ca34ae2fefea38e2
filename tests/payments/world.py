"""A shop as payments sees it: real payments, webhooks and sandbox provider on a real PostgreSQL.

Billing is the boundary: its events are written to the log by hand, and ``Billing`` answers
``reserve_collections`` as the Protocol says. Everything else is the production code.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import asyncpg
import httpx
import msgspec
from cryptography.fernet import Fernet, MultiFernet

from subledger.contracts import events
from subledger.contracts.calls import Call
from subledger.contracts.collections import DueInvoice, Reservation, ReserveRequest
from subledger.contracts.events import Event
from subledger.contracts.hints import WaitingHint
from subledger.contracts.keys import Principal
from subledger.hosts.gateway import build_app
from subledger.platform import ids
from subledger.platform.db import CLOCK_MOVER, LOG_READER, Database, sql, story
from subledger.platform.ids import Ids
from subledger.platform.service import Service
from subledger.providers.engine import AsgiTransport, Gateway
from subledger.providers.port import HttpRequest, HttpResponse
from subledger.providers.sandbox import wiring as sandbox_wiring
from subledger.providers.sandbox.adapter import SandboxAdapter
from subledger.services.payments import wiring as payments_wiring
from subledger.services.webhooks import wiring as webhooks_wiring

START = datetime(2026, 3, 1, tzinfo=UTC)
FERNET = MultiFernet([Fernet(Fernet.generate_key())])
_EMIT = story("test.emit")
_READ = story("test.read")
_NEW = Ids()

_EVENTS = sql(
    "SELECT type, data::text AS data, occurred_at FROM eventlog.events"
    " WHERE tenant_id = :tenant AND subject = :subject ORDER BY partition, position"
)


class Billing:
    """Who may collect: open invoices, one reservation each. ``amounts`` are what is open."""

    def __init__(self) -> None:
        self.open: dict[UUID, tuple[UUID, int, str]] = {}
        self.held: dict[UUID, UUID] = {}
        self.asked = 0

    async def reserve_collections(
        self, call: Call, requests: Sequence[ReserveRequest]
    ) -> Sequence[Reservation]:
        self.asked += 1
        answers = []
        for each in requests:
            if each.invoice_id is None:
                answers.append(
                    Reservation(
                        None,
                        each.attempt_id,
                        True,
                        customer_id=each.customer_id,
                        amount_minor=each.amount_minor or 0,
                        currency=each.currency or "",
                    )
                )
                continue
            known = self.open.get(each.invoice_id)
            if known is None:
                answers.append(
                    Reservation(each.invoice_id, each.attempt_id, False, "unknown_invoice")
                )
                continue
            holder = self.held.setdefault(each.invoice_id, each.attempt_id)
            if holder != each.attempt_id:
                answers.append(Reservation(each.invoice_id, each.attempt_id, False, "reserved"))
                continue
            customer, amount, currency = known
            answers.append(
                Reservation(
                    each.invoice_id,
                    each.attempt_id,
                    True,
                    customer_id=customer,
                    amount_minor=amount,
                    currency=currency,
                )
            )
        return answers

    async def due_invoices(self, call: Call, invoice_ids: Sequence[UUID]) -> Sequence[DueInvoice]:
        return [
            DueInvoice(each, "A-000001", "open", self.open[each][1], self.open[each][2])
            for each in invoice_ids
            if each in self.open
        ]


class Ring:
    """Two API keys per tenant: one may do everything, one may read."""

    def __init__(self) -> None:
        self.tenants: dict[str, tuple[UUID, str]] = {}

    async def principal(self, credential: str) -> Principal | None:
        role = "read" if credential.startswith("sk_read_") else "admin"
        found = self.tenants.get(credential.replace("sk_read_", "sk_test_"))
        return found and Principal(found[0], f"key-{credential}", role, found[1])


class Post:
    """Carries the sandbox's webhooks to the gateway; may lose, repeat or forge them."""

    def __init__(self) -> None:
        self.app: Any = None
        self.times = 1
        self.sent: list[tuple[HttpRequest, int]] = []

    async def send(self, request: HttpRequest) -> HttpResponse:
        answer = HttpResponse(500, {}, b"")
        for _ in range(self.times):
            answer = await AsgiTransport(self.app).send(request)
            self.sent.append((request, answer.status))
        return answer


class World:
    """One database with its services; tenants, customers and invoices are made as needed."""

    def __init__(self, admin: asyncpg.Connection[Any], databases: dict[str, Database]) -> None:
        self.admin = admin
        self.databases = databases
        self.billing = Billing()
        self.ring = Ring()
        self.post = Post()
        self.sandbox = sandbox_wiring.build(
            database=databases["sandbox"],
            secret_key="provider-secret",
            public_url="http://provider.test",
            transport=self.post,
        )
        self.provider = cast(Any, self.sandbox.attributes["app"])
        adapter = SandboxAdapter()
        self.gateway = Gateway(adapter, AsgiTransport(self.provider), breaks=False)
        self.restart()

    def restart(self) -> None:
        """A new process: nothing is remembered but what was committed."""
        self.webhooks = webhooks_wiring.build(
            database=self.databases["webhooks"],
            adapters={"sandbox": SandboxAdapter()},
            fernet=FERNET,
            hints=self,
        )
        self.payments = self.build_payments()
        self.app: Any = build_app([self.payments, self.webhooks], key_ring=self.ring)
        self.post.app = self.app

    async def waiting_hints(self, call: Call, webhook_ids: Sequence[UUID]) -> Sequence[WaitingHint]:
        """Whichever payments is alive now."""
        hints = cast(Any, self.payments.attributes["hints"])
        found: Sequence[WaitingHint] = await hints.waiting_hints(call, webhook_ids)
        return found

    async def front(self, scope: Any, receive: Any, send: Any) -> None:
        """Whichever process is alive now."""
        await self.app(scope, receive, send)

    def build_payments(self, **changed: Any) -> Service:
        given: dict[str, Any] = {
            "database": self.databases["payments"],
            "collections": self.billing,
            "endpoints": self.webhooks.attributes["endpoints"],
            "refunds": cast(Any, None),  # refunds are whole stories: tests/stories/test_refunds.py
            "books": cast(Any, None),  # so is reconciliation
            "gateways": {"sandbox": self.gateway},
            "accounts": self.provider,
            "fernet": FERNET,
            "page_secret": b"payers' pages",
            "public_url": "http://gateway.test",
        }
        return payments_wiring.build(**(given | changed))

    # --- people and invoices -------------------------------------------------------------------

    async def shop(self, *, mode: str = "sandbox") -> Shop:
        tenant = _NEW.new()
        live = _NEW.new() if mode == "sandbox" else None
        await self.admin.execute(
            "INSERT INTO identity.tenants VALUES ($1, 'shop', $2, $3, now(), NULL)",
            *(tenant, mode, live),
        )
        await self.admin.execute(
            "INSERT INTO identity.clocks (tenant_id, mode, now_at) VALUES ($1, $2, $3)",
            *(tenant, mode, START if mode == "sandbox" else None),
        )
        key = f"sk_test_{tenant.hex}"
        self.ring.tenants[key] = (tenant, mode)
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=self.front),
            base_url="http://gateway.test",
            headers={"authorization": f"Bearer {key}"},
        )
        return Shop(self, tenant, client)

    async def settle(self, *, leave_out: Sequence[str] = ()) -> None:
        """Run every step of every service until there is nothing to do."""
        steps = [
            *self.payments.all_steps(),
            *self.webhooks.all_steps(),
            *self.sandbox.all_steps(),
        ]
        for _ in range(200):
            done = 0
            for step in steps:
                if step.name not in leave_out:
                    done += await step.run(step.limit)
            if done == 0:
                return
        raise AssertionError("never quiet")

    async def violations(self) -> list[str]:
        tenants = [tenant for tenant, _ in self.ring.tenants.values()]
        found = []
        for service in (self.payments, self.sandbox):
            async with service.database.transaction(_READ, tenants=tenants) as tx:
                for each in service.invariants:
                    rows = await tx.rows(sql(each.query))
                    found += [f"{each.name}: {row.detail}" for row in rows]
        return found


class Shop:
    """A tenant with its clock, its API key and what billing would tell about it."""

    def __init__(self, world: World, tenant: UUID, client: httpx.AsyncClient) -> None:
        self.world = world
        self.tenant = tenant
        self.http = client

    async def now(self) -> datetime:
        value: datetime | None = await self.world.admin.fetchval(
            "SELECT coalesce(now_at, clock_timestamp()) FROM identity.clocks WHERE tenant_id = $1",
            self.tenant,
        )
        assert value is not None
        return value

    async def advance(self, by: timedelta) -> None:
        await self.world.admin.execute(
            "UPDATE identity.clocks SET now_at = now_at + $2 WHERE tenant_id = $1", self.tenant, by
        )

    async def emit(self, kind: str, subject: UUID, data: dict[str, Any]) -> None:
        database = self.world.databases["billing"]
        now = await self.now()
        async with database.transaction(_EMIT, tenants=[self.tenant]) as tx:
            tx.emit([Event(kind, self.tenant, subject, data, now)])

    async def customer(self, *kinds: str, currency: str = "EUR") -> UUID:
        """A customer known from billing's event, with a test method of each kind."""
        customer = _NEW.new()
        await self.emit(
            events.CUSTOMER_CREATED,
            customer,
            {
                "customer_id": ids.text("cus", customer),
                "external_id": f"viewer-{customer}",
                "currency": currency,
                "timezone": "Europe/Berlin",
            },
        )
        while await self.world.payments.consumers[0].step(1000):
            continue
        for kind in kinds:
            await self.method(customer, kind)
        return customer

    async def method(self, customer: UUID, kind: str, **fields: Any) -> str:
        body = {"customer_id": ids.text("cus", customer), "test_kind": kind, **fields}
        answer = await self.http.post("/v1/payment-methods", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def invoice(
        self, customer: UUID, amount: int = 999, *, collection: bool = True, **fields: Any
    ) -> tuple[UUID, UUID]:
        """A finalized invoice with its reservation: ``(invoice, attempt)``."""
        invoice, attempt = _NEW.new(), _NEW.new()
        self.world.billing.open[invoice] = (customer, amount, "EUR")
        collected = None
        if collection:
            self.world.billing.held[invoice] = attempt
            collected = {
                "mode": "automatic",
                "attempt_id": ids.text("att", attempt),
                "amount_minor": amount,
                "payment_method_id": None,
                "dunning": True,
                "return_url": None,
            } | fields
        await self.emit(
            events.INVOICE_FINALIZED,
            customer,
            {
                "invoice_id": ids.text("inv", invoice),
                "number": "A-000001",
                "customer_id": ids.text("cus", customer),
                "currency": "EUR",
                "subtotal_minor": amount,
                "discount_minor": 0,
                "tax_minor": 0,
                "total_minor": amount,
                "status": "open",
                "due_at": (await self.now()).isoformat(),
                "reason": "renewal",
                "subscription_ids": [],
                "collection": collected,
            },
        )
        return invoice, attempt

    async def retry(self, customer: UUID, invoice: UUID, number: int) -> None:
        self.world.billing.held.pop(invoice, None)
        await self.emit(
            events.RETRY_REQUIRED,
            customer,
            {
                "invoice_id": ids.text("inv", invoice),
                "customer_id": ids.text("cus", customer),
                "number": number,
            },
        )

    async def facts(self, customer: UUID) -> list[tuple[str, dict[str, Any]]]:
        """What payments told about the customer, in order."""
        database = self.world.databases["billing"]
        async with (
            database.transaction(_READ, tenants=[self.tenant]) as tx,
            tx.reading_as(LOG_READER),
        ):
            rows = await tx.rows(_EVENTS, tenant=self.tenant, subject=customer)
        told = [(row.type, msgspec.json.decode(row.data)) for row in rows]
        return [(kind, data) for kind, data in told if kind.startswith(("payment.", "payment_"))]

    async def told(self, customer: UUID) -> list[str]:
        """Types of payments' events, without the methods attached at the beginning."""
        kinds = [kind for kind, _ in await self.facts(customer)]
        return [kind for kind in kinds if kind != events.PAYMENT_METHOD_ATTACHED]

    async def facts_of_all(self) -> list[tuple[str, dict[str, Any]]]:
        """What payments told about all of the tenant's customers."""
        rows = await self.world.admin.fetch(
            "SELECT type, data::text AS data FROM eventlog.events WHERE tenant_id = $1"
            " AND type LIKE 'payment.%' ORDER BY partition, position",
            self.tenant,
        )
        return [(row["type"], msgspec.json.decode(row["data"])) for row in rows]

    async def all_facts(self) -> list[dict[str, Any]]:
        return [data for _, data in await self.facts_of_all()]

    async def payments_of(self, invoice: UUID) -> list[dict[str, Any]]:
        """The invoice's payments as the API shows them, the newest first."""
        answer = await self.http.get(
            "/v1/payments", params={"invoice_id": ids.text("inv", invoice)}
        )
        found: list[dict[str, Any]] = answer.json()["data"]
        return found

    async def page_address(self, invoice: UUID) -> str:
        return str((await self.payments_of(invoice))[0]["next_action"]["redirect_url"])

    async def journal(self) -> dict[str, Any]:
        """What the provider says that it captured."""
        api_key, _ = self.world.provider.credentials(self.tenant)
        request = HttpRequest("GET", "/v1/journal/summary", {"authorization": f"Bearer {api_key}"})
        answer = await AsgiTransport(self.world.provider).send(request)
        found: dict[str, Any] = msgspec.json.decode(answer.body)
        return {name: found[name] for name in ("captured_minor", "captures", "doubles")}

    async def fault(self, mode: str, remaining: int) -> None:
        api_key, _ = self.world.provider.credentials(self.tenant)
        body = msgspec.json.encode({"mode": mode, "remaining": remaining})
        answer = await AsgiTransport(self.world.provider).send(
            HttpRequest("POST", "/v1/faults", {"authorization": f"Bearer {api_key}"}, body)
        )
        assert answer.status == 200, answer.body

    async def unquiet(self) -> list[str]:
        """What keeps the tenant's clock from moving."""
        found = []
        database = self.world.databases["identity"]
        for service in (self.world.payments, self.world.sandbox):
            async with (
                database.transaction(_READ, tenants=[self.tenant]) as tx,
                tx.reading_as(CLOCK_MOVER),
            ):
                for each in service.quiet:
                    rows = await tx.rows(sql(each.query), tenant=self.tenant)
                    found += [str(row.what) for row in rows if tuple(row)[1]]
        return found

    async def pay_page(self, url: str, card: str, *, save: bool = True) -> str:
        """Open the hosted page as a browser would, and pay; returns the page's text."""
        path = url.removeprefix("http://provider.test")
        transport = httpx.ASGITransport(app=self.world.provider)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://provider.test"
        ) as browser:
            shown = await browser.get(path)
            assert shown.status_code == 200, shown.text
            form = {"card_number": card}
            if save:
                form["keep"] = "on"
            answer = await browser.post(path, data=form)
            return answer.text

    async def pay_page_anyway(self, url: str) -> str:
        """What a browser is shown at a page that may be over."""
        path = url.removeprefix("http://provider.test")
        transport = httpx.ASGITransport(app=self.world.provider)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://provider.test"
        ) as browser:
            await browser.post(path, data={"card_number": "4242424242424242"})
            return (await browser.get(path)).text
