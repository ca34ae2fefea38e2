"""What of a shop's life concerns buyers, discounts, credit notes, pauses, dunning and taxes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from tests.stories.dispute_world import decide, dispute, disputes, policy
from tests.stories.reconciling import charge, connection, reconcile, repair, terms
from tests.stories.refund_world import (
    at_the_provider,
    cancel_there,
    paid,
    preview,
    refund,
    refund_policy,
)
from tests.stories.shop import Shop


async def buyer(shop: Shop, name: str, plan: str) -> tuple[str, str]:
    customer = await shop.customer(name)
    await shop.card(customer)
    key = f"{name}-buys"
    bought = await shop.post(
        "/v1/subscriptions", {"customer_id": customer, "plan_id": plan}, Idempotency_Key=key
    )
    again = await shop.post(
        "/v1/subscriptions", {"customer_id": customer, "plan_id": plan}, Idempotency_Key=key
    )
    assert again["id"] == bought["id"]
    await shop.pump.quiet()
    return customer, str(bought["id"])


async def connections(shop: Shop, word: str) -> None:
    """Another connection is made, changed, chosen, moved, sealed anew, closed; what was received
    is listed by every filter, looked at and told again."""
    made = await shop.post(
        "/v1/connections",
        {"provider": "sandbox", "name": word, "credentials": {"api_key": "sbk_of_nobody"}},
    )
    path = f"/v1/connections/{made['id']}"
    body = {"currencies": ["EUR"], "default_for": ["EUR"], "credentials": {"api_key": "sbk_no"}}
    assert (await shop.raw("PATCH", path, json=body)).status_code == 200
    await shop.post(f"{path}/replace-webhook-url", expect=200)
    await shop.post(f"{path}/check", expect=200)
    for name in ("payments", "webhooks"):
        reseal: Any = shop.assembly.service(name).attributes["reseal"]
        await reseal(shop.tenant_id)
    await shop.post(f"{path}/close", expect=200)
    page = await shop.get("/v1/connections", limit=1)
    await shop.get("/v1/connections", limit=1, cursor=page["next_cursor"])
    newest = (await shop.get("/v1/received-webhooks"))["data"][0]
    for filters in ({}, {"kind": "charge.succeeded"}, {"trust": "strong"},
                    {"connection_id": newest["connection_id"]}):  # fmt: skip
        page = await shop.get("/v1/received-webhooks", limit=2, **filters)
        if page["next_cursor"]:
            await shop.get("/v1/received-webhooks", cursor=page["next_cursor"], **filters)
    await shop.get(f"/v1/received-webhooks/{newest['id']}")
    await shop.post(f"/v1/received-webhooks/{newest['id']}/replay", expect=200)
    body = {"connection_id": newest["connection_id"], "from": newest["received_at"],
            "until": "2099-01-01T00:00:00Z"}  # fmt: skip
    await shop.post("/v1/received-webhooks/replay", body, expect=200)
    await shop.pump.quiet()


async def promotions(shop: Shop, word: str, plan: str) -> None:
    """Codes are made, listed, checked, redeemed, given back; discounts come and go."""
    off, own, _scoped = [
        await shop.post(
            "/v1/discounts",
            {"code": f"{word}-{name}", "name": name, "percent": "10", "duration": "forever"} | more,
        )
        for name, more in (
            ("promo", {}), ("own", {}),
            ("scoped", {"applies_to": ["price:base", f"plan:{word}-basic", plan]}),
        )
    ]  # fmt: skip
    limits = {"discount_id": off["id"], "most_per_customer": 1, "first_purchase_only": True}
    made = await shop.post("/v1/promotion-codes", {"code": f"{word}-code", **limits})
    many = await shop.post("/v1/promotion-codes/bulk", {"n": 3, "prefix": word, **limits})
    for filters in ({}, {"code": f"{word}-code"}, {"discount_id": off["id"]},
                    {"batch_id": many["batch_id"]}):  # fmt: skip
        await shop.get("/v1/promotion-codes", limit=2, **filters)
    await shop.get(f"/v1/promotion-codes/{made['id']}")
    customer = await shop.customer(f"{word}-promoted")
    asked = {"code": f"{word}-code", "customer_id": customer, "plan_id": plan}
    await shop.post("/v1/promotion-codes/check", asked, expect=200)
    waiting = await shop.subscribe(
        customer, plan, promotion_codes=[f"{word}-code"], collection="page",
        return_url="http://shop.test/x",
    )  # fmt: skip
    payment = (await shop.get("/v1/payments", customer_id=customer))["data"][0]["id"]
    await shop.post(f"/v1/payments/{payment}/cancel", expect=200)
    await shop.pump.quiet()
    await shop.post(f"/v1/subscriptions/{waiting['id']}/cancel", {"when": "now"}, expect=200)
    await shop.card(customer)
    await shop.post(f"/v1/customers/{customer}/discounts", {"discount_id": own["id"]})
    bought = await shop.subscribe(customer, plan, promotion_codes=[many["codes"][0]])
    await shop.get(f"/v1/promotion-codes/{made['id']}/redemptions")
    for path in (f"/v1/subscriptions/{bought['id']}", f"/v1/customers/{customer}"):
        await shop.get(f"{path}/discounts")
        answer = await shop.raw("DELETE", f"{path}/discounts/{own['id']}")
        assert answer.status_code == 204, answer.text
        if "subscriptions" in path:
            await shop.post(f"{path}/discounts", {"discount_id": own["id"]}, expect=200)
    await shop.post(f"/v1/promotion-codes/{made['id']}/deactivate", expect=200)
    await shop.post(f"/v1/discounts/{own['id']}/archive", expect=200)
    for split in ("each", "last_line"):
        settings = {"order": "as_attached", "exclusive": "best", "split": split}
        answer = await shop.raw("PUT", "/v1/discount-settings", json=settings)
        assert answer.status_code == 200, answer.text
    await shop.get("/v1/discount-settings")


async def credit_notes(shop: Shop, word: str, plan: str) -> None:
    """Paid and open invoices credited, notes voided and taken along, credit adjusted, an invoice
    made anew; every list by every filter."""
    customer, subscription = await buyer(shop, f"{word}-credited", plan)
    invoice = (await shop.get("/v1/invoices", customer_id=customer))["data"][0]["id"]
    body = {"invoice_id": invoice, "reason": "other", "lines": [{"n": 1, "gross_minor": 300}]}
    await shop.post("/v1/credit-notes/preview", body, expect=200)
    for _ in range(3):
        made = await shop.post("/v1/credit-notes", body)
    await shop.post(f"/v1/credit-notes/{made['id']}/void", {"reason": "mistake"}, expect=200)
    for path in (f"/v1/credit-notes/{made['id']}", f"/v1/credit-notes/{made['id']}/explain"):
        await shop.get(path)
    adjustment = {"customer_id": customer, "amount_minor": 5, "currency": "EUR", "reason": "sorry"}
    for direction in ("credit", "credit", "credit", "debit"):
        made = await shop.post("/v1/adjustments", adjustment | {"direction": direction})
    await shop.get(f"/v1/adjustments/{made['id']}")
    for path, filters in {
        "/v1/credit-notes": [{}, {"customer_id": customer}, {"invoice_id": invoice}],
        "/v1/adjustments": [{}, {"customer_id": customer}],
    }.items():
        for each in filters:
            page = await shop.get(path, limit=1, **each)
            await shop.get(path, limit=1, cursor=page["next_cursor"], **each)
    await shop.post(
        f"/v1/subscriptions/{subscription}/cancel", {"when": "now", "credit_unused": True},
        expect=200,
    )  # fmt: skip
    poor = await shop.customer(f"{word}-unpaid")
    await shop.card(poor, "soft_decline")
    refused = await shop.refused(poor, plan)
    anew = await shop.post(f"/v1/invoices/{refused['invoice_id']}/reissue", {"reason": "anew"})
    await shop.pump.quiet()
    await shop.post("/v1/credit-notes", body | {"invoice_id": anew["id"]})
    await shop.post(
        f"/v1/subscriptions/{refused['subscription_id']}/cancel", {"when": "now"}, expect=200
    )


async def pauses(shop: Shop, word: str, plan: str) -> None:
    """Planned, forgotten, extending, credited; ended while paused, at once, and begun again."""
    _, subscription = await buyer(shop, f"{word}-pausing", plan)
    path = f"/v1/subscriptions/{subscription}"

    async def act(verb: str, **body: Any) -> None:
        await shop.post(f"{path}/{verb}", body, expect=200)
        await shop.pump.quiet()

    await act("pause", at="period_end", credit="none")
    await act("undo-pause")
    await act("pause", at="now", credit="extend")
    await act("resume")
    await act("preview-change", quantity="2")
    await act("pause", at="now", credit="credit")
    await act("preview-resume")
    await act("resume")
    await act("cancel", when="now", reason="unused")
    await act("reactivate")
    await act("pause", at="now", credit="extend")
    await act("cancel", when="now", credit_unused=True)
    await act("reactivate", version="newest")


async def tax(shop: Shop, word: str, customer: str) -> None:
    """Settings, rates, rules; one ends and another follows; a customer's id; previews."""
    product = await shop.post(
        "/v1/products",
        {"code": f"{word}-book", "name": "Book", "resources": ["b"], "tax_category": "books"},
    )
    rate = {"code": f"{word}-5", "name": "VAT", "percent": "5", "country": "DE"}
    rule = await shop.post("/v1/tax-rules", {"rate": rate, "category": word})
    path = f"/v1/tax-rules/{rule['id']}"
    await shop.post(f"{path}/end", {"until_on": "2026-04-01"}, expect=200)
    await shop.post(
        "/v1/tax-rules",
        {"tax_rate_id": rule["rate"]["id"], "category": word, "from_on": "2026-04-01"},
    )
    own = await shop.post("/v1/tax-rates", rate | {"code": f"{word}-own"})
    for method, place, body in (
        ("PUT", "/v1/tax-settings", {"country": "US", "vat_id": word, "registered": False}),
        ("PATCH", f"/v1/products/{product['id']}", {"tax_category": None}),
        ("PATCH", f"/v1/customers/{customer}",
         {"country": "DE", "tax_id": "DE136695976", "tax_rate_ids": [own["id"]]}),
    ):  # fmt: skip
        assert (await shop.raw(method, place, json=body)).status_code == 200
    line = {"amount_minor": 5, "product_id": product["id"]}
    for who in ({"customer_id": customer}, {"buyer": {"country": "DE"}}):
        await shop.post("/v1/tax-preview", {**who, "lines": [line]}, expect=200)
    for place in ("/v1/tax-rates", "/v1/tax-rules"):
        page = await shop.get(place, limit=1)
        await shop.get(place, limit=1, cursor=page["next_cursor"])
    await shop.get("/v1/tax-rates", code=f"{word}-own")
    for place in ("/v1/tax-settings", f"/v1/tax-rates/{own['id']}", path):
        await shop.get(place)


