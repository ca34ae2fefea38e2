"""Two at once: one effect, one answer, whatever the interleaving."""

from __future__ import annotations

import asyncio
from collections import Counter

from subledger.hosts.assembly import Options, assemble
from subledger.platform import migrate
from tests.pump import Pump
from tests.stories.test_first_main_job import BOUGHT, RENEWED

DUPLICATES = 8


async def _together(shop, *requests):
    """Send all at once, while the process's steps run."""
    return await shop.pump.during(asyncio.gather(*requests))


async def test_duplicates_of_a_purchase_are_one_purchase(shop):
    plan, viewer = await shop.plan(), await shop.customer()
    await shop.card(viewer)
    await shop.new_events(viewer)
    body, headers = {"customer_id": viewer, "plan_id": plan}, {"idempotency-key": "buy-1"}

    answers = await _together(
        shop,
        *(shop.api.post("/v1/subscriptions", json=body, headers=headers)
          for _ in range(DUPLICATES)),
    )  # fmt: skip

    statuses = Counter(each.status_code for each in answers)
    assert set(statuses) <= {201, 409}, statuses
    assert statuses[201] >= 1
    for each in answers:
        if each.status_code == 409:
            assert each.json()["code"] == "idempotency_in_progress"
            assert each.headers["retry-after"] == "1"
    assert len({each.json()["id"] for each in answers if each.status_code == 201}) == 1
    firsts = [each for each in answers
              if each.status_code == 201 and "idempotent-replayed" not in each.headers]  # fmt: skip
    assert len(firsts) == 1
    assert {each.json()["status"] for each in answers if each.status_code == 201} == {"active"}
    assert await shop.new_events(viewer) == BOUGHT
    assert await shop.invoices(viewer) == [("INV-000001", "paid", 999)]
    assert await shop.captured() == {"EUR": 999}
    await shop.check()


async def test_a_key_with_two_inputs_at_once_lets_one_through(shop):
    both = [
        {"external_id": name, "name": name, "email": f"{name}@example.com", "currency": "EUR",
         "timezone": "UTC"}
        for name in ("ada", "bob")
    ]  # fmt: skip
    answers = await _together(
        shop,
        *(shop.api.post("/v1/customers", json=each, headers={"idempotency-key": "k"})
          for each in both),
    )  # fmt: skip
    assert sorted(each.status_code for each in answers) == [201, 422]
    [loser] = [each for each in answers if each.status_code == 422]
    assert loser.json()["code"] == "idempotency_key_reused"
    assert len((await shop.get("/v1/customers"))["data"]) == 1


async def test_one_external_id_for_two_at_once(shop):
    body = {"external_id": "ada", "name": "Ada", "email": "a@example.com", "currency": "EUR",
            "timezone": "UTC"}  # fmt: skip
    answers = await _together(
        shop, *(shop.api.post("/v1/customers", json=body) for _ in range(DUPLICATES))
    )
    assert Counter(each.status_code for each in answers) == {201: 1, 409: DUPLICATES - 1}
    assert {each.json().get("code") for each in answers} == {None, "external_id_taken"}


async def test_two_cancels_at_once_end_it_once(shop):
    plan, viewer = await shop.plan(), await shop.customer()
    await shop.card(viewer)
    bought = await shop.subscribe(viewer, plan)
    await shop.new_events(viewer)
    path = f"/v1/subscriptions/{bought['id']}/cancel"

    answers = await _together(
        shop, *(shop.api.post(path, json={"when": "now"}) for _ in range(DUPLICATES))
    )

    assert Counter(each.status_code for each in answers) == {200: 1, 409: DUPLICATES - 1}
    losers = {each.json()["code"] for each in answers if each.status_code == 409}
    assert losers == {"subscription_ended"}
    assert await shop.new_events(viewer) == ["subscription.canceled", "entitlement.revoked"]
    await shop.check()


async def test_cancel_and_undo_at_once_leave_one_truth(shop):
    plan, viewer = await shop.plan(), await shop.customer()
    await shop.card(viewer)
    bought = await shop.subscribe(viewer, plan)
    path = f"/v1/subscriptions/{bought['id']}"
    await shop.post(f"{path}/cancel", {"when": "period_end"}, expect=200)
    await shop.new_events(viewer)

    ended, kept = await _together(
        shop,
        shop.api.post(f"{path}/cancel", json={"when": "now"}),
        shop.api.post(f"{path}/undo-cancel"),
    )

    assert ended.status_code == 200
    assert kept.status_code in {200, 409}
    kept_first = ["subscription.changed"] if kept.status_code == 200 else []
    assert await shop.new_events(viewer) == [
        *kept_first, "subscription.canceled", "entitlement.revoked",
    ]  # fmt: skip
    assert await shop.status(bought["id"]) == "canceled"
    await shop.check()


