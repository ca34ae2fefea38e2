"""Customers and the catalogue through the public API."""

from __future__ import annotations

from typing import Any

import pytest

from tests.billing.conftest import Shop, flat


async def test_a_customer_is_created_changed_and_deleted(shop: Shop) -> None:
    made = await shop.customer(external_id="viewer-17", country="DE", locale="ru")

    assert {**made, "id": "cus"} == {
        "id": "cus",
        "external_id": "viewer-17",
        "name": "Ada Lovelace",
        "email": "ada@example.com",
        "currency": "EUR",
        "timezone": "Europe/Berlin",
        "locale": "ru",
        "country": "DE",
        "region": None,
        "tax_id": None,
        "tax_id_check": None,
        "tax_id_checked_at": None,
        "tax_exempt_reason": None,
        "tax_rate_ids": [],
        "created_at": "2026-03-01T12:00:00Z",
    }
    path = f"/v1/customers/{made['id']}"
    changed = await shop.client.patch(path, json={"email": "Ada@Example.org", "country": None})
    assert changed.json() == made | {"email": "Ada@Example.org", "country": None}
    assert (await shop.client.patch(path, json={"email": "Ada@Example.org"})).status_code == 200
    assert (await shop.get(path)) == changed.json()
    assert (await shop.get("/v1/customers", external_id="viewer-17"))["data"] == [changed.json()]

    assert (await shop.client.delete(path)).status_code == 204

    assert (await shop.get(path, status=404))["code"] == "not_found"
    assert (await shop.get("/v1/customers"))["data"] == []
    assert (await shop.get("/v1/customers", external_id="viewer-17"))["data"] == []
    assert (await shop.client.delete(path)).status_code == 404
    told = {
        "customer_id": made["id"],
        "external_id": "viewer-17",
        "currency": "EUR",
        "timezone": "Europe/Berlin",
    }
    assert await shop.events_about(made["id"]) == [
        ("customer.created", told),
        ("customer.updated", told),
        ("customer.deleted", told),
    ]


async def test_an_external_id_names_one_customer(shop: Shop) -> None:
    await shop.customer(external_id="viewer-17")
    again = {"name": "B", "email": "b@example.com", "currency": "EUR", "timezone": "UTC"}

    refused = await shop.post("/v1/customers", again | {"external_id": "viewer-17"}, status=409)

    assert (refused["code"], refused["pointer"]) == ("external_id_taken", "/external_id")
    assert await shop.events() == ["customer.created"]
    nameless = await shop.post("/v1/customers", again)
    assert nameless["external_id"] == nameless["id"]


async def test_the_same_request_twice_makes_one_customer(shop: Shop) -> None:
    body = {"name": "A", "email": "a@example.com", "currency": "EUR", "timezone": "UTC"}
    key = {"Idempotency-Key": "once"}
    first = await shop.client.post("/v1/customers", json=body, headers=key)

    second = await shop.client.post("/v1/customers", json=body, headers=key)
    other_input = await shop.client.post("/v1/customers", json=body | {"name": "B"}, headers=key)
    other_principal = await shop.client.post(
        "/v1/customers", json=body, headers=key | {"Authorization": "Bearer sk_test_second"}
    )

    assert second.json() == first.json()
    assert second.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    assert (other_input.status_code, other_input.json()["code"]) == (422, "idempotency_key_reused")
    assert other_principal.json()["id"] != first.json()["id"]
    assert await shop.events() == ["customer.created", "customer.created"]


async def test_lists_come_in_pages_newest_first(shop: Shop) -> None:
    made = [(await shop.customer(external_id=f"v{n}"))["external_id"] for n in range(5)]
    seen, cursor = [], None
    while True:
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        found = await shop.get("/v1/customers", **query)
        seen += [each["external_id"] for each in found["data"]]
        cursor = found["next_cursor"]
        assert found["has_more"] == (cursor is not None)
        if cursor is None:
            break

    assert seen == made[::-1]
    page = await shop.get("/v1/customers", limit=2)
    refused = await shop.get("/v1/products", status=422, cursor=page["next_cursor"])
    assert refused["pointer"] == "/query/cursor"
    for bad in ("x", "W10", "WyJhIl0", "WzFd"):
        assert (await shop.get("/v1/customers", status=422, cursor=bad))["code"] == (
            "invalid_request"
        )


