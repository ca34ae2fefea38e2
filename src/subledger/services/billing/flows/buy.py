"""Buying waits for its own facts: the same code as when nobody waits, and a look at the result."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from uuid import UUID

from subledger.contracts.calls import Call
from subledger.contracts.checkouts import Checkouts, CollectionState
from subledger.platform.db import Database, Tx, sql, story

_READ = story("billing.read_bought", reads=True)
_LOOK_AGAIN_S = 0.05

_LAST_INVOICE = sql(
    """
    SELECT s.status, r.invoice_id FROM billing.subscriptions s
    LEFT JOIN billing.billing_runs r
      ON r.tenant_id = s.tenant_id AND r.subscription_id = s.id AND r.number = s.last_run_number
    WHERE s.tenant_id = :tenant AND s.id = :subscription
    """
)


@dataclass(frozen=True, slots=True)
class Bought:
    """How far a purchase has come. ``redirect_url`` is set when the payer has to act."""

    status: str
    invoice_id: UUID | None
    payment_status: str | None = None
    redirect_url: str | None = None
    failure_code: str | None = None


async def wait(
    database: Database,
    checkouts: Checkouts,
    *,
    tenant_id: UUID,
    subscription_id: UUID,
    wait_s: float,
) -> Bought:
    """Look until the subscription is active, its payer has to act or was refused, or ``wait_s``
    (wall clock) has passed. Reads only, so it can be given up at any moment."""
    deadline = time.monotonic() + wait_s
    while True:
        bought = await _look(database, checkouts, tenant_id, subscription_id)
        left_s = deadline - time.monotonic()
        settled = bought.status != "incomplete" or bought.payment_status in {
            "requires_action",
            "failed",
            "canceled",
        }
        if settled or left_s <= 0:
            return bought
        await database.wakeup.wait(min(_LOOK_AGAIN_S, left_s))
        await asyncio.sleep(0)


async def _look(
    database: Database, checkouts: Checkouts, tenant_id: UUID, subscription_id: UUID
) -> Bought:
    async def read(tx: Tx) -> tuple[str, UUID | None]:
        rows = await tx.rows(_LAST_INVOICE, tenant=tenant_id, subscription=subscription_id)
        return rows[0].status, rows[0].invoice_id

    status, invoice_id = await database.transact(_READ, read, tenants=[tenant_id])
    if status != "incomplete" or invoice_id is None:
        return Bought(status, invoice_id)
    states: list[CollectionState] = list(
        await checkouts.collection_states(Call(tenant_id), [invoice_id])
    )
    state = states[0]
    return Bought(status, invoice_id, state.status, state.redirect_url, state.failure_code)
