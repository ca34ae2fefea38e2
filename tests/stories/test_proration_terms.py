"""What is counted, which side is rounded, what a stub is measured against: chosen at the start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stories.calendar_world import act, lines, ready

PROGRAM = Path(__file__).parents[2] / "examples/recompute_invoice.py"
HALF = "2026-02-14T10:00:00"
"""Fourteen of the twenty-eight days from 31 January, 11:00 in Berlin."""


async def bought(shop, *, amount, **terms):
    plan, viewer = await ready(shop, amount=amount)
    subscription = await shop.subscribe(viewer, plan, **terms)
    await shop.new_events(viewer)
    return viewer, subscription["id"]


async def explained(shop, viewer, tmp_path):
    """The readable lines of the last invoice, once the program has found it right."""
    invoice = await shop.last_invoice(viewer)
    path = tmp_path / "explained.json"
    path.write_text(json.dumps(await shop.get(f"/v1/invoices/{invoice['id']}/explain")))
    ran = subprocess.run(
        [sys.executable, "-I", PROGRAM, path], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    told = await shop.raw(
        "GET", f"/v1/invoices/{invoice['id']}/explain", params={"format": "text", "locale": "en"}
    )
    return told.text


@pytest.mark.parametrize(("rounds", "made"), [("used", [-499, 999]), ("credit", [-500, 999])])
@pytest.mark.long
async def test_of_an_odd_cent_the_used_part_or_the_credit_is_rounded(shop, tmp_path, rounds, made):
    """Half of 9.99 is 4.995: 5.00 were used and 4.99 come back, or the other way about."""
    viewer, subscription = await bought(shop, amount=999, proration_rounds=rounds)
    await shop.move_to(HALF)
    body = {"quantity": "2"}
    seen = await act(shop, subscription, "preview-change", body)
    assert [line["net_minor"] for line in seen["lines"]] == made

    await act(shop, subscription, "change", body)

    assert [line[1] for line in await lines(shop, viewer)] == made
    assert await shop.captured() == {"EUR": 999 + sum(made)}
    await explained(shop, viewer, tmp_path)
    # Back again at the same moment: the half period of one seat, and no cent is lost on the way.
    await act(shop, subscription, "change", {"quantity": "1", "settle": "now"})
    assert sum(line[1] for line in await lines(shop, viewer)) == -sum(made)
    await shop.check()


async def test_a_line_says_that_what_is_given_back_was_rounded(shop, tmp_path):
    """A period that will be cut is billed cut: 14 of 31 days of 9.99, which are 9.99 less 5.48."""
    viewer, subscription = await bought(shop, amount=999, proration_rounds="credit")
    await act(shop, subscription, "cancel", {"at": "2026-03-14T10:00:00Z"})
    await shop.move_to("2026-03-01")
    assert [line[1] for line in await lines(shop, viewer)] == [451]
    told = await explained(shop, viewer, tmp_path)
    assert "for 14 of the 31 days of the period" in told
    assert "4.51 EUR, since what is given back is rounded half up" in told
    await shop.check()


@pytest.mark.parametrize(
    ("terms", "due"),
    [
        ({}, 1500),  # 14 to 28 February: 15 of February's 28 days
        ({"stub_denominator": "imagined"}, 1500),  # of 14 February to 14 March
        ({"proration": "month_of_30"}, 1587),  # 17 of 30 days: February's last day makes up
        ({"proration": "none"}, 2800),
    ],
)
@pytest.mark.long
async def test_what_a_first_stub_is_measured_against(shop, tmp_path, terms, due):
    plan, viewer = await ready(shop, amount=2800)
    await shop.move_to("2026-02-14T09:00:00")
    wanted = {"customer_id": viewer, "plan_id": plan, "billing_anchor": {"kind": "calendar"}}
    seen = await shop.post("/v1/subscriptions/preview", wanted | terms, expect=200)
    assert seen["due_now_minor"] == due
    made = await shop.post("/v1/subscriptions", wanted | terms)
    assert {name: made[name] for name in terms} == terms
    assert [line[1] for line in await lines(shop, viewer)] == [due]
    await explained(shop, viewer, tmp_path)
    await shop.move_to("2026-03-02")
    assert [line[1] for line in await lines(shop, viewer)] == [2800]
    await shop.check()


async def test_three_denominators_of_a_stub(shop):
    """14 days: of 31 January to 28 February, of 14 February on, of 28 January to 28 February."""
    plan, viewer = await ready(shop, amount=3100)
    await shop.move_to("2026-02-14T09:00:00")
    wanted = {"customer_id": viewer, "plan_id": plan,
              "billing_anchor": {"kind": "day", "day": 31}}  # fmt: skip
    found = {}
    for each in ("grid", "imagined", "counted_back"):
        seen = await shop.post(
            "/v1/subscriptions/preview", wanted | {"stub_denominator": each}, expect=200
        )
        found[each] = seen["due_now_minor"]
    assert found == {"grid": 1550, "imagined": 1550, "counted_back": 1400}


@pytest.mark.parametrize(("charged", "credit_minor"), [(False, -1400), (True, -1300)])
async def test_the_last_day_of_use_is_given_back_or_charged(shop, tmp_path, charged, credit_minor):
    viewer, subscription = await bought(shop, amount=2800, last_day_charged=charged)
    await shop.move_to(HALF)

    await act(shop, subscription, "cancel", {"when": "now", "credit_unused": True})

    assert [line[1] for line in await lines(shop, viewer)] == [credit_minor]
    await explained(shop, viewer, tmp_path)
    await shop.check()


async def test_without_proration_a_change_costs_nothing_until_the_next_period(shop):
    viewer, subscription = await bought(shop, amount=2800, proration="none")
    await shop.move_to(HALF)
    seen = await act(shop, subscription, "preview-change", {"quantity": "2"})
    assert seen["total_minor"] == 0
    await act(shop, subscription, "change", {"quantity": "2"})
    await shop.move_to("2026-03-01")
    assert sum(line[1] for line in await lines(shop, viewer)) == 5600
    await shop.check()


async def test_what_no_proration_is_is_told(shop):
    plan, viewer = await ready(shop)
    wanted = {"customer_id": viewer, "plan_id": plan}
    for wrong in ({"proration": "hour"}, {"proration_rounds": "up"}, {"stub_denominator": "x"}):
        refused = await shop.post("/v1/subscriptions", wanted | wrong, expect=422)
        assert refused["code"] == "invalid_request"
    assert await shop.new_events(viewer) == []
