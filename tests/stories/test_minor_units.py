"""Currencies without decimals and with three: charged, paid on a page, shown, refunded exactly."""

from __future__ import annotations

import pytest

from tests.stories.payers import visit
from tests.stories.shop import Shop

CASES = [
    ("JPY", 1_500, "¥1,500", "1\N{NO-BREAK SPACE}500\N{NO-BREAK SPACE}¥", 499),
    ("KWD", 12_345, "KWD\N{NO-BREAK SPACE}12.345", "12,345\N{NO-BREAK SPACE}KWD", 1),
    ("BHD", 10, "BHD\N{NO-BREAK SPACE}0.010", "0,010\N{NO-BREAK SPACE}BHD", 3),
]


@pytest.mark.parametrize(("currency", "amount", "english", "russian", "back"), CASES)
async def test_amounts_are_whole_minor_units_everywhere(
    shop: Shop, currency: str, amount: int, english: str, russian: str, back: int
) -> None:
    plan = await shop.plan(amounts={currency: amount})
    viewer = await shop.customer(currency=currency)
    bought = await shop.post(
        "/v1/subscriptions", {"customer_id": viewer, "plan_id": plan, "collection": "page"}
    )
    page = bought["next_action"]["redirect_url"]
    payment = (await shop.get("/v1/payments", customer_id=viewer))["data"][0]
    assert (payment["amount_minor"], payment["currency"]) == (amount, currency)
    for address in (page, payment["status_url"]):
        assert english in (await visit(shop, f"{address}?lang=en")).text
        assert russian in (await visit(shop, f"{address}?lang=ru")).text

    await shop.pay_page(page)
    await shop.move_to("2026-02-28T10:00:01")  # renewed by the saved card
    assert await shop.captured() == {currency: 2 * amount}
    refund = await shop.post(f"/v1/payments/{payment['id']}/refunds", {"amount_minor": back})
    assert (refund["status"], refund["amount_minor"]) == ("succeeded", back)
    assert await shop.captured() == {currency: 2 * amount - back}
    assert (await shop.get(f"/v1/payments/{payment['id']}"))["refunded_minor"] == back
    await shop.check()


async def test_a_currency_that_no_connection_takes_is_refused_clearly(shop: Shop) -> None:
    plan, viewer = await shop.plan(amounts={"KWD": 500}), await shop.customer(currency="KWD")
    await shop.card(viewer)
    connections = (await shop.get("/v1/connections"))["data"]
    limited = await shop.raw(
        "PATCH", f"/v1/connections/{connections[0]['id']}", json={"currencies": ["EUR"]}
    )
    assert limited.status_code == 200, limited.text
    refused = await shop.post(
        "/v1/subscriptions", {"customer_id": viewer, "plan_id": plan}, expect=402
    )
    assert refused["failure_code"] == "currency_not_taken"
    page = {"invoice_id": refused["invoice_id"], "mode": "page"}
    assert (await shop.post("/v1/payments", page, expect=422))["code"] == "currency_not_taken"
    link = await shop.post("/v1/payment-links", {"invoice_id": refused["invoice_id"]})
    shown = await visit(shop, link["url"], method="POST", data={"amount": "500"})
    assert shown.status_code == 409
    assert "could not be opened" in shown.text
    assert await shop.captured() == {}
    await shop.check()
