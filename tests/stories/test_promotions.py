"""Promo codes and discounts through real purchases: to the cent, to the event, to the last use."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.stories.shop import VISA, open_shop

BOUGHT = [
    "subscription.created", "promotion_code.redeemed", "invoice.finalized", "payment.succeeded",
    "invoice.paid", "subscription.activated", "entitlement.granted",
]  # fmt: skip
FREE = [
    "subscription.created", "promotion_code.redeemed", "invoice.finalized", "invoice.paid",
    "subscription.activated", "entitlement.granted",
]  # fmt: skip
RENEWED = [
    "subscriptions.renew_required", "invoice.finalized", "payment.succeeded", "invoice.paid",
    "subscription.renewed", "entitlement.granted",
]  # fmt: skip
PAGE = {"collection": "page", "return_url": "http://shop.test/x"}


async def discount(shop, code="off", **terms):
    terms = terms or {"percent": "20", "duration": "once"}
    return (await shop.post("/v1/discounts", {"code": code, "name": code.title(), **terms}))["id"]


async def code(shop, discount_id, typed="SPRING24", **limits):
    return await shop.post(
        "/v1/promotion-codes", {"code": typed, "discount_id": discount_id, **limits}
    )


async def redemptions(shop, made):
    return (await shop.get(f"/v1/promotion-codes/{made['id']}"))["redemptions"]


async def refused(shop, path, body, problem, pointer, reason=None):
    """The answer is this problem at this place."""
    answer = await shop.post(path, body, expect=422)
    assert (answer["code"], answer["pointer"]) == (problem, pointer), answer
    assert answer["detail"]
    assert answer["fix"]
    if reason is not None:
        assert answer["reason"] == reason, answer
    return answer


async def buyer(shop, name="ada"):
    viewer = await shop.customer(name)
    await shop.card(viewer)
    await shop.new_events(viewer)
    return viewer


async def totals(shop, viewer):
    return [total for _, _, total in await shop.invoices(viewer)]


async def delete(shop, path, expect=204):
    answer = await shop.raw("DELETE", path)
    assert answer.status_code == expect, answer.text
    await shop.pump.quiet()


# --- purchases -----------------------------------------------------------------------------------


@pytest.mark.long
async def test_a_code_gives_its_discount_for_as_long_as_it_runs(shop):
    plan, viewer = await shop.plan(), await buyer(shop)
    third = await discount(shop, percent="33.3", duration="periods", periods=2)
    made = await code(shop, third)
    assert (made["code"], made["redemptions"]) == ("spring24", 0)

    bought = await shop.subscribe(viewer, plan, promotion_codes=[" Spring 24"])

    assert bought["discount_ids"] == [third]
    assert await shop.new_events(viewer) == BOUGHT
    [attached] = (await shop.get(f"/v1/subscriptions/{bought['id']}/discounts"))["data"]
    assert (attached["source"], attached["promotion_code_id"]) == ("promotion", made["id"])
    assert (attached["from_at"], attached["until_at"], attached["used_periods"]) == (None, None, 1)
    await shop.move_to("2026-04-01")
    assert await totals(shop, viewer) == [666, 666, 999]
    assert await shop.new_events(viewer) == RENEWED * 2
    assert await shop.captured() == {"EUR": 666 + 666 + 999}
    assert await redemptions(shop, made) == 1
    page = await shop.get(f"/v1/promotion-codes/{made['id']}/redemptions")
    assert page["data"] == [
        {"promotion_code_id": made["id"], "customer_id": viewer, "subscription_id": bought["id"],
         "redeemed_at": "2026-01-31T10:00:00Z", "released_at": None}
    ]  # fmt: skip
    await shop.check()


async def test_named_discounts_codes_and_personal_ones_stack_in_their_order(shop):
    """1000: less 10 % is 900, less 5 % of that is 855, less 2.00 is 655, less 1.00 is 555. The
    larger percentage and the larger amount come first, whoever gave them."""
    plan, viewer = await shop.plan(amounts={"EUR": 1000}), await buyer(shop)
    one = await discount(shop, "one", amount_minor=100, currency="EUR", duration="forever")
    ten = await discount(shop, "ten", percent="10", duration="periods", periods=2)
    two = await discount(shop, "two", amount_minor=200, currency="EUR", duration="once")
    five = await discount(shop, "five", percent="5", duration="forever")
    await code(shop, ten, "TEN")
    await code(shop, two, "TWO")
    await shop.post(f"/v1/customers/{viewer}/discounts", {"discount_id": five})

    bought = await shop.subscribe(viewer, plan, discount_ids=[one], promotion_codes=["two", "ten"])

    assert bought["discount_ids"] == [one, two, ten, five]
    assert await shop.new_events(viewer) == [
        "customer.discount_added", BOUGHT[0], "promotion_code.redeemed", *BOUGHT[1:],
    ]  # fmt: skip
    invoice = await shop.get(f"/v1/invoices/{(await shop.last_invoice(viewer))['id']}/explain")
    steps = invoice["lines"][0]["derivation"]["discounts"]
    assert [(each["base_minor"], each["amount_minor"]) for each in steps] == [
        (1000, 100), (900, 45), (855, 200), (655, 100),
    ]  # fmt: skip
    await shop.move_to("2026-04-01")
    # Then 1000 less 10 %, 5 % and 1.00; then 1000 less 5 % and 1.00.
    assert await totals(shop, viewer) == [555, 755, 850]
    await shop.check()


@pytest.mark.parametrize(
    "terms",
    [
        {"percent": "100", "duration": "once"},
        {"amount_minor": 999, "currency": "EUR", "duration": "once"},
        {"amount_minor": 5000, "currency": "EUR", "duration": "once"},
    ],
    ids=["all", "the amount", "more"],
)
@pytest.mark.long
async def test_a_whole_discount_makes_the_first_invoice_free(shop, terms):
    """What is left of a larger amount is lost: it was for once."""
    plan, viewer = await shop.plan(), await buyer(shop)
    await code(shop, await discount(shop, **terms))

    bought = await shop.subscribe(viewer, plan, promotion_codes=["SPRING24"])

    assert bought["status"] == "active"
    assert await shop.new_events(viewer) == FREE
    await shop.move_to("2026-03-01")
    assert await totals(shop, viewer) == [0, 999]
    assert await shop.captured() == {"EUR": 999}
    await shop.check()


async def test_a_declined_purchase_holds_its_code_and_can_be_paid_later(shop):
    plan, viewer = await shop.plan(), await shop.customer()
    await shop.card(viewer, "soft_decline")
    made = await code(shop, await discount(shop), most_redemptions=1)
    answer = await shop.post(
        "/v1/subscriptions",
        {"customer_id": viewer, "plan_id": plan, "promotion_codes": ["spring24"]},
        expect=402,
    )
    await shop.pump.quiet()
    assert await redemptions(shop, made) == 1
    good = await shop.card(viewer)

    await shop.post("/v1/payments", {"invoice_id": answer["invoice_id"], "payment_method_id": good})

    await shop.pump.quiet()
    assert await shop.status(answer["subscription_id"]) == "active"
    assert await shop.captured() == {"EUR": 799}
    await shop.move_to("2026-02-10")
    assert await redemptions(shop, made) == 1
    await shop.check()


@pytest.mark.parametrize("how", ["expires", "is canceled"])
@pytest.mark.long
async def test_a_purchase_that_comes_to_nothing_gives_its_code_back(shop, how):
    plan, viewer = await shop.plan(), await shop.customer()
    made = await code(shop, await discount(shop), most_redemptions=1, most_per_customer=1)
    await shop.new_events(viewer)
    bought = await shop.subscribe(viewer, plan, promotion_codes=["SPRING24"], **PAGE)
    assert await redemptions(shop, made) == 1
    payment = (await shop.get("/v1/payments", customer_id=viewer))["data"][0]["id"]
    await shop.post(f"/v1/payments/{payment}/cancel", expect=200)
    await shop.new_events(viewer)

    if how == "expires":
        await shop.move_to("2026-02-02")
    else:
        path = f"/v1/subscriptions/{bought['id']}/cancel"
        await shop.post(path, {"when": "now"}, expect=200)

    told = await shop.new_events(viewer)
    expiry = ["subscriptions.expiry_required"] if how == "expires" else []
    assert told == [
        *expiry, "invoice.voided", "promotion_code.released", "subscription.canceled",
    ]  # fmt: skip
    assert await redemptions(shop, made) == 0
    [row] = (await shop.get(f"/v1/promotion-codes/{made['id']}/redemptions"))["data"]
    assert row["released_at"] is not None
    await shop.card(viewer)
    again = await shop.subscribe(viewer, plan, promotion_codes=["SPRING24"])
    assert again["status"] == "active"
    assert await redemptions(shop, made) == 1
    await shop.check()


async def test_a_canceled_subscription_that_was_paid_keeps_its_redemption(shop):
    plan, viewer = await shop.plan(), await buyer(shop)
    made = await code(shop, await discount(shop))
    bought = await shop.subscribe(viewer, plan, promotion_codes=["SPRING24"])
    await shop.post(f"/v1/subscriptions/{bought['id']}/cancel", {"when": "now"}, expect=200)
    assert await redemptions(shop, made) == 1
    await shop.check()


async def test_the_same_request_twice_redeems_once(shop):
    plan, viewer = await shop.plan(), await buyer(shop)
    made = await code(shop, await discount(shop), most_redemptions=1)
    body = {"customer_id": viewer, "plan_id": plan, "promotion_codes": ["SPRING24"]}
    first = await shop.post("/v1/subscriptions", body, Idempotency_Key="buy")
    second = await shop.post("/v1/subscriptions", body, Idempotency_Key="buy")
    assert second["id"] == first["id"]
    assert await redemptions(shop, made) == 1
    await shop.check()


# --- two at once ---------------------------------------------------------------------------------


async def test_two_customers_who_use_the_last_use_at_once(shop):
    """One gets it; the other's purchase is refused whole, nothing half done."""
    plan = await shop.plan()
    viewers = [await buyer(shop, f"v{n}") for n in range(6)]
    made = await code(shop, await discount(shop), most_redemptions=1)

    answers = await shop.pump.during(
        asyncio.gather(
            *(
                shop.api.post(
                    "/v1/subscriptions",
                    json={"customer_id": each, "plan_id": plan, "promotion_codes": ["SPRING24"]},
                )
                for each in viewers
            )
        )
    )

    assert Counter(each.status_code for each in answers) == {201: 1, 422: 5}
    for viewer, answer in zip(viewers, answers, strict=True):
        told = answer.json()
        if answer.status_code == 422:
            assert (told["code"], told["reason"], told["pointer"]) == (
                "promotion_code_refused", "used_up", "/promotion_codes/0",
            )  # fmt: skip
            assert await shop.new_events(viewer) == []
            assert await shop.invoices(viewer) == []
            assert (await shop.get("/v1/subscriptions", customer_id=viewer))["data"] == []
        else:
            assert await shop.new_events(viewer) == BOUGHT
            assert await totals(shop, viewer) == [799]
    assert await redemptions(shop, made) == 1
    assert await shop.captured() == {"EUR": 799}
    await shop.check()


