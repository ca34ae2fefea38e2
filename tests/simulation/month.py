"""A month of a shop in which a seed decides what happens next, and then ten quiet days.

A step of any service, a request, a fault of the provider, a death of the process, an hour on the
wall. Requests do not wait (``Prefer: wait=0``), so nothing but the seed decides what runs when.
A request whose process died is sent again with its idempotency key, as a shop would.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx

from subledger.platform import ids
from subledger.platform.db import story
from subledger.services.identity.usecases.create_tenants import TenantRequest, create_tenants
from tests.simulation.life import Died, Life

START = datetime(2026, 1, 12, 9, 30, tzinfo=UTC)
MONTH, QUIET_DAYS, MORE = timedelta(days=31), timedelta(days=41), timedelta(hours=8)
MOST_ROUNDS = 18
MOST_UNKNOWN = 3
"""More answers lost in a row would open the provider's breaker, which counts wall-clock time."""

KINDS = (
    *("visa_ok",) * 5,
    *("pending_ok", "pending_decline", "timeout", "timeout_lost", "requires_action"),
    *("soft_decline", "hard_decline", "insufficient_funds:2", "soft_after:1", "hard_after:1"),
)
CARDS = ("4242 4242 4242 4242", "4242 4242 4242 4242", "4000 0000 0000 0002")
FAULTS = ("charge_no_reply", "charge_500", "webhook_never", "webhook_twice")
ONE_AT_A_TIME = {"payments.charge", "payments.checkout"}
"""Their calls run side by side: with one, the order is the seed's and not the network's."""
_OPEN = story("tests.open_simulation")


@dataclass
class Person:
    """A customer of the shop as the shop remembers it."""

    name: str
    plan: str
    wants_page: bool
    id: str = ""
    subscription: str = ""
    cards: list[str] = field(default_factory=list)


@dataclass
class Request:
    """A request that is sent until it is answered."""

    what: str
    who: Person | None
    method: str
    path: str
    body: Any
    key: str


