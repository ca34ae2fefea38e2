"""Work items: what a person has to decide, and that it was decided."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.events import Event
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import problems
from subledger.services.billing.store import invoices, reads, subscriptions


async def open_item(
    tx: Tx,
    *,
    tenant_id: UUID,
    account_id: UUID | None,
    kind: str,
    data: Mapping[str, Any],
    at: datetime,
    cause: UUID | None,
) -> UUID:
    """Ask a person to look; ``data`` (public form) is kept and told. Returns the item's id.

    The account is locked; None is for what is no account's, told with the tenant as subject.
    """
    item = tx.ids.new()
    await invoices.insert_work_items(
        tx,
        [
            {
                "tenant_id": tenant_id,
                "id": item,
                "kind": kind,
                "account_id": account_id,
                "data": msgspec.json.encode(data).decode(),
                "opened_at": at,
            }
        ],
    )
    tx.emit(
        [
            Event(
                type=events.WORK_ITEM_OPENED,
                tenant_id=tenant_id,
                subject=account_id or tenant_id,
                data={"work_item_id": ids.text("wrk", item), "kind": kind, **data},
                occurred_at=at,
                cause=cause,
            )
        ]
    )
    return item


async def close(
    tx: Tx,
    *,
    tenant_id: UUID,
    work_item_id: UUID,
    closed_by: str,
    reason: str,
    cause: UUID | None,
) -> None:
    """Close a work item and keep who did it and why; the reason stays out of the event.

    Raises not_found and work_item_closed.
    """
    key = (tenant_id, work_item_id)
    found = (await reads.work_items(tx, [key])).get(key)
    if found is None:
        raise Problem("not_found", detail="There is no such work item.")
    if found.account_id is None:
        await invoices.lock_work_items(tx, [key])
    else:
        accounts = await subscriptions.lock_accounts(tx, [(tenant_id, found.account_id)])
    row = (await reads.work_items(tx, [key]))[key]
    if row.closed_at is not None:
        raise Problem(
            problems.WORK_ITEM_CLOSED, detail=f"The work item was closed by {row.closed_by}."
        )
    if row.account_id is None:
        at = await tx.now(tenant_id)
    else:
        at = (await subscriptions.moments(tx, accounts, accounts))[tenant_id, row.account_id]
    await close_locked(tx, row, at=at, closed_by=closed_by, reason=reason, cause=cause)


async def close_locked(
    tx: Tx, row: Row[Any], *, at: datetime, closed_by: str, reason: str, cause: UUID | None
) -> None:
    """Close an open work item that its account's lock, or its own, protects."""
    await reads.close_work_items(
        tx,
        [
            {
                "tenant_id": row.tenant_id,
                "id": row.id,
                "closed_at": at,
                "closed_by": closed_by,
                "close_reason": reason,
            }
        ],
    )
    named = {"work_item_id": ids.text("wrk", row.id), "kind": row.kind}
    tx.emit(
        [
            Event(
                type=events.WORK_ITEM_CLOSED,
                tenant_id=row.tenant_id,
                subject=row.account_id or row.tenant_id,
                data=named | msgspec.json.decode(row.data),
                occurred_at=at,
                cause=cause,
            )
        ]
    )
