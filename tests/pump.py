"""Running a whole process's steps by hand: one after the other, until nothing is left to do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from subledger.hosts.assembly import Assembly
from subledger.hosts.loops import ear
from subledger.platform.db import Listener, Wakeup
from subledger.platform.service import Step

T = TypeVar("T")
MOST_ROUNDS = 5_000
_LOOK_S, _LOOKS_APART = 0.005, 20
"""While a request is answered: how long to wait for it, and after how many waits in vain every
step looks by itself, as the loops of a process do."""
_ears: WeakKeyDictionary[Wakeup, dict[str, Listener]] = WeakKeyDictionary()


class Pump:
    """Drives an assembly without loops, sleeps or signals.

    Like the loops of a process, it runs the steps that a commit has woken.
    """

    def __init__(self, assembly: Assembly) -> None:
        self.assembly = assembly
        self.steps: list[Step] = [each for each in assembly.steps if each.pause_s <= 1]
        self._ears = _ears.setdefault(assembly.wakeup, {})
        for each in self.steps:
            self._ear(each).tell("", ())

    async def once(self) -> int:
        """Run every step once; how much they did."""
        done = 0
        for step in self.steps:
            done += await self._run(step)
        return done

    async def woken(self) -> int:
        """Run the steps that have something to look at until none has; how many ran. Consumers come
        first, then what works for its own service, then what waits for all others."""
        for n in range(MOST_ROUNDS):
            step = next((each for each in self._ordered() if self._ear(each).has_heard), None)
            if step is None:
                return n
            await self._run(step)
        raise AssertionError(f"still busy after {MOST_ROUNDS} steps")

    async def quiet(self) -> None:
        """Run steps until a whole round finds nothing to do, also where no commit of this process
        told of it: after writes to the database by hand, or while another process works."""
        for _ in range(MOST_ROUNDS):
            await self.woken()
            if not await self.once():
                return
        raise AssertionError(f"still busy after {MOST_ROUNDS} rounds")

    async def during(self, request: Awaitable[T], *, reads: bool = False) -> T:
        """Run steps while a request is being answered, and what it has woken. One that only
        ``reads`` is mostly answered before any loop would have come round, and wakes nothing."""
        task: asyncio.Task[Any] = asyncio.ensure_future(request)
        if reads:
            await asyncio.wait([task], timeout=0.02)
        for n in range(1, MOST_ROUNDS * _LOOKS_APART):
            if task.done() and (reads or not await self.woken()):
                return task.result()
            if await self.woken() or (n % _LOOKS_APART == 0 and await self.once()):
                continue
            await asyncio.wait([task], timeout=_LOOK_S)
        task.cancel()
        raise AssertionError("the request was not answered")

    def _ear(self, step: Step) -> Listener:
        known = self._ears.get(step.name)
        if known is None:
            known = self._ears[step.name] = ear(step, self.assembly.wakeup)
        return known

    def _ordered(self) -> list[Step]:
        return sorted(
            self.steps, key=lambda each: (each.hears_all, not each.name.endswith(".consume"))
        )

    async def _run(self, step: Step) -> int:
        """One run; a step that found work may have left some."""
        ear = self._ear(step)
        ear.forget()
        done = await step.run(step.limit)
        if done:
            ear.tell("", ())
        return done
