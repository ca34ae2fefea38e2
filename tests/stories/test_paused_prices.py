"""Pauses of prices that are billed when their period is over, and once."""

from __future__ import annotations

import pytest

from tests.stories.test_changes import HALF, lines
from tests.stories.test_pauses import pause, resume


@pytest.fixture
async def arrears(shop):
    """5.00 in advance and 10.00 in arrears each month, 2.00 once; half of 28 days are over."""
    product = await shop.post("/v1/products", {"code": "p", "name": "P", "resources": ["film:a"]})
    prices = [
        {"code": code, "currency": "EUR", "model": "flat", "amount_minor": minor,
         "timing": timing, "interval": {"unit": "month", "count": 1}}
        for code, minor, timing in (
            ("base", 500, "advance"), ("after", 1000, "arrears"), ("setup", 200, "once"),
        )
    ]  # fmt: skip
    plan = await shop.post(
        "/v1/plans", {"code": "p", "name": "P", "product_id": product["id"], "prices": prices}
    )
    viewer = await shop.customer()
    await shop.card(viewer)
    bought = await shop.subscribe(viewer, plan["id"])
    assert await lines(shop, viewer) == (700, [("charge", 500), ("charge", 200)])
    await shop.move_to(HALF)
    return shop, viewer, bought["id"]


async def made(shop, viewer):
    total, found = await lines(shop, viewer)
    return total, sorted(minor for _, minor in found)


@pytest.mark.long
async def test_credited_and_resumed_in_the_same_period(arrears):
    shop, viewer, subscription = arrears
    await pause(shop, subscription, credit="credit")
    assert (await shop.last_invoice(viewer))["credited_minor"] == 250
    await shop.move_to("2026-02-21T10:00:00")
    await resume(shop, subscription)
    assert await made(shop, viewer) == (125, [125])
    await shop.move_to("2026-03-01")
    # In arrears 14 and 7 of 28 days.
    assert await made(shop, viewer) == (1250, [250, 500, 500])
    await shop.move_to("2026-04-01")
    assert await made(shop, viewer) == (1500, [500, 1000])
    await shop.check()


@pytest.mark.long
async def test_credited_and_resumed_in_a_later_period(arrears):
    shop, viewer, subscription = arrears
    await pause(shop, subscription, credit="credit")
    await shop.move_to("2026-03-14T10:00:00")
    await resume(shop, subscription)
    # 17 of 31 days in advance; in arrears the 14 days before the pause.
    assert await made(shop, viewer) == (774, [274, 500])
    await shop.move_to("2026-04-01")
    assert await made(shop, viewer) == (1048, [500, 548])
    await shop.move_to("2026-05-01")
    assert await made(shop, viewer) == (1500, [500, 1000])
    await shop.check()


async def test_credited_and_canceled_in_the_pause(arrears):
    shop, viewer, subscription = arrears
    await pause(shop, subscription, credit="credit")
    await shop.move_to("2026-03-14T10:00:00")
    await shop.post(f"/v1/subscriptions/{subscription}/cancel", {"when": "now"}, expect=200)
    assert await made(shop, viewer) == (500, [500])
    await shop.check()


async def test_extended(arrears):
    shop, viewer, subscription = arrears
    await pause(shop, subscription, credit="extend")
    await shop.move_to("2026-02-24T10:00:00")
    await resume(shop, subscription)
    await shop.move_to("2026-03-11")
    assert await made(shop, viewer) == (1500, [500, 1000])
    await shop.move_to("2026-04-11")
    assert await made(shop, viewer) == (1500, [500, 1000])
    await shop.check()


async def test_extended_and_canceled(arrears):
    shop, viewer, subscription = arrears
    await pause(shop, subscription, credit="extend")
    await shop.move_to("2026-02-24T10:00:00")
    await resume(shop, subscription)
    await shop.move_to("2026-03-03T10:00:00")
    await shop.post(
        f"/v1/subscriptions/{subscription}/cancel", {"when": "now", "credit_unused": True},
        expect=200,
    )  # fmt: skip
    assert await made(shop, viewer) == (625, [-125, 750])
    await shop.check()


async def test_forfeited(arrears):
    shop, viewer, subscription = arrears
    await pause(shop, subscription, credit="none")
    await shop.move_to("2026-03-14T10:00:00")
    await resume(shop, subscription)
    # In arrears the whole period that was paid for in advance.
    assert await made(shop, viewer) == (1274, [274, 1000])
    await shop.move_to("2026-04-01")
    assert await made(shop, viewer) == (1048, [500, 548])
    await shop.check()
