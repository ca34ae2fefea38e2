"""What a credit note and a void need: the split, the schedule that goes on, and late releases."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from subledger.core import ledger as core_books
from subledger.core.calendar import Period
from subledger.core.errors import InvalidRecognition
from subledger.core.recognition import recognized_minor, share_minor
from subledger.platform import ids
from subledger.platform.db import story
from subledger.services.billing import ledger
from subledger.services.billing.store import invoices, subscriptions
from subledger.services.billing.store.recognition import RELEASED_SQL, recognized_sql
from subledger.services.billing.usecases.recognize import (
    Credit,
    Policy,
    restore_credits,
    split_credits,
)
from tests.stories.recognizing import books, subscriber
from tests.stories.shop import open_shop
from tests.stories.test_recognition import unpaid_april

pytestmark = pytest.mark.long

SEAM = frozenset({"what credit notes gave back of a line is not recognized"})
"""These stories credit through recognition's own seam, without a note."""

_NOTE = story("tests.note")
_LOOK = story("tests.look_at_schedules", reads=True)


async def note(shop, viewer, *credited_minor, n=1):
    """Credit the first invoice's line as a credit note does, and let the customer keep the credit.
    Returns the splits ``(deferred, revenue)`` and what ``restore`` needs."""
    tenant, account = shop.tenant_id, ids.parse("cus", viewer)
    page = await shop.get("/v1/invoices", customer_id=viewer, limit=100)
    first = min(page["data"], key=lambda row: row["number"])
    key = (tenant, ids.parse("inv", first["id"]))
    credits = [Credit(tenant, account, key[1], n, each) for each in credited_minor]
    async with shop.assembly.databases["billing"].transaction(_NOTE, tenants=[tenant]) as tx:
        accounts = await subscriptions.lock_accounts(tx, [(tenant, account)])
        await invoices.lock_invoices(tx, [key])
        at = await subscriptions.moments(tx, accounts, accounts)
        splits = await split_credits(tx, credits, at=at)
        await ledger.post(tx, [_posted(shop, viewer, key, each, at) for each in splits])
    return [(each.deferred_minor, each.revenue_minor) for each in splits], (credits, splits)


def _posted(shop, viewer, key, split, at, *, undo=False):
    transfers = core_books.credit_note(
        customer=viewer, deferred_minor=split.deferred_minor, revenue_minor=split.revenue_minor,
        tax_minor=0, offset_minor=0, currency="EUR",
    )  # fmt: skip
    return ledger.Posting(
        tenant_id=shop.tenant_id, account_id=ids.parse("cus", viewer), invoice_id=key[1],
        kind="credit_note", occurred_at=next(iter(at.values())),
        transfers=core_books.reversed_transfers(transfers) if undo else transfers,
    )  # fmt: skip


async def restore(shop, viewer, given):
    credits, splits = given
    key = (shop.tenant_id, ids.parse("cus", viewer))
    async with shop.assembly.databases["billing"].transaction(
        _NOTE, tenants=[shop.tenant_id]
    ) as tx:
        accounts = await subscriptions.lock_accounts(tx, [key])
        at = await subscriptions.moments(tx, accounts, accounts)
        await restore_credits(tx, credits, splits, at=at)
        invoice = (shop.tenant_id, credits[0].invoice_id)
        await ledger.post(tx, [_posted(shop, viewer, invoice, s, at, undo=True) for s in splits])


async def test_a_credit_while_the_service_goes_on_takes_from_both(march):
    shop, viewer, _ = march
    await shop.move_to("2026-03-11T10:00:00")
    assert await books(shop) == (2100, 1000)
    split, _ = await note(shop, viewer, 620)
    assert split == [(420, 200)]
    assert await books(shop) == (1680, 800)
    await shop.move_to("2026-03-12")
    assert await books(shop) == (1600, 880), "2480 over 31 days"
    await shop.check(without=SEAM)
    await shop.move_to("2026-04-01")
    assert await books(shop) == (0, 2480)
    await shop.check(without=SEAM)


async def test_many_credits_of_one_line_take_what_stands(march):
    shop, viewer, _ = march
    await shop.move_to("2026-03-11T10:00:00")
    assert (await note(shop, viewer, 310, 310))[0] == [(210, 100), (210, 100)]
    await shop.check(without=SEAM)
    await shop.move_to("2026-03-20")
    assert (await note(shop, viewer, 100, 2380))[0] == [(39, 61), (921, 1459)]
    assert await books(shop) == (0, 0)
    with pytest.raises(InvalidRecognition):
        await note(shop, viewer, 1)
    await shop.move_to("2026-03-31")
    assert await books(shop) == (0, 0)
    await shop.check(without=SEAM)


async def test_a_credit_that_is_taken_back_leaves_the_line_as_it_was(march):
    shop, viewer, _ = march
    await shop.move_to("2026-03-11T10:00:00")
    _, given = await note(shop, viewer, 2000)
    assert await books(shop) == (745, 355)
    await shop.move_to("2026-03-16T12:00:00")
    await restore(shop, viewer, given)
    await shop.check(without=SEAM)
    await shop.move_to("2026-03-17")
    assert await books(shop) == (1500, 1600)
    await shop.move_to("2026-04-01")
    assert await books(shop) == (0, 3100)
    await shop.check(without=SEAM)


# --- releases that come late --------------------------------------------------------------------


