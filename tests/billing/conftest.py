"""Billing behind the gateway, on a real PostgreSQL, with a tenant and keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest

from subledger.contracts.calls import Call
from subledger.contracts.checkouts import CollectionState
from subledger.contracts.events import Event
from subledger.contracts.keys import Principal
from subledger.contracts.repairs import RepairAnswer, RepairRequest
from subledger.hosts.gateway import build_app
from subledger.platform import ids
from subledger.platform.db import Database
from subledger.platform.service import Service
from subledger.services.billing import wiring

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
NEW = ids.Ids()


@dataclass
class Ring:
    """The keys that identity would know."""

    known: dict[str, Principal] = field(default_factory=dict)

    async def principal(self, credential: str) -> Principal | None:
        return self.known.get(credential)


@dataclass
class Till:
    """What payments would say of an invoice's collection: ``status``, for all alike."""

    status: str = "processing"
    redirect_url: str | None = None
    failure_code: str | None = None

    async def collection_states(
        self, call: Call, invoice_ids: Sequence[UUID]
    ) -> Sequence[CollectionState]:
        return [
            CollectionState(
                each,
                self.status,
                redirect_url=self.redirect_url,
                failure_code=self.failure_code,
            )
            for each in invoice_ids
        ]

    async def chargeable(self, call: Call, customer_id: UUID, method_id: UUID) -> bool:
        return True

    async def method_to_charge(
        self, call: Call, customer_id: UUID, method_id: UUID | None
    ) -> UUID | None:
        return method_id

    async def repair(self, call: Call, request: RepairRequest) -> RepairAnswer:
        raise AssertionError("no work item of payments is open here")

    async def return_allowed(self, call: Call, address: str) -> bool:
        return not address.startswith("https://elsewhere.example")


