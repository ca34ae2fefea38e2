"""What a shop does in its life: enough that every statement runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from sqlalchemy import Row, text

from subledger.contracts.events import Event
from subledger.platform import ids
from subledger.platform.db import story
from subledger.platform.eventlog.consumer import Consumer
from subledger.services.identity.usecases.delete_tenant import delete_tenant
from tests.sql import year_parts
from tests.sql.year_methods import methods_come_and_go
from tests.sql.year_parts import buyer
from tests.stories.shop import START, Shop, open_shop

_EMIT = story("tests.sql_overpaid")


async def live(shop: Shop, word: str, *, month: int) -> None:
    """Sell, page, decline, retry, lose answers, cancel, void, read; and two months pass."""
    plan = await shop.plan(f"{word}-basic", amounts={"EUR": 999, "JPY": 900})
    good = await buyer(shop, f"{word}-good", plan)
    await _catalogue(shop, word, plan)
    late, lost, poor = [await buyer(shop, f"{word}-{n}", plan) for n in ("late", "lost", "poor")]
    leaving, staying = (
        await buyer(shop, f"{word}-leaving", plan),
        await buyer(shop, f"{word}-staying", plan),
    )
    for subscription, when in ((leaving[1], "period_end"), (staying[1], "period_end")):
        await shop.post(f"/v1/subscriptions/{subscription}/cancel", {"when": when}, expect=200)
    await shop.post(f"/v1/subscriptions/{staying[1]}/undo-cancel", expect=200)
    await _changes(shop, word, plan)
    await year_parts.pauses(shop, word, plan)
    await _waiting_invoices(shop, word, plan)
    await _prices(shop, word)
    await _calendar(shop, word)
    await year_parts.promotions(shop, word, plan)
    await year_parts.credit_notes(shop, word, plan)
    await year_parts.refunds(shop, word, plan)
    await year_parts.disputed(shop, word, plan)
    await _pages(shop, word, plan)
    await _refused(shop, word, plan)
    await shop.card(late[0], "insufficient_funds:3")
    await shop.card(poor[0], "soft_decline")
    await shop.card(lost[0], "timeout")
    await shop.move_to(f"2026-{month:02d}-02T00:00:00")
    await year_parts.dunning(shop, word, plan, poor)
    await shop.move_to(f"2026-{month:02d}-25T00:00:00")
    gone = await buyer(shop, f"{word}-gone", plan)
    await shop.post(f"/v1/subscriptions/{gone[1]}/cancel", {"when": "now"}, expect=200)
    method = (await shop.get("/v1/payment-methods", customer_id=gone[0]))["data"][0]["id"]
    assert (await shop.raw("DELETE", f"/v1/payment-methods/{method}")).status_code == 204
    assert (await shop.raw("DELETE", f"/v1/customers/{gone[0]}")).status_code == 204
    await _overpay(shop, good[0])
    await _revenue(shop, good[0])
    await _look(shop, good)
    await _migrate(shop, word)
    await _guard(shop, word)
    await year_parts.tax(shop, word, good[0])
    await methods_come_and_go(shop, word, plan)
    await year_parts.reconciliation(shop, word, plan)
    await year_parts.connections(shop, word)
    await shop.pump.quiet()


async def break_things(shop: Shop) -> None:
    """Events that no handler can read, twice for each account: it is blocked, the second parks."""
    for subject in (shop.assembly.databases["payments"].ids.new() for _ in range(2)):
        for kind in ("payment.failed", "invoice.finalized", "subscription.activated"):
            for _ in range(2):
                await _emit(shop, kind, subject, {})
                await shop.pump.quiet()
    for service in shop.assembly.services:
        for each in service.consumers:
            for row in await _blocked(each, shop.tenant_id):
                with pytest.raises(Exception):  # noqa: B017, PT011  # whatever the handler says
                    await each.replay(tenant_id=shop.tenant_id, subject=row.subject)


async def _blocked(consumer: Consumer, tenant_id: UUID) -> Sequence[Row[Any]]:
    schema = consumer.group.schema
    query = text(f"SELECT subject FROM {schema}.blocked WHERE tenant_id = :tenant")
    async with consumer.database.transaction(_EMIT, tenants=[tenant_id]) as tx:
        return await tx.rows(query, tenant=tenant_id)


async def _emit(shop: Shop, kind: str, subject: UUID, data: dict[str, Any]) -> None:
    event = Event(
        type=kind, tenant_id=shop.tenant_id, subject=subject, data=data, occurred_at=START
    )
    async with shop.assembly.databases["payments"].transaction(
        _EMIT, tenants=[shop.tenant_id]
    ) as tx:
        tx.emit([event])


async def open_and_close(shop: Shop) -> None:
    """A tenant comes, with its first payment method, and goes; the process is asked how it is."""
    opened = await open_shop(shop.assembly)
    await opened.card(await opened.customer())
    database = shop.assembly.databases["identity"]
    async with database.transaction(_EMIT) as tx:
        await delete_tenant(tx, opened.tenant_id)
    await opened.api.aclose()
    assert (await shop.raw("GET", "/readyz")).status_code == 200


async def _changes(shop: Shop, word: str, plan: str) -> None:
    """More and fewer, now, on the next invoice, later, forgotten; another interval."""
    _, subscription = await buyer(shop, f"{word}-changing", plan)
    path = f"/v1/subscriptions/{subscription}"
    yearly = await shop.plan(f"{word}-yearly", amounts={"EUR": 9999}, unit="year")
    other = await shop.plan(f"{word}-other", amounts={"EUR": 1999})
    await shop.post(f"{path}/preview-change", {"plan_id": other}, expect=200)
    await shop.post(f"{path}/change", {"plan_id": other}, expect=200)
    await shop.post(f"{path}/change", {"quantity": "2", "settle": "next_invoice"}, expect=200)
    await shop.get(f"{path}/upcoming-invoice")
    await shop.post(f"{path}/change", {"plan_id": plan, "at": "period_end"}, expect=200)
    await shop.post(f"{path}/undo-change", expect=200)
    await shop.post(f"{path}/change", {"plan_id": plan, "at": "period_end"}, expect=200)
    _, second = await buyer(shop, f"{word}-restarting", plan)
    await shop.post(f"/v1/subscriptions/{second}/change", {"plan_id": yearly}, expect=200)
    await shop.pump.quiet()


async def _waiting_invoices(shop: Shop, word: str, plan: str) -> None:
    """One customer's renewals share a draft, another pays on terms."""
    shared, _ = await buyer(shop, f"{word}-shared", plan)
    await shop.subscribe(shared, plan)
    on_terms, _ = await buyer(shop, f"{word}-terms", plan)
    for customer, given in ((shared, {"consolidate": True}), (on_terms, {"net_days": 14})):
        path = f"/v1/customers/{customer}/invoice-terms"
        assert (await shop.raw("PUT", path, json=given)).status_code == 200
        await shop.get(path)
    given = {"minimums_minor": {"JPY": 10}}
    assert (await shop.raw("PUT", "/v1/invoice-settings", json=given)).status_code == 200
    await shop.get("/v1/invoice-settings")


