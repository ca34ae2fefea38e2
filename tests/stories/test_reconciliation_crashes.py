"""A process dies at every named place of a reconciliation or a repair; the next one goes on, and
everything is booked once."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from subledger.platform import crashpoints
from subledger.platform.crashpoints import Crashed
from subledger.platform.db import story
from subledger.services.billing import wiring as _billing
from subledger.services.payments import wiring as _payments
from tests.stories.reconciling import (
    balance,
    charge,
    connection,
    item,
    open_items,
    reconcile,
    terms,
)
from tests.stories.test_adjustments import books

assert _billing
assert _payments
POINTS = [
    name
    for name in crashpoints.names()
    if name.startswith(("payments.reconcile", "payments.repair"))
    and not name.startswith("payments.reconcile_daily")
]
SHORT = {"payments.reconcile.after_list", "payments.reconcile_page.after_commit"}
_LATER = story("tests.reconciliation_lease")


async def after_the_lease(shop):
    """Time passes on the wall: what the dead process had claimed is free again."""
    database = shop.assembly.databases["payments"]
    async with database.transaction(_LATER, tenants=[shop.tenant_id]) as tx:
        await tx.run(
            text(
                "UPDATE payments.reconciliations SET ready_at = clock_timestamp(),"
                " claimed_at = claimed_at - interval '1 hour' WHERE finished_at IS NULL"
            )
        )


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
async def test_a_death_here_books_nothing_twice_and_loses_nothing(seats, name):
    shop, viewer, _ = seats
    await terms(shop, fee_basis_points=290, fee_fixed_minor=30, pays_out_daily=True)
    await charge(shop, 700, "att_7zzzzzzzzzzzzzzzzzzzzzzzzz", customer_id=viewer)
    await charge(shop, 300, "dashboard-1")
    await shop.fault("webhook_never", 1)  # of the payout: the run is asked for below
    await shop.move_to("2026-02-01T00:00:00")
    path = f"/v1/connections/{await connection(shop)}/reconcile"
    hit = set()

    def react(point):
        if point.name == name and point.hits == 1:
            hit.add(name)
            raise Crashed(name)

    async def ask():
        answer = await shop.api.post(path, json={}, headers={"idempotency-key": "once"})
        assert answer.status_code == 202, answer.text

    async def assign():
        found = await item(shop, "capture_unmatched")
        answer = await shop.api.post(
            f"/v1/work-items/{found['id']}/repair", json={"customer_id": viewer},
            headers={"prefer": "wait=0"},
        )  # fmt: skip
        assert answer.status_code == 200, answer.text

    crashpoints.install(react)
    try:
        for work in (ask, shop.pump.quiet, assign, shop.pump.quiet):
            await surviving(shop, work)
        await after_the_lease(shop)
        await surviving(shop, shop.pump.quiet)
    finally:
        crashpoints.install(None)
    assert hit == {name} or name == "payments.repair.after_look", "only where a repair asks"

    # 3000 at 2.9 % each (58 + 20 + 9) and three times 0.30.
    assert balance(await reconcile(shop)) == (0, 0, 0, 0)
    held = await books(shop)
    assert (held["bank"], held["fees"], held["unapplied"]) == (2823, 177, -1000)
    assert sorted(await open_items(shop)) == [
        ("payment_unapplied", 300),
        ("payment_unapplied", 700),
    ]
    assert len((await shop.get("/v1/payouts"))["data"]) == 1
    await shop.check()
