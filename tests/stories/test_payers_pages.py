"""The payer's page tells the truth: after the redirect, after the webhook, after neither."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from subledger.platform.db import story
from tests.stories.payers import heading, told, visit
from tests.stories.shop import Shop

BACK = "http://shop.test/thanks"
_LATER = story("tests.let_seconds_go_by")


async def page_of(shop: Shop, **more: Any) -> tuple[str, Any]:
    """A purchase to be paid on a page: the customer and the payment."""
    viewer, plan = await shop.customer(), await shop.plan()
    await shop.subscribe(viewer, plan, collection="page", return_url=BACK, **more)
    payment = (await shop.get("/v1/payments", customer_id=viewer))["data"][0]
    assert payment["status"] == "requires_action"
    return viewer, payment


async def later(shop: Shop, payment: Any) -> None:
    """Let the few seconds go by in which a provider is not asked again."""
    database = shop.assembly.databases["payments"]
    async with database.transaction(_LATER, tenants=[shop.tenant_id]) as tx:
        await tx.run(
            text(
                "UPDATE payments.attempts SET looked_at = looked_at - interval '10 s'"
                " WHERE state IN ('requires_action', 'unknown')"
            )
        )


@pytest.mark.long
async def test_the_page_tells_what_is_true_whatever_has_arrived(shop: Shop) -> None:
    viewer, payment = await page_of(shop)
    page, status_url = payment["next_action"]["redirect_url"], payment["status_url"]

    # Neither redirect nor webhook: the payer only looks.
    looked = await visit(shop, status_url, accept_language="ru")
    assert heading(looked) == "Ожидаем вашу оплату"
    assert "9,99\N{NO-BREAK SPACE}€" in looked.text
    assert f'href="{page}"' in looked.text
    assert 'content="2;url=?lang=ru&amp;n=1"' in looked.text
    assert looked.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in looked.headers["content-security-policy"]

    # Paid, and every webhook is lost: the redirect brings the payer, and the provider is asked.
    await shop.fault("webhook_never", 9)
    paid = await shop.pay_page(page)
    assert f'href="{status_url}"' in (await visit(shop, page)).text  # the provider leads here
    assert paid.status_code == 303
    assert (await told(shop, status_url))["status"] == "requires_action"  # asked a moment ago
    await later(shop, payment)
    assert await told(shop, status_url) == {
        "status": "succeeded", "is_final": True, "amount_minor": 999, "currency": "EUR",
        "refunded_minor": 0, "redirect_url": None, "return_url": BACK,
    }  # fmt: skip
    thanks = await visit(shop, status_url)
    assert heading(thanks) == "Payment received"
    assert f'href="{BACK}"' in thanks.text
    assert "http-equiv" not in thanks.text
    assert (await shop.get(f"/v1/payments/{payment['id']}"))["status"] == "succeeded"
    assert await shop.captured() == {"EUR": 999}
    assert (await shop.new_events(viewer))[-5:] == [
        "payment_method.attached", "payment.succeeded", "invoice.paid", "subscription.activated",
        "entitlement.granted",
    ]  # fmt: skip
    await shop.check()


async def test_a_page_looks_again_a_bounded_number_of_times(shop: Shop) -> None:
    _, payment = await page_of(shop)
    status_url = payment["status_url"]
    assert 'content="6;url=?lang=en&amp;n=21"' in (await visit(shop, f"{status_url}?n=20")).text
    tired = await visit(shop, f"{status_url}?n=40")
    assert "http-equiv" not in tired.text
    assert "Look again" in tired.text


async def test_what_is_unknown_says_so_and_then_becomes_true(shop: Shop) -> None:
    viewer, plan = await shop.customer(), await shop.plan()
    await shop.card(viewer)
    await shop.fault("charge_no_reply", 1)
    body = {"customer_id": viewer, "plan_id": plan}
    await shop.post("/v1/subscriptions", body, Prefer="wait=0")
    await shop.pump.woken()
    payment = (await shop.get("/v1/payments", customer_id=viewer))["data"][0]
    assert payment["status"] == "unknown"

    # The payer looks, the provider is asked, and what it says is shown at once.
    shown = await visit(shop, payment["status_url"])
    assert heading(shown) == "Payment received"
    assert await shop.captured() == {"EUR": 999}
    await shop.check()


@pytest.mark.parametrize("made_up", ["", "x", "A" * 64, "%D0%AF" * 8, "status/" + "A" * 64])
async def test_an_address_that_we_did_not_make_is_no_page(shop: Shop, made_up: str) -> None:
    answer = await visit(shop, f"http://shop.test/pay/status/{made_up}")
    assert (answer.status_code, heading(answer)) == (404, "There is no such page")


async def test_one_sign_changed_in_the_address_is_another_address(shop: Shop) -> None:
    _, payment = await page_of(shop)
    address = payment["status_url"]
    for place in (-1, -30, -60):
        sign = "A" if address[place] != "A" else "B"
        changed = address[:place] + sign + (address[place + 1 :] if place != -1 else "")
        assert (await visit(shop, changed)).status_code == 404
    assert (await visit(shop, address, method="DELETE")).status_code == 405
    assert (await visit(shop, address, method="HEAD")).content == b""
    too_much = await visit(shop, address, method="POST", data={"x": "y" * 20_000})
    assert too_much.status_code == 413
    # A provider that sends the payer back by a form is welcome; what it sends is its own.
    posted = await visit(shop, address, method="POST", data={"PaRes": "z" * 5_000, "MD": "1"})
    assert posted.status_code == 200


async def test_payers_are_sent_only_to_sites_that_the_tenant_lists(shop: Shop) -> None:
    viewer, plan = await shop.customer(), await shop.plan()
    foreign = {"collection": "page", "return_url": "https://cinema.example/thanks"}
    body = {"customer_id": viewer, "plan_id": plan}
    refused = await shop.post("/v1/subscriptions", body | foreign, expect=422)
    assert (refused["code"], refused["pointer"]) == ("return_url_not_allowed", "/return_url")
    assert "PUT /v1/payment-settings" in refused["fix"]
    assert await shop.new_events(viewer) == ["customer.created"]  # nothing happened

    listed = await shop.raw(
        "PUT", "/v1/payment-settings", json={"return_origins": ["https://Cinema.example:443/"]}
    )
    assert listed.status_code == 200
    assert listed.json()["return_origins"] == ["https://cinema.example"]
    for address in (
        "https://cinema.example.evil.example/", "https://evil.example/https://cinema.example",
        "https://cinema.example@evil.example/", "https://evil.example\\@cinema.example/",
        "http://cinema.example/", "https://cinema.example:8443/", "https:cinema.example",
        "https:///cinema.example", "https://cinema.example\t.evil.example/",
    ):  # fmt: skip
        answer = await shop.raw(
            "POST", "/v1/subscriptions", json=body | foreign | {"return_url": address}
        )
        assert answer.status_code == 422, address
    for address in ("http://localhost:3000/x", "http://shop.test/x"):
        await shop.post(
            "/v1/subscriptions/preview", body | foreign | {"return_url": address}, expect=200
        )

    await shop.subscribe(viewer, plan, **foreign)
    payment = (await shop.get("/v1/payments", customer_id=viewer))["data"][0]
    assert 'href="https://cinema.example/thanks"' in (await visit(shop, payment["status_url"])).text
    # Taken off the list, nobody is led there any more, whatever was agreed before.
    await shop.raw("PUT", "/v1/payment-settings", json={"return_origins": []})
    assert "cinema.example" not in (await visit(shop, payment["status_url"])).text
    invoice = (await shop.last_invoice(viewer))["id"]
    page = {"invoice_id": invoice, "mode": "page", "return_url": "https://cinema.example/"}
    assert (await shop.post("/v1/payments", page, expect=422))["code"] == "return_url_not_allowed"
    for wrong in (
        "cinema.example",
        "https://a.example/path",
        "ftp://a.example",
        "https://é.example",
    ):
        answer = await shop.raw("PUT", "/v1/payment-settings", json={"return_origins": [wrong]})
        assert answer.status_code == 422, wrong