async def test_one_customer_who_uses_a_code_twice_at_once(shop):
    plan, viewer = await shop.plan(), await buyer(shop)
    made = await code(shop, await discount(shop), most_per_customer=1)
    body = {"customer_id": viewer, "plan_id": plan, "promotion_codes": ["SPRING24"]}
    answers = await shop.pump.during(
        asyncio.gather(*(shop.api.post("/v1/subscriptions", json=body) for _ in range(4)))
    )
    assert Counter(each.status_code for each in answers) == {201: 1, 422: 3}
    reasons = {each.json()["reason"] for each in answers if each.status_code == 422}
    assert reasons == {"used_by_customer"}
    assert await redemptions(shop, made) == 1
    assert await totals(shop, viewer) == [799]
    await shop.check()


@pytest.mark.long
async def test_codes_in_either_order_at_once_do_not_block_each_other(shop):
    plan = await shop.plan()
    for name in ("one", "two"):
        off = await discount(shop, name, amount_minor=100, currency="EUR", duration="once")
        await code(shop, off, name)
    viewers = [await buyer(shop, f"v{n}") for n in range(6)]
    answers = await shop.pump.during(
        asyncio.gather(
            *(
                shop.api.post(
                    "/v1/subscriptions",
                    json={"customer_id": each, "plan_id": plan,
                          "promotion_codes": ["one", "two"][:: 1 if n % 2 else -1]},
                )
                for n, each in enumerate(viewers)
            )
        )
    )  # fmt: skip
    assert {each.status_code for each in answers} == {201}
    assert await shop.captured() == {"EUR": 6 * 799}
    await shop.check()