async def _refunded_outside(shop: Shop, word: str, plan: str) -> None:
    """All of a payment goes back at the provider, and a pending charge is canceled there."""
    await refund_policy(shop, "cancel")
    await shop.get("/v1/refund-policy")
    customer, _ = await buyer(shop, f"{word}-refunded-outside", plan)
    payment = await paid(shop, customer)
    whole = (await shop.get(f"/v1/payments/{payment}"))["amount_minor"]
    await at_the_provider(shop, payment, whole)
    await shop.pump.quiet()
    await refund_policy(shop, "keep")
    body = {"amount_minor": 5, "currency": "EUR"}
    await shop.post(f"/v1/customers/{customer}/payments", body)
    await shop.pump.quiet()
    await shop.post(f"/v1/customers/{customer}/apply-unapplied", expect=200)
    slow = await shop.customer(f"{word}-slow")
    await shop.card(slow, "pending_ok")
    await shop.post("/v1/subscriptions", {"customer_id": slow, "plan_id": plan}, Prefer="wait=0")
    await shop.pump.woken()
    await cancel_there(shop, await paid(shop, slow))
    await shop.pump.quiet()


async def refunds(shop: Shop, word: str, plan: str) -> None:
    """Seen before, in part, from credit, refused by the bank, without an answer, made outside."""
    customer, _ = await buyer(shop, f"{word}-refunded", plan)
    payment = await paid(shop, customer)
    await preview(shop, payment, amount_minor=10)
    made = await refund(shop, payment, amount_minor=10)
    await shop.get(f"/v1/refunds/{made['id']}")
    await shop.fault("refund_declined", 1)
    await refund(shop, payment, amount_minor=20)
    await refund(shop, payment, source="credit")
    await at_the_provider(shop, payment, 30)
    await shop.pump.quiet()
    page = await shop.get(f"/v1/payments/{payment}/refunds", limit=1)
    await shop.get(f"/v1/payments/{payment}/refunds", limit=1, cursor=page["next_cursor"])
    await shop.fault("webhook_never", 1)
    await shop.fault("refund_no_reply", 1)
    await refund(shop, payment, amount_minor=40)
    await _refunded_outside(shop, word, plan)


