"""Discounts: the catalogue's, those of a customer, those attached to subscriptions, and how a
tenant's discounts stack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.bulk import Insert, Update, split
from subledger.platform.db import Tx, sql
from subledger.services.billing import tables
from subledger.services.billing.store.subscriptions import Key

_WANTED = "unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[])) AS w(tenant_id, id)"

_INSERT = Insert(
    tables.discounts,
    [column.name for column in tables.discounts.c if column.name != "archived_at"],
    conflict="(tenant_id, code) DO NOTHING",
)
_ARCHIVE = Update(tables.discounts, keys=["tenant_id", "id"], sets=["archived_at"])
_COLUMNS = (
    "d.tenant_id, d.id, d.code, d.name, d.kind, d.percent, d.amount_minor, d.currency,"
    " d.duration, d.periods, d.terms::text AS terms, d.created_at, d.archived_at"
)
_DISCOUNTS = sql(f"SELECT {_COLUMNS} FROM billing.discounts d JOIN {_WANTED} USING (tenant_id, id)")
_LOCK = sql(
    f"SELECT {_COLUMNS} FROM billing.discounts d JOIN {_WANTED} USING (tenant_id, id)"
    " ORDER BY d.tenant_id, d.id FOR NO KEY UPDATE OF d"
)
_LIST = sql(
    f"SELECT {_COLUMNS} FROM billing.discounts d WHERE d.tenant_id = :tenant AND d.id < :before"
    " ORDER BY d.id DESC LIMIT :limit"
)
_BY_CODE = sql(
    f"SELECT {_COLUMNS} FROM billing.discounts d"
    " WHERE d.tenant_id = :tenant AND d.code = :code AND d.id < :before"
)
_KNOWN_NAMES = sql(
    """
    SELECT w.n FROM unnest(CAST(:kinds AS text[]), CAST(:codes AS text[]), CAST(:ids AS uuid[]))
        WITH ORDINALITY AS w(kind, code, id, n)
    WHERE CASE w.kind
        WHEN 'price_id' THEN EXISTS (
            SELECT FROM billing.prices r WHERE r.tenant_id = :tenant AND r.id = w.id)
        WHEN 'plan_id' THEN EXISTS (
            SELECT FROM billing.plans r WHERE r.tenant_id = :tenant AND r.id = w.id)
        WHEN 'product_id' THEN EXISTS (
            SELECT FROM billing.products r WHERE r.tenant_id = :tenant AND r.id = w.id)
        WHEN 'price' THEN EXISTS (
            SELECT FROM billing.prices r WHERE r.tenant_id = :tenant AND r.code = w.code)
        WHEN 'plan' THEN EXISTS (
            SELECT FROM billing.plans r WHERE r.tenant_id = :tenant AND r.code = w.code)
        WHEN 'product' THEN EXISTS (
            SELECT FROM billing.products r WHERE r.tenant_id = :tenant AND r.code = w.code)
        ELSE false END
    """
)

_ATTACHED = (
    "a.tenant_id, a.subscription_id, a.n, a.discount_id, a.source, a.promotion_id, a.from_at,"
    " a.until_at, a.used_periods"
)
_ATTACHMENTS = sql(
    f"SELECT {_ATTACHED} FROM billing.subscription_discounts a"
    " JOIN unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[])) AS w(tenant_id, subscription_id)"
    " USING (tenant_id, subscription_id) ORDER BY a.tenant_id, a.subscription_id, a.n"
)
_LIST_ATTACHMENTS = sql(
    f"SELECT {_ATTACHED} FROM billing.subscription_discounts a WHERE a.tenant_id = :tenant"
    " AND a.subscription_id = :subscription AND a.n < :before ORDER BY a.n DESC LIMIT :limit"
)
_ATTACH = Insert(
    tables.subscription_discounts,
    [
        *("tenant_id", "subscription_id", "n", "discount_id", "used_periods", "from_at"),
        *("source", "promotion_id"),
    ],
)
_DETACH = Update(
    tables.subscription_discounts,
    keys=["tenant_id", "subscription_id", "n"],
    sets=["until_at"],
)

_OF_CUSTOMER = "c.tenant_id, c.customer_id, c.discount_id, c.added_at, c.removed_at"
_CUSTOMER_DISCOUNTS = sql(
    f"SELECT {_OF_CUSTOMER} FROM billing.customer_discounts c"
    " JOIN unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[])) AS w(tenant_id, customer_id)"
    " USING (tenant_id, customer_id) ORDER BY c.tenant_id, c.customer_id, c.added_at, c.discount_id"
)
_LIST_CUSTOMER_DISCOUNTS = sql(
    f"SELECT {_OF_CUSTOMER}, c.discount_id AS id FROM billing.customer_discounts c"
    " WHERE c.tenant_id = :tenant AND c.customer_id = :customer AND c.discount_id < :before"
    " ORDER BY c.discount_id DESC LIMIT :limit"
)
_ADD = Insert(
    tables.customer_discounts,
    [column.name for column in tables.customer_discounts.c],
    conflict="(tenant_id, customer_id, discount_id) DO UPDATE"
    " SET added_at = excluded.added_at, removed_at = excluded.removed_at",
)
_REMOVE = Update(
    tables.customer_discounts,
    keys=["tenant_id", "customer_id", "discount_id"],
    sets=["removed_at"],
)
_LIVE = sql(
    "SELECT s.tenant_id, s.id FROM billing.subscriptions s WHERE s.tenant_id = :tenant"
    " AND s.payer_id = :customer AND s.status = ANY (CAST(:live AS text[]))"
    " ORDER BY s.number LIMIT :limit"
)

_SETTINGS = sql(
    "SELECT s.tenant_id, s.from_at, s.stacking, s.exclusive, s.split"
    " FROM billing.discount_settings s WHERE s.tenant_id = ANY (CAST(:tenants AS uuid[]))"
    " ORDER BY s.tenant_id, s.from_at"
)
_SAVE_SETTINGS = Insert(
    tables.discount_settings,
    [column.name for column in tables.discount_settings.c],
    conflict="(tenant_id, from_at) DO UPDATE SET stacking = excluded.stacking,"
    " exclusive = excluded.exclusive, split = excluded.split",
)


def _by_key(rows: Iterable[Row[Any]]) -> dict[Key, Row[Any]]:
    return {(row.tenant_id, row.id): row for row in rows}


# --- the catalogue -------------------------------------------------------------------------------


async def insert_discounts(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> int:
    """``terms`` is JSON text. One whose code is taken in its tenant is left out; tells how many
    were written."""
    return await _INSERT(tx, sorted(rows, key=lambda each: (each["tenant_id"].bytes, each["code"])))


async def archive_discounts(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Say since when locked discounts are archived."""
    await _ARCHIVE(tx, rows)


