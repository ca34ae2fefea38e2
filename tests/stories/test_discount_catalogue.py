"""The catalogue of discounts and promo codes: all kinds and options, and clear words against what
cannot be."""

from __future__ import annotations

import pytest

from tests.stories.test_promotions import buyer, code, discount, refused, totals

pytestmark = pytest.mark.long

PERCENT = {"percent": "10", "duration": "forever"}
FIXED = {"amount_minor": 500, "currency": "EUR", "duration": "once"}
EUR, USD = {"currency": "EUR", "amount_minor": 300}, {"currency": "USD", "amount_minor": 400}
NOBODY = "disc_01h455vb4pex5vsknk084sn02q"


async def test_every_option_is_kept_and_told(shop):
    plan = await shop.plan()
    product = (await shop.get(f"/v1/plans/{plan}"))["product_id"]
    scope = sorted(["price:base", "plan:basic", "product:basic", plan, product])
    for n, (terms, told) in enumerate([
        (PERCENT, {"kind": "percent", "spread": "line"}),
        (FIXED, {"kind": "fixed", "spread": "invoice"}),
        (PERCENT | {"months": 3, "until_at": "2027-01-01T00:00:00Z", "applies_to": scope}, {}),
        (PERCENT | {"spread": "invoice", "exclusive": True, "caps": [EUR, USD]}, {}),
        (PERCENT | {"caps": [EUR], "cap_for_life": True}, {}),
        (FIXED | {"other_amounts": [USD], "prorated": True, "spread": "line"}, {}),
        (FIXED | {"carried": True}, {}),
        ({"free_units": "2.5", "duration": "periods", "periods": 3, "applies_to": ["price:base"]},
         {"kind": "free_units", "spread": "line"}),
    ]):  # fmt: skip
        made = await shop.post("/v1/discounts", {"code": f"d{n}", "name": "D", **terms})
        wanted = {"applies_to": [], "archived_at": None} | terms | told
        assert {name: made[name] for name in wanted} == wanted
        assert await shop.get(f"/v1/discounts/{made['id']}") == made
        assert (await shop.get("/v1/discounts", code=f"d{n}"))["data"] == [made]


@pytest.mark.parametrize(
    ("terms", "pointer"),
    [
        ({"percent": "100.01", "duration": "once"}, "/percent"),
        ({"percent": "0", "duration": "once"}, "/percent"),
        ({"percent": "-5", "duration": "once"}, "/percent"),
        ({"percent": "0.0000001", "duration": "once"}, "/percent"),
        (FIXED | {"amount_minor": -1}, "/amount_minor"),
        (FIXED | {"amount_minor": 0}, "/amount_minor"),
        (FIXED | {"amount_minor": 10**15 + 1}, "/amount_minor"),
        (FIXED | {"currency": "XXX"}, "/currency"),
        (FIXED | {"percent": "5"}, ""),
        ({"duration": "once"}, ""),
        (PERCENT | {"currency": "EUR"}, ""),
        (PERCENT | {"periods": 3}, ""),
        (PERCENT | {"months": 0}, "/months"),
        (PERCENT | {"until_at": "2026-01-31T10:00:00Z"}, "/until_at"),
        (PERCENT | {"until_at": "2026-01-01"}, "/until_at"),
        (PERCENT | {"other_amounts": [USD]}, "/other_amounts"),
        (PERCENT | {"prorated": True}, "/prorated"),
        (PERCENT | {"carried": True}, "/carried"),
        (FIXED | {"other_amounts": [EUR]}, "/other_amounts"),
        (FIXED | {"carried": True, "duration": "forever"}, "/carried"),
        (PERCENT | {"caps": [EUR, EUR]}, "/caps"),
        (PERCENT | {"caps": [EUR, USD], "cap_for_life": True}, "/caps"),
        ({"free_units": "2", "duration": "once"}, "/free_units"),
        ({"free_units": "0", "duration": "once", "applies_to": ["price:base"]}, "/free_units"),
        ({"free_units": "-1", "duration": "once", "applies_to": ["price:base"]}, "/free_units"),
        ({"free_units": "2", "duration": "once", "applies_to": ["price:base"],
          "exclusive": True}, "/exclusive"),
        ({"free_units": "2", "duration": "once", "applies_to": ["price:base"],
          "caps": [EUR]}, "/caps"),
        (PERCENT | {"spread": "page"}, "/spread"),
        (PERCENT | {"applies_to": ["plan:basic", "plan:basic"]}, "/applies_to"),
        (PERCENT | {"exclusive": "yes"}, "/exclusive"),
    ],
)  # fmt: skip
async def test_a_discount_that_cannot_be(shop, terms, pointer):
    await shop.plan()
    body = {"code": "bad", "name": "Bad", **terms}
    await refused(shop, "/v1/discounts", body, "invalid_request", pointer)
    assert (await shop.get("/v1/discounts"))["data"] == []


