"""Pauses that use up nothing: the period is served in full, and both clocks agree on it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger.core.calendar import Anchor, Interval, Unit
from subledger.core.extension import Extension, Pause
from subledger.core.invoicing import draft
from subledger.core.pricing import Flat
from subledger.core.proration import BY_DAY, BY_SECOND
from subledger.core.timeline import Item, Phase, Timeline

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
END = datetime(2026, 4, 1, 11, tzinfo=UTC)
"""13:00 in Berlin on both days: 31 of them, one of 23 hours."""
DAY = timedelta(days=1)
ZONE = "Europe/Berlin"


def extension(*pauses, mode=BY_DAY):
    return Extension(END, ZONE, mode, tuple(Pause(*each) for each in pauses))


def test_without_pauses_both_clocks_are_the_same():
    plain = extension()
    assert plain.extended_to == END
    assert plain.paid(START) == plain.starts(START) == plain.stops(START) == START


def test_by_days_the_end_moves_by_the_midnights_of_the_pause_and_keeps_its_hour():
    at, until = datetime(2026, 3, 11, 9, tzinfo=UTC), datetime(2026, 3, 21, 17, tzinfo=UTC)
    found = extension((at, until))
    assert found.extended_to == datetime(2026, 4, 11, 11, tzinfo=UTC)
    # After the pause as many days are left as were before it.
    assert found.paid(datetime(2026, 4, 1, 11, tzinfo=UTC)) == datetime(2026, 3, 22, 12, tzinfo=UTC)
    assert found.paid(at + DAY) == at
    assert found.starts(at) == until
    assert found.stops(at) == at
    assert found.stops(END) == found.extended_to


def test_to_the_second_the_end_moves_by_exactly_the_pause():
    at, until = datetime(2026, 3, 11, 9, tzinfo=UTC), datetime(2026, 3, 21, 17, tzinfo=UTC)
    assert extension((at, until), mode=BY_SECOND).extended_to == END + (until - at)


def test_a_pause_that_goes_on_stops_the_paid_clock_and_has_not_moved_the_end():
    at = datetime(2026, 3, 11, 9, tzinfo=UTC)
    found = extension((at, None))
    assert found.extended_to == END
    assert found.paid(END + 30 * DAY) == at
    assert found.starts(at) == at


def test_a_period_that_was_used_up_ends_where_it_is_resumed():
    until = END + 5 * DAY + timedelta(hours=4)
    assert extension((END, until)).extended_to == until
    assert extension((END, until), mode=BY_SECOND).extended_to == until


def test_pauses_follow_one_another():
    with pytest.raises(AssertionError):
        extension((START + DAY, None), (START + 2 * DAY, START + 3 * DAY))
    with pytest.raises(AssertionError):
        extension((START + 2 * DAY, START + DAY))


modes = st.sampled_from((BY_DAY, BY_SECOND))


@st.composite
def extended_periods(draw):
    mode = draw(modes)
    found, pauses, at = extension(mode=mode), [], START
    for _ in range(draw(st.integers(1, 3))):
        left = int((found.extended_to - at).total_seconds())
        from_at = at + timedelta(seconds=draw(st.integers(0, max(left, 0))))
        until = from_at + timedelta(seconds=draw(st.integers(0, 40 * 86_400)))
        pauses.append((from_at, until))
        found, at = extension(*pauses, mode=mode), until
    return found


@given(extended_periods(), st.lists(st.integers(0, 90 * 86_400), min_size=2, max_size=2))
def test_paid_time_never_runs_back_and_ends_with_the_period(found, seconds):
    first, second = (found.paid(START + timedelta(seconds=each)) for each in sorted(seconds))
    assert first <= second
    assert found.paid(found.extended_to) == END
    assert found.stops(END) in found.ends
    assert found.extended_to >= found.pauses[-1].until_at


@given(extended_periods(), st.integers(0, 90 * 86_400))
def test_what_is_told_in_real_time_is_read_back_as_the_same_paid_moment(found, seconds):
    paid = found.paid(START + timedelta(seconds=seconds))
    assert found.paid(found.starts(paid)) == paid
    assert found.paid(found.stops(paid)) == paid


@given(extended_periods(), st.integers(0, 10_000), st.integers(0, 90 * 86_400))
def test_what_is_unused_costs_the_same_with_and_without_the_pauses(found, price, seconds):
    """A cancellation with credit in the extended period gives back what it would have given back
    at the same paid moment without pauses, and lines read again give nothing more."""
    item = Item("base", Flat(price), Decimal(1))
    cycle = (Anchor(START, ZONE), Interval(Unit.MONTH), "EUR")
    whole = Timeline(*cycle, (Phase(START, (item,)),), proration=found.proration)
    first = draft(whole, first_period=0, horizon_at=START)
    assert first.lines[0].service_end_at == END
    at = found.paid(found.pauses[-1].until_at + timedelta(seconds=seconds))
    if at >= END or at <= START:
        return
    cut = Timeline(*cycle, (Phase(START, (item,)), Phase(at, ())), proration=found.proration)
    plain = draft(cut, first_period=0, horizon_at=at, billed=first.lines)
    told = found.real_draft(plain)
    assert [each.net_minor for each in told.lines] == [each.net_minor for each in plain.lines]
    read = found.paid_lines([*first.lines, *told.lines])
    assert draft(cut, first_period=0, horizon_at=at, billed=read).lines == ()
    if told.lines:
        assert told.lines[0].service_end_at in found.ends
        assert told.period.end_at == found.extended_to
