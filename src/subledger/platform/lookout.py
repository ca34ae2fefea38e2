"""Many wait for facts, and one looks for all of them.

A look for each of those who wait, at each commit, is a transaction for each: with 48 buyers most of
the machine's work. Here a process looks once for all, when a commit may have decided something.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping, Sequence
from contextvars import Context
from typing import Generic, TypeVar

from subledger.platform.db import Wakeup

Key = TypeVar("Key", bound=Hashable)
Seen = TypeVar("Seen")
LOOK_AGAIN_S = 0.2
"""At most this long between looks. Other processes' commits are heard by way of the log's heads
where loops run; this is for a wake-up that was lost."""
MOST_AT_ONCE = 500


class Lookout(Generic[Key, Seen]):
    """``look`` tells what is decided of the keys, and leaves out the others; ``types`` are the
    events that may decide. Reads only."""

    def __init__(
        self,
        wakeup: Wakeup,
        look: Callable[[Sequence[Key]], Awaitable[Mapping[Key, Seen]]],
        *,
        types: Collection[str],
    ) -> None:
        self._look = look
        # From the start: what is committed before somebody waits for it has been heard, too.
        self._listener = wakeup.listener(types=types)
        self._waiting: dict[Key, list[asyncio.Future[Seen]]] = {}
        self._running: asyncio.Task[None] | None = None

    async def wait(self, key: Key, wait_s: float, *, at_once: bool = True) -> Seen | None:
        """What was decided of ``key``, or None after ``wait_s`` (wall clock). Raises what a look
        raised. Not ``at_once``: nothing can have been decided yet, a first look would be in vain.
        """
        future: asyncio.Future[Seen] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(future)
        if at_once:
            self._listener.tell("", ())
        if self._running is None:
            # Nobody's request: one whose caller hangs up must not take the others with it.
            self._running = asyncio.create_task(self._watch(), context=Context())
        try:
            return await asyncio.wait_for(future, wait_s)
        except TimeoutError:
            if future.done() and not future.cancelled():
                raise  # the look's own
            return None
        finally:
            self._forget(key, future)

    def _forget(self, key: Key, future: asyncio.Future[Seen]) -> None:
        left = self._waiting.get(key)
        if left is not None and future in left:
            left.remove(future)
            if not left:
                del self._waiting[key]

    async def _watch(self) -> None:
        try:
            while self._waiting:
                await self._listener.wait(LOOK_AGAIN_S)
                self._listener.forget()
                keys = list(self._waiting)
                for start in range(0, len(keys), MOST_AT_ONCE):
                    self._tell(await self._look(keys[start : start + MOST_AT_ONCE]))
        except BaseException as error:
            self._refuse(error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._running = None

    def _tell(self, found: Mapping[Key, Seen]) -> None:
        for key, seen in found.items():
            for future in self._waiting.pop(key, ()):
                if not future.done():
                    future.set_result(seen)

    def _refuse(self, error: BaseException) -> None:
        for futures in self._waiting.values():
            for future in futures:
                if future.done():
                    continue
                if isinstance(error, Exception):
                    future.set_exception(error)
                else:
                    future.cancel()
        self._waiting.clear()
