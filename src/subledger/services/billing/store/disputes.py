"""Disputes that are booked, and the tenant's access policy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.bulk import Insert, Update, by_keys, split
from subledger.platform.db import Tx, sql
from subledger.services.billing import tables
from subledger.services.billing.store.subscriptions import Key

_COLUMNS = [column.name for column in tables.disputes.c]
_SELECTED = ", ".join(
    "d.suspended::text AS suspended" if name == "suspended" else f"d.{name}" for name in _COLUMNS
)
_DISPUTES = sql(
    f"SELECT {_SELECTED} {by_keys('billing.disputes d', tenant_id='tenants', id='ids')}"
)
_HELD = sql(
    "SELECT d.tenant_id, d.attempt_id, d.amount_minor"
    f" {by_keys('billing.disputes d', tenant_id='tenants', attempt_id='ids')}"
    " WHERE d.state <> 'won'"
)
_OPEN_OF = sql(
    f"SELECT {_SELECTED} FROM billing.disputes d"
    " WHERE d.tenant_id = :tenant AND d.account_id = :account AND d.state = 'opened'"
)
_INSERT = Insert(tables.disputes, _COLUMNS)
_SAVE = Update(
    tables.disputes,
    keys=["tenant_id", "id"],
    sets=["state", "fee_minor", "suspended", "closed_at"],
)
_POLICY = sql("SELECT s.on_dispute FROM billing.dispute_settings s WHERE s.tenant_id = :tenant")
_PUT_POLICY = Insert(
    tables.dispute_settings,
    [column.name for column in tables.dispute_settings.c],
    conflict="(tenant_id) DO UPDATE SET on_dispute = excluded.on_dispute,"
    " updated_at = excluded.updated_at",
)


async def disputes(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """Disputes that are booked. The account's lock protects them."""
    rows = await tx.rows(_DISPUTES, **split(keys))
    return {(row.tenant_id, row.id): row for row in rows}


async def held(tx: Tx, attempt: Key) -> int:
    """What open and lost disputes took of an attempt's money (minor units)."""
    return sum(int(row.amount_minor) for row in await tx.rows(_HELD, **split([attempt])))


async def open_of(tx: Tx, account: Key) -> Sequence[Row[Any]]:
    """The open disputes of a locked account."""
    return await tx.rows(_OPEN_OF, tenant=account[0], account=account[1])


async def insert(tx: Tx, row: Mapping[str, Any]) -> None:
    """A dispute of a locked account; the database refuses one twice."""
    await _INSERT(tx, [row])


async def save(tx: Tx, row: Mapping[str, Any]) -> None:
    """A dispute of a locked account as it is now."""
    await _SAVE(tx, [row])


async def policy(tx: Tx, tenant_id: UUID) -> str:
    """What becomes of access while a payment is disputed: ``keep`` unless the tenant said more."""
    rows = await tx.rows(_POLICY, tenant=tenant_id)
    return str(rows[0].on_dispute) if rows else "keep"


async def put_policy(tx: Tx, row: Mapping[str, Any]) -> None:
    await _PUT_POLICY(tx, [row])
