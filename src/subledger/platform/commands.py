"""The commands around a transaction's statements, sent together with the simple protocol.

A statement with values costs a round trip, two the first time (ADR 0021). What has no values
(``BEGIN``, roles, visible tenants, savepoints) waits here for the first statement that needs it,
and all of it goes in one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.exc import DBAPIError

from subledger.platform.driver import Driver

BEGIN = "BEGIN"
BEGIN_REPEATABLE_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ"


class Commands:
    """One transaction's commands.

    Until the first ``send`` nothing has reached the server: a transaction that runs no statement
    costs nothing. Commands must be built of known words and ids alone, never of anybody's values.
    """

    def __init__(self, driver: Driver, begin: str = BEGIN) -> None:
        self._driver = driver
        self._begin = begin
        self._waiting: list[str] = []
        self._begun = False
        self._savepoints = 0

    def say(self, command: str) -> None:
        """Let it be sent before the next statement."""
        self._waiting.append(command)

    async def send(self) -> None:
        """Send what waits: a statement follows."""
        if not self._begun:
            self._waiting.insert(0, self._begin)
            self._begun = True
        if self._waiting:
            command, self._waiting = ";".join(self._waiting), []
            await self._driver.execute(command)

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Undo what was sent inside if the block raises; the transaction goes on."""
        self._savepoints += 1
        name = f"s{self._savepoints}"
        begin = f"SAVEPOINT {name}"
        self.say(begin)
        try:
            yield
        except BaseException:
            if begin in self._waiting:
                del self._waiting[self._waiting.index(begin) :]
            else:
                self._waiting.clear()
                await self._driver.execute(f"ROLLBACK TO SAVEPOINT {name};RELEASE SAVEPOINT {name}")
            raise
        if begin in self._waiting:
            self._waiting.remove(begin)
        else:
            self.say(f"RELEASE SAVEPOINT {name}")

    async def commit(self) -> None:
        """End it; what was said since the last statement has no effect any more."""
        if self._begun:
            await self._driver.execute("COMMIT")
            self._begun = False

    async def roll_back(self) -> None:
        """Undo all of it. A connection that cannot even do that is not used again."""
        if not self._begun or self._driver.is_lost:
            return
        try:
            await self._driver.execute("ROLLBACK")
        except DBAPIError:
            return  # it is closed and will be replaced: the server undoes it by itself
