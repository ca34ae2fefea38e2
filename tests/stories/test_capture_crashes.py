"""A process dies at every named place of a two-stage payment; the next one goes on, and nothing is
captured twice, lost, or kept from its payer."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from subledger.platform import crashpoints
from subledger.platform.crashpoints import Crashed
from subledger.platform.db import story
from subledger.providers.sandbox import wiring as _sandbox
from subledger.services.payments import wiring as _payments
from tests.stories.shop import START, Shop
from tests.stories.test_offline_payments import owing

assert _payments
assert _sandbox
POINTS = [
    name
    for name in crashpoints.names()
    if name.startswith(("payments.", "sandbox.")) and ("captur" in name or "void" in name)
]
SHORT = {"payments.capture.before_call", "payments.capture.after_call"}
_LATER = story("tests.capture_lease")
_OVER = (
    "UPDATE payments.attempts SET claimed_at = claimed_at - interval '1 hour'"
    " WHERE state = 'in_flight'",
    "UPDATE payments.attempts SET ready_at = clock_timestamp() WHERE state = 'ready'",
    "UPDATE payments.refetches SET claimed_at = claimed_at - interval '1 hour'",
    "UPDATE payments.authorizations SET claimed_at = claimed_at - interval '1 hour'",
)


async def after_the_lease(shop: Shop) -> None:
    """Time passes on the wall: what the dead process had claimed is free again."""
    database = shop.assembly.databases["payments"]
    for statement in _OVER:
        async with database.transaction(_LATER, tenants=[shop.tenant_id]) as tx:
            await tx.run(text(statement))


class Life:
    """What one story does, in as many processes as it takes."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.now: datetime = START

    async def ask(self, key: str, path: str, body: Any) -> Any:
        async def work() -> Any:
            headers = {"idempotency-key": key, "prefer": "wait=0"}
            answer = await self.shop.api.post(path, json=body, headers=headers)
            assert answer.status_code in {200, 201}, answer.text
            return answer.json()

        return await self.surviving(work)

    async def surviving(self, work: Any) -> Any:
        for _ in range(3):
            try:
                return await work()
            except Crashed:
                await after_the_lease(self.shop)
        raise AssertionError("died more than twice")

    async def settled(self, payment: str) -> str:
        """What became of it, once whatever is unknown was asked about."""

        async def settle() -> None:
            await self.shop.pump.quiet()
            await after_the_lease(self.shop)
            await self.shop.pump.quiet()

        await self.surviving(settle)
        state = str((await self.shop.get(f"/v1/payments/{payment}"))["status"])
        if state == "unknown":
            self.now += timedelta(minutes=6)
            to = self.now.strftime("%Y-%m-%dT%H:%M:%SZ")
            move = await self.shop.post("/v1/clock-moves", {"to_at": to}, expect=202)
            while (await self.shop.get(f"/v1/clock-moves/{move['id']}"))["status"] == "moving":
                await self.surviving(settle)
            state = str((await self.shop.get(f"/v1/payments/{payment}"))["status"])
        return state


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in SHORT else pytest.mark.long) for name in POINTS],
)
async def test_a_death_here_captures_once_and_lets_go(shop: Shop, name: str) -> None:
    viewer, _, invoice = await owing(shop)
    card = await shop.card(viewer)
    wish = {"invoice_id": invoice, "payment_method_id": card, "capture_method": "manual"}
    life, hit = Life(shop), set()

    def react(point: crashpoints.Crashpoint) -> None:
        if point.name == name and point.hits == 1:
            hit.add(name)
            raise Crashed(name)

    crashpoints.install(react)
    try:
        one = (await life.ask("one", "/v1/payments", wish))["id"]
        assert await life.settled(one) == "authorized"
        await life.ask("take", f"/v1/payments/{one}/capture", {"amount_minor": 400})
        assert await life.settled(one) == "succeeded"
        two = (await life.ask("two", "/v1/payments", wish))["id"]
        assert await life.settled(two) == "authorized"
        await life.ask("drop", f"/v1/payments/{two}/cancel", None)
        assert await life.settled(two) == "canceled"
    finally:
        crashpoints.install(None)
    assert hit == {name}
    assert await shop.captured() == {"EUR": 400}
    seen = await shop.get(f"/v1/invoices/{invoice}")
    assert (seen["status"], seen["paid_minor"]) == ("open", 400)
    await shop.check()