async def _calendar(shop: Shop, word: str) -> None:
    """Trials that are paid, lapse and are told of; a start day; another anchor, another zone."""
    tried = await shop.plan(f"{word}-tried", trial_days=2)
    payer, guest = await shop.customer(f"{word}-trying"), await shop.customer(f"{word}-guest")
    await shop.card(payer)
    method = await shop.card(guest)
    wanted = {"plan_id": tried, "trial_end_behavior": "cancel"}
    await shop.post("/v1/subscriptions/preview", {"customer_id": payer, **wanted}, expect=200)
    for each in (payer, guest):
        await shop.subscribe(each, tried, trial_end_behavior="cancel")
    assert (await shop.raw("DELETE", f"/v1/payment-methods/{method}")).status_code == 204
    now = datetime.fromisoformat((await shop.get("/v1/clock"))["now_at"])
    start_at = (now + timedelta(days=3)).isoformat()
    await shop.subscribe(payer, tried, start_at=start_at)
    hung = await shop.subscribe(payer, tried, trial_days=0, billing_anchor={"kind": "calendar"})
    path = f"/v1/subscriptions/{hung['id']}/change-anchor"
    await shop.post(path, {"billing_anchor": {"kind": "day", "day": 9}}, expect=200)
    await shop.post(path, {"billing_anchor": {"kind": "anniversary"}, "when": "now"}, expect=200)
    answer = await shop.raw("PATCH", f"/v1/customers/{payer}", json={"timezone": "Asia/Tokyo"})
    assert answer.status_code == 200
    await shop.pump.quiet()