class Month:
    """One seed, from an empty tenant to its last quiet day."""

    def __init__(self, *, seed: int, life: Life) -> None:
        self.seed = seed
        self.draw = random.Random(seed)
        self.life = life
        self.trace: list[tuple[str, int]] = []
        """What was done and how much it did; of a request, its status; of a death, which one."""
        self.people: list[Person] = []
        self.plans: dict[str, str] = {}
        self.tenant_id: UUID
        self.end_at = START
        self._key = ""
        self._asked = 0
        self._waiting: list[Request] = []

    # --- the course of things --------------------------------------------------------------------

    async def lived(self) -> None:
        """The whole of it. Raises AssertionError if anything answers as it never should."""
        self.life.begin(self.seed)
        await self._open()
        for _ in range(MOST_ROUNDS):
            await self._round()
        await self._safely()

    async def _open(self) -> None:
        database = self.life.assembly.databases["identity"]
        live, self.tenant_id = database.ids.new(), database.ids.new()
        async with database.transaction(_OPEN) as tx:
            opened = await create_tenants(
                tx, [TenantRequest(live, "L"), TenantRequest(self.tenant_id, "S", live, START)]
            )
        self._key = opened[1].key
        product = await self._must("/v1/products", code="p", name="P", resources=["film:a"])
        for unit, amount in (("week", 300), ("month", 999)):
            interval = {"unit": unit, "count": 1}
            price = {
                "code": "base", "currency": "EUR", "model": "per_unit",
                "unit_amount": str(amount), "interval": interval,
            }  # fmt: skip
            plan = await self._must(
                "/v1/plans", code=unit, name=unit, product_id=product["id"], prices=[price]
            )
            self.plans[unit] = plan["id"]
        self.people = [
            Person(f"c{n}", self.draw.choice(("week", "month")), self.draw.random() < 0.3)
            for n in range(5)
        ]
        for each in self.people:
            made = await self._must(
                "/v1/customers", external_id=each.name, name=each.name, currency="EUR",
                email=f"{each.name}@example.com", timezone="UTC",
            )  # fmt: skip
            each.id = made["id"]
        await self.life.quiet()

    async def _round(self) -> None:
        """A few things, as drawn; a death in their midst is followed by the next process."""
        draw = self.draw
        if draw.random() < 0.04:
            self.life.doom(draw.randrange(1, draw.choice((4, 40))))
        try:
            if self._waiting and draw.random() < 0.5:
                await self._send(self._waiting[0])
            elif draw.random() < 0.75:
                await self._something()
            if draw.random() < 0.08:
                await self.life.wall_time_passes()
                self.trace.append(("an hour on the wall", 0))
            for _ in range(draw.randrange(1, 6)):
                await self._step(draw.choice(sorted(self.life.steps)))
        except Died as died:
            self.trace.append((str(died), len(self.life.deaths)))

    async def _step(self, name: str) -> None:
        limit = 1 if name in ONE_AT_A_TIME else self.draw.choice((1, 3, 500, 500))
        self.trace.append((name, await self.life.step(name, limit)))

    async def _safely(self) -> None:
        """The faults stop; within bounded time everything has to be settled."""
        self.life.doom(0)
        for request in list(self._waiting):
            await self._send(request)
        for mode in FAULTS:
            await self._fault(mode, 0)
        await self._settled(START + QUIET_DAYS)
        for _ in range(10):
            if not await self._undecided():
                return
            # What was lost in the last hours is asked about in the next ones.
            await self._settled(self.end_at + MORE)
        raise AssertionError("a payment stays unknown")

    async def _settled(self, to_at: datetime) -> None:
        for _ in range(60):
            await self.life.wall_time_passes()
            await self.life.quiet()
            moves = (await self.api_get("/v1/clock-moves"))["data"]
            if any(each["status"] == "moving" for each in moves):
                continue
            assert all(each["status"] == "done" for each in moves), moves
            clock = await self.api_get("/v1/clock")
            if datetime.fromisoformat(clock["now_at"]) >= to_at:
                self.end_at = to_at
                return
            await self._must("/v1/clock-moves", to_at=to_at.isoformat(), expect=202)
        raise AssertionError(f"the clock still moves: {moves[0]}")

    async def _undecided(self) -> int:
        """Attempts of which the shop does not know yet what the provider does."""
        count: int = await self.life.admin.fetchval(
            "SELECT count(*) FROM payments.attempts WHERE tenant_id = $1"
            " AND state IN ('ready', 'reserving', 'in_flight', 'unknown')",
            self.tenant_id,
        )
        return count

    # --- what people do --------------------------------------------------------------------------

    async def _something(self) -> None:
        who = self.draw.choice(self.people)
        match self.draw.choice(
            ("buy", "buy", "card", "card", "pay", "page", "cancel", "undo", "fault", "time", "time",
             "time", "void", "change", "change")
        ):  # fmt: skip
            case "buy":
                await self._buy(who)
            case "card":
                body = {
                    "customer_id": who.id, "test_kind": self.draw.choice(KINDS),
                    "make_default": self.draw.random() < 0.8,
                }  # fmt: skip
                await self._ask("card", who, "/v1/payment-methods", body)
            case "pay":
                await self._pay(who)
            case "page":
                await self._visit_page(who)
            case "cancel" if who.subscription:
                when = self.draw.choice(("now", "period_end", "period_end"))
                path = f"/v1/subscriptions/{who.subscription}/cancel"
                body = {"when": when, "credit_unused": self.draw.random() < 0.5}
                await self._ask("cancel", who, path, body)
            case "undo" if who.subscription:
                path = f"/v1/subscriptions/{who.subscription}/undo-cancel"
                await self._ask("undo", who, path, None)
            case "change" if who.subscription:
                path = f"/v1/subscriptions/{who.subscription}/change"
                at = self.draw.choice((None, None, "period_end"))
                body = {"quantity": self.draw.choice("123"), "at": at, "settle": "now"}
                await self._ask("change", who, path, body)
            case "void" if who.subscription:
                await self._void(who)
            case "fault":
                await self._fault(self.draw.choice(FAULTS), self.draw.randrange(1, MOST_UNKNOWN))
            case "time":
                await self._move_clock()
            case _:
                self._nothing("alter")

    async def _buy(self, who: Person) -> None:
        if who.subscription or any(each.who is who for each in self._waiting):
            return self._nothing("buy")
        body = {"customer_id": who.id, "plan_id": self.plans[who.plan]}
        if who.wants_page or not who.cards:
            body |= {"collection": "page", "return_url": "https://shop.example/thanks"}
        await self._ask("buy", who, "/v1/subscriptions", body)

    async def _open_invoice(self, who: Person) -> str | None:
        page = await self.api_get("/v1/invoices", customer_id=who.id, limit=100)
        numbers = sorted((x["number"], x["id"]) for x in page["data"] if x["status"] == "open")
        return str(self.draw.choice(numbers)[1]) if numbers else None

    async def _pay(self, who: Person) -> None:
        invoice = await self._open_invoice(who)
        if invoice is None:
            return self._nothing("pay")
        body: dict[str, Any] = {"invoice_id": invoice}
        if who.cards and self.draw.random() < 0.7:
            body["payment_method_id"] = self.draw.choice(who.cards)
        else:
            body |= {"mode": "page", "return_url": "https://shop.example/thanks"}
        await self._ask("pay", who, "/v1/payments", body)

    async def _visit_page(self, who: Person) -> None:
        page = await self.api_get("/v1/payments", customer_id=who.id, limit=100)
        urls = sorted(x["next_action"]["redirect_url"] for x in page["data"] if x["next_action"])
        if not urls:
            return self._nothing("visit page")
        url, card = self.draw.choice(urls), self.draw.choice(CARDS)
        answer = await self.life.lives(
            self.life.http.post(urlsplit(url).path, data={"card_number": card, "keep": "on"})
        )
        self._heard("visit page", answer)

    async def _void(self, who: Person) -> None:
        invoice = await self._open_invoice(who)
        if invoice is not None and self.draw.random() < 0.3:
            await self._ask("void", who, f"/v1/invoices/{invoice}/void", {"reason": "drawn"})

    async def _move_clock(self) -> None:
        clock = await self.api_get("/v1/clock")
        if clock["clock_move_id"] or any(each.what == "time" for each in self._waiting):
            return self._nothing("time")
        now_at = datetime.fromisoformat(clock["now_at"])
        hours = self.draw.choice((1, 6, 24, 72, 120))
        to_at = min(now_at + timedelta(hours=hours), START + MONTH)
        if to_at > now_at:
            await self._ask("time", None, "/v1/clock-moves", {"to_at": to_at.isoformat()})

    async def _fault(self, mode: str, times: int) -> None:
        key, _ = self.life.assembly.sandbox.credentials(self.tenant_id)
        answer = await self.life.lives(
            self.life.http.post(
                "/sandbox/v1/faults", json={"mode": mode, "remaining": times},
                headers={"authorization": f"Bearer {key}"},
            )
        )  # fmt: skip
        self._heard(f"fault {mode}", answer)  # 401 until payments opened the merchant's account

    def _nothing(self, what: str) -> None:
        self.trace.append((f"nothing to {what}", 0))

    # --- requests --------------------------------------------------------------------------------

    async def _ask(self, what: str, who: Person | None, path: str, body: Any) -> None:
        self._asked += 1
        request = Request(what, who, "POST", path, body, f"{self.seed}-{self._asked}")
        self._waiting.append(request)
        await self._send(request)

    async def _send(self, request: Request) -> None:
        """Raises Died, and then the request waits to be sent again."""
        answer = await self._raw(
            request.method, request.path, json=request.body or {}, key=request.key
        )
        self._heard(request.what, answer)
        said = answer.json()
        if said.get("code") in {"customer_not_ready", "idempotency_in_progress"}:
            return
        self._waiting.remove(request)
        if request.what == "buy" and request.who is not None:
            request.who.subscription = said.get("subscription_id") or said.get("id") or ""
        if request.what == "card" and request.who is not None and answer.status_code < 300:
            request.who.cards.append(said["id"])

    def _heard(self, what: str, answer: httpx.Response) -> None:
        self.trace.append((what, answer.status_code))
        assert answer.status_code < 500, f"{what}: {answer.status_code} {answer.text}"

    async def _raw(
        self, method: str, path: str, *, key: str | None = None, **given: Any
    ) -> httpx.Response:
        headers = {"authorization": f"Bearer {self._key}", "prefer": "wait=0"}
        if key is not None:
            headers["idempotency-key"] = key
        return await self.life.lives(self.life.http.request(method, path, headers=headers, **given))

    async def _must(self, path: str, *, expect: int = 201, **body: Any) -> Any:
        answer = await self._raw("POST", path, json=body)
        assert answer.status_code == expect, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    async def api_get(self, path: str, **query: Any) -> Any:
        answer = await self._raw("GET", path, params=query)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    def subject(self, who: Person) -> UUID:
        """The customer's id as events name it."""
        return ids.parse("cus", who.id)
