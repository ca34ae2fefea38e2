"""What tax stories say to a shop."""

from __future__ import annotations

from typing import Any

from tests.stories.shop import Shop


async def settings(shop: Shop, country: str = "DE", **more: Any) -> Any:
    answer = await shop.raw("PUT", "/v1/tax-settings", json={"country": country, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def rule(shop: Shop, code: str, percent: str, country: str = "DE", **more: Any) -> Any:
    """A rule with a new rate; ``region``, ``levy`` and ``compound`` are the rate's."""
    of_rate = {name: more.pop(name) for name in ("region", "levy", "compound") if name in more}
    rate = {"code": code, "name": code.upper(), "percent": percent, "country": country, **of_rate}
    return await shop.post("/v1/tax-rules", {"rate": rate, **more})


async def buyer(shop: Shop, name: str = "ada", **fields: Any) -> str:
    made = await shop.post(
        "/v1/customers",
        {"external_id": name, "name": name.title(), "email": f"{name}@example.com",
         "currency": "EUR", "timezone": "Europe/Berlin", **fields},
    )  # fmt: skip
    await shop.pump.quiet()
    return str(made["id"])


async def change(shop: Shop, customer: str, expect: int = 200, **fields: Any) -> Any:
    answer = await shop.raw("PATCH", f"/v1/customers/{customer}", json=fields)
    assert answer.status_code == expect, answer.text
    return answer.json()


async def preview(shop: Shop, who: Any, *amounts: Any, expect: int = 200, **query: str) -> Any:
    """``who`` is a customer's id or a visitor's fields; an amount is net, or a whole line."""
    lines = [{"amount_minor": each} if isinstance(each, int) else each for each in amounts]
    body = {"customer_id" if isinstance(who, str) else "buyer": who, "lines": lines}
    answer = await shop.raw("POST", "/v1/tax-preview", json=body, params=query)
    assert answer.status_code == expect, answer.text
    return answer.json()


def figures(found: Any) -> list[tuple[int, int, int, str]]:
    """Each line's net, tax, gross and reason."""
    return [
        (line["net_minor"], line["tax_minor"], line["gross_minor"], line["reason"])
        for line in found["lines"]
    ]


def by_rate(found: Any) -> list[tuple[str, str, int, int]]:
    """Each rate's name, percentage, base and tax."""
    return [
        (each["name"], each["percent"], each["base_minor"], each["tax_minor"])
        for each in found["tax"]["rates"]
    ]


async def told(shop: Shop, *prefixes: str) -> list[str]:
    """The types of the tenant's events with these prefixes, in order."""
    await shop.pump.quiet()
    page = await shop.get("/v1/events", limit=100)
    assert not page["has_more"]
    return [each["type"] for each in page["data"] if each["type"].startswith(prefixes)]
