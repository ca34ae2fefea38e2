"""Seeds live a month of five subscriptions each; one seed twice is the same life.

``make simulate SEEDS=n`` runs any number of them.
"""

from __future__ import annotations

import pytest

from tests.simulation.world import simulate

CHUNK, SEEDS = 2, 10


@pytest.mark.parametrize("first", range(1, SEEDS + 1, CHUNK))
async def test_seeds_end_with_books_that_agree(module_database_url, secret_key, first):
    for seed in range(first, first + CHUNK):
        world = await simulate(seed, url=module_database_url, secret_key=secret_key)
        await world.close()


async def test_the_same_seed_gives_the_same_life(new_database, secret_key):
    lives = []
    for _ in range(2):
        world = await simulate(4711, url=await new_database(), secret_key=secret_key)
        lives.append((world.trace, await world.facts()))
        await world.close()
    assert lives[0][1] == lives[1][1]
    assert lives[0][0] == lives[1][0]
