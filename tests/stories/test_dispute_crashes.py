"""A process dies at every named place of a dispute; the next one goes on, and the dispute is told
and booked once."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from subledger.platform import crashpoints
from subledger.platform.crashpoints import Crashed
from subledger.platform.db import story
from subledger.services.payments import wiring as _payments
from tests.stories.dispute_world import decide, dispute, disputes
from tests.stories.refund_world import paid
from tests.stories.test_adjustments import books

assert _payments
POINTS = [
    name
    for name in crashpoints.names()
    if name.startswith(("payments.dispute", "sandbox.open_dispute", "sandbox.close_dispute"))
]
SHORT = {"payments.dispute.after_call", "payments.dispute_record.after_commit"}
_LATER = story("tests.dispute_lease")
_OVER = "UPDATE payments.dispute_looks SET claimed_at = claimed_at - interval '1 hour'"


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in SHORT else pytest.mark.long) for name in POINTS],
)
async def test_a_death_here_tells_and_books_a_dispute_once(seats, name):
    shop, viewer, _ = seats
    payment, hit = await paid(shop, viewer), set()

    def react(point):
        if point.name == name and point.hits == 1:
            hit.add(name)
            raise Crashed(name)

    async def after_the_lease():
        database = shop.assembly.databases["payments"]
        async with database.transaction(_LATER, tenants=[shop.tenant_id]) as tx:
            await tx.run(text(_OVER))

    async def surviving(work):
        for _ in range(3):
            try:
                return await work()
            except Crashed:
                await after_the_lease()
        raise AssertionError("died more than twice")

    crashpoints.install(react)
    try:
        await surviving(lambda: dispute(shop, payment, amount_minor=700))
        await surviving(shop.pump.quiet)
        ref = (await disputes(shop))[0]["provider_ref"]
        await surviving(lambda: decided(shop, ref))
        await surviving(shop.pump.quiet)
        await after_the_lease()
        await surviving(shop.pump.quiet)
    finally:
        crashpoints.install(None)
    assert hit == {name}
    told = [each for each in await shop.new_events(viewer) if each.startswith("dispute")]
    # A process that died right after the bank had opened it asked the bank for another one.
    n = len(await disputes(shop))
    assert n <= 2
    assert sorted(told) == sorted(["dispute.opened"] * n + ["dispute.closed"])
    assert (await books(shop)).get("chargeback_loss") == 700
    await shop.check()


async def decided(shop, ref):
    try:
        await decide(shop, ref, "lost")
    except AssertionError as refused:
        if "dispute_closed" not in str(refused):  # the bank decided, and we died before we heard it
            raise