async def discounts(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """Discounts of the catalogue, archived ones too."""
    return _by_key(await tx.rows(_DISCOUNTS, **split(keys)))


async def lock_discounts(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    return _by_key(await tx.rows(_LOCK, **split(keys)))


async def list_discounts(
    tx: Tx, tenant_id: UUID, *, code: str | None, before: UUID, limit: int
) -> list[Row[Any]]:
    """Discounts with an id below ``before``, newest first."""
    if code is not None:
        return list(await tx.rows(_BY_CODE, tenant=tenant_id, code=code, before=before))
    return list(await tx.rows(_LIST, tenant=tenant_id, before=before, limit=limit))


async def known_names(
    tx: Tx, tenant_id: UUID, names: Sequence[tuple[str, str | None, UUID | None]]
) -> set[int]:
    """Which of the names (kind, code, id) exist in the catalogue, by their place."""
    rows = await tx.rows(
        _KNOWN_NAMES,
        tenant=tenant_id,
        kinds=[kind for kind, _, _ in names],
        codes=[code for _, code, _ in names],
        ids=[each for _, _, each in names],
    )
    return {row.n - 1 for row in rows}


# --- attached to subscriptions -------------------------------------------------------------------


async def attachments(tx: Tx, keys: Iterable[Key]) -> dict[Key, list[Row[Any]]]:
    """Every discount that each subscription has or had, in the order of attachment."""
    found: dict[Key, list[Row[Any]]] = {}
    for row in await tx.rows(_ATTACHMENTS, **split(keys)):
        found.setdefault((row.tenant_id, row.subscription_id), []).append(row)
    return found


async def list_attachments(
    tx: Tx, tenant_id: UUID, subscription_id: UUID, *, before: int, limit: int
) -> list[Row[Any]]:
    """A subscription's discounts below number ``before``, the latest first."""
    given = {"tenant": tenant_id, "subscription": subscription_id}
    return list(
        await tx.rows(_LIST_ATTACHMENTS, **given, before=min(before, (1 << 31) - 1), limit=limit)
    )


async def attach(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Attach discounts to locked (or new) subscriptions; each discount once."""
    await _ATTACH(tx, rows)


async def set_until(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Set or clear where discounts of locked subscriptions end."""
    await _DETACH(tx, rows)


# --- of a customer -------------------------------------------------------------------------------


async def customer_discounts(tx: Tx, keys: Iterable[Key]) -> dict[Key, list[Row[Any]]]:
    """The personal discounts of each customer, removed ones too, the earliest first."""
    found: dict[Key, list[Row[Any]]] = {}
    for row in await tx.rows(_CUSTOMER_DISCOUNTS, **split(keys)):
        found.setdefault((row.tenant_id, row.customer_id), []).append(row)
    return found


async def list_customer_discounts(
    tx: Tx, tenant_id: UUID, customer_id: UUID, *, before: UUID, limit: int
) -> list[Row[Any]]:
    """A customer's personal discounts with an id below ``before``, removed ones too."""
    given = {"tenant": tenant_id, "customer": customer_id, "before": before}
    return list(await tx.rows(_LIST_CUSTOMER_DISCOUNTS, **given, limit=limit))


async def add_to_customers(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Give locked customers discounts, anew if they had them before."""
    await _ADD(tx, rows)


async def remove_from_customers(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Take personal discounts from locked customers."""
    await _REMOVE(tx, rows)


async def live_subscriptions(
    tx: Tx, tenant_id: UUID, customer_id: UUID, *, live: Iterable[str], limit: int
) -> list[Key]:
    """The subscriptions in one of the ``live`` states that a customer pays for."""
    rows = await tx.rows(
        _LIVE, tenant=tenant_id, customer=customer_id, live=sorted(live), limit=limit
    )
    return [(row.tenant_id, row.id) for row in rows]


# --- how they stack ------------------------------------------------------------------------------


async def settings(tx: Tx, tenants: Iterable[UUID]) -> dict[UUID, list[Row[Any]]]:
    """Each tenant's settings over time, the earliest first; nothing for one without."""
    found: dict[UUID, list[Row[Any]]] = {}
    for row in await tx.rows(_SETTINGS, tenants=sorted(set(tenants))):
        found.setdefault(row.tenant_id, []).append(row)
    return found


async def save_settings(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Settings from a moment on; those of the same moment are replaced."""
    await _SAVE_SETTINGS(tx, rows)
