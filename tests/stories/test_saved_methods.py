"""Saved methods: given up at the provider, changed by it, and canceled at the payer's bank."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.stories.shop import VISA, Shop

DETACHED = ["payment_method.detached"]


async def at_the_sandbox(shop: Shop, method: str, path: str, body: Any, **headers: str) -> Any:
    """A request to the provider itself, by its own key."""
    key, _ = shop.assembly.sandbox.credentials(shop.tenant_id)
    given = {"authorization": f"Bearer {key}", **headers}
    answer = await shop.raw(method, f"/sandbox{path}", json=body, headers=given)
    assert answer.status_code == 200, answer.text
    await shop.pump.woken()
    return answer.json()


async def charged_behind_us(shop: Shop, method: str, kind: str = "visa_ok") -> str:
    """What the bank says to a charge of a method's token, whoever asks for it."""
    made = await at_the_sandbox(
        shop, "POST", "/v1/methods", {"kind": kind}, **{"idempotency-key": method}
    )
    asked = {"token": made["token"], "amount_minor": 1, "currency": "EUR", "attempt_id": "att_x"}
    answer = await at_the_sandbox(
        shop, "POST", "/v1/charges", asked, **{"idempotency-key": f"{method}-x"}
    )
    return str(answer["code"])


async def removed(shop: Shop, method: str) -> None:
    answer = await shop.raw("DELETE", f"/v1/payment-methods/{method}")
    assert answer.status_code == 204
    await shop.pump.woken()


async def test_a_removed_method_is_given_up_at_the_provider(shop: Shop) -> None:
    viewer = await shop.customer()
    method = await shop.card(viewer)
    await shop.new_events(viewer)
    await removed(shop, method)
    await removed(shop, method)  # twice is no error
    assert await shop.new_events(viewer) == DETACHED
    assert await charged_behind_us(shop, method) == "unknown_token"
    await shop.check()


async def test_a_provider_that_is_away_is_told_when_it_is_back(
    shop: Shop, monkeypatch: Any
) -> None:
    monkeypatch.setattr("subledger.services.payments.usecases.method_tasks.LONGEST_WAIT_S", 0)
    viewer = await shop.customer()
    method = await shop.card(viewer)
    await shop.fault("request_refused", 2)
    await removed(shop, method)
    await shop.pump.quiet()
    assert await charged_behind_us(shop, method) == "unknown_token"
    await shop.check()


async def test_a_deleted_customers_methods_are_given_up_too(shop: Shop) -> None:
    viewer = await shop.customer()
    method = await shop.card(viewer)
    answer = await shop.raw("DELETE", f"/v1/customers/{viewer}")
    assert answer.status_code in {200, 202, 204}, answer.text
    await shop.pump.quiet()
    assert await charged_behind_us(shop, method) == "unknown_token"


async def test_the_provider_sends_a_new_card_and_it_pays_the_renewal(seats: Any) -> None:
    shop, viewer, _ = seats
    [method] = (await shop.get("/v1/payment-methods", customer_id=viewer))["data"]
    new = {"last_four": "1881", "expires_on": "2029-05-31", "replace": True}
    await at_the_sandbox(shop, "POST", f"/v1/methods/{method['id']}/update", new)
    assert await shop.new_events(viewer) == ["payment_method.updated"]
    seen = await shop.get(f"/v1/payment-methods/{method['id']}")
    assert (seen["last_four"], seen["expires_on"]) == ("1881", "2029-05-31")
    assert (seen["status"], seen["is_default"]) == ("active", True)
    await shop.move_to("2026-03-01")
    assert await shop.captured() == {"EUR": 4000}
    # What was replaced goes with what replaced it.
    await removed(shop, method["id"])
    assert await charged_behind_us(shop, method["id"]) == "unknown_token"


