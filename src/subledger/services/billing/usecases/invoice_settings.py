"""How a tenant's invoices are issued, and the terms of single customers."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

import msgspec

from subledger.contracts import events
from subledger.contracts.events import Event
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing.store import accounts, invoices, subscriptions


async def put_settings(
    tx: Tx, *, tenant_id: UUID, draft_s: int, zero_invoices: str, minimums: Mapping[str, int]
) -> None:
    """Replace the tenant's settings. Drafts that wait keep the moment that they were given."""
    await invoices.put_settings(
        tx,
        {
            "tenant_id": tenant_id,
            "draft_s": draft_s,
            "zero_invoices": zero_invoices,
            "minimums": msgspec.json.encode(dict(minimums)).decode(),
            "updated_at": await tx.now(tenant_id),
        },
    )


async def put_terms(
    tx: Tx,
    *,
    tenant_id: UUID,
    customer_id: UUID,
    net_days: int,
    consolidate: bool,
    cause: UUID | None,
) -> None:
    """Replace a customer's terms; they hold for invoices issued from now on. Raises not_found."""
    key = (tenant_id, customer_id)
    locked = await subscriptions.lock_accounts(tx, [key])
    found = (await accounts.customers(tx, [key])).get(key)
    if found is None:
        raise Problem("not_found", detail="There is no such customer.")
    at = (await subscriptions.moments(tx, locked, locked))[key]
    await accounts.set_terms(
        tx,
        [{"tenant_id": tenant_id, "id": customer_id, "net_days": net_days,
          "consolidate": consolidate}],
    )  # fmt: skip
    data = {"customer_id": ids.text("cus", customer_id), "external_id": found.external_id,
            "currency": found.currency, "timezone": found.timezone}  # fmt: skip
    tx.emit([Event(type=events.CUSTOMER_UPDATED, tenant_id=tenant_id, subject=customer_id,
                   data=data, occurred_at=at, cause=cause)])  # fmt: skip
