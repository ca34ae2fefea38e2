"""Invoices are a difference: bill twice is bill once, in any order, and every line explains
itself to a program that knows nothing of us."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger.core.calendar import Anchor, Interval, Unit, boundary
from subledger.core.discounts import Discount, Duration, Kind
from subledger.core.errors import AmountOutOfRange
from subledger.core.invoicing import Attached, Item, Timeline, content_hash, difference, draft
from subledger.core.pricing import Flat, PerUnit

START = datetime(2026, 1, 31, 10, tzinfo=UTC)
PROGRAM = Path(__file__).parents[2] / "examples/recompute_invoice.py"


def timeline(*items: Item, attached=(), ended_at=None, unit=Unit.MONTH, count=1) -> Timeline:
    return Timeline(
        anchor=Anchor(START, "Europe/Berlin"), interval=Interval(unit, count), currency="EUR",
        items=items or (Item("base", Flat(999), Decimal(1)),), attached=tuple(attached),
        ended_at=ended_at,
    )  # fmt: skip


def test_a_renewal_bills_the_next_period_at_its_start():
    found = draft(timeline(), first_period=1, horizon_at=datetime(2026, 2, 28, 10, tzinfo=UTC))
    assert [
        (line.service_start_at, line.service_end_at, line.net_minor) for line in found.lines
    ] == [(datetime(2026, 2, 28, 10, tzinfo=UTC), datetime(2026, 3, 31, 9, tzinfo=UTC), 999)]
    assert found.next_billing_at == datetime(2026, 3, 31, 9, tzinfo=UTC)
    assert found.total_minor == 999


def test_nothing_is_billed_before_its_time():
    found = draft(timeline(), first_period=1, horizon_at=START + timedelta(days=27))
    assert found.lines == ()
    assert found.period is None


def test_no_period_starts_after_the_end():
    ends = boundary(Anchor(START, "Europe/Berlin"), Interval(Unit.MONTH), 2)
    ended = timeline(ended_at=ends)
    found = draft(ended, first_period=0, horizon_at=ends, most_periods=9)
    assert found.periods == 2
    assert found.next_billing_at is None


def test_a_discount_for_two_periods_stops_within_one_draft():
    half = Discount("half", Kind.PERCENT, Decimal(50), None, None, Duration.PERIODS, 2)
    found = draft(
        timeline(attached=[Attached(half, 0)]), first_period=0,
        horizon_at=START + timedelta(days=120), most_periods=3,
    )  # fmt: skip
    assert [line.net_minor for line in found.lines] == [499, 499, 999]
    assert found.used == {"half": 2}


def test_a_discount_given_once_stays_given_when_its_period_is_billed_again():
    once = Discount("once", Kind.PERCENT, Decimal(50), None, None, Duration.ONCE, None)
    base = Item("base", Flat(999), Decimal(1))
    horizon_at = START + timedelta(days=40)
    first = draft(timeline(base, attached=[Attached(once, 0)]), first_period=0, horizon_at=START)
    assert ([line.net_minor for line in first.lines], first.used) == ([499], {"once": 1})

    again = draft(
        timeline(base, attached=[Attached(once, 0)]), first_period=0, horizon_at=horizon_at,
        most_periods=2, billed=first.lines,
    )  # fmt: skip
    assert ([line.net_minor for line in again.lines], again.used) == ([999], {})

    dearer = Item("base", Flat(1999), Decimal(1))
    changed = draft(
        timeline(dearer, attached=[Attached(once, 0)]), first_period=0, horizon_at=START,
        billed=first.lines,
    )  # fmt: skip
    assert [(line.kind, line.net_minor) for line in changed.lines] == [
        ("credit", -499), ("charge", 999),
    ]  # fmt: skip
    assert changed.used == {}


def test_a_credit_takes_back_what_stands_with_the_rate_it_was_taxed_at():
    charged = draft(timeline(), first_period=0, horizon_at=START).lines[0]
    at_19 = replace(charged, quantity=Decimal(2), tax_minor=190, tax_rate=Decimal(19))
    at_7 = replace(charged, quantity=Decimal(3), tax_minor=70, tax_rate=Decimal(7))
    back = difference([], [at_19])
    billed = [at_19, *back, at_7]
    for ordered in permutations(billed):
        assert [
            (each.net_minor, each.tax_minor, each.tax_rate, each.quantity)
            for each in difference([], ordered)
        ] == [(-999, -70, Decimal(7), Decimal(3))]
    # Right in its net amount, wrong in its tax: not billed right.
    assert [each.tax_minor for each in difference([at_7], [at_19])] == [-190, 70]


def test_amounts_beyond_the_limit_are_refused():
    huge = timeline(Item("x", PerUnit(Decimal(10**15)), Decimal(2)))
    with pytest.raises(AmountOutOfRange):
        draft(huge, first_period=0, horizon_at=START)


items = st.lists(
    st.one_of(
        st.builds(Flat, st.integers(0, 10**6)),
        st.builds(PerUnit, st.decimals(0, 10**4, places=3)),
    ).map(lambda model: model),
    min_size=1, max_size=4,
)  # fmt: skip
discounts = st.lists(
    st.one_of(
        st.tuples(
            st.just("percent"), st.decimals(Decimal("0.1"), 100, places=1),
            st.sampled_from(Duration),
        ),
        st.tuples(st.just("fixed"), st.integers(1, 10**5), st.sampled_from(Duration)),
    ),
    max_size=3,
)  # fmt: skip


def build(models, quantity, chosen) -> Timeline:
    attached = [
        Attached(
            Discount(str(n), Kind.PERCENT, value, None, None, duration, n + 1)
            if kind == "percent"
            else Discount(str(n), Kind.FIXED, None, value, "EUR", duration, n + 1),
            0,
        )
        for n, (kind, value, duration) in enumerate(chosen)
    ]
    return timeline(
        *(Item(f"price{n}", model, quantity) for n, model in enumerate(models)), attached=attached
    )


@given(items, st.decimals(0, 500, places=2), discounts, st.integers(1, 6), st.randoms())
def test_billing_twice_bills_once_in_any_order(models, quantity, chosen, periods, random):
    given_timeline = build(models, quantity, chosen)
    horizon_at = START + timedelta(days=40 * periods)
    first = draft(given_timeline, first_period=0, horizon_at=horizon_at, most_periods=periods)
    shuffled = list(first.lines)
    random.shuffle(shuffled)
    again = draft(
        given_timeline, first_period=0, horizon_at=horizon_at, most_periods=periods,
        billed=shuffled,
    )  # fmt: skip
    assert again.lines == ()
    assert again.total_minor == 0
    assert again.used == {}


@given(items, items, st.decimals(0, 500, places=2), discounts)
def test_a_changed_price_is_credited_whole_and_billed_anew(before, after, quantity, chosen):
    old = draft(build(before, quantity, chosen), first_period=0, horizon_at=START)
    new = draft(build(after, quantity, chosen), first_period=0, horizon_at=START)
    change = difference(new.lines, old.lines)
    net = {}
    for line in (*old.lines, *change):
        net[line.price_id] = net.get(line.price_id, 0) + line.net_minor
    assert {k: v for k, v in net.items() if v} == {
        line.price_id: line.net_minor for line in new.lines if line.net_minor
    }
    # And back again: everything nets to the first state, without residue.
    back = difference(old.lines, (*old.lines, *change))
    total = sum(line.net_minor for line in (*old.lines, *change, *back))
    assert total == old.total_minor


@given(items, st.decimals(0, 500, places=2), discounts)
def test_sums_and_explanations_agree(models, quantity, chosen):
    found = draft(build(models, quantity, chosen), first_period=0, horizon_at=START)
    assert found.total_minor == sum(line.net_minor + line.tax_minor for line in found.lines)
    assert found.subtotal_minor - found.discount_minor == found.total_minor
    for line in found.lines:
        exact = sum(
            Fraction(step["quantity"]) * Fraction(step["unit_amount"])
            for step in line.derivation["steps"]
        )
        assert Fraction(line.derivation["exact"]) == exact
        assert Fraction(line.derivation["residue"]) == exact - line.gross_minor
        assert content_hash(line.derivation) == content_hash(
            json.loads(json.dumps(line.derivation))
        )


def test_a_program_that_imports_nothing_of_ours_recomputes_the_total(tmp_path):
    found = draft(
        build(
            [Flat(999), PerUnit(Decimal("12.345"))], Decimal("7.5"),
            [("percent", Decimal("12.5"), Duration.FOREVER), ("fixed", 250, Duration.ONCE)],
        ),
        first_period=0, horizon_at=START,
    )  # fmt: skip
    explained: dict[str, Any] = {
        "total_minor": found.total_minor,
        "lines": [{"net_minor": x.net_minor, "derivation": x.derivation} for x in found.lines],
    }
    path = tmp_path / "explained.json"
    path.write_text(json.dumps(explained))
    good = subprocess.run(
        [sys.executable, "-I", PROGRAM, path], capture_output=True, text=True, check=False
    )
    assert good.returncode == 0, good.stdout + good.stderr
    # 999 + round(92.5875) = 1092; 12.5 % per line: 125 and 12; then 250 in all.
    assert good.stdout == "total 705 computed, 705 stated\n"
    for forged in (
        explained | {"total_minor": found.total_minor + 1},
        explained | {"lines": [explained["lines"][0] | {"net_minor": 1}, explained["lines"][1]]},
    ):
        bad = subprocess.run(
            [sys.executable, "-I", PROGRAM, "-"], input=json.dumps(forged),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert bad.returncode == 1, bad.stdout
