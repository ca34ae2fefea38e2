"""How discounts stack is the tenant's choice, for periods that begin after it was made."""

from __future__ import annotations

import pytest

from tests.stories.test_discount_kinds import lines
from tests.stories.test_promotions import buyer, discount, totals

DEFAULTS = {"order": "percent_first", "exclusive": "best", "split": "largest_remainder"}


async def stack(shop, **wanted):
    answer = await shop.raw("PUT", "/v1/discount-settings", json=DEFAULTS | wanted)
    assert answer.status_code == 200, answer.text


async def pieces(shop):
    """``{code: id}`` of 10 %, of 1.00, and of 30 % that do not stack."""
    return {
        "tenth": await discount(shop, "tenth", percent="10", duration="forever"),
        "one": await discount(shop, "one", amount_minor=100, currency="EUR", duration="forever"),
        "alone": await discount(shop, "alone", percent="30", duration="forever", exclusive=True),
    }


@pytest.mark.parametrize(
    ("settings", "attached", "total"),
    [
        # 10.00 less 10 % less 1.00; or less 1.00 less 10 %.
        ({}, ("one", "tenth"), 800),
        ({"order": "as_attached"}, ("one", "tenth"), 810),
        ({"order": "as_attached"}, ("tenth", "one"), 800),
        # 30 % are more than both together; the first that takes something decides.
        ({}, ("tenth", "one", "alone"), 700),
        ({"exclusive": "first"}, ("tenth", "one", "alone"), 800),
        ({"exclusive": "first"}, ("alone", "tenth", "one"), 700),
        ({"exclusive": "first", "order": "as_attached"}, ("one", "alone", "tenth"), 810),
    ],
)
@pytest.mark.long
async def test_order_and_exclusion(shop, settings, attached, total):
    plan, viewer = await shop.plan(amounts={"EUR": 1000}), await buyer(shop)
    made = await pieces(shop)
    await stack(shop, **settings)
    await shop.subscribe(viewer, plan, discount_ids=[made[each] for each in attached])
    assert await totals(shop, viewer) == [total]
    await shop.move_to("2026-03-01")
    assert await totals(shop, viewer) == [total, total]
    await shop.check()


@pytest.mark.parametrize(
    ("split", "taken"),
    [("largest_remainder", (34, 33, 33)), ("last_line", (33, 33, 34)), ("each", (33, 33, 33))],
)
async def test_one_euro_over_three_lines(shop, tmp_path, split, taken):
    product = await shop.post("/v1/products", {"code": "p", "name": "P", "resources": ["x"]})
    month = {"currency": "EUR", "interval": {"unit": "month", "count": 1}}
    plan = await shop.post(
        "/v1/plans",
        {"code": "p", "name": "P", "product_id": product["id"], "prices": [
            {"code": each, "model": "flat", "amount_minor": 1000, **month} for each in "abc"
        ]},
    )  # fmt: skip
    viewer, made = await buyer(shop), await pieces(shop)
    await stack(shop, split=split)
    await shop.subscribe(viewer, plan["id"], discount_ids=[made["one"]])
    assert await lines(shop, viewer, tmp_path) == [(1000, each, 1000 - each) for each in taken]
    await shop.check()


async def test_a_new_setting_leaves_the_present_period_as_it_was_billed(shop):
    """Two seats: 20.00 less 10 % less 1.00. Half way a third one, as the period began: 8.50 come
    back, 13.00 are charged. The next period: 30.00 less 1.00 less 10 %."""
    product = await shop.post("/v1/products", {"code": "p", "name": "P", "resources": ["x"]})
    plan = await shop.post(
        "/v1/plans",
        {"code": "p", "name": "P", "product_id": product["id"], "prices": [
            {"code": "seat", "model": "per_unit", "unit_amount": "1000", "currency": "EUR",
             "interval": {"unit": "month", "count": 1}}
        ]},
    )  # fmt: skip
    viewer, made = await buyer(shop), await pieces(shop)
    bought = await shop.subscribe(
        viewer, plan["id"], quantity="2", discount_ids=[made["one"], made["tenth"]]
    )
    assert await totals(shop, viewer) == [1700]
    await shop.move_to("2026-02-10")
    await stack(shop, order="as_attached")
    await shop.move_to("2026-02-14T10:00:00")
    path = f"/v1/subscriptions/{bought['id']}/change"
    await shop.post(path, {"quantity": "3"}, expect=200)
    await shop.pump.quiet()
    assert await totals(shop, viewer) == [1700, 450]
    await shop.move_to("2026-03-01")
    assert await totals(shop, viewer) == [1700, 450, 2610]
    await shop.check()
