"""One code bought with, given back by an end and by a trial that lapses, all at once."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest
from sqlalchemy.exc import DBAPIError

from subledger.contracts import events
from subledger.contracts.events import Recorded
from subledger.core.proration import BY_DAY
from subledger.platform import ids
from subledger.platform.db import sqlstate, story
from subledger.services.billing.store import subscriptions
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import cancel, redeem, renew, subscribe
from subledger.services.billing.usecases.anchors import ANNIVERSARY
from subledger.services.billing.usecases.opening import Start
from subledger.services.billing.usecases.subscribe import SubscribeRequest
from tests.stories.shop import START
from tests.stories.test_late_renewals import let_time_pass
from tests.stories.test_promotions import code, discount, redemptions

pytestmark = pytest.mark.long

_BATCH = story("tests.promotion_batch")
ROUNDS = 5
DEADLOCK = "40P01"


async def scene(shop):
    """On 14 February, in one batch: an end with credit beside the end of a trial with the code;
    in another a renewal beside a trial with the code that lapses. A third buys with it."""
    plan = await shop.plan()
    made = await code(shop, await discount(shop))
    names = ("ada", "bob", "dan", "fay", "eve")
    who = {name: await shop.customer(name) for name in names}
    for name in names:
        if name != "dan":
            await shop.card(who[name])
    tried = {"trial_days": 14, "promotion_codes": ["spring24"]}
    bought = {
        "ada": await shop.subscribe(who["ada"], plan),
        "bob": await shop.subscribe(who["bob"], plan, **tried),
        "dan": await shop.subscribe(who["dan"], plan, trial_end_behavior="cancel", **tried),
        "fay": await shop.subscribe(who["fay"], plan, start_at="2026-01-14T10:00:00Z"),
    }
    ends = {"at": "2026-02-14T09:00:00Z", "credit_unused": True}
    for name in ("ada", "bob"):
        await shop.post(f"/v1/subscriptions/{bought[name]['id']}/cancel", ends, expect=200)
    assert await redemptions(shop, made) == 2
    await shop.pump.quiet()
    await let_time_pass(shop, 2026, 2, 14, 10)
    return plan, made, who, {name: each["id"] for name, each in bought.items()}


def commands(shop, kind, who, bought, names):
    new = shop.assembly.databases["billing"].ids.new
    return [
        Recorded(
            type=kind, tenant_id=shop.tenant_id, subject=ids.parse("cus", who[name]),
            data={"subscription_id": bought[name], "customer_id": who[name]},
            occurred_at=START, id=new(), partition=0, position=n, recorded_at=START,
        )
        for n, name in enumerate(names, start=1)
    ]  # fmt: skip


async def batch(shop, use_case, given):
    """One transaction of the consumer."""
    database = shop.assembly.databases["billing"]
    async with database.transaction(_BATCH, tenants=[shop.tenant_id]) as tx:
        await subscriptions.lock_accounts(tx, {(e.tenant_id, e.subject) for e in given})
        await use_case(tx, TermsMemory(), given)


async def buy(shop, viewer, plan):
    """The purchase's transaction, with the code."""
    database, customer = shop.assembly.databases["billing"], ids.parse("cus", viewer)
    request = SubscribeRequest(
        tenant_id=shop.tenant_id, subscription_id=database.ids.new(), customer_id=customer,
        beneficiary_id=customer, plan_id=ids.parse("plan", plan), currency=None,
        quantity=Decimal(1), discount_ids=(), collection="automatic", payment_method_id=None,
        return_url=None, proration=BY_DAY, charged_method_id=None, cause=None,
        promotion_codes=("spring24",),
        start=Start(
            billing_anchor=ANNIVERSARY, first_period="prorated", trial_days=0, trial_until=None,
            trial_end_behavior="invoice", start_at=None,
        ),
    )  # fmt: skip
    async with database.transaction(_BATCH, tenants=[shop.tenant_id]) as tx:
        await subscribe.subscribe(tx, TermsMemory(), [request])


async def all_at_once(shop, monkeypatch):
    """The three transactions; the ends linger between their last invoice and giving back."""
    plan, made, who, bought = await scene(shop)
    ending, billed = cancel.end, asyncio.Event()

    async def lingering(*given):
        billed.set()
        await asyncio.sleep(0.2)
        await ending(*given)

    monkeypatch.setattr(cancel, "end", lingering)

    async def meanwhile(work):
        await asyncio.wait([asyncio.ensure_future(billed.wait())], timeout=5)
        await work

    leaving = commands(shop, events.CANCEL_REQUIRED, who, bought, ("ada", "bob"))
    due = commands(shop, events.RENEW_REQUIRED, who, bought, ("dan", "fay"))
    results = await asyncio.gather(
        batch(shop, cancel.reach_cancellation, leaving),
        meanwhile(buy(shop, who["eve"], plan)),
        meanwhile(batch(shop, renew.renew, due)),
        return_exceptions=True,
    )
    monkeypatch.setattr(cancel, "end", ending)
    await shop.pump.quiet()
    return results, made, who, bought


@pytest.mark.parametrize("n", range(ROUNDS))
async def test_a_code_is_redeemed_given_back_and_lapses_at_once(shop, monkeypatch, n):
    results, made, who, bought = await all_at_once(shop, monkeypatch)

    assert results == [None, None, None]
    assert await redemptions(shop, made) == 1, "eve's"
    assert [await shop.status(bought[name]) for name in ("ada", "bob", "dan", "fay")] == [
        "canceled", "canceled", "canceled", "active",
    ]  # fmt: skip
    assert [total for _, _, total in await shop.invoices(who["eve"])] == [799]
    assert [total for _, _, total in await shop.invoices(who["fay"])] == [999, 999]
    # ada, 14 to 28 February and half a month given back; fay twice; eve with 20 % off.
    assert await shop.captured() == {"EUR": 999 + 2 * 999 + 799}
    await shop.check()


@pytest.mark.parametrize("n", range(3))
async def test_without_the_hold_the_end_and_the_purchase_wait_for_each_other(shop, monkeypatch, n):
    """The lock order matters: the last invoice's number and the code, in the other order."""

    async def nothing(tx, rows):
        pass

    monkeypatch.setattr(redeem, "hold", nothing)
    results, _, _, _ = await all_at_once(shop, monkeypatch)
    broken = [each for each in results if each is not None]
    assert {type(each) for each in broken} == {DBAPIError}
    assert DEADLOCK in [sqlstate(each) for each in broken]
    await shop.check()  # what was broken was rolled back whole
