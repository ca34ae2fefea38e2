"""Seeds live a month or three of a shop each, with every operation; one seed twice is one life."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog

from subledger.platform.telemetry import logs
from tests.conftest import NewDatabase
from tests.simulation import operations, placement
from tests.simulation.month import QUARTER, SHORT
from tests.simulation.run import Lived, Simulation

FEW, MANY, EACH = range(1, 3), range(1_001, 1_201), 2
"""Seeds of ``make test`` (four weeks) and of the long lane (three months of ten customers), so many
in one test: workers share them."""
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
    with placement.on_one_core():
        await opened.open()
        yield opened
        await opened.close()
    structlog.reset_defaults()  # others look at what is logged


def _parts(seeds: range, **more: Any) -> list[Any]:
    return [
        pytest.param(seeds[n : n + EACH], seeds, id=f"from-{seeds[n]}", **more)
        for n in range(0, len(seeds), EACH)
    ]


@pytest.mark.parametrize(("part", "seeds"), [*_parts(FEW), *_parts(MANY, marks=pytest.mark.long)])
async def test_whatever_happens_the_books_agree_in_the_end(
    simulation: Simulation, part: range, seeds: range, tmp_path_factory: pytest.TempPathFactory
) -> None:
    size = SHORT if seeds is FEW else QUARTER
    lives = [await simulation.lives(seed, size) for seed in part]
    if size is QUARTER:
        assert all(each.kinds["subscription.created"] >= size.people for each in lives)

    folder = _shared(tmp_path_factory, seeds)
    mine = folder / str(part.start)
    mine.write_text(json.dumps(_told(lives)))
    mine.replace(mine.with_suffix(".json"))
    others = list(folder.glob("*.json"))
    if len(others) < -(-len(seeds) // EACH):
        return  # whoever comes last looks at what all have done
    told = [json.loads(each.read_text()) for each in others]
    outcomes = Counter[tuple[str, str]]()
    for each in told:
        outcomes.update({(what, came): n for what, came, n in each["outcomes"]})
    kinds = {kind for each in told for kind in each["kinds"]}
    never_done, unseen = operations.never_done(outcomes), SEEN - kinds
    if seeds is FEW:
        return  # which operations a few seeds do changes with every change of ours
    assert not never_done
    assert not unseen


def _told(lives: Sequence[Lived]) -> dict[str, Any]:
    outcomes = Counter[tuple[str, str]]()
    for each in lives:
        outcomes.update(each.outcomes)
    return {
        "outcomes": [(*each, n) for each, n in outcomes.items()],
        "kinds": sorted({kind for each in lives for kind in each.kinds}),
    }


def _shared(factory: pytest.TempPathFactory, seeds: range) -> Path:
    """A folder of this run, of all its workers."""
    base = factory.getbasetemp()
    run = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    folder = run / f"simulation_{seeds.start}"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.mark.long
async def test_the_same_seed_gives_the_same_life(
    new_database: NewDatabase, secret_key: str
) -> None:
    for seed in range(4_717, 4_727):
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