async def test_an_expiry_that_the_provider_tells_keeps_dunning_away(shop: Shop) -> None:
    viewer = await shop.customer()
    old = await shop.card(viewer)
    for _ in range(2):  # told twice, changed once
        told = {"expires_on": "2026-02-10"}
        await at_the_sandbox(shop, "POST", f"/v1/methods/{old}/update", told)
    assert (await shop.new_events(viewer))[1:] == [
        "payment_method.attached", "payment_method.updated",
    ]  # fmt: skip
    seen = await shop.get(f"/v1/payment-methods/{old}")
    assert seen["expires_on"] == "2026-02-10"
    await shop.check()


@pytest.mark.long
async def test_the_payer_cancels_the_agreement_at_the_bank(seats: Any) -> None:
    shop, viewer, bought = seats
    [method] = (await shop.get("/v1/payment-methods", customer_id=viewer))["data"]
    await at_the_sandbox(shop, "POST", f"/v1/methods/{method['id']}/cancel", {})
    assert await shop.new_events(viewer) == DETACHED
    assert (await shop.get(f"/v1/payment-methods/{method['id']}"))["status"] == "detached"
    await shop.move_to("2026-03-01")
    failed = (await shop.get("/v1/payments", customer_id=viewer))["data"][0]
    assert (failed["status"], failed["failure_code"]) == ("failed", "no_payment_method")
    assert await shop.status(bought) == "past_due"
    # A new method is tried at once.
    await shop.card(viewer)
    assert await shop.status(bought) == "active"
    await shop.check()


async def test_a_notification_about_a_method_of_nobody_changes_nothing(seats: Any) -> None:
    shop, viewer, _ = seats
    made = await at_the_sandbox(
        shop, "POST", "/v1/methods", {"kind": "visa_ok"}, **{"idempotency-key": "stray"}
    )
    assert made["token"].startswith("tok_")
    await at_the_sandbox(shop, "POST", "/v1/methods/stray/cancel", {})
    assert await shop.new_events(viewer) == []
    await shop.move_to("2026-02-20")
    assert await shop.new_events(viewer) == []
    await shop.check()


async def test_what_the_payer_agreed_to_is_kept_and_shown_to_admins(shop: Shop) -> None:
    plan, viewer = await shop.plan(), await shop.customer()
    bought = await shop.subscribe(viewer, plan, collection="page")
    page = urlsplit(bought["next_action"]["redirect_url"]).path
    await shop.raw("POST", page, params={"lang": "ru"}, data={"card_number": VISA, "keep": "on"})
    await shop.pump.woken()
    [method] = (await shop.get("/v1/payment-methods", customer_id=viewer))["data"]
    mandate = (await shop.get(f"/v1/payment-methods/{method['id']}/mandate"))["mandate"]
    assert mandate == {
        "text": "Сохранить карту для следующих платежей. Я согласен на списание при каждом"
        " продлении до отмены.",
        "language": "ru", "given_at": "2026-01-31T10:00:00Z", "address": "127.0.0.1",
    }  # fmt: skip
    said = str((await shop.get("/v1/events", customer_id=viewer, limit=100))["data"])
    assert "127.0.0.1" not in said
    assert "Сохранить" not in said
    tested = await shop.card(viewer)  # nobody agreed to anything
    assert (await shop.get(f"/v1/payment-methods/{tested}/mandate"))["mandate"] is None
    await shop.check()


async def test_the_mandate_of_a_card_that_the_bank_asked_about(shop: Shop) -> None:
    plan, viewer = await shop.plan(), await shop.customer()
    bought = await shop.subscribe(viewer, plan, collection="page")
    paid = await shop.pay_page(bought["next_action"]["redirect_url"], "4000 0000 0000 3220")
    bank = urlsplit(paid.headers["location"]).path
    await shop.raw("POST", bank, data={"do": "confirm"})
    await shop.pump.woken()
    [method] = (await shop.get("/v1/payment-methods", customer_id=viewer))["data"]
    mandate = (await shop.get(f"/v1/payment-methods/{method['id']}/mandate"))["mandate"]
    assert mandate["text"].startswith("Keep this card for the next payments.")
    await shop.check()


