"""A process dies at every named place of payments and webhooks; the next one goes on.

The death is an exception that nothing catches (the kill sweep of the whole process is a lane of
its own); the provider's journal is the judge.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any, cast
from uuid import UUID

import pytest

from subledger.platform import crashpoints, ids
from subledger.platform.crashpoints import Crashed, Crashpoint
from subledger.services.payments import wiring as _payments
from subledger.services.webhooks import wiring as _webhooks
from tests.payments.world import Shop, World

assert _payments
assert _webhooks
ELSEWHERE = (
    *("payments.dispute", "payments.reconcile", "payments.repair"),  # killed in tests/stories
    # One transaction each, recorded as ``payments.request_payment`` is, which is killed here.
    *("payments.request_top_up", "payments.start_setup"),
)
POINTS = [
    name
    for name in crashpoints.names()
    if name.startswith(("payments.", "webhooks."))
    and not name.startswith(("payments.park", "payments.read", "payments.refund", "webhooks.purge"))
    and not name.startswith(ELSEWHERE)
    and "captur" not in name
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
        "UPDATE payments.method_tasks SET ready_at = clock_timestamp()",
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
        path = f"/v1/payments/{payment['id']}/cancel"
        await self._post(path, None, key=f"cancel-{payment['id']}", expect=200)

    async def look(self, invoice: UUID) -> None:
        """The payer's page."""
        payment = (await self.shop.payments_of(invoice))[0]
        seen = await self.shop.http.get(payment["status_url"].removeprefix("http://gateway.test"))
        assert seen.status_code == 200, seen.text

    async def link(self, invoice: UUID) -> None:
        """Where payers may return, and an address at which an invoice is paid: opened, given up."""
        http = self.shop.http
        sites = {"return_origins": ["https://cinema.example"]}
        assert (await http.put("/v1/payment-settings", json=sites)).status_code == 200
        body = {"invoice_id": ids.text("inv", invoice)}
        asked = await http.post("/v1/payment-links", json=body, headers={"idempotency-key": "link"})
        assert asked.status_code in {201, 404}, asked.text  # 404: it was revoked before
        made = (await http.get("/v1/payment-links")).json()["data"][0]
        if made["status"] != "revoked":
            self.world.billing.held.pop(invoice, None)
            path, amount = made["url"].removeprefix("http://gateway.test"), {"amount": "1600"}
            opened = await http.post(path, data=amount)
            assert opened.status_code in {200, 303}, opened.text  # 200: it was pressed before
            await self.cancel(invoice)
        revoked = await http.post(f"/v1/payment-links/{made['id']}/revoke")
        assert revoked.status_code == 200

    async def by_check(self, customer: UUID) -> None:
        """Off-line money, and its reversal."""
        named = ids.text("cus", customer)
        body = {"customer_id": named, "amount_minor": 7, "currency": "EUR", "method": "check"}
        await self._post("/v1/offline-payments", body, key="check", expect=201)
        found = (await self.shop.http.get("/v1/payments", params={"customer_id": named})).json()
        path = f"/v1/payments/{found['data'][0]['id']}/reverse"
        await self._post(path, {"reason": "it bounced"}, key="bounce", expect=200)

    async def change_methods(self, customer: UUID) -> None:
        http = self.shop.http
        saved = (await http.get("/v1/payment-methods", params={"limit": 100})).json()["data"]
        chosen = next(each for each in saved if each["customer_id"] == ids.text("cus", customer))
        order = f"/v1/customers/{chosen['customer_id']}/payment-methods/order"
        ordered = await http.put(order, json={"payment_method_ids": [chosen["id"]]})
        assert ordered.status_code in {200, 422}, ordered.text  # 422: it was detached before
        made = await http.post(f"/v1/payment-methods/{chosen['id']}/default")
        assert made.status_code in {200, 409}, made.text
        gone_now = await http.delete(f"/v1/payment-methods/{chosen['id']}")
        assert gone_now.status_code == 204

    async def manage_connections(self) -> None:
        """Make, change, move and close a connection, seal anew, tell again what was received."""
        http, world = self.shop.http, self.world
        body = {
            "provider": "sandbox",
            "name": "Dollars",
            "credentials": {"api_key": "sbk_of_nobody"},
            "currencies": ["USD"],
        }
        await self._post("/v1/connections", body, key="connect", expect=201)
        made = (await http.get("/v1/connections")).json()["data"][0]
        path = f"/v1/connections/{made['id']}"
        if made["status"] != "closed":
            changed = await http.patch(path, json={"credentials": {"webhook_secret": "whsec_new"}})
            assert changed.status_code == 200, changed.text
            await self._post(f"{path}/replace-webhook-url", None, key="move", expect=200)
            await self._post(f"{path}/close", None, key="close", expect=200)
        for service in (world.payments, world.webhooks):
            await cast(Any, service.attributes["reseal"])(self.shop.tenant)
        kept = (await http.get("/v1/received-webhooks")).json()["data"][0]
        await self._post(f"/v1/received-webhooks/{kept['id']}/replay", None, key="r", expect=200)

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
    """Attach, charge, time out, pay on a page, retry, pay by hand, cancel, manage connections;
    tells what must have been captured, and each account's facts."""
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
    await business.surviving(partial(business.look, paid))
    await shop.pay_page(await shop.page_address(paid), "4242424242424242")
    await shop.retry(poor, owed, 1)
    await business.quiet()

    await business.surviving(partial(business.cancel, left))
    await business.surviving(partial(business.link, left))
    await business.surviving(partial(business.change_methods, hand))
    await business.surviving(business.manage_connections)
    await business.surviving(partial(business.by_check, await shop.customer()))
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
    facts = [(kind, data["connection_id"]) for kind, data in await shop.facts_of_all()]
    told = [1 for kind, connection in facts if kind == "payment.succeeded" and connection]
    assert len(told) == journal["captures"]
