"""The operator's kill switch: a job of every tenant, beside the tenants' own switches."""

from __future__ import annotations

from uuid import UUID

from subledger.hosts.assembly import Assembly
from subledger.hosts.problems import HostProblem
from subledger.platform.db import Tx, story
from subledger.services.billing.store import holds
from subledger.services.billing.usecases.controls import set_switch
from subledger.services.identity import store as identity

_LIST = story("hosts.list_tenants", reads=True)
_TURN = story("billing.turn_kill_switch")
_PAGE = 1_000
_BY = "operator"
_MOST_REASON = 500


async def turn(
    assembly: Assembly, job: str, *, on: bool, reason: str, only: UUID | None = None
) -> int:
    """Stop a job of all tenants that exist (or of ``only`` one), or let it go on where nothing
    else holds it; returns how many tenants that changed.

    A transaction each, so that it may be run again after it was cut off. A tenant that opens
    later is not stopped. Raises HostProblem for a reason that is blank or too long.
    """
    if not reason.strip() or len(reason) > _MOST_REASON:
        raise HostProblem(f"give a reason of 1 to {_MOST_REASON} letters.")
    database, changed, after = assembly.databases["billing"], 0, identity.FIRST
    while True:
        if only is not None:
            tenants = [only]
        else:
            async with assembly.databases["identity"].transaction(_LIST) as tx:
                tenants = await identity.all_tenants(tx, after=after, limit=_PAGE)
        for tenant_id in tenants:

            async def work(tx: Tx, tenant_id: UUID = tenant_id) -> bool:
                return await set_switch(
                    tx,
                    tenant_id=tenant_id,
                    job=job,
                    on=on,
                    source=holds.INSTALLATION,
                    reason=reason,
                    by=_BY,
                    cause=None,
                )

            changed += await database.transact(_TURN, work, tenants=[tenant_id])
        if only is not None or len(tenants) < _PAGE:
            return changed
        after = tenants[-1]
