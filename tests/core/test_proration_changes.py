"""Changes inside a period give back no more than was billed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger.core.calendar import Period
from subledger.core.errors import (
    InvalidProration,
)
from subledger.core.proration import (
    BY_DAY,
    BY_MONTH_OF_30,
    BY_SECOND,
    NONE,
    ByTime,
    fraction,
)
from subledger.core.proration_changes import (
    Billed,
    Change,
    Target,
    cancel_lines,
    cap_credit,
    change_lines,
)
from tests.core.proration_world import FEBRUARY, MODES, ZONES, at, span

# Changes


def test_a_change_credits_what_is_left_and_charges_the_rest():
    change = change_lines(
        at("2026-02-15"),
        [Billed("basic", FEBRUARY, 1000)],
        [Target("pro", FEBRUARY, 2999)],
        timezone="UTC",
    )
    assert [(each.kind, each.price_id, each.net_minor) for each in change.lines] == [
        ("credit", "basic", -500), ("charge", "pro", 1500),
    ]  # fmt: skip
    assert (change.net_minor, change.due_minor, change.to_balance_minor) == (1000, 1000, 0)
    assert change.standing == (
        Billed("basic", span("2026-02-01", "2026-02-15"), 500),
        Billed("pro", span("2026-02-15", "2026-03-01"), 1500),
    )
    charge = change.lines[1].derivation
    assert charge["residue"] == "-1/2"
    assert charge["proration"] == {
        "mode": "day", "unit": "day", "before": 14, "part": 14, "whole": 28, "fraction": "1/2",
    }  # fmt: skip


def test_a_credit_is_taken_from_the_net_amount():
    change = cancel_lines(
        at("2026-02-15"), [Billed("basic", FEBRUARY, 10000, 2500)], timezone="UTC"
    )
    (line,) = change.lines
    assert (line.gross_minor, line.discount_minor, line.net_minor) == (-5000, -1250, -3750)
    assert change.to_balance_minor == 3750


def test_a_free_period_gives_nothing_back():
    change = cancel_lines(at("2026-02-15"), [Billed("basic", FEBRUARY, 1000, 1000)], timezone="UTC")
    assert change.net_minor == 0
    assert change.standing == (Billed("basic", span("2026-02-01", "2026-02-15"), 500, 500),)


@pytest.mark.parametrize(
    ("paid", "credited", "expected"), [(None, 700, -300), (200, 0, -200), (0, 0, 0), (900, 900, 0)]
)
def test_a_credit_is_capped(paid, credited, expected):
    billed = Billed("basic", FEBRUARY, 1000, credited_minor=credited, paid_minor=paid)
    change = change_lines(at("2026-02-02"), [billed], [], timezone="UTC")
    assert change.net_minor == expected


def test_two_changes_give_back_no_more_than_was_paid():
    billed = Billed("basic", FEBRUARY, 1000, paid_minor=600)
    first = change_lines(at("2026-02-15"), [billed], [], timezone="UTC")
    assert first.standing[0].paid_minor == 100
    backdated = change_lines(at("2026-02-08"), first.standing, [], timezone="UTC")
    assert [first.net_minor, backdated.net_minor] == [-500, -100]
    assert backdated.lines[0].derivation["cap_minor"] == 100


def test_nothing_stands_for_no_time_even_if_its_credit_was_capped():
    billed = Billed("basic", FEBRUARY, 1000, paid_minor=0)
    change = change_lines(FEBRUARY.start_at, [billed], [], timezone="UTC")
    assert (change.lines, change.standing) == ((), ())


def test_cap_credit_is_never_negative():
    assert [cap_credit(300, paid_minor=p, credited_minor=c) for p, c in ((500, 0), (500, 400))] == [
        300, 100,
    ]  # fmt: skip
    assert cap_credit(300, paid_minor=100, credited_minor=200) == 0


def test_without_proration_a_change_waits_for_the_next_period():
    change = change_lines(
        at("2026-02-15"),
        [Billed("basic", FEBRUARY, 1000)],
        [Target("pro", FEBRUARY, 3000)],
        mode=NONE,
        timezone="UTC",
    )
    assert change.lines == ()


def test_a_cancellation_on_the_last_day_of_use():
    billed = [Billed("basic", FEBRUARY, 2800)]
    assert cancel_lines(at("2026-02-15T12:00"), billed, timezone="UTC").net_minor == -1400
    assert (
        cancel_lines(
            at("2026-02-15T12:00"), billed, mode=ByTime(last_day_charged=True), timezone="UTC"
        ).net_minor
        == -1300
    )


def test_a_yearly_price_in_a_monthly_period():
    year = span("2026-01-01", "2027-01-01")
    change = change_lines(
        at("2026-01-11"),
        [],
        [Target("yearly", year, 36500, end_at=at("2026-02-01"))],
        timezone="UTC",
    )
    assert change.net_minor == 2100


def test_a_change_after_or_before_what_was_billed():
    billed = (Billed("basic", FEBRUARY, 1000),)
    after = change_lines(at("2026-04-01"), billed, [], timezone="UTC")
    assert (after.lines, after.standing) == ((), billed)
    before = change_lines(at("2026-01-01"), billed, [], timezone="UTC")
    assert (before.net_minor, before.standing) == (-1000, ())


@pytest.mark.parametrize(("gross", "discount"), [(-1, 0), (100, 101), (100, -1), (10**15 + 1, 0)])
def test_impossible_amounts_are_refused(gross, discount):
    with pytest.raises(InvalidProration):
        Billed("x", FEBRUARY, gross, discount)
    with pytest.raises(InvalidProration):
        Target("x", FEBRUARY, gross, discount)


def test_changes_are_bounded():
    with pytest.raises(InvalidProration):
        change_lines(at("2026-02-02"), [Billed("x", FEBRUARY, 1)] * 1001, [], timezone="UTC")
    with pytest.raises(InvalidProration):
        Billed("x", FEBRUARY, 1, credited_minor=-1)


@st.composite
def billed_lines(draw):
    gross = draw(st.integers(0, 10**6))
    return Billed(
        draw(st.sampled_from("ab")),
        FEBRUARY,
        gross,
        draw(st.integers(0, gross)),
        credited_minor=draw(st.integers(0, 10**6)) if draw(st.booleans()) else 0,
        paid_minor=draw(st.integers(0, 10**6)) if draw(st.booleans()) else None,
    )


IN_FEBRUARY = st.datetimes(
    datetime(2026, 1, 30), datetime(2026, 3, 3), timezones=st.just(UTC)
)  # also before and after


@given(
    billed=st.lists(billed_lines(), max_size=4),
    changes=st.lists(st.tuples(IN_FEBRUARY, st.integers(0, 10**6)), min_size=1, max_size=5),
    mode=st.sampled_from(MODES),
    zone=st.sampled_from(ZONES),
)
def test_credits_never_exceed_what_was_billed(billed, changes, mode, zone):
    """Through any run of changes, later or backdated, in any order."""
    standing = tuple(billed)
    for moment, price in changes:
        targets = [Target("new", FEBRUARY, price, price // 3)]
        change = change_lines(moment, standing, targets, mode=mode, timezone=zone)
        given_back = -sum(each.net_minor for each in change.lines if each.kind == "credit")
        assert given_back <= sum(each.creditable_minor for each in standing)
        for each in change.lines:
            sign = 1 if each.kind == "charge" else -1
            assert 0 <= sign * each.discount_minor <= sign * each.gross_minor
        standing = change.standing
        assert all(each.net_minor >= 0 for each in standing)


@given(
    price=st.integers(0, 10**6),
    changes=st.lists(st.tuples(IN_FEBRUARY, st.integers(0, 10**6)), max_size=6),
    mode=st.sampled_from([BY_DAY, BY_SECOND, BY_MONTH_OF_30, ByTime(scale=9)]),
)
def test_what_stands_is_what_the_lines_left(price, changes, mode):
    """And each price stands for the time it was in force, within a minor unit a line."""
    standing: tuple[Billed, ...] = (Billed("0", FEBRUARY, price),)
    total, lines = price, 0
    changes = [(min(max(m, FEBRUARY.start_at), FEBRUARY.end_at), new) for m, new in changes]
    for moment, new in sorted(changes):
        targets = [Target("n", FEBRUARY, new)]
        change = change_lines(moment, standing, targets, mode=mode, timezone="UTC")
        standing, total, lines = change.standing, total + change.net_minor, lines + 2
        assert total == sum(each.net_minor for each in standing)
    cuts = [
        FEBRUARY.start_at,
        *(moment for moment, _ in sorted(changes)),
        FEBRUARY.end_at,
    ]
    exact = replace(mode, scale=None)
    due = sum(
        amount * fraction(Period(*pair), FEBRUARY, exact, "UTC")
        for pair, amount in zip(
            pairwise(cuts), (price, *(new for _, new in sorted(changes))), strict=True
        )
    )
    assert abs(total - due) <= lines + 1


@given(
    old=st.integers(0, 10**7),
    new=st.fractions(0, 10**7),
    moment=IN_FEBRUARY,
    mode=st.sampled_from(MODES),
    zone=st.sampled_from(ZONES),
)
def test_a_change_and_its_undoing_net_to_zero(old, new, moment, mode, zone):
    first = change_lines(
        moment,
        [Billed("old", FEBRUARY, old)],
        [Target("new", FEBRUARY, new)],
        mode=mode,
        timezone=zone,
    )
    new_lines = [each for each in first.standing if each.price_id == "new"]
    second = change_lines(
        moment, new_lines, [Target("old", FEBRUARY, old)], mode=mode, timezone=zone
    )
    both = Change(first.lines + second.lines, ())
    assert abs(both.net_minor) <= len(both.lines)
    assert both.net_minor == 0  # at one moment even exactly
