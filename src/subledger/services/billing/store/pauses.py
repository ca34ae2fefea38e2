"""Pauses of subscriptions: the one that waits or runs, and those that are over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from subledger.platform.bulk import Insert, Update, by_keys, split
from subledger.platform.db import Tx, sql
from subledger.services.billing import tables
from subledger.services.billing.store.subscriptions import Key

_COLUMNS = [column.name for column in tables.pauses.c]
_SELECTED = ", ".join(f"p.{name}" for name in _COLUMNS)
_INSERT = Insert(tables.pauses, _COLUMNS)
_SAVE = Update(tables.pauses, keys=["tenant_id", "subscription_id", "n"], sets=_COLUMNS[3:])
_OPEN = sql(
    f"SELECT {_SELECTED}"
    f" {by_keys('billing.pauses p', tenant_id='tenants', subscription_id='ids')}"
    " WHERE p.state <> 'over'"
)
_LAST = sql(
    "SELECT max(p.n) AS n FROM billing.pauses p"
    " WHERE p.tenant_id = :tenant AND p.subscription_id = :subscription"
)
_EXTENDING = sql(
    f"SELECT {_SELECTED} FROM billing.pauses p"
    " WHERE p.tenant_id = :tenant AND p.subscription_id = :subscription"
    " AND p.credit = 'extend' AND p.state <> 'scheduled'"
    " AND p.anchor_at = :anchor_at AND p.period_number = :period_number ORDER BY p.n"
)
_FORGET = sql(
    "DELETE FROM billing.pauses AS p"
    " USING unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[])) AS w(tenant_id, id)"
    " WHERE p.tenant_id = w.tenant_id AND p.subscription_id = w.id AND p.state = 'scheduled'"
)
_STOP = sql(
    "UPDATE billing.pauses AS p SET state = 'over'"
    " FROM unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[])) AS w(tenant_id, id)"
    " WHERE p.tenant_id = w.tenant_id AND p.subscription_id = w.id AND p.state = 'running'"
)


async def insert(tx: Tx, row: Mapping[str, Any]) -> None:
    """A pause of a locked subscription, which has none that waits or runs; numbers it."""
    last = await tx.rows(_LAST, tenant=row["tenant_id"], subscription=row["subscription_id"])
    empty = dict.fromkeys(_COLUMNS)
    await _INSERT(tx, [{**empty, **row, "n": (last[0].n or 0) + 1}])


async def save(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Pauses of locked subscriptions as they are now."""
    await _SAVE(tx, rows)


async def open_pauses(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """The pause that each subscription waits for or is in."""
    rows = await tx.rows(_OPEN, **split(keys))
    return {(row.tenant_id, row.subscription_id): row for row in rows}


async def extending(
    tx: Tx, key: Key, *, anchor_at: datetime, period_number: int
) -> Sequence[Row[Any]]:
    """The pauses that extend one period of a subscription, in their order."""
    return await tx.rows(
        _EXTENDING,
        tenant=key[0],
        subscription=key[1],
        anchor_at=anchor_at,
        period_number=period_number,
    )


async def forget(tx: Tx, keys: Iterable[Key]) -> None:
    """Delete the pauses that locked subscriptions wait for."""
    await tx.run(_FORGET, **split(keys))


async def stop(tx: Tx, keys: Iterable[Key]) -> None:
    """The pauses of subscriptions that end are over, and nothing was resumed."""
    await tx.run(_STOP, **split(keys))
