"""A shop in a fresh sandbox tenant, spoken to over the public API alone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx
from sqlalchemy import text

from subledger.hosts.assembly import Assembly
from subledger.platform.db import story
from subledger.services.identity.usecases.create_tenants import TenantRequest, create_tenants
from tests.pump import Pump

_OPEN = story("tests.open_shop")
START = datetime(2026, 1, 31, 10, tzinfo=UTC)
VISA, LOW_FUNDS = "4242 4242 4242 4242", "4000 0000 0000 9995"


class Answer(AssertionError):
    """An answer that a story did not expect."""


@dataclass
class Shop:
    """Everything a story needs; ``events`` are read in the account's order."""

    assembly: Assembly
    pump: Pump
    api: httpx.AsyncClient
    tenant_id: UUID
    key: str
    live_key: str
    plans: dict[str, str] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)

    # --- requests --------------------------------------------------------------------------------

    async def raw(self, method: str, path: str, **given: Any) -> httpx.Response:
        """Any request, answered while the process's steps run."""
        request = self.api.request(method, path, **given)
        return await self.pump.during(request, reads=method == "GET")

    async def post(self, path: str, body: Any = None, *, expect: int = 201, **headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await self.raw("POST", path, json=body or {}, headers=named)
        if answer.status_code != expect:
            raise Answer(f"POST {path}: {answer.status_code} {answer.text}")
        return answer.json()

    async def get(self, path: str, *, expect: int = 200, **query: Any) -> Any:
        answer = await self.raw("GET", path, params=query)
        if answer.status_code != expect:
            raise Answer(f"GET {path}: {answer.status_code} {answer.text}")
        return answer.json()

    # --- the shop --------------------------------------------------------------------------------

    async def plan(
        self, code: str = "basic", *, amounts: dict[str, int] | None = None, unit: str = "month",
        resources: tuple[str, ...] = ("film:a", "film:b"), grace_days: int = 16, **more: Any,
    ) -> str:  # fmt: skip
        product = await self.post(
            "/v1/products", {"code": code, "name": code.title(), "resources": list(resources)}
        )
        prices = [
            {"code": "base", "currency": currency, "model": "flat", "amount_minor": amount,
             "interval": {"unit": unit, "count": 1}}
            for currency, amount in (amounts or {"EUR": 999}).items()
        ]  # fmt: skip
        plan = await self.post(
            "/v1/plans",
            {"code": code, "name": code.title(), "product_id": product["id"], "prices": prices,
             "grace_days": grace_days, **more},
        )  # fmt: skip
        self.plans[code] = plan["id"]
        return str(plan["id"])

    async def customer(
        self, name: str = "ada", *, currency: str = "EUR", timezone: str = "Europe/Berlin"
    ) -> str:
        made = await self.post(
            "/v1/customers",
            {"external_id": name, "name": name.title(), "email": f"{name}@example.com",
             "currency": currency, "timezone": timezone},
        )  # fmt: skip
        await self.pump.woken()
        return str(made["id"])

    async def card(self, customer: str, kind: str = "visa_ok") -> str:
        made = await self.post(
            "/v1/payment-methods",
            {"customer_id": customer, "test_kind": kind, "make_default": True},
        )
        await self.pump.woken()
        return str(made["id"])

    async def subscribe(self, customer: str, plan: str, **more: Any) -> Any:
        bought = await self.post(
            "/v1/subscriptions", {"customer_id": customer, "plan_id": plan, **more}
        )
        await self.pump.woken()
        return bought

    async def refused(self, customer: str, plan: str) -> Any:
        """A purchase that the bank declines: a problem that names what stays open."""
        answer = await self.post(
            "/v1/subscriptions", {"customer_id": customer, "plan_id": plan}, expect=402
        )
        await self.pump.woken()
        return answer

    async def move_to(self, moment: str) -> Any:
        """Let time pass to ``moment`` (UTC) with all that becomes due until then."""
        at = moment if "T" in moment else f"{moment}T00:00:00"
        move = await self.post("/v1/clock-moves", {"to_at": f"{at}Z"}, expect=202)
        for n in range(1, 2_000):
            await self.pump.woken()
            move = await self.get(f"/v1/clock-moves/{move['id']}")
            if move["status"] != "moving":
                break
            if n % 50 == 0:  # something waits by the wall clock: loops would look by themselves
                await asyncio.sleep(0.05)
                await self.pump.once()
        assert move["status"] == "done", move
        return move

    async def pay_page(self, url: str, number: str = VISA) -> httpx.Response:
        """What the payer's browser sends."""
        return await self.raw(
            "POST", urlsplit(url).path, data={"card_number": number, "keep": "on"}
        )

    # --- looking ---------------------------------------------------------------------------------

    async def new_events(self, customer: str) -> list[str]:
        """The types of the account's events since the last look, in order."""
        await self.pump.woken()
        found: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = await self.get("/v1/events", customer_id=customer, limit=100, **cursor)
            found += [each["type"] for each in page["data"]]
            if not page["has_more"]:
                break
            cursor = {"cursor": page["next_cursor"]}
        before = self.seen.get(customer, 0)
        self.seen[customer] = len(found)
        return found[before:]

    async def invoices(self, customer: str) -> list[tuple[str, str, int]]:
        """``(number, status, total)`` of the customer's invoices, oldest first."""
        page = await self.get("/v1/invoices", customer_id=customer, limit=100)
        rows = [(row["number"], row["status"], row["total_minor"]) for row in page["data"]]
        return sorted(rows)

    async def last_invoice(self, customer: str) -> Any:
        page = await self.get("/v1/invoices", customer_id=customer, limit=100)
        return max(page["data"], key=lambda row: (row["number"] is None, row["number"] or ""))

    async def status(self, subscription: str) -> str:
        await self.pump.woken()
        return str((await self.get(f"/v1/subscriptions/{subscription}"))["status"])

    async def access(self, customer: str, resource: str = "film:a") -> Any:
        await self.pump.woken()
        return await self.get(f"/v1/access/{customer}/{resource}")

    async def captured(self) -> dict[str, int]:
        """What the provider's own journal says was captured and not refunded; never twice for an
        attempt."""
        return dict((await self.journal()).get("captured_minor", {}))

    async def journal(self) -> dict[str, Any]:
        """The provider's own journal, summed up; nothing if it was never asked for anything."""
        await self.pump.woken()
        key, _ = self.assembly.sandbox.credentials(self.tenant_id)
        answer = await self.raw(
            "GET", "/sandbox/v1/journal/summary", headers={"authorization": f"Bearer {key}"}
        )
        if answer.status_code == 401:
            return {}  # the tenant never asked the provider for anything
        summary: dict[str, Any] = answer.json()
        assert summary["doubles"] == 0
        return summary

    async def held(self) -> dict[str, int]:
        """What the provider holds for the shop: captured, not given back and not paid out."""
        await self.pump.woken()
        key, _ = self.assembly.sandbox.credentials(self.tenant_id)
        answer = await self.raw(
            "GET", "/sandbox/v1/balance", headers={"authorization": f"Bearer {key}"}
        )
        return {} if answer.status_code == 401 else dict(answer.json()["amount_minor"])

    async def fault(self, mode: str, times: int) -> None:
        key, _ = self.assembly.sandbox.credentials(self.tenant_id)
        answer = await self.raw(
            "POST", "/sandbox/v1/faults", json={"mode": mode, "remaining": times},
            headers={"authorization": f"Bearer {key}"},
        )  # fmt: skip
        assert answer.status_code == 200, answer.text

    async def check(self, *, without: frozenset[str] = frozenset()) -> None:
        """Every service's invariants hold for this tenant, and the books balance; ``without`` those
        that a story breaks by speaking to a seam of its own."""
        await self.pump.quiet()
        for service in self.assembly.services:
            async with service.database.transaction(_CHECK, tenants=[self.tenant_id]) as tx:
                for each in service.invariants:
                    if each.name not in without:
                        rows = await tx.rows(text(each.query))
                        assert not rows, f"{service.name}: {each.name}: {rows}"
        balance = await self.get("/v1/ledger/trial-balance")
        assert all(each["balance_minor"] == 0 for each in balance["currencies"]), balance
        cleared = {
            currency["currency"]: sum(
                account["balance_minor"]
                for account in currency["accounts"]
                if account["account"].startswith("provider_clearing:")
            )
            for currency in balance["currencies"]
        }
        await self.captured()
        assert {k: v for k, v in cleared.items() if v} == await self.held()


async def seats_plan(
    shop: Shop, code: str = "seats", *, amount: str = "1000", unit: str = "month",
    resource: str = "film:a",
) -> str:  # fmt: skip
    """A plan of seats at one price each a month."""
    product = await shop.post(
        "/v1/products", {"code": code, "name": code.title(), "resources": [resource]}
    )
    plan = await shop.post(
        "/v1/plans",
        {"code": code, "name": code.title(), "product_id": product["id"], "prices": [
            {"code": "seat", "currency": "EUR", "model": "per_unit", "unit_amount": amount,
             "interval": {"unit": unit, "count": 1}}]},
    )  # fmt: skip
    return str(plan["id"])


_CHECK = story("tests.check_invariants")


async def open_shop(assembly: Assembly, *, start: datetime = START) -> Shop:
    """A fresh sandbox tenant with its admin key."""
    database = assembly.databases["identity"]
    live, tenant = database.ids.new(), database.ids.new()
    async with database.transaction(_OPEN) as tx:
        opened = await create_tenants(
            tx, [TenantRequest(live, "Shop"), TenantRequest(tenant, "Shop test", live, start)]
        )
    api = httpx.AsyncClient(
        transport=httpx.ASGITransport(assembly.app), base_url="http://shop.test", timeout=60,
        headers={"authorization": f"Bearer {opened[1].key}"},
    )  # fmt: skip
    return Shop(
        assembly=assembly, pump=Pump(assembly), api=api, tenant_id=tenant, key=opened[1].key,
        live_key=opened[0].key,
    )  # fmt: skip
