"""3-D Secure: the payer's bank asks first, on the hosted page and at a renewal."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.stories.shop import Shop

OPENED = ["subscription.created", "invoice.finalized", "payment.requires_action"]
PAID = ["payment.succeeded", "invoice.paid", "subscription.activated", "entitlement.granted"]
ONCE = "4000 0000 0000 3220"


async def at_the_bank(shop: Shop, url: str, do: str) -> int:
    """What the payer's browser sends to the bank."""
    answer = await shop.raw("POST", urlsplit(url).path, data={"do": do})
    return answer.status_code


async def newest(shop: Shop, viewer: str) -> Any:
    return (await shop.get("/v1/payments", customer_id=viewer))["data"][0]


async def asking(shop: Shop, kind: str = "secure:1") -> tuple[str, Any]:
    """A customer whose bank asks, and the purchase that waits for it."""
    plan, viewer = await shop.plan(), await shop.customer()
    await shop.card(viewer, kind)
    await shop.new_events(viewer)
    return viewer, await shop.subscribe(viewer, plan)


@pytest.mark.long
async def test_a_first_payment_is_confirmed_at_the_bank(shop: Shop) -> None:
    viewer, bought = await asking(shop)
    assert (bought["status"], bought["payment_status"]) == ("incomplete", "requires_action")
    url = bought["next_action"]["redirect_url"]
    payment = await newest(shop, viewer)
    assert payment["next_action"] == {"type": "redirect", "redirect_url": url}
    assert payment["attempts"][0]["kind"] == "charge"
    assert await shop.new_events(viewer) == OPENED
    assert await shop.captured() == {}, "nothing before the payer has said so"

    answers = await asyncio.gather(*(at_the_bank(shop, url, "confirm") for _ in range(5)))

    assert set(answers) <= {200, 303}
    assert await shop.new_events(viewer) == PAID
    assert await shop.status(bought["id"]) == "active"
    assert await shop.captured() == {"EUR": 999}
    await at_the_bank(shop, url, "decline")  # too late
    assert await shop.new_events(viewer) == []
    await shop.check()


async def test_a_payer_who_refuses_fails_the_payment(shop: Shop) -> None:
    viewer, bought = await asking(shop)
    assert await at_the_bank(shop, bought["next_action"]["redirect_url"], "decline") == 303
    assert await shop.new_events(viewer) == [*OPENED, "payment.failed"]
    payment = await newest(shop, viewer)
    assert (payment["status"], payment["decline"]) == ("failed", "action")
    assert payment["failure_code"] == "authentication_failed"
    assert await shop.captured() == {}
    await shop.card(viewer)  # another card, and what is open is paid by it
    paid = await shop.post("/v1/payments", {"invoice_id": payment["invoice_id"]})
    assert paid["status"] == "succeeded"
    assert (await shop.new_events(viewer))[-4:] == PAID
    await shop.check()


async def test_a_renewal_asks_and_its_payer_comes_although_no_webhook_does(shop: Shop) -> None:
    viewer, bought = await asking(shop, "secure:2")
    assert bought["status"] == "active"
    await shop.new_events(viewer)
    await shop.move_to("2026-02-28T10:00:00")
    renewed = ["subscriptions.renew_required", "invoice.finalized", "payment.requires_action"]
    assert await shop.new_events(viewer) == renewed
    url = (await newest(shop, viewer))["next_action"]["redirect_url"]
    await shop.fault("webhook_never", 1)
    await at_the_bank(shop, url, "confirm")
    assert await shop.new_events(viewer) == []
    await shop.move_to("2026-02-28T11:00:00")
    assert await shop.new_events(viewer) == [
        "payment.succeeded", "invoice.paid", "subscription.renewed", "entitlement.granted",
    ]  # fmt: skip
    assert await shop.captured() == {"EUR": 2 * 999}
    await shop.check()


@pytest.mark.long
async def test_who_never_comes_back_has_not_paid(shop: Shop) -> None:
    viewer, _ = await asking(shop, "secure:2")
    await shop.new_events(viewer)
    await shop.move_to("2026-02-28T10:00:00")
    await shop.new_events(viewer)
    url = (await newest(shop, viewer))["next_action"]["redirect_url"]
    await shop.move_to("2026-03-01T08:59:00")
    assert await shop.new_events(viewer) == []
    await shop.move_to("2026-03-01T09:01:00")
    failed = await newest(shop, viewer)
    assert (failed["decline"], failed["failure_code"]) == ("action", "authentication_expired")
    told = await shop.new_events(viewer)
    assert told[:2] == ["payment.failed", "subscription.past_due"], told
    answer = await shop.raw("GET", urlsplit(url).path)
    assert (answer.status_code, "expired" in answer.text) == (410, True)
    await at_the_bank(shop, url, "confirm")
    assert await shop.captured() == {"EUR": 999}
    await shop.check()


async def test_what_waits_for_its_payer_can_be_given_up(shop: Shop) -> None:
    viewer, _ = await asking(shop)
    payment = await newest(shop, viewer)
    ended = await shop.post(f"/v1/payments/{payment['id']}/cancel", expect=200)
    assert (ended["status"], ended["failure_code"]) == ("failed", "authentication_expired")
    await at_the_bank(shop, payment["next_action"]["redirect_url"], "confirm")
    assert await shop.new_events(viewer) == [*OPENED, "payment.failed"]
    assert await shop.captured() == {}
    await shop.check()


async def test_the_bank_asks_on_the_hosted_page_and_the_card_renews_by_itself(shop: Shop) -> None:
    plan, viewer = await shop.plan(), await shop.customer()
    bought = await shop.subscribe(viewer, plan, collection="page")
    page = bought["next_action"]["redirect_url"]
    first = (await shop.pay_page(page, ONCE)).headers["location"]
    assert "/secure/" in first
    await at_the_bank(shop, first, "decline")
    second = (await shop.pay_page(page, ONCE)).headers["location"]
    third = (await shop.pay_page(page, ONCE)).headers["location"]
    await at_the_bank(shop, second, "confirm")
    await at_the_bank(shop, third, "confirm")  # begun, left, and confirmed once it was paid
    assert (await shop.new_events(viewer))[-5:] == ["payment_method.attached", *PAID]
    assert await shop.captured() == {"EUR": 999}
    await shop.move_to("2026-02-28T10:00:00")
    assert await shop.captured() == {"EUR": 2 * 999}
    assert await shop.status(bought["id"]) == "active"
    await shop.check()
