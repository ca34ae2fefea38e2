"""Proration: shares tile, amounts are rounded once. Runs are in ``test_proration_runs``."""

from __future__ import annotations

from datetime import timedelta
from fractions import Fraction
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from subledger.core.calendar import Anchor, Period
from subledger.core.calendar import period as nth_period
from subledger.core.errors import (
    AmountOutOfRange,
    DateOutOfRange,
    InvalidProration,
    InvalidSequence,
    UnknownTimeZone,
)
from subledger.core.money import round_half_up
from subledger.core.proration import (
    BY_DAY,
    BY_MONTH_OF_30,
    BY_SECOND,
    NONE,
    By,
    ByTime,
    charged_until,
    fraction,
    local_days,
    prorate,
    share,
)
from tests.core.proration_world import FEBRUARY, MODES, MOMENTS, MONTH, ZONES, at, span

# Shares


def test_days_are_those_of_the_local_clock():
    whole = span("2026-03-01", "2026-04-01", "Europe/Berlin")
    part = span("2026-03-28", "2026-04-01", "Europe/Berlin")
    found = share(part, whole, BY_DAY, "Europe/Berlin")  # 29 March has 23 hours
    assert (found.part, found.whole, found.fraction) == (4, 31, Fraction(4, 31))
    assert share(part, whole, BY_SECOND, "Europe/Berlin").fraction == Fraction(95, 743)


def test_the_day_of_a_change_belongs_to_what_begins_on_it():
    change = at("2026-02-15T16:30")
    old, new = Period(FEBRUARY.start_at, change), Period(change, FEBRUARY.end_at)
    assert fraction(old, FEBRUARY, BY_DAY, "UTC") == Fraction(14, 28)
    assert fraction(new, FEBRUARY, BY_DAY, "UTC") == Fraction(14, 28)


def test_an_hour_of_the_anchor_does_not_add_a_day():
    whole = span("2026-01-31T10:00", "2026-02-28T10:00")
    found = share(Period(at("2026-02-20T23:00"), whole.end_at), whole, BY_DAY, "UTC")
    assert (found.before, found.part, found.whole) == (20, 8, 28)


def test_a_whole_shorter_than_a_day_is_counted_in_time():
    whole = span("2026-02-01T10:00", "2026-02-01T22:00")
    found = share(span("2026-02-01T10:00", "2026-02-01T13:00"), whole, BY_DAY, "UTC")
    assert (found.fraction, found.unit) == (Fraction(1, 4), "second")


def test_months_of_30_days_make_up_in_february_and_forgive_the_31st():
    assert share(FEBRUARY, FEBRUARY, BY_MONTH_OF_30, "UTC").whole == 30
    assert fraction(span("2026-02-28", "2026-03-01"), FEBRUARY, BY_MONTH_OF_30, "UTC") == Fraction(
        3, 30
    )
    may = span("2026-05-01", "2026-06-01")
    assert fraction(span("2026-05-31", "2026-06-01"), may, BY_MONTH_OF_30, "UTC") == 0


def test_without_proration_the_price_goes_to_the_part_that_begins_the_period():
    first, rest = span("2026-02-01", "2026-02-02"), span("2026-02-02", "2026-03-01")
    assert [fraction(each, FEBRUARY, NONE, "UTC") for each in (first, rest)] == [1, 0]


def test_a_day_begins_once_where_its_date_comes_twice():
    # St. John's: 00:01 on 1 November 2009 became 23:01 on 31 October.
    zone = "America/St_Johns"
    whole = span("2009-10-01", "2009-12-01", zone)
    before, after = at("2009-11-01T02:30:30"), at("2009-11-01T03:00:00")
    assert before.astimezone(ZoneInfo(zone)).day == 1
    assert after.astimezone(ZoneInfo(zone)).day == 31
    assert share(Period(before, after), whole, BY_DAY, zone).part == 0
    assert local_days(whole.start_at, after, zone) == 31


@pytest.mark.parametrize("zone", ["America/St_Johns", "America/Sao_Paulo", "Asia/Beirut"])
def test_days_never_decrease_across_a_year_of_half_hours(zone):
    start_at = at("2009-01-01", zone)
    marks = [local_days(start_at, start_at + timedelta(minutes=30 * n), zone) for n in range(17520)]
    assert all(0 <= following - here <= 1 for here, following in pairwise(marks))
    assert marks[-1] == 364


@given(
    moments=st.lists(MOMENTS, min_size=2, max_size=6, unique=True),
    mode=st.sampled_from(MODES),
    zone=st.sampled_from(ZONES),
)
def test_fractions_of_a_split_sum_to_one(moments, mode, zone):
    moments.sort()
    whole = Period(moments[0], moments[-1])
    found = [share(Period(*pair), whole, mode, zone) for pair in pairwise(moments)]
    assert sum(each.fraction for each in found) == 1
    assert all(0 <= each.fraction <= 1 for each in found)
    assert [each.before for each in found[1:]] == [
        each.before + each.part for each in found[:-1]
    ] or mode.by in (By.NONE, By.SECOND)


@given(
    zone=st.sampled_from(ZONES),
    year=st.integers(1985, 2037),
    mode=st.sampled_from(MODES),
    cuts=st.lists(st.integers(-1600, 200), min_size=1, max_size=5, unique=True),
    data=st.data(),
)
def test_splits_at_clock_changes_sum_to_one(zone, year, mode, cuts, data):
    """Cuts lie within two hours of a change of the zone's clocks."""
    start_at = at(f"{year}-01-01", zone)
    offset, changes = start_at.astimezone(ZoneInfo(zone)).utcoffset(), []
    for n in range(1, 366):
        now = (start_at + n * timedelta(days=1)).astimezone(ZoneInfo(zone)).utcoffset()
        if now != offset:
            changes.append(start_at + n * timedelta(days=1))
        offset = now
    assume(changes)
    change = data.draw(st.sampled_from(changes))
    whole = Period(change - timedelta(days=3), change + timedelta(days=3))
    moments = [whole.start_at, *(change + timedelta(minutes=n) for n in sorted(cuts)), whole.end_at]
    found = [fraction(Period(*pair), whole, mode, zone) for pair in pairwise(moments)]
    assert sum(found) == 1
    assert min(found) >= 0


