"""A payment link: what is due when it is opened, one page for all who open it, clear ends."""

from __future__ import annotations

import asyncio
import re

import pytest

from subledger.platform import ids
from subledger.platform.db import story
from subledger.services.payments.usecases.collect import collect_manually
from tests.stories.payers import browse, heading, told, visit
from tests.stories.shop import Shop

_WISH = story("tests.link_wish")


async def linked(shop: Shop, **more: str) -> tuple[str, str, str]:
    """A customer whose first payment was declined: ``(customer, invoice, the link's address)``."""
    viewer, plan = await shop.customer(), await shop.plan()
    await shop.card(viewer, "soft_decline")
    invoice = (await shop.refused(viewer, plan))["invoice_id"]
    link = await shop.post("/v1/payment-links", {"invoice_id": invoice, **more})
    assert (link["status"], link["invoice_id"]) == ("active", invoice)
    await shop.new_events(viewer)
    return viewer, invoice, link["url"]


async def wish(shop: Shop, invoice: str) -> None:
    """Somebody pressed the button, and nothing more has happened yet."""
    database = shop.assembly.databases["payments"]
    async with database.transaction(_WISH, tenants=[shop.tenant_id]) as tx:
        await collect_manually(
            tx, tenant_id=shop.tenant_id, payment_id=tx.ids.new(), method_id=None,
            invoice_id=ids.parse("inv", invoice), connection_id=None, page=True, return_url=None,
            cause=tx.ids.new(),
        )  # fmt: skip


@pytest.mark.long
async def test_an_invoice_is_paid_by_its_link(shop: Shop) -> None:
    viewer, invoice, url = await linked(shop, return_url="http://shop.test/account")
    shown = await visit(shop, url, accept_language="ru")
    assert (shown.status_code, heading(shown)) == (200, "Счёт")
    assert "INV-000001" in shown.text
    assert "9,99\N{NO-BREAK SPACE}€" in shown.text

    # Two people press the button at once: one page.
    form = {"amount": "999"}
    first, second = await asyncio.gather(
        visit(shop, url, method="POST", data=form), visit(shop, url, method="POST", data=form)
    )
    assert (first.status_code, second.status_code) == (303, 303)
    page = first.headers["location"]
    assert second.headers["location"] == page
    again = await visit(shop, url, method="POST", data=form)
    assert again.headers["location"] == page
    assert (await shop.new_events(viewer)).count("payment.requires_action") == 1

    await shop.pay_page(page)
    await shop.pump.woken()
    paid = await visit(shop, url)
    assert (paid.status_code, heading(paid)) == (200, "This invoice is paid")
    assert 'href="http://shop.test/account"' in paid.text
    assert "<form" not in paid.text
    late = await visit(shop, url, method="POST", data=form)
    assert heading(late) == "This invoice is paid"
    assert await told(shop, url) == {
        "status": "paid", "number": "INV-000001", "due_minor": 0, "currency": "EUR",
        "return_url": "http://shop.test/account",
    }  # fmt: skip
    assert await shop.captured() == {"EUR": 999}
    body = {"invoice_id": invoice}
    refused = await shop.post("/v1/payment-links", body, expect=409)
    assert refused["code"] == "invoice_not_collectable"
    await shop.check()


async def test_who_presses_while_the_page_is_being_opened_is_led_to_it(shop: Shop) -> None:
    viewer, invoice, url = await linked(shop)
    await wish(shop, invoice)
    shown = await browse(shop, url)
    assert (heading(shown), "<form" in shown.text) == ("Invoice", True)
    # Who pressed first may be gone and no worker at work: whoever presses next opens the page.
    form = {"amount": "999"}
    led = await asyncio.gather(*(browse(shop, url, method="POST", data=form) for _ in range(3)))
    assert {each.status_code for each in led} == {303}
    assert len({each.headers["location"] for each in led}) == 1
    assert await shop.new_events(viewer) == ["payment.requires_action"]
    open_ones = await shop.get("/v1/payments", invoice_id=invoice, status="requires_action")
    assert len(open_ones["data"]) == 1
    await shop.check()


async def test_who_saw_another_amount_is_shown_the_new_one(shop: Shop) -> None:
    _, invoice, url = await linked(shop)
    await shop.post(
        "/v1/credit-notes",
        {"invoice_id": invoice, "reason": "other", "lines": [{"n": 1, "gross_minor": 199}]},
    )
    stale = await visit(shop, url, method="POST", data={"amount": "999"})
    assert stale.status_code == 409
    assert "The amount has changed" in stale.text
    assert "€8.00" in stale.text
    amount = re.search(r'name="amount" value="(\d+)"', stale.text)
    assert amount is not None
    assert amount[1] == "800"
    going = await visit(shop, url, method="POST", data={"amount": amount[1]})
    assert going.status_code == 303
    await shop.pay_page(going.headers["location"])
    assert await shop.captured() == {"EUR": 800}
    await shop.check()


async def test_a_link_expires_and_can_be_taken_back(shop: Shop) -> None:
    viewer, invoice, url = await linked(shop, expires_at="2026-01-31T12:00:00Z")
    await shop.move_to("2026-01-31T12:00:00")
    over = await visit(shop, url)
    assert (over.status_code, heading(over)) == (410, "This link has expired")
    assert (await visit(shop, url, method="POST", data={"amount": "999"})).status_code == 410

    # Made again it keeps its address.
    link = await shop.post("/v1/payment-links", {"invoice_id": invoice})
    assert (link["url"], link["status"]) == (url, "active")
    assert (await visit(shop, url)).status_code == 200
    too_late = {"invoice_id": invoice, "expires_at": "2026-01-31T12:00:00Z"}
    assert (await shop.post("/v1/payment-links", too_late, expect=422))["pointer"] == "/expires_at"

    revoked = await shop.post(f"/v1/payment-links/{link['id']}/revoke", expect=200)
    assert revoked["status"] == "revoked"
    gone = await visit(shop, url, method="POST", data={"amount": "999"})
    assert (gone.status_code, heading(gone)) == (410, "This link is not valid any more")
    other = await shop.post("/v1/payment-links", {"invoice_id": invoice})
    assert other["url"] != url
    assert len((await shop.get("/v1/payment-links"))["data"]) == 2
    [live] = (await shop.get("/v1/payment-links", invoice_id=invoice))["data"]
    assert live["id"] == other["id"]

    await shop.post(f"/v1/invoices/{invoice}/void", {"reason": "mistake"}, expect=200)
    assert heading(await visit(shop, other["url"])) == "Nothing is to be paid"
    assert "payment.requires_action" not in await shop.new_events(viewer)
    await shop.check()


async def test_a_payment_under_way_is_not_paid_a_second_time(shop: Shop) -> None:
    viewer, invoice, url = await linked(shop)
    card = await shop.card(viewer)
    await shop.fault("charge_no_reply", 1)
    await shop.post("/v1/payments", {"invoice_id": invoice, "payment_method_id": card})
    busy = await visit(shop, url)
    assert heading(busy) == "A payment is under way"
    assert "<form" not in busy.text
    assert (await visit(shop, url, method="POST", data={"amount": "999"})).status_code == 200
    await shop.move_to("2026-01-31T10:06:00")
    assert heading(await visit(shop, url)) == "This invoice is paid"
    assert await shop.captured() == {"EUR": 999}
    await shop.check()
