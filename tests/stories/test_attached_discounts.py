"""Discounts and codes of live subscriptions and of customers, and of purchases that begin later."""

from __future__ import annotations

import pytest

from tests.stories.test_promotions import (
    buyer,
    code,
    delete,
    discount,
    redemptions,
    refused,
    totals,
)

# --- live subscriptions --------------------------------------------------------------------------


@pytest.mark.long
async def test_a_discount_of_a_live_subscription_counts_from_the_next_period(shop):
    """The present period keeps its price, also when a change bills it anew."""
    plan, viewer = await shop.plan(), await buyer(shop)
    dear = await shop.plan("dear", amounts={"EUR": 1999})
    bought = await shop.subscribe(viewer, plan)
    half = await discount(shop, "half", percent="50", duration="periods", periods=2)
    await shop.new_events(viewer)
    path = f"/v1/subscriptions/{bought['id']}"

    changed = await shop.post(f"{path}/discounts", {"discount_id": half}, expect=200)

    assert changed["discount_ids"] == [half]
    assert await shop.new_events(viewer) == ["subscription.changed"]
    await shop.move_to("2026-02-14T10:00:00")
    await shop.post(f"{path}/change", {"plan_id": dear}, expect=200)
    await shop.pump.quiet()
    # Half of the 28 days: -999 and 500 + 1000, nothing discounted.
    assert (await totals(shop, viewer))[-1] == 501
    upcoming = await shop.get(f"{path}/upcoming-invoice")
    assert (upcoming["total_minor"], upcoming["discount_minor"]) == (999, 1000)
    await shop.move_to("2026-05-01")
    assert await totals(shop, viewer) == [999, 501, 999, 999, 1999]
    await shop.check()


@pytest.mark.long
async def test_a_discount_that_is_taken_away_stays_for_the_present_period(shop):
    plan, viewer = await shop.plan(amounts={"EUR": 1000}), await buyer(shop)
    half = await discount(shop, "half", percent="50", duration="forever")
    bought = await shop.subscribe(viewer, plan, discount_ids=[half])
    path = f"/v1/subscriptions/{bought['id']}"
    await shop.new_events(viewer)

    await delete(shop, f"{path}/discounts/{half}")

    assert await shop.new_events(viewer) == ["subscription.changed"]
    assert (await shop.get(path))["discount_ids"] == []
    await delete(shop, f"{path}/discounts/{half}", expect=404)
    # Taken back while it is in effect: it stays; taken away once more.
    await shop.post(f"{path}/discounts", {"discount_id": half}, expect=200)
    assert (await shop.get(path))["discount_ids"] == [half]
    await shop.move_to("2026-02-10")
    await delete(shop, f"{path}/discounts/{half}")
    [row] = (await shop.get(f"{path}/discounts"))["data"]
    assert row["until_at"] == "2026-02-10T00:00:00Z"
    # A change in this period is billed with the discount on both sides: -500, 250 and 500.
    dear = await shop.plan("dear", amounts={"EUR": 2000})
    await shop.move_to("2026-02-14T10:00:00")
    await shop.post(f"{path}/change", {"plan_id": dear}, expect=200)
    await shop.pump.quiet()
    assert await totals(shop, viewer) == [500, 250]
    await shop.move_to("2026-03-01")
    assert await totals(shop, viewer) == [500, 250, 2000]
    # It is over: each discount once.
    await refused(
        shop, f"{path}/discounts", {"discount_id": half}, "discount_not_applicable", "/discount_id"
    )
    await shop.check()


