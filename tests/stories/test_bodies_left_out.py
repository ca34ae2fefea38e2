"""Where everything that may be said is optional, a request may say nothing at all."""

from __future__ import annotations

from typing import Any

from tests.stories.shop import Shop
from tests.stories.test_offline_payments import owing


async def bare(shop: Shop, path: str, status: int) -> Any:
    """The answer to a POST without a body and without a type of one."""
    answer = await shop.raw("POST", path)
    assert answer.status_code == status, answer.text
    await shop.pump.quiet()
    return answer.json()


async def test_a_subscription_is_resumed_and_reactivated(shop: Shop) -> None:
    viewer, plan = await shop.customer(), await shop.plan()
    await shop.card(viewer)
    bought = await shop.subscribe(viewer, plan)
    path = f"/v1/subscriptions/{bought['id']}"
    await shop.post(f"{path}/pause", {"at": "now", "credit": "none"}, expect=200)
    await shop.pump.quiet()

    assert (await bare(shop, f"{path}/preview-resume", 200))["total_minor"] == 0
    assert (await bare(shop, f"{path}/resume", 200))["status"] == "active"
    await shop.post(f"{path}/cancel", {"when": "now"}, expect=200)
    assert (await bare(shop, f"{path}/reactivate", 200))["status"] == "active"
    await shop.check()


async def test_all_is_captured_previewed_and_compared(shop: Shop) -> None:
    viewer, _, invoice = await owing(shop)
    card = await shop.card(viewer)
    wish = {"invoice_id": invoice, "payment_method_id": card, "capture_method": "manual"}
    payment = await shop.post("/v1/payments", wish)
    await shop.pump.quiet()
    path = f"/v1/payments/{payment['id']}"

    await bare(shop, f"{path}/capture", 200)
    assert (await shop.get(path))["status"] == "succeeded"
    assert (await bare(shop, f"{path}/refund-preview", 200))["amount_minor"] == 999
    setup = await bare(shop, f"/v1/customers/{viewer}/payment-method-setups", 201)
    assert setup["next_action"]["redirect_url"]
    [connection] = (await shop.get("/v1/connections"))["data"]
    run = await bare(shop, f"/v1/connections/{connection['id']}/reconcile", 202)
    assert (await shop.get(f"/v1/reconciliations/{run['id']}"))["status"] == "done"
    refused = await bare(shop, f"{path}/refunds", 422)
    assert refused["code"] == "invalid_request", "money goes back only where it is said"
    await shop.check()
