"""Holds: which job of which tenant is stopped, and the due work that is set aside meanwhile.

A hold has a source (a limit that parked the job, the tenant's kill switch, the installation's);
the job goes on when no source holds it. Whoever looks shares the hold's row until its transaction
ends, so that what it sets aside is there when the hold is let go. A hold that was let go stays as
``is_on = false`` until everything that it held is due again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.bulk import by_keys, split
from subledger.platform.db import DUE_READER, Tx, sql
from subledger.services.billing.store import subscriptions

Key = tuple[UUID, UUID]
RENEWALS, COLLECTIONS, DUNNING = "renewals", "collections", "dunning"
JOBS = (RENEWALS, COLLECTIONS, DUNNING)
LET_GO = "billing.holds"
"""The kind of work that a hold which was let go is."""
PARK, TENANT, INSTALLATION = "park", "tenant", "installation"

_HOLDS = sql(
    "SELECT tenant_id, source, is_on FROM billing.holds"
    " WHERE tenant_id = ANY (CAST(:tenants AS uuid[])) AND job = :job"
    " ORDER BY tenant_id, source FOR SHARE"
)
_LISTED = sql(
    "SELECT job, source, reason, set_by, set_at FROM billing.holds"
    " WHERE tenant_id = :tenant AND is_on ORDER BY job, source"
)
_TURN_ON = sql(
    "INSERT INTO billing.holds AS h (tenant_id, job, source, is_on, reason, set_by, set_at)"
    " VALUES (:tenant, :job, :source, true, :reason, :by, :at)"
    " ON CONFLICT (tenant_id, job, source) DO UPDATE SET is_on = true, reason = excluded.reason,"
    " set_by = excluded.set_by, set_at = excluded.set_at WHERE NOT h.is_on"
)
_TURN_OFF = sql(
    "UPDATE billing.holds SET is_on = false, reason = :reason, set_by = :by, set_at = :at"
    " WHERE tenant_id = :tenant AND job = :job AND source = :source AND is_on"
)
_LET_GO = sql(
    "SELECT DISTINCT h.tenant_id, h.job FROM billing.holds h WHERE NOT h.is_on AND NOT EXISTS ("
    " SELECT FROM billing.holds o WHERE o.tenant_id = h.tenant_id AND o.job = h.job AND o.is_on)"
    " ORDER BY h.tenant_id, h.job LIMIT :limit"
)
_LOCK_LET_GO = sql(
    "SELECT source, is_on FROM billing.holds WHERE tenant_id = :tenant AND job = :job"
    " ORDER BY source FOR UPDATE"
)
_FORGET = sql("DELETE FROM billing.holds WHERE tenant_id = :tenant AND job = :job AND NOT is_on")
_FOLLOWED = sql(
    f"SELECT h.tenant_id, h.id {by_keys('billing.held_due h', tenant_id='tenants', id='ids')}"
)


async def holds(tx: Tx, job: str, tenants: Iterable[UUID]) -> Mapping[UUID, bool]:
    """The tenants whose ``job`` has a hold: True while it is on, False while what it held goes
    back. The rows stay shared until the transaction ends."""
    found: dict[UUID, bool] = {}
    for row in await tx.rows(_HOLDS, job=job, tenants=list(tenants)):
        found[row.tenant_id] = found.get(row.tenant_id, False) or row.is_on
    return found


async def listed(tx: Tx, tenant_id: UUID) -> Sequence[Row[Any]]:
    """The tenant's holds that are on."""
    return await tx.rows(_LISTED, tenant=tenant_id)


async def turn_on(
    tx: Tx, tenant_id: UUID, job: str, source: str, *, reason: str, by: str, at: datetime
) -> bool:
    """Stop a job. False if this source held it already."""
    return bool(
        await tx.run(
            _TURN_ON, tenant=tenant_id, job=job, source=source, reason=reason, by=by, at=at
        )
    )


async def turn_off(
    tx: Tx, tenant_id: UUID, job: str, source: str, *, reason: str, by: str, at: datetime
) -> bool:
    """Let a job go, as far as this source is concerned; waits for whoever looks at the hold.
    False if this source does not hold it."""
    tx.work.add(LET_GO)
    return bool(
        await tx.run(
            _TURN_OFF, tenant=tenant_id, job=job, source=source, reason=reason, by=by, at=at
        )
    )


async def followed(tx: Tx, keys: Iterable[Key]) -> set[Key]:
    """Which of ``(tenant_id, id)`` have held work, behind which later work has to wait."""
    return {(row.tenant_id, row.id) for row in await tx.rows(_FOLLOWED, **split(keys))}


async def let_go(tx: Tx, limit: int) -> list[tuple[UUID, str]]:
    """``(tenant_id, job)`` of holds that no source keeps any more, of all tenants."""
    async with tx.reading_as(DUE_READER):
        rows = await tx.rows(_LET_GO, limit=limit)
    return [(row.tenant_id, row.job) for row in rows]


async def take_back(tx: Tx, tenant_id: UUID, job: str, limit: int) -> int:
    """Make held rows due again, the earliest first, at most ``limit``; the hold is forgotten with
    its last row. Returns how many rows came back and whether the hold went (as one more)."""
    rows = await tx.rows(_LOCK_LET_GO, tenant=tenant_id, job=job)
    if not rows or any(row.is_on for row in rows):
        return 0
    moved = 0
    if job == RENEWALS:
        moved = await subscriptions.due.bring_back(tx, tenant_id, limit)
    if moved < limit:
        moved += await tx.run(_FORGET, tenant=tenant_id, job=job)
    return moved
