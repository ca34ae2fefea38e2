"""Revenue stands still while the service does, and goes on with it, to the cent and to the day."""

from __future__ import annotations

import pytest

from tests.stories.recognizing import books, subscriber


async def act(shop, subscription, verb, **body):
    await shop.post(f"/v1/subscriptions/{subscription}/{verb}", body, expect=200)


async def first_line(shop, viewer):
    page = await shop.get("/v1/invoices", customer_id=viewer, limit=100)
    first = min(page["data"], key=lambda row: row["number"])
    schedule = await shop.get("/v1/revenue-schedule", invoice_id=first["id"])
    return first["id"], schedule["lines"][0]


async def months(shop):
    answer = await shop.get("/v1/revenue", **{"from": "2026-03", "to": "2026-05"})
    [euro] = answer["currencies"]
    return [(each["recognized_minor"], each["to_come_minor"]) for each in euro["months"]]


async def test_what_is_served_later_is_earned_later(march):
    shop, viewer, subscription = march
    await shop.move_to("2026-03-11T10:00:00")
    await act(shop, subscription, "pause", at="now", credit="extend")
    assert await books(shop) == (2100, 1000)
    await shop.move_to("2026-03-14")
    assert await months(shop) == [(1000, 0), (0, 0), (0, 0)], "nobody knows when it goes on"
    await shop.move_to("2026-04-03T10:00:00")
    assert await books(shop) == (2100, 1000)
    await shop.check()
    await act(shop, subscription, "resume", at="now")
    assert await books(shop) == (2100, 1000)
    assert await months(shop) == [(1000, 0), (0, 2100), (0, 0)]
    _, line = await first_line(shop, viewer)
    assert (line["service_start_at"], line["service_end_at"]) == (
        "2026-03-01T10:00:00Z", "2026-04-24T10:00:00Z",
    )  # fmt: skip
    assert [(each["month"], each["recognized_minor"], each["to_come_minor"])
            for each in line["months"]] == [("2026-03", 1000, 0), ("2026-04", 0, 2100)]  # fmt: skip
    await shop.move_to("2026-04-04")
    assert await books(shop) == (2000, 1100)
    await shop.move_to("2026-04-24T09:00:00")
    assert await books(shop) == (0, 3100)
    await shop.check()


async def test_two_pauses_in_one_period(march):
    shop, viewer, subscription = march
    for paused, resumed in (("03-11", "03-14"), ("03-20", "03-25")):
        await shop.move_to(f"2026-{paused}T10:00:00")
        await act(shop, subscription, "pause", at="now", credit="extend")
        await shop.move_to(f"2026-{resumed}T10:00:00")
        await act(shop, subscription, "resume", at="now")
    await shop.move_to("2026-03-26")
    assert await books(shop) == (3100 - 1700, 1700), "25 days less 8"
    _, line = await first_line(shop, viewer)
    assert [each["recognized_minor"] + each["to_come_minor"] for each in line["months"]] == [
        2300, 800,
    ]  # fmt: skip
    await shop.move_to("2026-04-09T09:00:00")
    assert await books(shop) == (0, 3100)
    await shop.check()


async def test_a_note_in_the_pause_takes_back_the_share_that_was_served(march):
    shop, viewer, subscription = march
    await shop.move_to("2026-03-11T10:00:00")
    await act(shop, subscription, "pause", at="now", credit="extend")
    await shop.move_to("2026-03-20T10:00:00")
    invoice, _ = await first_line(shop, viewer)
    note = await shop.post(
        "/v1/credit-notes",
        {"invoice_id": invoice, "reason": "goodwill", "lines": [{"n": 1, "gross_minor": 620}]},
    )
    assert await books(shop) == (2100 - 420, 1000 - 200)
    await shop.move_to("2026-03-21T10:00:00")
    assert await books(shop) == (1680, 800)
    await act(shop, subscription, "resume", at="now")
    await shop.move_to("2026-03-22")
    assert await books(shop) == (1600, 880), "24.80 over 31 days, eleven of them served"
    await shop.post(f"/v1/credit-notes/{note['id']}/void", {"reason": "a mistake"}, expect=200)
    await shop.move_to("2026-03-23")
    assert await books(shop) == (1900, 1200)
    await shop.move_to("2026-04-11T09:00:00")
    assert await books(shop) == (0, 3100)
    await shop.check()


