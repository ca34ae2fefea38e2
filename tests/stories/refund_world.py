"""What refund stories say to a shop."""

from __future__ import annotations

from typing import Any

from tests.stories.shop import Shop

MADE = ["credit_note.issued", "refund.created", "refund.succeeded"]


async def paid(shop: Shop, viewer: str) -> str:
    """The customer's newest payment."""
    return str((await shop.get("/v1/payments", customer_id=viewer))["data"][0]["id"])


async def refund(shop: Shop, payment: str, *, expect: int = 201, **body: Any) -> Any:
    return await shop.post(f"/v1/payments/{payment}/refunds", body, expect=expect)


async def preview(shop: Shop, payment: str, *, expect: int = 200, **body: Any) -> Any:
    return await shop.post(f"/v1/payments/{payment}/refund-preview", body, expect=expect)


async def found(shop: Shop, refund_id: str) -> Any:
    await shop.pump.woken()
    return await shop.get(f"/v1/refunds/{refund_id}")


async def items(shop: Shop) -> list[tuple[str, int]]:
    """Kinds and amounts of the open work items."""
    page = await shop.get("/v1/work-items")
    return [(each["kind"], each["data"]["amount_minor"]) for each in page["data"]]


async def at_the_provider(shop: Shop, payment: str, amount: int) -> None:
    """Somebody refunds in the provider's own dashboard."""
    seen = await shop.get(f"/v1/payments/{payment}")
    key, _ = shop.assembly.sandbox.credentials(shop.tenant_id)
    once = f"by-hand-{payment}-{amount}"
    answer = await shop.raw(
        "POST", "/sandbox/v1/refunds",
        json={"attempt_id": seen["attempts"][-1]["id"], "amount_minor": amount, "currency": "EUR"},
        headers={"authorization": f"Bearer {key}", "idempotency-key": once},
    )  # fmt: skip
    assert answer.status_code == 200, answer.text


async def refund_policy(shop: Shop, on_outside_refund: str) -> None:
    answer = await shop.raw(
        "PUT", "/v1/refund-policy", json={"on_outside_refund": on_outside_refund}
    )
    assert answer.status_code == 200, answer.text


async def cancel_there(shop: Shop, payment: str) -> None:
    """Somebody cancels a pending charge in the provider's own dashboard; twice is once."""
    seen = await shop.get(f"/v1/payments/{payment}")
    key, _ = shop.assembly.sandbox.credentials(shop.tenant_id)
    headers = {"authorization": f"Bearer {key}"}
    attempt = seen["attempts"][-1]["id"]
    charge = await shop.raw("GET", f"/sandbox/v1/attempts/{attempt}", headers=headers)
    path = f"/sandbox/v1/charges/{charge.json()['id']}/cancel"
    for _ in range(2):
        answer = await shop.raw("POST", path, json={}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (200, "canceled"), answer.text
