"""Killed at crash points, started again, quiet within a minute, nothing charged twice or lost."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.kill import sweep

FIVE = [
    "payments.charge.after_call",
    "billing.consume.before_commit",
    "payments.record_results.after_commit",
    "sandbox.charge.after_commit",
    "webhooks.receive.before_ack",
]


def assert_good(found: list[sweep.Outcome]) -> None:
    sweep.show(found)
    bad = [each for each in found if not each.good]
    assert not bad, "\n".join(f"{e.point}:{e.nth} {e.wrong}" for e in bad)


def test_five_points():
    assert_good(sweep.sweep(FIVE, [1], jobs=2))


def test_a_plan_migration_cut_off_between_and_in_batches():
    """Three batches of two and the end: nobody is moved twice, nobody is left over."""
    points = ["billing.migrate_plans.before_commit", "billing.migrate_plans.after_commit"]
    assert_good(sweep.sweep(points, [2], jobs=2))


def subledgers_points() -> list[str]:
    """As a process of its own sees them: other test modules have crash points too."""
    code = "from tests.kill import sweep; print(*sweep.points())"
    listed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return listed.stdout.split()


@pytest.mark.long
def test_every_point_first_and_second_hit():
    found = sweep.sweep(subledgers_points(), [1, 2], jobs=3)
    assert_good(found)
    assert sum(each.hit for each in found) >= 25
