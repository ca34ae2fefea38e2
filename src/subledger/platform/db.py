"""Transactions on PostgreSQL: who sees what, which statements exist, when events are written.

One ``Database`` is one service's login role on one PostgreSQL. ``transaction`` opens READ
COMMITTED, sets the tenants whose rows are visible (row-level security reads ``app.tenants``), and
appends the collected events as the last statement before COMMIT. Nothing here retries by itself
except ``transact``, which repeats a whole use case after a transient failure.
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
from sqlalchemy import Row, TextClause, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from subledger.contracts.events import Event
from subledger.platform import crashpoints
from subledger.platform.commands import BEGIN, BEGIN_REPEATABLE_READ, Commands
from subledger.platform.driver import (
    Driver,
    keep_unless_pooled,
    learn_arrays,
    replace_if_closed,
)
from subledger.platform.ids import Ids

Result = TypeVar("Result")

_open: ContextVar[str | None] = ContextVar("open_transaction", default=None)

LOG_READER = "subledger_log_reader"
DUE_READER = "subledger_due_reader"
TENANT_FINDER = "subledger_tenant_finder"
CLOCK_MOVER = "subledger_clock_mover"


# --- statements --------------------------------------------------------------------------------

_statements: dict[str, TextClause] = {}


def sql(statement: str) -> TextClause:
    """Register one SQL statement with ``:name`` parameters.

    Every statement of a store is made here, once, at import, so that a test can list them all and
    EXPLAIN each as the application role. Values are always parameters, never pasted.
    """
    clause = text(statement)
    _statements[statement] = clause
    return clause


def statements() -> Sequence[str]:
    """The text of every registered statement, in order of registration."""
    return list(_statements)


# --- errors ------------------------------------------------------------------------------------


def sqlstate(error: BaseException) -> str | None:
    """The five-character SQLSTATE of a database error, or None if it came from elsewhere."""
    origin = getattr(error, "orig", error)
    value = getattr(origin, "sqlstate", None) or getattr(origin, "pgcode", None)
    return value if isinstance(value, str) else None


def is_transient(error: BaseException) -> bool:
    """True if the same work may succeed when repeated whole: nothing is wrong with its data.

    Lock timeout, deadlock, lost connection, shutdown, disk full: SQLSTATE 08, 40, 53, 55P03, 57,
    58 and 25P03 (idle in transaction: the process was paused), a connection that broke without a
    state, or a table that was altered under a prepared statement.
    """
    if isinstance(error.__cause__, asyncpg.InvalidCachedStatementError):
        return True
    state = sqlstate(error)
    if state is not None:
        return state[:2] in {"08", "40", "53", "57", "58"} or state in {"55P03", "25P03"}
    if isinstance(error, DBAPIError):
        return error.connection_invalidated
    return isinstance(error, OSError | asyncio.TimeoutError)


class OutsideCallInTransaction(AssertionError):
    """Something outside was called while a transaction is open: record the intent first."""


def assert_no_transaction(what: str) -> None:
    """Refuse an outside call (provider, SMTP, another service) inside a transaction."""
    held = _open.get()
    if held is not None:
        raise OutsideCallInTransaction(f"{what} was called inside the transaction {held}")


# --- transactions ------------------------------------------------------------------------------

_KEPT_FOR_S = 60
"""How long a connection lives, and with it the statements that it has prepared."""


@dataclass(frozen=True, slots=True)
class Story:
    """The name of a transaction: what it does, and the two places at which it can be cut off (none
    if it only reads: dying there changes nothing)."""

    name: str
    before_commit: crashpoints.Crashpoint | None
    after_commit: crashpoints.Crashpoint | None

    @property
    def service(self) -> str:
        """The service whose transaction it is: the name up to its dot."""
        return self.name.partition(".")[0]


def story(name: str, *, reads: bool = False) -> Story:
    """Declare a transaction ``service.verb`` once, at import."""
    if reads:
        return Story(name=name, before_commit=None, after_commit=None)
    return Story(
        name=name,
        before_commit=crashpoints.point(f"{name}.before_commit"),
        after_commit=crashpoints.point(f"{name}.after_commit"),
    )


class Listener:
    """One loop's ear: it hears the commits that concern it, also while it is at work."""

    def __init__(
        self, *, services: Collection[str], types: Collection[str], hears_all: bool
    ) -> None:
        self._services = frozenset(services)
        self._types = frozenset(types)
        self._hears_all = hears_all
        self._event = asyncio.Event()

    def tell(self, service: str, types: Collection[str]) -> None:
        """A commit of ``service`` (empty: of another process) with events or work of ``types``."""
        if (
            self._hears_all
            or not service
            or service in self._services
            or not self._types.isdisjoint(types)
        ):
            self._event.set()

    @property
    def has_heard(self) -> bool:
        """True if something was heard since ``forget``."""
        return self._event.is_set()

    def forget(self) -> None:
        """What was heard so far is about to be looked at."""
        self._event.clear()

    async def wait(self, timeout_s: float) -> bool:
        """Return True when something was heard since ``forget``, False after ``timeout_s``."""
        try:
            await asyncio.wait_for(self._event.wait(), timeout_s)
        except TimeoutError:
            return False
        return True


