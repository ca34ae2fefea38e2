"""Running a whole process's steps by hand: one after the other, until nothing is left to do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from subledger.hosts.assembly import Assembly
from subledger.platform.service import Step

T = TypeVar("T")
MOST_ROUNDS = 5_000


class Pump:
    """Drives an assembly without loops, sleeps or signals."""

    def __init__(self, assembly: Assembly) -> None:
        self.assembly = assembly
        self.steps: list[Step] = [each for each in assembly.steps if each.pause_s <= 1]

    async def once(self) -> int:
        """Run every step once; how much they did."""
        done = 0
        for step in self.steps:
            done += await step.run(step.limit)
        return done

    async def quiet(self) -> None:
        """Run steps until a whole round finds nothing to do."""
        for _ in range(MOST_ROUNDS):
            if not await self.once():
                return
        raise AssertionError(f"still busy after {MOST_ROUNDS} rounds")

    async def during(self, request: Awaitable[T], *, reads: bool = False) -> T:
        """Run steps while a request is being answered, as the loops of a process would. One that
        only ``reads`` is mostly answered before any loop would have come round."""
        task: asyncio.Task[Any] = asyncio.ensure_future(request)
        if reads:
            await asyncio.wait([task], timeout=0.02)
        for _ in range(MOST_ROUNDS):
            if task.done():
                return task.result()
            if not await self.once():
                await asyncio.wait([task], timeout=0.01)
        task.cancel()
        raise AssertionError("the request was not answered")
