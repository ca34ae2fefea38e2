"""Two stages where a payer takes part: a page that only authorizes, a bank that asks first."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.stories.shop import Shop
from tests.stories.test_offline_payments import owing
from tests.stories.test_secure import ONCE, at_the_bank
from tests.stories.test_two_stage import PAID, ask, found

DECLINED = "4000 0000 0000 0002"
OPENED = ["payment.requires_action"]
HELD = ["payment.authorized", "payment_method.attached"]


async def opened(shop: Shop) -> tuple[str, str, Any, str]:
    """``(customer, invoice, payment, address)`` of a page that is to set the money aside."""
    viewer, _, invoice = await owing(shop)
    body = {"invoice_id": invoice, "mode": "page", "capture_method": "manual"}
    payment = await shop.post("/v1/payments", body)
    assert payment["status"] == "requires_action"
    return viewer, invoice, payment, payment["next_action"]["redirect_url"]


async def test_a_page_sets_the_money_aside_and_a_part_of_it_is_captured(shop: Shop) -> None:
    viewer, invoice, payment, url = await opened(shop)
    form = await shop.raw("GET", urlsplit(url).path)
    assert "set aside on your card now, and taken later or let go" in form.text
    assert (await shop.pay_page(url, DECLINED)).status_code == 422

    done = await shop.pay_page(url)

    assert done.status_code == 303
    said = await shop.raw("GET", urlsplit(url).path)
    assert ("The money is set aside" in said.text, "Payment received" in said.text) == (True, False)
    russian = await shop.raw("GET", f"{urlsplit(url).path}?lang=ru")
    assert "Деньги зарезервированы" in russian.text
    assert sorted(await shop.new_events(viewer)) == sorted([*OPENED, *HELD])
    seen = await found(shop, payment)
    assert (seen["status"], seen["amount_minor"]) == ("authorized", 999)
    assert seen["authorization"]["amount_minor"] == 999
    assert seen["next_action"] is None
    methods = (await shop.get("/v1/payment-methods", customer_id=viewer))["data"]
    kept = next(each for each in methods if each["id"] == seen["payment_method_id"])
    assert (kept["brand"], kept["last_four"], kept["status"]) == ("visa", "4242", "active")
    assert await shop.captured() == {}
    again = await shop.post("/v1/payments", {"invoice_id": invoice}, expect=409)
    assert again["code"] == "invoice_already_reserved"
    await shop.check()

    taken = await ask(shop, payment, "capture", {"amount_minor": 400})

    assert (taken["status"], taken["amount_minor"]) == ("succeeded", 400)
    assert await shop.new_events(viewer) == ["payment.succeeded", "invoice.partially_paid"]
    rest = await shop.post("/v1/payments", {"invoice_id": invoice, "payment_method_id": kept["id"]})
    assert (rest["status"], rest["amount_minor"]) == ("succeeded", 599)
    assert await shop.captured() == {"EUR": 999}
    await shop.check()


@pytest.mark.long
async def test_an_authorized_page_is_let_go(shop: Shop) -> None:
    viewer, invoice, payment, url = await opened(shop)
    await shop.pay_page(url)
    await shop.new_events(viewer)
    gone = await ask(shop, payment, "cancel")
    assert gone["status"] == "canceled"
    assert await shop.new_events(viewer) == ["payment.canceled"]
    body = {"invoice_id": invoice, "payment_method_id": gone["payment_method_id"]}
    paid = await shop.post("/v1/payments", body)
    assert (paid["status"], await shop.captured()) == ("succeeded", {"EUR": 999})
    await shop.check()


@pytest.mark.parametrize("fault", ["webhook_never", "webhook_twice"])
@pytest.mark.long
async def test_the_page_is_told_of_by_no_webhook_or_by_two(shop: Shop, fault: str) -> None:
    viewer, _, payment, url = await opened(shop)
    await shop.new_events(viewer)
    await shop.fault(fault, 1)
    await shop.pay_page(url)
    if fault == "webhook_never":
        assert (await found(shop, payment))["status"] == "requires_action"
        await shop.move_to("2026-01-31T11:00:00")  # looked at after an hour
    assert sorted(await shop.new_events(viewer)) == sorted(HELD)
    assert (await ask(shop, payment, "capture"))["status"] == "succeeded"
    assert sorted(await shop.new_events(viewer)) == sorted(PAID)
    assert await shop.captured() == {"EUR": 999}
    await shop.check()


@pytest.mark.long
async def test_a_page_that_nobody_takes_is_closed_and_never_authorizes(shop: Shop) -> None:
    viewer, _, payment, url = await opened(shop)
    await shop.new_events(viewer)
    closed = await ask(shop, payment, "cancel")
    assert closed["status"] == "canceled"
    assert (await shop.pay_page(url)).status_code == 410
    assert await shop.new_events(viewer) == ["payment.canceled"]
    assert (await ask(shop, payment, "capture", expect=409))["reason"] == "canceled"
    assert await shop.captured() == {}
    await shop.check()


async def test_on_the_page_the_bank_asks_first(shop: Shop) -> None:
    viewer, _, payment, url = await opened(shop)
    await shop.new_events(viewer)
    bank = (await shop.pay_page(url, ONCE)).headers["location"]
    assert (await found(shop, payment))["status"] == "requires_action"
    assert await at_the_bank(shop, bank, "decline") == 303
    assert await shop.new_events(viewer) == [], "the page is still open"
    bank = (await shop.pay_page(url, ONCE)).headers["location"]
    assert await at_the_bank(shop, bank, "confirm") == 303
    assert sorted(await shop.new_events(viewer)) == sorted(HELD)
    assert await shop.captured() == {}
    assert (await ask(shop, payment, "capture"))["status"] == "succeeded"
    assert await shop.captured() == {"EUR": 999}
    await shop.check()


@pytest.mark.parametrize(
    ("do", "status"),
    [("confirm", "authorized"), pytest.param("decline", "failed", marks=pytest.mark.long)],
)
async def test_a_saved_card_whose_bank_asks_is_authorized_by_its_payer(
    shop: Shop, do: str, status: str
) -> None:
    viewer, _, invoice = await owing(shop)
    card = await shop.card(viewer, "secure:1")
    await shop.new_events(viewer)
    wish = {"invoice_id": invoice, "payment_method_id": card, "capture_method": "manual"}
    payment = await shop.post("/v1/payments", wish)
    assert payment["status"] == "requires_action"
    refused = await ask(shop, payment, "capture", expect=409)
    assert refused["reason"] == "requires_action"

    assert await at_the_bank(shop, payment["next_action"]["redirect_url"], do) == 303

    assert await shop.new_events(viewer) == [*OPENED, f"payment.{status}"]
    assert (await found(shop, payment))["status"] == status
    assert await shop.captured() == {}
    if status == "authorized":
        assert (await ask(shop, payment, "capture"))["status"] == "succeeded"
        assert await shop.captured() == {"EUR": 999}
    await shop.check()


@pytest.mark.long
async def test_an_authorization_whose_answer_was_lost_never_was_or_is_found(shop: Shop) -> None:
    for kind, status in (("timeout", "authorized"), ("timeout_lost", "failed")):
        viewer, _, invoice = await owing(shop, name=kind)
        card = await shop.card(viewer, kind)
        wish = {"invoice_id": invoice, "payment_method_id": card, "capture_method": "manual"}
        payment = await shop.post("/v1/payments", wish)
        assert payment["status"] == "unknown"
        at = "2026-01-31T10:06:00" if kind == "timeout" else "2026-01-31T12:00:00"
        await shop.move_to(at)
        assert (await found(shop, payment))["status"] == status
    assert await shop.captured() == {}
    await shop.check()
