"""What a person sets: the tenant's limits, and its kill switches."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from subledger.contracts import events
from subledger.contracts.events import Event
from subledger.platform.db import Tx
from subledger.services.billing.store import guard as store
from subledger.services.billing.store import holds
from subledger.services.billing.usecases.guard import Limits


def limit_row(tenant_id: UUID, currency: str, limits: Limits, *, at: datetime) -> dict[str, Any]:
    """Limits of one currency as a row."""
    return {
        "tenant_id": tenant_id,
        "currency": currency,
        "largest_minor": limits.largest_minor,
        "total_minor": limits.total_minor,
        "average_minor": limits.average_minor,
        "invoice_count": limits.count,
        "set_at": at,
    }


async def set_limits(
    tx: Tx,
    *,
    tenant_id: UUID,
    limits: Mapping[str, Limits],
    reason: str,
    by: str,
    cause: UUID | None,
) -> None:
    """Replace the tenant's limits, by currency; they hold from the next batch on, and what is
    parked stays so until it is released. Keeps who set them and why."""
    at = await tx.now(tenant_id)
    await store.replace_limits(
        tx,
        tenant_id,
        [
            limit_row(tenant_id, currency, each, at=at)
            for currency, each in sorted(limits.items())
            if each != Limits()
        ],
    )
    data = {"limits": {currency: each.told() for currency, each in sorted(limits.items())}}
    await store.record(tx, tenant_id, "limits_set", data, reason=reason, by=by, at=at)
    tx.emit(
        [
            Event(
                type=events.BILLING_LIMITS_CHANGED,
                tenant_id=tenant_id,
                subject=tenant_id,
                data=data,
                occurred_at=at,
                cause=cause,
            )
        ]
    )


async def set_switch(
    tx: Tx,
    *,
    tenant_id: UUID,
    job: str,
    on: bool,
    source: str,
    reason: str,
    by: str,
    cause: UUID | None,
) -> bool:
    """Stop a tenant's job, or let it go on; a switch that stands so already changes nothing.

    ``renewals`` stops before the next batch is billed: what is due is set aside in its order and
    is due again when no source holds the job any more. ``collections`` is payments' job and
    ``dunning`` the scheduler's, which hear of it by the event. Returns whether anything changed.
    """
    at = await tx.now(tenant_id)
    turn = holds.turn_on if on else holds.turn_off
    if not await turn(tx, tenant_id, job, source, reason=reason, by=by, at=at):
        return False
    data = {"job": job, "on": on, "source": source}
    await store.record(tx, tenant_id, "kill_switch", data, reason=reason, by=by, at=at)
    tx.emit(
        [
            Event(
                type=events.KILL_SWITCH_CHANGED,
                tenant_id=tenant_id,
                subject=tenant_id,
                data=data,
                occurred_at=at,
                cause=cause,
            )
        ]
    )
    return True
