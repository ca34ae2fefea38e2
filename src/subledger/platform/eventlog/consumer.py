"""Reading: a group handles each event once in effect, per account in order.

A group's cursors live in the consuming service's schema; handler's writes and cursor commit in
one transaction. A batch that fails on its data is halved until the culprit is alone; parking it
parks its subject, so that the account's later events wait in order while everyone else goes on.
Handlers never call the outside: they write an intent row that an executor's step claims.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import msgspec
import structlog
from sqlalchemy import Row

from subledger.contracts.events import Event, Recorded
from subledger.platform.db import LOG_READER, Database, Story, Tx, is_transient, sql, story
from subledger.platform.telemetry import metrics

Handler = Callable[[Tx, Sequence[Recorded]], Awaitable[None]]
Subjects = Sequence[tuple[UUID, UUID]]
"""``(tenant_id, subject)`` pairs, ascending."""

WINDOW = 2_000
"""Positions looked at in one read: bounds what a group that wants few types reads past."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Group:
    """Who reads: its name, its schema, what it handles, and how it locks the accounts concerned.

    ``lock`` takes the service's root rows of a batch (ascending) before any handler runs.
    """

    name: str
    schema: str
    handlers: Mapping[str, Handler]
    lock: Callable[[Tx, Subjects], Awaitable[None]] | None = None
    tasks: int = 1
    """Loops of a process that read for the group; each claims partitions of its own."""


@dataclass(frozen=True, slots=True)
class _Work:
    """Events of one partition after ``after`` up to ``upto``, all that the group handles."""

    partition: int
    after: int
    upto: int
    events: Sequence[Recorded]


class _Moved(Exception):
    """Another worker moved this cursor meanwhile: its work is no longer ours."""


_READ = sql("""
    SELECT e.partition, e.position, e.id, e.type, e.version, e.tenant_id, e.subject,
           e.data, e.occurred_at, e.recorded_at, e.cause
    FROM unnest(CAST(:partitions AS smallint[]), CAST(:afters AS bigint[]),
                CAST(:uptos AS bigint[])) AS s(partition, after, upto)
    CROSS JOIN LATERAL (
        SELECT e.partition, e.position, e.id, e.type, e.version, e.tenant_id, e.subject,
               e.data::text AS data, e.occurred_at, e.recorded_at, e.cause
        FROM eventlog.events e
        WHERE e.partition = s.partition AND e.position > s.after AND e.position <= s.upto
          AND e.type = ANY (CAST(:types AS text[]))
        ORDER BY e.position LIMIT :most
    ) AS e
""")
_LOG = sql("SELECT id, epoch, partitions FROM eventlog.log")


def recorded(row: Row[Any]) -> Recorded:
    """A row of ``eventlog.events`` (``data`` as text) as an event."""
    return Recorded(
        id=row.id,
        partition=row.partition,
        position=row.position,
        type=row.type,
        version=row.version,
        tenant_id=row.tenant_id,
        subject=row.subject,
        data=msgspec.json.decode(row.data),
        occurred_at=row.occurred_at,
        recorded_at=row.recorded_at,
        cause=row.cause,
    )


