"""Money that no provider took: for an invoice, a part of it, an account; and its reversal."""

from __future__ import annotations

from typing import Any

import pytest

from tests.stories.shop import Shop


async def owing(shop: Shop, name: str = "ada") -> tuple[str, str, str]:
    """A customer whose first payment was declined: ``(customer, subscription, invoice)``."""
    viewer = await shop.customer(name)
    plan = shop.plans.get("basic") or await shop.plan()
    await shop.card(viewer, "soft_decline")
    refused = await shop.refused(viewer, plan)
    await shop.new_events(viewer)
    return viewer, refused["subscription_id"], refused["invoice_id"]


def came(amount_minor: int, **more: Any) -> dict[str, Any]:
    return {"amount_minor": amount_minor, "currency": "EUR", "method": "bank_transfer", **more}


async def balance(shop: Shop, customer: str) -> list[Any]:
    return (await shop.get(f"/v1/customers/{customer}/balance"))["balances"]


async def ledger(shop: Shop) -> dict[str, int]:
    """What lies in the tenant's own accounts, debits less credits."""
    await shop.pump.woken()
    [currency] = (await shop.get("/v1/ledger/trial-balance"))["currencies"]
    return {each["account"]: each["balance_minor"] for each in currency["accounts"]}


@pytest.mark.long
async def test_a_transfer_pays_an_invoice_in_parts(shop: Shop) -> None:
    viewer, subscription, invoice = await owing(shop)
    body = came(400, invoice_id=invoice, reference="statement 12", method="check")
    part = await shop.post("/v1/offline-payments", body, Idempotency_Key="one")
    assert (part["status"], part["mode"], part["amount_minor"]) == ("succeeded", "offline", 400)
    assert part["offline"]["reference"] == "statement 12"
    again = await shop.post("/v1/offline-payments", body, Idempotency_Key="one")
    assert again["id"] == part["id"]
    assert await shop.new_events(viewer) == ["payment.succeeded", "invoice.partially_paid"]
    told = (await shop.get("/v1/events", customer_id=viewer, limit=100))["data"][-1]["data"]
    assert (told["invoice_id"], told["payment_id"]) == (invoice, part["id"])
    assert (told["amount_minor"], told["open_minor"], told["status"]) == (400, 599, "open")
    now = await shop.get(f"/v1/invoices/{invoice}")
    assert (now["status"], now["paid_minor"]) == ("open", 400)
    assert (await ledger(shop))["bank"] == 400
    await shop.check()

    # The rest is taken by card: only the rest.
    card = await shop.card(viewer)
    await shop.post("/v1/payments", {"invoice_id": invoice, "payment_method_id": card})
    assert await shop.captured() == {"EUR": 599}
    assert (await shop.get(f"/v1/invoices/{invoice}"))["status"] == "paid"
    assert await shop.status(subscription) == "active"
    await shop.check()


async def test_too_much_is_unapplied_and_a_void_gives_a_part_back(shop: Shop) -> None:
    viewer, _, invoice = await owing(shop)
    await shop.post("/v1/offline-payments", came(300, invoice_id=invoice))
    await shop.post(f"/v1/invoices/{invoice}/void", {"reason": "mistake"}, expect=200)
    books = await ledger(shop)
    assert (books["bank"], books["unapplied"]) == (300, -300)
    [item] = (await shop.get("/v1/work-items"))["data"]
    assert (item["kind"], item["data"]["amount_minor"]) == ("payment_unapplied", 300)
    await shop.check()

    refused = await shop.post("/v1/offline-payments", came(300, invoice_id=invoice), expect=409)
    assert refused["code"] == "invoice_not_collectable"
    late = await shop.post("/v1/offline-payments", came(700, customer_id=viewer))
    assert (late["status"], late["invoice_id"]) == ("succeeded", None)
    assert (await ledger(shop))["unapplied"] == -1000
    await shop.check()


async def test_an_invoice_that_another_payment_holds_waits(shop: Shop) -> None:
    _, subscription, invoice = await owing(shop)
    page = await shop.post("/v1/payments", {"invoice_id": invoice, "mode": "page"})
    held = await shop.post(
        "/v1/offline-payments", came(1_100, invoice_id=invoice), expect=409, Idempotency_Key="two"
    )
    assert held["code"] == "invoice_already_reserved"
    assert "customer_id" in held["detail"]
    await shop.post(f"/v1/payments/{page['id']}/cancel", expect=200)
    # The refusal stays what it was; a new request is a new answer.
    same = await shop.post(
        "/v1/offline-payments", came(1_100, invoice_id=invoice), expect=409, Idempotency_Key="two"
    )
    assert same["code"] == "invoice_already_reserved"
    await shop.post("/v1/offline-payments", came(1_100, invoice_id=invoice))
    assert await shop.status(subscription) == "active"
    books = await ledger(shop)
    assert (books["bank"], books["unapplied"]) == (1_100, -101)
    assert await shop.captured() == {}
    await shop.check()


async def test_a_check_that_bounces_is_reversed_once(shop: Shop) -> None:
    viewer, subscription, invoice = await owing(shop)
    paid = await shop.post("/v1/offline-payments", came(999, invoice_id=invoice, method="check"))
    assert await shop.status(subscription) == "active"
    await shop.new_events(viewer)
    refused = await shop.post(f"/v1/payments/{paid['id']}/refunds", {}, expect=409)
    assert refused["code"] == "payment_not_refundable"

    back = await shop.post(
        f"/v1/payments/{paid['id']}/reverse", {"reason": "it bounced"}, expect=200
    )
    assert back["offline"]["reversal_reason"] == "it bounced"
    assert await shop.new_events(viewer) == ["payment.reversed", "work_item.opened"]
    books = await ledger(shop)
    assert (books.get("bank", 0), books["unapplied"]) == (0, 999)
    twice = await shop.post(f"/v1/payments/{paid['id']}/reverse", {"reason": "again"}, expect=409)
    assert twice["code"] == "payment_not_reversible"
    await shop.check()


async def test_what_cannot_be_right_is_refused(shop: Shop) -> None:
    viewer, _, invoice = await owing(shop)
    other = await shop.customer("another")
    for body, status, pointer in (
        (came(5), 422, "/invoice_id"),
        (came(5, invoice_id=invoice, customer_id=other), 404, "/customer_id"),
        (came(0, invoice_id=invoice), 422, "/amount_minor"),
        (came(5, invoice_id=invoice, method="magic"), 422, "/method"),
        (came(5, invoice_id=invoice) | {"currency": "USD"}, 422, "/currency"),
        (came(5, customer_id=viewer) | {"currency": "USD"}, 422, "/currency"),
        (came(5, invoice_id=invoice, received_at="2027-01-01T00:00:00Z"), 422, "/received_at"),
        (came(5, invoice_id="inv_01h455vb4pex5vsknk084sn02q"), 404, "/invoice_id"),
        (came(5, customer_id="cus_01h455vb4pex5vsknk084sn02q"), 404, "/customer_id"),
    ):
        answer = await shop.raw("POST", "/v1/offline-payments", json=body)
        assert (answer.status_code, answer.json()["pointer"]) == (status, pointer), answer.text
    charged = (await shop.get("/v1/payments", customer_id=viewer))["data"][-1]["id"]
    body = {"reason": "no"}
    refused = await shop.post(f"/v1/payments/{charged}/reverse", body, expect=409)
    assert refused["code"] == "payment_not_reversible"
    assert "bank" not in await ledger(shop)
    await shop.check()
