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
from subledger.core.difference import difference
from subledger.core.discounts import Discount, Duration, Kind, Running
from subledger.core.errors import AmountOutOfRange
from subledger.core.invoicing import content_hash, draft, join
from subledger.core.pricing import Flat, PerUnit
from subledger.core.proration import BY_DAY, BY_SECOND
from subledger.core.tax import Place, Rate
from subledger.core.timeline import Item, Phase, Taxed, Timeline

START = datetime(2026, 1, 31, 10, tzinfo=UTC)
PROGRAM = Path(__file__).parents[2] / "examples/recompute_invoice.py"


def timeline(*items: Item, attached=(), ended_at=None, unit=Unit.MONTH, count=1) -> Timeline:
    return Timeline(
        anchor=Anchor(START, "Europe/Berlin"), interval=Interval(unit, count), currency="EUR",
        phases=(Phase(START, items or (Item("base", Flat(999), Decimal(1)),)),),
        attached=tuple(attached), ended_at=ended_at,
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
        timeline(attached=[Running(half)]), first_period=0,
        horizon_at=START + timedelta(days=120), most_periods=3,
    )  # fmt: skip
    assert [line.net_minor for line in found.lines] == [499, 499, 999]
    assert found.usage["half"].periods == 2


def test_a_discount_given_once_stays_given_when_its_period_is_billed_again():
    once = Discount("once", Kind.PERCENT, Decimal(50), None, None, Duration.ONCE, None)
    base = Item("base", Flat(999), Decimal(1))
    horizon_at = START + timedelta(days=40)
    first = draft(timeline(base, attached=[Running(once)]), first_period=0, horizon_at=START)
    assert ([line.net_minor for line in first.lines], first.usage["once"].periods) == ([499], 1)

    again = draft(
        timeline(base, attached=[Running(once)]), first_period=0, horizon_at=horizon_at,
        most_periods=2, billed=first.lines,
    )  # fmt: skip
    assert ([line.net_minor for line in again.lines], again.usage) == ([999], first.usage)

    dearer = Item("base", Flat(1999), Decimal(1))
    changed = draft(
        timeline(dearer, attached=[Running(once)]), first_period=0, horizon_at=START,
        billed=first.lines,
    )  # fmt: skip
    assert [(line.kind, line.net_minor) for line in changed.lines] == [
        ("credit", -499), ("charge", 999),
    ]  # fmt: skip
    assert changed.usage["once"].periods == 1


def test_a_credit_takes_back_what_stands_with_the_rate_it_was_taxed_at():
    at_19, at_7 = taxed_at("19"), taxed_at("7")
    first = draft(timeline(at_19), first_period=0, horizon_at=START)
    assert (first.tax_minor, first.total_minor) == (190, 1189)
    # The rate of the day does not touch what was billed before it.
    assert draft(timeline(at_7), first_period=0, horizon_at=START, billed=first.lines).lines == ()
    back = difference([], first.lines)
    anew = draft(timeline(at_7), first_period=0, horizon_at=START, billed=(*first.lines, *back))
    assert (anew.tax_minor, anew.total_minor) == (70, 1069)
    billed = [*first.lines, *back, *anew.lines]
    for ordered in permutations(billed):
        assert [
            (each.net_minor, each.tax_minor, each.tax_rate) for each in difference([], ordered)
        ] == [(-999, -70, Decimal(7))]


def taxed_at(percent: str, **more) -> Item:
    rate = Rate(f"vat-{percent}", Decimal(percent), "VAT", Place("DE"))
    return Item("base", Flat(999), Decimal(1), taxed=Taxed((rate,), **more))