class Consumer:
    """Steps of one group: ``step(limit)`` handles about ``limit`` events in one transaction."""

    def __init__(self, database: Database, group: Group) -> None:
        self.database = database
        self.group = group
        self._types = sorted(group.handlers)
        self._story, self._park_story = _stories(group.name)
        self._log_id: UUID | None = None
        schema = group.schema
        self._lagging = sql(
            f"SELECT c.partition, c.position, h.position AS head FROM {schema}.cursors c"
            " JOIN eventlog.heads h USING (partition)"
            " WHERE c.group_name = :name AND c.log_id = :log AND h.position > c.position"
            " ORDER BY h.position - c.position DESC, c.partition"
        )
        self._claim = sql(
            f"SELECT partition, position FROM {schema}.cursors"
            " WHERE group_name = :name AND log_id = :log"
            " AND partition = ANY (CAST(:partitions AS smallint[]))"
            " ORDER BY partition FOR NO KEY UPDATE SKIP LOCKED"
        )
        self._move = sql(
            f"UPDATE {schema}.cursors AS t SET position = moved.position"
            " FROM unnest(CAST(:partitions AS smallint[]), CAST(:positions AS bigint[]))"
            " AS moved(partition, position)"
            " WHERE t.group_name = :name AND t.log_id = :log AND t.partition = moved.partition"
        )
        self._create = sql(
            f"INSERT INTO {schema}.cursors (group_name, log_id, partition, position)"
            " SELECT :name, l.id, h.partition, 0 FROM eventlog.heads h CROSS JOIN eventlog.log l"
            " ORDER BY h.partition ON CONFLICT DO NOTHING"
        )
        self._blocked = sql(
            f"SELECT tenant_id, subject FROM {schema}.blocked WHERE group_name = :name"
            " AND tenant_id = ANY (CAST(:tenants AS uuid[]))"
            " AND subject = ANY (CAST(:subjects AS uuid[]))"
            " ORDER BY tenant_id, subject FOR SHARE"
        )
        self._block = sql(
            f"INSERT INTO {schema}.blocked (tenant_id, group_name, subject, error, blocked_at)"
            " VALUES (:tenant, :name, :subject, :error, clock_timestamp()) ON CONFLICT DO NOTHING"
        )
        self._park = sql(
            f"INSERT INTO {schema}.parked"
            " (tenant_id, group_name, subject, partition, position, event, parked_at)"
            " SELECT tenant, :name, subject, partition, position, event, clock_timestamp()"
            " FROM unnest(CAST(:tenants AS uuid[]), CAST(:subjects AS uuid[]),"
            " CAST(:partitions AS smallint[]), CAST(:positions AS bigint[]),"
            " CAST(:events AS jsonb[]))"
            " AS p(tenant, subject, partition, position, event)"
            " ORDER BY tenant, subject, partition, position ON CONFLICT DO NOTHING"
        )
        self._parked = sql(
            f"SELECT event::text AS event FROM {schema}.parked WHERE tenant_id = :tenant"
            " AND group_name = :name AND subject = :subject ORDER BY partition, position"
        )
        self._unpark = sql(
            f"DELETE FROM {schema}.parked WHERE tenant_id = :tenant AND group_name = :name"
            " AND subject = :subject"
        )
        self._lock_block = sql(
            f"SELECT subject FROM {schema}.blocked WHERE tenant_id = :tenant"
            " AND group_name = :name AND subject = :subject FOR UPDATE"
        )
        self._unblock = sql(
            f"DELETE FROM {schema}.blocked WHERE tenant_id = :tenant AND group_name = :name"
            " AND subject = :subject"
        )

    async def step(self, limit: int) -> int:
        """Handle what lies beyond the cursors, at most about ``limit`` events.

        Returns how many positions the cursors moved; 0 when there was nothing to handle (the
        cursors may have passed what others handle) or another worker has it. Raises transient
        failures; the same step may simply be run again.
        """
        if self._log_id is None:
            self._log_id = await self._create_cursors()
        try:
            async with self.database.transaction(self._story) as tx:
                works, is_all = await self._claim_works(tx, limit)
                if not works:
                    return 0
                await self._handle(tx, works)
                moved = sum(work.upto - work.after for work in works)
                return 0 if is_all and not any(work.events for work in works) else moved
        except Exception as error:
            if is_transient(error):
                raise
            failed = error
        return await self._isolate(works, failed)

    async def replay(self, *, tenant_id: UUID, subject: UUID) -> int:
        """Drain what is parked for an account, in order, and unblock it, in one transaction.

        Returns how many events were handled. Raises what the handler raises, and then nothing
        has changed. While it runs, a new event of the account waits for the block's row.
        """
        async with self.database.transaction(self._park_story, tenants=[tenant_id]) as tx:
            names = {"tenant": tenant_id, "name": self.group.name, "subject": subject}
            if not await tx.rows(self._lock_block, **names):
                return 0
            rows = await tx.rows(self._parked, **names)
            events = [msgspec.json.decode(row.event, type=Recorded) for row in rows]
            await self._run_handlers(tx, events)
            await tx.run(self._unpark, **names)
            await tx.run(self._unblock, **names)
            return len(events)

    # --- one transaction -----------------------------------------------------------------------

    async def _create_cursors(self) -> UUID:
        """Cursors for this log where the group has none yet, in a transaction of their own: a
        failing first batch must not take them back."""
        async with self.database.transaction(self._story) as tx:
            log_id: UUID = (await tx.rows(_LOG))[0].id
            await tx.run(self._create, name=self.group.name)
        return log_id

    async def _claim_works(self, tx: Tx, limit: int) -> tuple[list[_Work], bool]:
        """Work of about ``limit`` events, and whether there is no more than that."""
        lagging = await tx.rows(self._lagging, name=self.group.name, log=self._log_id)
        heads = {row.partition: row.head for row in lagging}
        behind = sum(row.head - row.position for row in lagging)
        metrics.eventlog_lag.labels(self.group.name).set(behind)
        claimed: Sequence[Row[Any]] = []
        for wanted in _chunks(lagging, limit):
            claimed = await tx.rows(
                self._claim, name=self.group.name, log=self._log_id, partitions=wanted
            )
            if claimed:
                break
        spans = [
            (row.partition, row.position, min(heads[row.partition], row.position + WINDOW))
            for row in claimed
            if heads[row.partition] > row.position
        ]
        works = await self._load(tx, spans, limit) if spans else []
        ahead = [work for work in works if work.upto == heads[work.partition]]
        return works, len(ahead) == len(lagging)

    async def _load(self, tx: Tx, spans: Sequence[tuple[int, int, int]], limit: int) -> list[_Work]:
        async with tx.reading_as(LOG_READER):
            partitions, afters, uptos = (list(each) for each in zip(*spans, strict=True))
            rows = await tx.rows(
                _READ,
                partitions=partitions,
                afters=afters,
                uptos=uptos,
                types=self._types,
                most=limit,
            )
        events: dict[int, list[Recorded]] = {partition: [] for partition, _, _ in spans}
        for row in rows:
            events[row.partition].append(recorded(row))
        return [
            _Work(
                partition=partition,
                after=after,
                # A full page may have stopped before the window's end.
                upto=events[partition][-1].position if len(events[partition]) == limit else upto,
                events=events[partition],
            )
            for partition, after, upto in spans
        ]

    async def _handle(self, tx: Tx, works: Sequence[_Work]) -> None:
        events = [event for work in works for event in work.events]
        if events:
            tx.use_tenants({event.tenant_id for event in events})
            await self._run_handlers(tx, await self._set_aside_blocked(tx, events))
        await tx.run(
            self._move,
            name=self.group.name,
            log=self._log_id,
            partitions=[work.partition for work in works],
            positions=[work.upto for work in works],
        )
        if not events:
            tx.wrote = False  # a cursor that passed what others handle is news to nobody

    async def _set_aside_blocked(self, tx: Tx, events: list[Recorded]) -> list[Recorded]:
        rows = await tx.rows(
            self._blocked,
            name=self.group.name,
            tenants=sorted({e.tenant_id for e in events}),
            subjects=sorted({e.subject for e in events}),
        )
        blocked = {(row.tenant_id, row.subject) for row in rows}
        if not blocked:
            return events
        waiting = [event for event in events if (event.tenant_id, event.subject) in blocked]
        await self._append_parked(tx, waiting)
        return [event for event in events if (event.tenant_id, event.subject) not in blocked]

    async def _append_parked(self, tx: Tx, events: Sequence[Recorded]) -> None:
        await tx.run(
            self._park,
            name=self.group.name,
            tenants=[e.tenant_id for e in events],
            subjects=[e.subject for e in events],
            partitions=[e.partition for e in events],
            positions=[e.position for e in events],
            events=[msgspec.json.encode(e).decode() for e in events],
        )

    async def _run_handlers(self, tx: Tx, events: Sequence[Recorded]) -> None:
        if not events:
            return
        if self.group.lock is not None:
            await self.group.lock(tx, sorted({(e.tenant_id, e.subject) for e in events}))
        for wave in _waves(events):
            by_type: dict[str, list[Recorded]] = {}
            for event in wave:
                by_type.setdefault(event.type, []).append(event)
            for kind in sorted(by_type):
                await self.group.handlers[kind](tx, by_type[kind])

    # --- after a failure on data ---------------------------------------------------------------

    async def _isolate(self, works: Sequence[_Work], error: Exception) -> int:
        """Run each partition's work alone, halving what fails, parking what fails alone."""
        if len(works) == 1 and len(works[0].events) <= 1:
            return await self._park_culprit(works[0], error)
        parts = [replace(work) for work in works] if len(works) > 1 else _halves(works[0])
        moved = 0
        for part in parts:
            try:
                async with self.database.transaction(self._story) as tx:
                    await self._expect_cursor(tx, part)
                    await self._handle(tx, [part])
                moved += part.upto - part.after
            except _Moved:
                return moved
            except Exception as failed:
                if is_transient(failed):
                    raise
                moved += await self._isolate([part], failed)
        return moved

    async def _expect_cursor(self, tx: Tx, work: _Work) -> None:
        rows = await tx.rows(
            self._claim, name=self.group.name, log=self._log_id, partitions=[work.partition]
        )
        if not rows or rows[0].position != work.after:
            raise _Moved

    async def _park_culprit(self, work: _Work, error: Exception) -> int:
        if not work.events:
            raise error  # not the data's fault: nothing was handled
        event = work.events[0]
        _log.error(
            "event.parked",
            group=self.group.name,
            event_id=str(event.id),
            type=event.type,
            tenant=str(event.tenant_id),
            subject=str(event.subject),
            exc_info=error,
        )
        async with self.database.transaction(self._park_story) as tx:
            try:
                await self._expect_cursor(tx, work)
            except _Moved:
                return 0
            tx.use_tenants([event.tenant_id])
            await tx.run(
                self._block,
                tenant=event.tenant_id,
                name=self.group.name,
                subject=event.subject,
                error=f"{type(error).__name__}: {error}"[:2000],
            )
            await self._append_parked(tx, [event])
            await tx.run(
                self._move,
                name=self.group.name,
                log=self._log_id,
                partitions=[work.partition],
                positions=[work.upto],
            )
        return work.upto - work.after


