"""Killed at crash points, started again, quiet within a minute, nothing charged twice or lost."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.kill import sweep

BESIDE_OTHERS = 3
"""Clusters at once while another worker of the lane needs a processor: with four a life on two
processors takes up to the minute that it has."""


def assert_good(found: list[sweep.Outcome]) -> None:
    sweep.show(found)
    bad = [each for each in found if not each.good]
    assert not bad, "\n".join(f"{e.point}:{e.nth} {e.wrong}" for e in bad)


@pytest.mark.long
def test_a_plan_migration_cut_off_between_and_in_batches():
    """Three batches of two and the end: nobody is moved twice, nobody is left over."""
    points = ["billing.migrate_plans.before_commit", "billing.migrate_plans.after_commit"]
    assert_good(sweep.sweep(points, [2], clusters=2))


def money_points() -> list[str]:
    """As a process of its own sees them: other test modules have crash points too."""
    code = "from tests.kill import sweep; print(*sweep.money_points())"
    listed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return listed.stdout.split()


def test_every_subject_of_money_in_has_points():
    listed = money_points()
    assert len(listed) >= 60
    assert {sweep.subject(each) for each in listed} == set(sweep.SUBJECTS)


@pytest.mark.long
def test_killed_where_postgresql_dies_too():
    points = ["payments.charge.after_call", "payments.record_results.before_commit"]
    assert_good(sweep.sweep(points, [1], postgres=["restarted"], clusters=2))


@pytest.mark.long
def test_every_points_first_hit():
    """Of all at which money comes in, four in the life of one database. Each on a database of its
    own, second hits and a server that dies too: ``make sweep`` (docs/sweep.md); all other points:
    ``make sweep ARGS="--points all"``."""
    listed = money_points()
    found = sweep.sweep_in_rows(listed, of=4, clusters=BESIDE_OTHERS)
    assert {each.point for each in found if each.hit} == set(listed)
    assert_good(found)
