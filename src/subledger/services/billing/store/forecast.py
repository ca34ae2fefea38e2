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
_OTHERS = sql(
    f"""
    SELECT kind, count(*) AS due FROM (
        SELECT d.kind FROM billing.due d WHERE d.tenant_id = :tenant
          AND d.kind IN ('cancellation', 'pause_resume', 'incomplete_expiry')
          AND (d.due_at <= :until OR d.kind = 'incomplete_expiry')
        LIMIT {MOST_COUNTED}) AS d
    GROUP BY kind
    """
)
_PARKED = sql(
    f"SELECT count(*) AS parked FROM (SELECT FROM billing.work_items k WHERE k.tenant_id = :tenant"
    f" AND k.closed_at IS NULL AND k.kind = 'billing_run_parked' LIMIT {MOST_COUNTED}) AS k"
)


async def due_renewals(tx: Tx, tenant_id: UUID, *, until: datetime, limit: int) -> list[UUID]:
    """The subscriptions whose renewal is due until a moment, the earliest first; each once."""
    rows = await tx.rows(_DUE, tenant=tenant_id, until=until, limit=limit)
    return list(dict.fromkeys(row.id for row in rows))


async def count_due_renewals(tx: Tx, tenant_id: UUID, *, until: datetime) -> int:
    """How many there are, counted up to a million."""
    return int((await tx.rows(_COUNT, tenant=tenant_id, until=until))[0].due)


async def others(tx: Tx, tenant_id: UUID, *, until: datetime) -> dict[str, int]:
    """What is no renewal and may bill too, by its due kind: ends, pauses that begin or end; and
    first payments that are awaited, whenever. With ``parked``, the subscriptions that a person has
    to release. Counted up to a million."""
    found = {
        row.kind: int(row.due) for row in await tx.rows(_OTHERS, tenant=tenant_id, until=until)
    }
    return found | {"parked": int((await tx.rows(_PARKED, tenant=tenant_id))[0].parked)}