@given(
    moments=st.lists(MOMENTS, min_size=4, max_size=4),
    mode=st.sampled_from(MODES),
    zone=st.sampled_from(ZONES),
)
def test_a_longer_part_costs_no_less(moments, mode, zone):
    start, first, second, end = sorted(moments)
    assume(start < end)
    whole = Period(start, end)
    for shorter, longer in (
        (Period(start, first), Period(start, second)),
        (Period(first, second), Period(first, end)),
        (Period(first, second), Period(start, second)),
    ):
        if mode.by is By.NONE and longer.start_at != shorter.start_at:
            continue
        assert fraction(shorter, whole, mode, zone) <= fraction(longer, whole, mode, zone)


@given(
    moments=st.lists(MOMENTS, min_size=3, max_size=3, unique=True),
    mode=st.sampled_from(MODES),
    zone=st.sampled_from(ZONES),
)
def test_the_derivation_recomputes_the_fraction(moments, mode, zone):
    start, cut, end = sorted(moments)
    data = share(Period(cut, end), Period(start, end), mode, zone).derivation
    before, count, whole = data["before"], data["part"], data["whole"]
    if "scale" not in data:
        assert Fraction(data["fraction"]) == Fraction(count, whole)
    else:
        power = 10 ** data["scale"]
        here, there = (
            Fraction(round_half_up(Fraction(n * power, whole)), power)
            for n in (before, before + count)
        )
        assert Fraction(data["fraction"]) == there - here


def test_refusals():
    inside = span("2026-02-03", "2026-02-05")
    with pytest.raises(InvalidProration):
        fraction(FEBRUARY, inside, BY_DAY, "UTC")
    with pytest.raises(InvalidSequence):
        fraction(span("2026-02-05", "2026-02-03"), FEBRUARY, BY_DAY, "UTC")
    with pytest.raises(InvalidSequence):
        fraction(inside, Period(inside.start_at, inside.start_at), BY_DAY, "UTC")
    with pytest.raises(UnknownTimeZone):
        fraction(inside, FEBRUARY, BY_DAY, "Mars")
    with pytest.raises(DateOutOfRange):
        fraction(inside, span("1969-01-01", "2026-03-01"), BY_DAY, "UTC")
    for scale in (0, 19):
        with pytest.raises(InvalidProration):
            ByTime(scale=scale)
    with pytest.raises(InvalidProration):
        prorate(100, Fraction(3, 2))
    with pytest.raises(AmountOutOfRange):
        prorate(10**16, Fraction(1, 2))


# Amounts


@given(
    amount=st.one_of(st.integers(-(10**15), 10**15), st.fractions(-(10**9), 10**9)),
    share=st.fractions(0, 1),
)
def test_an_amount_is_rounded_once_half_away_from_zero(amount, share):
    found = prorate(amount, share)
    assert found.exact == amount * share
    assert found.amount_minor == round_half_up(found.exact)
    assert found.exact - found.amount_minor == found.residue
    assert abs(found.residue) <= Fraction(1, 2)


def test_of_an_odd_cent_the_side_that_is_rounded_gets_the_half():
    half = Fraction(1, 2)
    assert prorate(999, half).amount_minor == 500
    assert prorate(999, half, half).amount_minor == 499


@given(amount=st.integers(0, 10**15), share=st.fractions(0, 1), rest=st.fractions(0, 1))
def test_what_is_used_and_what_is_given_back_make_up_what_was_billed(amount, share, rest):
    assume(share + rest <= 1)
    used = prorate(amount, share, rest)
    assert used.amount_minor + prorate(amount, rest).amount_minor == (
        prorate(amount, share + rest).amount_minor
    )
    assert used.exact - used.amount_minor == used.residue
    assert abs(used.residue) <= 1


# The last day


LAST_DAY = ByTime(last_day_charged=True)


def test_a_last_day_is_charged_only_where_the_mode_says_so():
    cancelled = at("2026-02-20T09:00")
    assert charged_until(cancelled, FEBRUARY, BY_DAY, "UTC") == cancelled
    assert charged_until(cancelled, FEBRUARY, LAST_DAY, "UTC") == at("2026-02-21")
    assert charged_until(at("2026-02-20"), FEBRUARY, LAST_DAY, "UTC") == at("2026-02-20")


def test_a_last_day_ends_with_its_period():
    whole = span("2026-01-31T10:00", "2026-02-28T10:00")
    assert charged_until(at("2026-02-28T05:00"), whole, LAST_DAY, "UTC") == whole.end_at


@given(moment=MOMENTS, zone=st.sampled_from(ZONES), hour=st.integers(0, 23))
def test_used_and_unused_add_up_with_the_last_day_charged(moment, zone, hour):
    anchor = Anchor(moment.replace(day=1, hour=hour), zone)
    whole = nth_period(anchor, MONTH, 0)
    until = charged_until(min(max(moment, whole.start_at), whole.end_at), whole, LAST_DAY, zone)
    used, unused = Period(whole.start_at, until), Period(until, whole.end_at)
    assert fraction(used, whole, LAST_DAY, zone) + fraction(unused, whole, LAST_DAY, zone) == 1
    assert local_days(whole.start_at, min(moment, whole.end_at), zone) <= local_days(
        whole.start_at, until, zone
    )
