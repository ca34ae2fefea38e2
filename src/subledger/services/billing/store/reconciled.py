"""What reconciliation leaves in the books: payouts, receipts taken back, differences' items."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.bulk import Insert, Update, by_keys, split
from subledger.platform.db import Tx, sql
from subledger.services.billing import tables
from subledger.services.billing.store.subscriptions import Key

_INSERT_PAYOUTS = Insert(
    tables.payouts,
    [column.name for column in tables.payouts.c],
    conflict="(tenant_id, id) DO NOTHING",
)
_LOCK_RECEIPTS = sql(
    "SELECT r.tenant_id, r.payment_id, r.attempt_id, r.account_id, r.invoice_id, r.applied_minor,"
    " r.unapplied_minor, r.currency"
    f" {by_keys('billing.receipts r', tenant_id='tenants', attempt_id='ids')}"
    " WHERE r.reversed_at IS NULL FOR NO KEY UPDATE OF r"
)
_REVERSE = Update(
    tables.receipts, keys=["tenant_id", "attempt_id"], sets=["reversed_at", "stays_applied"]
)
_RECEIVE_MORE = Update(tables.receipts, keys=["tenant_id", "attempt_id"], sets=["unapplied_minor"])
_INSERT_DIFFERENCES = Insert(tables.differences, [each.name for each in tables.differences.c])
_ITEMS_OF = sql(
    "SELECT d.tenant_id, d.id, d.work_item_id"
    f" {by_keys('billing.differences d', tenant_id='tenants', id='ids')}"
)
_DIFFERENCE_OF = sql(
    "SELECT d.id FROM billing.differences d WHERE d.tenant_id = :tenant AND d.work_item_id = :item"
)


async def insert_payout(tx: Tx, row: Mapping[str, Any]) -> bool:
    """Remember that a payout is booked; False if it was."""
    return await _INSERT_PAYOUTS(tx, [row]) > 0


async def lock_receipt(tx: Tx, attempt: Key) -> Row[Any] | None:
    """What is booked of an attempt's money, locked; None if nothing is (any more)."""
    rows = await tx.rows(_LOCK_RECEIPTS, **split([attempt]))
    return rows[0] if rows else None


async def reverse(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Locked receipts are taken back."""
    await _REVERSE(tx, rows)


async def receive_more(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Locked receipts have another unapplied part."""
    await _RECEIVE_MORE(tx, rows)


async def insert_differences(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Which work items differences have."""
    await _INSERT_DIFFERENCES(tx, rows)


async def items_of(tx: Tx, differences: Iterable[Key]) -> dict[Key, UUID]:
    """The work item of each difference that has one."""
    rows = await tx.rows(_ITEMS_OF, **split(differences))
    return {(row.tenant_id, row.id): row.work_item_id for row in rows}


async def difference_of(tx: Tx, item: Key) -> UUID | None:
    """The difference that a work item is about."""
    rows = await tx.rows(_DIFFERENCE_OF, tenant=item[0], item=item[1])
    return rows[0].id if rows else None
