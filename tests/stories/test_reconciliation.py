"""Reconciliation: what the provider's list says, and how the books come to say the same."""

from __future__ import annotations

import pytest

from subledger.platform import ids
from tests.stories.reconciling import (
    balance,
    charge,
    item,
    open_items,
    reconcile,
    repair,
    terms,
)
from tests.stories.refund_world import at_the_provider, paid, refund
from tests.stories.shop import Shop
from tests.stories.test_adjustments import books

LATER = "2026-01-31T12:00:00"


async def test_lists_that_agree_leave_no_trace(seats):
    shop, viewer, _ = seats
    await refund(shop, await paid(shop, viewer), amount_minor=500)
    await shop.new_events(viewer)
    await shop.move_to(LATER)

    run = await reconcile(shop)

    assert run["counts"] == {
        "entries": 2, "settled": 0, "adopted": 0, "refunds_asked": 0,
        "disputes_asked": 0, "compared": 2, "differences": 0, "closed": 0,
    }  # fmt: skip
    assert balance(run) == (1500, 1500, 0, 0)
    assert await shop.new_events(viewer) == []
    assert await open_items(shop) == []
    again = await reconcile(shop)
    assert (again["counts"], balance(again)) == (run["counts"], balance(run))
    await shop.check()


@pytest.mark.long
async def test_a_capture_that_is_open_here_is_settled(seats):
    shop, viewer, _ = seats
    await shop.move_to("2026-02-27T10:00:00")
    await shop.fault("charge_no_reply", 1)
    await shop.fault("webhook_never", 1)
    await shop.move_to("2026-02-28T10:00:00")
    assert await shop.new_events(viewer) == [
        "subscriptions.renew_required", "invoice.finalized", "payment.unknown",
    ]  # fmt: skip

    run = await reconcile(shop)

    assert (run["counts"]["entries"], run["counts"]["settled"]) == (2, 1)
    assert await shop.new_events(viewer) == [
        "payment.succeeded", "invoice.paid", "subscription.renewed", "entitlement.granted",
    ]  # fmt: skip
    assert balance(await reconcile(shop)) == (4000, 4000, 0, 0)
    assert await open_items(shop) == []
    await shop.check()


async def test_a_capture_with_our_customer_and_no_payment_of_ours_is_booked_to_them(seats):
    shop, viewer, _ = seats
    await charge(shop, 700, "att_7zzzzzzzzzzzzzzzzzzzzzzzzz", customer_id=viewer)

    run = await reconcile(shop)

    assert (run["counts"]["adopted"], run["counts"]["differences"]) == (1, 0)
    assert await shop.new_events(viewer) == ["payment.succeeded", "work_item.opened"]
    assert await open_items(shop) == [("payment_unapplied", 700)]
    assert (await books(shop))["unapplied"] == -700
    assert balance(await reconcile(shop)) == (2700, 2700, 0, 0)
    newest = (await shop.get("/v1/payments", customer_id=viewer))["data"][0]
    back = await refund(shop, newest["id"])
    assert (back["amount_minor"], back["status"]) == (700, "succeeded")
    await shop.check()


async def test_a_second_capture_of_an_attempt_is_the_customers_money(seats):
    shop, viewer, _ = seats
    attempt = (await shop.get(f"/v1/payments/{await paid(shop, viewer)}"))["attempts"][-1]["id"]
    await charge(shop, 2000, attempt)
    run = await reconcile(shop)
    assert run["counts"]["adopted"] == 1
    assert await open_items(shop) == [("payment_unapplied", 2000)]
    assert balance(await reconcile(shop)) == (4000, 4000, 0, 0)
    assert (await reconcile(shop))["counts"]["adopted"] == 0