class Wakeup:
    """Tells the loops of this process that something was committed. Losing a wake-up costs time,
    never work: every loop also looks by itself."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._listeners: list[Listener] = []
        self.appended = 0
        """Events that this process has committed, to tell them from those of others."""

    def wake(self, service: str = "", types: Collection[str] = ()) -> None:
        """Something was committed by ``service`` (empty: by anyone) with events, or work, of
        ``types``."""
        self._event.set()
        for each in self._listeners:
            each.tell(service, types)

    def listener(
        self,
        *,
        services: Collection[str] = (),
        types: Collection[str] = (),
        hears_all: bool = False,
    ) -> Listener:
        """An ear for the commits of these services, for events or work of these types, or for
        all."""
        self._listeners.append(Listener(services=services, types=types, hears_all=hears_all))
        return self._listeners[-1]

    def dismiss(self, listener: Listener) -> None:
        """Its loop has ended."""
        self._listeners.remove(listener)

    async def wait(self, timeout_s: float) -> None:
        """Return at the next commit of this process, or after ``timeout_s``."""
        try:
            await asyncio.wait_for(self._event.wait(), timeout_s)
        except TimeoutError:
            return
        self._event.clear()


_CLOCKS = text(
    "SELECT tenant_id, coalesce(now_at, clock_timestamp()) AS now_at FROM identity.clocks"
    " WHERE tenant_id = ANY (CAST(:tenants AS uuid[]))"
)
_PLANNED_ONCE = "SET LOCAL plan_cache_mode = force_generic_plan"
"""For the log, a table in 32 parts: a plan for any values leaves out all parts but one as it runs;
one by value takes 2 ms to make, each time (ADR 0005)."""
_PLANNED_AS_EVER = "SET LOCAL plan_cache_mode TO DEFAULT"


class Tx:
    """An open transaction. Use cases receive it and never commit it."""

    def __init__(self, *, driver: Driver, commands: Commands, ids: Ids) -> None:
        self.ids = ids
        self.tenants: frozenset[UUID] = frozenset()
        self.commands = commands
        self.events: list[Event] = []
        self.wrote = False
        self.work: set[str] = set()
        """Kinds of work (``payments.ready``) that this transaction has made: who does it is woken
        by the commit."""
        self.held: dict[tuple[str, UUID, UUID], Row[Any]] = {}
        """Root rows that this transaction has locked, by kind, tenant and id."""
        self._driver = driver
        self._now: dict[UUID, datetime] = {}
        self._leave = ""
        """What is said before the next statement, if the last one was a reader's."""

    async def rows(self, statement: TextClause, /, **values: Any) -> Sequence[Row[Any]]:
        """Run a statement that returns rows."""
        await self._before_statement()
        return await self._driver.rows(statement, values)

    async def run(self, statement: TextClause, /, **values: Any) -> int:
        """Run a statement that returns no rows; tells how many it touched."""
        await self._before_statement()
        count = await self._driver.run(statement, values)
        self.wrote = self.wrote or count > 0
        return count

    def use_tenants(self, tenants: Iterable[UUID]) -> None:
        """Make exactly these tenants' rows visible until the end of the transaction."""
        self.tenants = frozenset(tenants)
        self._leave_reader()
        listed = ",".join(sorted(str(UUID(int=each.int)) for each in self.tenants))
        self.commands.say(f"SET LOCAL app.tenants = '{listed}'")

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """What is done inside stays undone, facts included, if the block raises; the transaction
        goes on. Locks taken inside are given back then, so take them outside."""
        assert not self._leave, "the reader's role would come back with a rollback"
        told = len(self.events)
        try:
            async with self.commands.savepoint():
                yield
        except BaseException:
            del self.events[told:]
            raise

    @asynccontextmanager
    async def reading_as(self, role: str) -> AsyncIterator[None]:
        """Become one of the readers whose policies see all tenants (log, due, tenant finder)."""
        assert role in {LOG_READER, DUE_READER, TENANT_FINDER, CLOCK_MOVER}
        self._leave = ""
        self.commands.say(f"SET LOCAL ROLE {role}")
        if role == LOG_READER:
            self.commands.say(_PLANNED_ONCE)
        yield
        # Left with the next statement: a step that found nothing ends here, and so does the role.
        self._leave = "SET LOCAL ROLE NONE"
        if role == LOG_READER:
            self._leave += f";{_PLANNED_AS_EVER}"

    def _leave_reader(self) -> None:
        if self._leave:
            self.commands.say(self._leave)
            self._leave = ""

    async def _before_statement(self) -> None:
        self._leave_reader()
        await self.commands.send()

    async def clocks(self, tenants: Iterable[UUID]) -> Mapping[UUID, datetime]:
        """The clock of each tenant (UTC), read once per transaction. Lock the accounts first.

        A sandbox tenant's own clock, else the database's ``clock_timestamp()``. Raises KeyError
        for a tenant that is not visible here.
        """
        wanted = frozenset(tenants)
        missing = [each for each in wanted if each not in self._now]
        if missing:
            for row in await self.rows(_CLOCKS, tenants=missing):
                self._now[row.tenant_id] = row.now_at
        return {each: self._now[each] for each in wanted}

    async def now(self, tenant_id: UUID) -> datetime:
        """The tenant's clock (UTC); see ``clocks``."""
        return (await self.clocks([tenant_id]))[tenant_id]

    def emit(self, events: Iterable[Event]) -> None:
        """Collect facts; the platform appends them as the last statement before COMMIT."""
        self.events.extend(events)


