"""An unpaid invoice made anew: the same billed again, under a new number, each naming the other."""

from __future__ import annotations

import pytest

from tests.stories.shop import seats_plan
from tests.stories.test_adjustments import adjust, credit_of
from tests.stories.test_changes import HALF, change
from tests.stories.test_credit_notes import owing

pytestmark = pytest.mark.long


async def reissue(shop, invoice, expect=201, **headers):
    body = {"reason": "a wrong discount"}
    return await shop.post(f"/v1/invoices/{invoice}/reissue", body, expect=expect, **headers)


async def card_while_dunning_is_stopped(shop, viewer):
    """Else what is past due would be tried by it at once."""
    body = {"on": True, "reason": "try"}
    answer = await shop.raw("PUT", "/v1/kill-switches/dunning", json=body)
    assert answer.status_code == 200, answer.text
    await shop.pump.woken()
    await shop.card(viewer)


async def test_an_open_renewal_is_billed_again_and_collected(shop):
    viewer, subscription, old = await owing(shop)
    await card_while_dunning_is_stopped(shop, viewer)
    await shop.new_events(viewer)

    made = await reissue(shop, old)

    assert await shop.new_events(viewer) == [
        "invoice.voided", "invoice.finalized", "payment.succeeded", "invoice.paid",
        "subscription.renewed", "entitlement.granted",
    ]  # fmt: skip
    assert (made["number"], made["reason"], made["total_minor"]) == ("INV-000003", "renewal", 2000)
    assert made["replaces_invoice_id"] == old
    gone = await shop.get(f"/v1/invoices/{old}")
    assert (gone["status"], gone["close_reason"]) == ("void", "a wrong discount")
    assert gone["replaced_by_invoice_id"] == made["id"]
    assert await shop.status(subscription) == "active"
    assert await shop.captured() == {"EUR": 4000}
    await shop.move_to("2026-04-01")
    assert await shop.captured() == {"EUR": 6000}
    await shop.check()


async def test_what_is_unused_of_a_discount_comes_back_with_it(shop):
    plan, viewer = await seats_plan(shop), await shop.customer()
    off = await shop.post(
        "/v1/discounts", {"code": "off", "name": "Off", "percent": "25", "duration": "periods",
                          "periods": 2},
    )  # fmt: skip
    await shop.card(viewer)
    await shop.subscribe(viewer, plan, discount_ids=[off["id"]])
    await shop.card(viewer, "soft_decline")
    await shop.move_to("2026-03-01")
    old = await shop.last_invoice(viewer)
    assert old["total_minor"] == 750
    first = await reissue(shop, old["id"])
    await shop.pump.quiet()
    second = await reissue(shop, first["id"])
    assert (first["total_minor"], second["total_minor"]) == (750, 750)
    assert second["replaces_invoice_id"] == first["id"]
    middle = await shop.get(f"/v1/invoices/{first['id']}")
    assert middle["replaces_invoice_id"] == old["id"]
    assert middle["replaced_by_invoice_id"] == second["id"]
    await shop.card(viewer)
    await shop.move_to("2026-04-05")
    assert (await shop.last_invoice(viewer))["total_minor"] == 1000, "two periods were given"
    await shop.check()


async def test_changes_that_waited_are_billed_with_it(shop):
    viewer, subscription, old = await owing(shop)
    await shop.move_to("2026-03-10T10:00:00")
    await change(shop, subscription, quantity="1", settle="next_invoice")
    await card_while_dunning_is_stopped(shop, viewer)
    made = await reissue(shop, old)
    # Twenty-one of thirty-one days are left at one seat instead of two.
    assert [line["net_minor"] for line in made["lines"]] == [645, 677]
    await shop.pump.quiet()
    assert await shop.captured() == {"EUR": 2000 + 1322}
    await shop.check()


async def test_an_open_change_is_billed_again(shop):
    plan, viewer = await seats_plan(shop), await shop.customer()
    await shop.card(viewer)
    bought = await shop.subscribe(viewer, plan, quantity="2")
    await shop.card(viewer, "soft_decline")
    await shop.move_to(HALF)
    await change(shop, bought["id"], quantity="3")
    old = await shop.last_invoice(viewer)
    assert (old["status"], old["total_minor"]) == ("open", 500)
    await card_while_dunning_is_stopped(shop, viewer)
    made = await reissue(shop, old["id"])
    assert (made["reason"], made["total_minor"]) == ("subscription_change", 500)
    assert [(line["kind"], line["net_minor"]) for line in made["lines"]] == [
        ("credit", -1000), ("charge", 1500),
    ]  # fmt: skip
    await shop.pump.quiet()
    assert await shop.status(bought["id"]) == "active"
    await shop.check()