async def test_a_product_and_what_it_gives_access_to(shop: Shop) -> None:
    resources = [f"film-{n}" for n in range(5_000)]
    made = await shop.product(resources=resources)
    path = f"/v1/products/{made['id']}"

    changed = await shop.client.patch(path, json={"resources": ["film-2", "film-1"]})

    assert made["resources"] == resources
    assert changed.json() == made | {"resources": ["film-2", "film-1"]}
    assert (await shop.get("/v1/products", code="cinema"))["data"] == [changed.json()]
    too_many = {"code": "more", "name": "More", "resources": [*resources, "film-5000"]}
    assert (await shop.post("/v1/products", too_many, status=422))["pointer"] == "/resources"
    twice = {"code": "more", "name": "More", "resources": ["film-1", "film-1"]}
    assert (await shop.post("/v1/products", twice, status=422))["pointer"] == "/resources"
    taken = {"code": "cinema", "name": "Other", "resources": []}
    assert (await shop.post("/v1/products", taken, status=409))["code"] == "code_taken"
    assert await shop.events() == ["product.created", "product.updated"]


async def test_a_plan_keeps_its_versions(shop: Shop) -> None:
    yearly = {"unit": "year", "count": 1}
    plan = await shop.plan(
        flat(999),
        flat(currency="JPY", amount_minor="1500", interval=yearly),
        flat(currency="EUR", code="seats", model="per_unit", unit_amount="0.50", amount_minor=None),
    )

    latest = await shop.post(f"/v1/plans/{plan['id']}/versions", {"prices": [flat(1299)]})

    assert plan["latest"]["grace_days"] == 16
    assert [
        (each["code"], each["currency"], each["amount_minor"], each["unit_amount"])
        for each in plan["latest"]["prices"]
    ] == [
        ("monthly", "EUR", 999, None),
        ("monthly", "JPY", 1500, None),
        ("seats", "EUR", None, "0.5"),
    ]
    assert (latest["latest"]["version"], latest["latest"]["grace_days"]) == (2, 16)
    assert latest["latest"]["prices"][0]["amount_minor"] == 1299
    versions = await shop.get(f"/v1/plans/{plan['id']}/versions")
    assert versions["data"] == [latest["latest"], plan["latest"]]
    assert await shop.get(f"/v1/plans/{plan['id']}") == latest
    assert (await shop.get("/v1/plans", code="basic"))["data"] == [latest]
    assert await shop.events() == ["product.created", "plan.created", "plan.versioned"]


async def test_prices_that_do_not_fit_together_are_refused(shop: Shop) -> None:
    product = (await shop.product())["id"]
    body = {"code": "basic", "name": "Basic", "product_id": product}
    weekly = flat(code="weekly", interval={"unit": "week", "count": 1})

    mixed = await shop.post("/v1/plans", body | {"prices": [flat(), weekly]}, status=422)
    twice = await shop.post("/v1/plans", body | {"prices": [flat(), flat(5)]}, status=422)

    assert (mixed["code"], mixed["pointer"]) == ("mixed_intervals", "/prices/1/interval")
    assert (twice["code"], twice["pointer"]) == ("duplicate_price", "/prices/1/code")
    assert (await shop.get("/v1/plans"))["data"] == []
    assert await shop.events() == ["product.created"]


async def test_discounts_by_percentage_and_by_amount(shop: Shop) -> None:
    percent = await shop.post(
        "/v1/discounts",
        {"code": "p", "name": "P", "percent": "12.5", "duration": "periods", "periods": 3},
    )
    fixed = await shop.post(
        "/v1/discounts",
        {"code": "f", "name": "F", "amount_minor": 100, "currency": "EUR", "duration": "once"},
    )

    assert (percent["percent"], percent["periods"]) == ("12.5", 3)
    assert (fixed["amount_minor"], fixed["currency"], fixed["percent"]) == (100, "EUR", None)
    assert (await shop.get("/v1/discounts"))["data"] == [fixed, percent]
    assert await shop.get(f"/v1/discounts/{fixed['id']}") == fixed
    assert await shop.events() == ["discount.created", "discount.created"]


CUSTOMER = {"name": "A", "email": "a@example.com", "currency": "EUR", "timezone": "UTC"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("currency", "eur"),
        ("currency", "XXX"),
        ("timezone", "Mars"),
        ("timezone", "../etc/passwd"),
        ("email", "a\nb@example.com"),
        ("email", "nobody"),
        ("name", ""),
        ("name", "x" * 201),
        ("external_id", ""),
        ("locale", "English"),
        ("country", "Germany"),
        ("unknown", 1),
    ],
)
async def test_a_bad_customer_is_refused(shop: Shop, field: str, value: Any) -> None:
    refused = await shop.post("/v1/customers", CUSTOMER | {field: value}, status=422)

    assert (refused["code"], refused["pointer"]) == ("invalid_request", f"/{field}")
    assert refused["fix"]
    assert (await shop.get("/v1/customers"))["data"] == []
    assert await shop.events() == []


