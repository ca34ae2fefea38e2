"""Disputes in the provider's list: found without a webhook, in payouts, in the balances."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from subledger.platform.db import story
from tests.stories.dispute_world import (
    CLOSED,
    FOUND_DECIDED,
    OPENED,
    decide,
    dispute,
    disputes,
)
from tests.stories.reconciling import balance, connection, open_items, reconcile, terms
from tests.stories.refund_world import paid
from tests.stories.test_adjustments import books

FAR = "2026-05-01T00:00:00Z"
_LOOK = story("tests.look_at_transfers", reads=True)


async def transfers(shop, kind):
    """Transfers of a kind in the order of their booking: debit, credit, amount."""
    database = shop.assembly.databases["billing"]
    query = text(
        "SELECT debit_account, credit_account, amount_minor FROM billing.transfers"
        " WHERE tenant_id = :tenant AND kind = :kind ORDER BY occurred_at, amount_minor DESC"
    )
    async with database.transaction(_LOOK, tenants=[shop.tenant_id]) as tx:
        rows = await tx.rows(query, tenant=shop.tenant_id, kind=kind)
    return [
        (row.debit_account.partition(":")[0], row.credit_account.partition(":")[0],
         row.amount_minor)
        for row in rows
    ]  # fmt: skip


async def money(shop):
    """What is not revenue, and not zero."""
    held = await books(shop)
    return {name: held[name] for name in held if "revenue" not in name}


async def test_a_dispute_that_no_webhook_told_is_found_by_the_daily_run_and_booked_once(seats):
    shop, viewer, _ = seats
    path = f"/v1/connections/{await connection(shop)}/reconciliation"
    assert (await shop.raw("PUT", path, json={"daily": True})).status_code == 200
    await shop.fault("webhook_never", 1)
    await dispute(shop, await paid(shop, viewer), amount_minor=700, evidence_due_at=FAR)
    assert await shop.new_events(viewer) == []

    await shop.move_to("2026-02-01T00:59:00")
    assert await disputes(shop) == []
    await shop.move_to("2026-02-01T01:00:00")

    assert await shop.new_events(viewer) == OPENED
    assert [(each["amount_minor"], each["fee_minor"]) for each in await disputes(shop)] == [
        (700, 150)
    ]
    (run,) = (await shop.get("/v1/reconciliations"))["data"]
    assert (run["status"], run["counts"]["disputes_asked"]) == ("done", 1)
    assert (run["counts"]["differences"], balance(run)[3]) == (0, 0)
    assert await open_items(shop) == [("dispute_opened", 700)]
    assert await transfers(shop, "dispute_opened") == [("disputed", "provider_clearing", 700)]
    assert await transfers(shop, "dispute_fee") == [("fees", "provider_clearing", 150)]

    again = await reconcile(shop)

    assert (again["counts"]["disputes_asked"], again["counts"]["differences"]) == (0, 0)
    assert balance(again) == (1150, 1150, 0, 0)
    assert await shop.new_events(viewer) == []
    await shop.check()


async def test_what_became_of_a_dispute_is_found_in_the_list_however_often_it_changed(seats):
    shop, viewer, _ = seats
    await shop.fault("webhook_never", 5)
    ref = await dispute(shop, await paid(shop, viewer), amount_minor=700)
    await decide(shop, ref, "won")
    assert (await reconcile(shop))["counts"]["disputes_asked"] == 1
    assert await shop.new_events(viewer) == FOUND_DECIDED
    assert balance(await reconcile(shop)) == (1850, 1850, 0, 0)

    await decide(shop, ref, "lost", fee_minor=100)
    assert await shop.new_events(viewer) == []
    run = await reconcile(shop)
    assert (run["counts"]["disputes_asked"], run["counts"]["differences"]) == (1, 0)
    assert await shop.new_events(viewer) == ["dispute.closed"]
    assert balance(await reconcile(shop)) == (1200, 1200, 0, 0)

    await decide(shop, ref, "won", fee_minor=0)
    await reconcile(shop)
    assert await shop.new_events(viewer) == ["dispute.closed"]
    run = await reconcile(shop)
    assert balance(run) == (2000, 2000, 0, 0)
    assert await books(shop) == {"provider_clearing": 2000, "deferred_revenue": -2000}
    await shop.check()


@pytest.mark.long
async def test_a_payout_with_a_dispute_its_fee_and_a_won_one_matches_to_the_cent(seats):
    shop, viewer, _ = seats
    await terms(shop, fee_basis_points=290, fee_fixed_minor=30, pays_out_daily=True)
    payment = await paid(shop, viewer)
    held = await dispute(shop, payment, amount_minor=500, evidence_due_at=FAR)
    won = await dispute(shop, payment, amount_minor=300, fee_minor=100, evidence_due_at=FAR)
    await decide(shop, won, "won")
    assert await shop.new_events(viewer) == [*OPENED, *OPENED, *CLOSED]
    assert await shop.held() == {"EUR": 1250}

    await shop.move_to("2026-02-01T00:00:00")

    # 20.00 less 5.00 and 1.50, less 3.00 and 1.00, and 3.00 back; 2.9 % of 20.00 and 0.30 kept.
    (payout,) = (await shop.get("/v1/payouts"))["data"]
    names = ("gross_minor", "fee_minor", "amount_minor", "difference_minor")
    assert [payout[name] for name in names] == [1250, 88, 1162, 0]
    assert await transfers(shop, "paid_out") == [
        ("bank", "provider_clearing", 1162), ("fees", "provider_clearing", 88),
    ]  # fmt: skip
    assert await money(shop) == {"bank": 1162, "fees": 338, "disputed": 500}
    run = (await shop.get("/v1/reconciliations"))["data"][0]
    assert (run["origin"], run["status"], balance(run)) == ("payout", "done", (0, 0, 0, 0))
    await shop.check()

    await decide(shop, held, "won", fee_minor=0)
    assert await shop.new_events(viewer) == CLOSED
    assert await shop.held() == {"EUR": 650}
    await shop.move_to("2026-02-02T00:00:00")
    payout = (await shop.get("/v1/payouts"))["data"][0]
    assert [payout[name] for name in names] == [650, 0, 650, 0]
    assert (await transfers(shop, "paid_out"))[2:] == [("bank", "provider_clearing", 650)]
    assert await transfers(shop, "dispute_fee") == [
        ("fees", "provider_clearing", 150), ("fees", "provider_clearing", 100),
        ("provider_clearing", "fees", 150),
    ]  # fmt: skip
    assert await money(shop) == {"bank": 1812, "fees": 188}
    assert [balance(each) for each in (await shop.get("/v1/reconciliations"))["data"]] == [
        (0, 0, 0, 0), (0, 0, 0, 0),
    ]  # fmt: skip
    assert await open_items(shop) == []
    await shop.check()