async def test_a_discount_names_only_what_is_there(shop):
    await shop.plan()
    for name in (
        "basic", "plan:nobody", "price:basic", "product:base", "line:base", "plan:",
        "plan_01h455vb4pex5vsknk084sn02q", "price_01h455vb4pex5vsknk084sn02q", "prod_x", NOBODY,
    ):  # fmt: skip
        body = {"code": "bad", "name": "B", **PERCENT, "applies_to": ["plan:basic", name]}
        await refused(shop, "/v1/discounts", body, "unknown_reference", "/applies_to/1")


async def test_an_archived_discount_is_attached_to_nothing_new(shop):
    plan, viewer, other = await shop.plan(), await buyer(shop), await buyer(shop, "bob")
    off = await discount(shop, percent="10", duration="forever")
    await shop.post(f"/v1/customers/{other}/discounts", {"discount_id": off})
    bought = await shop.subscribe(viewer, plan, discount_ids=[off])

    archived = await shop.post(f"/v1/discounts/{off}/archive", expect=200)

    assert archived["archived_at"] == "2026-01-31T10:00:00Z"
    assert await shop.post(f"/v1/discounts/{off}/archive", expect=200) == archived
    gone = await shop.post(f"/v1/discounts/{NOBODY}/archive", expect=404)
    assert gone["code"] == "not_found"
    body = {"customer_id": viewer, "plan_id": plan, "discount_ids": [off]}
    await refused(shop, "/v1/subscriptions", body, "discount_not_applicable", "/discount_ids/0")
    fresh = await shop.subscribe(viewer, plan)
    path = f"/v1/subscriptions/{fresh['id']}/discounts"
    for where in (path, f"/v1/customers/{viewer}/discounts"):
        await refused(shop, where, {"discount_id": off}, "discount_not_applicable", "/discount_id")
    await refused(
        shop, "/v1/promotion-codes", {"code": "LATE", "discount_id": off},
        "discount_not_applicable", "/discount_id",
    )  # fmt: skip
    await shop.subscribe(other, plan)
    await shop.move_to("2026-03-01")
    assert await totals(shop, viewer) == [899, 999, 899, 999]
    assert await totals(shop, other) == [999, 999]
    assert (await shop.get(f"/v1/subscriptions/{bought['id']}"))["discount_ids"] == [off]
    await shop.check()


async def test_a_promo_code_that_cannot_be(shop):
    plan, viewer = await shop.plan(), await shop.customer()
    off = await discount(shop, percent="10", duration="forever")
    ended = await discount(shop, "e", percent="10", duration="once",
                           until_at="2026-02-10T00:00:00Z")  # fmt: skip
    path, base = "/v1/promotion-codes", {"code": "SPRING24", "discount_id": off}
    for terms, problem, pointer in (
        ({"code": "ab"}, "invalid_request", "/code"),
        ({"code": "S\u0420RING24"}, "invalid_request", "/code"),  # a Cyrillic Er
        ({"code": "SPRING_24"}, "invalid_request", "/code"),
        ({"code": "x" * 65}, "invalid_request", "/code"),
        ({"code": "x" * 201}, "invalid_request", "/code"),
        ({"discount_id": NOBODY}, "unknown_reference", "/discount_id"),
        ({"plan_ids": [plan, "plan_01h455vb4pex5vsknk084sn02q"]}, "unknown_reference",
         "/plan_ids/1"),
        ({"plan_ids": [plan, plan]}, "invalid_request", "/plan_ids"),
        ({"customer_id": "cus_01h455vb4pex5vsknk084sn02q"}, "unknown_reference", "/customer_id"),
        ({"most_redemptions": 0}, "invalid_request", "/most_redemptions"),
        ({"most_per_customer": -1}, "invalid_request", "/most_per_customer"),
        ({"most_per_customer": True}, "invalid_request", "/most_per_customer"),
        ({"valid_until_at": "2026-01-31T10:00:00Z"}, "invalid_request", "/valid_until_at"),
        ({"valid_from_at": "2026-03-01T00:00:00Z", "valid_until_at": "2026-03-01T00:00:00Z"},
         "invalid_request", "/valid_until_at"),
        ({"minimum": [EUR, EUR]}, "invalid_request", "/minimum"),
        ({"minimum": [EUR], "currencies": ["USD"]}, "invalid_request", "/minimum"),
        ({"minimum": [{"currency": "EUR", "amount_minor": -1}]}, "invalid_request",
         "/minimum/0/amount_minor"),
        ({"currencies": ["eur"]}, "invalid_request", "/currencies/0"),
        # The discount is over before the code begins.
        ({"discount_id": ended, "valid_from_at": "2026-02-10T00:00:00Z"},
         "discount_not_applicable", "/discount_id"),
    ):  # fmt: skip
        await refused(shop, path, base | terms, problem, pointer)
    yen = await discount(shop, "yen", amount_minor=100, currency="JPY", duration="once")
    wrong = base | {"discount_id": yen, "currencies": ["EUR"]}
    await refused(shop, path, wrong, "discount_not_applicable", "/discount_id")
    for terms, pointer in (
        ({"n": 10_001}, "/n"), ({"n": 0}, "/n"), ({"n": 10_000, "length": 8}, "/length"),
        ({"n": 1, "length": 65}, "/length"), ({"n": 1, "prefix": "a"}, "/prefix"),
        ({"n": 1, "prefix": "лето"}, "/prefix"), ({"n": 1, "prefix": "x" * 60}, "/prefix"),
    ):  # fmt: skip
        await refused(shop, f"{path}/bulk", {"discount_id": off, **terms}, "invalid_request",
                      pointer)  # fmt: skip
    assert (await shop.get(path))["data"] == []
    made = await code(shop, off, plan_ids=[plan], customer_id=viewer)
    taken = await shop.post(path, base | {"code": "spring 24"}, expect=409)
    assert (taken["code"], taken["pointer"]) == ("code_taken", "/code")
    assert (await shop.get(path, code="Spring 24"))["data"] == [made]