async def test_credit_that_came_meanwhile_pays_the_new_one(shop):
    viewer, subscription, old = await owing(shop)
    await adjust(shop, viewer, 2500)
    await shop.new_events(viewer)
    made = await reissue(shop, old)
    assert (made["status"], made["credit_applied_minor"]) == ("paid", 2000)
    told = await shop.new_events(viewer)
    assert told[:4] == [
        "invoice.voided", "invoice.finalized", "invoice.paid", "subscription.renewed",
    ]  # fmt: skip
    assert await shop.status(subscription) == "active"
    assert await credit_of(shop, viewer) == 500
    await shop.check()


async def test_a_first_invoice_made_anew_activates(shop):
    plan, viewer = await seats_plan(shop), await shop.customer()
    await shop.card(viewer, "soft_decline")
    refused = await shop.refused(viewer, plan)
    await shop.card(viewer)
    await reissue(shop, refused["invoice_id"], Idempotency_Key="anew")
    await shop.pump.quiet()
    again = await reissue(shop, refused["invoice_id"], Idempotency_Key="anew")
    assert (again["number"], again["status"]) == ("INV-000002", "paid")
    assert await shop.status(refused["subscription_id"]) == "active"
    assert await shop.captured() == {"EUR": 1000}
    await shop.check()


async def test_what_cannot_be_made_anew_is_told_and_stays(shop):
    viewer, subscription, old = await owing(shop)
    first = (await shop.get("/v1/invoices", customer_id=viewer))["data"][-1]["id"]
    assert (await reissue(shop, first, 409))["code"] == "invoice_not_open"
    unknown = "inv_01h455vb4pex5vsknk084sn02q"
    assert (await reissue(shop, unknown, 404))["code"] == "not_found"
    await shop.post(f"/v1/invoices/{old}/reissue", {"reason": " "}, expect=422)
    # The upgrade's invoice takes back what the open one charges.
    await shop.move_to("2026-03-10T10:00:00")
    await change(shop, subscription, quantity="3")
    assert (await reissue(shop, old, 409))["code"] == "invoice_credited"
    await shop.check()


async def test_what_has_ended_is_not_billed_anew(shop):
    viewer, subscription, old = await owing(shop)
    body = {"when": "now", "credit_unused": False}
    await shop.post(f"/v1/subscriptions/{subscription}/cancel", body, expect=200)
    await shop.new_events(viewer)
    assert (await reissue(shop, old, 409))["code"] == "invoice_not_reissuable"
    assert await shop.new_events(viewer) == []
    assert (await shop.get(f"/v1/invoices/{old}"))["status"] == "open"
    await shop.check()


async def test_an_invoice_that_left_a_cycle_is_not_made_anew(shop):
    plan, viewer = await seats_plan(shop), await shop.customer()
    yearly = await seats_plan(shop, "yearly", amount="9000", unit="year")
    await shop.card(viewer)
    bought = await shop.subscribe(viewer, plan, quantity="2")
    await shop.card(viewer, "soft_decline")
    await shop.move_to(HALF)
    await change(shop, bought["id"], plan_id=yearly)
    await shop.pump.quiet()
    old = await shop.last_invoice(viewer)
    assert (await reissue(shop, old["id"], 409))["code"] == "invoice_not_reissuable"
    await shop.check()


async def test_a_payment_under_way_keeps_its_invoice(shop):
    plan, viewer = await seats_plan(shop), await shop.customer()
    await shop.post(
        "/v1/subscriptions",
        {"customer_id": viewer, "plan_id": plan, "collection": "page",
         "return_url": "http://shop.test/x"},
    )  # fmt: skip
    await shop.pump.quiet()
    invoice = (await shop.last_invoice(viewer))["id"]
    assert (await reissue(shop, invoice, 409))["code"] == "invoice_reserved"
    await shop.check()
