"""Revenue follows the service: whatever the moments, releases sum to the net."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger.core.calendar import Period
from subledger.core.errors import AmountOutOfRange, InvalidRecognition, UnknownTimeZone
from subledger.core.money import round_half_up
from subledger.core.recognition import (
    Mode,
    Month,
    by_month,
    credit_split,
    delivered,
    recognized_minor,
    release,
    share_minor,
    span,
    unit_at,
    unit_start,
)

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Pacific/Apia", "Asia/Kathmandu"]
nets = st.integers(-(10**9), 10**9)
moments = st.datetimes(
    datetime(2011, 1, 1), datetime(2012, 12, 31), timezones=st.just(UTC)
)  # Samoa left out a day within.


lengths = st.timedeltas(timedelta(seconds=1), timedelta(days=800))


@st.composite
def periods(draw):
    start = draw(moments)
    return Period(start, start + draw(lengths))


modes = st.sampled_from(Mode)
zones = st.sampled_from(ZONES)


def berlin(*parts: int) -> datetime:
    """A winter moment in Berlin."""
    return datetime(*parts, tzinfo=UTC) - timedelta(hours=1)


@given(nets, st.integers(0, 10**6), st.integers(1, 10**6))
def test_a_share_is_rounded_as_money_is(total, part, whole):
    assert share_minor(total, part, whole) == round_half_up(Fraction(total * part, whole))


@given(nets, periods(), st.lists(moments, max_size=12), modes, zones)
def test_releases_sum_to_the_net_whatever_the_moments(net, period, sampled, mode, zone):
    released = 0
    for at in [*sorted(sampled), max([period.end_at, *sampled])]:
        found = release(net, period, at, released_minor=released, mode=mode, timezone=zone)
        assert found.amount_minor * (1 if net >= 0 else -1) >= 0
        released += found.amount_minor
        assert released == found.recognized_minor
        step = found.step
        share = Fraction(net * int(step["done"]), int(step["whole"]))
        assert round_half_up(share) - int(step["released_before_minor"]) == found.amount_minor
    assert released == net


@given(nets, periods(), modes, zones)
def test_nothing_is_recognized_at_the_start_and_all_at_the_end(net, period, mode, zone):
    def at(moment: datetime) -> int:
        return recognized_minor(net, period, moment, mode=mode, timezone=zone)

    assert at(period.start_at) == at(period.start_at - timedelta(days=40)) == 0
    assert at(period.end_at) == at(period.end_at + timedelta(days=40)) == net


@given(nets, periods(), modes, zones)
def test_the_months_of_a_schedule_sum_to_the_net(net, period, mode, zone):
    months = by_month(net, period, mode=mode, timezone=zone)
    assert sum(each.amount_minor for each in months) == net
    names = [each.month for each in months]
    assert names == sorted(set(names))
    years = int(names[-1][:4]) - int(names[0][:4])
    assert len(names) == years * 12 + int(names[-1][5:]) - int(names[0][5:]) + 1


def test_a_quarter_by_days_in_the_customers_zone():
    quarter = Period(berlin(2026, 1, 15), datetime(2026, 4, 14, 22, tzinfo=UTC))
    assert by_month(9000, quarter, timezone="Europe/Berlin") == (
        Month("2026-01", 1700),
        Month("2026-02", 2800),
        Month("2026-03", 3100),
        Month("2026-04", 1400),
    )


def test_a_day_counts_when_it_is_over_there():
    month = Period(berlin(2026, 1, 31, 11), berlin(2026, 2, 28, 11))
    last = berlin(2026, 2, 1) - timedelta(seconds=1)
    zone = "Europe/Berlin"
    assert delivered(month, last, timezone=zone).done == 0
    assert delivered(month, last + timedelta(seconds=1), timezone=zone).done == 1
    assert delivered(month, month.end_at, timezone=zone).whole == 28


def test_a_service_within_one_day_is_delivered_at_its_end():
    hour = Period(datetime(2026, 1, 1, 10, tzinfo=UTC), datetime(2026, 1, 1, 11, tzinfo=UTC))
    half = hour.start_at + timedelta(minutes=30)
    assert recognized_minor(500, hour, half) == 0
    assert recognized_minor(500, hour, half, mode=Mode.SECOND) == 250
    assert recognized_minor(500, hour, hour.end_at) == 500


@given(st.integers(0, 10**9), st.integers(0, 10**9), periods(), moments, modes)
def test_after_a_credit_the_rest_is_recognized_to_the_end(net, credited, period, at, mode):
    credited = min(net, credited)
    released = release(net, period, at, released_minor=0, mode=mode).amount_minor
    split = credit_split(net, credited, period, at, mode=mode)
    assert split.deferred_minor >= 0
    assert split.revenue_minor >= 0
    assert split.deferred_minor + split.revenue_minor == credited
    assert split.revenue_minor <= released
    deferred = net - released - split.deferred_minor
    after = release(
        net - credited,
        period,
        max(period.end_at, at),
        released_minor=released - split.revenue_minor,
        mode=mode,
    )
    assert deferred == after.amount_minor
    now = release(
        net - credited, period, at, released_minor=released - split.revenue_minor, mode=mode
    )
    assert now.amount_minor >= 0


def test_a_credit_in_mid_period_takes_back_the_delivered_share():
    april = Period(datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC))
    split = credit_split(3000, 600, april, datetime(2026, 4, 11, 12, tzinfo=UTC))
    assert (split.deferred_minor, split.revenue_minor) == (400, 200)


def test_what_makes_no_sense_is_refused():
    now = datetime(2026, 4, 1, tzinfo=UTC)
    month = Period(now, datetime(2026, 5, 1, tzinfo=UTC))
    with pytest.raises(InvalidRecognition, match="ends after"):
        recognized_minor(1, Period(now, now), now)
    with pytest.raises(InvalidRecognition, match="between 0 and 10"):
        credit_split(10, 11, month, now)
    with pytest.raises(InvalidRecognition, match="at most 1200 months"):
        by_month(1, Period(now, now.replace(year=2127)))
    with pytest.raises(UnknownTimeZone):
        recognized_minor(1, month, now, timezone="Mars")
    with pytest.raises(AmountOutOfRange):
        release(10**15 + 1, month, now, released_minor=0)


@given(nets, periods(), moments, modes, zones)
def test_units_say_what_is_delivered_where_one_begins(net, period, at, mode, zone):
    first, behind = span(period, mode=mode, timezone=zone)
    unit = unit_at(at, mode=mode, timezone=zone)
    begins_at = unit_start(unit, mode=mode, timezone=zone)
    assert begins_at <= at < unit_start(unit + 1, mode=mode, timezone=zone)
    done = min(max(unit - first, 0), behind - first)
    assert share_minor(net, done, behind - first) == recognized_minor(
        net, period, begins_at, mode=mode, timezone=zone
    )