async def disputed(shop: Shop, word: str, plan: str) -> None:
    """Won, lost and open, by each policy; looked for in every way."""
    for n, on_dispute in enumerate(("suspend", "cancel", "keep")):
        await policy(shop, on_dispute)
        customer, _ = await buyer(shop, f"{word}-disputed-{n}", plan)
        payment = await paid(shop, customer)
        ref = await dispute(shop, payment, amount_minor=100)
        [seen] = await disputes(shop, payment_id=payment)
        await dispute(shop, payment, amount_minor=50)
        await shop.pump.quiet()
        await decide(shop, ref, "lost" if n == 2 else "won")
        await shop.pump.quiet()
        for query in ({}, {"customer_id": customer}, {"payment_id": payment}, {"status": "opened"}):
            page = await shop.get("/v1/disputes", limit=1, **query)
            if page["has_more"]:
                await shop.get("/v1/disputes", limit=1, cursor=page["next_cursor"], **query)
        await shop.get(f"/v1/disputes/{seen['id']}")
    await shop.get("/v1/dispute-policy")
    await shop.journal()


async def dunning(shop: Shop, word: str, plan: str, poor: tuple[str, str]) -> None:
    """Policies come and go; what is past due is looked at, and tried by another card at once."""
    customer, subscription = poor
    body = {
        "name": f"{word} dear", "delays_s": [86400], "final_action": "uncollectible",
        "hard_decline_stops": True, "segment": {"plan_ids": [plan]},
    }  # fmt: skip
    made, again = [
        await shop.post("/v1/dunning-policies", body, Idempotency_Key=f"{word}-policy")
        for _ in range(2)
    ]
    assert made == again
    path = f"/v1/dunning-policies/{made['id']}"
    assert (await shop.raw("PUT", path, json=body)).json()["version"] == 2
    await shop.get(path)
    await shop.get("/v1/dunning-policies", limit=1)
    await shop.get(f"/v1/subscriptions/{subscription}/dunning")
    order = f"/v1/customers/{customer}/payment-methods/order"
    known = await shop.get(order)
    assert (await shop.raw("PUT", order, json=known)).status_code == 200
    card = {"customer_id": customer, "test_kind": "soft_decline"}
    method = await shop.post("/v1/payment-methods", card)
    await shop.pump.quiet()
    await shop.post(f"/v1/payment-methods/{method['id']}/default", expect=200)
    assert (await shop.raw("DELETE", path)).status_code == 204
    await shop.pump.quiet()


