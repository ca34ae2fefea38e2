"""A payment's whole history, its cancellation at every stage, and the lists of payments."""

from __future__ import annotations

from typing import Any

import pytest

from tests.stories.payers import heading, visit
from tests.stories.shop import LOW_FUNDS, Shop


async def owed(shop: Shop, kind: str = "soft_decline") -> tuple[str, str]:
    """A customer whose first invoice was declined: ``(customer, invoice)``."""
    viewer, plan = await shop.customer(), await shop.plan()
    await shop.card(viewer, kind)
    await shop.refused(viewer, plan)
    return viewer, (await shop.last_invoice(viewer))["id"]


async def told(shop: Shop, payment: str) -> list[tuple[Any, ...]]:
    """``(kind, operation, http status, state, note)`` of the payment's history."""
    history = await shop.get(f"/v1/payments/{payment}/history")
    assert history["payment"]["id"] == payment
    names = ("kind", "operation", "http_status", "state", "note")
    return [tuple(each.get(name) for name in names) for each in history["entries"]]


@pytest.mark.long
async def test_a_history_tells_answers_webhooks_and_refunds(shop: Shop) -> None:
    viewer, invoice = await owed(shop)
    declined = (await shop.get("/v1/payments", customer_id=viewer))["data"][0]["id"]
    assert await told(shop, declined) == [
        ("payment_created", None, None, None, None),
        ("attempt_created", None, None, None, None),
        ("answer", "charge", 200, "failed", None),
        ("attempt_finished", None, None, "failed", None),
        ("payment_finished", None, None, "failed", None),
    ]
    entries = (await shop.get(f"/v1/payments/{declined}/history"))["entries"]
    answer = entries[2]["answer"]
    assert (answer["status"], answer["code"]) == ("declined", "do_not_honor")

    page = await shop.post("/v1/payments", {"invoice_id": invoice, "mode": "page"})
    await shop.pay_page(page["next_action"]["redirect_url"], LOW_FUNDS)
    await shop.pay_page(page["next_action"]["redirect_url"])
    await shop.post(f"/v1/payments/{page['id']}/refunds", {"amount_minor": 99})
    assert await told(shop, page["id"]) == [
        ("payment_created", None, None, None, None),
        ("attempt_created", None, None, None, None),
        ("answer", "checkout", 200, "requires_action", None),
        ("webhook", "page.completed", None, None, None),
        ("answer", "fetch", 200, "succeeded", None),
        ("attempt_finished", None, None, "succeeded", None),
        ("payment_finished", None, None, "succeeded", None),
        ("refund_created", None, None, None, None),
        ("refund_finished", None, None, "succeeded", None),
        ("webhook", "refund.succeeded", None, None, None),
    ]
    fetched = (await shop.get(f"/v1/payments/{page['id']}/history"))["entries"]
    assert "token" in fetched[4]["answer"]["method"]
    assert "tok_" not in str(fetched)  # masked
    webhook = fetched[3]["webhook_id"]
    assert (await shop.get(f"/v1/received-webhooks/{webhook}"))["id"] == webhook
    await shop.check()


async def test_answers_that_were_lost_are_told_and_plain_successes_keep_none(shop: Shop) -> None:
    viewer, plan = await shop.customer(), await shop.plan()
    await shop.card(viewer)
    await shop.fault("charge_500", 1)
    body = {"customer_id": viewer, "plan_id": plan}
    await shop.post("/v1/subscriptions", body, Prefer="wait=0")
    await shop.pump.woken()
    payment = (await shop.get("/v1/payments", customer_id=viewer))["data"][0]["id"]
    assert ("answer", "charge", 500, "unknown", "32 bytes") in [
        (*each[:4], "32 bytes" if each[4] and each[4].endswith("bytes") else each[4])
        for each in await told(shop, payment)
    ]
    await shop.move_to("2026-01-31T10:06:00")
    assert ("answer", "fetch", 200, "succeeded", None) in await told(shop, payment)

    await shop.move_to("2026-02-28T10:00:01")
    renewal = (await shop.get("/v1/payments", customer_id=viewer))["data"][0]["id"]
    assert [kind for kind, *_ in await told(shop, renewal)] == [
        "payment_created", "attempt_created", "attempt_finished", "payment_finished",
    ]  # fmt: skip
    await shop.check()


