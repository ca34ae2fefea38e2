"""The kill switch of dunning as the scheduler knows it, and the due moments that wait behind it."""

from __future__ import annotations

from collections.abc import Sequence

from subledger.platform.db import Tx, sql
from subledger.platform.due import Due
from subledger.platform.holding import Switch
from subledger.services.scheduler.store import collections as store

switch = Switch("scheduler", "dunning", store.due.bring_back)

_STOPPED = sql(
    "SELECT h.tenant_id FROM scheduler.holds h"
    " WHERE h.tenant_id = ANY (CAST(:tenants AS uuid[])) AND h.is_on"
    " ORDER BY h.tenant_id, h.source FOR SHARE"
)


async def not_held(tx: Tx, claimed: Sequence[Due]) -> list[Due]:
    """Of claimed rows those whose tenants' dunning goes on; the others are set aside."""
    tenants = sorted({each.tenant_id for each in claimed})
    stopped = {row.tenant_id for row in await tx.rows(_STOPPED, tenants=tenants)}
    held = [each for each in claimed if each.tenant_id in stopped]
    await store.due.set_aside(tx, [(each.tenant_id, each.kind, each.id) for each in held])
    return [each for each in claimed if each.tenant_id not in stopped]