@pytest.mark.parametrize("credit_unused", [True, False])
@pytest.mark.long
async def test_a_subscription_that_ends_in_its_pause(march, credit_unused):
    shop, _, subscription = march
    await shop.move_to("2026-03-11T10:00:00")
    await act(shop, subscription, "pause", at="now", credit="extend")
    await shop.move_to("2026-03-15T10:00:00")
    await act(shop, subscription, "cancel", when="now", credit_unused=credit_unused)
    await shop.move_to("2026-03-16")
    earned = 1000 if credit_unused else 1500
    assert await books(shop) == (1000 - earned + (0 if credit_unused else 2100), earned)
    await shop.move_to("2026-04-02")
    assert await books(shop) == (0, 1000 if credit_unused else 3100)
    await shop.check()


async def test_by_the_second_too(shop):
    await shop.move_to("2026-03-01T10:00:00")
    policy = {"mode": "second", "timezone": "UTC"}
    assert (await shop.raw("PUT", "/v1/revenue-policy", json=policy)).status_code == 200
    _, subscription = await subscriber(shop)
    await shop.move_to("2026-03-11T10:00:00")
    await act(shop, subscription, "pause", at="now", credit="extend")
    await shop.move_to("2026-03-21T10:00:00")
    assert await books(shop) == (2100, 1000)
    await act(shop, subscription, "resume", at="now")
    await shop.move_to("2026-03-21T22:00:00")
    assert await books(shop) == (2050, 1050)
    await shop.move_to("2026-04-11T09:59:59")
    assert await books(shop) == (0, 3100), "but for less than half a cent"
    await shop.check()


async def test_what_is_charged_once_does_not_wait_for_the_service(shop):
    await shop.move_to("2026-03-01T10:00:00")
    viewer = await shop.customer(timezone="UTC")
    await shop.card(viewer)
    base = {"code": "base", "currency": "EUR", "model": "flat", "amount_minor": 3100,
            "interval": {"unit": "month", "count": 1}, "timing": "advance"}  # fmt: skip
    product = await shop.post("/v1/products", {"code": "p", "name": "P", "resources": ["film:a"]})
    prices = [base, {**base, "code": "set-up", "amount_minor": 500, "timing": "once"}]
    plan = await shop.post(
        "/v1/plans", {"code": "p", "name": "P", "product_id": product["id"], "prices": prices}
    )
    bought = await shop.subscribe(viewer, plan["id"])
    once = next(each["id"] for each in plan["latest"]["prices"] if each["code"] == "set-up")
    await act(shop, bought["id"], "charges", price_id=once)
    await act(shop, bought["id"], "pause", at="now", credit="extend")
    await shop.move_to("2026-03-20")
    assert await books(shop) == (3600, 500), "the charge beside the first month is served with it"
    await shop.check()


@pytest.mark.long
async def test_what_is_billed_again_in_the_pause_stands_still_too(march):
    shop, viewer, subscription = march
    await shop.card(viewer, "soft_decline")
    await shop.move_to("2026-04-05T10:00:00")
    assert await books(shop) == (3100 - 413, 3100 + 413), "four days of thirty"
    await act(shop, subscription, "pause", at="now", credit="extend")
    await shop.move_to("2026-04-08T10:00:00")
    invoice = await shop.last_invoice(viewer)
    assert invoice["status"] == "open"
    await shop.post(f"/v1/invoices/{invoice['id']}/reissue", {"reason": "an address"})
    assert await books(shop) == (3100 - 413, 3100 + 413)
    await shop.move_to("2026-04-09T10:00:00")
    assert await books(shop) == (3100 - 413, 3100 + 413)
    await act(shop, subscription, "resume", at="now")
    await shop.move_to("2026-04-10")
    assert await books(shop) == (3100 - 517, 3100 + 517)
    await shop.check()
