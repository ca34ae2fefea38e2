"""Preview is reality, over HTTP: whatever is asked for at whatever moment, what the preview said is
what happens, and the next invoice that the clock brings is the one that was upcoming."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from tests.previews.drawn import Example, examples
from tests.previews.play import Play
from tests.stories.shop import open_shop

PARTS, EACH = 3, 10
"""Of the long lane: side by side, and shops in each."""
LEAST = 1_000
"""How many deeds must be compared in the long lane."""


def drawn(seeds: Sequence[int], *, people: int, rounds: int) -> list[Example]:
    """The same examples in every run, each from a seed of its own: within one run Hypothesis varies
    an example more than it draws anew. Each takes seconds to play, so a failure tells what was done
    instead of being shrunk."""
    return [_of_seed(n, examples(people=people, rounds=rounds)) for n in seeds]


def _of_seed(n: int, strategy: SearchStrategy[Example]) -> Example:
    found: list[Example] = []

    @seed(n)
    @settings(
        max_examples=2, database=None, deadline=None, phases=[Phase.generate],
        derandomize=False, suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(strategy)
    def collect(example: Example) -> None:
        found.append(example)

    collect()
    return found[-1]  # the first is the plainest


async def played(process, connection, example: Example, compared: Counter[str]) -> None:
    shop = await open_shop(process, start=datetime.fromisoformat(example.start).replace(tzinfo=UTC))
    play = Play(shop, connection, example, compared)
    try:
        await play.play()
    except BaseException as wrong:
        wrong.add_note("\n".join(play.told))
        raise
    finally:
        await shop.api.aclose()


@pytest.mark.parametrize(
    ("seeds", "people", "rounds", "least"),
    [
        ([1], 6, 2, 15),
        *(
            pytest.param(
                range(1 + part * EACH, 1 + (part + 1) * EACH),
                8,
                5,
                LEAST // PARTS,
                marks=pytest.mark.long,
            )
            for part in range(PARTS)
        ),
    ],
    ids=["few", *(f"many-{part}" for part in range(PARTS))],
)
async def test_a_preview_is_what_happens(
    process, admin, module_database_url, seeds, people, rounds, least
):
    connection, compared = await admin(module_database_url), Counter()
    try:
        for example in drawn(seeds, people=people, rounds=rounds):
            await played(process, connection, example, compared)
    finally:
        await connection.close()
    refused, again, deeds = (
        Counter({name: n for name, n in compared.items() if kind(name) == each})
        for each in ("refused", "recomputed", "deed")
    )
    print(f"compared {deeds.total()}: {dict(deeds)}")
    print(f"recomputed {again.total()}: {dict(again)}")
    print(f"refused alike {refused.total()}: {dict(refused)}")
    assert deeds.total() >= least
    assert again.total() >= least // 2


def kind(name: str) -> str:
    first = name.split(maxsplit=1)[0].rstrip(":")
    return first if first in {"refused", "recomputed"} else "deed"