async def _prices(shop: Shop, word: str) -> None:
    """What was used, a price agreed with a customer, a one-off charge."""
    product = await shop.post(
        "/v1/products", {"code": f"{word}-used", "name": "Used", "resources": []}
    )
    month = {"unit": "month", "count": 1}
    plan = await shop.post(
        "/v1/plans",
        {"code": f"{word}-used", "name": "Used", "product_id": product["id"], "prices": [
            {"code": "calls", "currency": "EUR", "model": "per_unit", "unit_amount": "2",
             "timing": "arrears", "metered": True, "interval": month},
            {"code": "once", "currency": "EUR", "model": "flat", "amount_minor": 300,
             "timing": "once", "interval": month}]},
    )  # fmt: skip
    prices = {each["code"]: each["id"] for each in plan["latest"]["prices"]}
    customer, subscription = await buyer(shop, f"{word}-using", plan["id"])
    path = f"/v1/subscriptions/{subscription}"
    for body in ({"quantity": "10"}, {"quantity": "12"}):
        given = {"price_id": prices["calls"], **body}
        assert (await shop.raw("PUT", f"{path}/quantities", json=given)).status_code == 200
    await shop.get(f"{path}/quantities")
    await shop.post(f"{path}/charges", {"price_id": prices["once"]}, expect=200)
    agreed = f"/v1/customers/{customer}/prices"
    body = {"model": "per_unit", "unit_amount": "1"}
    assert (await shop.raw("PUT", f"{agreed}/{prices['calls']}", json=body)).status_code == 200
    await shop.get(agreed)


async def _catalogue(shop: Shop, word: str, plan: str) -> None:
    off = await shop.post(
        "/v1/discounts",
        {"code": f"{word}-off", "name": "Off", "percent": "10", "duration": "periods",
         "periods": 3},
    )  # fmt: skip
    free = await shop.post(
        "/v1/discounts",
        {"code": f"{word}-free", "name": "Free", "percent": "100", "duration": "once"},
    )
    thrifty = await shop.customer(f"{word}-thrifty")
    await shop.card(thrifty)
    await shop.subscribe(thrifty, plan, discount_ids=[off["id"]])
    user = await shop.customer(f"{word}-user")
    await shop.subscribe(thrifty, plan, discount_ids=[free["id"]], beneficiary_id=user)
    price = {"code": "base", "currency": "EUR", "model": "flat", "amount_minor": 1099,
             "interval": {"unit": "month", "count": 1}}  # fmt: skip
    await shop.post(f"/v1/plans/{plan}/versions", {"prices": [price]})
    product = (await shop.get("/v1/products", code=f"{word}-basic"))["data"][0]["id"]
    for path, body in (
        (f"/v1/products/{product}", {"resources": ["film:a", "film:c"]}),
        (f"/v1/customers/{thrifty}", {"email": "new@example.com"}),
        (f"/v1/customers/{user}", {"currency": "JPY"}),
    ):
        assert (await shop.raw("PATCH", path, json=body)).status_code == 200
    for path in (f"/v1/plans/{plan}/versions", "/v1/plans", "/v1/products", "/v1/discounts"):
        await shop.get(path, limit=1)
    await shop.get("/v1/plans", code=f"{word}-basic")
    await shop.get("/v1/discounts", code=f"{word}-off")
    await shop.get(f"/v1/discounts/{off['id']}")
    policy = {"delays_s": [86400, 864000], "final_action": "cancel", "hard_decline_stops": True}
    assert (await shop.raw("PUT", "/v1/dunning-policy", json=policy)).status_code == 200
    await shop.get("/v1/dunning-policy")


