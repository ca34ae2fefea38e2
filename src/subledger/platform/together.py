"""Requests of one process that share a transaction: what arrives while one runs joins the next.

Alone a request waits for nobody; under load a transaction, its statements and its fsync are shared
by many. A group whose data is refused is halved until the culprit fails alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Sequence
from contextvars import Context
from typing import Generic, NamedTuple, TypeVar

from subledger.platform.db import is_transient

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")
MOST_TOGETHER = 100
MOST_WAITING = 1_000


class Overloaded(TimeoutError):
    """More requests wait than can be taken on; the same request may simply be made again."""


class _Waiting(NamedTuple):
    asked: object
    apart: frozenset[Hashable]
    future: asyncio.Future[object]


class Together(Generic[Asked, Answer]):
    """``work`` is done for groups of what was asked, in order; it answers each, in one transaction
    or not at all, so that a group that failed can be tried again in halves."""

    def __init__(
        self,
        work: Callable[[Sequence[Asked]], Awaitable[Sequence[Answer]]],
        *,
        most: int = MOST_TOGETHER,
    ) -> None:
        self._work = work
        self._most = most
        self._lanes: dict[Hashable, deque[_Waiting]] = {}
        self._running: set[asyncio.Task[None]] = set()

    async def ask(
        self, asked: Asked, *, lane: Hashable, apart: Collection[Hashable] = ()
    ) -> Answer:
        """The answer, once it is committed. Only what has the same ``lane`` (a tenant) shares a
        group, and never two that have something ``apart`` in common.

        Raises what ``work`` raises for this one, and Overloaded.
        """
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        mine = _Waiting(asked, frozenset(apart), future)  # type: ignore[arg-type]  # its answer
        waiting = self._lanes.get(lane)
        if waiting is None:
            self._lanes[lane] = deque([mine])
            # Nobody's request: one whose caller hangs up must not take the others with it.
            task = asyncio.create_task(self._drain(lane), context=Context())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        elif len(waiting) >= MOST_WAITING:
            raise Overloaded("too many requests wait for their turn")
        else:
            waiting.append(mine)
        return await future

    async def _drain(self, lane: Hashable) -> None:
        waiting = self._lanes[lane]
        try:
            while waiting:
                await self._do(self._group(waiting))
        except BaseException as error:  # the process ends
            _refuse(waiting, error)
            waiting.clear()
            raise
        finally:
            del self._lanes[lane]

    def _group(self, waiting: deque[_Waiting]) -> list[_Waiting]:
        """The next group; who has to stand apart waits for the one after, in order."""
        group: list[_Waiting] = []
        later: list[_Waiting] = []
        taken: set[Hashable] = set()
        while waiting and len(group) < self._most:
            each = waiting.popleft()
            if each.future.done():
                continue  # its caller has gone before anything was done
            if taken.isdisjoint(each.apart):
                group.append(each)
            else:
                later.append(each)
            taken |= each.apart
        waiting.extendleft(reversed(later))
        return group

    async def _do(self, group: Sequence[_Waiting]) -> None:
        if not group:
            return
        try:
            answers = await self._work([each.asked for each in group])  # type: ignore[misc]
        except Exception as error:
            if len(group) == 1 or is_transient(error):
                _refuse(group, error)
                return
            middle = len(group) // 2
            await self._do(group[:middle])
            await self._do(group[middle:])
            return
        except BaseException as error:
            _refuse(group, error)
            raise
        for each, answer in zip(group, answers, strict=True):
            if not each.future.done():
                each.future.set_result(answer)


def _refuse(group: Iterable[_Waiting], error: BaseException) -> None:
    for each in group:
        if each.future.done():
            continue
        if isinstance(error, Exception):
            each.future.set_exception(error)
        else:
            each.future.cancel()