async def test_a_payment_is_canceled_before_it_is_sent_and_while_its_page_is_open(
    shop: Shop,
) -> None:
    viewer, plan = await shop.customer(), await shop.plan()
    await shop.card(viewer)
    await shop.raw("PUT", "/v1/kill-switches/collections", json={"on": True, "reason": "a check"})
    await shop.pump.woken()
    await shop.post("/v1/subscriptions", {"customer_id": viewer, "plan_id": plan}, Prefer="wait=0")
    await shop.pump.woken()
    charge = (await shop.get("/v1/payments", customer_id=viewer))["data"][0]
    assert charge["status"] == "processing"  # ready, and held back
    await shop.new_events(viewer)
    canceled = await shop.post(f"/v1/payments/{charge['id']}/cancel", expect=200)
    assert canceled["status"] == "canceled"
    assert await shop.new_events(viewer) == ["payment.canceled"]
    await shop.post(f"/v1/payments/{charge['id']}/cancel", expect=200)  # it stays so
    await shop.raw("PUT", "/v1/kill-switches/collections", json={"on": False, "reason": "checked"})
    await shop.pump.woken()
    assert await shop.captured() == {}

    # The invoice is free again: a page, closed at the provider before it is canceled.
    invoice = (await shop.last_invoice(viewer))["id"]
    page = await shop.post("/v1/payments", {"invoice_id": invoice, "mode": "page"})
    await shop.post(f"/v1/payments/{page['id']}/cancel", expect=200)
    closed = await visit(shop, page["next_action"]["redirect_url"])
    assert closed.status_code == 410
    assert heading(await visit(shop, page["status_url"])) == "The payment was canceled"

    # A payer who was quicker has paid.
    page = await shop.post("/v1/payments", {"invoice_id": invoice, "mode": "page"})
    await shop.fault("webhook_never", 3)
    await shop.pay_page(page["next_action"]["redirect_url"])
    late = await shop.post(f"/v1/payments/{page['id']}/cancel", expect=200)
    assert late["status"] == "succeeded"
    refused = await shop.post(f"/v1/payments/{page['id']}/cancel", expect=409)
    assert (refused["code"], refused["reason"]) == ("payment_not_cancelable", "succeeded")
    assert "refund" in refused["detail"]
    await shop.check()


async def test_what_may_have_moved_money_is_not_canceled(shop: Shop) -> None:
    viewer, plan = await shop.customer(), await shop.plan()
    await shop.card(viewer)
    await shop.fault("charge_no_reply", 1)
    body = {"customer_id": viewer, "plan_id": plan}
    await shop.post("/v1/subscriptions", body, Prefer="wait=0")
    await shop.pump.woken()
    unknown = (await shop.get("/v1/payments", customer_id=viewer))["data"][0]
    refused = await shop.post(f"/v1/payments/{unknown['id']}/cancel", expect=409)
    assert refused["reason"] == "unknown"
    await shop.move_to("2026-01-31T10:06:00")
    await shop.check()


async def test_payments_are_listed_by_any_filters_together(shop: Shop) -> None:
    viewer, invoice = await owed(shop)
    await shop.move_to("2026-01-31T11:00:00")
    card = await shop.card(viewer)
    paid = await shop.post("/v1/payments", {"invoice_id": invoice, "payment_method_id": card})
    declined = (await shop.get("/v1/payments", status="failed"))["data"]

    async def listed(**query: Any) -> list[str]:
        return [each["id"] for each in (await shop.get("/v1/payments", **query))["data"]]

    both = [paid["id"], declined[0]["id"]]
    connection = paid["connection_id"]
    assert await listed(customer_id=viewer, invoice_id=invoice) == both
    assert await listed(connection_id=connection, status="succeeded") == both[:1]
    assert await listed(created_from="2026-01-31T10:30:00Z") == both[:1]
    assert await listed(created_until="2026-01-31T10:30:00Z", customer_id=viewer) == both[1:]
    assert await listed(created_from="2026-01-31T10:30:00Z", status="failed") == []
    assert await listed(created_from="2026-01-31T10:00:00Z", limit="1") == both[:1]
