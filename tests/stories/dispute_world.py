"""What dispute stories say to a shop and to the payer's bank."""

from __future__ import annotations

from typing import Any

from tests.stories.shop import Shop

OPENED = ["dispute.opened", "work_item.opened"]
CLOSED = ["dispute.closed", "work_item.closed"]
FOUND_DECIDED = ["dispute.opened", "dispute.closed", "work_item.opened", "work_item.closed"]
"""The first that was heard of it is that it is decided."""


async def at_the_bank(shop: Shop, path: str, body: Any, *, expect: int = 200) -> Any:
    key, _ = shop.assembly.sandbox.credentials(shop.tenant_id)
    answer = await shop.raw(
        "POST", f"/sandbox/v1/disputes{path}", json=body,
        headers={"authorization": f"Bearer {key}"},
    )  # fmt: skip
    assert answer.status_code == expect, answer.text
    return answer.json()


async def dispute(shop: Shop, payment: str, *, expect: int = 200, **body: Any) -> str:
    """The payer's bank disputes a payment; the dispute's name at the provider."""
    seen = await shop.get(f"/v1/payments/{payment}")
    made = await at_the_bank(
        shop, "", {"attempt_id": seen["attempts"][-1]["id"], "fee_minor": 150} | body,
        expect=expect,
    )  # fmt: skip
    return str(made.get("id") or made["code"])


async def decide(shop: Shop, ref: str, outcome: str, **body: Any) -> None:
    await at_the_bank(shop, f"/{ref}/close", {"outcome": outcome} | body)


async def disputes(shop: Shop, **query: Any) -> list[Any]:
    await shop.pump.woken()
    return list((await shop.get("/v1/disputes", **query))["data"])


async def policy(shop: Shop, on_dispute: str) -> None:
    answer = await shop.raw("PUT", "/v1/dispute-policy", json={"on_dispute": on_dispute})
    assert answer.status_code == 200, answer.text