_known: dict[str, tuple[Story, Story]] = {}


def _stories(group: str) -> tuple[Story, Story]:
    """A group's stories, declared once however many consumers are built (tests build several)."""
    if group not in _known:
        _known[group] = (story(f"{group}.consume"), story(f"{group}.park"))
    return _known[group]


def _chunks(lagging: Sequence[Row[Any]], limit: int) -> Iterator[list[int]]:
    """Partitions, the furthest behind first, in groups that hold about ``limit`` positions: where
    other workers hold the first ones, the next are tried."""
    chunk: list[int] = []
    expected = 0
    for row in lagging:
        chunk.append(row.partition)
        expected += row.head - row.position
        if expected >= limit:
            yield chunk
            chunk, expected = [], 0
    if chunk:
        yield chunk


def _waves(events: Sequence[Recorded]) -> list[list[Recorded]]:
    """Split so that a wave holds at most one event of an account, in the account's order."""
    waves: list[list[Recorded]] = []
    seen: dict[tuple[UUID, UUID], int] = {}
    for event in events:
        account = (event.tenant_id, event.subject)
        place = seen.get(account, 0)
        seen[account] = place + 1
        if place == len(waves):
            waves.append([])
        waves[place].append(event)
    return waves


def _halves(work: _Work) -> list[_Work]:
    middle = len(work.events) // 2
    cut = work.events[middle - 1].position
    return [
        replace(work, upto=cut, events=work.events[:middle]),
        replace(work, after=cut, events=work.events[middle:]),
    ]


def caused(event: Recorded, **fields: Any) -> Event:
    """An event that follows from ``event``: same tenant and subject unless given, its cause set."""
    values = {"tenant_id": event.tenant_id, "subject": event.subject, "cause": event.id} | fields
    return Event(**values)
