"""Two ways for the same money at once: whatever comes first, one capture and one list of events."""

from __future__ import annotations

import asyncio
import contextvars
import json
import time
from collections import Counter
from urllib.parse import urlsplit

from subledger.platform import crashpoints
from subledger.providers.sandbox.adapter import SIGNATURE, sign
from tests.stories.test_dunning import FAILED, PLANNED, REFUSED
from tests.stories.test_first_main_job import BOUGHT

CARD = {"card_number": "4242 4242 4242 4242"}
PAGE = {"collection": "page", "return_url": "http://shop.test/x"}
TIMES = 20


async def _together(shop, *requests):
    """Send all at once, while the process's steps run."""
    answers = await shop.pump.during(asyncio.gather(*requests))
    await shop.pump.quiet()
    return answers


async def _notify(shop, attempt_id, *, event="cb_race"):
    """What the provider's notification about an attempt says, signed."""
    _, secret = shop.assembly.sandbox.credentials(shop.tenant_id)
    [connection] = (await shop.api.get("/v1/connections")).json()["data"]
    about = {"attempt_id": attempt_id}
    body = json.dumps({"id": event, "type": "charge.succeeded", "data": about}).encode()
    headers = {SIGNATURE: sign(body, secret, int(time.time()))}
    path = urlsplit(connection["webhook_url"]).path
    return (await shop.api.post(path, content=body, headers=headers)).status_code


def _at(point, begin):
    """Begin something the first time that a crash point is passed; what was begun."""
    begun = []
    # Somebody else begins it, outside of whatever transaction passes the point.
    outside, loop = contextvars.copy_context(), asyncio.get_running_loop()

    def react(reached):
        if reached.name == point and not begun:
            begun.append(loop.create_task(begin(), context=outside))

    crashpoints.install(react)
    return begun


async def _newest_attempt(shop):
    answer = await shop.api.get("/v1/payments")
    assert answer.status_code == 200, answer.text
    page = answer.json()["data"]
    seen = (await shop.api.get(f"/v1/payments/{page[0]['id']}")).json()
    return seen["attempts"][-1]["id"]


async def _webhooks_during_a_purchase(shop, point):
    plan, viewer = await shop.plan(), await shop.customer()
    await shop.card(viewer)
    await shop.new_events(viewer)

    async def tell():
        attempt = await _newest_attempt(shop)
        return await asyncio.gather(*(_notify(shop, attempt) for _ in range(TIMES)))

    begun = _at(point, tell)
    try:
        body = {"customer_id": viewer, "plan_id": plan}
        [bought] = await _together(shop, shop.api.post("/v1/subscriptions", json=body))
        [told] = [await shop.pump.during(each) for each in begun]
    finally:
        crashpoints.install(None)
    await shop.pump.quiet()
    assert set(told) == {200}
    assert bought.status_code == 201, bought.text
    assert await shop.new_events(viewer) == BOUGHT
    assert await shop.invoices(viewer) == [("INV-000001", "paid", 999)]
    assert await shop.captured() == {"EUR": 999}
    received = (await shop.get("/v1/received-webhooks"))["data"]
    assert len(received) == 1, "twenty times the same is kept once"
    await shop.check()


async def test_twenty_webhooks_before_the_providers_reply(shop):
    await _webhooks_during_a_purchase(shop, "sandbox.charge.after_commit")


async def test_twenty_webhooks_before_our_commit(shop):
    await _webhooks_during_a_purchase(shop, "payments.record_results.before_commit")


async def _past_due(shop):
    """A renewal that the card declined, with a retry on the next day."""
    plan, viewer = await shop.plan(), await shop.customer()
    await shop.card(viewer)
    bought = await shop.subscribe(viewer, plan)
    await shop.card(viewer, "insufficient_funds:2")
    await shop.new_events(viewer)
    await shop.move_to("2026-02-28T10:00:00")
    events = await shop.new_events(viewer)
    assert events[: len(REFUSED)] == REFUSED
    assert PLANNED in events
    return viewer, bought["id"], await shop.last_invoice(viewer)


async def _renewed_once(shop, viewer, subscription):
    assert [row[1:] for row in await shop.invoices(viewer)] == [("paid", 999), ("paid", 999)]
    assert await shop.captured() == {"EUR": 2 * 999}
    assert await shop.status(subscription) == "active"
    await shop.check()


async def test_a_retry_and_a_payment_by_hand(shop):
    viewer, subscription, invoice = await _past_due(shop)
    pay = {"invoice_id": invoice["id"]}
    moved, *paid = await _together(
        shop,
        shop.api.post("/v1/clock-moves", json={"to_at": "2026-03-04T12:00:00Z"}),
        *(shop.api.post("/v1/payments", json=pay) for _ in range(4)),
    )
    assert moved.status_code == 202
    assert set(Counter(each.status_code for each in paid)) <= {201, 409}
    codes = {each.json()["code"] for each in paid if each.status_code == 409}
    assert codes <= {"invoice_already_reserved", "invoice_not_collectable"}
    await _moved(shop, moved)
    assert (await shop.new_events(viewer)).count("payment.succeeded") == 1
    await _renewed_once(shop, viewer, subscription)


async def _moved(shop, moved):
    for _ in range(200):
        await shop.pump.quiet()
        if (await shop.get(f"/v1/clock-moves/{moved.json()['id']}"))["status"] == "done":
            return
    raise AssertionError("the clock still moves")


async def test_a_hosted_page_and_an_automatic_charge(shop):
    viewer, subscription, invoice = await _past_due(shop)
    opened = await shop.post(
        "/v1/payments", {"invoice_id": invoice["id"], "mode": "page",
                         "return_url": "http://shop.test/x"},
    )  # fmt: skip
    url = urlsplit(opened["next_action"]["redirect_url"]).path
    # The retry falls due while the payer has the page open, and pays at that very moment.
    moved, page = await _together(
        shop,
        shop.api.post("/v1/clock-moves", json={"to_at": "2026-03-01T12:00:00Z"}),
        shop.api.post(url, data=CARD),
    )
    assert (moved.status_code, page.status_code) == (202, 303)
    await _moved(shop, moved)
    events = await shop.new_events(viewer)
    assert events.count("payment.succeeded") == 1
    assert events.count(FAILED) <= 1, "at most the retry that found the invoice taken"
    await _renewed_once(shop, viewer, subscription)


async def test_a_change_of_plan_while_the_invoice_is_reserved(shop):
    plan, dearer = await shop.plan(), await shop.plan("dear", amounts={"EUR": 1999})
    viewer = await shop.customer()
    bought = await shop.subscribe(viewer, plan, **PAGE)
    url = urlsplit(bought["next_action"]["redirect_url"]).path
    change = shop.api.post(f"/v1/subscriptions/{bought['id']}/change", json={"plan_id": dearer})
    changed, paid = await _together(shop, change, shop.api.post(url, data=CARD))
    assert paid.status_code == 303
    assert changed.status_code in {200, 409}, changed.text
    # The page takes what was reserved; what the change costs is another invoice.
    first = await shop.invoices(viewer)
    assert first[0][1:] == ("paid", 999)
    assert (await shop.captured())["EUR"] == sum(row[2] for row in first if row[1] == "paid")
    await shop.check()
