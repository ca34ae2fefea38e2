"""Two batches at once, and a release beside a batch: no invoice slips through, none is lost."""

from __future__ import annotations

import asyncio

import pytest

from subledger.contracts import events
from subledger.contracts.events import Recorded
from subledger.platform import ids
from subledger.platform.db import story
from subledger.services.billing.store import subscriptions
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import renew
from tests.stories.guarding import DUE, limit, parks, release, switch, two
from tests.stories.shop import START

pytestmark = pytest.mark.long

__all__ = ["two"]
_BATCH = story("tests.guard_batch")


def command(shop, viewer, subscription, n):
    """What the scheduler would announce; in a batch of its own."""
    return Recorded(
        type=events.RENEW_REQUIRED, tenant_id=shop.tenant_id, subject=ids.parse("cus", viewer),
        data={"subscription_id": subscription, "customer_id": viewer}, occurred_at=START,
        id=shop.assembly.databases["billing"].ids.new(), partition=0, position=n,
        recorded_at=START,
    )  # fmt: skip


async def batch(shop, commands, *, before=None):
    """One transaction of the consumer: lock the accounts, bill, and (at ``before``) commit."""
    database, memory = shop.assembly.databases["billing"], TermsMemory()
    async with database.transaction(_BATCH, tenants=[shop.tenant_id]) as tx:
        await subscriptions.lock_accounts(tx, {(e.tenant_id, e.subject) for e in commands})
        await renew.renew(tx, memory, commands)
        if before is not None:
            await before()


async def due_now(shop):
    """The clock says that both renewals are due, and nobody has taken them up."""
    await switch(shop, "renewals", True)
    await shop.move_to(DUE)
    held = await shop.get("/v1/billing-forecast")
    assert held["subscriptions"] == 2
    await let_go(shop)


async def turn(shop, on):
    """The kill switch, while no step runs."""
    turned = await shop.api.request(
        "PUT", "/v1/kill-switches/renewals", json={"on": on, "reason": "test"}
    )
    assert turned.status_code == 200


async def let_go(shop):
    """The switch is off, and what it held is due again, unannounced."""
    await turn(shop, False)
    billing = shop.assembly.service("billing")
    step = next(each for each in billing.steps if each.name == "billing.let_go_holds")
    while await step.run(step.limit):
        pass


async def test_of_two_batches_at_once_the_second_knows_what_the_first_has_billed(two):
    shop, _, [(ada, first), (bob, second)] = two
    await limit(shop, count=1)
    await due_now(shop)
    told = asyncio.Event()

    async def linger():
        told.set()
        await asyncio.sleep(0.3)  # the other batch is at the limit's row by then

    async def later():
        await told.wait()
        await batch(shop, [command(shop, bob, second, 2)])

    await asyncio.gather(batch(shop, [command(shop, ada, first, 1)], before=linger), later())

    [park] = await parks(shop)
    assert park["numbers"][0]["billed"]["count"] == 1
    assert park["numbers"][0]["beyond"] == [{"limit": "count", "most": 1, "would_be": 2}]
    await shop.pump.quiet()
    assert [total for _, _, total in await shop.invoices(ada)] == [999, 999]
    assert [total for _, _, total in await shop.invoices(bob)] == [999]
    await limit(shop)
    await release(shop, park["id"])
    await shop.pump.quiet()
    assert [total for _, _, total in await shop.invoices(bob)] == [999, 999]
    assert await shop.captured() == {"EUR": 4 * 999}
    await shop.check()


async def test_a_batch_that_waited_for_the_one_that_parked_bills_nothing(two):
    shop, _, [(ada, first), (bob, second)] = two
    plan = await shop.plan("dear", amounts={"EUR": 9999})
    await shop.post(
        f"/v1/subscriptions/{first}/change", {"plan_id": plan, "at": "period_end"}, expect=200
    )
    await limit(shop, total_minor=5000)
    await due_now(shop)
    told = asyncio.Event()

    async def linger():
        told.set()
        await asyncio.sleep(0.3)

    async def later():
        await told.wait()
        await batch(shop, [command(shop, bob, second, 2)])  # 9.99: alone within the limit

    await asyncio.gather(batch(shop, [command(shop, ada, first, 1)], before=linger), later())

    assert len(await parks(shop)) == 1
    await shop.pump.quiet()
    for viewer in (ada, bob):
        assert [total for _, _, total in await shop.invoices(viewer)] == [999]
    await shop.check()


async def test_work_that_a_batch_sets_aside_while_the_switch_is_let_go_is_not_lost(two):
    shop, _, [(ada, first), (bob, second)] = two
    await due_now(shop)
    await turn(shop, True)
    told = asyncio.Event()

    async def linger():
        told.set()
        await asyncio.sleep(0.3)

    async def later():
        await told.wait()
        await let_go(shop)

    commands = [command(shop, ada, first, 1), command(shop, bob, second, 2)]
    await asyncio.gather(batch(shop, commands, before=linger), later())
    await shop.pump.quiet()

    assert await shop.captured() == {"EUR": 4 * 999}
    await shop.check()
