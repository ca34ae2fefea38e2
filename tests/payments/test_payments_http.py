"""The API: paying an invoice, saved methods, idempotency, refusals."""

from __future__ import annotations

import asyncio
from uuid import uuid4

from subledger.platform import ids
from tests.payments.world import World


async def test_paying_an_invoice_answers_with_the_outcome(world: World) -> None:
    shop = await world.shop()
    viewer = await shop.customer("visa_ok")
    invoice, _ = await shop.invoice(viewer, 500, collection=False)
    body = {"invoice_id": ids.text("inv", invoice)}

    answer = await shop.http.post("/v1/payments", json=body, headers={"idempotency-key": "one"})
    again = await shop.http.post("/v1/payments", json=body, headers={"idempotency-key": "one"})

    assert answer.status_code == 201, answer.text
    paid = answer.json()
    assert (paid["status"], paid["amount_minor"], paid["mode"]) == ("succeeded", 500, "manual")
    assert (again.status_code, again.json()) == (201, paid)
    assert again.headers["idempotent-replayed"] == "true"
    assert await shop.told(viewer) == ["payment.succeeded"]
    assert (await shop.journal())["captures"] == 1
    listed = await shop.http.get("/v1/payments", params={"status": "succeeded"})
    assert [each["id"] for each in listed.json()["data"]] == [paid["id"]]


async def test_a_declined_payment_is_402_also_when_asked_again(world: World) -> None:
    shop = await world.shop()
    viewer = await shop.customer("soft_decline")
    invoice, _ = await shop.invoice(viewer, 500, collection=False)
    body = {"invoice_id": ids.text("inv", invoice)}

    answers = [
        await shop.http.post("/v1/payments", json=body, headers={"idempotency-key": "no"})
        for _ in range(2)
    ]

    for answer in answers:
        assert answer.status_code == 402
        assert answer.json()["code"] == "payment_declined"
        assert answer.json()["failure_code"] == "do_not_honor"
    assert await shop.told(viewer) == ["payment.failed"]
    (_, data) = (await shop.facts(viewer))[-1]
    assert data["dunning"] is False


async def test_twenty_payments_at_once_capture_once(world: World) -> None:
    shop = await world.shop()
    viewer = await shop.customer("visa_ok")
    invoice, _ = await shop.invoice(viewer, 500, collection=False)
    body = {"invoice_id": ids.text("inv", invoice)}

    answers = await asyncio.gather(*(shop.http.post("/v1/payments", json=body) for _ in range(20)))

    codes = sorted(answer.status_code for answer in answers)
    assert codes == [201] + [409] * 19
    refused = next(answer for answer in answers if answer.status_code == 409)
    assert refused.json()["code"] == "invoice_already_reserved"
    assert (await shop.journal())["captures"] == 1


async def test_a_page_answers_where_to_send_the_payer(world: World) -> None:
    shop = await world.shop()
    viewer = await shop.customer()
    invoice, _ = await shop.invoice(viewer, 500, collection=False)

    answer = await shop.http.post(
        "/v1/payments",
        json={
            "invoice_id": ids.text("inv", invoice),
            "mode": "page",
            "return_url": "http://gateway.test/back",
        },
    )

    assert answer.status_code == 201, answer.text
    assert answer.json()["status"] == "requires_action"
    await shop.pay_page(answer.json()["next_action"]["redirect_url"], "4242424242424242")
    await world.settle()
    payment = (await shop.http.get(f"/v1/payments/{answer.json()['id']}")).json()
    assert (payment["status"], payment["next_action"]) == ("succeeded", None)
    assert payment["attempts"][0]["outcome"] == {"captured_minor": 500}


