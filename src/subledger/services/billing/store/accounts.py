"""Customers' accounts: creating, changing, finding them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.bulk import Insert, Update, split
from subledger.platform.db import Tx, sql
from subledger.services.billing import tables
from subledger.services.billing.store.subscriptions import Key

LAST = UUID(int=(1 << 128) - 1)
"""Beyond every id: where a list that shows the newest first begins."""

_COLUMNS = (
    "a.tenant_id, a.id, a.external_id, a.name, a.email, a.currency, a.timezone, a.locale,"
    " a.country, a.net_days, a.consolidate, a.region, a.tax_id, a.tax_id_check,"
    " a.tax_id_checked_at, a.tax_exempt_reason, a.tax_rate_ids,"
    " a.last_occurred_at, a.created_at, a.deleted_at"
)
_WANTED = "unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[])) AS w(tenant_id, id)"

_TAXES = (
    *("region", "tax_id", "tax_id_check", "tax_id_checked_at"),
    *("tax_exempt_reason", "tax_rate_ids"),
)
_INSERT = Insert(
    tables.accounts,
    [
        "tenant_id",
        "id",
        "external_id",
        "name",
        "email",
        "email_normalized",
        "currency",
        "timezone",
        "locale",
        "country",
        *_TAXES,
        "last_occurred_at",
        "created_at",
    ],
    conflict="(tenant_id, external_id) DO NOTHING",
)
_UPDATE = Update(
    tables.accounts,
    keys=["tenant_id", "id"],
    sets=[
        *("name", "email", "email_normalized", "currency", "timezone", "locale", "country"),
        *_TAXES,
    ],
)
_DELETE = Update(tables.accounts, keys=["tenant_id", "id"], sets=["deleted_at"])
_TERMS = Update(tables.accounts, keys=["tenant_id", "id"], sets=["net_days", "consolidate"])
_CUSTOMERS = sql(
    f"SELECT {_COLUMNS} FROM billing.accounts a JOIN {_WANTED} USING (tenant_id, id)"
    " WHERE a.deleted_at IS NULL"
)
_LIST = sql(
    f"SELECT {_COLUMNS} FROM billing.accounts a"
    " WHERE a.tenant_id = :tenant AND a.id < :before AND a.deleted_at IS NULL"
    " ORDER BY a.id DESC LIMIT :limit"
)
_BY_EXTERNAL_ID = sql(
    f"SELECT {_COLUMNS} FROM billing.accounts a"
    " WHERE a.tenant_id = :tenant AND a.external_id = :external_id AND a.id < :before"
    " AND a.deleted_at IS NULL"
)
_WITH_LIVE_SUBSCRIPTIONS = sql(
    f"""
    SELECT w.tenant_id, w.id FROM {_WANTED}
    WHERE EXISTS (SELECT FROM billing.subscriptions s WHERE s.tenant_id = w.tenant_id
                    AND s.payer_id = w.id AND s.status = ANY (CAST(:live AS text[])))
       OR EXISTS (SELECT FROM billing.subscriptions s WHERE s.tenant_id = w.tenant_id
                    AND s.beneficiary_id = w.id AND s.status = ANY (CAST(:live AS text[])))
    """
)
_EVER_BILLED = sql(
    f"""
    SELECT w.tenant_id, w.id FROM {_WANTED}
    WHERE EXISTS (SELECT FROM billing.subscriptions s
                  WHERE s.tenant_id = w.tenant_id AND s.payer_id = w.id)
       OR EXISTS (SELECT FROM billing.balances b
                  WHERE b.tenant_id = w.tenant_id AND b.account_id = w.id)
    """
)


async def insert_accounts(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert accounts; one whose external id is taken in its tenant is left out. Tells how many
    were written. ``tax_rate_ids`` is JSON text of a list."""
    ordered = sorted(rows, key=lambda each: (each["tenant_id"].bytes, each["external_id"]))
    return await _INSERT(tx, ordered)


async def update_accounts(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace the contacts and settings of accounts that are locked; ``tax_rate_ids`` is JSON text
    of a list."""
    await _UPDATE(tx, rows)


async def delete_accounts(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Mark accounts as deleted (locked). Their books stay."""
    await _DELETE(tx, rows)


async def set_terms(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace how the invoices of accounts (locked) are issued."""
    await _TERMS(tx, rows)


async def customers(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """Customers that exist and are not deleted, with all their fields."""
    rows = await tx.rows(_CUSTOMERS, **split(keys))
    return {(row.tenant_id, row.id): row for row in rows}


async def list_customers(
    tx: Tx, tenant_id: UUID, *, external_id: str | None, before: UUID, limit: int
) -> list[Row[Any]]:
    """Customers with an id below ``before``, newest first."""
    if external_id is not None:
        return list(
            await tx.rows(_BY_EXTERNAL_ID, tenant=tenant_id, external_id=external_id, before=before)
        )
    return list(await tx.rows(_LIST, tenant=tenant_id, before=before, limit=limit))


async def with_live_subscriptions(tx: Tx, keys: Iterable[Key], *, live: Iterable[str]) -> set[Key]:
    """Which accounts pay for, or use, a subscription in one of the ``live`` states."""
    rows = await tx.rows(_WITH_LIVE_SUBSCRIPTIONS, **split(keys), live=sorted(live))
    return {(row.tenant_id, row.id) for row in rows}


async def ever_billed(tx: Tx, keys: Iterable[Key]) -> set[Key]:
    """Which accounts have had a subscription or an entry, and so are bound to their currency."""
    rows = await tx.rows(_EVER_BILLED, **split(keys))
    return {(row.tenant_id, row.id) for row in rows}
