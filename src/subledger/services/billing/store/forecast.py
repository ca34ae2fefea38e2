"""Which renewals come due until a moment, held ones too."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from subledger.platform.db import Tx, sql

MOST_COUNTED = 1_000_000

_ONE = (
    "SELECT d.id, d.due_at, d.rank, d.number FROM billing.{} d WHERE d.tenant_id = :tenant"
    " AND d.due_at <= :until AND d.kind = 'renewal'"
)
_BOTH = f"({_ONE.format('due')} UNION ALL {_ONE.format('held_due')}) AS d"
_DUE = sql(f"SELECT d.id FROM {_BOTH} ORDER BY d.due_at, d.rank, d.number LIMIT :limit")
_COUNT = sql(f"SELECT count(*) AS due FROM (SELECT d.id FROM {_BOTH} LIMIT {MOST_COUNTED}) AS d")


async def due_renewals(tx: Tx, tenant_id: UUID, *, until: datetime, limit: int) -> list[UUID]:
    """The subscriptions whose renewal is due until a moment, the earliest first; each once."""
    rows = await tx.rows(_DUE, tenant=tenant_id, until=until, limit=limit)
    return list(dict.fromkeys(row.id for row in rows))


async def count_due_renewals(tx: Tx, tenant_id: UUID, *, until: datetime) -> int:
    """How many there are, counted up to a million."""
    return int((await tx.rows(_COUNT, tenant=tenant_id, until=until))[0].due)
