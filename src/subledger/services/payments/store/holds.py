"""The kill switch of collections as payments knows it, and the attempts that wait behind it.

A claimed attempt of a stopped tenant is put off beyond every date. A claim shares the switch's row,
so that what it puts off is found by the step that makes attempts ready again.
"""

from __future__ import annotations

from uuid import UUID

from subledger.platform.db import Tx, sql
from subledger.platform.holding import Switch
from subledger.services.payments.store import payments

NEVER = "timestamptz '9999-01-01 00:00:00+00'"
"""``ready_at`` of an attempt that waits for a switch."""

_READY_AGAIN = sql(
    f"""
    UPDATE payments.attempts AS a SET ready_at = clock_timestamp()
    FROM (SELECT r.tenant_id, r.id FROM payments.attempts r WHERE r.tenant_id = :tenant
          AND r.kind = 'charge' AND r.state = 'ready' AND r.ready_at = {NEVER}
          ORDER BY r.tenant_id, r.id LIMIT :limit FOR NO KEY UPDATE) AS w
    WHERE a.tenant_id = w.tenant_id AND a.id = w.id
    """
)


async def ready_again(tx: Tx, tenant_id: UUID, limit: int) -> int:
    """Make attempts that wait ready, at most ``limit``; how many."""
    tx.work.add(payments.READY)
    return await tx.run(_READY_AGAIN, tenant=tenant_id, limit=limit)


switch = Switch("payments", "collections", ready_again)
