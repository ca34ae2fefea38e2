"""Money that a customer pays into the account, through a provider, without an invoice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.stories.refund_world import refund
from tests.stories.shop import Shop
from tests.stories.test_adjustments import books
from tests.stories.test_offline_payments import balance, owing


async def top_up(shop: Shop, viewer: str, amount: int, *, expect: int = 201, **more: Any) -> Any:
    body = {"amount_minor": amount, "currency": "EUR", **more}
    return await shop.post(f"/v1/customers/{viewer}/payments", body, expect=expect)


@pytest.mark.long
async def test_a_saved_method_pays_into_the_account(shop: Shop) -> None:
    viewer = await shop.customer()
    await shop.card(viewer)
    await shop.new_events(viewer)
    paid = await top_up(shop, viewer, 1500)
    assert (paid["status"], paid["mode"], paid["invoice_id"]) == ("succeeded", "manual", None)
    assert await shop.new_events(viewer) == ["payment.succeeded"]
    assert await books(shop) == {"provider_clearing": 1500, "unapplied": -1500}
    [mine] = await balance(shop, viewer)
    assert (mine["unapplied_minor"], mine["currency"]) == (1500, "EUR")
    entries = (await shop.get(f"/v1/customers/{viewer}/statement"))["entries"]
    assert [(each["kind"], each["credit_minor"]) for each in entries] == [("unapplied", 1500)]
    assert (await shop.get("/v1/work-items"))["data"] == [], "it is where it was meant to be"
    assert await shop.captured() == {"EUR": 1500}
    await shop.check()

    back = await refund(shop, paid["id"], amount_minor=400)
    assert (back["status"], back["credit_note_id"]) == ("succeeded", None)
    assert await shop.new_events(viewer) == ["refund.created", "refund.succeeded"]
    assert await books(shop) == {"provider_clearing": 1100, "unapplied": -1100}
    assert (await refund(shop, paid["id"], amount_minor=1101, expect=409))["left_minor"] == 1100
    await shop.check()


async def test_a_page_takes_money_into_the_account(shop: Shop) -> None:
    viewer = await shop.customer()
    await shop.new_events(viewer)
    opened = await top_up(shop, viewer, 700, collection="page")
    assert (opened["status"], opened["mode"]) == ("requires_action", "page")
    await shop.pay_page(opened["next_action"]["redirect_url"])
    assert await shop.new_events(viewer) == [
        "payment.requires_action", "payment_method.attached", "payment.succeeded",
    ]  # fmt: skip
    assert await books(shop) == {"provider_clearing": 700, "unapplied": -700}
    await shop.check()


async def test_a_page_that_is_left_takes_nothing(shop: Shop) -> None:
    viewer = await shop.customer()
    await shop.new_events(viewer)
    opened = await top_up(shop, viewer, 700, collection="page")
    closed = await shop.post(f"/v1/payments/{opened['id']}/cancel", expect=200)
    assert closed["status"] == "canceled"
    assert await shop.new_events(viewer) == ["payment.requires_action", "payment.canceled"]
    assert (await shop.get("/v1/ledger/trial-balance"))["currencies"] == []
    await shop.check()


async def test_a_decline_leaves_nothing_and_is_not_dunned(shop: Shop) -> None:
    viewer = await shop.customer()
    await shop.card(viewer, "soft_decline")
    await shop.new_events(viewer)
    refused = await top_up(shop, viewer, 700, expect=402)
    assert refused["code"] == "payment_declined"
    assert await shop.new_events(viewer) == ["payment.failed"]
    await shop.move_to("2026-03-01")
    assert await shop.new_events(viewer) == []
    assert (await shop.get("/v1/ledger/trial-balance"))["currencies"] == []
    await shop.check()


@pytest.mark.parametrize("kind", ["timeout", "pending_ok"])
@pytest.mark.long
async def test_a_lost_answer_is_asked_for(shop: Shop, kind: str) -> None:
    viewer = await shop.customer()
    await shop.card(viewer, kind)
    await shop.new_events(viewer)
    unsure = await top_up(shop, viewer, 700)
    assert unsure["status"] == "unknown"
    await shop.move_to("2026-01-31T11:10:00")
    assert (await shop.get(f"/v1/payments/{unsure['id']}"))["status"] == "succeeded"
    assert await shop.new_events(viewer) == ["payment.unknown", "payment.succeeded"]
    assert await books(shop) == {"provider_clearing": 700, "unapplied": -700}
    assert await shop.captured() == {"EUR": 700}
    await shop.check()


async def test_the_same_request_at_once_charges_once(shop: Shop) -> None:
    viewer = await shop.customer()
    await shop.card(viewer)
    path, body = f"/v1/customers/{viewer}/payments", {"amount_minor": 9, "currency": "EUR"}
    headers = {"idempotency-key": "once"}
    answers = await shop.pump.during(
        asyncio.gather(*(shop.api.post(path, json=body, headers=headers) for _ in range(2)))
    )
    assert {each.status_code for each in answers} <= {201, 409}
    again = await shop.raw("POST", path, json=body, headers=headers)
    assert again.status_code == 201
    assert await shop.captured() == {"EUR": 9}
    await shop.check()


async def test_what_cannot_be_right_is_refused(shop: Shop) -> None:
    viewer, other = await shop.customer(), await shop.customer("other")
    foreign = await shop.card(other)
    nobody = "cus_01h455vb4pex5vsknk084sn02q"
    for customer, more, status, pointer in (
        (viewer, {"amount_minor": 0}, 422, "/amount_minor"),
        (viewer, {"currency": "USD"}, 422, "/currency"),
        (viewer, {"payment_method_id": foreign}, 409, "/payment_method_id"),
        (viewer, {"payment_method_id": foreign, "collection": "page"}, 422, "/payment_method_id"),
        (viewer, {"collection": "page", "return_url": "https://bad.example"}, 422, "/return_url"),
        (nobody, {}, 404, "/path/customer_id"),
    ):
        body = {"amount_minor": 5, "currency": "EUR"} | more
        answer = await shop.raw("POST", f"/v1/customers/{customer}/payments", json=body)
        assert (answer.status_code, answer.json()["pointer"]) == (status, pointer), answer.text
    assert await shop.captured() == {}
    assert (await shop.get("/v1/ledger/trial-balance"))["currencies"] == []
    await shop.check()


async def apply(shop: Shop, viewer: str, **headers: str) -> Any:
    return await shop.post(f"/v1/customers/{viewer}/apply-unapplied", expect=200, **headers)


@pytest.mark.long
async def test_unapplied_money_pays_an_invoice_in_part_and_then_whole(shop: Shop) -> None:
    viewer, subscription, invoice = await owing(shop)
    card = await shop.card(viewer)
    await top_up(shop, viewer, 400, payment_method_id=card)
    await shop.new_events(viewer)
    left = await apply(shop, viewer)
    [mine] = left["balances"]
    assert (mine["receivable_minor"], mine["unapplied_minor"]) == (599, 0)
    assert await shop.new_events(viewer) == ["invoice.partially_paid"]
    told = (await shop.get("/v1/events", customer_id=viewer, limit=100))["data"][-1]["data"]
    assert (told["invoice_id"], told["payment_id"]) == (invoice, None)
    assert (told["amount_minor"], told["open_minor"]) == (400, 599)
    now = await shop.get(f"/v1/invoices/{invoice}")
    assert (now["status"], now["paid_minor"]) == ("open", 400)
    await shop.check()

    await top_up(shop, viewer, 1000, payment_method_id=card)
    await shop.new_events(viewer)
    [mine] = (await apply(shop, viewer, Idempotency_Key="apply"))["balances"]
    assert (mine["receivable_minor"], mine["unapplied_minor"]) == (0, 401)
    told = sorted(await shop.new_events(viewer), key="entitlement.granted".__eq__)
    assert told == ["invoice.paid", "subscription.activated", "entitlement.granted"]
    assert await shop.status(subscription) == "active"
    assert (await shop.get(f"/v1/invoices/{invoice}"))["status"] == "paid"
    assert await books(shop) == {
        "provider_clearing": 1400, "deferred_revenue": -999, "unapplied": -401,
    }  # fmt: skip
    entries = (await shop.get(f"/v1/customers/{viewer}/statement"))["entries"]
    applied = [e["debit_minor"] for e in entries
               if (e["kind"], e["ledger"]) == ("account_applied", "unapplied")]  # fmt: skip
    assert applied == [400, 599]
    await shop.check()

    # Again, and the same request again: nothing is open any more.
    await apply(shop, viewer)
    [mine] = (await apply(shop, viewer, Idempotency_Key="apply"))["balances"]
    assert mine["unapplied_minor"] == 401
    assert await shop.new_events(viewer) == []
    assert await shop.captured() == {"EUR": 1400}
    await shop.check()


async def test_an_invoice_that_a_payment_holds_is_left_to_it(shop: Shop) -> None:
    viewer, subscription, invoice = await owing(shop)
    card = await shop.card(viewer)
    await top_up(shop, viewer, 1200, payment_method_id=card)
    page = await shop.post("/v1/payments", {"invoice_id": invoice, "mode": "page"})
    [mine] = (await apply(shop, viewer))["balances"]
    assert (mine["receivable_minor"], mine["unapplied_minor"]) == (999, 1200)
    await shop.post(f"/v1/payments/{page['id']}/cancel", expect=200)
    [mine] = (await apply(shop, viewer))["balances"]
    assert (mine["receivable_minor"], mine["unapplied_minor"]) == (0, 201)
    assert await shop.status(subscription) == "active"
    assert await shop.captured() == {"EUR": 1200}
    await shop.check()


async def test_applying_and_a_charge_at_once_pay_once(shop: Shop) -> None:
    viewer, _, invoice = await owing(shop)
    card = await shop.card(viewer)
    await top_up(shop, viewer, 999, payment_method_id=card)
    body = {"invoice_id": invoice, "payment_method_id": card}
    charged, applied = await shop.pump.during(
        asyncio.gather(
            shop.api.post("/v1/payments", json=body),
            shop.api.post(f"/v1/customers/{viewer}/apply-unapplied"),
        )
    )
    assert (charged.status_code, applied.status_code) in {(201, 200), (409, 200)}
    [mine] = await balance(shop, viewer)
    kept = 999 if charged.status_code == 201 else 0
    assert (mine["receivable_minor"], mine["unapplied_minor"]) == (0, kept)
    assert await shop.captured() == {"EUR": 999 + kept}
    await shop.check()


async def test_a_void_gives_an_applied_part_back(shop: Shop) -> None:
    viewer, _, invoice = await owing(shop)
    card = await shop.card(viewer)
    paid = await top_up(shop, viewer, 300, payment_method_id=card)
    await apply(shop, viewer)
    gone = await refund(shop, paid["id"], expect=409)
    assert (gone["code"], gone["left_minor"]) == ("refund_exceeds_payment", 0)
    await shop.post(f"/v1/invoices/{invoice}/void", {"reason": "mistake"}, expect=200)
    assert await books(shop) == {"provider_clearing": 300, "unapplied": -300}
    [item] = (await shop.get("/v1/work-items"))["data"]
    assert (item["kind"], item["data"]["amount_minor"]) == ("payment_unapplied", 300)
    assert (await refund(shop, paid["id"]))["amount_minor"] == 300
    assert await shop.captured() == {}
    await shop.check()


async def test_nobody_has_nothing_to_apply(shop: Shop) -> None:
    viewer = await shop.customer()
    await apply(shop, viewer)
    nobody = "cus_01h455vb4pex5vsknk084sn02q"
    await shop.post(f"/v1/customers/{nobody}/apply-unapplied", expect=404)
    assert await shop.new_events(viewer) == ["customer.created"]
