"""The kill switch of dunning as the scheduler knows it, and the due moments that wait behind it.

A stopped tenant's retries and last steps are moved out of ``due`` when they are claimed; when the
switch is let go, a step makes them due again, the earliest first, and then forgets the switch. An
announcement shares the switch's row, so that what it sets aside is found by that step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

from subledger.platform.db import DUE_READER, Tx, sql
from subledger.platform.due import Due, DueQueue

_SET = sql(
    "INSERT INTO scheduler.holds (tenant_id, source, is_on) VALUES (:tenant, :source, :on)"
    " ON CONFLICT (tenant_id, source) DO UPDATE SET is_on = excluded.is_on"
)
_STOPPED = sql(
    "SELECT h.tenant_id FROM scheduler.holds h"
    " WHERE h.tenant_id = ANY (CAST(:tenants AS uuid[])) AND h.is_on"
    " ORDER BY h.tenant_id, h.source FOR SHARE"
)
_LET_GO = sql(
    "SELECT DISTINCT h.tenant_id FROM scheduler.holds h WHERE NOT h.is_on AND NOT EXISTS ("
    " SELECT FROM scheduler.holds o WHERE o.tenant_id = h.tenant_id AND o.is_on)"
    " ORDER BY h.tenant_id LIMIT :limit"
)
_LOCK = sql(
    "SELECT source, is_on FROM scheduler.holds WHERE tenant_id = :tenant ORDER BY source FOR UPDATE"
)
_FORGET = sql("DELETE FROM scheduler.holds WHERE tenant_id = :tenant AND NOT is_on")
_ROW = "tenant_id, kind, id, account_id, due_at, rank, number"
_KEYS = (
    "unnest(CAST(:tenants AS uuid[]), CAST(:kinds AS text[]), CAST(:ids AS uuid[]))"
    " AS w(tenant_id, kind, id)"
)
_SET_ASIDE = sql(
    f"""
    WITH gone AS (
        DELETE FROM scheduler.due AS d USING {_KEYS}
        WHERE d.tenant_id = w.tenant_id AND d.kind = w.kind AND d.id = w.id RETURNING d.*
    )
    INSERT INTO scheduler.held_due ({_ROW}) SELECT {_ROW} FROM gone ORDER BY tenant_id, kind, id
    ON CONFLICT (tenant_id, kind, id) DO UPDATE SET account_id = excluded.account_id,
        due_at = excluded.due_at, rank = excluded.rank, number = excluded.number
    """
)
_TAKE_BACK = sql(
    f"""
    WITH first AS (
        SELECT h.tenant_id, h.kind, h.id FROM scheduler.held_due h WHERE h.tenant_id = :tenant
        ORDER BY h.due_at, h.rank, h.number LIMIT :limit FOR UPDATE
    ), gone AS (
        DELETE FROM scheduler.held_due AS h USING first f
        WHERE h.tenant_id = f.tenant_id AND h.kind = f.kind AND h.id = f.id RETURNING h.*
    ), back AS (
        INSERT INTO scheduler.due ({_ROW}) SELECT {_ROW} FROM gone ORDER BY tenant_id, kind, id
        ON CONFLICT (tenant_id, kind, id) DO NOTHING
    )
    SELECT count(*) AS moved FROM gone
    """
)
_DROP = sql(
    f"DELETE FROM scheduler.held_due AS h USING {_KEYS}"
    " WHERE h.tenant_id = w.tenant_id AND h.kind = w.kind AND h.id = w.id"
)


class HeldQueue(DueQueue):
    """The scheduler's due rows: what is not due any more is not held either."""

    async def drop(self, tx: Tx, keys: Iterable[tuple[UUID, str, UUID]]) -> None:
        """As ``DueQueue.drop``, held rows too, also those that are being set aside or taken back:
        the delete waits for them, and finds them where they went."""
        given = list(keys)
        if not given:
            return
        await super().drop(tx, given)
        await tx.run(
            _DROP,
            tenants=[t for t, _, _ in given],
            kinds=[k for _, k, _ in given],
            ids=[i for _, _, i in given],
        )
        await super().drop(tx, given)


async def turn(tx: Tx, tenant_id: UUID, source: str, *, on: bool) -> None:
    """Stop a tenant's dunning, or let it go on as far as this source is concerned."""
    await tx.run(_SET, tenant=tenant_id, source=source, on=on)


async def not_held(tx: Tx, claimed: Sequence[Due]) -> list[Due]:
    """Of claimed rows those whose tenants' dunning goes on; the others are set aside."""
    tenants = sorted({each.tenant_id for each in claimed})
    stopped = {row.tenant_id for row in await tx.rows(_STOPPED, tenants=tenants)}
    held = [each for each in claimed if each.tenant_id in stopped]
    if held:
        await tx.run(
            _SET_ASIDE,
            tenants=[each.tenant_id for each in held],
            kinds=[each.kind for each in held],
            ids=[each.id for each in held],
        )
    return [each for each in claimed if each.tenant_id not in stopped]


async def let_go(tx: Tx, limit: int) -> list[UUID]:
    """Tenants whose switch no source keeps any more."""
    async with tx.reading_as(DUE_READER):
        rows = await tx.rows(_LET_GO, limit=limit)
    return [row.tenant_id for row in rows]


async def take_back(tx: Tx, tenant_id: UUID, limit: int) -> int:
    """Make what was held due again, at most ``limit``; the switch is forgotten with the last. How
    many rows that changed."""
    rows = await tx.rows(_LOCK, tenant=tenant_id)
    if not rows or any(row.is_on for row in rows):
        return 0
    moved = int((await tx.rows(_TAKE_BACK, tenant=tenant_id, limit=limit))[0].moved)
    tx.wrote = tx.wrote or moved > 0
    if moved < limit:
        moved += await tx.run(_FORGET, tenant=tenant_id)
    return moved