async def test_a_capture_that_names_nobody_waits_for_a_person_who_assigns_it(seats):
    shop, viewer, _ = seats
    await charge(shop, 300, "dashboard-1")
    run = await reconcile(shop)
    assert (run["counts"]["adopted"], run["counts"]["differences"]) == (0, 1)
    assert balance(run) == (2300, 2000, 300, 0), "the lists explain it: no gap"
    assert (await reconcile(shop))["counts"]["differences"] == 0, "told once"
    assert await open_items(shop) == [("capture_unmatched", 300)]
    refused = await repair(shop, "capture_unmatched", expect=409)
    assert refused["code"] == "work_item_not_repairable"
    assert "whose money" in refused["detail"]

    done = await repair(shop, "capture_unmatched", customer_id=viewer)

    assert (done["status"], done["close_reason"]) == ("closed", "assign")
    assert await open_items(shop) == [("payment_unapplied", 300)]
    assert await shop.new_events(viewer) == ["payment.succeeded", "work_item.opened"]
    again = await repair(shop, "capture_unmatched", customer_id=viewer)
    assert again["id"] == done["id"]
    assert (await books(shop))["unapplied"] == -300
    assert balance(await reconcile(shop)) == (2300, 2300, 0, 0)
    await shop.check()


@pytest.mark.long
async def test_a_payment_that_never_arrived_is_taken_back_and_its_invoice_is_open(shop):
    viewer, plan = await shop.customer(), await shop.plan()
    await shop.card(viewer)
    await shop.fault("charge_phantom", 1)
    await shop.subscribe(viewer, plan)
    await shop.new_events(viewer)
    run = await reconcile(shop)
    assert run["counts"]["differences"] == 0, "it may still be on its way into the list"
    await shop.move_to(LATER)

    run = await reconcile(shop)

    assert balance(run) == (0, 999, -999, 0)
    assert await open_items(shop) == [("payment_missing", 999)]
    assert await shop.new_events(viewer) == [
        "reconciliation.difference_found", "work_item.opened",
    ]  # fmt: skip
    done = await repair(shop, "payment_missing")
    assert (done["status"], done["close_reason"]) == ("closed", "reverse")
    assert await shop.new_events(viewer) == [
        "payment.reversed", "reconciliation.difference_closed", "work_item.opened",
        "work_item.closed",
    ]  # fmt: skip
    assert await open_items(shop) == [("invoice_reopened", 999)]
    assert (await books(shop))["receivable"] == 999
    assert balance(await reconcile(shop)) == (0, 0, 0, 0)

    invoice = await shop.last_invoice(viewer)
    assert invoice["status"] == "open"
    again = await shop.post("/v1/payments", {"invoice_id": invoice["id"]})
    assert again["status"] == "succeeded"
    assert (await shop.last_invoice(viewer))["status"] == "paid"
    assert await shop.captured() == {"EUR": 999}
    await shop.move_to("2026-01-31T14:00:00")
    assert balance(await reconcile(shop)) == (999, 999, 0, 0)
    await shop.check()


async def test_an_amount_that_differs_is_booked_as_it_was_captured(shop):
    viewer, plan = await shop.customer(), await shop.plan()
    await shop.card(viewer)
    await shop.fault("charge_short", 1)
    await shop.subscribe(viewer, plan)
    await reconcile(shop)
    found = await item(shop, "amount_differs")
    assert (found["data"]["amount_minor"], found["data"]["booked_minor"]) == (998, 999)

    done = await repair(shop, "amount_differs")

    assert (done["status"], done["close_reason"]) == ("closed", "correct")
    assert (await books(shop))["unapplied"] == 1, "the customer owes a cent"
    assert await shop.captured() == {"EUR": 998}
    run = await reconcile(shop)
    assert (run["counts"]["differences"], balance(run)) == (0, (998, 998, 0, 0))
    assert await open_items(shop) == []
    await shop.check()