# --- limits --------------------------------------------------------------------------------------


async def test_every_limit_refuses_with_its_reason_and_says_so_beforehand(shop):
    plan, other = await shop.plan(), await shop.plan("other", amounts={"EUR": 500})
    viewer, stranger = await buyer(shop), await buyer(shop, "bob")
    # Each with a discount of its own: a subscription has a discount once.
    for n, (reason, limits) in enumerate({
        "not_yours": {"customer_id": stranger},
        "not_started": {"valid_from_at": "2026-02-01T00:00:00Z"},
        "other_plan": {"plan_ids": [other]},
        "other_currency": {"currencies": ["USD"]},
        "below_minimum": {"minimum": [{"currency": "EUR", "amount_minor": 1000}]},
        "expired": {"valid_until_at": "2026-01-31T10:00:01Z"},
    }.items()):  # fmt: skip
        off = await discount(shop, f"off{n}")
        await code(shop, off, f"CODE-{n}", **limits)
        if reason == "expired":
            await shop.move_to("2026-01-31T10:00:01")
        body = {"customer_id": viewer, "plan_id": plan, "promotion_codes": [f"code-{n}"]}
        said = await refused(
            shop, "/v1/subscriptions", body, "promotion_code_refused", "/promotion_codes/0", reason
        )
        checked = await shop.post(
            "/v1/promotion-codes/check",
            {"code": f"code-{n}", "customer_id": viewer, "plan_id": plan},
            expect=200,
        )
        assert (checked["is_usable"], checked["reason"]) == (False, reason)
        assert checked["text"]["en"] == said["detail"]
        assert checked["text"]["ru"] != said["detail"]
        assert (checked["promotion_code_id"], checked["discount_id"]) == (None, None)
    assert await shop.new_events(viewer) == []
    assert await shop.invoices(viewer) == []
    # Where they fit they work.
    for who, what, typed in ((stranger, plan, "CODE-0"), (viewer, other, "CODE-2")):
        await shop.subscribe(who, what, promotion_codes=[typed])
    assert await totals(shop, stranger) == [799]
    assert await totals(shop, viewer) == [400]
    await shop.check()


