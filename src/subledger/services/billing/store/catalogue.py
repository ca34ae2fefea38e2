"""The catalogue: products, plans with versions and prices."""

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
_NEW_CODE = "(tenant_id, code) DO NOTHING"

_INSERT_PRODUCTS = Insert(
    tables.products, [column.name for column in tables.products.c], conflict=_NEW_CODE
)
_INSERT_PLANS = Insert(tables.plans, [column.name for column in tables.plans.c], conflict=_NEW_CODE)
_INSERT_VERSIONS = Insert(tables.plan_versions, [column.name for column in tables.plan_versions.c])
_INSERT_PRICES = Insert(tables.prices, [column.name for column in tables.prices.c])
_UPDATE_PRODUCTS = Update(
    tables.products, keys=["tenant_id", "id"], sets=["name", "resources", "tax_category"]
)
_UPDATE_PLANS = Update(tables.plans, keys=["tenant_id", "id"], sets=["latest_version"])

_PRODUCT = "p.tenant_id, p.id, p.code, p.name, p.resources, p.tax_category, p.created_at"
_PRODUCTS = sql(f"SELECT {_PRODUCT} FROM billing.products p JOIN {_WANTED} USING (tenant_id, id)")
_LOCK_PRODUCTS = sql(
    f"SELECT {_PRODUCT} FROM billing.products p JOIN {_WANTED} USING (tenant_id, id)"
    " ORDER BY p.tenant_id, p.id FOR NO KEY UPDATE OF p"
)
_LIST_PRODUCTS = sql(
    f"SELECT {_PRODUCT} FROM billing.products p WHERE p.tenant_id = :tenant AND p.id < :before"
    " ORDER BY p.id DESC LIMIT :limit"
)
_PRODUCTS_BY_CODE = sql(
    f"SELECT {_PRODUCT} FROM billing.products p"
    " WHERE p.tenant_id = :tenant AND p.code = :code AND p.id < :before"
)

_PLAN = (
    "p.tenant_id, p.id, p.product_id, p.code, p.name, p.created_at, v.id AS plan_version_id,"
    " v.version, v.grace_s, v.trial_days, v.trial_requires_payment_method, v.grace_at_start,"
    " v.created_at AS version_created_at"
)
_LATEST = (
    " JOIN billing.plan_versions v ON v.tenant_id = p.tenant_id AND v.plan_id = p.id"
    " AND v.version = p.latest_version"
)
_PLANS = sql(f"SELECT {_PLAN} FROM billing.plans p JOIN {_WANTED} USING (tenant_id, id) {_LATEST}")
_LOCK_PLANS = sql(
    "SELECT p.tenant_id, p.id, p.code, p.product_id, p.latest_version FROM billing.plans p"
    f" JOIN {_WANTED} USING (tenant_id, id) ORDER BY p.tenant_id, p.id FOR NO KEY UPDATE OF p"
)
_LIST_PLANS = sql(
    f"SELECT {_PLAN} FROM billing.plans p {_LATEST}"
    " WHERE p.tenant_id = :tenant AND p.id < :before ORDER BY p.id DESC LIMIT :limit"
)
_PLANS_BY_CODE = sql(
    f"SELECT {_PLAN} FROM billing.plans p {_LATEST}"
    " WHERE p.tenant_id = :tenant AND p.code = :code AND p.id < :before"
)
_LIST_VERSIONS = sql(
    f"SELECT {_PLAN} FROM billing.plans p"
    " JOIN billing.plan_versions v ON v.tenant_id = p.tenant_id AND v.plan_id = p.id"
    " WHERE p.tenant_id = :tenant AND p.id = :plan AND v.version < CAST(:before AS bigint)"
    " ORDER BY v.version DESC LIMIT :limit"
)


def _by_key(rows: Iterable[Row[Any]]) -> dict[Key, Row[Any]]:
    return {(row.tenant_id, row.id): row for row in rows}


def _by_code(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(rows, key=lambda each: (each["tenant_id"].bytes, each["code"]))


# Of the inserts below, one whose code is taken in its tenant is left out; each tells how many
# were written.


async def insert_products(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> int:
    """``resources`` is JSON text of a list."""
    return await _INSERT_PRODUCTS(tx, _by_code(rows))


async def insert_plans(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> int:
    return await _INSERT_PLANS(tx, _by_code(rows))


async def insert_versions(
    tx: Tx, versions: Sequence[Mapping[str, Any]], prices: Sequence[Mapping[str, Any]]
) -> None:
    """Plan versions with their prices. They never change afterwards."""
    await _INSERT_VERSIONS(tx, versions)
    await _INSERT_PRICES(tx, prices)


async def update_products(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace name, resources (JSON text) and tax category of locked products."""
    await _UPDATE_PRODUCTS(tx, rows)


async def update_plans(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Point locked plans to their latest version."""
    await _UPDATE_PLANS(tx, rows)


async def products(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    return _by_key(await tx.rows(_PRODUCTS, **split(keys)))


async def lock_products(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    return _by_key(await tx.rows(_LOCK_PRODUCTS, **split(keys)))


async def list_products(
    tx: Tx, tenant_id: UUID, *, code: str | None, before: UUID, limit: int
) -> list[Row[Any]]:
    """Products with an id below ``before``, newest first."""
    if code is not None:
        return list(await tx.rows(_PRODUCTS_BY_CODE, tenant=tenant_id, code=code, before=before))
    return list(await tx.rows(_LIST_PRODUCTS, tenant=tenant_id, before=before, limit=limit))


async def plans(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """Plans with their latest version."""
    return _by_key(await tx.rows(_PLANS, **split(keys)))


async def lock_plans(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    return _by_key(await tx.rows(_LOCK_PLANS, **split(keys)))


async def list_plans(
    tx: Tx, tenant_id: UUID, *, code: str | None, before: UUID, limit: int
) -> list[Row[Any]]:
    """Plans with an id below ``before``, newest first, each with its latest version."""
    if code is not None:
        return list(await tx.rows(_PLANS_BY_CODE, tenant=tenant_id, code=code, before=before))
    return list(await tx.rows(_LIST_PLANS, tenant=tenant_id, before=before, limit=limit))


async def list_versions(
    tx: Tx, tenant_id: UUID, plan_id: UUID, *, before: int, limit: int
) -> list[Row[Any]]:
    """Versions of a plan below number ``before``, newest first."""
    return list(
        await tx.rows(_LIST_VERSIONS, tenant=tenant_id, plan=plan_id, before=before, limit=limit)
    )
