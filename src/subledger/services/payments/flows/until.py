"""Waiting for a fact: a commit of this process wakes who waits, and for others it looks often."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from subledger.platform.db import Wakeup

T = TypeVar("T")
_LOOK_AGAIN_S = 0.05


async def until(wakeup: Wakeup, look: Callable[[], Awaitable[T | None]], wait_s: float) -> T | None:
    """What ``look`` finds as soon as it is not None; None if it finds nothing in ``wait_s``
    (seconds, wall clock)."""
    deadline = time.monotonic() + wait_s
    while True:
        found = await look()
        left_s = deadline - time.monotonic()
        if found is not None or left_s <= 0:
            return found
        await wakeup.wait(min(_LOOK_AGAIN_S, left_s))
        await asyncio.sleep(0)
