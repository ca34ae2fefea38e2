"""Arrivals of one process, committed together: one transaction takes all that wait.

While one group is being committed the next gathers, so under load a commit (and its fsync) is
shared by many, and alone a notification waits for nobody. Each is acknowledged only after the
commit that holds it: what only memory knows, nobody was told.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from contextvars import Context

from subledger.platform.db import Database, Tx, is_transient, story
from subledger.services.webhooks.usecases.receive import Arrival, receive

MOST_TOGETHER = 200
MOST_WAITING = 5_000
_RECEIVE = story("webhooks.receive")
_Waiting = tuple[Arrival, asyncio.Future[None]]


class Overloaded(Exception):
    """More notifications wait than can be taken on: the provider has to come again."""


class Intake:
    """Takes arrivals in; ``take`` returns once they are durable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[_Waiting] = deque()
        self._committing: asyncio.Task[None] | None = None

    async def take(self, arrival: Arrival) -> None:
        """Keep a notification. Raises Overloaded, or what stopped the commit."""
        if len(self._waiting) >= MOST_WAITING:
            raise Overloaded
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((arrival, done))
        if self._committing is None:
            # Nobody's request: one whose caller hangs up must not take the others with it.
            self._committing = asyncio.create_task(self._commit_all(), context=Context())
        await done

    async def _commit_all(self) -> None:
        try:
            while self._waiting:
                some = min(len(self._waiting), MOST_TOGETHER)
                await self._commit([self._waiting.popleft() for _ in range(some)])
        except BaseException as error:  # the process ends: nobody is told that it was kept
            self._refuse(self._waiting, error)
            self._waiting.clear()
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            self._committing = None

    async def _commit(self, group: Sequence[_Waiting]) -> None:
        """One transaction; if its data is refused it is halved, so that the culprit fails alone."""

        async def work(tx: Tx) -> int:
            return await receive(tx, [arrival for arrival, _ in group])

        try:
            await self._database.transact(
                _RECEIVE, work, tenants={arrival.tenant_id for arrival, _ in group}
            )
        except Exception as error:
            if len(group) == 1 or is_transient(error):
                self._refuse(group, error)
                return
            middle = len(group) // 2
            await self._commit(group[:middle])
            await self._commit(group[middle:])
            return
        except BaseException as error:
            self._refuse(group, error)
            raise
        for _, done in group:
            if not done.done():
                done.set_result(None)

    def _refuse(self, group: Iterable[_Waiting], error: BaseException) -> None:
        for _, done in group:
            if isinstance(error, asyncio.CancelledError):
                done.cancel()
            elif not done.done():
                done.set_exception(error)
