"""The kill switch of collections as payments knows it, and the attempts that wait behind it.

A claimed attempt of a stopped tenant is put off beyond every date; when the switch is let go, a
step makes those attempts ready again and then forgets the switch. A claim shares the switch's row,
so that what it puts off is found by that step.
"""

from __future__ import annotations

from uuid import UUID

from subledger.platform.db import DUE_READER, Tx, sql

NEVER = "timestamptz '9999-01-01 00:00:00+00'"
"""``ready_at`` of an attempt that waits for a switch."""

_SET = sql(
    "INSERT INTO payments.holds (tenant_id, source, is_on) VALUES (:tenant, :source, :on)"
    " ON CONFLICT (tenant_id, source) DO UPDATE SET is_on = excluded.is_on"
)
_LET_GO = sql(
    "SELECT DISTINCT h.tenant_id FROM payments.holds h WHERE NOT h.is_on AND NOT EXISTS ("
    " SELECT FROM payments.holds o WHERE o.tenant_id = h.tenant_id AND o.is_on)"
    " ORDER BY h.tenant_id LIMIT :limit"
)
_LOCK = sql(
    "SELECT source, is_on FROM payments.holds WHERE tenant_id = :tenant ORDER BY source FOR UPDATE"
)
_READY_AGAIN = sql(
    f"""
    UPDATE payments.attempts AS a SET ready_at = clock_timestamp()
    FROM (SELECT r.tenant_id, r.id FROM payments.attempts r WHERE r.tenant_id = :tenant
          AND r.kind = 'charge' AND r.state = 'ready' AND r.ready_at = {NEVER}
          ORDER BY r.tenant_id, r.id LIMIT :limit FOR NO KEY UPDATE) AS w
    WHERE a.tenant_id = w.tenant_id AND a.id = w.id
    """
)
_FORGET = sql("DELETE FROM payments.holds WHERE tenant_id = :tenant AND NOT is_on")


async def turn(tx: Tx, tenant_id: UUID, source: str, *, on: bool) -> None:
    """Stop a tenant's automatic charges, or let them go on as far as this source is concerned."""
    await tx.run(_SET, tenant=tenant_id, source=source, on=on)


async def let_go(tx: Tx, limit: int) -> list[UUID]:
    """Tenants whose switch no source keeps any more."""
    async with tx.reading_as(DUE_READER):
        rows = await tx.rows(_LET_GO, limit=limit)
    return [row.tenant_id for row in rows]


async def take_back(tx: Tx, tenant_id: UUID, limit: int) -> int:
    """Make the attempts that wait ready again, at most ``limit``; the switch is forgotten with
    the last. How many rows that changed."""
    rows = await tx.rows(_LOCK, tenant=tenant_id)
    if not rows or any(row.is_on for row in rows):
        return 0
    moved = await tx.run(_READY_AGAIN, tenant=tenant_id, limit=limit)
    if moved < limit:
        moved += await tx.run(_FORGET, tenant=tenant_id)
    return moved
