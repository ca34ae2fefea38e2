"""The process was down while periods ended: each is billed once, in order, with its own dates."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import pytest

from subledger.hosts.assembly import assemble
from subledger.platform.db import story
from subledger.services.identity import store as identity
from tests.pump import Pump

pytestmark = pytest.mark.long

_LATER = story("tests.let_time_pass")
PAID = ["payment.succeeded", "invoice.paid", "subscription.renewed", "entitlement.granted"]
BILLED = ["subscriptions.renew_required", "invoice.finalized"]
FEBRUARY, MARCH, APRIL = "2026-02-28T10:00:00Z", "2026-03-31T09:00:00Z", "2026-04-30T09:00:00Z"


async def let_time_pass(shop, *moment):
    """The tenant's time goes on, and nobody is there to do what falls due."""
    database = shop.assembly.databases["identity"]
    async with database.transaction(_LATER, tenants=[shop.tenant_id]) as tx:
        await identity.set_clock(
            tx, tenant_id=shop.tenant_id, at=datetime(*moment, tzinfo=UTC), rank=32_767,
            number=2**63 - 1,
        )  # fmt: skip


@pytest.fixture
async def restart(options):
    """A new process on the same database; the old one runs no more."""
    begun = []

    async def again(shop):
        assembly = assemble(options)
        begun.append(assembly)
        await assembly.memory.catch_up()
        api = httpx.AsyncClient(
            transport=httpx.ASGITransport(assembly.app), base_url="http://shop.test", timeout=60,
            headers=shop.api.headers,
        )  # fmt: skip
        return replace(shop, assembly=assembly, pump=Pump(assembly), api=api)

    yield again
    for assembly in begun:
        await assembly.close()


async def billed(shop, viewer):
    """Each invoice with its number, total, moment and the period of its line."""
    page = await shop.get("/v1/invoices", customer_id=viewer, limit=100)
    found = []
    for row in sorted(page["data"], key=lambda row: row["number"]):
        [line] = (await shop.get(f"/v1/invoices/{row['id']}"))["lines"]
        found.append(
            (row["number"], row["status"], row["total_minor"], row["finalized_at"],
             line["service_start_at"], line["service_end_at"])
        )  # fmt: skip
    return found


async def test_two_periods_that_ended_while_nobody_was_there_are_billed_once_each(shop, restart):
    plan, viewer = await shop.plan(), await shop.customer()
    await shop.card(viewer)
    bought = await shop.subscribe(viewer, plan)
    await shop.new_events(viewer)
    await let_time_pass(shop, 2026, 4, 3, 12)
    assert len(await shop.invoices(viewer)) == 1

    shop = await restart(shop)
    told = await shop.new_events(viewer)

    now = "2026-04-03T12:00:00Z"
    first, second, third = await billed(shop, viewer)
    assert first[1:3] == ("paid", 999)
    assert [each[1:] for each in (second, third)] == [
        ("paid", 999, now, FEBRUARY, MARCH), ("paid", 999, now, MARCH, APRIL),
    ]  # fmt: skip
    assert first[0] < second[0] < third[0]
    assert Counter(told) == Counter([*BILLED, *PAID] * 2)
    assert told[:2] == BILLED
    assert told[-1] == "entitlement.granted"
    found = await shop.get(f"/v1/subscriptions/{bought['id']}")
    assert (found["status"], found["current_period_start_at"], found["current_period_end_at"]) == (
        "active", MARCH, APRIL,
    )  # fmt: skip
    assert await shop.captured() == {"EUR": 3 * 999}
    await shop.check()
    await shop.move_to("2026-05-01")
    assert await shop.new_events(viewer) == [*BILLED, *PAID]
    assert (await billed(shop, viewer))[-1][3:] == (APRIL, APRIL, "2026-05-31T09:00:00Z")
    await shop.check()


async def test_it_stops_again_between_the_two_periods(shop, restart):
    """Announced, not yet billed; then billed, not yet collected: another process goes on."""
    plan, viewer = await shop.plan(), await shop.customer()
    await shop.card(viewer)
    await shop.subscribe(viewer, plan)
    await shop.new_events(viewer)
    await let_time_pass(shop, 2026, 4, 3, 12)
    for _ in range(6):
        shop = await restart(shop)
        await shop.pump.once()
    shop = await restart(shop)
    assert Counter(await shop.new_events(viewer)) == Counter([*BILLED, *PAID] * 2)
    assert [each[4:] for each in await billed(shop, viewer)] == [
        ("2026-01-31T10:00:00Z", FEBRUARY), (FEBRUARY, MARCH), (MARCH, APRIL),
    ]  # fmt: skip
    assert await shop.captured() == {"EUR": 3 * 999}
    await shop.check()


async def test_what_fell_due_in_between_is_done_in_its_order(shop, restart):
    """An end that was asked for the first period's end, and a change for the second's."""
    plan, viewer = await shop.plan(), await shop.customer()
    dear = await shop.plan("dear", amounts={"EUR": 1999})
    await shop.card(viewer)
    leaving, changing = await shop.subscribe(viewer, plan), await shop.subscribe(viewer, plan)
    path = "/v1/subscriptions"
    await shop.post(f"{path}/{leaving['id']}/cancel", {"when": "period_end"}, expect=200)
    body = {"plan_id": dear, "at": MARCH}
    await shop.post(f"{path}/{changing['id']}/change", body, expect=200)
    await let_time_pass(shop, 2026, 4, 3, 12)

    shop = await restart(shop)
    await shop.pump.quiet()

    assert await shop.status(leaving["id"]) == "canceled"
    assert [(each[2], *each[4:]) for each in (await billed(shop, viewer))[2:]] == [
        (999, FEBRUARY, MARCH), (1999, MARCH, APRIL),
    ]  # fmt: skip
    assert await shop.captured() == {"EUR": 2 * 999 + 999 + 1999}
    await shop.check()
