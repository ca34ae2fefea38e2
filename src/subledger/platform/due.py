"""Due moments: what a service has to do, and when, in its own narrow table ``<schema>.due``.

A row is written in the transaction that decides the moment. It may be claimed once the tenant's
clock has reached it, and only if it is its account's first (by moment, rank, number), so that a
cancellation and a renewal of the same second do not depend on a race. A sandbox tenant's clock
opens moments up to ``(now_at, now_rank, now_number)``; a live tenant's opens all of its time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
)

from subledger.platform.bulk import Insert, by_keys
from subledger.platform.db import DUE_READER, Tx, sql

ANNOUNCED_AGAIN_S = 15 * 60
"""A row announced this long ago (wall clock) without being settled is announced again."""
_LOOK_FOR_STALE_S = 10.0


@dataclass(frozen=True, slots=True)
class Due:
    """One due moment. ``id`` is what it is about (a subscription, an invoice), ``number`` breaks
    ties inside an account, ``rank`` is ``core.states.DUE_RANK[kind]``."""

    tenant_id: UUID
    kind: str
    id: UUID
    account_id: UUID
    due_at: datetime
    rank: int
    number: int = 0


def due_table(metadata: MetaData) -> Table:
    """The table ``due`` in a service's schema."""
    return Table(
        "due",
        metadata,
        Column("tenant_id", Uuid, primary_key=True),
        Column("kind", Text, primary_key=True),
        Column("id", Uuid, primary_key=True),
        Column("account_id", Uuid, nullable=False),
        Column("due_at", DateTime(timezone=True), nullable=False),
        Column("rank", SmallInteger, nullable=False),
        Column("number", BigInteger, nullable=False),
        Column("announced_at", DateTime(timezone=True)),
    )