async def test_a_refund_made_at_the_provider_is_found_through_its_list(seats):
    shop, viewer, _ = seats
    await shop.fault("webhook_never", 1)
    await at_the_provider(shop, await paid(shop, viewer), 400)
    assert await shop.new_events(viewer) == []

    run = await reconcile(shop)

    assert run["counts"]["refunds_asked"] == 1
    assert await shop.new_events(viewer) == [
        "refund.succeeded", "credit_note.issued", "work_item.opened",
    ]  # fmt: skip
    assert await open_items(shop) == [("refund_outside", 400)]
    assert balance(await reconcile(shop)) == (1600, 1600, 0, 0)
    await shop.check()


async def test_daily_payouts_are_matched_to_captures_and_booked_with_their_fees(seats):
    shop, viewer, _ = seats
    await terms(shop, fee_basis_points=290, fee_fixed_minor=30, pays_out_daily=True)
    await refund(shop, await paid(shop, viewer), amount_minor=500)

    await shop.move_to("2026-02-01T00:00:00")

    # 20.00 less 5.00 back; 2.9 % of 20.00 and 0.30 kept.
    payout = (await shop.get("/v1/payouts"))["data"][0]
    assert [payout[name] for name in ("gross_minor", "fee_minor", "amount_minor")] == [
        1500, 88, 1412,
    ]  # fmt: skip
    assert payout["difference_minor"] == 0
    held = await books(shop)
    assert (held["bank"], held["fees"], held.get("provider_clearing")) == (1412, 88, None)
    run = (await shop.get("/v1/reconciliations"))["data"][0]
    assert (run["origin"], run["status"], balance(run)) == ("payout", "done", (0, 0, 0, 0))
    for _ in range(2):
        assert (await reconcile(shop))["counts"].get("payouts", 0) == 0
    assert await books(shop) == held, "booked once, whatever repeats"
    assert await open_items(shop) == []
    await shop.check()


async def test_a_payout_that_is_a_cent_short_is_a_rounding_difference(seats):
    shop, _, _ = seats
    await terms(shop, pays_out_daily=True, payout_difference_minor=-1)
    await shop.move_to("2026-02-01T00:00:00")
    payout = (await shop.get("/v1/payouts"))["data"][0]
    assert (payout["amount_minor"], payout["difference_minor"]) == (1999, 1)
    held = await books(shop)
    assert (held["bank"], held["fx_difference"]) == (1999, 1)
    assert "provider_clearing" not in held
    await shop.check()


async def test_every_day_is_compared_an_hour_after_it_ended(seats):
    shop, _, _ = seats
    path = f"/v1/connections/{(await item_connection(shop))}/reconciliation"
    answer = await shop.raw("PUT", path, json={"daily": True})
    assert answer.json() == {"daily": True}
    await shop.move_to("2026-02-03T02:00:00")
    runs = (await shop.get("/v1/reconciliations"))["data"]
    assert [(each["origin"], each["until_at"]) for each in runs] == [
        ("daily", "2026-02-03T00:00:00Z"), ("daily", "2026-02-02T00:00:00Z"),
        ("daily", "2026-02-01T00:00:00Z"),
    ]  # fmt: skip
    assert all(each["status"] == "done" for each in runs)
    assert (await shop.raw("PUT", path, json={"daily": False})).status_code == 200
    await shop.move_to("2026-02-05T00:00:00")
    assert len((await shop.get("/v1/reconciliations"))["data"]) == 3


async def item_connection(shop: Shop) -> str:
    return str((await shop.get("/v1/connections"))["data"][0]["id"])


async def test_bad_requests_change_nothing(seats):
    shop, _, _ = seats
    connection = await item_connection(shop)
    for body, code in (
        ({"since": "2026-02-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, 400),
        ({"since": "2020-02-01T00:00:00Z"}, 400),
        ({"since": "yesterday"}, 422),
    ):
        answer = await shop.raw("POST", f"/v1/connections/{connection}/reconcile", json=body)
        assert answer.status_code in {400, 422}, (code, answer.text)
    nobody = ids.text("conn", shop.tenant_id)
    await shop.post(f"/v1/connections/{nobody}/reconcile", {}, expect=404)
    assert (await shop.get("/v1/reconciliations"))["data"] == []
