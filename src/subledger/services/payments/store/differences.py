"""What differs, or waits for a person: opened once while it lasts, closed with who and how."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.bulk import Insert, Update, by_keys
from subledger.platform.db import Tx, sql
from subledger.services.payments import tables
from subledger.services.payments.store.payments import Key, split

_COLUMNS = (
    "d.tenant_id, d.id, d.kind, d.subject, d.connection_id, d.customer_id, d.payment_id,"
    " d.data::text AS data, d.opened_at, d.closed_at, d.closed_by, d.closed_how"
)
_OPEN = Insert(
    tables.differences,
    [
        *("tenant_id", "id", "kind", "subject", "connection_id", "customer_id", "payment_id"),
        *("data", "opened_at"),
    ],
    conflict="(tenant_id, kind, subject) WHERE closed_at IS NULL DO NOTHING",
)
_LOCK = sql(
    f"SELECT {_COLUMNS} {by_keys('payments.differences d', tenant_id='tenants', id='ids')}"
    " FOR NO KEY UPDATE OF d"
)
_ABOUT = sql(
    "SELECT d.tenant_id, d.id, d.kind, d.subject FROM unnest(CAST(:tenants AS uuid[]),"
    " CAST(:kinds AS text[]), CAST(:subjects AS text[])) AS w(tenant_id, kind, subject)"
    " CROSS JOIN LATERAL (SELECT * FROM payments.differences r WHERE r.tenant_id = w.tenant_id"
    " AND r.kind = w.kind AND r.subject = w.subject AND r.closed_at IS NULL OFFSET 0) AS d"
)
_OPEN_OF = sql(
    f"SELECT {_COLUMNS} FROM payments.differences d WHERE d.tenant_id = :tenant"
    " AND d.connection_id = :connection AND d.closed_at IS NULL AND d.id > :after"
    " ORDER BY d.id LIMIT :limit"
)
_CLOSE = Update(
    tables.differences,
    keys=["tenant_id", "id"],
    sets=["closed_at", "closed_by", "closed_how", "reference"],
)


async def open_new(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> set[UUID]:
    """Write differences down; returns the ids of those that were not open already."""
    ordered = sorted(rows, key=lambda row: (row["tenant_id"], row["kind"], row["subject"]))
    await _OPEN(tx, ordered)
    known = await tx.rows(_LOCK, **split((row["tenant_id"], row["id"]) for row in ordered))
    return {row.id for row in known}


async def lock(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """Lock differences, in order."""
    rows = await tx.rows(_LOCK, **split(keys))
    return {(row.tenant_id, row.id): row for row in rows}


async def about(tx: Tx, subjects: Iterable[tuple[UUID, str, str]]) -> list[Key]:
    """The open differences about ``(tenant_id, kind, subject)``."""
    wanted = sorted(set(subjects))
    if not wanted:
        return []
    rows = await tx.rows(
        _ABOUT,
        tenants=[tenant for tenant, _, _ in wanted],
        kinds=[kind for _, kind, _ in wanted],
        subjects=[subject for _, _, subject in wanted],
    )
    return [(row.tenant_id, row.id) for row in rows]


async def open_of(tx: Tx, connection: Key, *, after: UUID, limit: int) -> Sequence[Row[Any]]:
    """Open differences of a connection, by id."""
    return await tx.rows(
        _OPEN_OF, tenant=connection[0], connection=connection[1], after=after, limit=limit
    )


async def close(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Close locked differences."""
    await _CLOSE(tx, rows)
