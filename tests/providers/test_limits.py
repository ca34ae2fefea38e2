"""The token bucket and the breaker, over all that may happen to them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger.providers.limits import OPENS_AFTER, Breaker, Bucket, Pass, Said

GAPS = st.lists(st.floats(0, 3), min_size=1, max_size=60)


@given(GAPS, st.floats(0.5, 50), st.integers(1, 20))
def test_a_bucket_never_gives_more_than_its_rate(
    gaps: list[float], rate_per_s: float, burst: int
) -> None:
    now_s, moments = 0.0, []
    bucket = Bucket(rate_per_s=rate_per_s, burst=burst, now_s=now_s)
    for gap_s in gaps:
        now_s += gap_s
        expected = bucket.ready_in_s(now_s)
        wait_s = bucket.take(now_s)
        assert wait_s == expected >= 0
        moments.append(now_s + wait_s)
    assert moments == sorted(moments)
    for first in range(len(moments)):
        for last in range(first, len(moments)):
            lasted_s = moments[last] - moments[first]
            assert last - first + 1 <= burst + lasted_s * rate_per_s + 1e-6


@given(st.floats(0, 100), st.floats(0.5, 50), st.integers(1, 20), GAPS)
def test_nobody_passes_a_hold_and_it_ends(
    until_s: float, rate_per_s: float, burst: int, gaps: list[float]
) -> None:
    bucket = Bucket(rate_per_s=rate_per_s, burst=burst, now_s=0.0)
    bucket.hold(until_s)
    bucket.hold(until_s / 2)
    now_s = 0.0
    for n, gap_s in enumerate(gaps):
        now_s += gap_s
        at_s = now_s + bucket.take(now_s)
        assert at_s >= until_s - 1e-6
        assert at_s <= max(until_s, now_s) + n / rate_per_s + 1e-6


def test_a_bucket_that_rested_is_full_and_no_fuller() -> None:
    bucket = Bucket(rate_per_s=10, burst=3, now_s=0.0)
    assert [round(bucket.take(100.0), 6) for _ in range(5)] == [0.0, 0.0, 0.0, 0.1, 0.2]


@given(st.lists(st.sampled_from(list(Said)), max_size=80))
def test_a_breaker_is_closed_unless_enough_was_lost_in_a_row(told: list[Said]) -> None:
    """Against the plain rule: losses in a row, with what says nothing left out."""
    breaker, row = Breaker(open_for_s=10.0), 0
    for said in told:
        passed = breaker.admit(0.0)
        assert passed is (Pass.NO if row >= OPENS_AFTER else Pass.CALL)
        if passed is Pass.NO:
            continue
        breaker.note(said, 0.0, passed=passed)
        if said is not Said.NOTHING:
            row = row + 1 if said is Said.LOST else 0


@pytest.mark.parametrize(
    ("said", "then"), [(Said.ANSWERED, Pass.CALL), (Said.LOST, Pass.NO), (Said.NOTHING, Pass.PROBE)]
)
def test_one_probe_decides_for_all(said: Said, then: Pass) -> None:
    breaker = Breaker(open_for_s=10.0)
    for _ in range(OPENS_AFTER):
        breaker.note(Said.LOST, 0.0, passed=breaker.admit(0.0))
    assert (breaker.admit(9.9), breaker.ready_in_s(9.0)) == (Pass.NO, 1.0)
    assert [breaker.admit(10.0) for _ in range(3)] == [Pass.PROBE, Pass.NO, Pass.NO]
    # A call from before, and questions, which are always asked, decide nothing.
    breaker.note(Said.ANSWERED, 10.5, passed=Pass.CALL)
    assert breaker.admit(10.6) is Pass.NO
    breaker.note(said, 11.0, passed=Pass.PROBE)
    assert breaker.admit(11.0) is then
