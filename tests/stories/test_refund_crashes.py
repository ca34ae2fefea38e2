"""A process dies at every named place of a refund; the next one goes on, and nothing goes back
twice or is lost by the provider's journal."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from subledger.platform import crashpoints
from subledger.platform.crashpoints import Crashed
from subledger.platform.db import story
from subledger.services.billing import wiring as _billing
from subledger.services.payments import wiring as _payments
from tests.stories.refund_world import paid

assert _billing
assert _payments
POINTS = [
    name
    for name in crashpoints.names()
    if name.startswith(("payments.refund", "billing.grant_refunds", "sandbox.refund"))
]
SHORT = {
    "billing.grant_refunds.after_commit",
    "payments.refund.before_call",
    "payments.refund.after_call",
}
_LATER = story("tests.refund_lease")
_OVER = (
    "UPDATE payments.refunds SET claimed_at = claimed_at - interval '1 hour'"
    " WHERE state = 'in_flight'",
    "UPDATE payments.refund_looks SET claimed_at = claimed_at - interval '1 hour'",
    "UPDATE payments.refunds SET ready_at = clock_timestamp() WHERE state = 'ready'",
)


async def after_the_lease(shop):
    """Time passes on the wall: what the dead process had claimed is free again."""
    database = shop.assembly.databases["payments"]
    for statement in _OVER:
        async with database.transaction(_LATER, tenants=[shop.tenant_id]) as tx:
            await tx.run(text(statement))


async def surviving(shop, work):
    """Do it; where the process dies, go on as the next one does."""
    for _ in range(3):
        try:
            return await work()
        except Crashed:
            await after_the_lease(shop)
    raise AssertionError("died more than twice")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in SHORT else pytest.mark.long) for name in POINTS],
)
async def test_a_death_here_gives_nothing_back_twice_and_loses_nothing(seats, name):
    shop, viewer, _ = seats
    path = f"/v1/payments/{await paid(shop, viewer)}/refunds"
    hit = set()

    def react(point):
        if point.name == name and point.hits == 1:
            hit.add(name)
            raise Crashed(name)

    async def ask(key, amount):
        answer = await shop.api.post(
            path,
            json={"amount_minor": amount},
            headers={"idempotency-key": key, "prefer": "wait=0"},
        )
        assert answer.status_code == 201, answer.text

    async def settle():
        await shop.pump.quiet()
        await after_the_lease(shop)
        await shop.pump.quiet()

    crashpoints.install(react)
    try:
        await surviving(shop, lambda: ask("plain", 300))
        await surviving(shop, lambda: shop.fault("refund_no_reply", 1))
        await surviving(shop, lambda: ask("lost", 500))
        await surviving(shop, settle)
    finally:
        crashpoints.install(None)
    move = await shop.post("/v1/clock-moves", {"to_at": "2026-01-31T10:06:00Z"}, expect=202)
    while (await shop.get(f"/v1/clock-moves/{move['id']}"))["status"] == "moving":
        await settle()
    assert hit == {name}
    done = {(each["status"], each["amount_minor"]) for each in (await shop.get(path))["data"]}
    assert done == {("succeeded", 300), ("succeeded", 500)}
    assert await shop.captured() == {"EUR": 1200}
    await shop.check()
