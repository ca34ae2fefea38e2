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


MONEY = [
    "billing.announce_due.after_commit",
    "billing.consume.after_commit",
    "billing.subscribe.after_commit",
    "billing.subscribe.before_commit",
    "entitlements.consume.before_commit",
    "identity.move_clock.after_commit",
    "identity.move_clock.before_commit",
    "payments.charge.before_call",
    "payments.checkout.after_call",
    "payments.claim_charges.after_commit",
    "payments.claim_charges.before_commit",
    "payments.consume.after_commit",
    "payments.consume.before_commit",
    "payments.fetch.after_call",
    "payments.record_answers.before_commit",
    "payments.record_results.before_commit",
    "payments.reserve.after_call",
    "sandbox.charge.before_commit",
    "sandbox.end_page_try.after_commit",
    "sandbox.end_page_try.before_commit",
    "scheduler.announce.before_commit",
    "scheduler.consume.before_commit",
    "webhooks.receive.after_commit",
    "webhooks.receive.before_commit",
]


@pytest.mark.long
def test_the_way_of_the_money():
    """First hits; ``make sweep`` kills at every point, first and second hit."""
    assert_good(sweep.sweep(MONEY, [1], jobs=2))
