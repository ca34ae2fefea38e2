"""Two stages: authorized first, then captured once, whole or in part, let go, or expired."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.stories.shop import Shop
from tests.stories.test_offline_payments import owing

AUTHORIZED = ["payment.authorized"]
PAID = ["payment.succeeded", "invoice.paid", "subscription.activated", "entitlement.granted"]


async def authorized(shop: Shop) -> tuple[str, str, Any]:
    """``(customer, invoice, payment)``, authorized and not captured."""
    viewer, _, invoice = await owing(shop)
    card = await shop.card(viewer)
    await shop.new_events(viewer)
    body = {"invoice_id": invoice, "payment_method_id": card, "capture_method": "manual"}
    payment = await shop.post("/v1/payments", body)
    return viewer, invoice, payment


async def ask(shop: Shop, payment: Any, what: str, body: Any = None, *, expect: int = 200) -> Any:
    return await shop.post(f"/v1/payments/{payment['id']}/{what}", body, expect=expect)


async def found(shop: Shop, payment: Any) -> Any:
    await shop.pump.woken()
    return await shop.get(f"/v1/payments/{payment['id']}")


async def test_what_is_authorized_is_captured_once(shop: Shop) -> None:
    viewer, invoice, payment = await authorized(shop)
    assert (payment["status"], payment["amount_minor"]) == ("authorized", 999)
    assert payment["authorization"] == {
        "amount_minor": 999, "expires_at": "2026-02-07T10:00:00Z", "wanted": None,
    }  # fmt: skip
    assert await shop.new_events(viewer) == AUTHORIZED
    assert await shop.captured() == {}
    await shop.check()
    # It holds its invoice: nobody else may collect.
    again = await shop.post("/v1/payments", {"invoice_id": invoice}, expect=409)
    assert again["code"] == "invoice_already_reserved"
    above = await ask(shop, payment, "capture", {"amount_minor": 1000}, expect=409)
    assert (above["code"], above["authorized_minor"]) == ("capture_exceeds_authorization", 999)

    taken = await ask(shop, payment, "capture")

    assert (taken["status"], taken["amount_minor"]) == ("succeeded", 999)
    assert sorted(await shop.new_events(viewer)) == sorted(PAID)
    assert await shop.captured() == {"EUR": 999}
    assert (await ask(shop, payment, "capture"))["status"] == "succeeded", "the same capture"
    other = await ask(shop, payment, "capture", {"amount_minor": 5}, expect=409)
    assert (other["code"], other["reason"]) == ("payment_not_capturable", "succeeded")
    late = await ask(shop, payment, "cancel", expect=409)
    assert late["code"] == "payment_not_cancelable"
    assert await shop.captured() == {"EUR": 999}
    await shop.check()


async def test_a_part_that_is_captured_pays_its_part(shop: Shop) -> None:
    viewer, invoice, payment = await authorized(shop)
    await shop.new_events(viewer)
    taken = await ask(shop, payment, "capture", {"amount_minor": 400})
    assert (taken["status"], taken["amount_minor"]) == ("succeeded", 400)
    assert await shop.new_events(viewer) == ["payment.succeeded", "invoice.partially_paid"]
    seen = await shop.get(f"/v1/invoices/{invoice}")
    assert (seen["status"], seen["paid_minor"]) == ("open", 400)
    rest = await shop.post("/v1/payments", {"invoice_id": invoice})
    assert (rest["status"], rest["amount_minor"]) == ("succeeded", 599)
    assert sorted(await shop.new_events(viewer)) == sorted(PAID)
    assert await shop.captured() == {"EUR": 999}
    await shop.check()


async def test_what_is_canceled_is_let_go_and_the_invoice_is_free(shop: Shop) -> None:
    viewer, invoice, payment = await authorized(shop)
    gone = await ask(shop, payment, "cancel")
    assert gone["status"] == "canceled"
    assert await shop.new_events(viewer) == [*AUTHORIZED, "payment.canceled"]
    refused = await ask(shop, payment, "capture", expect=409)
    assert (refused["code"], refused["reason"]) == ("payment_not_capturable", "canceled")
    paid = await shop.post("/v1/payments", {"invoice_id": invoice})
    assert (paid["status"], await shop.captured()) == ("succeeded", {"EUR": 999})
    await shop.check()


@pytest.mark.long
async def test_what_nobody_captures_is_let_go_a_day_before_it_expires(shop: Shop) -> None:
    viewer, plan = await shop.customer(), await shop.plan()
    good = await shop.card(viewer)
    await shop.subscribe(viewer, plan)
    await shop.card(viewer, "hard_decline")
    await shop.move_to("2026-02-28T10:00:00")
    invoice = (await shop.last_invoice(viewer))["id"]
    await shop.new_events(viewer)
    body = {"invoice_id": invoice, "payment_method_id": good, "capture_method": "manual"}
    payment = await shop.post("/v1/payments", body)
    assert await shop.new_events(viewer) == AUTHORIZED
    await shop.move_to("2026-03-06T09:59:59")
    assert (await found(shop, payment))["status"] == "authorized"
    assert "payment.canceled" not in await shop.new_events(viewer)
    await shop.move_to("2026-03-06T10:00:00")
    assert (await found(shop, payment))["status"] == "canceled"
    assert await shop.new_events(viewer) == ["payment.canceled"]
    assert await shop.captured() == {"EUR": 999}, "the first period only"
    paid = await shop.post("/v1/payments", {"invoice_id": invoice, "payment_method_id": good})
    assert (paid["status"], await shop.captured()) == ("succeeded", {"EUR": 2 * 999})
    await shop.check()


@pytest.mark.parametrize("fault", ["capture_no_reply", "capture_500", "capture_lost"])
@pytest.mark.long
async def test_a_capture_without_an_answer_is_asked_about(shop: Shop, fault: str) -> None:
    viewer, _, payment = await authorized(shop)
    await shop.new_events(viewer)
    await shop.fault(fault, 1)
    taken = await ask(shop, payment, "capture")
    assert taken["status"] == "unknown"
    assert await shop.new_events(viewer) == ["payment.unknown"]
    assert (await ask(shop, payment, "capture"))["status"] == "unknown"
    refused = await ask(shop, payment, "cancel", expect=409)
    assert refused["reason"] == "unknown"
    await shop.move_to("2026-01-31T10:05:00")
    assert (await found(shop, payment))["status"] == "succeeded"
    again = AUTHORIZED if fault == "capture_lost" else []
    assert sorted(await shop.new_events(viewer)) == sorted([*again, *PAID])
    assert await shop.captured() == {"EUR": 999}
    await shop.check()


async def test_a_refused_capture_leaves_it_authorized(shop: Shop) -> None:
    viewer, _, payment = await authorized(shop)
    await shop.new_events(viewer)
    await shop.fault("capture_declined", 1)
    refused = await ask(shop, payment, "capture", expect=409)
    assert (refused["code"], refused["reason"]) == ("payment_not_capturable", "refused_by_provider")
    assert await shop.new_events(viewer) == []
    assert (await ask(shop, payment, "capture"))["status"] == "succeeded"
    assert await shop.captured() == {"EUR": 999}
    await shop.check()


async def test_of_captures_and_cancellations_at_once_one_counts(shop: Shop) -> None:
    viewer, _, payment = await authorized(shop)
    await shop.new_events(viewer)
    both = await asyncio.gather(
        *(ask(shop, payment, "capture") for _ in range(2)),
        ask(shop, payment, "capture", {"amount_minor": 5}),
        ask(shop, payment, "cancel"),
        return_exceptions=True,
    )
    status = (await found(shop, payment))["status"]
    assert any(not isinstance(each, BaseException) for each in both)
    captured = {} if status == "canceled" else {"EUR": (await found(shop, payment))["amount_minor"]}
    assert await shop.captured() == captured
    told = await shop.new_events(viewer)
    ended = [each for each in told if each in {"payment.canceled", "payment.succeeded"}]
    assert ended == [f"payment.{status}"]
    await shop.check()


async def test_a_declined_authorization_fails(shop: Shop) -> None:
    viewer, _, invoice = await owing(shop)
    body = {"invoice_id": invoice, "capture_method": "manual"}
    declined = await shop.post("/v1/payments", body, expect=402)
    assert declined["code"] == "payment_declined"
    assert await shop.new_events(viewer) == ["payment.failed"]
    plain = await shop.post("/v1/payments", {"invoice_id": invoice}, expect=402)
    refused = await ask(shop, {"id": plain["payment_id"]}, "capture", expect=409)
    assert refused["reason"] == "automatic"
    await shop.check()
