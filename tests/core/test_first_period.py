"""What a stub before the first boundary costs, and what a change inside it does."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from subledger.core.calendar import Alignment, Grid, Interval, Unit, align, index_at
from subledger.core.invoicing import draft
from subledger.core.money import round_half_up
from subledger.core.pricing import PerUnit
from subledger.core.proration import BY_DAY, BY_SECOND, local_days
from subledger.core.timeline import FirstPeriod, Item, Phase, Timeline

ZONE = "Europe/Berlin"
MONTH = Interval(Unit.MONTH)
ONE = Item("seat", PerUnit(Decimal(3_000)), Decimal(1))
CALENDAR = Alignment(Grid.CALENDAR)
FEBRUARY = datetime(2026, 1, 31, 23, tzinfo=UTC)
"""The 1st of February, midnight in Berlin; the month has 28 days."""

moments = st.datetimes(datetime(2001, 1, 1), datetime(2040, 1, 1)).map(
    lambda each: each.replace(tzinfo=UTC)
)
grids = st.sampled_from([CALENDAR, Alignment(Grid.DAY, day=31), Alignment()])
intervals = st.sampled_from(
    [MONTH, Interval(Unit.QUARTER), Interval(Unit.YEAR), Interval(Unit.WEEK)]
)


def begun(start_at, first, *, interval=MONTH, grid=CALENDAR, by=BY_DAY):
    anchor = align(start_at, ZONE, interval, grid)
    return Timeline(
        anchor, interval, "EUR", (Phase(start_at, (ONE,)),), proration=by, first_period=first
    )


@pytest.mark.parametrize(
    ("first", "stub"),
    [(FirstPeriod.PRORATED, 1607), (FirstPeriod.FULL, 3000), (FirstPeriod.FREE, 0)],
)
def test_from_the_14th_of_february(first, stub):
    """15 of 28 days of 30.00 are 16.07."""
    start_at = FEBRUARY + timedelta(days=13, hours=10)
    found = draft(begun(start_at, first), first_period=0, horizon_at=start_at)
    (line,) = found.lines
    assert (line.net_minor, line.service_start_at) == (stub, start_at)
    assert found.period is not None
    assert found.period.start_at == start_at
    following = draft(begun(start_at, first), first_period=1, horizon_at=found.period.end_at)
    assert following.total_minor == 3000


@pytest.mark.parametrize("first", list(FirstPeriod))
def test_another_hour_of_the_grid_s_first_day_is_no_stub(first):
    start_at = FEBRUARY + timedelta(hours=10)
    assert draft(begun(start_at, first), first_period=0, horizon_at=start_at).total_minor == 3000


@given(
    moments, grids, intervals, st.sampled_from(FirstPeriod), st.sampled_from([BY_DAY, BY_SECOND])
)
def test_a_start_lies_in_the_period_number_zero(start_at, grid, interval, first, by):
    assume(interval.unit is not Unit.WEEK or grid.day is None)
    known = begun(start_at, first, interval=interval, grid=grid, by=by)
    assert index_at(known.anchor, interval, start_at) == 0
    found = draft(known, first_period=0, horizon_at=start_at)
    assert found.period is not None
    assert found.period.start_at == start_at
    assert 0 <= found.total_minor <= 3000
    days = local_days(known.anchor.at, start_at, ZONE)
    if first is FirstPeriod.FULL or (days == 0 and by is BY_DAY):
        assert found.total_minor == 3000
    if first is FirstPeriod.FREE and days:
        assert found.total_minor == 0


@given(moments, st.integers(0, 40 * 86_400), st.sampled_from(FirstPeriod))
def test_a_change_inside_the_stub_pays_each_part_of_what_the_stub_costs(start_at, after_s, first):
    """To a quantity of three: the stub's price, and twice that for the time from the change on."""
    known = begun(start_at, first, by=BY_SECOND)
    bought = draft(known, first_period=0, horizon_at=start_at)
    assert bought.period is not None
    at = min(start_at + timedelta(seconds=after_s), bought.period.end_at - timedelta(seconds=1))
    if at <= start_at:
        return
    changed = replace(
        known, phases=(*known.phases, Phase(at, (replace(ONE, quantity=Decimal(3)),)))
    )
    made = draft(changed, first_period=0, horizon_at=at, billed=bought.lines)
    second = timedelta(microseconds=1)
    whole_s = (bought.period.end_at - start_at) // second
    rest = Fraction((bought.period.end_at - at) // second, whole_s)
    exact = {
        FirstPeriod.FREE: Fraction(0),
        FirstPeriod.FULL: 3000 * rest,
        FirstPeriod.PRORATED: bought.total_minor * rest,
    }[first]
    if local_days(known.anchor.at, start_at, ZONE) == 0:
        exact = bought.total_minor * rest
    assert abs(made.total_minor - round_half_up(2 * exact)) <= 3
    again = draft(changed, first_period=0, horizon_at=at, billed=(*bought.lines, *made.lines))
    assert again.lines == ()