async def test_an_invoice_whose_payment_is_under_way_is_not_voided(shop):
    plan, viewer = await shop.plan(), await shop.customer()
    bought = await shop.subscribe(viewer, plan, collection="page", return_url="http://shop.test/x")
    invoice = await shop.last_invoice(viewer)
    path = f"/v1/invoices/{invoice['id']}/void"
    refused = await shop.raw("POST", path, json={"reason": "mistake"})
    assert (refused.status_code, refused.json()["code"]) == (409, "invoice_reserved")
    # Void and the payer's click at once: the money that comes is booked, and the void refused.
    page, void = await _together(
        shop,
        shop.api.post(
            bought["next_action"]["redirect_url"], data={"card_number": "4242 4242 4242 4242"}
        ),
        shop.api.post(path, json={"reason": "mistake"}),
    )
    assert page.status_code == 303
    assert (void.status_code, void.json()["code"]) in {
        (409, "invoice_reserved"), (409, "invoice_not_open"),
    }  # fmt: skip
    await shop.pump.quiet()
    assert [row[1:] for row in await shop.invoices(viewer)] == [("paid", 999)]
    assert await shop.captured() == {"EUR": 999}
    await shop.check()


async def test_a_page_sent_twice_at_the_same_moment_charges_once(shop):
    plan, viewer = await shop.plan(), await shop.customer()
    bought = await shop.subscribe(viewer, plan, collection="page", return_url="http://shop.test/x")
    await shop.new_events(viewer)
    card = {"card_number": "4242 4242 4242 4242", "keep": "on"}
    answers = await _together(
        shop,
        *(shop.api.post(bought["next_action"]["redirect_url"], data=card)
          for _ in range(DUPLICATES)),
    )  # fmt: skip
    statuses = Counter(each.status_code for each in answers)
    assert set(statuses) <= {303, 200}, statuses
    assert statuses[303] >= 1
    assert await shop.new_events(viewer) == [
        "payment_method.attached", "payment.succeeded", "invoice.paid", "subscription.activated",
        "entitlement.granted",
    ]  # fmt: skip
    assert len((await shop.get("/v1/payment-methods", customer_id=viewer))["data"]) == 1
    assert await shop.captured() == {"EUR": 999}
    await shop.check()


async def test_payments_of_one_invoice_at_once_capture_once(shop):
    plan, viewer = await shop.plan(), await shop.customer()
    await shop.card(viewer, "soft_decline")
    refused = await shop.refused(viewer, plan)
    good = await shop.card(viewer)
    body = {"invoice_id": refused["invoice_id"], "payment_method_id": good}
    answers = await _together(
        shop, *(shop.api.post("/v1/payments", json=body) for _ in range(DUPLICATES))
    )
    statuses = Counter(each.status_code for each in answers)
    assert statuses == {201: 1, 409: DUPLICATES - 1}, [each.text for each in answers]
    codes = {each.json()["code"] for each in answers if each.status_code == 409}
    assert codes <= {"invoice_already_reserved", "invoice_not_collectable"}
    assert await shop.captured() == {"EUR": 999}
    assert await shop.status(refused["subscription_id"]) == "active"
    await shop.check()


async def test_two_workers_on_one_shop_do_each_thing_once(shop, shared_database_url, secret_key):
    plan = await shop.plan()
    viewers = [await shop.customer(f"v{n}") for n in range(6)]
    for viewer in viewers:
        await shop.card(viewer)
        await shop.subscribe(viewer, plan)
        await shop.new_events(viewer)
    second = assemble(
        Options(
            url_of=lambda name: migrate.service_url(shared_database_url, name, secret_key),
            secret_key=secret_key,
            public_url="http://shop.test",
            pool_size=3,
        )
    )
    try:
        await second.memory.catch_up()
        helper = Pump(second)
        move = await shop.post("/v1/clock-moves", {"to_at": "2026-04-01T00:00:00Z"}, expect=202)
        for _ in range(300):
            await asyncio.gather(shop.pump.quiet(), helper.quiet())
            move = await shop.get(f"/v1/clock-moves/{move['id']}")
            if move["status"] != "moving":
                break
        assert move["status"] == "done", move
        for viewer in viewers:
            assert await shop.new_events(viewer) == RENEWED * 2
        numbers = [row[0] for viewer in viewers for row in await shop.invoices(viewer)]
        assert sorted(numbers) == [f"INV-{n:06d}" for n in range(1, 19)]
        assert await shop.captured() == {"EUR": 6 * 3 * 999}
        await shop.check()
    finally:
        await second.close()
