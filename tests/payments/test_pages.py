"""Stories of the hosted page: opened, paid, saved, expired, canceled, its webhooks lost."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from subledger.platform import ids
from subledger.providers.engine import AsgiTransport
from subledger.providers.port import HttpRequest
from tests.payments.world import Shop, World

OK, DECLINED, POOR = "4242424242424242", "4000000000000002", "4000000000009995"


async def page_of(shop: Shop, customer: UUID, amount: int = 1200) -> tuple[UUID, UUID, str]:
    """An invoice to be paid on a page: ``(invoice, attempt, address)``."""
    invoice, attempt = await shop.invoice(
        customer, amount, mode="page", dunning=False, return_url="http://shop.test/back"
    )
    await shop.world.settle()
    answer = await shop.http.get("/v1/payments", params={"invoice_id": ids.text("inv", invoice)})
    payment = answer.json()["data"][0]
    assert payment["status"] == "requires_action"
    return invoice, attempt, str(payment["next_action"]["redirect_url"])


async def test_a_page_is_paid_and_the_method_is_saved(world: World) -> None:
    shop = await world.shop()
    viewer = await shop.customer()
    _, _, url = await page_of(shop, viewer)
    assert await shop.told(viewer) == ["payment.requires_action"]
    assert await shop.unquiet() == []

    await shop.pay_page(url, OK)
    await world.settle()

    assert [kind for kind, _ in await shop.facts(viewer)] == [
        "payment.requires_action",
        "payment_method.attached",
        "payment.succeeded",
    ]
    _, method = (await shop.facts(viewer))[1]
    assert (method["brand"], method["last_four"], method["is_default"]) == ("visa", "4242", True)
    assert await shop.journal() == {"captured_minor": {"EUR": 1200}, "captures": 1, "doubles": 0}

    # The saved method pays the next invoice by itself.
    await shop.invoice(viewer, 1200)
    await world.settle()
    assert (await shop.told(viewer))[-1] == "payment.succeeded"


async def test_the_same_webhook_three_times_is_one_success(world: World) -> None:
    shop = await world.shop()
    viewer = await shop.customer()
    _, _, url = await page_of(shop, viewer)
    world.post.times = 3
    await shop.pay_page(url, OK, save=False)
    await world.settle()

    assert await shop.told(viewer) == ["payment.requires_action", "payment.succeeded"]
    assert (
        await world.admin.fetchval(
            "SELECT count(*) FROM webhooks.received WHERE tenant_id = $1", shop.tenant
        )
        == 1
    )


async def test_a_decline_on_the_page_leaves_it_open(world: World) -> None:
    shop = await world.shop()
    viewer = await shop.customer()
    _, _, url = await page_of(shop, viewer)
    await shop.pay_page(url, DECLINED)
    await world.settle()
    assert await shop.told(viewer) == ["payment.requires_action"]

    await shop.pay_page(url, OK)
    await world.settle()
    assert (await shop.told(viewer))[-1] == "payment.succeeded"
    assert (await shop.journal())["captures"] == 1


async def test_a_page_nobody_pays_is_closed_before_it_is_canceled(world: World) -> None:
    shop = await world.shop()
    viewer = await shop.customer()
    _, _, url = await page_of(shop, viewer)
    for hours in (1, 6, 16):
        await shop.advance(timedelta(hours=hours))
        await world.settle()

    assert await shop.told(viewer) == ["payment.requires_action", "payment.canceled"]
    assert "expired" in await shop.pay_page_anyway(url)
    assert (await shop.journal())["captures"] == 0


async def test_a_paid_page_whose_webhook_never_comes_is_found_by_asking(world: World) -> None:
    shop = await world.shop()
    viewer = await shop.customer()
    _, _, url = await page_of(shop, viewer)
    await shop.fault("webhook_never", 5)
    await shop.pay_page(url, OK)
    await world.settle()
    assert await shop.told(viewer) == ["payment.requires_action"]

    await shop.advance(timedelta(hours=1))
    await world.settle()
    assert (await shop.told(viewer))[-1] == "payment.succeeded"


async def test_a_page_paid_at_the_last_moment_is_paid_not_canceled(world: World) -> None:
    shop = await world.shop()
    viewer = await shop.customer()
    invoice, _, url = await page_of(shop, viewer)
    await shop.fault("webhook_never", 5)
    await shop.pay_page(url, OK)
    listed = await shop.http.get("/v1/payments", params={"invoice_id": ids.text("inv", invoice)})
    payment = listed.json()["data"][0]["id"]

    answer = await shop.http.post(f"/v1/payments/{payment}/cancel")

    assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")
    assert await shop.told(viewer) == ["payment.requires_action", "payment.succeeded"]


async def test_a_page_canceled_by_the_shop_takes_no_money_any_more(world: World) -> None:
    shop = await world.shop()
    viewer = await shop.customer()
    invoice, _, url = await page_of(shop, viewer)
    listed = await shop.http.get("/v1/payments", params={"invoice_id": ids.text("inv", invoice)})
    payment = listed.json()["data"][0]["id"]

    answer = await shop.http.post(f"/v1/payments/{payment}/cancel")
    again = await shop.http.post(f"/v1/payments/{payment}/cancel")

    assert (answer.status_code, answer.json()["status"]) == (200, "canceled")
    assert (again.status_code, again.json()["status"]) == (200, "canceled")
    assert await shop.told(viewer) == ["payment.requires_action", "payment.canceled"]
    assert "expired" in await shop.pay_page_anyway(url)


async def test_a_caller_that_vanished_while_opening_a_page_opens_the_same_page(
    world: World,
) -> None:
    shop = await world.shop()
    viewer = await shop.customer()
    _, attempt = await shop.invoice(viewer, 800, mode="page", dunning=False)
    await world.payments.consumers[0].step(100)
    await world.admin.execute(
        "UPDATE payments.attempts SET state = 'in_flight',"
        " claimed_at = clock_timestamp() - interval '1 hour' WHERE id = $1",
        attempt,
    )
    step = next(each for each in world.payments.steps if each.name == "payments.give_up_waiting")
    assert await step.run(10) == 1
    await world.admin.execute(
        "UPDATE payments.attempts SET ready_at = clock_timestamp() WHERE id = $1", attempt
    )
    await world.settle()

    assert await shop.told(viewer) == ["payment.requires_action"]


async def test_a_webhook_for_another_tenants_attempt_changes_nothing(world: World) -> None:
    """The hint is looked up among the endpoint's own tenant's attempts only."""
    mine, other = await world.shop(), await world.shop()
    viewer = await mine.customer()
    _, attempt, _ = await page_of(mine, viewer)
    stranger = await other.customer()
    _, _, url = await page_of(other, stranger)
    await other.pay_page(url, OK, save=False)
    await world.settle()
    sent, _ = world.post.sent[-1]

    body = sent.body.replace(
        sent.body[sent.body.index(b"att_") : sent.body.index(b"att_") + 30],
        ids.text("att", attempt).encode(),
    )
    forged = await AsgiTransport(world.app).send(HttpRequest("POST", sent.path, sent.headers, body))

    assert forged.status == 401
    assert await mine.told(viewer) == ["payment.requires_action"]
