"""Subscriptions, invoices, and the personal account through the public API."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from fractions import Fraction
from typing import Any

from subledger.platform import ids
from tests.billing.conftest import NEW, START, Shop, flat

DAY = timedelta(days=1)


async def _buy(shop: Shop, customer: Any, plan: Any, status: int = 201, **fields: Any) -> Any:
    body = {"customer_id": customer["id"], "plan_id": plan["id"]}
    return await shop.post("/v1/subscriptions", body | fields, status=status)


async def _invoice_of(shop: Shop, subscription: Any) -> Any:
    return await shop.get(f"/v1/invoices/{subscription['latest_invoice_id']}")


async def test_a_purchase_is_paid_and_shown_on_the_statement(shop: Shop) -> None:
    customer, plan = await shop.customer(), await shop.plan()

    bought = await _buy(shop, customer, plan)

    assert (bought["status"], bought["payment_status"], bought["next_action"]) == (
        "incomplete",
        "processing",
        None,
    )
    invoice = await _invoice_of(shop, bought)
    assert (invoice["status"], invoice["total_minor"], invoice["number"]) == (
        "open",
        999,
        "INV-000001",
    )
    assert invoice["subscription_ids"] == [bought["id"]]
    assert [(each["description"], each["net_minor"]) for each in invoice["lines"]] == [
        ("Basic (monthly)", 999)
    ]
    path = f"/v1/customers/{customer['id']}"
    owed = {"currency": "EUR", "credit_minor": 0, "unapplied_minor": 0}
    assert (await shop.get(f"{path}/balance"))["balances"] == [
        owed | {"receivable_minor": 999, "balance_minor": 999}
    ]

    await shop.at(START + DAY)
    await shop.paid(invoice)

    assert (await shop.get(f"/v1/subscriptions/{bought['id']}"))["status"] == "active"
    assert (await shop.get(f"/v1/invoices/{invoice['id']}"))["paid_minor"] == 999
    settled = owed | {"receivable_minor": 0, "balance_minor": 0}
    assert (await shop.get(f"{path}/balance"))["balances"] == [settled]
    whole = await shop.get(f"{path}/statement")
    assert (whole["opening"], whole["closing"]) == ([settled], [settled])
    assert [_entry(each) for each in whole["entries"]] == [
        ("2026-03-01T12:00:00Z", "finalized", "INV-000001", 999, 0, 999),
        ("2026-03-02T12:00:00Z", "paid", "INV-000001", 0, 999, 0),
    ]
    second_day = await shop.get(f"{path}/statement?from=2026-03-02T00:00:00Z")
    assert second_day["opening"][0]["balance_minor"] == 999
    assert [_entry(each)[1:] for each in second_day["entries"]] == [
        ("paid", "INV-000001", 0, 999, 0)
    ]
    first_day = await shop.get(f"{path}/statement", to="2026-03-02T12:00:00Z")
    assert first_day["closing"][0]["balance_minor"] == 999
    assert [kind for kind, _ in await shop.events_about(customer["id"])] == [
        "customer.created",
        "subscription.created",
        "invoice.finalized",
        "payment.succeeded",
        "invoice.paid",
        "subscription.activated",
    ]
    await shop.check_invariants()


def _entry(each: dict[str, Any]) -> tuple[Any, ...]:
    return (
        each["occurred_at"],
        each["kind"],
        each["invoice_number"],
        each["debit_minor"],
        each["credit_minor"],
        each["balance_minor"],
    )


async def test_a_statement_comes_in_pages(shop: Shop) -> None:
    customer, plan = await shop.customer(), await shop.plan()
    for _ in range(3):
        await shop.paid(await _invoice_of(shop, await _buy(shop, customer, plan)))
    path = f"/v1/customers/{customer['id']}/statement"
    whole = await shop.get(path, to="2026-04-01T00:00:00Z")

    seen: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        asked: dict[str, Any] = {"to": "2026-04-01T00:00:00Z", "limit": 4} | cursor
        page = (await shop.client.get(path, params=asked)).json()
        assert (page["opening"], page["closing"]) == (whole["opening"], whole["closing"])
        seen += page["entries"]
        if not page["has_more"]:
            break
        cursor = {"cursor": page["next_cursor"]}

    assert seen == whole["entries"]
    assert [each["balance_minor"] for each in seen] == [999, 0, 999, 0, 999, 0]
    backwards = await shop.get(
        f"{path}?from=2026-04-02T00:00:00Z&to=2026-04-01T00:00:00Z", status=422
    )
    assert backwards["pointer"] == "/query/to"
    wrong = await shop.get(path, status=422, cursor="WyJhIiwiYiIsImMiLCJkIiwiZSJd")
    assert wrong["pointer"] == "/query/cursor"


async def test_books_balance_before_and_after_the_roll_up(shop: Shop) -> None:
    plan = await shop.plan(flat(999), flat(currency="JPY", amount_minor=1500))
    for currency in ("EUR", "EUR", "JPY"):
        bought = await _buy(shop, await shop.customer(currency=currency), plan)
    await shop.paid(await _invoice_of(shop, bought))

    tail_only = await shop.get("/v1/ledger/trial-balance")

    shown = {
        (each["currency"], account["account"].partition(":")[0]): account["balance_minor"]
        for each in tail_only["currencies"]
        for account in each["accounts"]
    }
    assert shown == {
        ("EUR", "deferred_revenue"): -1998,
        ("EUR", "receivable"): 1998,
        ("JPY", "deferred_revenue"): -1500,
        ("JPY", "provider_clearing"): 1500,
        ("JPY", "receivable"): 0,
    }
    assert [each["balance_minor"] for each in tail_only["currencies"]] == [0, 0]
    await shop.rows(
        "UPDATE billing.transfers SET recorded_at = recorded_at - interval '3 days'"
        " WHERE tenant_id = $1 AND currency = 'EUR'",
        shop.tenant_id,
    )
    roll_up = next(each for each in shop.service.steps if each.name == "billing.roll_up")
    assert await roll_up.run(100) > 0

    assert await shop.get("/v1/ledger/trial-balance") == tail_only
    days = await shop.rows(
        "SELECT count(*) AS n FROM billing.ledger_days WHERE tenant_id = $1", shop.tenant_id
    )
    assert days[0]["n"] > 0


async def test_an_explained_invoice_can_be_recomputed(shop: Shop) -> None:
    customer = await shop.customer()
    seats = flat(None, code="seats", model="per_unit", unit_amount="250.5")
    plan = await shop.plan(flat(999), seats)
    twenty = await shop.post(
        "/v1/discounts", {"code": "t", "name": "Spring", "percent": "20", "duration": "once"}
    )
    one = await shop.post(
        "/v1/discounts",
        {"code": "o", "name": "Euro", "amount_minor": 100, "currency": "EUR", "duration": "once"},
    )
    bought = await _buy(shop, customer, plan, quantity="3", discount_ids=[twenty["id"], one["id"]])

    told = await shop.get(f"/v1/invoices/{bought['latest_invoice_id']}/explain")

    total = 0
    for line in told["lines"]:
        derivation = line["derivation"]
        exact = sum(Fraction(each["amount"]) for each in derivation["steps"])
        gross = int(exact + Fraction(1, 2))
        taken = sum(each["amount_minor"] for each in derivation["discounts"])
        assert (gross, gross - taken) == (line["gross_minor"], line["net_minor"])
        total += gross - taken
    assert (total, told["total_minor"]) == (1301, 1301)
    derivations = [line["derivation"] for line in told["lines"]]
    canonical = json.dumps(
        told["inputs"] | {"lines": derivations},
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    )
    assert hashlib.sha256(canonical.encode()).hexdigest() == told["content_hash"]

    path = f"/v1/invoices/{bought['latest_invoice_id']}/explain"
    english = await shop.client.get(path, params={"format": "text", "locale": "en"})
    russian = await shop.client.get(
        path, headers={"Accept": "text/plain", "Accept-Language": "ru-RU,ru;q=0.9"}
    )
    assert english.text == ENGLISH
    assert russian.text == RUSSIAN
    assert russian.headers["content-language"] == "ru"


ENGLISH = """\
Invoice INV-000001 of 2026-03-01 13:00
Times are those of Europe/Berlin.

