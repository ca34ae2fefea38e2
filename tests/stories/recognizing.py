"""What stories of recognized revenue share: a subscriber, and the books of revenue."""

from __future__ import annotations


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
