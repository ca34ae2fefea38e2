"""What requests share: a transaction (``Together``), and a look for the outcome (``Lookout``)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from subledger.platform.db import Wakeup
from subledger.platform.lookout import Lookout
from subledger.platform.together import MOST_WAITING, Overloaded, Together


class Work:
    """Answers twice the number; refuses a group with 13 in it."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, asked: Sequence[int]) -> list[int]:
        self.groups.append(list(asked))
        await self.gate.wait()
        if 13 in asked:
            raise ValueError("thirteen")
        return [2 * each for each in asked]


async def test_what_comes_meanwhile_shares_the_next_group():
    work = Work()
    together = Together(work)
    work.gate.clear()
    first = asyncio.create_task(together.ask(1, lane="a"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    others = [asyncio.create_task(together.ask(n, lane="a")) for n in (2, 3, 4)]
    elsewhere = asyncio.create_task(together.ask(5, lane="b"))
    await asyncio.sleep(0.01)
    work.gate.set()

    assert await first == 2
    assert await asyncio.gather(*others) == [4, 6, 8]
    assert await elsewhere == 10
    assert work.groups == [[1], [5], [2, 3, 4]]


async def test_the_culprit_fails_alone():
    work = Work()
    together = Together(work)
    asked = [together.ask(n, lane="a") for n in (11, 12, 13, 14, 15)]

    answers = await asyncio.gather(*asked, return_exceptions=True)

    assert [each for each in answers if isinstance(each, int)] == [22, 24, 28, 30]
    assert isinstance(answers[2], ValueError)


async def test_what_has_something_in_common_stands_apart_and_keeps_its_order():
    work = Work()
    together = Together(work)
    work.gate.clear()
    first = asyncio.create_task(together.ask(0, lane="a"))
    await asyncio.sleep(0.01)
    rest = [
        asyncio.create_task(together.ask(n, lane="a", apart=apart))
        for n, apart in ((1, {"x"}), (2, {"x"}), (3, {"y"}), (4, {"x", "y"}))
    ]
    await asyncio.sleep(0.01)
    work.gate.set()

    assert await asyncio.gather(first, *rest) == [0, 2, 4, 6, 8]
    assert work.groups == [[0], [1, 3], [2], [4]]


async def test_who_hangs_up_takes_nobody_along():
    work = Work()
    together = Together(work)
    work.gate.clear()
    tasks = [asyncio.create_task(together.ask(n, lane="a")) for n in (1, 2, 3)]
    await asyncio.sleep(0.01)
    tasks[0].cancel()
    tasks[1].cancel()
    await asyncio.sleep(0)
    work.gate.set()

    assert await tasks[2] == 6
    assert tasks[0].cancelled()
    assert await together.ask(7, lane="a") == 14


async def test_too_many_are_refused():
    work = Work()
    together = Together(work)
    work.gate.clear()
    tasks = [asyncio.create_task(together.ask(0, lane="a"))]
    await asyncio.sleep(0.01)
    tasks += [asyncio.create_task(together.ask(20, lane="a")) for _ in range(MOST_WAITING)]
    await asyncio.sleep(0.01)
    with pytest.raises(Overloaded):
        await together.ask(1, lane="a")
    work.gate.set()
    await asyncio.gather(*tasks)


class Facts:
    """What was decided so far, and how often somebody looked."""

    def __init__(self) -> None:
        self.decided: dict[str, int] = {}
        self.looks: list[list[str]] = []
        self.broken = False

    async def look(self, keys: Sequence[str]) -> dict[str, int]:
        self.looks.append(list(keys))
        if self.broken:
            raise OSError("away")
        return {key: self.decided[key] for key in keys if key in self.decided}


async def test_one_looks_for_all_who_wait_when_a_fact_may_have_decided():
    facts, wakeup = Facts(), Wakeup()
    lookout = Lookout(wakeup, facts.look, types={"decided"})
    waiting = [
        asyncio.create_task(lookout.wait(key, 5, at_once=False)) for key in ("a", "b", "a", "c")
    ]
    await asyncio.sleep(0.01)
    assert facts.looks == []
    facts.decided |= {"a": 1, "b": 2}
    wakeup.wake("other", {"something else"})
    await asyncio.sleep(0.01)
    assert facts.looks == []

    wakeup.wake("other", {"decided"})

    assert await asyncio.gather(*waiting[:3]) == [1, 2, 1]
    assert facts.looks == [["a", "b", "c"]]
    waiting[3].cancel()


async def test_what_was_decided_before_is_seen_at_once():
    facts = Facts()
    facts.decided["a"] = 1
    lookout = Lookout(Wakeup(), facts.look, types={"decided"})
    assert await lookout.wait("a", 5) == 1


async def test_patience_ends_without_an_answer_and_a_lost_wake_up_costs_only_time():
    facts = Facts()
    lookout = Lookout(Wakeup(), facts.look, types={"decided"})
    assert await lookout.wait("a", 0.01) is None
    late = asyncio.create_task(lookout.wait("a", 5))
    await asyncio.sleep(0.01)
    facts.decided["a"] = 1
    assert await late == 1


async def test_a_look_that_fails_is_told_to_those_who_wait_and_forgotten():
    facts = Facts()
    facts.broken = True
    lookout = Lookout(Wakeup(), facts.look, types={"decided"})
    with pytest.raises(OSError, match="away"):
        await lookout.wait("a", 5)
    facts.broken = False
    facts.decided["a"] = 1
    assert await lookout.wait("a", 5) == 1
