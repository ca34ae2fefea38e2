"""What stays unknown becomes a person's, and is settled by one call."""

from __future__ import annotations

import asyncio
from typing import Any

from subledger.platform import ids
from subledger.platform.db import story
from subledger.platform.telemetry import metrics
from subledger.services.payments.store import intents
from tests.stories.reconciling import item, open_items, reconcile, repair
from tests.stories.refund_world import found, paid, refund
from tests.stories.shop import Shop
from tests.stories.test_adjustments import books

_WORKER = story("tests.asking_worker")
UNKNOWN_FOR_LONG = "2026-02-07T10:00:00"


async def _repaired_while_a_worker_asks(shop: Shop) -> Any:
    """The worker has the question in hand: who repairs waits for what it is told."""
    [payment] = (await shop.get("/v1/payments", status="unknown"))["data"]
    last = (await shop.get(f"/v1/payments/{payment['id']}"))["attempts"][-1]["id"]
    attempt = (shop.tenant_id, ids.parse("att", last))
    database = shop.assembly.databases["payments"]
    async with database.transaction(_WORKER, tenants=[shop.tenant_id]) as tx:
        await intents.ask(tx, {attempt: "fetch"})
        claimed = await intents.claim(tx, [attempt], lease_s=60.0)
    path = f"/v1/work-items/{(await item(shop, 'payment_unknown'))['id']}/repair"
    repairing = asyncio.create_task(shop.api.post(path, json={}))
    await asyncio.wait([repairing], timeout=0.2)
    assert not repairing.done()
    async with database.transaction(_WORKER, tenants=[shop.tenant_id]) as tx:
        await intents.done(tx, claimed)
    await shop.pump.quiet()
    answer = await repairing
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_refund_unknown_for_a_week_is_settled_by_hand(seats):
    shop, viewer, _ = seats
    payment = await paid(shop, viewer)
    await shop.fault("refund_no_reply", 1)
    await shop.fault("webhook_never", 1)
    await shop.fault("refunds_silent", 99)
    made = await refund(shop, payment, amount_minor=500)
    assert made["status"] == "unknown"
    await shop.new_events(viewer)

    await shop.move_to(UNKNOWN_FOR_LONG)

    assert await open_items(shop) == [("refund_unknown", 500)]
    assert await shop.new_events(viewer) == [
        "reconciliation.difference_found", "work_item.opened",
    ]  # fmt: skip
    refused = await repair(shop, "refund_unknown", action="succeeded", expect=409)
    assert refused["code"] == "work_item_not_repairable"
    assert "reference" in refused["detail"]

    done = await repair(
        shop, "refund_unknown", action="succeeded", reference="statement of 2 February"
    )

    assert (done["status"], done["close_reason"]) == ("closed", "succeeded")
    assert (await found(shop, made["id"]))["status"] == "succeeded"
    assert await shop.new_events(viewer) == [
        "reconciliation.difference_closed", "refund.succeeded", "work_item.closed",
    ]  # fmt: skip
    assert (await books(shop))["provider_clearing"] == 1500
    await shop.fault("refunds_silent", 0)
    assert (await reconcile(shop))["counts"]["differences"] == 0
    await shop.check()


async def test_a_payment_unknown_for_a_week_is_asked_about_and_true_at_last(seats):
    shop, _, _ = seats
    await shop.move_to("2026-02-28T09:00:00")
    await shop.fault("charge_no_reply", 1)
    await shop.fault("webhook_never", 1)
    await shop.fault("attempts_silent", 99)
    await shop.move_to("2026-03-08T10:00:00")
    assert await open_items(shop) == [("payment_unknown", 2000)]
    measured = next(each for each in shop.assembly.steps if each.name.endswith("measure_states"))
    await measured.run(measured.limit)
    named = {"kind": "attempt", "state": "unknown"}
    age_s = metrics.registry.get_sample_value("subledger_oldest_state_seconds", named)
    assert age_s is not None
    assert 0 <= age_s < 600
    unsure = await repair(shop, "payment_unknown", expect=409)
    assert unsure["code"] == "repair_unsure"
    assert (await item(shop, "payment_unknown"))["status"] == "open"

    await shop.fault("attempts_silent", 0)
    done = await _repaired_while_a_worker_asks(shop)

    assert (done["status"], done["close_reason"]) == ("closed", "agrees")
    assert await shop.captured() == {"EUR": 4000}
    assert await open_items(shop) == []
    await shop.check()
