"""Promo codes and their redemptions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.bulk import Insert, Update, by_keys, split
from subledger.platform.db import Tx, sql
from subledger.services.billing import tables
from subledger.services.billing.store.subscriptions import Key

_COLUMNS = (
    "p.tenant_id, p.id, p.code, p.generated, p.batch_id, p.discount_id, p.customer_id, p.plan_ids,"
    " p.currencies, p.minimum::text AS minimum, p.first_purchase_only, p.most_redemptions,"
    " p.most_per_customer, p.valid_from_at, p.valid_until_at, p.redemptions, p.created_at,"
    " p.deactivated_at"
)
_INSERT = Insert(
    tables.promotions,
    [column.name for column in tables.promotions.c if column.name != "deactivated_at"],
    conflict="(tenant_id, code) DO NOTHING",
)
_OFFERS = sql(f"SELECT {_COLUMNS} {by_keys('billing.promotions p', tenant_id='tenants', id='ids')}")
_LOCK = sql(
    f"SELECT {_COLUMNS} {by_keys('billing.promotions p', tenant_id='tenants', id='ids')}"
    " FOR NO KEY UPDATE OF p"
)
_FIND = sql(
    "SELECT p.tenant_id, p.id, p.code, p.generated"
    f" {by_keys('billing.promotions p', tenant_id='tenants', code='codes text')}"
)
# One pass over the tenant's codes at worst: joined code by code, ten thousand of them on statistics
# from before there were any cost a pass for each.
_TAKEN = sql(
    "SELECT p.code FROM billing.promotions p"
    " WHERE p.tenant_id = :tenant AND p.code = ANY (CAST(:codes AS text[]))"
)
_LIST = sql(
    f"SELECT {_COLUMNS} FROM billing.promotions p WHERE p.tenant_id = :tenant AND p.id < :before"
    " ORDER BY p.id DESC LIMIT :limit"
)
_LIST_OF_CODE = sql(
    f"SELECT {_COLUMNS} FROM billing.promotions p"
    " WHERE p.tenant_id = :tenant AND p.code = :code AND p.id < :before"
)
_LIST_OF_DISCOUNT = sql(
    f"SELECT {_COLUMNS} FROM billing.promotions p WHERE p.tenant_id = :tenant"
    " AND p.discount_id = :discount AND p.id < :before ORDER BY p.id DESC LIMIT :limit"
)
_LIST_OF_BATCH = sql(
    f"SELECT {_COLUMNS} FROM billing.promotions p WHERE p.tenant_id = :tenant"
    " AND p.batch_id = :batch AND p.id < :before ORDER BY p.id DESC LIMIT :limit"
)
_CODES_OF_BATCH = sql(
    "SELECT p.code FROM billing.promotions p"
    " WHERE p.tenant_id = :tenant AND p.batch_id = :batch ORDER BY p.id"
)
_COUNTED = Update(tables.promotions, keys=["tenant_id", "id"], sets=["redemptions"])
_DEACTIVATE = Update(tables.promotions, keys=["tenant_id", "id"], sets=["deactivated_at"])

_REDEEM = Insert(
    tables.promotion_redemptions,
    [column.name for column in tables.promotion_redemptions.c if column.name != "released_at"],
)
_RELEASE = Update(
    tables.promotion_redemptions,
    keys=["tenant_id", "promotion_id", "subscription_id"],
    sets=["released_at"],
)
_BY_CUSTOMER = sql(
    """
    SELECT w.tenant_id, w.promotion_id, w.customer_id, count(r.subscription_id) AS n
    FROM unnest(CAST(:tenants AS uuid[]), CAST(:promotions AS uuid[]), CAST(:customers AS uuid[]))
        AS w(tenant_id, promotion_id, customer_id)
    JOIN billing.promotion_redemptions r USING (tenant_id, promotion_id, customer_id)
    WHERE r.released_at IS NULL
    GROUP BY w.tenant_id, w.promotion_id, w.customer_id
    """
)
_OF_SUBSCRIPTIONS = sql(
    "SELECT r.tenant_id, r.promotion_id, r.subscription_id, r.customer_id"
    " FROM billing.promotion_redemptions r"
    " JOIN unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[])) AS w(tenant_id, subscription_id)"
    " USING (tenant_id, subscription_id) WHERE r.released_at IS NULL"
    " ORDER BY r.tenant_id, r.promotion_id, r.subscription_id"
)
_LIST_REDEMPTIONS = sql(
    "SELECT r.tenant_id, r.promotion_id, r.subscription_id AS id, r.customer_id, r.redeemed_at,"
    " r.released_at FROM billing.promotion_redemptions r WHERE r.tenant_id = :tenant"
    " AND r.promotion_id = :promotion AND r.subscription_id < :before"
    " ORDER BY r.subscription_id DESC LIMIT :limit"
)
_BUYERS = sql(
    """
    SELECT w.tenant_id, w.id
    FROM unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[])) AS w(tenant_id, id)
    WHERE EXISTS (
        SELECT FROM billing.subscriptions s
        WHERE s.tenant_id = w.tenant_id AND s.payer_id = w.id AND s.status <> 'incomplete_expired'
          AND (s.status <> 'canceled' OR EXISTS (
            SELECT FROM billing.billing_runs r JOIN billing.invoices i
              ON i.tenant_id = r.tenant_id AND i.id = r.invoice_id
            WHERE r.tenant_id = s.tenant_id AND r.subscription_id = s.id AND i.status = 'paid')))
    """
)


def _by_key(rows: Iterable[Row[Any]]) -> dict[Key, Row[Any]]:
    return {(row.tenant_id, row.id): row for row in rows}


async def insert_promotions(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> int:
    """Array and JSON columns are JSON text. A code that is taken in its tenant is left out; tells
    how many were written."""
    return await _INSERT(tx, sorted(rows, key=lambda each: (each["tenant_id"].bytes, each["code"])))


async def promotions(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """Promotions as they are, unlocked."""
    return _by_key(await tx.rows(_OFFERS, **split(keys)))


async def lock_promotions(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """Lock promotions in ascending order, after accounts, subscriptions and invoices: whoever
    holds one counts its redemptions alone."""
    return _by_key(await tx.rows(_LOCK, **split(keys)))


async def find(tx: Tx, codes: Iterable[tuple[UUID, str]]) -> dict[tuple[UUID, str], Row[Any]]:
    """Promotions by tenant and normalized code, unlocked: id, code, and whether generated."""
    wanted = list(dict.fromkeys(codes))
    rows = await tx.rows(
        _FIND, tenants=[tenant for tenant, _ in wanted], codes=[code for _, code in wanted]
    )
    return {(row.tenant_id, row.code): row for row in rows}


async def taken_codes(tx: Tx, tenant_id: UUID, codes: Sequence[str]) -> frozenset[str]:
    """Which of the normalized codes the tenant has already."""
    rows = await tx.rows(_TAKEN, tenant=tenant_id, codes=list(codes))
    return frozenset(row.code for row in rows)


async def list_promotions(
    tx: Tx, tenant_id: UUID, *, discount_id: UUID | None, batch_id: UUID | None, code: str | None,
    before: UUID, limit: int,
) -> list[Row[Any]]:  # fmt: skip
    """Promotions with an id below ``before``, newest first; by at most one filter."""
    asked = {"tenant": tenant_id, "before": before}
    if code is not None:
        return list(await tx.rows(_LIST_OF_CODE, **asked, code=code))
    if batch_id is not None:
        return list(await tx.rows(_LIST_OF_BATCH, **asked, batch=batch_id, limit=limit))
    if discount_id is not None:
        return list(await tx.rows(_LIST_OF_DISCOUNT, **asked, discount=discount_id, limit=limit))
    return list(await tx.rows(_LIST, **asked, limit=limit))


async def codes_of_batch(tx: Tx, tenant_id: UUID, batch_id: UUID) -> list[str]:
    """The codes generated together, in their order."""
    rows = await tx.rows(_CODES_OF_BATCH, tenant=tenant_id, batch=batch_id)
    return [row.code for row in rows]


async def set_redemptions(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace the counts of locked promotions."""
    await _COUNTED(tx, rows)