@dataclass
class Shop:
    """A sandbox tenant whose clock stands still, and what a test does with it."""

    url: str
    tenant_id: UUID
    database: Database
    service: Service
    till: Till
    client: httpx.AsyncClient
    reader: httpx.AsyncClient
    stranger: httpx.AsyncClient
    admin: Any
    emit: Any
    events_of: Any

    async def events(self) -> list[str]:
        """Types of all the tenant's events, per subject in order."""
        return [kind for kind, _ in await self.events_of(self.url, self.tenant_id)]

    async def events_about(self, public_id: str) -> list[tuple[str, dict[str, Any]]]:
        """A customer's events in order."""
        found: list[tuple[str, dict[str, Any]]] = await self.events_of(
            self.url, self.tenant_id, ids.parse("cus", public_id)
        )
        return found

    async def rows(self, query: str, *values: Any) -> list[Any]:
        connection = await self.admin(self.url)
        try:
            found: list[Any] = await connection.fetch(query, *values)
            return found
        finally:
            await connection.close()

    async def at(self, moment: datetime) -> None:
        """Set the tenant's clock."""
        await self.rows(
            "UPDATE identity.clocks SET now_at = $2 WHERE tenant_id = $1", self.tenant_id, moment
        )

    async def settle(self) -> None:
        """Run billing's consumer until it has nothing left."""
        while any([await each.step(500) for each in self.service.consumers]):
            pass

    async def post(self, path: str, body: Any = None, status: int = 201, **headers: str) -> Any:
        answer = await self.client.post(path, json=body, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def get(self, path: str, status: int = 200, **query: Any) -> Any:
        answer = await self.client.get(path, params=query or None)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def customer(self, **fields: Any) -> Any:
        body = {
            "name": "Ada Lovelace",
            "email": "ada@example.com",
            "currency": "EUR",
            "timezone": "Europe/Berlin",
        }
        return await self.post("/v1/customers", body | fields)

    async def product(self, **fields: Any) -> Any:
        body = {"code": "cinema", "name": "Cinema", "resources": ["film-1", "film-2"]}
        return await self.post("/v1/products", body | fields)

    async def plan(self, *prices: dict[str, Any], **fields: Any) -> Any:
        """A monthly plan at 9.99 EUR of a product of its own, unless told otherwise."""
        code = fields.pop("code", "basic")
        product = fields.pop("product_id", None) or (await self.product(code=f"of-{code}"))["id"]
        body = {"code": code, "name": "Basic", "product_id": product, "prices": prices or [flat()]}
        return await self.post("/v1/plans", body | fields)

    async def _told(self, kind: str, invoice: dict[str, Any], attempt: UUID, **data: Any) -> None:
        """Payments tells of an attempt on the invoice, and billing hears it."""
        said = {
            "payment_id": ids.text("pay", NEW.new()),
            "attempt_id": ids.text("att", attempt),
            "invoice_id": invoice["id"],
            "customer_id": invoice["customer_id"],
            "connection_id": ids.text("conn", NEW.new()),
            "amount_minor": invoice["total_minor"],
            "currency": invoice["currency"],
            "dunning": False,
        }
        event = Event(
            type=kind,
            tenant_id=self.tenant_id,
            subject=ids.parse("cus", invoice["customer_id"]),
            data=said | data,
            occurred_at=START,
        )
        await self.emit(self.database, event)
        await self.settle()

    async def _reserved(self, invoice: dict[str, Any]) -> UUID:
        rows = await self.rows(
            "SELECT attempt_id FROM billing.reservations WHERE invoice_id = $1",
            ids.parse("inv", invoice["id"]),
        )
        return UUID(int=rows[0]["attempt_id"].int)

    async def paid(self, invoice: dict[str, Any]) -> None:
        """The invoice's reserved attempt was captured."""
        attempt = await self._reserved(invoice)
        await self._told("payment.succeeded", invoice, attempt, captured_at=START.isoformat())

    async def paid_by_another_attempt(self, invoice: dict[str, Any]) -> None:
        """Money arrives for an attempt that billing knows nothing of."""
        await self._told("payment.succeeded", invoice, NEW.new(), captured_at=START.isoformat())

    async def refused(self, invoice: dict[str, Any]) -> None:
        """The invoice's reserved attempt was declined for good."""
        await self._told(
            "payment.failed",
            invoice,
            await self._reserved(invoice),
            decline="hard",
            code="card_declined",
            counted=True,
            retry_not_before=None,
            final=True,
        )

    async def check_invariants(self) -> None:
        for each in self.service.invariants:
            assert await self.rows(each.query) == [], each.name


def flat(amount_minor: Any = 999, currency: str = "EUR", **fields: Any) -> dict[str, Any]:
    """A flat monthly price."""
    price = {
        "code": "monthly",
        "currency": currency,
        "model": "flat",
        "amount_minor": amount_minor,
        "interval": {"unit": "month", "count": 1},
    }
    return price | fields


@pytest.fixture
async def shop(
    module_database_url: str,
    service_database: Any,
    make_tenant: Any,
    admin: Any,
    emit: Any,
    events_of: Any,
) -> AsyncIterator[Shop]:
    tenant = await make_tenant(module_database_url, now_at=START)
    other = await make_tenant(module_database_url, now_at=START)
    ring = Ring(
        {
            "sk_test_admin": Principal(tenant, "key_admin", "admin", "sandbox"),
            "sk_test_second": Principal(tenant, "key_second", "admin", "sandbox"),
            "sk_test_read": Principal(tenant, "key_read", "read", "sandbox"),
            "sk_test_stranger": Principal(other, "key_stranger", "admin", "sandbox"),
        }
    )
    database, till = service_database(module_database_url, "billing"), Till()
    service = wiring.build(database=database, checkouts=till, repairs=till)
    transport = httpx.ASGITransport(app=build_app([service], key_ring=ring))

    def client(key: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=transport,
            base_url="http://shop.test",
            headers={"Authorization": f"Bearer {key}", "Prefer": "wait=0"},
        )

    async with (
        client("sk_test_admin") as own,
        client("sk_test_read") as reader,
        client("sk_test_stranger") as stranger,
    ):
        yield Shop(
            url=module_database_url,
            tenant_id=tenant,
            database=database,
            service=service,
            till=till,
            client=own,
            reader=reader,
            stranger=stranger,
            admin=admin,
            emit=emit,
            events_of=events_of,
        )