def test_an_inclusive_price_stays_what_it_is_and_its_credit_gives_back_its_tax():
    half = START + timedelta(days=14)
    item = taxed_at("19", inclusive=True)
    first = draft(timeline(item), first_period=0, horizon_at=START)
    assert (first.subtotal_minor, first.tax_minor, first.tax_included_minor) == (999, 160, 160)
    assert (first.lines[0].net_minor, first.total_minor) == (839, 999)
    ended = replace(timeline(item), phases=(Phase(START, (item,)), Phase(half, ())))
    back = draft(ended, first_period=0, horizon_at=START, billed=first.lines)
    # 14 of 28 days: 4.99 of 9.99 go back (9.99 less the rounded half), half of the tax with them.
    (credit,) = back.lines
    assert (credit.gross_minor, credit.tax_minor, credit.net_minor) == (-499, -80, -419)
    assert draft(ended, first_period=0, horizon_at=START, billed=(*first.lines, credit)).lines == ()


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
        Running(
            Discount(str(n), Kind.PERCENT, value, None, None, duration, n + 1)
            if kind == "percent"
            else Discount(str(n), Kind.FIXED, None, value, "EUR", duration, n + 1),
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
    assert again.usage == first.usage


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


def of_seats(*phases, mode=BY_SECOND, attached=()) -> Timeline:
    """``(days after the start, seats at 10.00 a month)``; 31 days from 1 January, UTC."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    return Timeline(
        anchor=Anchor(start, "UTC"), interval=Interval(Unit.MONTH), currency="EUR",
        phases=tuple(
            Phase(
                start + timedelta(days=days),
                (Item("seat", PerUnit(Decimal(1000)), Decimal(seats)),) if seats else (),
            )
            for days, seats in phases
        ),
        attached=tuple(attached), proration=mode,
    )  # fmt: skip


def billed_now(known: Timeline, billed=()):
    return draft(known, first_period=0, horizon_at=known.anchor.at, billed=billed)


def amounts(found):
    return [
        (each.kind, (each.service_start_at.day, each.service_end_at.day), each.quantity,
         each.net_minor)
        for each in found.lines
    ]  # fmt: skip


def test_a_change_of_quantity_credits_the_unused_part_and_charges_the_rest():
    before = billed_now(of_seats((0, 2)))
    assert before.total_minor == 2000
    after = billed_now(of_seats((0, 2), (15.5, 3)), before.lines)
    assert amounts(after) == [
        ("credit", (16, 1), Decimal(2), -1000), ("charge", (16, 1), Decimal(3), 1500),
    ]  # fmt: skip
    by_day = billed_now(of_seats((0, 2), (15.5, 3), mode=BY_DAY), before.lines)
    # The day of the change is the new quantity's: 15 of 31 days are the old one's.
    assert amounts(by_day) == [
        ("credit", (16, 1), Decimal(2), -1032), ("charge", (16, 1), Decimal(3), 1548),
    ]  # fmt: skip


def test_a_pause_gives_back_what_is_unused_and_going_on_charges_it_again():
    whole = billed_now(of_seats((0, 2)))
    paused = billed_now(of_seats((0, 2), (15.5, 0)), whole.lines)
    assert amounts(paused) == [("credit", (16, 1), Decimal(2), -1000)]
    resumed = billed_now(of_seats((0, 2), (15.5, 0), (23.25, 2)), (*whole.lines, *paused.lines))
    assert amounts(resumed) == [("charge", (24, 1), Decimal(2), 500)]


def test_a_plan_change_leaves_what_both_plans_have_alone():
    addon = Item("addon", Flat(300), Decimal(1))
    old, new = Item("basic", Flat(1000), Decimal(1)), Item("pro", Flat(3000), Decimal(1))
    start, middle = datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 4, 16, tzinfo=UTC)

    def known(*phases):
        return Timeline(
            anchor=Anchor(start, "UTC"), interval=Interval(Unit.MONTH), currency="EUR",
            phases=phases,
        )  # fmt: skip

    first = billed_now(known(Phase(start, (old, addon))))
    changed = billed_now(
        known(Phase(start, (old, addon)), Phase(middle, (new, addon))), first.lines
    )
    assert [(each.price_id, each.net_minor) for each in changed.lines] == [
        ("basic", -500), ("pro", 1500),
    ]  # fmt: skip


def test_a_fixed_discount_is_shared_by_time_and_never_shaved_twice():
    once = Running(Discount("o", Kind.FIXED, None, 500, "EUR", Duration.ONCE, None))
    first = billed_now(of_seats((0, 1), attached=[once]))
    assert (first.total_minor, first.usage["o"].taken_minor) == (500, 500)
    changed = billed_now(of_seats((0, 1), (15.5, 3), attached=[once]), first.lines)
    # Half of the 5.00 paid comes back; of half a month for 30.00 the other half of 5.00 goes off.
    assert [each.net_minor for each in changed.lines] == [-250, 1500 - 250]
    assert changed.usage["o"].taken_minor == 500
    ended = billed_now(of_seats((0, 1), (15.5, 0), attached=[once]), first.lines)
    assert ended.total_minor == -250, "half of what was paid"


def test_a_percentage_is_taken_off_each_part():
    half = Running(Discount("h", Kind.PERCENT, Decimal(50), None, None, Duration.FOREVER, None))
    first = billed_now(of_seats((0, 1), attached=[half]))
    changed = billed_now(of_seats((0, 1), (15.5, 3), attached=[half]), first.lines)
    assert [each.net_minor for each in changed.lines] == [-250, 750]


def test_the_end_of_one_cycle_and_the_start_of_another_share_an_invoice():
    month = of_seats((0, 2))
    first = billed_now(month)
    middle = month.anchor.at + timedelta(days=15.5)
    yearly = Timeline(
        anchor=Anchor(middle, "UTC"), interval=Interval(Unit.YEAR), currency="EUR",
        phases=(Phase(middle, (Item("seat", PerUnit(Decimal(9000)), Decimal(2)),)),),
    )  # fmt: skip
    found = join(
        billed_now(of_seats((0, 2), (15.5, 0)), first.lines),
        draft(yearly, first_period=0, horizon_at=middle),
    )
    assert [each.net_minor for each in found.lines] == [-1000, 18000]
    assert found.total_minor == 17000
    assert found.next_billing_at == datetime(2027, 1, 16, 12, tzinfo=UTC)


changes = st.lists(
    st.tuples(st.integers(1, 31 * 24 - 1), st.integers(0, 5)), max_size=6,
    unique_by=lambda each: each[0],
).map(sorted)  # fmt: skip


@given(st.integers(0, 5), changes, st.sampled_from([BY_DAY, BY_SECOND]), discounts, st.randoms())
def test_changes_one_by_one_end_where_all_at_once_do(seats, then, mode, chosen, random):
    attached = build([], Decimal(1), chosen).attached
    hours = [(0, seats), *then]
    billed: list[Any] = []
    for known in range(1, len(hours) + 1):
        so_far = of_seats(
            *((each / 24, many) for each, many in hours[:known]), mode=mode, attached=attached
        )
        added = billed_now(so_far, billed)
        billed += added.lines
        random.shuffle(billed)
        assert billed_now(so_far, billed).lines == ()
        whole = billed_now(so_far)
        assert sum(each.net_minor for each in billed) == whole.total_minor
        for key in {each.key for each in billed}:
            of_key = [each for each in billed if each.key == key]
            assert sum(each.net_minor for each in of_key) >= 0, "never credited beyond the charge"
            assert sum(each.discount_minor for each in of_key) >= 0
    # Change and change back at the same moments: nothing but the first state is left.
    first = of_seats((0, seats), mode=mode, attached=attached)
    billed += billed_now(first, billed).lines
    assert sum(each.net_minor for each in billed) == billed_now(first).total_minor


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
        "inputs": {"taxes": list(found.taxes)},
        "lines": [
            {
                "kind": x.kind,
                "net_minor": x.net_minor,
                "tax_minor": x.tax_minor,
                "derivation": x.derivation,
            }
            for x in found.lines
        ],
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