async def test_a_minimum_is_of_the_full_price_before_discounts(shop):
    plan, viewer = await shop.plan(amounts={"EUR": 500}), await buyer(shop)
    half = await discount(shop, "half", percent="50", duration="once")
    await code(shop, half, minimum=[{"currency": "EUR", "amount_minor": 1000}])
    body = {"customer_id": viewer, "plan_id": plan, "promotion_codes": ["SPRING24"]}
    await refused(shop, "/v1/subscriptions", body, "promotion_code_refused",
                  "/promotion_codes/0", "below_minimum")  # fmt: skip
    asked = {"code": "SPRING24", "customer_id": viewer, "plan_id": plan, "quantity": "2"}
    # A flat price does not grow with the quantity.
    checked = await shop.post("/v1/promotion-codes/check", asked, expect=200)
    assert checked["reason"] == "below_minimum"
    big = await shop.plan("big", amounts={"EUR": 1000})
    await shop.subscribe(viewer, big, promotion_codes=["SPRING24"])
    assert await totals(shop, viewer) == [500]
    await shop.check()


async def test_a_first_purchase_is_the_first_that_is_not_given_up(shop):
    plan, viewer = await shop.plan(), await shop.customer()
    made = await code(shop, await discount(shop), first_purchase_only=True)
    body = {"customer_id": viewer, "plan_id": plan, "promotion_codes": ["SPRING24"]}
    waiting = await shop.subscribe(viewer, plan, **PAGE)
    await refused(shop, "/v1/subscriptions", body, "promotion_code_refused",
                  "/promotion_codes/0", "not_first_purchase")  # fmt: skip
    payment = (await shop.get("/v1/payments", customer_id=viewer))["data"][0]["id"]
    await shop.post(f"/v1/payments/{payment}/cancel", expect=200)
    await shop.pump.quiet()
    path = f"/v1/subscriptions/{waiting['id']}/cancel"
    await shop.post(path, {"when": "now"}, expect=200)
    await shop.card(viewer)

    bought = await shop.subscribe(viewer, plan, promotion_codes=["SPRING24"])

    assert bought["status"] == "active"
    path = f"/v1/subscriptions/{bought['id']}/cancel"
    await shop.post(path, {"when": "now"}, expect=200)
    await refused(shop, "/v1/subscriptions", body, "promotion_code_refused",
                  "/promotion_codes/0", "not_first_purchase")  # fmt: skip
    assert await redemptions(shop, made) == 1
    await shop.check()


