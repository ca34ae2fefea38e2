"""What subscriptions used in a period, and prices agreed with single customers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row

from subledger.core.pricing import PriceModel, Usage, from_data
from subledger.platform.bulk import Insert, by_keys, split
from subledger.platform.db import Tx, sql
from subledger.services.billing import tables
from subledger.services.billing.store.subscriptions import Key

MOST_PERIODS = 100
"""Periods of one subscription and price that are read to bill; older ones are settled."""

_PUT_USED = Insert(
    tables.used_quantities,
    [column.name for column in tables.used_quantities.c],
    conflict="(tenant_id, subscription_id, price_id, period_start_at)"
    " DO UPDATE SET used = excluded.used, recorded_at = excluded.recorded_at",
)
_USED = sql(
    "SELECT u.tenant_id, u.subscription_id, u.price_id, u.period_start_at, u.used::text AS used"
    f" {by_keys('billing.used_quantities u', tenant_id='tenants', subscription_id='ids')}"
)
_USED_OF = sql(
    "SELECT u.price_id, u.period_start_at, u.used::text AS used, u.recorded_at"
    " FROM billing.used_quantities u"
    " WHERE u.tenant_id = :tenant AND u.subscription_id = :subscription"
    " ORDER BY u.period_start_at DESC, u.price_id LIMIT :limit"
)
_PUT_AGREED = Insert(
    tables.agreed_prices,
    [column.name for column in tables.agreed_prices.c],
    conflict="(tenant_id, account_id, price_id, from_at)"
    " DO UPDATE SET model = excluded.model, terms = excluded.terms",
)
_AGREED = sql(
    "SELECT p.tenant_id, p.account_id, p.price_id, p.from_at, p.model, p.terms::text AS terms"
    f" {by_keys('billing.agreed_prices p', tenant_id='tenants', account_id='ids')}"
    " ORDER BY p.tenant_id, p.account_id, p.price_id, p.from_at"
)
_PRICES = sql(
    "SELECT r.tenant_id, r.id, r.plan_version_id, r.model, r.currency, r.metered"
    " FROM billing.prices r"
    " JOIN unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[])) AS w(tenant_id, id)"
    " USING (tenant_id, id)"
)


async def put_used(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Say what was used in periods of locked subscriptions; it replaces what was said before."""
    await _PUT_USED(tx, rows)


async def used(tx: Tx, keys: Iterable[Key]) -> dict[Key, dict[tuple[str, datetime], Usage]]:
    """What each subscription used, by price and start of the period."""
    found: dict[Key, dict[tuple[str, datetime], Usage]] = {}
    for row in await tx.rows(_USED, **split(keys)):
        key = (row.tenant_id, row.subscription_id)
        found.setdefault(key, {})[str(row.price_id), row.period_start_at] = usage(row.used)
    return found


def usage(text: str) -> Usage:
    """What was used, from its stored form."""
    data = msgspec.json.decode(text)
    amounts, parts = data.get("event_amounts"), data.get("by_dimensions")
    if amounts is not None:
        return Usage(event_amounts=tuple(map(Decimal, amounts)))
    if parts is not None:
        return Usage(
            by_dimensions={tuple(each["values"]): Decimal(each["quantity"]) for each in parts}
        )
    return Usage(Decimal(data["quantity"]), event_count=data.get("event_count"))


async def used_of(tx: Tx, key: Key, *, limit: int) -> list[Row[Any]]:
    """What one subscription used, the latest period first."""
    return list(await tx.rows(_USED_OF, tenant=key[0], subscription=key[1], limit=limit))


async def put_agreed(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Prices agreed with customers whose accounts are locked."""
    await _PUT_AGREED(tx, rows)


async def agreed(
    tx: Tx, accounts: Iterable[Key]
) -> dict[tuple[UUID, UUID, UUID], list[tuple[datetime, PriceModel]]]:
    """Prices agreed with the accounts, by tenant, account and price, the earliest first."""
    found: dict[tuple[UUID, UUID, UUID], list[tuple[datetime, PriceModel]]] = {}
    for row in await tx.rows(_AGREED, **split(accounts)):
        model = from_data(row.model, msgspec.json.decode(row.terms))
        key = (row.tenant_id, row.account_id, row.price_id)
        found.setdefault(key, []).append((row.from_at, model))
    return found


async def prices(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """Prices as the catalogue has them."""
    return {(row.tenant_id, row.id): row for row in await tx.rows(_PRICES, **split(keys))}
