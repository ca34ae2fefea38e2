"""What goes wrong in the demo, and how it ends: a bank that asks its payer, a refund, a dispute,
a provider that is dead for a day.

The cinema acts through the public API; the bank and the fate of the provider are played through
the sandbox provider's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import httpx

from subledger.hosts.demo import script
from subledger.hosts.demo.business import Cinema, DemoFailed
from subledger.hosts.demo.script import Viewer

RENEWED_AT = datetime(2026, 2, 5, 9, tzinfo=script.START.tzinfo)
"""When those who bought first renew."""
_HOUR = timedelta(hours=1)
_MANY = 1_000_000
_LOST = 4
"""Charges without an answer: one fewer than opens the connection's circuit breaker, which would
hold the others back by the wall clock."""
_WITHIN_S = 30.0
_LOOK_AGAIN_S = 0.05
_DISPUTE_ACCOUNTS = ("disputed", "chargeback_loss", "fees")


@dataclass(frozen=True, slots=True)
class Look:
    """How it is while a payment is disputed: the subscription, its access, the books."""

    status: str
    access: dict[str, Any]
    books: dict[str, int]


@dataclass(slots=True)
class Seen:
    """What the acts showed, for the summary."""

    secure: list[tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=list)
    """Payments while the bank asked, and after."""
    preview: dict[str, Any] = field(default_factory=dict)
    refund: dict[str, Any] = field(default_factory=dict)
    statement: list[dict[str, Any]] = field(default_factory=list)
    dispute: dict[str, Any] = field(default_factory=dict)
    looks: list[Look] = field(default_factory=list)
    """When it was opened, and when it was lost."""
    due: int = 0
    waited: int = 0
    unknown: int = 0
    recovered: int = 0
    journal: dict[str, Any] = field(default_factory=dict)


class Troubles:
    """``provider`` speaks to the sandbox provider with the cinema's own key there."""

    def __init__(self, cinema: Cinema, provider: httpx.AsyncClient, viewers: list[Viewer]) -> None:
        self._cinema = cinema
        self._provider = provider
        self._viewers = {each.number: each for each in viewers}
        self.seen = Seen()

    # --- a provider that is dead for a day -------------------------------------------------------

    async def dead_provider(self) -> None:
        """At the first renewals connections are refused; hours later charges are taken without an
        answer, and questions are not answered either, until the next day."""
        cinema = self._cinema
        await cinema.move_to(RENEWED_AT - _HOUR)
        await self._fault("request_refused", _MANY)
        await cinema.move_to(RENEWED_AT + 3 * _HOUR)
        waited = {each["invoice_id"] for each in await self._payments("failed")}
        await self._fault("request_refused", 0)
        await self._fault("charge_no_reply", _LOST)
        await self._fault("attempts_silent", _MANY)
        await cinema.move_to(RENEWED_AT + 23 * _HOUR)
        unknown = {each["invoice_id"] for each in await self._payments("unknown")}
        due = {each["invoice_id"] for each in await self._payments(None)}
        await self._fault("charge_no_reply", 0)
        await self._fault("attempts_silent", 0)
        await self._renewal_at_the_bank()
        await cinema.move_to(RENEWED_AT + 47 * _HOUR)
        paid = {each["invoice_id"] for each in await self._payments("succeeded")}
        self.seen.due, self.seen.waited, self.seen.unknown = len(due), len(waited), len(unknown)
        self.seen.recovered = len(due & paid)

    async def _payments(self, status: str | None) -> list[dict[str, Any]]:
        """Payments that were begun while the provider was dead, as they stand now."""
        query = {"status": status} if status else {}
        return [
            each
            async for each in self._cinema.every(
                "/v1/payments",
                created_from=(RENEWED_AT - _HOUR).isoformat(),
                created_until=(RENEWED_AT + 23 * _HOUR).isoformat(),
                **query,
            )
        ]

    # --- a bank that asks its payer --------------------------------------------------------------

    async def _renewal_at_the_bank(self) -> None:
        """The first renewal of the card whose bank always asks; then its owner takes another."""
        cinema, viewer = self._cinema, self._viewers[script.SECURE]
        await cinema.move_to(RENEWED_AT + 25 * _HOUR)
        asked = (await cinema.payments_of(viewer))[0]
        if asked["status"] != "requires_action":
            raise DemoFailed(f"the bank did not ask at the renewal: {asked['status']}")
        await cinema.confirm(viewer, asked["next_action"]["redirect_url"])
        for waiting in cinema.asked_by_bank:
            address = f"/v1/payments/{waiting['id']}"
            done = await self._until(address, lambda now: now["status"] == "succeeded")
            self.seen.secure.append((waiting, done))
        await cinema.post(
            "/v1/payment-methods",
            {
                "customer_id": cinema.customers[viewer.number],
                "test_kind": "visa_ok",
                "make_default": True,
            },
            key=f"demo-{viewer.number}-other",
        )

    # --- a refund --------------------------------------------------------------------------------

    async def refund(self) -> None:
        """What is unused of a period goes back to the card, after a look at what that does."""
        cinema, viewer, seen = self._cinema, self._viewers[script.REFUNDED], self.seen
        payment = f"/v1/payments/{(await cinema.payments_of(viewer))[0]['id']}"
        whole = await cinema.post(f"{payment}/refund-preview", {})
        body = {"amount_minor": whole["unused_minor"], "reason": "goodwill"}
        seen.preview = await cinema.post(f"{payment}/refund-preview", body)
        asked = await cinema.post(f"{payment}/refunds", body, key=f"demo-{viewer.number}-refund")
        seen.refund = await self._until(
            f"/v1/refunds/{asked['id']}", lambda now: now["status"] == "succeeded"
        )
        customer = cinema.customers[viewer.number]
        statement = await cinema.get(
            f"/v1/customers/{customer}/statement",
            **{
                "from": script.START.isoformat(),
                "to": (script.START + timedelta(days=400)).isoformat(),
            },
        )
        seen.statement = statement["entries"]

    # --- a dispute -------------------------------------------------------------------------------

    async def dispute(self) -> None:
        """A payer's bank takes a payment back, with a fee, and decides against the cinema."""
        cinema, viewer, seen = self._cinema, self._viewers[script.DISPUTES], self.seen
        await cinema.put("/v1/dispute-policy", {"on_dispute": "suspend"})
        payment = (await cinema.payments_of(viewer))[0]
        subscription = f"/v1/subscriptions/{cinema.subscriptions[viewer.number]}"
        made = await self._at_provider(
            "/v1/disputes", {"attempt_id": payment["attempts"][-1]["id"], "reason": "fraudulent"}
        )
        await self._look_at_dispute(viewer, subscription, payment["currency"], "paused")
        await self._at_provider(f"/v1/disputes/{made['id']}/close", {"outcome": "lost"})
        await self._look_at_dispute(viewer, subscription, payment["currency"], "canceled")
        (seen.dispute,) = (await cinema.get("/v1/disputes", payment_id=payment["id"]))["data"]

    async def _look_at_dispute(
        self, viewer: Viewer, subscription: str, currency: str, status: str
    ) -> None:
        """What there is to see as soon as the subscription is ``status``."""
        await self._until(subscription, lambda now: now["status"] == status)
        film = script.film_of(viewer).replace(":", "%3A")
        access = await self._until(
            f"/v1/access/{viewer.external_id}/{film}", lambda now: not now["allowed"]
        )
        balance = await self._cinema.get("/v1/ledger/trial-balance")
        (books,) = [each for each in balance["currencies"] if each["currency"] == currency]
        accounts = {each["account"]: each["balance_minor"] for each in books["accounts"]}
        shown = {name: accounts.get(name, 0) for name in _DISPUTE_ACCOUNTS}
        self.seen.looks.append(Look(status=status, access=access, books=shown))

    # --- HTTP ------------------------------------------------------------------------------------

    async def judge(self) -> dict[str, Any]:
        """The provider's own journal, summed up."""
        answer = await self._provider.get("/v1/journal/summary")
        self.seen.journal = dict(answer.json())
        return self.seen.journal

    async def _fault(self, mode: str, times: int) -> None:
        await self._at_provider("/v1/faults", {"mode": mode, "remaining": times})

    async def _at_provider(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await self._provider.post(path, json=body)
        if answer.status_code != 200:
            raise DemoFailed(f"the provider: POST {path}: {answer.status_code} {answer.text[:600]}")
        return dict(answer.json())

    async def _until(self, path: str, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Look until it is so: webhooks take their time."""
        deadline = asyncio.get_running_loop().time() + _WITHIN_S
        while not is_so(found := await self._cinema.get(path)):
            if asyncio.get_running_loop().time() > deadline:
                raise DemoFailed(f"{path} did not get on within {_WITHIN_S:.0f} s: {found}")
            await asyncio.sleep(_LOOK_AGAIN_S)
        return dict(found)