1. Basic (monthly), from 2026-03-01 13:00 until 2026-04-01 13:00
   fixed price 9.99 EUR
   discount “Spring”, 20 % of 9.99 EUR: -2.00 EUR
   discount “Euro”: -0.57 EUR
   to pay: 7.42 EUR

2. Basic (seats), from 2026-03-01 13:00 until 2026-04-01 13:00
   3 × 2.505 EUR = 7.515 EUR
   rounded half up to 7.52 EUR
   discount “Spring”, 20 % of 7.52 EUR: -1.50 EUR
   discount “Euro”: -0.43 EUR
   to pay: 5.59 EUR

Subtotal: 17.51 EUR
Discount: -4.50 EUR
Tax: 0.00 EUR
Total: 13.01 EUR
"""

RUSSIAN = """\
Счёт INV-000001 от 2026-03-01 13:00
Время указано по часовому поясу Europe/Berlin.

1. Basic (monthly), с 2026-03-01 13:00 до 2026-04-01 13:00
   фиксированная цена 9,99 EUR
   скидка «Spring», 20 % от 9,99 EUR: -2,00 EUR
   скидка «Euro»: -0,57 EUR
   к оплате: 7,42 EUR

2. Basic (seats), с 2026-03-01 13:00 до 2026-04-01 13:00
   3 × 2,505 EUR = 7,515 EUR
   округлено до 7,52 EUR (половина — вверх)
   скидка «Spring», 20 % от 7,52 EUR: -1,50 EUR
   скидка «Euro»: -0,43 EUR
   к оплате: 5,59 EUR

