"""Delete a tenant softly: nothing of it is reachable any more, nothing of it is lost."""

from __future__ import annotations

from uuid import UUID

from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.identity import store


async def delete_tenant(tx: Tx, tenant_id: UUID) -> list[UUID]:
    """Delete the tenant, and with a live tenant its sandboxes; returns which were deleted.

    From the commit on every key of theirs is unknown and their clocks are stopped, so that no
    renewal or retry of theirs comes due. Events that are under way are still handled: money that
    arrives is always booked. Raises not_found if the tenant is unknown or deleted.
    """
    listed = [tenant_id, *await store.sandboxes_of(tx, tenant_id)]
    tx.use_tenants(listed)
    locked = [row.tenant_id for row in await store.lock_tenants(tx, listed)]
    if tenant_id not in locked:
        raise Problem("not_found", detail="There is no such tenant.")
    await store.lock_clocks(tx, locked)
    await store.delete_tenants(tx, locked)
    return locked