async def reconciliation(shop: Shop, word: str, plan: str) -> None:
    """Days compared, a payout, a payment that never arrived, a short one, money of nobody, a
    dispute that nobody told; each
    difference is repaired, and all is listed."""
    await shop.pump.quiet()
    path = f"/v1/connections/{await connection(shop)}/reconciliation"
    await terms(shop, fee_basis_points=290, pays_out_daily=True)
    assert (await shop.raw("PUT", path, json={"daily": True})).status_code == 200
    for fault in ("charge_phantom", "charge_short"):
        await shop.fault(fault, 1)
        await buyer(shop, f"{word}-{fault}", plan)
    owner, _ = await buyer(shop, f"{word}-owner", plan)
    await charge(shop, 100, f"dashboard-{word}")
    await shop.fault("webhook_never", 1)
    await dispute(shop, await paid(shop, owner), amount_minor=50)
    now = datetime.fromisoformat((await shop.get("/v1/clock"))["now_at"])
    await shop.move_to((now + timedelta(days=1, hours=2)).strftime("%Y-%m-%dT%H:%M:%S"))
    await reconcile(shop)
    await repair(shop, "payment_missing")
    await repair(shop, "amount_differs")
    await repair(shop, "capture_unmatched", customer_id=owner)
    await reconcile(shop)
    await terms(shop, pays_out_daily=False)
    assert (await shop.raw("PUT", path, json={"daily": False})).status_code == 200
    await shop.get("/v1/work-items", status="open")
    for listed in ("/v1/reconciliations", "/v1/payouts"):
        page = await shop.get(listed, limit=1)
        if page["next_cursor"]:
            await shop.get(listed, limit=1, cursor=page["next_cursor"])
