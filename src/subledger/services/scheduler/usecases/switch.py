"""The kill switch of dunning: billing tells, the scheduler announces nothing more."""

from __future__ import annotations

from collections.abc import Sequence

from subledger.contracts.events import Recorded
from subledger.platform.db import Tx
from subledger.services.scheduler import holds

DUNNING = "dunning"


async def switch(tx: Tx, given: Sequence[Recorded]) -> None:
    """Remember how the switch stands; each tenant's events come in their order."""
    for event in given:
        if event.data["job"] == DUNNING:
            await holds.turn(tx, event.tenant_id, event.data["source"], on=event.data["on"])


async def let_go(tx: Tx, limit: int) -> int:
    """Retries and last steps that had to wait are due again, at most ``limit`` of each tenant; how
    many."""
    tenants = await holds.let_go(tx, limit)
    if not tenants:
        return 0
    await tx.use_tenants(tenants)
    return sum([await holds.take_back(tx, tenant, limit) for tenant in tenants])
