"""What of a shop's life concerns buyers, discounts, credit notes, pauses and taxes."""

from __future__ import annotations

from typing import Any

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
        return_url="https://shop.example/x",
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
