"""A subscription through its stubs and changes, by every mode of proration."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger.core.calendar import Alignment, Anchor, Grid, Interval, Unit, align, index_at
from subledger.core.discounts import Discount, Duration, Kind, Running
from subledger.core.invoicing import draft
from subledger.core.pricing import Flat
from subledger.core.proration import BY_DAY, NONE, By, ByTime, Denominator, Rounds
from subledger.core.timeline import Item, Line, Phase, Timeline, Timing
from tests.core.proration_world import MODES, MOMENTS, MONTH, ZONES, anchored, at

LAST_DAY = ByTime(last_day_charged=True)
ROUNDS_CREDIT = ByTime(rounds=Rounds.CREDIT)


def items(minor=3100, timing=Timing.ADVANCE, every=1):
    return (Item("base", Flat(minor), Decimal(1), timing, every),)


def run(start, end=None, *, anchor, until, mode=BY_DAY, interval=MONTH, **more) -> tuple[Line, ...]:
    """All lines of a subscription as far as due."""
    timeline = Timeline(
        anchor, interval, "EUR", (Phase(start, items(**more)),), ended_at=end, proration=mode
    )
    first = index_at(anchor, interval, start)
    return draft(timeline, first_period=first, horizon_at=until, most_periods=1_200).lines


def shares(lines):
    return [Fraction(each.derivation["fraction"]) for each in lines]


def wholes(lines):
    return [each.derivation["proration"]["whole"] for each in lines]


def test_a_run_has_a_stub_whole_periods_and_a_stub():
    lines = run(
        at("2011-01-31"), at("2011-03-10"), anchor=anchored(7, "2011-01-31"),
        until=at("2011-04-21"),
    )  # fmt: skip
    assert shares(lines) == [Fraction(7, 31), 1, Fraction(3, 31)]
    assert [each.net_minor for each in lines] == [700, 3100, 300]


def test_three_denominators_of_a_leading_stub():
    start, anchor = at("2011-02-14"), anchored(31, "2011-02-14")
    found = [
        wholes(run(start, anchor=anchor, until=start, mode=ByTime(denominator=each)))
        for each in Denominator
    ]
    assert found == [[28], [31], [28]]  # from 31 January; from 28 January; to 14 March


def test_the_imagined_period_of_a_yearly_price_beside_monthly_ones_is_a_year():
    start, anchor = at("2026-02-14"), anchored(1, "2026-02-14")
    mode = ByTime(denominator=Denominator.IMAGINED)
    assert wholes(run(start, anchor=anchor, until=start, every=12, mode=mode)) == [365]
    assert wholes(run(start, anchor=anchor, until=start, mode=mode)) == [28]


def test_a_change_within_a_stub_is_measured_as_the_stub_is():
    # Imagined from 15 January: 31 days, of which the stub has 17 and the change leaves 10.
    start, change = at("2026-01-15"), at("2026-01-22")
    mode = ByTime(denominator=Denominator.IMAGINED)
    known = Timeline(
        anchored(1, "2026-01-15"), MONTH, "EUR", (Phase(start, items()),), proration=mode
    )
    first = draft(known, first_period=0, horizon_at=start)
    assert [each.net_minor for each in first.lines] == [1700]
    more = replace(known, phases=(*known.phases, Phase(change, items(6200))))
    found = draft(more, first_period=0, horizon_at=change, billed=first.lines)
    assert [(each.kind, each.net_minor) for each in found.lines] == [
        ("credit", -1000), ("charge", 2000),
    ]  # fmt: skip


def test_an_imagined_period_shorter_than_the_stub_is_the_stub():
    lines = run(
        at("2026-04-30T10:00"), anchor=anchored(31, "2026-04-30"), until=at("2026-05-01"),
        mode=ByTime(By.SECOND, denominator=Denominator.IMAGINED),
    )  # fmt: skip
    assert shares(lines) == [1]


def test_a_period_counted_back_reaches_its_stub_across_a_clock_change():
    # 02:30 on the 29th; on 29 March that is 03:30, and a month back from there is after 02:45.
    zone = "Europe/Berlin"
    start = at("2026-02-28T02:45", zone)
    lines = run(
        start, anchor=Anchor(at("2026-01-29T02:30", zone), zone), until=start,
        mode=ByTime(By.SECOND, denominator=Denominator.COUNTED_BACK),
    )  # fmt: skip
    assert shares(lines) == [1]


def test_without_proration_each_stub_costs_the_full_price():
    lines = run(
        at("2011-01-31"), at("2011-03-10"), anchor=anchored(7, "2011-01-31"),
        until=at("2011-04-21"), mode=NONE,
    )  # fmt: skip
    assert [each.net_minor for each in lines] == [3100, 3100, 3100]


def test_without_proration_a_change_waits_for_the_next_period():
    start, change = at("2026-02-01"), at("2026-02-15")
    known = Timeline(anchored(1, "2026-02-01"), MONTH, "EUR", (Phase(start, items()),),
                     proration=NONE)  # fmt: skip
    first = draft(known, first_period=0, horizon_at=start)
    more = replace(known, phases=(*known.phases, Phase(change, items(6200))))
    found = draft(more, first_period=0, horizon_at=change, billed=first.lines)
    assert found.total_minor == 0
    assert draft(more, first_period=1, horizon_at=at("2026-03-01")).total_minor == 6200


def test_in_arrears_a_part_is_due_when_it_has_ended():
    def due(day: str) -> int:
        return len(
            run(
                at("2026-01-10"), at("2026-03-05"), anchor=anchored(1, "2026-01-10"),
                until=at(day), timing=Timing.ARREARS,
            )
        )  # fmt: skip

    assert [due(day) for day in ("2026-01-31", "2026-02-01", "2026-03-04", "2026-03-05")] == [
        0, 1, 2, 3,
    ]  # fmt: skip


def test_start_and_end_on_one_day_is_one_day_of_use_where_the_last_day_is_charged():
    start, end = at("2026-09-05T08:00"), at("2026-09-05T20:00")
    anchor = anchored(1, "2026-09-05")
    assert shares(run(start, end, anchor=anchor, until=end, mode=LAST_DAY)) == [Fraction(1, 30)]
    assert shares(run(start, end, anchor=anchor, until=end)) == [0]


def test_a_cancellation_gives_back_the_last_day_or_charges_it():
    start, end = at("2026-02-01"), at("2026-02-14T09:00")
    known = Timeline(anchored(1, "2026-02-01"), MONTH, "EUR", (Phase(start, items(2800)),))
    for mode, credit_minor in ((BY_DAY, -1500), (LAST_DAY, -1400)):
        here = replace(known, proration=mode)
        first = draft(here, first_period=0, horizon_at=start)
        ended = draft(
            replace(here, ended_at=end), first_period=0, horizon_at=end, billed=first.lines
        )
        assert [each.net_minor for each in ended.lines] == [credit_minor]


@pytest.mark.parametrize(
    ("mode", "credit_minor", "charge_minor"), [(BY_DAY, -499, 1000), (ROUNDS_CREDIT, -500, 1000)]
)
def test_of_an_odd_cent_used_and_given_back_make_up_what_was_paid(mode, credit_minor, charge_minor):
    start, change = at("2026-02-01"), at("2026-02-15")
    known = Timeline(
        anchored(1, "2026-02-01"), MONTH, "EUR", (Phase(start, items(999)),), proration=mode
    )
    first = draft(known, first_period=0, horizon_at=start)
    more = replace(known, phases=(*known.phases, Phase(change, items(2000))))
    found = draft(more, first_period=0, horizon_at=change, billed=first.lines)
    assert [each.net_minor for each in found.lines] == [credit_minor, charge_minor]


def test_a_credit_is_taken_from_what_was_paid_after_the_discount():
    quarter = Discount("off", Kind.PERCENT, Decimal(25), None, None, Duration.FOREVER, None)
    start, end = at("2026-02-01"), at("2026-02-15")
    known = Timeline(anchored(1, "2026-02-01"), MONTH, "EUR", (Phase(start, items(10_000)),),
                     attached=(Running(quarter),), proration=ROUNDS_CREDIT)  # fmt: skip
    first = draft(known, first_period=0, horizon_at=start)
    ended = draft(replace(known, ended_at=end), first_period=0, horizon_at=end, billed=first.lines)
    (line,) = ended.lines
    assert (line.gross_minor, line.discount_minor, line.net_minor) == (-5000, -1250, -3750)


@given(
    start=MOMENTS,
    length=st.timedeltas(timedelta(0), timedelta(days=700)),
    day=st.integers(1, 31),
    interval=st.sampled_from([MONTH, Interval(Unit.QUARTER), Interval(Unit.MONTH, 5)]),
    mode=st.sampled_from([*MODES, *(ByTime(denominator=each) for each in Denominator)]),
    zone=st.sampled_from(ZONES),
)
def test_lines_tile_the_run(start, length, day, interval, mode, zone):
    anchor = align(start, zone, interval, Alignment(Grid.DAY, day))
    end = start + length
    lines = run(start, end, anchor=anchor, interval=interval, until=end, mode=mode)
    assert all(a.service_end_at == b.service_start_at for a, b in pairwise(lines))
    assert not lines or (lines[0].service_start_at, lines[-1].service_end_at) == (start, end)
    assert all(0 <= each <= 1 for each in shares(lines))
    assert all(each == 1 for each in shares(lines)[1:-1])


@given(
    minor=st.integers(0, 10**6),
    days=st.lists(st.integers(1, 30), min_size=1, max_size=5, unique=True).map(sorted),
    mode=st.sampled_from([ROUNDS_CREDIT, ByTime(By.SECOND, rounds=Rounds.CREDIT)]),
)
def test_each_credit_is_the_rounded_share_of_the_price_that_it_gives_back(minor, days, mode):
    """Changes one after another within a month of 31 days: whoever rounds the credit gives back
    the same for the rest of the month, however often it was changed before."""
    start = at("2026-01-01")
    phases, billed = [Phase(start, items(minor))], []
    for day in [0, *days]:
        when = start + timedelta(days=day)
        if day:
            phases.append(Phase(when, (Item(f"p{day}", Flat(minor), Decimal(1)),)))
        known = Timeline(anchored(1, "2026-01-01"), MONTH, "EUR", tuple(phases), proration=mode)
        found = draft(known, first_period=0, horizon_at=when, billed=billed).lines
        if day and minor:
            rest = (2 * minor * (31 - day) + 31) // 62
            assert {each.kind: each.net_minor for each in found if each.gross_minor} == (
                {"credit": -rest, "charge": rest} if rest else {}
            )
        billed += found
    assert sum(each.net_minor for each in billed) == minor


@given(
    minor=st.integers(0, 10**6),
    gap=st.tuples(st.integers(0, 31), st.integers(0, 31)).map(sorted),
    mode=st.sampled_from([BY_DAY, ROUNDS_CREDIT]),
)
def test_a_gap_gives_back_its_share_and_never_more(minor, gap, mode):
    """A pause, or a block by an overdue state: credited from its start, charged anew from its end.
    The two are rounded each, so their sum is within one minor unit of the share."""
    start, (begins, ends) = at("2026-01-01"), gap
    known = Timeline(
        anchored(1, "2026-01-01"), MONTH, "EUR", (Phase(start, items(minor)),), proration=mode
    )
    first = draft(known, first_period=0, horizon_at=start)
    phases = {start: items(minor)}
    phases[start + timedelta(days=begins)] = ()
    phases[start + timedelta(days=ends)] = items(minor)
    paused = replace(known, phases=tuple(Phase(when, what) for when, what in phases.items()))
    found = draft(paused, first_period=0, horizon_at=at("2026-01-31"), billed=first.lines)
    share = Fraction(minor * (ends - begins), 31)
    assert abs(-found.total_minor - share) <= 1
    assert 0 <= -found.total_minor <= minor
    if minor % 31 == 0:
        assert -found.total_minor == share