async def test_codes_are_listed_checked_and_taken_out_of_use(shop):
    plan, viewer = await shop.plan(), await buyer(shop)
    off, other = await discount(shop), await discount(shop, "other")
    generated = await shop.post("/v1/promotion-codes", {"discount_id": off})
    assert len(generated["code"]) == 12
    typed = await code(shop, other, "TYPED")
    assert (await shop.get("/v1/promotion-codes"))["data"] == [typed, generated]
    assert (await shop.get("/v1/promotion-codes", discount_id=off))["data"] == [generated]
    first = await shop.get("/v1/promotion-codes", limit=1)
    rest = await shop.get("/v1/promotion-codes", limit=1, cursor=first["next_cursor"])
    assert (first["data"], rest["data"]) == ([typed], [generated])
    for query, status in (
        ({"discount_id": NOBODY}, 404),
        ({"batch_id": "batch_01h455vb4pex5vsknk084sn02q"}, 404),
        ({"code": "TYPED", "discount_id": other}, 422),
    ):
        await shop.get("/v1/promotion-codes", expect=status, **query)
    assert (await shop.get("/v1/promotion-codes", code="a_b"))["data"] == []
    asked = {"code": "typed", "customer_id": viewer, "plan_id": plan}
    path = "/v1/promotion-codes/check"
    assert await shop.post(path, asked, expect=200) == {
        "is_usable": True, "reason": None, "text": None, "promotion_code_id": typed["id"],
        "discount_id": other,
    }  # fmt: skip

    gone = await shop.post(f"/v1/promotion-codes/{typed['id']}/deactivate", expect=200)

    assert gone["deactivated_at"] == "2026-01-31T10:00:00Z"
    again = await shop.post(f"/v1/promotion-codes/{typed['id']}/deactivate", expect=200)
    assert again == gone
    checked = await shop.post(path, asked, expect=200)
    assert (checked["reason"], checked["text"]) == (
        "inactive", {"en": "The promo code is not in use.", "ru": "Промокод не действует."},
    )  # fmt: skip
    for terms, reason in (({"code": "nobodys"}, "unknown"), ({"code": "a_b"}, "malformed"),
                          ({"currency": "EUR", "code": generated["code"]}, None)):  # fmt: skip
        assert (await shop.post(path, asked | terms, expect=200))["reason"] == reason
    for terms, problem, pointer in (
        ({"customer_id": "cus_01h455vb4pex5vsknk084sn02q"}, "unknown_reference", "/customer_id"),
        ({"plan_id": "plan_01h455vb4pex5vsknk084sn02q"}, "unknown_reference", "/plan_id"),
        ({"currency": "JPY"}, "currency_mismatch", "/currency"),
        ({"quantity": "0"}, "invalid_request", "/quantity"),
    ):
        await refused(shop, path, asked | terms, problem, pointer)
    assert (await shop.get(f"/v1/promotion-codes/{typed['id']}"))["redemptions"] == 0


async def test_how_discounts_stack_is_a_setting(shop):
    path = "/v1/discount-settings"
    defaults = {"order": "percent_first", "exclusive": "best", "split": "largest_remainder"}
    assert await shop.get(path) == defaults
    wanted = {"order": "as_attached", "exclusive": "first", "split": "last_line"}
    for body in (wanted, wanted, defaults, wanted):
        answer = await shop.raw("PUT", path, json=body)
        assert (answer.status_code, answer.json()) == (200, body)
    assert await shop.get(path) == wanted
    for terms, pointer in (
        ({"order": "random"}, "/order"), ({"split": None}, "/split"), ({"more": 1}, "/more"),
    ):  # fmt: skip
        answer = await shop.raw("PUT", path, json=wanted | terms)
        assert (answer.status_code, answer.json()["pointer"]) == (422, pointer)
    assert await shop.get(path) == wanted
