"""What dunning has to know about accounts and subscriptions, learnt from billing's events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Row

from subledger.platform.bulk import Insert, by_keys, split
from subledger.platform.db import Tx, sql
from subledger.services.scheduler import tables
from subledger.services.scheduler.store.collections import Key

_PUT_ACCOUNTS = Insert(
    tables.accounts,
    ["tenant_id", "id", "timezone"],
    conflict="(tenant_id, id) DO UPDATE SET timezone = excluded.timezone",
)
_PUT_SUBSCRIPTIONS = Insert(
    tables.subscriptions,
    ["tenant_id", "id", "account_id", "plan_id", "product_id", "currency"],
    conflict="(tenant_id, id) DO UPDATE SET account_id = excluded.account_id,"
    " plan_id = excluded.plan_id, product_id = excluded.product_id,"
    " currency = excluded.currency",
)
_TIMEZONES = sql(
    "SELECT a.tenant_id, a.id, a.timezone"
    f" {by_keys('scheduler.accounts a', tenant_id='tenants', id='ids')}"
)
_SUBSCRIPTIONS = sql(
    "SELECT s.tenant_id, s.id, s.account_id, s.plan_id, s.product_id, s.currency"
    f" {by_keys('scheduler.subscriptions s', tenant_id='tenants', id='ids')}"
)


async def put_accounts(tx: Tx, rows: Iterable[Mapping[str, Any]]) -> None:
    """Learn or refresh accounts."""
    await _PUT_ACCOUNTS(tx, sorted(rows, key=lambda row: (row["tenant_id"], row["id"])))


async def put_subscriptions(tx: Tx, rows: Iterable[Mapping[str, Any]]) -> None:
    """Learn or refresh subscriptions."""
    await _PUT_SUBSCRIPTIONS(tx, sorted(rows, key=lambda row: (row["tenant_id"], row["id"])))


async def timezones(tx: Tx, accounts: Iterable[Key]) -> dict[Key, str]:
    """The zone of each account that is known."""
    rows = await tx.rows(_TIMEZONES, **split(accounts))
    return {(row.tenant_id, row.id): row.timezone for row in rows}


async def subscriptions(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """The subscriptions that are known."""
    rows = await tx.rows(_SUBSCRIPTIONS, **split(keys))
    return {(row.tenant_id, row.id): row for row in rows}
