"""Killed at crash points, started again, quiet within a minute, nothing charged twice or lost."""

from __future__ import annotations

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


READS = (".read", ".find_", ".scan_", ".look_at", ".snapshot", ".tail")


@pytest.mark.long
def test_every_point_that_writes_or_calls():
    """First hits; ``make sweep`` adds the second hits and the reads."""
    every = [name for name in sweep.points() if not any(part in name for part in READS)]
    assert len(every) >= 60
    assert_good(sweep.sweep(every, [1], jobs=3))
