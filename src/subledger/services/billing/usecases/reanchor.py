"""Another billing anchor: a change that ends the present cycle and begins one on other days."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Literal
from uuid import UUID

from subledger.core import cycles
from subledger.core.calendar import Anchor
from subledger.core.cycles import TakesEffect
from subledger.core.errors import InvalidInterval
from subledger.platform.db import Tx
from subledger.services.billing.store import subscriptions
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import change
from subledger.services.billing.usecases.anchors import (
    NOT_BEGUN,
    alignment,
    cycle_of,
    does_not_fit,
)
from subledger.services.billing.usecases.change import ChangeRequest
from subledger.services.billing.usecases.end import lock_one

When = Literal["now", "period_end", "next_grid_day"]


async def change_anchor(
    tx: Tx,
    memory: TermsMemory,
    *,
    tenant_id: UUID,
    subscription_id: UUID,
    billing_anchor: str,
    when: datetime | When,
    cause: UUID | None,
) -> None:
    """Hang the cycle elsewhere, now, later or at a moment; settled at once where a period is cut.

    ``next_grid_day``: the old cycle runs on until the new anchor's next day. Before the first
    period (in a trial) only the cycle that lies ahead is hung elsewhere. Raises as
    ``change.change`` does.
    """
    at: datetime | Literal["period_end"] | None = None
    if isinstance(when, datetime) or when == "period_end":
        at = when
    elif when == "next_grid_day":
        at = await _next_grid_day(tx, memory, tenant_id, subscription_id, billing_anchor)
    request = ChangeRequest(
        tenant_id=tenant_id,
        subscription_id=subscription_id,
        plan_id=None,
        quantity=None,
        at=at,
        settle="now",
        cause=cause,
        billing_anchor=billing_anchor,
    )
    await change.change(tx, memory, request)


async def _next_grid_day(
    tx: Tx, memory: TermsMemory, tenant_id: UUID, subscription_id: UUID, billing_anchor: str
) -> datetime | None:
    row, at = await lock_one(tx, tenant_id, subscription_id)
    if row.status in NOT_BEGUN or row.status == "incomplete":
        return None
    terms = (await memory.load(tx, [(tenant_id, row.plan_version_id)]))[
        tenant_id, row.plan_version_id
    ]
    payer = (tenant_id, row.payer_id)
    zone = (await subscriptions.accounts(tx, [payer]))[payer].timezone
    cycle = cycle_of(row._asdict(), terms.interval(row.currency))
    # The new cycle is counted in the payer's present zone (``restart.hung``).
    moved = replace(cycle, anchor=Anchor(cycle.anchor.at, zone))
    asked = alignment(billing_anchor)
    try:
        return cycles.reanchor(moved, at, asked, TakesEffect.NEXT_GRID_DAY).following.start_at
    except InvalidInterval as refused:
        raise does_not_fit(refused) from refused