async def test_a_code_for_a_live_subscription(shop):
    plan, viewer = await shop.plan(), await buyer(shop)
    bought = await shop.subscribe(viewer, plan)
    path = f"/v1/subscriptions/{bought['id']}/discounts"
    made = await code(shop, await discount(shop), most_redemptions=1)
    first = await code(shop, await discount(shop, "first"), "FIRST", first_purchase_only=True)
    await shop.new_events(viewer)

    await shop.post(path, {"promotion_code": "spring24"}, expect=200, Idempotency_Key="k")
    await shop.post(path, {"promotion_code": "spring24"}, expect=200, Idempotency_Key="k")

    assert await shop.new_events(viewer) == ["promotion_code.redeemed", "subscription.changed"]
    await refused(shop, path, {"promotion_code": "spring24"}, "promotion_code_refused",
                  "/promotion_code", "used_up")  # fmt: skip
    await refused(shop, path, {"promotion_code": "FIRST"}, "promotion_code_refused",
                  "/promotion_code", "not_first_purchase")  # fmt: skip
    other = await code(shop, made["discount_id"], "OTHER")
    await refused(
        shop, path, {"promotion_code": "OTHER"}, "discount_not_applicable", "/promotion_code"
    )
    for body in ({}, {"promotion_code": "OTHER", "discount_id": made["discount_id"]}):
        await refused(shop, path, body, "invalid_request", "")
    await refused(shop, path, {"discount_id": "disc_01h455vb4pex5vsknk084sn02q"},
                  "unknown_reference", "/discount_id")  # fmt: skip
    assert [await redemptions(shop, each) for each in (made, first, other)] == [1, 0, 0]
    await shop.move_to("2026-04-01")
    assert await totals(shop, viewer) == [999, 799, 999]
    gone = await shop.post(f"/v1/subscriptions/{bought['id']}/cancel", {"when": "now"}, expect=200)
    assert gone["status"] == "canceled"
    ended = await shop.post(path, {"promotion_code": "OTHER"}, expect=409)
    assert ended["code"] == "subscription_ended"
    await shop.check()


@pytest.mark.long
async def test_a_personal_discount_is_on_all_that_a_customer_pays_for(shop):
    plan, viewer, other = await shop.plan(), await buyer(shop), await buyer(shop, "bob")
    present = await shop.subscribe(viewer, plan)
    await shop.subscribe(other, plan)
    tenth = await discount(shop, "tenth", percent="10", duration="forever")
    path = f"/v1/customers/{viewer}/discounts"
    await shop.new_events(viewer)

    given = await shop.post(path, {"discount_id": tenth})

    assert given == {
        "customer_id": viewer, "discount_id": tenth, "added_at": "2026-01-31T10:00:00Z",
        "removed_at": None,
    }  # fmt: skip
    assert await shop.new_events(viewer) == ["customer.discount_added", "subscription.changed"]
    future = await shop.subscribe(viewer, plan)
    [row] = (await shop.get(f"/v1/subscriptions/{future['id']}/discounts"))["data"]
    assert (row["discount_id"], row["source"]) == (tenth, "customer")
    await refused(shop, path, {"discount_id": tenth}, "discount_not_applicable", "/discount_id")
    await shop.move_to("2026-03-01")
    # 999 less 99.9, rounded half up: 899.
    assert await totals(shop, viewer) == [999, 899, 899, 899]
    assert await totals(shop, other) == [999, 999]

    await delete(shop, f"{path}/{tenth}")

    assert (await shop.get(path))["data"][0]["removed_at"] == "2026-03-01T00:00:00Z"
    await delete(shop, f"{path}/{tenth}", expect=404)
    last = await shop.subscribe(viewer, plan)
    for each in (present, future, last):
        assert (await shop.get(f"/v1/subscriptions/{each['id']}"))["discount_ids"] == []
    await shop.move_to("2026-04-01T12:00:00")
    assert (await totals(shop, viewer))[4:] == [999, 999, 999, 999]
    await shop.check()


async def test_a_personal_discount_in_another_currency_is_refused(shop):
    viewer = await buyer(shop)
    yen = await discount(shop, "yen", amount_minor=100, currency="JPY", duration="once")
    path = f"/v1/customers/{viewer}/discounts"
    await refused(shop, path, {"discount_id": yen}, "discount_not_applicable", "/discount_id")
    both = await discount(
        shop, "both", amount_minor=100, currency="JPY", duration="once",
        other_amounts=[{"currency": "EUR", "amount_minor": 50}],
    )  # fmt: skip
    await shop.post(path, {"discount_id": both})
    unknown = {"discount_id": "disc_01h455vb4pex5vsknk084sn02q"}
    await refused(shop, path, unknown, "unknown_reference", "/discount_id")
    assert await shop.new_events(viewer) == ["customer.discount_added"]
    await shop.check()


# --- purchases that begin later ------------------------------------------------------------------


async def test_a_code_of_a_trial_is_taken_off_the_first_invoice_after_it(shop):
    plan = await shop.plan(trial_days=14)
    viewer = await buyer(shop)
    made = await code(shop, await discount(shop))
    bought = await shop.subscribe(viewer, plan, promotion_codes=["SPRING24"])
    assert bought["status"] == "trialing"
    assert await redemptions(shop, made) == 1
    await shop.move_to("2026-03-15")
    assert await totals(shop, viewer) == [799, 999]
    assert await redemptions(shop, made) == 1
    await shop.check()


