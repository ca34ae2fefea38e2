"""The engine with prices of every timing, own intervals, taxes and discounts: billed step by step
or at once it comes to the same, every moment is covered once, and it can be computed again."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger.core.calendar import Anchor, Interval, Unit, boundary
from subledger.core.discounts import Discount, Duration, Kind, Running
from subledger.core.invoicing import content_hash, draft, redraft
from subledger.core.pricing import Commitment, Flat, PerUnit, Usage
from subledger.core.proration import BY_SECOND, By, ByTime, Denominator, Rounds
from subledger.core.tax import Place, Rate, Rounding
from subledger.core.timeline import Item, Line, Phase, Taxed, Timeline, Timing

PROGRAM = Path(__file__).parents[2] / "examples/recompute_invoice.py"
START = datetime(2026, 1, 1, tzinfo=UTC)
MONTH = Interval(Unit.MONTH)
VAT, CITY = (
    Rate("vat", Decimal("19"), "VAT", Place("DE")),
    Rate("city", Decimal("2.5"), "City", Place("DE"), levy="city", compound=True),
)


def month(n: int) -> datetime:
    return boundary(Anchor(START, "UTC"), MONTH, n)


def known(*phases: Phase, **more: Any) -> Timeline:
    return Timeline(Anchor(START, "UTC"), MONTH, "EUR", phases, **more)


def item(name: str, minor: int, timing: Timing = Timing.ADVANCE, **more: Any) -> Item:
    return Item(name, Flat(minor), Decimal(1), timing=timing, **more)


def told(lines):
    return [
        (each.kind, each.price_id, f"{each.service_start_at:%d.%m}", f"{each.service_end_at:%d.%m}",
         each.net_minor)
        for each in lines
    ]  # fmt: skip


def test_a_price_in_arrears_is_billed_when_its_period_is_over():
    timeline = known(Phase(START, (item("base", 1000), item("late", 310, Timing.ARREARS))))
    first = draft(timeline, first_period=0, horizon_at=START)
    assert told(first.lines) == [("charge", "base", "01.01", "01.02", 1000)]
    second = draft(timeline, first_period=1, horizon_at=month(1))
    assert told(second.lines) == [
        ("charge", "base", "01.02", "01.03", 1000), ("charge", "late", "01.01", "01.02", 310),
    ]  # fmt: skip
    ends = START + timedelta(days=31 + 14)
    last = redraft(
        replace(timeline, ended_at=ends, serves_out=True), billed=second.lines,
        first_period=1, periods=1, horizon_at=ends,
    )  # fmt: skip
    assert told(last.lines) == [("charge", "late", "01.02", "15.02", 155)]
    assert last.next_billing_at is None


def test_the_end_cuts_what_it_is_known_of_beforehand():
    timeline = known(Phase(START, (item("base", 2800),)), ended_at=month(1) + timedelta(days=7))
    found = draft(timeline, first_period=1, horizon_at=month(1))
    assert told(found.lines) == [("charge", "base", "01.02", "08.02", 700)]
    assert found.next_billing_at is None


def test_a_yearly_price_stands_beside_monthly_ones():
    timeline = known(Phase(START, (item("seat", 100), item("domain", 1200, every=12))))
    whole = draft(timeline, first_period=0, horizon_at=month(12), most_periods=13)
    assert [each.net_minor for each in whole.lines if each.price_id == "domain"] == [1200, 1200]
    assert sum(each.net_minor for each in whole.lines if each.price_id == "seat") == 1300


def test_a_set_up_fee_is_billed_once_whole_and_never_given_back():
    fee = item("set-up", 5000, Timing.ONCE)
    base = item("base", 3100)
    first = draft(known(Phase(START, (fee, base))), first_period=0, horizon_at=START)
    assert [each.net_minor for each in first.lines] == [3100, 5000]
    half = START + timedelta(days=10)
    more = known(Phase(START, (fee, base)), Phase(half, (item("other", 6200),)))
    changed = draft(more, first_period=0, horizon_at=half, billed=first.lines)
    assert told(changed.lines) == [
        ("credit", "base", "11.01", "01.02", -2100), ("charge", "other", "11.01", "01.02", 4200),
    ]  # fmt: skip
    assert draft(known(Phase(START, (fee, base))), first_period=1, horizon_at=month(1)).lines[
        0
    ].price_id == "base"  # fmt: skip


def test_what_was_used_is_priced_as_it_is():
    calls = Item("calls", PerUnit(Decimal("0.5")), Decimal(1), Timing.ARREARS, metered=True)
    timeline = known(
        Phase(START, (calls,)), used={("calls", START): Usage(Decimal(301))},
    )  # fmt: skip
    found = draft(timeline, first_period=1, horizon_at=month(1))
    assert [(each.quantity, each.net_minor) for each in found.lines] == [(Decimal(301), 151)]


def test_a_commitment_is_trued_up_for_the_time_that_it_was_agreed_for():
    least = Item("least", Commitment(10_000), Decimal(1), Timing.ARREARS)
    calls = Item("calls", PerUnit(Decimal(10)), Decimal(1), Timing.ARREARS, metered=True)
    base = item("base", 3000)
    used = {("calls", START): Usage(Decimal(200)), ("calls", month(1)): Usage(Decimal(900))}
    timeline = known(Phase(START, (base, calls, least)), used=used)
    second = draft(timeline, first_period=1, horizon_at=month(1))
    assert [(each.price_id, each.net_minor) for each in second.lines] == [
        ("base", 3000), ("calls", 2000), ("least", 5000),
    ]  # fmt: skip
    third = draft(timeline, first_period=2, horizon_at=month(2))
    assert [(each.price_id, each.net_minor) for each in third.lines] == [
        ("base", 3000), ("calls", 9000), ("least", 0),
    ]  # fmt: skip


def test_free_units_come_before_the_price_and_stay_free_across_a_change():
    two = Discount(
        "two", Kind.FREE_UNITS, None, None, None, Duration.FOREVER, None,
        applies_to=frozenset({"seat"}), free_units=Decimal(2),
    )  # fmt: skip

    def seats(n: int) -> tuple[Item, ...]:
        return (Item("seat", PerUnit(Decimal(3100)), Decimal(n)),)

    first = draft(known(Phase(START, seats(3)), attached=(Running(two),)),
                  first_period=0, horizon_at=START)  # fmt: skip
    assert [each.net_minor for each in first.lines] == [3100]
    half = START + timedelta(days=10)
    more = known(Phase(START, seats(3)), Phase(half, seats(5)), attached=(Running(two),))
    changed = draft(more, first_period=0, horizon_at=half, billed=first.lines)
    assert [each.net_minor for each in changed.lines] == [-2100, 6300]


# Anything at all ----------------------------------------------------------------------------------

rates = st.sampled_from([(), (VAT,), (VAT, CITY)])
taxes = st.builds(Taxed, rates, st.booleans())
models = st.one_of(
    st.builds(Flat, st.integers(0, 10**6)),
    st.builds(PerUnit, st.decimals(0, 10**3, places=3)),
)
items = st.lists(
    st.builds(
        Item,
        price_id=st.sampled_from(["a", "b", "c", "d"]),
        model=models,
        quantity=st.decimals(0, 50, places=2),
        timing=st.sampled_from(list(Timing)),
        every=st.sampled_from([1, 1, 2, 3]),
        taxed=taxes,
    ),
    max_size=3, unique_by=lambda each: each.price_id,
).map(tuple)  # fmt: skip
moments = st.lists(st.integers(1, 120), max_size=3, unique=True).map(sorted)
percent = st.one_of(
    st.none(),
    st.builds(
        lambda value, duration: Discount(
            "off", Kind.PERCENT, value, None, None, duration,
            2 if duration is Duration.PERIODS else None,
        ),
        st.decimals(1, 100, places=1), st.sampled_from(list(Duration)),
    ),
)  # fmt: skip


MODES = [
    ByTime(by, rounds=rounds, denominator=denominator)
    for by in By for rounds in Rounds for denominator in Denominator
]  # fmt: skip
modes, roundings = st.sampled_from(MODES), st.sampled_from(Rounding)


@st.composite
def lives(draw: Any) -> Timeline:
    """Up to four phases within four months, any prices, a discount, taxes rounded in some way."""
    days = [0, *draw(moments)]
    phases = tuple(Phase(START + timedelta(days=each), draw(items)) for each in days)
    discount = draw(percent)
    return known(
        *_steady(phases),
        attached=() if discount is None else (Running(discount),),
        proration=draw(modes),
        tax_rounding=draw(roundings),
    )


def _steady(phases: tuple[Phase, ...]) -> tuple[Phase, ...]:
    """A price keeps its timing and interval, as one of a plan version does."""
    first: dict[str, Item] = {}
    return tuple(
        Phase(
            each.from_at,
            tuple(
                replace(one, timing=same.timing, every=same.every)
                for one in each.items
                for same in [first.setdefault(one.price_id, one)]
            ),
        )
        for each in phases
    )


PERIODS = 5


@given(lives())
def test_lines_sum_to_the_total_and_nothing_is_negative(timeline):
    found = draft(timeline, first_period=0, horizon_at=month(PERIODS), most_periods=PERIODS)
    assert found.total_minor == sum(each.net_minor + each.tax_minor for each in found.lines)
    for line in found.lines:
        assert 0 <= line.discount_minor <= line.gross_minor
        assert line.net_minor == line.gross_minor - line.discount_minor - line.tax_included_minor
        assert line.tax_minor >= 0


@given(lives(), st.randoms())
def test_month_by_month_comes_to_the_same_as_at_once(timeline, random):
    """Net amounts; taxes are rounded per document, so only within one unit per rate and document.
    Phases are learned where they begin, so changes are billed as differences."""
    billed: list[Line] = []
    for n in range(PERIODS):
        begun = [each for each in timeline.phases if each.from_at <= month(n)]
        so_far = replace(timeline, phases=tuple(begun))
        added = draft(
            so_far, first_period=0, horizon_at=month(n), most_periods=n + 1, billed=billed
        )
        billed += added.lines
        random.shuffle(billed)
        again = draft(
            so_far, first_period=0, horizon_at=month(n), most_periods=n + 1, billed=billed
        )
        assert again.lines == (), "bill twice is bill once, in any order"
    last = draft(timeline, first_period=0, horizon_at=month(PERIODS - 1), most_periods=PERIODS,
                 billed=billed)  # fmt: skip
    billed += last.lines
    whole = draft(timeline, first_period=0, horizon_at=month(PERIODS - 1), most_periods=PERIODS)
    assert _by_key(billed) == _by_key(whole.lines)
    for key in {each.key for each in billed}:
        of_key = [each for each in billed if each.key == key]
        assert sum(each.tax_minor for each in of_key) >= 0, "no more tax back than was charged"
        assert sum(each.net_minor for each in of_key) >= 0
    documents = len({each.due_at for each in billed}) + PERIODS + len(timeline.phases)
    tax = sum(each.tax_minor for each in billed), whole.tax_minor
    assert abs(tax[0] - tax[1]) <= 2 * documents * max(len(billed), 1)


def _by_key(lines):
    found: dict[Any, list[int]] = {}
    for each in lines:
        sums = found.setdefault(each.key, [0, 0])
        sums[0] += each.gross_minor
        sums[1] += each.discount_minor
    return {key: sums for key, sums in found.items() if any(sums)}


@given(lives())
def test_every_moment_is_covered_once(timeline):
    """An independent walk by days: what stands of each price covers each day that it was in force,
    once, and no other."""
    timeline = replace(timeline, attached=())
    found = draft(timeline, first_period=0, horizon_at=month(PERIODS), most_periods=PERIODS + 1)
    for name in {item.price_id for each in timeline.phases for item in each.items}:
        lines = [each for each in found.lines if each.price_id == name]
        timing = next(
            item.timing for each in timeline.phases for item in each.items
            if item.price_id == name
        )  # fmt: skip
        if timing is Timing.ONCE:
            assert len(lines) <= 1
            continue
        for day in range(90):
            at = START + timedelta(days=day, hours=12)
            within = [each for each in lines if each.service_start_at <= at < each.service_end_at]
            phase = [each for each in timeline.phases if each.from_at <= at][-1]
            assert len(within) == any(one.price_id == name for one in phase.items)


@given(lives())
def test_ending_at_once_and_coming_back_gives_back_what_was_charged(timeline):
    first = draft(timeline, first_period=0, horizon_at=month(2), most_periods=3)
    nothing = replace(timeline, phases=(Phase(START, ()),))
    back = draft(nothing, first_period=0, horizon_at=month(2), most_periods=3, billed=first.lines)
    assert back.total_minor == -first.total_minor
    assert back.tax_minor == -first.tax_minor
    again = draft(
        timeline, first_period=0, horizon_at=month(2), most_periods=3,
        billed=(*first.lines, *back.lines),
    )  # fmt: skip
    assert again.total_minor + back.total_minor + first.total_minor == first.total_minor


@given(lives())
def test_an_invoice_computed_again_has_the_same_hash(timeline):
    one, two = (
        draft(timeline, first_period=0, horizon_at=month(2), most_periods=3) for _ in range(2)
    )
    hashes = [
        content_hash({"lines": [dict(x.derivation) for x in each.lines], "taxes": each.taxes})
        for each in (one, two)
    ]
    assert hashes[0] == hashes[1]


def explained(found: Any) -> dict[str, Any]:
    """As ``GET /v1/invoices/{id}/explain`` tells a draft."""
    return {
        "total_minor": max(found.total_minor, 0),
        "credited_minor": max(-found.total_minor, 0),
        "inputs": {"taxes": list(found.taxes)},
        "lines": [
            {"kind": x.kind, "net_minor": x.net_minor, "tax_minor": x.tax_minor,
             "derivation": dict(x.derivation)}
            for x in found.lines
        ],
    }  # fmt: skip


def recompute(data: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", PROGRAM, "-"], input=json.dumps(data), capture_output=True,
        text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("rounds", list(Rounds))
@pytest.mark.parametrize("tax_rounding", list(Rounding))
def test_the_program_recomputes_taxes_discounts_and_credits(rounds, tax_rounding):
    taxed = Taxed((VAT, CITY))
    inside = Taxed((VAT,), inclusive=True)
    off = Discount("off", Kind.PERCENT, Decimal("12.5"), None, None, Duration.FOREVER, None)
    timeline = known(
        Phase(START, (item("a", 999, taxed=taxed), item("b", 1235, taxed=inside))),
        attached=(Running(off),), proration=ByTime(By.SECOND, rounds=rounds),
        tax_rounding=tax_rounding,
    )  # fmt: skip
    half = Phase(START + timedelta(days=15, hours=12), ())
    first = draft(timeline, first_period=0, horizon_at=START)
    cut = replace(timeline, phases=(*timeline.phases, half))
    back = draft(cut, first_period=0, horizon_at=START, billed=first.lines)
    assert back.total_minor < 0
    late = draft(cut, first_period=0, horizon_at=START)
    # Half of 999 and of 1235 minor units, the halves of cents on one side or the other.
    assert [x.gross_minor for x in late.lines] == ([500, 618], [499, 617])[rounds is Rounds.CREDIT]
    for found in (first, back, late):
        ran = recompute(explained(found))
        assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (("steps", 0, "unit_amount"), "exact amount"),
        (("fraction",), "exact amount"),
        (("rest",), "rounding"),
        (("residue",), "rounding"),
        (("discounts", 0, "base_minor"), "base of a discount"),
        (("discounts", 0, "amount_minor"), "discount"),
        (("taxes", 0, "percent"), "exact tax"),
        (("taxes", 0, "tax_minor"), "line 1"),
    ],
)  # fmt: skip
def test_the_program_says_which_step_is_wrong(path, said):
    off = Discount("off", Kind.PERCENT, Decimal("12.5"), None, None, Duration.FOREVER, None)
    timeline = known(
        Phase(START, (item("a", 999, taxed=Taxed((VAT,))),)),
        Phase(START + timedelta(days=15, hours=12), ()),
        attached=(Running(off),), proration=ByTime(By.SECOND, rounds=Rounds.CREDIT),
    )  # fmt: skip
    data = json.loads(json.dumps(explained(draft(timeline, first_period=0, horizon_at=START))))
    assert recompute(data).returncode == 0
    place = data["lines"][0]["derivation"]
    for name in path[:-1]:
        place = place[name]
    known_value = place[path[-1]]
    place[path[-1]] = known_value + 1 if isinstance(known_value, int) else "1/3"
    ran = recompute(data)
    assert ran.returncode == 1
    assert ran.stderr.startswith(said), ran.stderr


def test_taxes_of_a_split_line_sum_to_the_whole():
    """Three thirds of a line taken back one after the other give back all of its tax."""
    timeline = known(Phase(START, (item("a", 1000, taxed=Taxed((VAT,))),)), proration=BY_SECOND)
    first = draft(timeline, first_period=0, horizon_at=START)
    billed, given_back = list(first.lines), 0
    for days in (20, 10, 0):
        left = (
            (Phase(START, timeline.phases[0].items), Phase(START + timedelta(days=days), ()))
            if days
            else (Phase(START, ()),)
        )
        cut = replace(timeline, phases=left)
        back = draft(cut, first_period=0, horizon_at=START, billed=billed)
        billed += back.lines
        given_back -= back.tax_minor
        stands = Fraction(sum(each.net_minor for each in billed), 1000)
        assert abs(first.tax_minor * stands - sum(each.tax_minor for each in billed)) <= 1
    assert given_back == first.tax_minor == 190
