"""What is asked for while renewals stand still: no moment is left out once they go on."""

from __future__ import annotations

from typing import Any

import pytest

from tests.stories.guarding import switch
from tests.stories.shop import Shop
from tests.stories.test_late_renewals import billed

pytestmark = pytest.mark.long


async def weekly(shop: Shop) -> str:
    return await shop.plan("weekly", amounts={"EUR": 300}, unit="week")


async def go_on_at(shop: Shop, moment: str) -> None:
    await shop.move_to(moment)
    await switch(shop, "renewals", False)
    await shop.pump.quiet()


async def served(shop: Shop, viewer: str) -> list[tuple[Any, ...]]:
    """Each invoice: its status, its total and the time that it is for."""
    return [(each[1], each[2], *each[4:]) for each in await billed(shop, viewer)]


async def test_a_cycle_that_began_unbilled_is_counted_where_its_payer_moved_to(shop: Shop) -> None:
    plan, viewer = await weekly(shop), await shop.customer()
    await shop.card(viewer)
    path = f"/v1/subscriptions/{(await shop.subscribe(viewer, plan))['id']}"
    anew = {"billing_anchor": {"kind": "anniversary"}, "when": "period_end"}
    await shop.post(f"{path}/change-anchor", anew, expect=200)
    await switch(shop, "renewals", True)
    await shop.move_to("2026-02-08T10:00:00")
    moved = await shop.raw("PATCH", f"/v1/customers/{viewer}", json={"timezone": "Asia/Tokyo"})
    assert moved.status_code == 200
    await go_on_at(shop, "2026-02-09T10:00:00")
    assert await served(shop, viewer) == [
        ("paid", 300, "2026-01-31T10:00:00Z", "2026-02-07T10:00:00Z"),
        ("paid", 300, "2026-02-07T10:00:00Z", "2026-02-14T10:00:00Z"),
    ]
    assert (await shop.get(path))["timezone"] == "Asia/Tokyo"
    assert await shop.captured() == {"EUR": 600}
    await shop.check()


async def test_a_trial_that_is_over_is_billed_from_its_end_whatever_its_plan_became(
    shop: Shop,
) -> None:
    plan, other, viewer = await shop.plan(), await weekly(shop), await shop.customer()
    await shop.card(viewer)
    bought = await shop.subscribe(viewer, plan, trial_days=14)
    await switch(shop, "renewals", True)
    await shop.move_to("2026-02-20T10:00:00")
    change = {"plan_id": other}
    seen = await shop.post(f"/v1/subscriptions/{bought['id']}/preview-change", change, expect=200)
    changed = await shop.post(f"/v1/subscriptions/{bought['id']}/change", change, expect=200)
    assert (seen["total_minor"], changed["plan_id"], changed["status"]) == (0, other, "trialing")
    await go_on_at(shop, "2026-02-22T10:00:00")
    assert await served(shop, viewer) == [
        ("paid", 300, "2026-02-14T10:00:00Z", "2026-02-21T10:00:00Z"),
        ("paid", 300, "2026-02-21T10:00:00Z", "2026-02-28T10:00:00Z"),
    ]
    assert await shop.captured() == {"EUR": 600}
    await shop.check()


async def test_a_plan_chosen_after_the_trial_is_the_plan_from_its_end(shop: Shop) -> None:
    plan, viewer = await shop.plan(), await shop.customer()
    dear = await shop.plan("dear", amounts={"EUR": 2800})
    await shop.card(viewer)
    path = f"/v1/subscriptions/{(await shop.subscribe(viewer, plan, trial_days=14))['id']}"
    await switch(shop, "renewals", True)
    await shop.move_to("2026-02-20T10:00:00")
    await shop.post(f"{path}/change", {"plan_id": dear}, expect=200)
    await go_on_at(shop, "2026-02-22T10:00:00")
    assert await served(shop, viewer) == [
        ("paid", 2800, "2026-02-14T10:00:00Z", "2026-03-14T10:00:00Z"),
    ]
    await shop.move_to("2026-02-28T10:00:00")
    # Half of the month is still to come; what was before it stays as it was billed.
    seen = await shop.post(f"{path}/preview-change", {"plan_id": plan}, expect=200)
    assert sorted(line["net_minor"] for line in seen["lines"]) == [-1400, 500]
    await shop.check()


async def test_a_start_day_that_is_past_is_where_billing_begins(shop: Shop) -> None:
    plan, other, viewer = await shop.plan(), await weekly(shop), await shop.customer()
    await shop.card(viewer)
    bought = await shop.subscribe(viewer, plan, start_at="2026-02-10T10:00:00Z")
    await switch(shop, "renewals", True)
    await shop.move_to("2026-02-12T10:00:00")
    change = {"plan_id": other}
    await shop.post(f"/v1/subscriptions/{bought['id']}/change", change, expect=200)
    await go_on_at(shop, "2026-02-13T10:00:00")
    assert await served(shop, viewer) == [
        ("paid", 300, "2026-02-10T10:00:00Z", "2026-02-17T10:00:00Z"),
    ]
    assert await shop.captured() == {"EUR": 300}
    await shop.check()