@pytest.mark.parametrize("more", [{"trial_days": 14}, {"start_at": "2026-02-10T00:00:00Z"}])
async def test_a_purchase_that_ends_before_it_is_billed_gives_its_code_back(shop, more):
    plan, viewer = await shop.plan(), await buyer(shop)
    made = await code(shop, await discount(shop), first_purchase_only=True, most_redemptions=1)
    bought = await shop.subscribe(viewer, plan, promotion_codes=["SPRING24"], **more)
    assert bought["status"] in {"trialing", "pending"}
    body = {"customer_id": viewer, "plan_id": plan, "promotion_codes": ["SPRING24"]}
    await refused(shop, "/v1/subscriptions", body, "promotion_code_refused",
                  "/promotion_codes/0", "used_up")  # fmt: skip
    path = f"/v1/subscriptions/{bought['id']}/cancel"
    await shop.post(path, {"when": "now"}, expect=200)
    assert await redemptions(shop, made) == 0
    assert "promotion_code.released" in await shop.new_events(viewer)
    await shop.subscribe(viewer, plan, promotion_codes=["SPRING24"])
    assert await totals(shop, viewer) == [799]
    await shop.check()


async def test_trials_that_are_to_end_give_their_codes_back_beside_paid_ones_that_end(shop):
    """One run of cancellations: what was paid for stays redeemed, what was not is given back."""
    plan, free = await shop.plan(), await shop.plan("free", trial_days=28)
    viewer = await buyer(shop)
    paid = await code(shop, await discount(shop, "paid"), "PAID")
    tried = await code(shop, await discount(shop, "tried"), "TRIED")
    for which, typed in ((plan, "PAID"), (free, "TRIED")):
        bought = await shop.subscribe(viewer, which, promotion_codes=[typed])
        path = f"/v1/subscriptions/{bought['id']}/cancel"
        await shop.post(path, {"when": "period_end"}, expect=200)
    await shop.new_events(viewer)
    await shop.move_to("2026-03-05")
    told = await shop.new_events(viewer)
    assert told.count("subscription.canceled") == 2
    assert told.count("promotion_code.released") == 1
    assert [await redemptions(shop, each) for each in (paid, tried)] == [1, 0]
    assert await totals(shop, viewer) == [799]
    await shop.check()


async def test_a_discount_attached_in_a_trial_counts_from_its_first_invoice(shop):
    plan, viewer = await shop.plan(trial_days=14), await buyer(shop)
    bought = await shop.subscribe(viewer, plan)
    await shop.move_to("2026-02-05")
    off = await discount(shop, percent="20", duration="once")
    path = f"/v1/subscriptions/{bought['id']}"
    await shop.post(f"{path}/discounts", {"discount_id": off}, expect=200)
    assert (await shop.get(f"{path}/upcoming-invoice"))["total_minor"] == 799
    await shop.move_to("2026-03-20")
    assert await totals(shop, viewer) == [799, 999]
    await shop.check()


async def test_a_preview_of_a_purchase_takes_codes_and_redeems_none(shop):
    plan, viewer = await shop.plan(), await buyer(shop)
    own = await discount(shop, "own", percent="10", duration="forever")
    await shop.post(f"/v1/customers/{viewer}/discounts", {"discount_id": own})
    made = await code(shop, await discount(shop), most_redemptions=1)
    body = {"customer_id": viewer, "plan_id": plan, "promotion_codes": ["SPRING24"]}
    await shop.new_events(viewer)
    # 999 less 199.8 is 799; less 79.9 is 719.
    for _ in range(2):
        seen = await shop.post("/v1/subscriptions/preview", body, expect=200)
        assert seen["total_minor"] == 719, seen
    assert await redemptions(shop, made) == 0
    assert await shop.new_events(viewer) == []
    await shop.subscribe(viewer, plan, promotion_codes=["SPRING24"])
    assert await totals(shop, viewer) == [719]
    await refused(shop, "/v1/subscriptions/preview", body, "promotion_code_refused",
                  "/promotion_codes/0", "used_up")  # fmt: skip
    await shop.check()