async def test_refusals_say_why_and_change_nothing(world: World) -> None:
    shop, other = await world.shop(), await world.shop()
    viewer, stranger = await shop.customer("visa_ok"), await other.customer("visa_ok")
    foreign = (await other.http.get("/v1/payment-methods")).json()["data"][0]["id"]
    invoice, _ = await shop.invoice(viewer, 500, collection=False)
    open_invoice = ids.text("inv", invoice)
    someone = await shop.customer()
    not_his = await shop.method(someone, "visa_ok")
    cases = [
        ({"invoice_id": ids.text("inv", uuid4())}, 404, "not_found"),
        ({"invoice_id": open_invoice, "payment_method_id": foreign}, 404, "not_found"),
        (
            {"invoice_id": open_invoice, "payment_method_id": not_his},
            409,
            "payment_method_not_active",
        ),
        (
            {"invoice_id": open_invoice, "mode": "page", "payment_method_id": foreign},
            422,
            "invalid_request",
        ),
        ({"invoice_id": open_invoice, "return_url": "javascript:x"}, 422, "invalid_request"),
        ({"invoice_id": open_invoice, "surprise": 1}, 422, "invalid_request"),
    ]
    for body, status, code in cases:
        answer = await shop.http.post("/v1/payments", json=body)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
        world.billing.held.pop(invoice, None)  # what payment.canceled does at billing

    assert await shop.told(viewer) == ["payment.canceled"]  # gives the reservation back
    assert (await shop.journal())["captures"] == 0
    assert await other.told(stranger) == []


async def test_methods_are_attached_once_defaulted_and_detached(world: World) -> None:
    shop = await world.shop()
    viewer = await shop.customer()
    body = {"customer_id": ids.text("cus", viewer), "test_kind": "visa_ok"}
    first = await shop.http.post(
        "/v1/payment-methods", json=body, headers={"idempotency-key": "m1"}
    )
    again = await shop.http.post(
        "/v1/payment-methods", json=body, headers={"idempotency-key": "m1"}
    )
    assert first.json() == again.json()
    assert (first.json()["is_default"], first.json()["last_four"]) == (True, "4242")

    second = await shop.method(viewer, "mastercard_ok")
    made = await shop.http.post(f"/v1/payment-methods/{second}/default")
    assert (made.status_code, made.json()["is_default"]) == (200, True)

    gone = await shop.http.delete(f"/v1/payment-methods/{second}")
    assert gone.status_code == 204
    listed = (
        await shop.http.get("/v1/payment-methods", params={"customer_id": ids.text("cus", viewer)})
    ).json()["data"]
    assert [(each["status"], each["is_default"]) for each in listed] == [
        ("detached", False),
        ("active", True),
    ]
    refused = await shop.http.post(f"/v1/payment-methods/{second}/default")
    assert (refused.status_code, refused.json()["code"]) == (409, "payment_method_not_active")
    assert [kind for kind, _ in await shop.facts(viewer)] == [
        "payment_method.attached",
        "payment_method.attached",
        "payment_method.default_changed",
        "payment_method.detached",
    ]


async def test_unknown_kinds_customers_and_live_tenants_are_refused(world: World) -> None:
    shop, live = await world.shop(), await world.shop(mode="live")
    viewer, paying = await shop.customer(), await live.customer()
    for asked, customer, kind, status, code in (
        (shop, viewer, "gold_bar", 422, "invalid_request"),
        (shop, uuid4(), "visa_ok", 404, "not_found"),
        (shop, paying, "visa_ok", 404, "not_found"),
        (live, paying, "visa_ok", 409, "no_provider_connection"),
    ):
        answer = await asked.http.post(
            "/v1/payment-methods",
            json={"customer_id": ids.text("cus", customer), "test_kind": kind},
        )
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


async def test_a_customer_whose_event_is_on_its_way_is_waited_for(world: World) -> None:
    shop = await world.shop()
    viewer = uuid4()
    await shop.emit(
        "customer.created",
        viewer,
        {
            "customer_id": ids.text("cus", viewer),
            "external_id": "late",
            "currency": "EUR",
            "timezone": "UTC",
        },
    )
    body = {"customer_id": ids.text("cus", viewer), "test_kind": "visa_ok"}
    early = await shop.http.post("/v1/payment-methods", json=body, headers={"prefer": "wait=0"})
    assert (early.status_code, early.json()["code"]) == (409, "customer_not_ready")

    request = asyncio.create_task(shop.http.post("/v1/payment-methods", json=body))
    await asyncio.sleep(0.05)
    await world.payments.consumers[0].step(100)
    assert (await request).status_code == 201


async def test_a_deleted_customer_cannot_be_charged(world: World) -> None:
    shop = await world.shop()
    viewer = await shop.customer("visa_ok")
    await shop.emit("customer.deleted", viewer, {"customer_id": ids.text("cus", viewer)})
    await shop.invoice(viewer)
    await world.settle()

    assert await shop.told(viewer) == ["payment_method.detached", "payment.failed"]
    assert (await shop.journal())["captures"] == 0