async def deactivate(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Say since when locked promotions are not in use."""
    await _DEACTIVATE(tx, rows)


async def insert_redemptions(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Redemptions of locked promotions by locked (or new) subscriptions."""
    await _REDEEM(tx, rows)


async def release_redemptions(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Give redemptions of locked promotions back."""
    await _RELEASE(tx, rows)


async def redemptions_by_customer(
    tx: Tx, keys: Iterable[tuple[UUID, UUID, UUID]]
) -> dict[tuple[UUID, UUID, UUID], int]:
    """How often each customer ``(tenant, promotion, customer)`` has redeemed a promotion."""
    wanted = list(dict.fromkeys(keys))
    rows = await tx.rows(
        _BY_CUSTOMER,
        tenants=[tenant for tenant, _, _ in wanted],
        promotions=[promotion for _, promotion, _ in wanted],
        customers=[customer for _, _, customer in wanted],
    )
    return {(row.tenant_id, row.promotion_id, row.customer_id): row.n for row in rows}


async def redemptions_of(tx: Tx, keys: Iterable[Key]) -> list[Row[Any]]:
    """What subscriptions have redeemed and not given back."""
    return list(await tx.rows(_OF_SUBSCRIPTIONS, **split(keys)))


async def list_redemptions(
    tx: Tx, tenant_id: UUID, promotion_id: UUID, *, before: UUID, limit: int
) -> list[Row[Any]]:
    """A promotion's redemptions, those given back too, by subscription, newest first."""
    given = {"tenant": tenant_id, "promotion": promotion_id, "before": before}
    return list(await tx.rows(_LIST_REDEMPTIONS, **given, limit=limit))


async def buyers(tx: Tx, keys: Iterable[Key]) -> set[Key]:
    """Which customers have bought before, or are just buying: a subscription of theirs is not
    over, or was paid for once."""
    return {(row.tenant_id, row.id) for row in await tx.rows(_BUYERS, **split(keys))}