async def _migrate(shop: Shop, word: str) -> None:
    """A plan's subscriptions are moved: seen before, paused, resumed, done, and half canceled."""
    plan = await shop.plan(f"{word}-migrating", amounts={"EUR": 500})
    for n in range(3):
        await buyer(shop, f"{word}-moves-{n}", plan)
    for amount in (600, 700):
        price = {"code": "base", "currency": "EUR", "model": "flat", "amount_minor": amount,
                 "interval": {"unit": "month", "count": 1}}  # fmt: skip
        await shop.post(f"/v1/plans/{plan}/preview-change", {"prices": [price]}, expect=200)
        await shop.post(f"/v1/plans/{plan}/versions", {"prices": [price]})
        asked = {"plan_id": plan, "from_version": 1} if amount == 600 else {"plan_id": plan}
        begun = await shop.api.post("/v1/plan-migrations", json={**asked, "at": "now"})
        path = f"/v1/plan-migrations/{begun.json()['id']}"
        await shop.post(f"{path}/pause", expect=200)
        await shop.post(f"{path}/resume" if amount == 600 else f"{path}/cancel", expect=200)
        await shop.pump.quiet()
        await shop.get(path)
        await shop.get(f"{path}/results", limit=2)
        await shop.get(f"{path}/results", outcome="changed")
    # Whatever is answered: among copies the newest may name a version that was not copied as often.
    await shop.api.get("/v1/plan-migrations", params={"limit": 1})


async def _pages(shop: Shop, word: str, plan: str) -> None:
    by_page = {"plan_id": plan, "collection": "page", "return_url": "http://shop.test/x"}
    payer, idler = await shop.customer(f"{word}-payer"), await shop.customer(f"{word}-idler")
    bought = await shop.post("/v1/subscriptions", {"customer_id": payer, **by_page})
    await shop.raw("GET", bought["next_action"]["redirect_url"].removeprefix("http://shop.test"))
    await _payers_pages(shop, payer)
    assert (await shop.pay_page(bought["next_action"]["redirect_url"])).status_code == 303
    await shop.pump.quiet()
    waiting = await shop.post("/v1/subscriptions", {"customer_id": idler, **by_page})
    payment = (await shop.get("/v1/payments", customer_id=idler))["data"][0]["id"]
    await shop.post(f"/v1/payments/{payment}/cancel", expect=200)
    await shop.get(f"/v1/payments/{payment}/history")
    invoice = (await shop.get("/v1/invoices", subscription_id=waiting["id"]))["data"][0]["id"]
    await shop.post(
        "/v1/payments", {"invoice_id": invoice, "mode": "page", "return_url": "http://shop.test/a"}
    )
    await shop.pump.quiet()


async def _payers_pages(shop: Shop, payer: str) -> None:
    """What the payer of an open page sees, at that page and at a link to its invoice."""
    sites = {"return_origins": ["https://cinema.example"]}
    assert (await shop.raw("PUT", "/v1/payment-settings", json=sites)).status_code == 200
    payment = (await shop.get("/v1/payments", customer_id=payer))["data"][0]
    link = await shop.post("/v1/payment-links", {"invoice_id": payment["invoice_id"]})
    for address in (payment["status_url"], link["url"]):
        assert (await shop.raw("GET", urlsplit(address).path)).status_code == 200
    await shop.get("/v1/payment-links")
    await shop.get("/v1/payment-links", invoice_id=payment["invoice_id"])
    await shop.post(f"/v1/payment-links/{link['id']}/revoke", expect=200)
    money = {"customer_id": payer, "amount_minor": 7, "currency": "EUR", "method": "check"}
    check = await shop.post("/v1/offline-payments", money)
    await shop.pump.quiet()
    await shop.post(f"/v1/payments/{check['id']}/reverse", {"reason": "it bounced"}, expect=200)
    await shop.pump.quiet()
    told = (await shop.get("/v1/events", customer_id=payer, limit=100))["data"]
    for item in (e["data"]["work_item_id"] for e in told if e["type"] == "work_item.opened"):
        await shop.post(f"/v1/work-items/{item}/close", {"reason": "known"}, expect=200)


