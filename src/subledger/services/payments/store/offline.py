"""How money came that no provider took."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from subledger.platform.bulk import Insert, by_keys
from subledger.platform.db import Tx, sql
from subledger.services.payments import tables
from subledger.services.payments.store.payments import Key, split

_INSERT = Insert(
    tables.offline_payments, ["tenant_id", "payment_id", "method", "reference", "received_at"]
)
_OF_PAYMENTS = sql(
    "SELECT o.tenant_id, o.payment_id, o.method, o.received_at, o.reversed_at"
    f" {by_keys('payments.offline_payments o', tenant_id='tenants', payment_id='ids')}"
)
_REVERSE = sql(
    "UPDATE payments.offline_payments SET reversed_at = :at, reversal_reason = :reason"
    " WHERE tenant_id = :tenant AND payment_id = :id AND reversed_at IS NULL"
)


async def insert(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """How payments of this transaction came."""
    await _INSERT(tx, rows)


async def of_payments(tx: Tx, payments: Iterable[Key]) -> dict[Key, Row[Any]]:
    """How those payments came that came off-line."""
    rows = await tx.rows(_OF_PAYMENTS, **split(payments))
    return {(row.tenant_id, row.payment_id): row for row in rows}


async def reverse(tx: Tx, payment: Key, *, at: datetime, reason: str) -> None:
    """It was no money after all; the payment is locked."""
    await tx.run(_REVERSE, tenant=payment[0], id=payment[1], at=at, reason=reason)
