"""Discounts of every kind through real purchases: until a date, of some lines, free units, caps,
what is left over, parts of a period. Each derivation is recomputed by a program of nobody."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stories.test_promotions import buyer, code, discount, totals

PROGRAM = Path(__file__).parents[2] / "examples/recompute_invoice.py"
HALF = {"percent": "50", "duration": "forever"}


async def seats_plan(shop, name="team"):
    """20.00 at once and 10.00 for each seat."""
    product = await shop.post("/v1/products", {"code": name, "name": "Team", "resources": ["x"]})
    month = {"currency": "EUR", "interval": {"unit": "month", "count": 1}}
    plan = await shop.post(
        "/v1/plans",
        {"code": name, "name": "Team", "product_id": product["id"], "prices": [
            {"code": "base", "model": "flat", "amount_minor": 2000, **month},
            {"code": "seat", "model": "per_unit", "unit_amount": "1000", **month},
        ]},
    )  # fmt: skip
    return plan["id"]


async def lines(shop, viewer, tmp_path):
    """``(gross, discount, net)`` of the last invoice's lines, recomputed elsewhere."""
    invoice = await shop.last_invoice(viewer)
    explained = await shop.get(f"/v1/invoices/{invoice['id']}/explain")
    path = tmp_path / f"{invoice['number']}.json"
    path.write_text(json.dumps(explained))
    ran = subprocess.run(
        [sys.executable, "-I", PROGRAM, path], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    whole = await shop.get(f"/v1/invoices/{invoice['id']}")
    return [(x["gross_minor"], x["discount_minor"], x["net_minor"]) for x in whole["lines"]]


@pytest.mark.long
async def test_a_discount_until_a_date_and_one_for_months(shop):
    """999 less 499.5, rounded half up, is 499. A period that begins on the day after is without."""
    plan, dated, monthly = await shop.plan(), await buyer(shop), await buyer(shop, "bob")
    until = await discount(shop, "until", **HALF, until_at="2026-03-15T00:00:00Z")
    months = await discount(shop, "months", **HALF, months=2)
    await code(shop, until, "DATED")
    await shop.subscribe(dated, plan, promotion_codes=["dated"])
    await shop.subscribe(monthly, plan, discount_ids=[months])
    await shop.move_to("2026-05-01")
    assert await totals(shop, dated) == [499, 499, 999, 999]
    assert await totals(shop, monthly) == [499, 499, 999, 999]
    late = await shop.post(
        "/v1/subscriptions",
        {"customer_id": dated, "plan_id": plan, "promotion_codes": ["DATED"]},
        expect=422,
    )
    assert (late["code"], late["reason"]) == ("promotion_code_refused", "expired")
    await shop.check()


@pytest.mark.long
async def test_a_discount_of_some_lines(shop, tmp_path):
    plan = await seats_plan(shop)
    other = await seats_plan(shop, "other")
    prices = {each["code"]: each["id"] for each in
              (await shop.get(f"/v1/plans/{plan}"))["latest"]["prices"]}  # fmt: skip
    for n, (name, taken) in enumerate({
        "price:seat": (0, 1500), prices["seat"]: (0, 1500), "price:base": (1000, 0),
        "plan:team": (1000, 1500), "product:team": (1000, 1500), plan: (1000, 1500),
        "plan:other": (0, 0), other: (0, 0),
    }.items()):  # fmt: skip
        viewer = await buyer(shop, f"v{n}")
        off = await discount(shop, f"off{n}", **HALF, applies_to=[name])
        bought = await shop.subscribe(viewer, plan, quantity="3", discount_ids=[off])
        assert await lines(shop, viewer, tmp_path) == [
            (2000, taken[0], 2000 - taken[0]), (3000, taken[1], 3000 - taken[1]),
        ]  # fmt: skip
        [row] = (await shop.get(f"/v1/subscriptions/{bought['id']}/discounts"))["data"]
        assert row["used_periods"] == (1 if any(taken) else 0), "passed over, not used up"
    await shop.check()


@pytest.mark.long
async def test_an_amount_per_line_and_over_the_invoice(shop, tmp_path):
    """10.00 over 20.00 and 30.00 are 4.00 and 6.00; per line they are 10.00 each."""
    plan = await seats_plan(shop)
    ten = {"amount_minor": 1000, "currency": "EUR", "duration": "once"}
    for n, (terms, taken) in enumerate((
        (ten, (400, 600)), (ten | {"spread": "line"}, (1000, 1000)),
        (ten | {"applies_to": ["price:seat"]}, (0, 1000)),
        (ten | {"amount_minor": 4000, "applies_to": ["price:base"]}, (2000, 0)),
        ({"percent": "33.3", "duration": "once", "spread": "invoice"}, (666, 999)),
    )):  # fmt: skip
        viewer = await buyer(shop, f"v{n}")
        off = await discount(shop, f"off{n}", **terms)
        await shop.subscribe(viewer, plan, quantity="3", discount_ids=[off])
        assert await lines(shop, viewer, tmp_path) == [
            (2000, taken[0], 2000 - taken[0]), (3000, taken[1], 3000 - taken[1]),
        ]  # fmt: skip
    await shop.check()


async def test_free_units(shop, tmp_path):
    """Two of three seats are free in two periods: 20.00 and one seat; then all three are paid."""
    plan, viewer = await seats_plan(shop), await buyer(shop)
    free = await discount(shop, "free", free_units="2", duration="periods", periods=2,
                          applies_to=["price:seat"])  # fmt: skip
    few = await buyer(shop, "bob")
    await shop.subscribe(viewer, plan, quantity="3", discount_ids=[free])
    assert await lines(shop, viewer, tmp_path) == [(2000, 0, 2000), (1000, 0, 1000)]
    await shop.subscribe(few, plan, quantity="1.5", discount_ids=[free])
    assert await lines(shop, few, tmp_path) == [(2000, 0, 2000), (0, 0, 0)]
    await shop.move_to("2026-04-01")
    assert await totals(shop, viewer) == [3000, 3000, 5000]
    assert await totals(shop, few) == [2000, 2000, 3500]
    await shop.check()


async def test_caps_of_an_invoice_and_for_life(shop, tmp_path):
    plan, capped, lifelong = await shop.plan(), await buyer(shop), await buyer(shop, "bob")
    cap = {"currency": "EUR", "amount_minor": 300}
    each = await discount(shop, "each", **HALF, caps=[cap])
    life = await discount(shop, "life", **HALF, caps=[cap | {"amount_minor": 700}],
                          cap_for_life=True)  # fmt: skip
    await shop.subscribe(capped, plan, discount_ids=[each])
    assert await lines(shop, capped, tmp_path) == [(999, 300, 699)]
    await shop.subscribe(lifelong, plan, discount_ids=[life])
    await shop.move_to("2026-04-01")
    assert await totals(shop, capped) == [699, 699, 699]
    # 500, then the 200 that are left, then nothing.
    assert await totals(shop, lifelong) == [499, 799, 999]
    assert await shop.captured() == {"EUR": 3 * 699 + 499 + 799 + 999}
    await shop.check()


async def test_an_amount_that_is_carried_to_the_next_invoices(shop):
    plan, viewer, other = await shop.plan(), await buyer(shop), await buyer(shop, "bob")
    once = {"amount_minor": 2500, "currency": "EUR", "duration": "once"}
    carried = await discount(shop, "carried", **once, carried=True)
    lost = await discount(shop, "lost", **once)
    await code(shop, carried)
    await shop.subscribe(viewer, plan, promotion_codes=["SPRING24"])
    await shop.subscribe(other, plan, discount_ids=[lost])
    await shop.move_to("2026-05-01")
    assert await totals(shop, viewer) == [0, 0, 3 * 999 - 2500, 999]
    assert await totals(shop, other) == [0, 999, 999, 999]
    assert await shop.captured() == {"EUR": 497 + 999 + 3 * 999}
    await shop.check()


async def test_an_amount_is_scaled_to_the_part_of_the_period_that_is_billed(shop, tmp_path):
    """The last of January's 31 days at 31.00 is 1.00, and of 3.10 it is 0.10."""
    plan, viewer = await shop.plan(amounts={"EUR": 3100}), await buyer(shop)
    scaled = await discount(shop, "scaled", amount_minor=310, currency="EUR", duration="forever",
                            prorated=True)  # fmt: skip
    await shop.subscribe(viewer, plan, discount_ids=[scaled], billing_anchor={"kind": "calendar"})
    assert await lines(shop, viewer, tmp_path) == [(100, 10, 90)]
    await shop.move_to("2026-02-02")
    assert await totals(shop, viewer) == [90, 2790]
    await shop.check()


async def test_an_amount_in_the_currency_of_each_customer(shop):
    plan = await shop.plan(amounts={"EUR": 999, "USD": 1099})
    off = await discount(
        shop, amount_minor=500, currency="EUR", duration="forever",
        other_amounts=[{"currency": "USD", "amount_minor": 600}],
    )  # fmt: skip
    await code(shop, off, currencies=["EUR", "USD"])
    german, american = await buyer(shop), await shop.customer("bob", currency="USD")
    await shop.card(american)
    for each in (german, american):
        await shop.subscribe(each, plan, promotion_codes=["SPRING24"])
    assert await totals(shop, german) == [499]
    assert await totals(shop, american) == [499]
    assert await shop.captured() == {"EUR": 499, "USD": 499}
    await shop.check()


async def test_the_best_of_those_that_do_not_stack(shop, tmp_path):
    """30 % alone are 3.00; 20 % and 2.00 together are 4.00; 50 % alone are 5.00."""
    plan = await shop.plan(amounts={"EUR": 1000})
    thirty = await discount(shop, "thirty", percent="30", duration="forever", exclusive=True)
    twenty = await discount(shop, "twenty", percent="20", duration="forever")
    two = await discount(shop, "two", amount_minor=200, currency="EUR", duration="forever")
    fifty = await discount(shop, "fifty", percent="50", duration="once", exclusive=True)
    await code(shop, fifty, "FIFTY")
    viewer = await buyer(shop)
    await shop.subscribe(
        viewer, plan, discount_ids=[thirty, twenty, two], promotion_codes=["fifty"]
    )
    assert await lines(shop, viewer, tmp_path) == [(1000, 500, 500)]
    await shop.move_to("2026-03-01")
    assert await totals(shop, viewer) == [500, 600]
    await shop.check()


async def test_a_discount_of_some_lines_is_not_shaved_by_a_change(shop, tmp_path):
    """Half of the seats' price: 2 seats are 10.00. Half way through, 3 seats: 5.00 come back and
    7.50 are charged, and the base's half likewise, undiscounted."""
    plan, viewer = await seats_plan(shop), await buyer(shop)
    off = await discount(shop, **HALF, applies_to=["price:seat"])
    bought = await shop.subscribe(viewer, plan, quantity="2", discount_ids=[off])
    assert await totals(shop, viewer) == [3000]
    await shop.move_to("2026-02-14T10:00:00")
    path = f"/v1/subscriptions/{bought['id']}"
    await shop.post(f"{path}/change", {"quantity": "3"}, expect=200)
    await shop.pump.quiet()
    assert await totals(shop, viewer) == [3000, 250]
    net = [each[2] for each in await lines(shop, viewer, tmp_path)]
    assert sorted(net) == [-500, 750] or sorted(net) == [-1000, -500, 750, 1000]
    await shop.move_to("2026-03-01")
    assert await totals(shop, viewer) == [3000, 250, 3500]
    await shop.check()