async def months(shop):
    answer = await shop.get("/v1/revenue", **{"from": "2026-03", "to": "2026-05"})
    return [each["recognized_minor"] for each in answer["currencies"][0]["months"]]


async def _without_releases(shop, moment):
    """Time passes to ``moment`` while nobody releases; only the move's end waits for it."""
    kept = shop.pump.steps
    shop.pump.steps = [each for each in kept if each.name != "billing.release_revenue"]
    at = await shop.raw("POST", "/v1/clock-moves", json={"to_at": f"{moment}Z"})
    assert at.status_code == 202
    await shop.pump.quiet()
    assert (await shop.get(f"/v1/clock-moves/{at.json()['id']}"))["status"] == "moving"
    return kept


async def test_a_move_ends_when_revenue_is_released(march):
    shop, _, _ = march
    kept = await _without_releases(shop, "2026-03-20T12:00:00")
    assert await books(shop) == (3100, 0)
    clock = await shop.get("/v1/clock")
    assert clock["now_at"] == "2026-03-20T12:00:00Z"
    shop.pump.steps = kept
    assert await books(shop) == (1200, 1900)
    [move] = [m for m in (await shop.get("/v1/clock-moves"))["data"] if m["status"] == "done"][:1]
    assert move["reached_at"] == "2026-03-20T12:00:00Z"


async def test_a_void_and_a_credit_before_the_releases_leave_each_month_the_same(shop, process):
    prompt = await open_shop(process)
    patient = {"delays_s": [80 * 86400], "final_action": "cancel", "hard_decline_stops": False}
    for each in (shop, prompt):
        assert (await each.raw("PUT", "/v1/dunning-policy", json=patient)).status_code == 200
        await each.move_to("2026-03-01T10:00:00")
        viewer, _ = await subscriber(each)
        await unpaid_april(each, viewer)
        kept = each.pump.steps
        if each is shop:
            kept = await _without_releases(each, "2026-05-02T12:00:00")
        else:
            await each.move_to("2026-05-02T12:00:00")
        assert (await note(each, viewer, 100))[0] == [(0, 100)]
        page = await each.get("/v1/invoices", customer_id=viewer, status="open")
        assert len(page["data"]) == 2
        for row in page["data"]:
            await each.post(f"/v1/invoices/{row['id']}/void", {"reason": "late"}, expect=200)
        each.pump.steps = kept
        assert await books(each) == (0, 3000)
        assert await months(each) == [3100, 3100, -3100 - 100]
        await each.check(without=SEAM)
    await prompt.api.aclose()


# --- the store's arithmetic is the core's -------------------------------------------------------


async def test_the_stores_sums_are_the_cores_amounts(process):
    made = random.Random(17)  # a seed, not a secret
    rows = []
    for _ in range(2_000):
        whole = made.choice([1, 2, 7, 31, 366, 36_525, 10**6 * 86_400 * 366])
        start = made.randint(-5, 800_000)
        net = made.choice([1, -1]) * made.randint(0, made.choice([5, 10**6, 10**15]))
        rows.append((net, start, start + whole, made.randint(start - 9, start + whole + 9)))
    arrays = dict(zip(("nets", "starts", "ends", "units"), map(list, zip(*rows, strict=True)),
                      strict=True))  # fmt: skip
    query = text(
        f"SELECT {recognized_sql('s.at_unit')} AS amount FROM unnest(CAST(:nets AS bigint[]),"
        " CAST(:starts AS bigint[]), CAST(:ends AS bigint[]), CAST(:units AS bigint[]))"
        " WITH ORDINALITY AS w(net_minor, start_unit, end_unit, at_unit, n)"
        " CROSS JOIN LATERAL (SELECT w.*, -100::bigint AS from_unit, 0::bigint AS base_minor,"
        " false AS is_paused) AS s"
        " ORDER BY w.n"
    )
    async with process.databases["billing"].transaction(_LOOK) as tx:
        found = [int(row.amount) for row in await tx.rows(query, **arrays)]
    assert found == [
        share_minor(net, min(max(unit - start, 0), end - start), end - start)
        for net, start, end, unit in rows
    ]


async def test_each_line_has_released_what_the_core_says(march):
    shop, viewer, subscription = march
    await shop.move_to("2026-03-07T13:00:00")
    await shop.post(f"/v1/subscriptions/{subscription}/cancel", expect=200,
                    body={"when": "now", "credit_unused": True})  # fmt: skip
    plan = await shop.plan("odd", amounts={"EUR": 997}, unit="week")
    await shop.subscribe(viewer, plan)
    await shop.move_to("2026-05-09T01:02:03")
    query = text(
        f"SELECT s.*, p.mode, p.timezone, p.through_unit, {RELEASED_SQL} AS released"
        " FROM billing.recognition_schedules s JOIN billing.recognition_policies p"
        " ON p.tenant_id = s.tenant_id AND p.version = s.policy"
    )
    database = shop.assembly.databases["billing"]
    async with database.transaction(_LOOK, tenants=[shop.tenant_id]) as tx:
        rows = await tx.rows(query)
    assert len(rows) == 2 + 9
    for row in rows:
        policy = Policy(row.tenant_id, 1, row.mode, row.timezone, row.through_unit)
        assert policy.timezone == "UTC"
        through_at = datetime(1, 1, 1, tzinfo=UTC) + timedelta(days=row.through_unit - 1)
        period = Period(row.service_start_at, row.service_end_at)
        assert row.released == recognized_minor(row.net_minor, period, through_at)