Appender = Callable[[Tx, Sequence[Event]], Awaitable[None]]


class Database:
    """One service's way to its PostgreSQL: a pool of connections under the service's own role."""

    def __init__(
        self,
        *,
        url: str,
        append: Appender,
        ids: Ids | None = None,
        wakeup: Wakeup | None = None,
        pool_size: int = 5,
    ) -> None:
        self.url = url
        self.ids = ids or Ids()
        self.wakeup = wakeup or Wakeup()
        self._append = append
        self.engine = connect(url, pool_size=pool_size)

    @asynccontextmanager
    async def transaction(
        self, name: Story, *, tenants: Iterable[UUID] = (), repeatable_read: bool = False
    ) -> AsyncIterator[Tx]:
        """One transaction; commits when the block ends, rolls back when it raises.

        No tenant is visible unless named here or by ``Tx.use_tenants``. Wakes the process's loops
        if it changed anything.
        """
        assert _open.get() is None, f"{name.name} inside {_open.get()}: transactions do not nest"
        token = _open.set(name.name)
        try:
            driver = await Driver.take(self.engine)
            commands = Commands(driver, BEGIN_REPEATABLE_READ if repeatable_read else BEGIN)
            try:
                tx = Tx(driver=driver, commands=commands, ids=self.ids)
                chosen = frozenset(tenants)
                if chosen:
                    tx.use_tenants(chosen)
                yield tx
                if tx.events:
                    await self._append(tx, tx.events)
                if name.before_commit is None:
                    assert not tx.wrote, f"{name.name} is said to read only"
                else:
                    name.before_commit.hit()
                await commands.commit()
            except BaseException:
                await commands.roll_back()
                raise
            finally:
                await driver.give_back()
        finally:
            _open.reset(token)
        if name.after_commit is not None:
            name.after_commit.hit()
        if tx.events or tx.wrote or tx.work:
            self.wakeup.appended += len(tx.events)
            self.wakeup.wake(name.service, tx.work | {event.type for event in tx.events})

    async def transact(
        self,
        name: Story,
        work: Callable[[Tx], Awaitable[Result]],
        *,
        tenants: Iterable[UUID] = (),
        attempts: int = 3,
    ) -> Result:
        """Run one use case in a transaction; repeat it whole after a transient failure.

        At most ``attempts`` times with a short growing pause; then the last failure is raised.
        """
        chosen = frozenset(tenants)
        for attempt in range(1, attempts + 1):
            try:
                async with self.transaction(name, tenants=chosen) as tx:
                    return await work(tx)
            except Exception as error:
                if attempt == attempts or not is_transient(error):
                    raise
                await asyncio.sleep(0.02 * 2**attempt)
        raise AssertionError("unreachable: the loop returns or raises")

    async def close(self) -> None:
        await self.engine.dispose()


def connect(url: str, *, pool_size: int = 5) -> AsyncEngine:
    """An engine on ``url`` (``postgresql+asyncpg://``); connecting times out after 10 s.

    Every statement commits by itself: ``Database.transaction`` sends its own ``BEGIN`` (see
    ``commands``). A connection prepares a statement once and is replaced after a minute, so that
    no plan outlives the tables it was made for by more (ADR 0021). Behind a pooler nothing is
    kept: the next transaction may run elsewhere.
    """
    arguments: dict[str, Any] = {
        "timeout": 10,
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
        "prepared_statement_name_func": str,
    }
    engine = create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=30,
        connect_args=arguments,
        isolation_level="AUTOCOMMIT",
        pool_use_lifo=True,
        pool_recycle=_KEPT_FOR_S,
        # A failed statement says which one, never with whose data.
        hide_parameters=True,
    )
    # First of all listeners: the engine's own already ask something.
    event.listen(engine.sync_engine, "connect", keep_unless_pooled, insert=True)
    event.listen(engine.sync_engine, "connect", learn_arrays)
    event.listen(engine.sync_engine, "checkout", replace_if_closed)
    return engine
