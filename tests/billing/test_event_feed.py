"""The event feed through the public API: read on and on, in windows, after a restore."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from subledger.contracts.events import Event
from subledger.platform import ids
from tests.billing.conftest import Shop

DAY = timedelta(days=1)


async def _buy(shop: Shop, customer: Any, plan: Any, status: int = 201, **fields: Any) -> Any:
    body = {"customer_id": customer["id"], "plan_id": plan["id"]}
    return await shop.post("/v1/subscriptions", body | fields, status=status)


async def _invoice_of(shop: Shop, subscription: Any) -> Any:
    return await shop.get(f"/v1/invoices/{subscription['latest_invoice_id']}")


async def test_the_event_feed_is_read_on_and_on(shop: Shop) -> None:
    plan = await shop.plan()
    customers = [await shop.customer() for _ in range(4)]
    for each in customers:
        await _buy(shop, each, plan)

    async def read(cursor: str | None, limit: int, **query: Any) -> tuple[list[Any], str]:
        seen = []
        while True:
            asked = query | {"limit": limit} | ({"cursor": cursor} if cursor else {})
            page = await shop.get("/v1/events", **asked)
            assert len(page["data"]) <= limit
            seen += page["data"]
            cursor = page["next_cursor"]
            assert cursor is not None
            if not page["has_more"]:
                return seen, cursor

    whole, end = await read(None, 100)
    slowly, slow_end = await read(None, 3)

    assert sorted(each["id"] for each in slowly) == sorted(each["id"] for each in whole)
    assert len({each["id"] for each in whole}) == len(whole) == 2 + 4 * 3
    assert slow_end == end
    for each in customers:
        own, _ = await read(None, 2, customer_id=each["id"])
        assert [one["type"] for one in own] == [
            "customer.created",
            "subscription.created",
            "invoice.finalized",
        ]
        assert [one for one in slowly if one["subject"] == each["id"]] == own
    assert await read(end, 3) == ([], end)
    late = await shop.customer()
    news, _ = await read(end, 3)
    assert [(each["type"], each["subject"]) for each in news] == [("customer.created", late["id"])]
    assert news[0]["source"] == f"/tenants/{ids.text('ten', shop.tenant_id)}"
    assert news[0]["specversion"] == "1.0"
    assert news[0]["time"] == "2026-03-01T12:00:00Z"
    of_another_feed = await shop.get("/v1/events", status=422, cursor=end, customer_id=late["id"])
    assert of_another_feed["pointer"] == "/query/cursor"


async def test_a_feed_among_many_strangers_goes_on_in_windows(shop: Shop) -> None:
    others = ids.Ids()
    noise = [
        Event(
            type="noise.made",
            tenant_id=await _stranger_id(shop),
            subject=others.new(),
            data={},
            occurred_at=datetime(2026, 3, 1, tzinfo=UTC),
        )
        for _ in range(10)
    ]
    await shop.emit(shop.database, *(noise * 300))
    customer = await shop.customer()

    page = await shop.get("/v1/events")

    assert [each["subject"] for each in page["data"]] == [customer["id"]]


async def _stranger_id(shop: Shop) -> Any:
    rows = await shop.rows(
        "SELECT tenant_id FROM identity.tenants WHERE tenant_id <> $1 LIMIT 1", shop.tenant_id
    )
    return rows[0]["tenant_id"]


async def test_a_cursor_from_before_a_restore_is_refused(shop: Shop) -> None:
    await shop.customer()
    end = (await shop.get("/v1/events"))["next_cursor"]
    await shop.rows("UPDATE eventlog.log SET epoch = epoch + 1")
    try:
        refused = await shop.get("/v1/events", status=409, cursor=end)
    finally:
        await shop.rows("UPDATE eventlog.log SET epoch = epoch - 1")

    assert refused["code"] == "stale_cursor"
    assert "without a cursor" in refused["fix"]
