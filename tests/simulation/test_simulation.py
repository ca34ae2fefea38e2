"""Seeds live a month of a shop each, with every operation; one seed twice is one life."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator

import pytest

from subledger.platform.telemetry import logs
from tests.conftest import NewDatabase
from tests.simulation import operations
from tests.simulation.run import Lived, Simulation

FEW, MANY = range(1, 25), range(1_001, 1_061)
MAY_MISS = 5
"""Which operations a few seeds do changes with every change of ours; they do most."""
SEEN = {
    *("subscription.trial_started", "subscription.trial_ended", "subscription.started"),
    *("subscription.past_due", "subscription.paused", "subscription.resumed"),
    *("subscription.reactivated", "invoice.drafted", "invoice.voided", "invoice.uncollectible"),
    *("credit_note.issued", "credit_note.voided", "plan_migration.finished"),
    *("plan_migration.paused", "plan_migration.canceled", "promotion_code.redeemed"),
}
"""What comes of operations later, or by themselves."""


@pytest.fixture(scope="module")
async def simulation(module_database_url: str, secret_key: str) -> AsyncIterator[Simulation]:
    logs.configure(level="error")
    opened = Simulation(url=module_database_url, secret_key=secret_key)
    await opened.open()
    yield opened
    await opened.close()


@pytest.mark.parametrize(
    "seeds", [FEW, pytest.param(MANY, marks=pytest.mark.long)], ids=["few", "many"]
)
async def test_whatever_happens_the_books_agree_in_the_end(
    simulation: Simulation, seeds: range
) -> None:
    outcomes: Counter[tuple[str, str]] = Counter()
    kinds: Counter[str] = Counter()
    for seed in seeds:
        lived = await simulation.lives(seed)
        outcomes.update(lived.outcomes)
        kinds.update(lived.kinds)

    never_done, unseen = operations.never_done(outcomes), SEEN - kinds.keys()
    may_miss = MAY_MISS if seeds is FEW else 0
    assert len(never_done) <= may_miss, never_done
    assert len(unseen) <= may_miss, unseen


async def test_the_same_seed_gives_the_same_life(
    new_database: NewDatabase, secret_key: str
) -> None:
    for seed in range(4_713, 4_723):
        one = await _alone(seed, await new_database(), secret_key)
        if one.deaths:
            break
    other = await _alone(seed, await new_database(), secret_key)

    assert one.deaths, "a seed in which the process dies tells more"
    assert one.trace == other.trace
    assert one.deaths == other.deaths
    assert one.accounts == other.accounts


async def _alone(seed: int, url: str, secret_key: str) -> Lived:
    simulation = Simulation(url=url, secret_key=secret_key)
    await simulation.open()
    try:
        return await simulation.lives(seed)
    finally:
        await simulation.close()