async def set_up(shop: Shop, customer: str, *, expect: int = 201, **body: Any) -> Any:
    return await shop.post(f"/v1/customers/{customer}/payment-method-setups", body, expect=expect)


async def saved_on(shop: Shop, setup: Any, number: str = VISA) -> int:
    """What the payer's browser sends."""
    path = urlsplit(setup["next_action"]["redirect_url"]).path
    answer = await shop.raw("POST", path, data={"card_number": number})
    await shop.pump.woken()
    return answer.status_code


@pytest.mark.long
async def test_a_card_saved_without_a_payment_pays_what_is_past_due(shop: Shop) -> None:
    plan, viewer = await shop.plan(), await shop.customer()
    await shop.card(viewer, "soft_after:1")
    bought = await shop.subscribe(viewer, plan)
    await shop.move_to("2026-02-28T10:00:00")
    assert await shop.status(bought["id"]) == "past_due"
    await shop.new_events(viewer)

    setup = await set_up(shop, viewer, return_url="http://shop.test/account")

    assert setup["status"] == "attaching"
    page = await shop.raw("GET", urlsplit(setup["next_action"]["redirect_url"]).path)
    assert "Nothing is charged now." in page.text
    assert await shop.new_events(viewer) == []
    assert await saved_on(shop, setup, "4000 0000 0000 0002") == 422
    assert await saved_on(shop, setup) == 303
    assert await shop.new_events(viewer) == [
        "payment_method.attached", "dunning.retry_scheduled", "payments.retry_required",
        "payment.succeeded", "invoice.paid", "subscription.renewed", "entitlement.granted",
    ]  # fmt: skip
    method = await shop.get(f"/v1/payment-methods/{setup['payment_method_id']}")
    assert (method["status"], method["last_four"], method["is_default"]) == ("active", "4242", True)
    mandate = (await shop.get(f"/v1/payment-methods/{method['id']}/mandate"))["mandate"]
    assert mandate["text"].startswith("I agree that this card is kept")
    assert await saved_on(shop, setup) == 200, "it is saved already"
    assert await shop.captured() == {"EUR": 2 * 999}
    await shop.check()


async def test_a_card_whose_notification_is_lost_is_found_by_asking(shop: Shop) -> None:
    viewer = await shop.customer()
    setup = await set_up(shop, viewer)
    await shop.new_events(viewer)
    await shop.fault("webhook_never", 1)
    await saved_on(shop, setup)
    assert await shop.new_events(viewer) == []
    await shop.move_to("2026-01-31T11:01:00")
    assert await shop.new_events(viewer) == ["payment_method.attached"]
    await shop.check()


@pytest.mark.long
async def test_a_page_that_nobody_uses_is_closed(shop: Shop) -> None:
    viewer = await shop.customer()
    setup = await set_up(shop, viewer)
    await shop.check()
    await shop.move_to("2026-02-01T10:00:00")
    found = await shop.get(f"/v1/payment-methods/{setup['payment_method_id']}")
    assert found["status"] == "failed"
    assert await saved_on(shop, setup) == 410
    assert "payment_method.attached" not in await shop.new_events(viewer)
    await shop.check()


async def test_a_page_given_up_by_the_shop_saves_nothing(shop: Shop) -> None:
    viewer = await shop.customer()
    setup = await set_up(shop, viewer)
    await removed(shop, setup["payment_method_id"])
    await saved_on(shop, setup)
    await shop.move_to("2026-02-02")
    found = await shop.get(f"/v1/payment-methods/{setup['payment_method_id']}")
    assert found["status"] == "detached"
    assert "payment_method.attached" not in await shop.new_events(viewer)
    await shop.check()


@pytest.mark.long
async def test_a_setup_through_a_provider_that_loses_answers(shop: Shop) -> None:
    viewer = await shop.customer()
    await shop.card(viewer)
    await shop.fault("request_429", 1)
    setup = await set_up(shop, viewer)
    assert setup["next_action"] is not None
    await saved_on(shop, setup)
    assert (await shop.new_events(viewer))[-1] == "payment_method.attached"
    await shop.check()
