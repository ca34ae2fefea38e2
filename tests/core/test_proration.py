"""Proration: shares tile, stubs, changes that give back no more than was billed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from subledger.core.calendar import Alignment, Anchor, Grid, Interval, Period, Unit, align
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
    Denominator,
    PartKind,
    charged_until,
    cycles,
    fraction,
    local_days,
    overlap,
    parts,
    prorate,
    share,
)
from subledger.core.proration_changes import (
    Billed,
    Change,
    Target,
    cancel_lines,
    cap_credit,
    change_lines,
)

MONTH = Interval(Unit.MONTH)
# Clocks change at midnight, after it by a minute, by half an hour, by a whole day left out.
ZONES = [
    "UTC", "Europe/Berlin", "America/New_York", "America/St_Johns", "America/Sao_Paulo",
    "America/Havana", "America/Asuncion", "Australia/Lord_Howe", "Pacific/Apia",
    "Pacific/Kiritimati", "Asia/Kathmandu", "Africa/Casablanca", "Asia/Beirut", "Asia/Tehran",
]  # fmt: skip
MODES = [
    ByTime(by, scale=scale) for by in By for scale in (None, 9, 2) if by is not By.NONE or not scale
]


def at(text: str, zone: str = "UTC") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def span(start: str, end: str, zone: str = "UTC") -> Period:
    return Period(at(start, zone), at(end, zone))


def anchored(day: int, start: str) -> Anchor:
    return align(at(start), "UTC", MONTH, Alignment(Grid.DAY, day))


FEBRUARY = span("2026-02-01", "2026-03-01")
MOMENTS = st.datetimes(datetime(1975, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))


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
    data=st.data(),
)
def test_splits_at_clock_changes_sum_to_one(zone, year, mode, data):
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
    cuts = data.draw(st.lists(st.integers(-1600, 200), min_size=1, max_size=5, unique=True))
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


def test_overlap_clips_to_the_nearer_edge():
    assert overlap(span("2026-01-15", "2026-02-03"), FEBRUARY) == span("2026-02-01", "2026-02-03")
    assert overlap(span("2026-01-15", "2026-01-20"), FEBRUARY) == span("2026-02-01", "2026-02-01")
    assert overlap(span("2026-03-15", "2026-03-20"), FEBRUARY) == span("2026-03-01", "2026-03-01")


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


def test_start_and_end_on_one_day_is_one_day_of_use():
    start, end = at("2026-09-05T08:00"), at("2026-09-05T20:00")
    anchor = anchored(1, "2026-09-05")
    run = parts(start, end, anchor=anchor, interval=MONTH, horizon_at=end, mode=LAST_DAY)
    assert cycles(run) == Fraction(1, 30)
    run = parts(start, end, anchor=anchor, interval=MONTH, horizon_at=end)
    assert cycles(run) == 0


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


# Runs


def test_a_run_has_a_stub_whole_periods_and_a_stub():
    run = parts(
        at("2011-01-31"), at("2011-03-10"), anchor=anchored(7, "2011-01-31"), interval=MONTH,
        horizon_at=at("2011-04-21"),
    )  # fmt: skip
    assert [(each.kind, each.fraction) for each in run] == [
        (PartKind.LEADING, Fraction(7, 31)),
        (PartKind.WHOLE, 1),
        (PartKind.TRAILING, Fraction(3, 31)),
    ]


def test_three_denominators_of_a_leading_stub():
    start, anchor = at("2011-02-14"), anchored(31, "2011-02-14")
    found = [
        parts(
            start, None, anchor=anchor, interval=MONTH, horizon_at=start,
            mode=ByTime(denominator=each),
        )[0].share.whole
        for each in Denominator
    ]  # fmt: skip
    assert found == [28, 31, 28]  # from 31 January; from 28 January; to 14 March


def test_an_imagined_period_shorter_than_the_stub_is_the_stub():
    anchor = anchored(31, "2026-04-30")
    run = parts(
        at("2026-04-30T10:00"), None, anchor=anchor, interval=MONTH,
        horizon_at=at("2026-05-01"), mode=ByTime(By.SECOND, denominator=Denominator.IMAGINED),
    )  # fmt: skip
    assert [each.fraction for each in run] == [1]


def test_without_proration_each_stub_costs_the_full_price():
    run = parts(
        at("2011-01-31"), at("2011-03-10"), anchor=anchored(7, "2011-01-31"), interval=MONTH,
        horizon_at=at("2011-04-21"), mode=NONE,
    )  # fmt: skip
    assert [each.fraction for each in run] == [1, 1, 1]


def test_in_arrears_a_part_is_due_when_it_has_ended():
    def due(day: str) -> int:
        return len(
            parts(
                at("2026-01-10"), at("2026-03-05"), anchor=anchored(1, "2026-01-10"),
                interval=MONTH, horizon_at=at(day), in_arrears=True,
            )
        )  # fmt: skip

    assert [due(day) for day in ("2026-01-31", "2026-02-01", "2026-03-04", "2026-03-05")] == [
        0, 1, 2, 3,
    ]  # fmt: skip


def test_runs_are_bounded_and_ordered():
    days = {"anchor": anchored(1, "2026-01-01"), "interval": Interval(Unit.DAY)}
    with pytest.raises(InvalidProration):
        parts(at("2026-01-01"), None, horizon_at=at("2036-01-01"), **days)
    with pytest.raises(InvalidSequence):
        parts(at("2026-01-02"), at("2026-01-01"), horizon_at=at("2026-01-02"), **days)
    with pytest.raises(InvalidSequence):
        parts(at("2026-01-02"), None, horizon_at=at("2026-01-01"), **days)
    assert parts(at("2026-01-02"), at("2026-01-02"), horizon_at=at("2026-01-02"), **days) == ()


@given(
    start=MOMENTS,
    length=st.timedeltas(timedelta(0), timedelta(days=700)),
    day=st.integers(1, 31),
    interval=st.sampled_from([MONTH, Interval(Unit.QUARTER), Interval(Unit.MONTH, 5)]),
    mode=st.sampled_from([*MODES, *(ByTime(denominator=each) for each in Denominator)]),
    zone=st.sampled_from(ZONES),
)
def test_parts_tile_the_run(start, length, day, interval, mode, zone):
    anchor = align(start, zone, interval, Alignment(Grid.DAY, day))
    end = start + length
    run = parts(start, end, anchor=anchor, interval=interval, horizon_at=end, mode=mode)
    assert all(a.period.end_at == b.period.start_at for a, b in pairwise(run))
    assert not run or (run[0].period.start_at, run[-1].period.end_at) == (start, end)
    assert all(each.kind is PartKind.WHOLE for each in run[1:-1])
    assert all(0 <= each.fraction <= 1 for each in run)
    assert all(each.fraction == 1 for each in run if each.kind is PartKind.WHOLE)


def test_a_period_counted_back_reaches_its_stub_across_a_clock_change():
    # 02:30 on the 29th; on 29 March that is 03:30, and a month back from there is after 02:45.
    zone = "Europe/Berlin"
    anchor = Anchor(at("2026-01-29T02:30", zone), zone)
    start = at("2026-02-28T02:45", zone)
    run = parts(
        start, None, anchor=anchor, interval=MONTH, horizon_at=start,
        mode=ByTime(denominator=Denominator.COUNTED_BACK),
    )  # fmt: skip
    assert [each.whole.start_at for each in run] == [start]


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
        cancel_lines(at("2026-02-15T12:00"), billed, mode=LAST_DAY, timezone="UTC").net_minor
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