class DueQueue:
    """The due rows of one service."""

    def __init__(self, table: Table) -> None:
        schema = str(table.schema)
        self.schema = schema
        self._stale_looked_at = -_LOOK_FOR_STALE_S
        # Per tenant, because each has a clock of its own; so no tenant's backlog hides another's.
        # statement_timestamp() is stable, so an index can end there; clock_timestamp() is
        # volatile, and every row that is not due yet would be read.
        self._scan = sql(
            f"""
            SELECT d.tenant_id, d.kind, d.id FROM identity.clocks c
            CROSS JOIN LATERAL (
                SELECT d.tenant_id, d.kind, d.id, d.due_at FROM {schema}.due d
                WHERE d.tenant_id = c.tenant_id AND d.announced_at IS NULL
                  AND d.due_at <= coalesce(c.now_at, statement_timestamp())
                  -- What the clock has not opened yet must not fill the page.
                  AND (d.due_at, d.rank, d.number)
                      <= (coalesce(c.now_at, statement_timestamp()), c.now_rank, c.now_number)
                ORDER BY d.due_at LIMIT :limit
            ) AS d
            WHERE c.stopped_at IS NULL
            ORDER BY d.due_at LIMIT :limit
            """
        )
        self._stale = sql(
            f"SELECT d.tenant_id, d.kind, d.id FROM {schema}.due d"
            " WHERE d.announced_at < statement_timestamp() - make_interval(secs => :stale_s)"
            " ORDER BY d.announced_at LIMIT :limit"
        )
        self._claim = sql(
            f"""
            SELECT d.tenant_id, d.kind, d.id, d.account_id, d.due_at, d.rank, d.number
            {by_keys(f"{schema}.due d", tenant_id="tenants", kind="kinds text", id="ids")}
            JOIN identity.clocks c ON c.tenant_id = d.tenant_id
            WHERE c.stopped_at IS NULL
              AND (c.now_at IS NULL AND d.due_at <= clock_timestamp()
                   OR (d.due_at, d.rank, d.number) <= (c.now_at, c.now_rank, c.now_number))
              AND (d.announced_at IS NULL
                   OR d.announced_at < statement_timestamp() - make_interval(secs => :stale_s))
              AND NOT EXISTS (
                SELECT FROM {schema}.due f
                WHERE f.tenant_id = d.tenant_id AND f.account_id = d.account_id
                  AND (f.due_at, f.rank, f.number, f.kind, f.id)
                      < (d.due_at, d.rank, d.number, d.kind, d.id))
            FOR NO KEY UPDATE OF d SKIP LOCKED
            """
        )
        self._mark = sql(
            # By place: the rows have just been locked.
            f"UPDATE {schema}.due AS d SET announced_at = clock_timestamp()"
            " FROM (SELECT f.place FROM unnest(CAST(:tenants AS uuid[]), CAST(:kinds AS text[]),"
            " CAST(:ids AS uuid[])) AS w(tenant_id, kind, id) CROSS JOIN LATERAL ("
            f"SELECT r.ctid AS place FROM {schema}.due r WHERE r.tenant_id = w.tenant_id"
            " AND r.kind = w.kind AND r.id = w.id OFFSET 0) AS f) AS w WHERE d.ctid = w.place"
        )
        self._drop = sql(
            f"DELETE FROM {schema}.due AS d"
            " USING unnest(CAST(:tenants AS uuid[]), CAST(:kinds AS text[]), CAST(:ids AS uuid[]))"
            " AS w(tenant_id, kind, id)"
            " WHERE d.tenant_id = w.tenant_id AND d.kind = w.kind AND d.id = w.id"
        )
        self._put = Insert(
            table,
            ["tenant_id", "kind", "id", "account_id", "due_at", "rank", "number"],
            conflict="(tenant_id, kind, id) DO UPDATE SET due_at = excluded.due_at,"
            " rank = excluded.rank, number = excluded.number, announced_at = NULL",
        )

    async def claim(self, tx: Tx, limit: int) -> Sequence[Due]:
        """Lock due rows that may be worked on now, mark them announced, and return them.

        Sets the transaction's tenants to those of the rows. Rows locked by another are skipped.
        """
        async with tx.reading_as(DUE_READER):
            found = await tx.rows(self._scan, limit=limit)
            if len(found) < limit and self._stale_is_due():
                found = [
                    *found,
                    *await tx.rows(
                        self._stale, limit=limit - len(found), stale_s=ANNOUNCED_AGAIN_S
                    ),
                ]
        if not found:
            return []
        tx.use_tenants({row.tenant_id for row in found})
        rows = await tx.rows(
            self._claim,
            tenants=[row.tenant_id for row in found],
            kinds=[row.kind for row in found],
            ids=[row.id for row in found],
            stale_s=ANNOUNCED_AGAIN_S,
        )
        claimed = [Due(**row._mapping) for row in rows]
        if claimed:
            await tx.run(self._mark, **_keys(claimed))
        return claimed

    def _stale_is_due(self) -> bool:
        """Rarely: what is stale has waited for a quarter of an hour."""
        now_s = time.monotonic()
        if now_s - self._stale_looked_at < _LOOK_FOR_STALE_S:
            return False
        self._stale_looked_at = now_s
        return True

    @property
    def work(self) -> str:
        """The kind of work (``Tx.work``) that a due row is, and one that is its account's first
        because the row before it went."""
        return due_work(self.schema)

    async def put(self, tx: Tx, rows: Iterable[Due]) -> None:
        """Set due moments (insert, or replace and make claimable again)."""
        ordered = sorted(rows, key=lambda each: (each.tenant_id.bytes, each.kind, each.id.bytes))
        if ordered:
            tx.work.add(self.work)
        await self._put(
            tx,
            [
                {
                    "tenant_id": each.tenant_id,
                    "kind": each.kind,
                    "id": each.id,
                    "account_id": each.account_id,
                    "due_at": each.due_at,
                    "rank": each.rank,
                    "number": each.number,
                }
                for each in ordered
            ],
        )

    async def drop(self, tx: Tx, keys: Iterable[tuple[UUID, str, UUID]]) -> None:
        """Remove due moments by ``(tenant_id, kind, id)``; what is not there is no error.

        The owner's root rows (accounts, payments) must be locked, which orders the deletes.
        """
        given = list(keys)
        if given:
            gone = await tx.run(
                self._drop,
                tenants=[t for t, _, _ in given],
                kinds=[k for _, k, _ in given],
                ids=[i for _, _, i in given],
            )
            if gone:
                tx.work.add(self.work)


def due_work(schema: str) -> str:
    """The kind of work that a moment of a service is: one that was set, or that a clock came to."""
    return f"{schema}.due"


def _keys(rows: Sequence[Due]) -> dict[str, list[object]]:
    return {
        "tenants": [each.tenant_id for each in rows],
        "kinds": [each.kind for each in rows],
        "ids": [each.id for each in rows],
    }
