"""A person lets go what the guard parked, with a reason: a tenant's whole job, or one run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from subledger.contracts import events
from subledger.contracts.events import Event
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import problems
from subledger.services.billing.store import guard as store
from subledger.services.billing.store import holds, invoices, reads, subscriptions
from subledger.services.billing.usecases import work_items
from subledger.services.billing.usecases.controls import limit_row
from subledger.services.billing.usecases.end import lock_one
from subledger.services.billing.usecases.guard import Limits

RUN_PARKED = "billing_run_parked"


async def release_job(
    tx: Tx,
    *,
    tenant_id: UUID,
    park_id: UUID,
    limits_today: Mapping[str, Limits],
    reason: str,
    by: str,
    cause: UUID | None,
) -> None:
    """Let a parked job go on: what is due becomes due again and is billed once, under the limits
    as they are, or, on this UTC day, under ``limits_today`` (by currency) instead.

    If it goes beyond them again it parks again. Its work item is closed with the same reason.
    Raises not_found and billing_park_released.
    """
    row = await store.park(tx, tenant_id, park_id, lock=True)
    if row is None:
        raise Problem("not_found", detail="There is no such park.")
    if row.released_at is not None:
        raise Problem(problems.PARK_RELEASED, detail=f"The park was released by {row.released_by}.")
    at = await tx.now(tenant_id)
    day = store.day_of(at)
    await store.raise_limits(
        tx,
        [
            limit_row(tenant_id, currency, limits, at=at) | {"day": day}
            for currency, limits in limits_today.items()
        ],
    )
    await store.release_park(tx, tenant_id, park_id, at=at, by=by, reason=reason)
    await holds.turn_off(tx, tenant_id, row.job, holds.PARK, reason=reason, by=by, at=at)
    key = (tenant_id, row.work_item_id)
    await invoices.lock_work_items(tx, [key])
    item = (await reads.work_items(tx, [key]))[key]
    if item.closed_at is None:
        await work_items.close_locked(tx, item, at=at, closed_by=by, reason=reason, cause=cause)
    data = {"park_id": ids.text("park", park_id), "job": row.job}
    raised = {currency: limits.told() for currency, limits in limits_today.items()}
    await store.record(
        tx,
        tenant_id,
        "job_released",
        data | {"limits_today": raised, "day": day.isoformat()},
        reason=reason,
        by=by,
        at=at,
    )
    tx.emit([_released(tenant_id, tenant_id, data, at, cause)])


async def release_run(
    tx: Tx,
    *,
    tenant_id: UUID,
    subscription_id: UUID,
    most_minor: int | None,
    reason: str,
    by: str,
    cause: UUID | None,
) -> None:
    """Put the renewal of a parked subscription due again; with ``most_minor`` this one run may
    bill so much whatever the largest invoice is. Its work item is closed with the same reason.

    Raises not_found, subscription_ended and subscription_not_parked.
    """
    row, at = await lock_one(tx, tenant_id, subscription_id)
    if row.parked_reason is None:
        raise Problem(problems.SUBSCRIPTION_NOT_PARKED, detail="The subscription waits for nobody.")
    if most_minor is not None:
        await store.release_run(
            tx,
            {
                "tenant_id": tenant_id,
                "subscription_id": subscription_id,
                "number": row.last_run_number + 1,
                "most_minor": most_minor,
                "released_at": at,
            },
        )
    await subscriptions.park_subscriptions(
        tx, [{"tenant_id": tenant_id, "id": subscription_id, "parked_reason": None}]
    )
    await subscriptions.put_renewals(tx, [row])
    data = {"subscription_id": ids.text("sub", subscription_id)}
    await subscriptions.append_changes(
        tx,
        [
            {
                "tenant_id": tenant_id,
                "subscription_id": subscription_id,
                "kind": "released",
                "effective_at": at,
                "data": msgspec.json.encode({"most_minor": most_minor}).decode(),
                "recorded_at": at,
            }
        ],
    )
    for item in await invoices.open_work_items_of(tx, tenant_id, row.payer_id, RUN_PARKED):
        if msgspec.json.decode(item.data)["subscription_id"] == data["subscription_id"]:
            await work_items.close_locked(tx, item, at=at, closed_by=by, reason=reason, cause=cause)
    await store.record(
        tx,
        tenant_id,
        "run_released",
        data | {"most_minor": most_minor},
        reason=reason,
        by=by,
        at=at,
    )
    tx.emit([_released(tenant_id, row.payer_id, data, at, cause)])


def _released(
    tenant_id: UUID, subject: UUID, data: Mapping[str, Any], at: datetime, cause: UUID | None
) -> Event:
    return Event(
        type=events.BILLING_RUN_RELEASED,
        tenant_id=tenant_id,
        subject=subject,
        data=data,
        occurred_at=at,
        cause=cause,
    )