async def _refused(shop: Shop, word: str, plan: str) -> None:
    refused = await shop.customer(f"{word}-refused")
    await shop.card(refused, "soft_decline")
    first = await shop.refused(refused, plan)
    await shop.post(f"/v1/invoices/{first['invoice_id']}/void", {"reason": "mistake"}, expect=200)
    second = await shop.refused(refused, plan)
    good = await shop.card(refused)
    bad = await shop.card(refused, "hard_decline")
    await shop.post(f"/v1/payment-methods/{good}/default", expect=200)
    body = {"invoice_id": second["invoice_id"], "payment_method_id": bad}
    for _ in range(2):
        await shop.post("/v1/payments", body, expect=402, Idempotency_Key=f"{word}-pays")
    await shop.fault("charge_no_reply", 1)
    await shop.raw("POST", "/v1/payments", json=body | {"payment_method_id": good},
                   headers={"prefer": "wait=0"})  # fmt: skip
    await shop.pump.quiet()


async def _overpay(shop: Shop, customer: str) -> None:
    database = shop.assembly.databases["payments"]
    payment = (await shop.get("/v1/payments", customer_id=customer))["data"][0]
    data = {
        "payment_id": payment["id"], "invoice_id": payment["invoice_id"], "customer_id": customer,
        "connection_id": ids.text("conn", database.ids.new()),
        "attempt_id": ids.text("att", database.ids.new()), "amount_minor": 5, "currency": "EUR",
        "dunning": False, "captured_at": START.isoformat(),
    }  # fmt: skip
    await _emit(shop, "payment.succeeded", ids.parse("cus", customer), data)
    await shop.pump.quiet()
    told = (await shop.get("/v1/events", customer_id=customer, limit=100))["data"]
    item = next(e["data"]["work_item_id"] for e in told if e["type"] == "work_item.opened")
    await shop.get(f"/v1/work-items/{item}")
    await shop.post(f"/v1/work-items/{item}/close", {"reason": "sent back"}, expect=200)


async def _revenue(shop: Shop, customer: str) -> None:
    """A policy of its own, the months, a line's months."""
    page = await shop.get("/v1/invoices", customer_id=customer)
    await shop.get("/v1/revenue-schedule", invoice_id=page["data"][0]["id"])
    await shop.get("/v1/revenue", **{"from": "2026-01", "to": "2026-12"})
    for mode in ("second", "day"):
        body = {"mode": mode, "timezone": "Europe/Berlin"}
        assert (await shop.raw("PUT", "/v1/revenue-policy", json=body)).status_code == 200
    await shop.get("/v1/revenue-policy")


async def _guard(shop: Shop, word: str) -> None:
    """One run too large, a day too much, all switches; each is released and goes on."""
    daily = await shop.plan(f"{word}-daily", amounts={"EUR": 700}, unit="day")
    reader, subscription = await buyer(shop, f"{word}-reader", daily)
    await _limit(shop, largest_minor=600)
    await _day(shop)
    released = {"reason": "agreed", "most_minor": 700}
    await shop.post(f"/v1/subscriptions/{subscription}/release", released, expect=200)
    await shop.pump.quiet()
    await _limit(shop, total_minor=1)
    await _day(shop)
    park = (await shop.get("/v1/billing-parks"))["data"][0]["id"]
    await shop.get(f"/v1/billing-parks/{park}")
    raised = {"reason": "right", "limits_today": [{"currency": "EUR"}]}
    await shop.post(f"/v1/billing-parks/{park}/release", raised, expect=200)
    await shop.pump.quiet()
    await _limit(shop)
    for job in ("renewals", "collections", "dunning"):
        if job == "dunning":  # what fails today is tried again tomorrow
            await shop.card(reader, "soft_decline")
            await _day(shop)
        for on in (True, False):
            body = {"on": on, "reason": "try"}
            answer = await shop.raw("PUT", f"/v1/kill-switches/{job}", json=body)
            assert answer.status_code == 200
            await shop.pump.quiet()
            await shop.get("/v1/kill-switches")
            await _day(shop)
            await shop.get("/v1/billing-forecast")
    for path in ("/v1/billing-parks", "/v1/billing-guard-changes"):
        page = await shop.get(path, limit=1)
        if page["next_cursor"]:
            await shop.get(path, limit=1, cursor=page["next_cursor"])
    await shop.post(f"/v1/subscriptions/{subscription}/cancel", {"when": "now"}, expect=200)
    await shop.pump.quiet()


