"""Revenue follows the service: exact amounts on the tenant's own books, whatever the steps."""

from __future__ import annotations

import pytest


async def books(shop, currency="EUR"):
    """What is still deferred, and what is revenue (both as credits)."""
    await shop.pump.quiet()
    balance = await shop.get("/v1/ledger/trial-balance")
    found = {
        each["account"]: -each["balance_minor"]
        for sums in balance["currencies"]
        if sums["currency"] == currency
        for each in sums["accounts"]
    }
    return found.get("deferred_revenue", 0), found.get("revenue", 0)


async def subscriber(shop, *, amount=3100, unit="month", **more):
    plan = await shop.plan("daily", amounts={"EUR": amount}, unit=unit)
    viewer = await shop.customer(timezone="UTC")
    await shop.card(viewer)
    bought = await shop.subscribe(viewer, plan, **more)
    return viewer, bought["id"]


@pytest.fixture
async def march(shop):
    """31.00 for the 31 days from 1 March, 10:00, to 1 April, 10:00."""
    await shop.move_to("2026-03-01T10:00:00")
    viewer, subscription = await subscriber(shop)
    return shop, viewer, subscription


async def test_a_day_is_earned_when_it_is_over(march):
    shop, _, _ = march
    assert await books(shop) == (3100, 0)
    await shop.move_to("2026-03-01T23:59:59")
    assert await books(shop) == (3100, 0)
    await shop.move_to("2026-03-02")
    assert await books(shop) == (3000, 100)
    await shop.check()


async def test_day_by_day_and_in_one_jump_the_books_are_the_same(shop, process):
    from tests.stories.shop import open_shop

    other = await open_shop(process)
    for each in (shop, other):
        await each.move_to("2026-03-01T10:00:00")
        await subscriber(each)
    for day in range(2, 32):
        await shop.move_to(f"2026-03-{day:02d}T12:00:00")
        assert await books(shop) == (3100 - 100 * (day - 1), 100 * (day - 1))
    await shop.move_to("2026-04-01T09:00:00")
    await other.move_to("2026-04-01T09:00:00")
    assert await books(shop) == (0, 3100)
    assert await books(other) == (0, 3100)
    balances = [await each.get("/v1/ledger/trial-balance") for each in (shop, other)]
    for balance in balances:
        for sums in balance["currencies"]:
            for account in sums["accounts"]:
                account["account"] = account["account"].partition(":")[0]
    assert balances[0] == balances[1], "debits and credits too"
    await shop.move_to("2026-06-15T12:00:00")
    await other.move_to("2026-06-15T12:00:00")
    assert await books(shop) == await books(other) == (1600, 10900)
    for each in (shop, other):
        await each.check()
    await other.api.aclose()
