"""What a transaction says to its connection, straight through asyncpg (ADR 0022).

SQLAlchemy keeps the pool, numbers the ``:name`` parameters, shapes the rows and names the errors.
Its own way of running a statement is left out: it cost a quarter of a process's time.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NoReturn, Self

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement
from sqlalchemy import Row, TextClause
from sqlalchemy.dialects.postgresql.asyncpg import dialect
from sqlalchemy.engine import result_tuple
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    OperationalError,
)
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.util.concurrency import greenlet_spawn

MOST_KEPT = 300
"""Prepared statements of a connection: the least recently used one goes first."""
_KEPT = "subledger.prepared"
_DIALECT = dialect()  # type: ignore[no-untyped-call]  # the library gives no type here
_LOST = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
_TOUCHED = re.compile(r"\d+$")
_numbers = itertools.count(1)
_ARRAYS = (
    *("bigint", "boolean", "bytea", "date", "integer", "jsonb", "numeric", "smallint"),
    *("timestamptz", "uuid"),
)
_ASK_ARRAYS = f"SELECT {', '.join(f'${n}::{each}[]' for n, each in enumerate(_ARRAYS, start=1))}"

_Shape = Callable[[Iterable[Any]], Row[Any]]
_Prepared = tuple["PreparedStatement[Any]", _Shape]


def replace_if_closed(connection: Any, _record: object, _pooled: object) -> None:
    """When a pool gives a connection out: one that the server has ended meanwhile (it was started
    anew) is replaced, without asking the server. Raises DisconnectionError for the pool."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError


def keep_unless_pooled(connection: Any, record: Any) -> None:
    """When a connection is made: let it keep what it prepares. Behind a pooler, which gives its
    clients a process number that is none of the server's, it must not: the next transaction may run
    elsewhere."""
    server_pid = connection.run_async(lambda driver: driver.fetchval("SELECT pg_backend_pid()"))
    if connection.driver_connection.get_server_pid() == server_pid:
        record.info[_KEPT] = {}


def learn_arrays(connection: Any, record: Any) -> None:
    """When a connection is made: let the driver ask for all array types at once. It asks when it
    meets one that it does not know, 6 ms each time, and forgets with the connection."""
    if _KEPT in record.info:
        nothing = [None] * len(_ARRAYS)
        connection.run_async(lambda driver: driver.fetchval(_ASK_ARRAYS, *nothing))


class Driver:
    """One transaction's connection, which is in autocommit.

    Errors are SQLAlchemy's, with the SQLSTATE and without the values: ``IntegrityError``,
    ``DataError`` (a value that cannot be what the statement wants), ``OperationalError`` with
    ``connection_invalidated`` if the connection is lost, ``DBAPIError`` for all others.
    """

    def __init__(self, pooled: PoolProxiedConnection) -> None:
        self._pooled = pooled
        self._driver: Any = pooled.driver_connection
        self._kept: dict[str, _Prepared] | None = pooled.info.get(_KEPT)

    @classmethod
    async def take(cls, engine: AsyncEngine) -> Self:
        """A connection of the pool. Raises OperationalError if there is none to be had, and the
        pool's TimeoutError if all stay taken."""
        errors = engine.sync_engine.dialect.loaded_dbapi.Error
        try:
            return cls(await engine.raw_connection())
        except errors as error:
            raise OperationalError("connect", None, error, hide_parameters=True) from error

    async def give_back(self) -> None:
        """To the pool, for the next one."""
        await greenlet_spawn(self._pooled.close)

    @property
    def is_lost(self) -> bool:
        """Whether the connection is not used again."""
        return not self._pooled.is_valid

    async def execute(self, command: str) -> None:
        """Run commands without values, more than one if parted by semicolons, by the simple
        protocol."""
        try:
            await self._driver.execute(command)
        except BaseException as error:
            await self._failed(command, error)

    async def rows(self, statement: TextClause, values: Mapping[str, Any]) -> Sequence[Row[Any]]:
        """Run a statement; its rows."""
        _, shape, records = await self._fetch(statement, values)
        return [shape(record) for record in records]

    async def run(self, statement: TextClause, values: Mapping[str, Any]) -> int:
        """Run a statement; how many rows it touched."""
        prepared, _, _ = await self._fetch(statement, values)
        touched = _TOUCHED.search(prepared.get_statusmsg() or "")
        return int(touched[0]) if touched else -1

    async def _fetch(
        self, statement: TextClause, values: Mapping[str, Any]
    ) -> tuple[PreparedStatement[Any], _Shape, list[Any]]:
        text, names = _numbered(statement)
        given = [values[name] for name in names]
        try:
            prepared, shape = await self._prepared(text)
            return prepared, shape, await prepared.fetch(*given)
        except BaseException as error:
            if isinstance(error, asyncpg.InvalidCachedStatementError) and self._kept:
                self._kept.clear()  # a table has changed: said again, it is prepared anew
            await self._failed(text, error)

    async def _prepared(self, text: str) -> _Prepared:
        if self._kept is None:
            return await self._prepare(text, "")
        found = self._kept.pop(text, None)
        if found is None:
            found = await self._prepare(text, f"s{next(_numbers)}")
            if len(self._kept) >= MOST_KEPT:
                del self._kept[next(iter(self._kept))]
        self._kept[text] = found  # to the end: the first is the one that waited longest
        return found

    async def _prepare(self, text: str, name: str) -> _Prepared:
        prepared = await self._driver.prepare(text, name=name)
        return prepared, result_tuple([each.name for each in prepared.get_attributes()])

    async def _failed(self, said: str, error: BaseException) -> NoReturn:
        """Raise it as SQLAlchemy would; what nobody knows the state of is not used again."""
        if isinstance(error, asyncpg.DataError):
            raise DataError(said, None, _told(error), hide_parameters=True) from error
        if isinstance(error, asyncpg.PostgresError) and not self._driver.is_closed():
            kind = (
                IntegrityError
                if isinstance(error, asyncpg.IntegrityConstraintViolationError)
                else DBAPIError
            )
            raise kind(said, None, _told(error), hide_parameters=True) from error
        if not self._driver.is_closed() and not isinstance(error, asyncpg.PostgresError):
            self._driver.terminate()
        await greenlet_spawn(self._pooled.invalidate)
        if isinstance(error, _LOST):
            raise OperationalError(
                said, None, _told(error), hide_parameters=True, connection_invalidated=True
            ) from error
        raise error


class Refused(Exception):
    """What the database said, in its own words and without anybody's values (its detail)."""

    sqlstate: str | None = None


def _told(error: BaseException) -> Refused:
    words = error.args[0] if error.args else type(error).__name__
    told = Refused(f"{type(error).__name__}: {words}")
    told.sqlstate = getattr(error, "sqlstate", None)
    return told


@lru_cache(maxsize=4_096)
def _numbered(statement: TextClause) -> tuple[str, tuple[str, ...]]:
    """The statement with ``$1`` for ``:name``, and whose value each number is."""
    compiled: Any = statement.compile(dialect=_DIALECT)
    return str(compiled), tuple(compiled.positiontup or ())
