"""One worker or four: each account lives through the same."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from subledger.hosts.assembly import Assembly, Options, assemble
from subledger.platform import ids, migrate
from tests.conftest import NewDatabase
from tests.pump import Pump
from tests.simulation.told import facts
from tests.stories.shop import Shop, open_shop

KINDS = {
    "pays": "visa_ok",
    "recovers": "insufficient_funds:3",
    "refuses": "soft_decline",
    "stolen": "hard_decline",
    "silent": "timeout",
}
"""Five customers and the cards with which their renewals are charged."""
Diary = dict[str, list[tuple[str, str, int]]]
"""What was told of each customer, in its order; ``<name>, dunning``: the schedule as dunning tells
it. Billing and dunning hear of a failed payment side by side, so neither tells before the other."""


async def _buys(shop: Shop, name: str, plan: str) -> str:
    viewer = await shop.customer(name)
    await shop.card(viewer)
    await shop.subscribe(viewer, plan)
    await shop.card(viewer, KINDS[name])
    return viewer


async def _works(worker: Assembly, done: asyncio.Event) -> None:
    """A worker: every step, over and over, beside all others."""
    pump = Pump(worker)
    while not done.is_set():
        if not await pump.once():
            await asyncio.sleep(0.005)


async def _two_months(url: str, secret_key: str, workers: int) -> Diary:
    """The same two months, the work of the second half done by so many workers side by side."""
    options = Options(
        url_of=lambda name: migrate.service_url(url, name, secret_key),
        secret_key=secret_key,
        public_url="http://shop.test",
        pool_size=2,
    )
    crew = [assemble(options) for _ in range(workers)]
    shop = await open_shop(crew[0])
    done = asyncio.Event()
    try:
        plan = await shop.plan()
        people = {name: await _buys(shop, name, plan) for name in KINDS}
        asked = await shop.api.post("/v1/clock-moves", json={"to_at": "2026-04-02T00:00:00Z"})
        move = asked.json()
        at_work = [asyncio.create_task(_works(each, done)) for each in crew]
        async with asyncio.timeout(120):
            while move["status"] == "moving":
                await asyncio.sleep(0.05)
                move = (await shop.api.get(f"/v1/clock-moves/{move['id']}")).json()
        done.set()
        await asyncio.gather(*at_work)
        assert move["status"] == "done", move
        await shop.check()
        return await _diary(url, shop, people)
    finally:
        done.set()
        await shop.api.aclose()
        for each in crew:
            await each.close()


async def _diary(url: str, shop: Shop, people: dict[str, str]) -> Diary:
    admin = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        told = await facts(admin, shop.tenant_id)
    finally:
        await admin.close()
    diary: Diary = {}
    for name, customer in people.items():
        for each in told[ids.parse("cus", customer)]:
            of = f"{name}, dunning" if each.kind.startswith("dunning.") else name
            diary.setdefault(of, []).append((each.kind, each.at.isoformat(), each.amount_minor))
    return diary


@pytest.mark.long
@pytest.mark.parametrize("workers", [4])
async def test_four_workers_tell_each_account_the_same_story_as_one(
    new_database: NewDatabase, secret_key: str, workers: int
) -> None:
    alone = await _two_months(await new_database(), secret_key, 1)
    together = await _two_months(await new_database(), secret_key, workers)

    assert together == alone
    assert [kind for kind, _, _ in alone["recovers"]].count("payments.retry_required") == 2
    assert alone["stolen"][-1][0] == "entitlement.revoked"
    assert "payment.unknown" in [kind for kind, _, _ in alone["silent"]]
