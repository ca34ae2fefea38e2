"""A process dies at every named place of payments and webhooks; the next one goes on.

The death is an exception that nothing catches (the kill sweep of the whole process is a lane of
its own); the provider's journal is the judge.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from subledger.platform import crashpoints, ids
from subledger.platform.crashpoints import Crashed, Crashpoint
from subledger.services.payments import wiring as _payments
from subledger.services.webhooks import wiring as _webhooks
from tests.payments.world import Shop, World

assert _payments
assert _webhooks
POINTS = [
    name
    for name in crashpoints.names()
    if name.startswith(("payments.", "webhooks."))
    and not name.startswith(("payments.park", "payments.read", "webhooks.purge"))
]
SHORT = {
    "payments.charge.before_call",
    "payments.charge.after_call",
    "payments.record_results.after_commit",
    "payments.reserve.after_call",
    "webhooks.receive.before_ack",
}
"""Deaths of the short lane; the others belong to the long one."""
HIT: set[str] = set()


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    HIT.clear()
    yield
    crashpoints.install(None)


def arm(name: str, nth: int) -> None:
    def react(point: Crashpoint) -> None:
        if point.name == name and point.hits == nth:
            HIT.add(name)
            raise Crashed(name)

    crashpoints.install(react)


async def after_the_lease(world: World) -> None:
    """Time passes on the wall: what the dead process had claimed is free again."""
    for statement in (
        "UPDATE payments.attempts SET claimed_at = claimed_at - interval '1 hour'"
        " WHERE state = 'in_flight'",
        "UPDATE payments.attempts SET ready_at = clock_timestamp() WHERE state = 'ready'",
        "UPDATE payments.refetches SET claimed_at = claimed_at - interval '1 hour'",
        "UPDATE payments.methods SET ready_at = clock_timestamp() WHERE status = 'attaching'",
        "UPDATE sandbox.callbacks SET claimed_at = claimed_at - interval '1 hour'",
    ):
        await world.admin.execute(statement)


async def surviving(world: World, work: Callable[[], Awaitable[object]]) -> None:
    """Do it; where the process dies, do it again in the next process."""
    for _ in range(3):
        try:
            await work()
        except Crashed:
            world.restart()
            await after_the_lease(world)
        else:
            return
    raise AssertionError("died more than twice")


class Business:
    """A day's requests, each of which may meet a death."""

    def __init__(self, world: World, shop: Shop) -> None:
        self.world, self.shop = world, shop

    async def attach(self, customer: UUID, kind: str) -> None:
        await self._post(
            "/v1/payment-methods",
            {"customer_id": ids.text("cus", customer), "test_kind": kind},
            key=str(customer),
            expect=201,
        )

    async def pay(self, invoice: UUID) -> None:
        body = {"invoice_id": ids.text("inv", invoice)}
        await self._post("/v1/payments", body, key="by-hand", expect=201)

    async def cancel(self, invoice: UUID) -> None:
        payment = (await self.shop.payments_of(invoice))[0]
        await self._post(f"/v1/payments/{payment['id']}/cancel", None, key="cancel", expect=200)

    async def change_methods(self, customer: UUID) -> None:
        http = self.shop.http
        saved = (await http.get("/v1/payment-methods", params={"limit": 100})).json()["data"]
        chosen = next(each for each in saved if each["customer_id"] == ids.text("cus", customer))
        made = await http.post(f"/v1/payment-methods/{chosen['id']}/default")
        assert made.status_code in {200, 409}, made.text
        gone_now = await http.delete(f"/v1/payment-methods/{chosen['id']}")
        assert gone_now.status_code == 204

    async def surviving(self, work: Callable[[], Awaitable[None]]) -> None:
        await surviving(self.world, work)

    async def quiet(self) -> None:
        for _ in range(20):
            await surviving(self.world, self.world.settle)
            if await self.shop.unquiet() == []:
                return
            await after_the_lease(self.world)
        raise AssertionError(f"never quiet: {await self.shop.unquiet()}")

    async def _post(self, path: str, body: Any, *, key: str, expect: int) -> None:
        answer = await self.shop.http.post(path, json=body, headers={"idempotency-key": key})
        assert answer.status_code == expect, answer.text


async def a_day_of_business(world: World, shop: Shop) -> tuple[int, list[str]]:
    """Attach, charge, time out, pay on a page, retry, pay by hand, cancel; tells what must have
    been captured, and each account's facts."""
    business = Business(world, shop)
    viewer, poor, slow, page, hand, gone = [await shop.customer() for _ in range(6)]
    for customer, kind in (
        (viewer, "visa_ok"),
        (poor, "insufficient_funds:2"),
        (slow, "timeout"),
        (hand, "visa_ok"),
    ):
        await business.surviving(partial(business.attach, customer, kind))
    await shop.invoice(viewer, 100)
    owed, _ = await shop.invoice(poor, 200)
    await shop.invoice(slow, 400)
    paid, _ = await shop.invoice(page, 800, mode="page", dunning=False)
    left, _ = await shop.invoice(gone, 1600, mode="page", dunning=False)
    by_hand, _ = await shop.invoice(hand, 3200, collection=False)
    await business.quiet()

    await business.surviving(partial(business.pay, by_hand))
    await shop.pay_page(await shop.page_address(paid), "4242424242424242")
    await shop.retry(poor, owed, 1)
    await business.quiet()

    await business.surviving(partial(business.cancel, left))
    await business.surviving(partial(business.change_methods, hand))
    for passed in (timedelta(minutes=5), timedelta(hours=1), timedelta(hours=24)):
        await shop.advance(passed)
        await business.quiet()
    await after_the_lease(world)
    await business.quiet()
    accounts = [await shop.told(each) for each in (viewer, poor, slow, page, hand, gone)]
    last = [[kind for kind in told if kind.startswith("payment.")][-1] for told in accounts]
    return 100 + 200 + 400 + 800 + 3200, last


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in SHORT else pytest.mark.long) for name in POINTS],
)
async def test_a_death_here_charges_nothing_twice_and_loses_nothing(
    world: World, name: str
) -> None:
    shop = await world.shop()
    world.restart()
    arm(name, 1)

    expected, last = await a_day_of_business(world, shop)

    assert {name} == HIT
    journal = await shop.journal()
    if "not_executed" in [data.get("code") for data in await shop.all_facts()]:
        # The process died between its claim and the call: failed uncounted, dunning's to retry.
        assert journal["doubles"] == 0
        assert journal["captures"] >= 2
    else:
        assert journal == {"captured_minor": {"EUR": expected}, "captures": 5, "doubles": 0}
        assert last == ["payment.succeeded"] * 5 + ["payment.canceled"]
    assert await shop.unquiet() == []
    told = [kind for kind, _ in await shop.facts_of_all() if kind == "payment.succeeded"]
    assert len(told) == journal["captures"]
