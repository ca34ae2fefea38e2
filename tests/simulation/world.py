"""A month of a shop in which a seed decides what happens next: a step of any service, a request,
a provider's fault, or a crash that loses all memory. Afterwards all is healed and must agree.

Requests ask not to wait, so that only the seed decides what runs when.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx

from subledger.hosts.assembly import Assembly, Options, assemble
from subledger.hosts.invariants import violations
from subledger.platform import crashpoints, migrate
from subledger.platform.crashpoints import Crashed, Crashpoint
from subledger.platform.db import story
from subledger.platform.ids import Ids
from subledger.platform.service import Step
from subledger.services.identity.usecases.create_tenants import TenantRequest, create_tenants

START = datetime(2026, 1, 31, 10, tzinfo=UTC)
SUBSCRIPTIONS, PICKS = 5, 60
LEASE_S = 0.4
PRICE_MINOR = 999
_OPEN = story("tests.open_simulation")
_CARDS = ("visa_ok", "visa_ok", "insufficient_funds:2", "soft_decline", "timeout", "soft_after:1")
_FAULTS = ("charge_no_reply", "charge_500", "webhook_never", "webhook_twice")
_CHAIN = (
    "identity.move_clocks", "billing.announce_due", "scheduler.announce", "billing.consume",
    "payments.consume", "payments.ask_due", "payments.answer", "payments.reserve",
    "payments.charge", "payments.checkout", "payments.attach", "sandbox.callbacks_due",
    "sandbox.deliver", "billing.consume", "scheduler.consume", "entitlements.consume",
)  # fmt: skip
_WITHOUT_CRASH = ("sandbox.claim_callbacks", "sandbox.record_callbacks", "sandbox.callback.")
"""A callback whose sender dies is sent again after twenty real seconds: too long here; the kill
sweep waits for it."""


@dataclass
class World:
    """One seed's shop. ``trace`` is what ran, in order, and how much it did."""

    seed: int
    url: str
    secret_key: str
    tenant_id: UUID = field(init=False)
    key: str = field(init=False)
    assembly: Assembly = field(init=False)
    api: httpx.AsyncClient = field(init=False)
    trace: list[tuple[str, int]] = field(default_factory=list)
    crashes: int = 0

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)
        self.ids = Ids.seeded(self.seed)
        self.customers: list[str] = []
        self.bought: dict[str, str] = {}
        self.pages: list[str] = []
        self.asked = 0

    # --- the process -----------------------------------------------------------------------------

    async def boot(self) -> None:
        """Begin, or begin again after a crash: nothing in memory survives."""
        self.assembly = assemble(
            Options(
                url_of=lambda name: migrate.service_url(self.url, name, self.secret_key),
                secret_key=self.secret_key, public_url="http://sim.test", pool_size=2,
                lease_s=LEASE_S, ids=self.ids,
            )
        )  # fmt: skip
        await self.assembly.memory.catch_up()

    def connect(self) -> None:
        self.api = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.assembly.app, raise_app_exceptions=True),
            base_url="http://sim.test", timeout=30,
            headers={"authorization": f"Bearer {self.key}", "prefer": "wait=0"},
        )  # fmt: skip

    async def crash(self) -> None:
        """Everything in memory is gone; what the dead process had claimed waits out its lease."""
        self.crashes += 1
        crashpoints.install(None)
        await self.assembly.close()
        await asyncio.sleep(LEASE_S * 1.1)
        await self.boot()
        self.connect()

    def steps(self) -> dict[str, Step]:
        return {each.name: each for each in self.assembly.steps if each.pause_s <= 1}

    # --- what can happen -------------------------------------------------------------------------

    async def live(self) -> None:
        await self.boot()
        await self._open()
        self.connect()
        await self._furnish()
        for _ in range(PICKS):
            await self._pick()
        await self.heal()

    async def _open(self) -> None:
        database = self.assembly.databases["identity"]
        live, self.tenant_id = self.ids.new(), self.ids.new()
        async with database.transaction(_OPEN) as tx:
            opened = await create_tenants(
                tx,
                [TenantRequest(live, "Sim"), TenantRequest(self.tenant_id, "Sim", live, START)],
            )
        self.key = opened[1].key

    async def _furnish(self) -> None:
        product = await self._post(
            "/v1/products", {"code": "p", "name": "P", "resources": ["film:a"]}
        )
        interval = {"unit": "month", "count": 1}
        plan = await self._post(
            "/v1/plans",
            {"code": "p", "name": "P", "product_id": product["id"],
             "prices": [{"code": "base", "currency": "EUR", "model": "flat",
                         "amount_minor": PRICE_MINOR, "interval": interval}]},
        )  # fmt: skip
        self.plan = plan["id"]
        for n in range(SUBSCRIPTIONS):
            made = await self._post(
                "/v1/customers",
                {"external_id": f"c{n}", "name": "C", "email": f"c{n}@example.com",
                 "currency": "EUR", "timezone": "Europe/Berlin"},
            )  # fmt: skip
            self.customers.append(made["id"])
        await self.drain()

    async def _pick(self) -> None:
        if self.draw.random() < 0.025:
            self._plan_crash()
        try:
            if self.draw.random() < 0.6:
                await self._step(self.draw.choice(sorted(self.steps())))
            else:
                name = self.draw.choice(sorted(self._actions()))
                await self._actions()[name]()
                self.trace.append((name, 0))
        except Crashed:
            self.trace.append(("crash", self.crashes))
            await self.crash()
        finally:
            crashpoints.install(None)

    def _plan_crash(self) -> None:
        """The process dies at the nth place that it passes from now on."""
        left = self.draw.randrange(1, 6)

        def die(point: Crashpoint) -> None:
            nonlocal left
            if point.name.startswith(_WITHOUT_CRASH):
                return
            left -= 1
            if left == 0:
                raise Crashed(point.name)

        crashpoints.install(die)

    async def _step(self, name: str) -> int:
        step = self.steps()[name]
        try:
            done = await step.run(step.limit)
        except Crashed:
            raise
        except BaseExceptionGroup as group:
            if group.subgroup(Crashed):
                raise Crashed(name) from group
            raise
        self.trace.append((name, done))
        return done

    def _actions(self) -> dict[str, Callable[[], Any]]:
        return {
            "buy": self._buy, "buy_on_page": self._buy_on_page, "card": self._card,
            "cancel": self._cancel, "undo": self._undo, "pay": self._pay, "fault": self._fault,
            "pay_page": self._pay_page, "time": self._time, "void": self._void,
        }  # fmt: skip

    async def _post(self, path: str, body: Any) -> Any:
        """A request; whatever it answers, but a server's error, is a possible life."""
        self.asked += 1
        answer = await self.api.post(
            path, json=body, headers={"idempotency-key": f"{self.seed}-{self.asked}"}
        )
        assert answer.status_code < 500, f"{path}: {answer.text}"
        return answer.json()

    async def _buy(self, **more: Any) -> Any:
        left = [each for each in self.customers if each not in self.bought]
        if not left:
            return None
        customer = self.draw.choice(left)
        answer = await self._post(
            "/v1/subscriptions", {"customer_id": customer, "plan_id": self.plan, **more}
        )
        bought = answer.get("subscription_id") or answer.get("id")
        if bought:
            self.bought[customer] = bought
        return answer

    async def _buy_on_page(self) -> None:
        await self._buy(collection="page", return_url="https://sim.example/thanks")

    async def _pay_page(self) -> None:
        page = (await self.api.get("/v1/payments", params={"status": "requires_action"})).json()
        urls = sorted(row["next_action"]["redirect_url"] for row in page["data"])
        if urls:
            number = self.draw.choice(["4242424242424242", "4000000000000002"])
            await self.api.post(
                urlsplit(self.draw.choice(urls)).path,
                data={"card_number": number, "keep": "on"},
            )

    async def _card(self) -> None:
        await self._post(
            "/v1/payment-methods",
            {"customer_id": self.draw.choice(self.customers),
             "test_kind": self.draw.choice(_CARDS), "make_default": True},
        )  # fmt: skip

    async def _cancel(self) -> None:
        if self.bought:
            one = self.bought[self.draw.choice(sorted(self.bought))]
            when = self.draw.choice(["now", "period_end", "period_end"])
            await self._post(f"/v1/subscriptions/{one}/cancel", {"when": when})

    async def _undo(self) -> None:
        if self.bought:
            one = self.bought[self.draw.choice(sorted(self.bought))]
            await self._post(f"/v1/subscriptions/{one}/undo-cancel", {})

    async def _open_invoices(self) -> list[Any]:
        page = (await self.api.get("/v1/invoices", params={"status": "open"})).json()
        return sorted(page["data"], key=lambda row: row["number"])

    async def _pay(self) -> None:
        rows = await self._open_invoices()
        if rows:
            await self._post("/v1/payments", {"invoice_id": self.draw.choice(rows)["id"]})

    async def _void(self) -> None:
        rows = await self._open_invoices()
        if rows and self.draw.random() < 0.3:
            one = self.draw.choice(rows)["id"]
            await self._post(f"/v1/invoices/{one}/void", {"reason": "simulated"})

    async def _fault(self) -> None:
        await self._set_fault(self.draw.choice(_FAULTS), self.draw.randrange(1, 3))

    async def _set_fault(self, mode: str, times: int) -> None:
        key, _ = self.assembly.sandbox.credentials(self.tenant_id)
        await self.api.post(
            "/sandbox/v1/faults", json={"mode": mode, "remaining": times},
            headers={"authorization": f"Bearer {key}"},
        )  # fmt: skip

    async def _time(self) -> None:
        clock = (await self.api.get("/v1/clock")).json()
        days = self.draw.randrange(1, 6)
        now = datetime.fromisoformat(clock["now_at"])
        await self._post("/v1/clock-moves", {"to_at": (now + timedelta(days=days)).isoformat()})

    # --- afterwards ------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Run steps until a whole round of all of them finds nothing to do."""
        for _ in range(400):
            steps = self.steps()
            while sum([await self._quietly(steps[name]) for name in _CHAIN]):
                pass
            if not sum([await self._quietly(step) for step in steps.values()]):
                return
        raise AssertionError("never quiet")

    async def _quietly(self, step: Step) -> int:
        return await step.run(step.limit)

    async def heal(self) -> None:
        """The faults stop; in bounded time everything has to be settled."""
        crashpoints.install(None)
        for mode in _FAULTS:
            await self._set_fault(mode, 0)
        await self.settle()
        clock = (await self.api.get("/v1/clock")).json()
        end_at = max(datetime.fromisoformat(clock["now_at"]), START) + timedelta(days=31)
        await self._post("/v1/clock-moves", {"to_at": end_at.isoformat()})
        await self.settle()

    async def settle(self) -> None:
        """Until no clock is moving: what a dead process had claimed needs its lease's time."""
        for _ in range(60):
            await self.drain()
            moves = (await self.api.get("/v1/clock-moves")).json()["data"]
            if all(each["status"] == "done" for each in moves):
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"the clock still moves: {moves[0]}")

    async def verdict(self) -> list[str]:
        """What is wrong in the end: invariants, journal, and an auditor's own naive books."""
        wrong = [str(each) for each in await violations(self.assembly, tenants=[self.tenant_id])]
        key, _ = self.assembly.sandbox.credentials(self.tenant_id)
        answer = await self.api.get(
            "/sandbox/v1/journal/summary", headers={"authorization": f"Bearer {key}"}
        )
        journal = answer.json()
        captured = journal["captured_minor"].get("EUR", 0)
        if journal["doubles"]:
            wrong.append(f"{journal['doubles']} attempts captured twice")
        invoices = (await self.api.get("/v1/invoices", params={"limit": 100})).json()["data"]
        paid = sum(row["total_minor"] for row in invoices if row["status"] == "paid")
        unapplied = 0
        for customer in self.customers:
            balance = (await self.api.get(f"/v1/customers/{customer}/balance")).json()
            unapplied += sum(each["unapplied_minor"] for each in balance["balances"])
        if captured != paid + unapplied:
            wrong.append(f"captured {captured}, paid {paid}, unapplied {unapplied}")
        # The auditor knows one rule: a subscription is charged at most once a month begun.
        months = 1 + (
            datetime.fromisoformat((await self.api.get("/v1/clock")).json()["now_at"]) - START
        ) // timedelta(days=28)
        if captured > len(self.bought) * months * PRICE_MINOR:
            wrong.append(f"captured {captured} of {len(self.bought)} in {months} months")
        return wrong

    async def facts(self) -> dict[str, list[tuple[str, str, int]]]:
        """Each account's events: type, moment, amount."""
        found: dict[str, list[tuple[str, str, int]]] = {}
        for n, customer in enumerate(self.customers):
            cursor: dict[str, str] = {}
            rows: list[tuple[str, str, int]] = []
            while True:
                page = (await self.api.get(
                    "/v1/events", params={"customer_id": customer, "limit": 100, **cursor}
                )).json()  # fmt: skip
                for each in page["data"]:
                    amount = each["data"].get("amount_minor", each["data"].get("total_minor", 0))
                    rows.append((each["type"], each["time"], amount))
                if not page["has_more"]:
                    break
                cursor = {"cursor": page["next_cursor"]}
            found[f"c{n}"] = rows
        return found

    async def close(self) -> None:
        crashpoints.install(None)
        await self.assembly.close()


async def simulate(seed: int, *, url: str, secret_key: str) -> World:
    """Live a seed's month and judge it. Raises AssertionError naming the seed."""
    world = World(seed=seed, url=url, secret_key=secret_key)
    try:
        await world.live()
        wrong = await world.verdict()
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {error}") from error
    assert not wrong, f"seed {seed}: {wrong}"
    return world