async def _limit(shop: Shop, **limits: int) -> None:
    body = {"limits": [{"currency": "EUR", **limits}], "reason": "try"}
    assert (await shop.raw("PUT", "/v1/billing-limits", json=body)).status_code == 200
    assert len((await shop.get("/v1/billing-limits"))["limits"]) == (1 if limits else 0)


async def _day(shop: Shop) -> None:
    """A day passes."""
    now = datetime.fromisoformat((await shop.get("/v1/clock"))["now_at"])
    await shop.move_to((now + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S"))


async def _look(shop: Shop, good: tuple[str, str]) -> None:
    """Every list by every filter, first page and next; every object; the books."""
    customer, subscription = good
    for path, filters in {
        "/v1/customers": [{}, {"external_id": "nobody"}],
        "/v1/subscriptions": [{}, {"customer_id": customer}, {"status": "canceled"},
                              {"customer_id": customer, "status": "active"}],
        "/v1/invoices": [{}, {"customer_id": customer}, {"subscription_id": subscription},
                         {"status": "open"}, {"status": "paid"},
                         {"status": "uncollectible"}, {"customer_id": customer, "status": "paid"}],
        "/v1/payments": [{}, {"customer_id": customer}, {"status": "failed"},
                         {"status": "succeeded"}],
        "/v1/payment-methods": [{}, {"customer_id": customer}],
        "/v1/work-items": [{}, {"status": "closed"}],
        "/v1/events": [{}, {"customer_id": customer}],
        "/v1/api-keys": [{}], "/v1/clock-moves": [{}], "/v1/sandboxes": [{}],
    }.items():  # fmt: skip
        for each in filters:
            page = await shop.get(path, limit=2, **each)
            if page["next_cursor"]:
                await shop.get(path, limit=2, cursor=page["next_cursor"], **each)
    invoice = (await shop.get("/v1/invoices", customer_id=customer))["data"][0]["id"]
    payment = (await shop.get("/v1/payments", invoice_id=invoice))["data"][0]["id"]
    method = (await shop.get("/v1/payment-methods", customer_id=customer))["data"][0]["id"]
    for path in (
        f"/v1/customers/{customer}", f"/v1/customers/{customer}/balance",
        f"/v1/customers/{customer}/statement", f"/v1/subscriptions/{subscription}",
        f"/v1/subscriptions/{subscription}/upcoming-invoice", f"/v1/invoices/{invoice}",
        f"/v1/invoices/{invoice}/explain", f"/v1/payments/{payment}",
        f"/v1/payment-methods/{method}", "/v1/ledger/trial-balance", "/v1/tenant", "/v1/clock",
        f"/v1/access/{customer}/film:a",
    ):  # fmt: skip
        await shop.get(path)
    key = await shop.post(
        "/v1/api-keys", {"name": "gone", "role": "admin"}, Idempotency_Key=customer
    )
    again = {"name": "gone", "role": "admin"}
    assert (await shop.post("/v1/api-keys", again, Idempotency_Key=customer))["id"] == key["id"]
    assert (await shop.raw("DELETE", f"/v1/api-keys/{key['id']}")).status_code == 204
    await shop.captured()