async def test_codes_that_are_none_unknown_foreign_or_out_of_use(shop, process):
    plan, viewer = await shop.plan(), await buyer(shop)
    foreign = await open_shop(process)
    await code(foreign, await discount(foreign), "THEIRS")
    await foreign.api.aclose()
    made = await code(shop, await discount(shop), "OURS")
    archived = await discount(shop, "archived")
    await code(shop, archived, "ARCHIVED")
    await shop.post(f"/v1/promotion-codes/{made['id']}/deactivate", expect=200)
    await shop.post(f"/v1/discounts/{archived}/archive", expect=200)
    for typed, reason in (
        ("THEIRS", "unknown"), ("NOBODYS", "unknown"), ("", "malformed"), ("a_b", "malformed"),
        ("\u041eURS", "malformed"),  # a Cyrillic O
        ("OURS", "inactive"), ("ARCHIVED", "inactive"),
    ):  # fmt: skip
        body = {"customer_id": viewer, "plan_id": plan, "promotion_codes": [typed]}
        await refused(shop, "/v1/subscriptions", body, "promotion_code_refused",
                      "/promotion_codes/0", reason)  # fmt: skip
    good = await code(shop, await discount(shop, "good"), "GOOD")
    twice = {"customer_id": viewer, "plan_id": plan, "promotion_codes": ["GOOD", "g o o d"]}
    await refused(shop, "/v1/subscriptions", twice, "discount_not_applicable", "/promotion_codes/1")
    both = twice | {"promotion_codes": ["GOOD"], "discount_ids": [good["discount_id"]]}
    await refused(shop, "/v1/subscriptions", both, "discount_not_applicable", "/promotion_codes/0")
    many = twice | {"promotion_codes": [f"GOOD-{n}" for n in range(6)]}
    await refused(shop, "/v1/subscriptions", many, "invalid_request", "/promotion_codes")
    named = {"customer_id": viewer, "plan_id": plan, "discount_ids": [archived]}
    await refused(shop, "/v1/subscriptions", named, "discount_not_applicable", "/discount_ids/0")
    assert await shop.new_events(viewer) == []
    assert await redemptions(shop, good) == 0
    await shop.check()


# --- many codes ----------------------------------------------------------------------------------


@pytest.mark.long
async def test_ten_thousand_codes_at_once(shop):
    off = await discount(shop)
    body = {"n": 10_000, "prefix": "Summer", "discount_id": off, "most_redemptions": 1}
    made = await shop.post("/v1/promotion-codes/bulk", body, Idempotency_Key="summer")
    codes = made["codes"]
    assert len(set(codes)) == 10_000
    assert all(each.startswith("summer-") and len(each) == 19 for each in codes)

    again = await shop.post("/v1/promotion-codes/bulk", body, Idempotency_Key="summer")
    assert again == made
    reused = await shop.post(
        "/v1/promotion-codes/bulk", body | {"n": 9_999}, expect=422, Idempotency_Key="summer"
    )
    assert reused["code"] == "idempotency_key_reused"
    more = await shop.post("/v1/promotion-codes/bulk", body)
    assert not set(codes) & set(more["codes"])

    page = await shop.get("/v1/promotion-codes", batch_id=made["batch_id"], limit=100)
    assert (len(page["data"]), page["has_more"]) == (100, True)
    # Two work, each once; o and l are read as the 0 and 1 that they look like.
    plan, viewer = await shop.plan(), await buyer(shop)
    head, _, tail = codes[0].partition("-")
    typed = f"{head}-{tail}".upper().replace("0", "O").replace("1", "L")
    typed = typed.replace("SUMMER", "summer")
    await shop.subscribe(viewer, plan, promotion_codes=[typed])
    assert await totals(shop, viewer) == [799]
    [used] = (await shop.get("/v1/promotion-codes", code=codes[0]))["data"]
    assert (used["redemptions"], used["most_redemptions"]) == (1, 1)
    body = {"customer_id": viewer, "plan_id": plan, "promotion_codes": [codes[0]]}
    await refused(shop, "/v1/subscriptions", body, "promotion_code_refused",
                  "/promotion_codes/0", "used_up")  # fmt: skip
    await shop.check()


async def test_an_abandoned_page_that_is_paid_in_time_keeps_the_code(shop):
    plan, viewer = await shop.plan(), await shop.customer()
    made = await code(shop, await discount(shop), most_redemptions=1)
    bought = await shop.subscribe(viewer, plan, promotion_codes=["SPRING24"], **PAGE)
    await shop.move_to("2026-01-31T20:00:00")
    await shop.pay_page(bought["next_action"]["redirect_url"], VISA)
    await shop.pump.quiet()
    await shop.move_to("2026-02-03")
    assert await shop.status(bought["id"]) == "active"
    assert await redemptions(shop, made) == 1
    assert await shop.captured() == {"EUR": 799}
    await shop.check()