Сумма без скидки: 17,51 EUR
Скидка: -4,50 EUR
Налог: 0,00 EUR
Итого: 13,01 EUR
"""


async def test_a_free_subscription_is_active_at_once(shop: Shop) -> None:
    customer, plan = await shop.customer(), await shop.plan(flat(0))

    bought = await _buy(shop, customer, plan)

    assert (bought["status"], bought["payment_status"]) == ("active", None)
    assert [kind for kind, _ in await shop.events_about(customer["id"])] == [
        "customer.created",
        "subscription.created",
        "invoice.finalized",
        "invoice.paid",
        "subscription.activated",
    ]
    await shop.check_invariants()


async def test_a_buyer_is_sent_to_the_page(shop: Shop) -> None:
    shop.till.status, shop.till.redirect_url = "requires_action", "https://pay.example/p/1"

    bought = await _buy(
        shop,
        await shop.customer(),
        await shop.plan(),
        collection="page",
        return_url="https://shop.example/thanks",
    )

    assert bought["status"] == "incomplete"
    assert bought["next_action"] == {
        "type": "redirect",
        "redirect_url": "https://pay.example/p/1",
    }


async def test_a_declined_purchase_says_so_again_when_repeated(shop: Shop) -> None:
    shop.till.status, shop.till.failure_code = "failed", "card_declined"
    customer, plan = await shop.customer(), await shop.plan()
    body = {"customer_id": customer["id"], "plan_id": plan["id"]}
    key = {"Idempotency-Key": "buy-1"}

    refused = await shop.post("/v1/subscriptions", body, status=402, **key)
    repeated = await shop.post("/v1/subscriptions", body, status=402, **key)

    assert (refused["code"], refused["failure_code"]) == ("payment_declined", "card_declined")
    assert repeated["subscription_id"] == refused["subscription_id"]
    found = await shop.get(f"/v1/subscriptions/{refused['subscription_id']}")
    assert (found["status"], found["latest_invoice_id"]) == ("incomplete", refused["invoice_id"])
    assert (await shop.events()).count("subscription.created") == 1


async def test_what_cannot_be_bought(shop: Shop) -> None:
    customer, plan = await shop.customer(), await shop.plan()
    dinars = await shop.customer(currency="KWD")
    yen = await shop.post(
        "/v1/discounts",
        {"code": "y", "name": "Y", "amount_minor": 1, "currency": "JPY", "duration": "once"},
    )
    before = await shop.events()
    gone = ids.text("plan", NEW.new())
    for fields, code, pointer in (
        ({"plan_id": gone}, "unknown_reference", "/plan_id"),
        ({"customer_id": ids.text("cus", NEW.new())}, "unknown_reference", "/customer_id"),
        ({"beneficiary_id": ids.text("cus", NEW.new())}, "unknown_reference", "/beneficiary_id"),
        ({"customer_id": dinars["id"]}, "price_missing_for_currency", "/plan_id"),
        ({"currency": "JPY"}, "currency_mismatch", "/currency"),
        ({"discount_ids": [yen["id"]]}, "discount_not_applicable", "/discount_ids/0"),
        ({"quantity": "NaN"}, "invalid_request", "/quantity"),
        ({"quantity": 0}, "invalid_request", "/quantity"),
        ({"quantity": True}, "invalid_request", "/quantity"),
        ({"quantity": "1e3"}, "invalid_request", "/quantity"),
        ({"quantity": "10000000000000000"}, "invalid_request", "/quantity"),
        ({"return_url": "javascript:alert(1)"}, "invalid_request", "/return_url"),
        ({"collection": "cash"}, "invalid_request", "/collection"),
        ({"plan_id": customer["id"]}, "invalid_request", "/plan_id"),
        ({"price": 1}, "invalid_request", "/price"),
    ):
        refused = await _buy(shop, customer, plan, status=422, **fields)
        assert (refused["code"], refused["pointer"]) == (code, pointer), fields
    assert await shop.events() == before
    assert (await shop.get("/v1/subscriptions"))["data"] == []


async def test_cancel_keep_and_end(shop: Shop) -> None:
    customer, plan = await shop.customer(), await shop.plan()
    bought = await _buy(shop, customer, plan)
    path = f"/v1/subscriptions/{bought['id']}"
    await shop.paid(await _invoice_of(shop, bought))

    upcoming = await shop.get(f"{path}/upcoming-invoice")
    scheduled = await shop.post(f"{path}/cancel", {"when": "period_end"}, status=200)
    nothing_left = await shop.get(f"{path}/upcoming-invoice")
    kept = await shop.post(f"{path}/undo-cancel", status=200)
    not_scheduled = await shop.post(f"{path}/undo-cancel", status=409)
    ended = await shop.post(f"{path}/cancel", {"when": "now"}, status=200)
    again = await shop.post(f"{path}/cancel", {"when": "now"}, status=409)
    no_more = await shop.get(f"{path}/upcoming-invoice", status=409)

    assert (upcoming["total_minor"], upcoming["period_start_at"]) == (
        999,
        "2026-04-01T11:00:00Z",
    )
    assert upcoming["lines"][0]["description"] == "Basic (monthly)"
    assert scheduled["cancel_at"] == "2026-04-01T11:00:00Z"
    assert (nothing_left["lines"], nothing_left["total_minor"]) == ([], 0)
    assert (kept["cancel_at"], kept["status"]) == (None, "active")
    assert not_scheduled["code"] == "cancellation_not_scheduled"
    assert (ended["status"], ended["end_reason"]) == ("canceled", "requested")
    assert (again["code"], no_more["code"]) == ("subscription_ended", "subscription_ended")
    assert [kind for kind, _ in await shop.events_about(customer["id"])][-3:] == [
        "subscription.changed",
        "subscription.changed",
        "subscription.canceled",
    ]
    await shop.check_invariants()


async def test_an_invoice_is_voided_once_nobody_collects_it(shop: Shop) -> None:
    customer, plan = await shop.customer(), await shop.plan()
    bought = await _buy(shop, customer, plan)
    invoice = await _invoice_of(shop, bought)
    path = f"/v1/invoices/{invoice['id']}/void"

    reserved = await shop.post(path, {"reason": "ordered twice"}, status=409)
    silent = await shop.post(path, {"reason": "  "}, status=422)
    await shop.refused(invoice)
    voided = await shop.post(path, {"reason": "ordered twice"}, status=200)
    again = await shop.post(path, {"reason": "ordered twice"}, status=409)

    assert reserved["code"] == "invoice_reserved"
    assert silent["pointer"] == "/reason"
    assert (voided["status"], voided["close_reason"]) == ("void", "ordered twice")
    assert again["code"] == "invoice_not_open"
    balance = await shop.get(f"/v1/customers/{customer['id']}/balance")
    assert balance["balances"][0]["balance_minor"] == 0
    await shop.check_invariants()


async def test_lists_by_customer_subscription_and_status(shop: Shop) -> None:
    plan = await shop.plan()
    ada, eve = await shop.customer(), await shop.customer()
    first, second = await _buy(shop, ada, plan), await _buy(shop, ada, plan)
    third = await _buy(shop, eve, plan)
    await shop.paid(await _invoice_of(shop, first))

    async def listed(path: str, **query: Any) -> list[str]:
        answer = await shop.client.get(path, params=query)
        return [each["id"] for each in answer.json()["data"]]

    subs, invs = "/v1/subscriptions", "/v1/invoices"
    inv1, inv2, inv3 = (each["latest_invoice_id"] for each in (first, second, third))
    assert await listed(subs) == [third["id"], second["id"], first["id"]]
    assert await listed(subs, customer_id=ada["id"]) == [second["id"], first["id"]]
    assert await listed(subs, status="active") == [first["id"]]
    assert await listed(subs, customer_id=ada["id"], status="incomplete") == [second["id"]]
    assert await listed(invs) == [inv3, inv2, inv1]
    assert await listed(invs, customer_id=ada["id"]) == [inv2, inv1]
    assert await listed(invs, customer_id=ada["id"], status="open") == [inv2]
    assert await listed(invs, status="paid") == [inv1]
    assert await listed(invs, status="open") == [inv3, inv2]
    assert await listed(invs, subscription_id=second["id"]) == [inv2]
    assert await listed(invs, subscription_id=second["id"], customer_id=eve["id"]) == []
    page = await shop.get(subs, customer_id=ada["id"], limit=1)
    rest = await listed(subs, customer_id=ada["id"], cursor=page["next_cursor"])
    assert rest == [first["id"]]
    for path in (f"{subs}/{first['id']}", f"{invs}/{inv1}", f"{invs}/{inv1}/explain"):
        assert (await shop.stranger.get(path)).status_code == 404
    assert (await shop.stranger.get(invs)).json()["data"] == []
    assert (await shop.stranger.get(invs, params={"subscription_id": first["id"]})).status_code == (
        404
    )


async def test_a_customer_in_use_keeps_its_currency_and_stays(shop: Shop) -> None:
    payer, user = await shop.customer(), await shop.customer()
    bought = await _buy(shop, payer, await shop.plan(), beneficiary_id=user["id"])
    await shop.paid(await _invoice_of(shop, bought))

    for each in (payer, user):
        refused = await shop.client.delete(f"/v1/customers/{each['id']}")
        assert (refused.status_code, refused.json()["code"]) == (409, "customer_in_use")
    path = f"/v1/customers/{payer['id']}"
    currency = await shop.client.patch(path, json={"currency": "USD"})
    assert (currency.status_code, currency.json()["code"]) == (409, "currency_in_use")
    free = await shop.client.patch(f"/v1/customers/{user['id']}", json={"currency": "USD"})
    assert free.json()["currency"] == "USD"
    zone = await shop.client.patch(path, json={"timezone": "Asia/Tokyo"})
    assert zone.json()["timezone"] == "Asia/Tokyo"
    running = await shop.get(f"/v1/subscriptions/{bought['id']}")
    assert running["timezone"] == "Europe/Berlin"

    await shop.post(f"/v1/subscriptions/{bought['id']}/cancel", {"when": "now"}, status=200)
    assert (await shop.client.delete(path)).status_code == 204


async def test_money_too_many_opens_a_work_item_that_a_person_closes(shop: Shop) -> None:
    customer, plan = await shop.customer(), await shop.plan()
    invoice = await _invoice_of(shop, await _buy(shop, customer, plan))
    await shop.paid(invoice)
    await shop.paid_by_another_attempt(invoice)

    [item] = (await shop.get("/v1/work-items", status=200))["data"]
    path = f"/v1/work-items/{item['id']}"
    closed = await shop.post(f"{path}/close", {"reason": "sent back"}, status=200)
    again = await shop.post(f"{path}/close", {"reason": "sent back"}, status=409)

    assert (item["kind"], item["status"]) == ("payment_unapplied", "open")
    assert (item["customer_id"], item["data"]["amount_minor"]) == (customer["id"], 999)
    assert (closed["status"], closed["closed_by"], closed["close_reason"]) == (
        "closed",
        "key_admin",
        "sent back",
    )
    assert again["code"] == "work_item_closed"
    assert (await shop.get(path)) == closed
    assert (await shop.client.get("/v1/work-items?status=open")).json()["data"] == []
    assert (await shop.client.get("/v1/work-items?status=closed")).json()["data"] == [closed]
    assert (await shop.stranger.get(path)).status_code == 404
    balance = await shop.get(f"/v1/customers/{customer['id']}/balance")
    assert (balance["balances"][0]["unapplied_minor"], balance["balances"][0]["balance_minor"]) == (
        999,
        -999,
    )
    kind, data = (await shop.events_about(customer["id"]))[-1]
    assert (kind, data["work_item_id"]) == ("work_item.closed", item["id"])
    assert "sent back" not in json.dumps(data)
    await shop.check_invariants()