@pytest.mark.parametrize(
    ("price", "pointer"),
    [
        (flat("10.00"), "/prices/0/amount_minor"),
        (flat("1e3"), "/prices/0/amount_minor"),
        (flat(True), "/prices/0/amount_minor"),
        (flat(10**16), "/prices/0/amount_minor"),
        (flat(-1), "/prices/0/amount_minor"),
        (flat(9.5), "/prices/0/amount_minor"),
        (flat(None), "/prices/0"),
        (flat(model="per_unit"), "/prices/0"),
        (flat(None, model="per_unit", unit_amount="NaN"), "/prices/0/unit_amount"),
        (flat(None, model="per_unit", unit_amount="-1"), "/prices/0/unit_amount"),
        (flat(None, model="per_unit", unit_amount="1000000000000001"), "/prices/0/unit_amount"),
        (flat(None, model="per_unit", unit_amount="0.0000000000001"), "/prices/0/unit_amount"),
        (flat(interval={"unit": "month", "count": 0}), "/prices/0/interval/count"),
        (flat(interval={"unit": "month", "count": True}), "/prices/0/interval/count"),
        (flat(interval={"unit": "moon"}), "/prices/0/interval/unit"),
        (flat(currency="eur"), "/prices/0/currency"),
    ],
)
async def test_a_bad_price_is_refused(shop: Shop, price: dict[str, Any], pointer: str) -> None:
    product = (await shop.product())["id"]
    body = {"code": "basic", "name": "Basic", "product_id": product, "prices": [price]}

    refused = await shop.post("/v1/plans", body, status=422)

    assert (refused["code"], refused["pointer"]) == ("invalid_request", pointer)
    assert (await shop.get("/v1/plans"))["data"] == []


@pytest.mark.parametrize(
    "terms",
    [
        {"percent": "0"},
        {"percent": "101"},
        {"percent": "Infinity"},
        {"percent": "10", "amount_minor": 5, "currency": "EUR"},
        {"amount_minor": 5},
        {"amount_minor": 0, "currency": "EUR"},
        {"percent": "10", "duration": "periods"},
        {"percent": "10", "periods": 2},
        {},
    ],
)
async def test_a_bad_discount_is_refused(shop: Shop, terms: dict[str, Any]) -> None:
    body = {"code": "d", "name": "D", "duration": "once"} | terms

    assert (await shop.post("/v1/discounts", body, status=422))["code"] == "invalid_request"

    assert (await shop.get("/v1/discounts"))["data"] == []


async def test_raw_bytes_that_are_not_acceptable(shop: Shop) -> None:
    for raw in (
        b'{"code": "a", "code": "b", "name": "N", "resources": []}',
        b'{"code": "a", "name": "N\\u0000", "resources": []}',
        b'{"code": "a", "name": NaN, "resources": []}',
        b'{"code": "a", "name": "N", "resources": ' + b"[" * 1_000 + b"]" * 1_000 + b"}",
    ):
        answer = await shop.client.post(
            "/v1/products", content=raw, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code in {400, 422}, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
    assert (await shop.get("/v1/products"))["data"] == []


async def test_a_stranger_finds_nothing(shop: Shop) -> None:
    customer = await shop.customer()
    plan = await shop.plan()
    discount = await shop.post(
        "/v1/discounts", {"code": "d", "name": "D", "percent": "5", "duration": "forever"}
    )
    for path in (
        f"/v1/customers/{customer['id']}",
        f"/v1/customers/{customer['id']}/balance",
        f"/v1/customers/{customer['id']}/statement",
        f"/v1/products/{plan['product_id']}",
        f"/v1/plans/{plan['id']}",
        f"/v1/plans/{plan['id']}/versions",
        f"/v1/discounts/{discount['id']}",
        f"/v1/events?customer_id={customer['id']}",
        f"/v1/subscriptions?customer_id={customer['id']}",
        f"/v1/invoices?customer_id={customer['id']}",
    ):
        answer = await shop.stranger.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
    body = {"code": "x", "name": "X", "product_id": plan["product_id"], "prices": [flat()]}
    nested = await shop.stranger.post("/v1/plans", json=body)
    assert nested.json()["pointer"] == "/product_id"
    for path in ("customers", "products", "plans", "discounts", "events"):
        assert (await shop.stranger.get(f"/v1/{path}")).json()["data"] == [], path
    patched = await shop.stranger.patch(f"/v1/customers/{customer['id']}", json={"name": "X"})
    assert patched.status_code == 404
    assert (await shop.stranger.delete(f"/v1/customers/{customer['id']}")).status_code == 404
    assert await shop.get(f"/v1/customers/{customer['id']}") == customer


async def test_a_reader_cannot_write(shop: Shop) -> None:
    customer = await shop.customer()

    refused = await shop.reader.post("/v1/customers", json=CUSTOMER)

    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert (await shop.reader.get(f"/v1/customers/{customer['id']}")).json() == customer
