"""A hundred seeds live a month of five subscriptions each; one seed twice is one life."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from subledger.platform.telemetry import logs
from tests.conftest import NewDatabase
from tests.simulation.run import Lived, Simulation

SEEDS, CHUNK = 100, 10


@pytest.fixture(scope="module")
async def simulation(module_database_url: str, secret_key: str) -> AsyncIterator[Simulation]:
    logs.configure(level="error")
    opened = Simulation(url=module_database_url, secret_key=secret_key)
    await opened.open()
    yield opened
    await opened.close()


@pytest.mark.parametrize("first", range(1, 1 + SEEDS, CHUNK))
async def test_whatever_happens_the_books_agree_in_the_end(
    simulation: Simulation, first: int
) -> None:
    for seed in range(first, first + CHUNK):
        await simulation.lives(seed)


async def test_the_same_seed_gives_the_same_life(
    new_database: NewDatabase, secret_key: str
) -> None:
    one, other = [await _alone(4713, await new_database(), secret_key) for _ in range(2)]

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
