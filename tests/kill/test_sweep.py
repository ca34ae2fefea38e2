"""Killed at crash points, started again, quiet within a minute, nothing charged twice or lost."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.kill import sweep

PARTS = 4
TWO = ["payments.charge.after_call", "billing.consume.before_commit"]


def assert_good(found: list[sweep.Outcome]) -> None:
    sweep.show(found)
    bad = [each for each in found if not each.good]
    assert not bad, "\n".join(f"{e.point}:{e.nth} {e.wrong}" for e in bad)


def test_two_points():
    assert_good(sweep.sweep(TWO, [1], jobs=2))


@pytest.mark.long
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
@pytest.mark.parametrize("part", range(PARTS))
def test_every_points_first_hit(part: int):
    """Of all that moves money or events, and of every third request of billing's, which are alike.
    But those right before a commit: what is rolled back leaves nothing to go wrong with, as the
    short lane shows. All of them, and the second hits: ``make sweep``."""
    listed = [each for each in subledgers_points() if not each.endswith(".before_commit")]
    alike = [each for each in listed if each.startswith("billing.") and ".consume." not in each]
    listed = [each for each in listed if each not in alike[0::3] + alike[1::3]]
    assert len(listed) >= 40
    assert_good(sweep.sweep(listed[part::PARTS], [1], jobs=1))
