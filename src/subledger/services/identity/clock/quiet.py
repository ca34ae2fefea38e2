"""What a sandbox tenant is busy with, and what comes next: asked in one snapshot.

The questions run as the role ``subledger_clock_mover`` over the due tables, cursors and intents
of every service, which therefore share one database.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, TextClause

from subledger.platform.db import Tx, sql
from subledger.platform.service import Quiet, Service


@dataclass(frozen=True, slots=True)
class Clock:
    """A sandbox clock: everything up to ``(now_at, rank, number)`` is open."""

    tenant_id: UUID
    now_at: datetime
    rank: int
    number: int


@dataclass(frozen=True, slots=True)
class Moment:
    """The earliest due moment of a tenant, over all due sources."""

    due_at: datetime
    rank: int
    number: int
    source: str
    kind: str
    account_id: UUID


@dataclass(frozen=True, slots=True)
class Work:
    """Something that is to be done, in words, and how much of it (at least)."""

    what: str
    count: int


class Sources:
    """The questions to all services of an installation, built from what each declares."""

    def __init__(self, services: Sequence[Service]) -> None:
        self.groups = {
            f"{each.group.schema}.{each.group.name}": each.group
            for service in services
            for each in service.consumers
        }
        schemas_that_block = {group.schema for group in self.groups.values()}
        due = [service.due for service in services if service.due is not None]
        self._lagging = _lagging(self.groups) if self.groups else None
        self._earliest = _earliest(due, schemas_that_block) if due else None
        self._intents = _together([each for s in services for each in s.quiet])
        self._waits = _together([each for s in services for each in s.waits])
        self._blocked = _blocked(schemas_that_block) if schemas_that_block else None

    async def busy(self, tx: Tx, clock: Clock, *, most: int = 1) -> list[Work]:
        """What keeps the tenant busy, at most ``most`` findings (the order is cheapest first).

        Due rows are asked by ``earliest``. Call as the clock mover's role, in a snapshot.
        """
        found = await self._unread_events(tx, clock.tenant_id)
        if len(found) < most:
            found += await _asked(tx, self._intents, clock)
        return found[:most]

    async def earliest(self, tx: Tx, clock: Clock, *, until: datetime) -> Moment | None:
        """The smallest ``(due_at, rank, number)`` not after ``until`` whose account is not blocked
        by a poison event; it may be open already."""
        if self._earliest is None:
            return None
        rows = await tx.rows(self._earliest, tenant=clock.tenant_id, until=until)
        return Moment(**rows[0]._mapping) if rows else None

    async def waits(self, tx: Tx, clock: Clock) -> list[Work]:
        """What waits for a person or a deadline: it holds no clock."""
        return await _asked(tx, self._waits, clock)

    async def blocked(self, tx: Tx, tenant_id: UUID) -> Sequence[Row[Any]]:
        """``(group_name, subject)`` of accounts that a poison event blocks, at most 100."""
        if self._blocked is None:
            return []
        return await tx.rows(self._blocked, tenant=tenant_id)

    async def _unread_events(self, tx: Tx, tenant_id: UUID) -> list[Work]:
        if self._lagging is None:
            return []
        # First the few rows of heads and cursors; the log itself only where a group lags.
        lagging = await tx.rows(self._lagging)
        if not lagging:
            return []
        types = [(row, kind) for row in lagging for kind in self.groups[row.reader].handlers]
        rows = await tx.rows(
            _UNREAD,
            tenant=tenant_id,
            readers=[row.reader for row, _ in types],
            partitions=[row.partition for row, _ in types],
            afters=[row.position for row, _ in types],
            uptos=[row.head for row, _ in types],
            types=[kind for _, kind in types],
        )
        return [Work(what=f"{row.type} for {row.reader}", count=row.times) for row in rows]


_UNREAD = sql(
    """
    SELECT w.reader, w.type, count(*) AS times
    FROM (
        SELECT partition, after, upto, reader, array_agg(type) AS types
        FROM unnest(CAST(:readers AS text[]), CAST(:partitions AS smallint[]),
                    CAST(:afters AS bigint[]), CAST(:uptos AS bigint[]), CAST(:types AS text[]))
            AS w(reader, partition, after, upto, type)
        GROUP BY 1, 2, 3, 4
    ) AS g
    CROSS JOIN LATERAL (
        SELECT g.reader, e.type FROM eventlog.events e
        WHERE e.partition = g.partition AND e.position > g.after AND e.position <= g.upto
          AND e.tenant_id = :tenant AND e.type = ANY (g.types)
        LIMIT 100
    ) AS w
    GROUP BY w.reader, w.type ORDER BY w.reader, w.type
    """
)


def _lagging(groups: Any) -> TextClause:
    """Partitions in which a group has positions to read, of any tenant. A group that has no
    cursor yet has everything to read. (The log is asked for apart: joined, its one row counts as
    thousands while nobody has analyzed it, and PostgreSQL starts two more processes for it.)"""
    parts = [
        f"""
        SELECT '{reader}' AS reader, h.partition, coalesce(c.position, 0) AS position,
               h.position AS head
        FROM eventlog.heads h LEFT JOIN {group.schema}.cursors c
          ON c.group_name = '{group.name}' AND c.partition = h.partition
         AND c.log_id = (SELECT l.id FROM eventlog.log l)
        WHERE h.position > coalesce(c.position, 0)
        """
        for reader, group in groups.items()
    ]
    return sql(" UNION ALL ".join(parts))


def _earliest(due: Sequence[str], schemas_that_block: set[str]) -> TextClause:
    parts = []
    for schema in due:
        free = (
            f" AND NOT EXISTS (SELECT FROM {schema}.blocked b WHERE b.tenant_id = d.tenant_id"
            " AND b.subject = d.account_id)"
            if schema in schemas_that_block
            else ""
        )
        parts.append(
            f"(SELECT d.due_at, d.rank, d.number, '{schema}' AS source, d.kind, d.account_id"
            f" FROM {schema}.due d WHERE d.tenant_id = :tenant AND d.due_at <= :until{free}"
            " ORDER BY d.due_at, d.rank, d.number LIMIT 1)"
        )
    return sql(
        f"SELECT * FROM ({' UNION ALL '.join(parts)}) AS d"
        " ORDER BY due_at, rank, number, source LIMIT 1"
    )


def _blocked(schemas: set[str]) -> TextClause:
    parts = [
        f"SELECT '{schema}.' || group_name AS reader, subject FROM {schema}.blocked"
        " WHERE tenant_id = :tenant"
        for schema in sorted(schemas)
    ]
    return sql(f"{' UNION ALL '.join(parts)} ORDER BY reader, subject LIMIT 100")


def _together(questions: Sequence[Quiet]) -> TextClause | None:
    """All services' questions as one statement: an iteration asks them all, and mostly hears
    nothing."""
    if not questions:
        return None
    parts = []
    for each in questions:
        name = each.name.replace("'", "''")
        parts.append(f"SELECT '{name}' AS name, q.what, q.count FROM ({each.query}) AS q")
    return sql(" UNION ALL ".join(parts))


async def _asked(tx: Tx, question: TextClause | None, clock: Clock) -> list[Work]:
    if question is None:
        return []
    values = {"tenant": clock.tenant_id, "now": clock.now_at}
    rows = await tx.rows(question, **{name: values[name] for name in question._bindparams})
    # By name: Row.count is a method of tuples.
    found = [row._mapping for row in rows]
    return [
        Work(what=f"{each['name']}: {each['what']}", count=each["count"])
        for each in found
        if each["count"]
    ]
