"""All SQL of the entitlements."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row

from subledger.platform.bulk import Insert, by_keys
from subledger.platform.db import DUE_READER, LOG_READER, Tx, sql
from subledger.services.entitlements import tables

GROUP_NAME = "entitlements"
PAGE = 5_000
Key = tuple[UUID, UUID]
"""``(tenant_id, id)``"""


@dataclass(frozen=True, slots=True)
class Grant:
    """What one subscription gives its beneficiary. ``state`` is active, grace or revoked."""

    tenant_id: UUID
    subscription_id: UUID
    customer_id: UUID
    product_id: UUID
    state: str
    valid_until_at: datetime
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Customer:
    tenant_id: UUID
    id: UUID
    external_id: str
    changed_at: datetime
    deleted_at: datetime | None


@dataclass(frozen=True, slots=True)
class Product:
    tenant_id: UUID
    id: UUID
    resources: Sequence[str]


# --- the consumer's side ------------------------------------------------------------------------

_GRANT_COLUMNS = (
    *("tenant_id", "subscription_id", "customer_id", "product_id"),
    *("state", "valid_until_at", "changed_at"),
)
_save_grants = Insert(
    tables.grants,
    _GRANT_COLUMNS,
    conflict="(tenant_id, subscription_id) DO UPDATE SET customer_id = excluded.customer_id,"
    " product_id = excluded.product_id, state = excluded.state,"
    " valid_until_at = excluded.valid_until_at, changed_at = excluded.changed_at",
)
_LOCK_GRANTS = sql(
    f"SELECT {', '.join(f'g.{name}' for name in _GRANT_COLUMNS)}"
    f" {by_keys('entitlements.grants g', tenant_id='tenants', subscription_id='ids')}"
    " FOR NO KEY UPDATE OF g"
)
_save_customers = Insert(
    tables.customers,
    ["tenant_id", "id", "external_id", "changed_at", "deleted_at"],
    conflict="(tenant_id, id) DO UPDATE SET external_id = excluded.external_id,"
    " changed_at = excluded.changed_at, deleted_at = excluded.deleted_at",
)
_save_products = Insert(
    tables.products,
    ["tenant_id", "id", "resources"],
    conflict="(tenant_id, id) DO UPDATE SET resources = excluded.resources",
)


async def lock_grants(tx: Tx, subscriptions: Iterable[Key]) -> dict[Key, Grant]:
    """Lock what these subscriptions give, in order; absent for those that never gave anything."""
    wanted = sorted(set(subscriptions))
    rows = await tx.rows(_LOCK_GRANTS, tenants=[t for t, _ in wanted], ids=[i for _, i in wanted])
    return {(row.tenant_id, row.subscription_id): Grant(**row._mapping) for row in rows}


async def save_grants(tx: Tx, grants: Sequence[Grant]) -> None:
    """Insert or replace, one per subscription."""
    ordered = sorted(grants, key=lambda each: (each.tenant_id, each.subscription_id))
    await _save_grants(
        tx, [{name: getattr(each, name) for name in _GRANT_COLUMNS} for each in ordered]
    )


async def save_customers(tx: Tx, customers: Sequence[Customer]) -> None:
    """Insert or replace."""
    ordered = sorted(customers, key=lambda each: (each.tenant_id, each.id))
    await _save_customers(
        tx,
        [
            {
                "tenant_id": each.tenant_id,
                "id": each.id,
                "external_id": each.external_id,
                "changed_at": each.changed_at,
                "deleted_at": each.deleted_at,
            }
            for each in ordered
        ],
    )


async def save_products(tx: Tx, products: Sequence[Product]) -> None:
    """Insert or replace, with all resources of each."""
    ordered = sorted(products, key=lambda each: (each.tenant_id, each.id))
    await _save_products(
        tx,
        [
            {
                "tenant_id": each.tenant_id,
                "id": each.id,
                "resources": msgspec.json.encode(each.resources).decode(),
            }
            for each in ordered
        ],
    )


# --- the memory's side: snapshot and tail -------------------------------------------------------

_TENANTS = sql("SELECT tenant_id FROM identity.clocks ORDER BY tenant_id")
_SANDBOX_CLOCKS = sql("SELECT tenant_id, now_at FROM identity.clocks WHERE now_at IS NOT NULL")
_CURSORS = sql(
    "SELECT c.partition, c.position FROM entitlements.cursors c JOIN eventlog.log l"
    " ON l.id = c.log_id WHERE c.group_name = :name"
)
_HEADS = sql(
    "SELECT h.partition, h.position, l.id, l.epoch FROM eventlog.heads h CROSS JOIN eventlog.log l"
)
_CUSTOMER_PAGE = sql(
    "SELECT id, external_id, changed_at FROM entitlements.customers WHERE tenant_id = :tenant"
    " AND id > :after AND deleted_at IS NULL ORDER BY id LIMIT :most"
)
_PRODUCTS = sql("SELECT id, resources FROM entitlements.products WHERE tenant_id = :tenant")
_GRANT_PAGE = sql(
    "SELECT subscription_id, customer_id, product_id, state, valid_until_at"
    " FROM entitlements.grants WHERE tenant_id = :tenant AND subscription_id > :after"
    " ORDER BY subscription_id LIMIT :most"
)
_TAIL = sql(
    """
    SELECT e.partition, e.position, e.type, e.tenant_id, e.data
    FROM unnest(CAST(:partitions AS smallint[]), CAST(:afters AS bigint[]),
                CAST(:uptos AS bigint[])) AS c(partition, after, upto)
    CROSS JOIN LATERAL (
        SELECT e.partition, e.position, e.type, e.tenant_id, e.data::text AS data
        FROM eventlog.events e
        WHERE e.partition = c.partition AND e.position > c.after AND e.position <= c.upto
          AND e.type = ANY (CAST(:types AS text[]))
        ORDER BY e.position
    ) AS e
    ORDER BY e.partition, e.position
    """
)
_FIRST = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Heads:
    """Where the log ends. Another ``log`` (id and epoch) means that it was restored."""

    log: tuple[UUID, int]
    positions: Mapping[int, int]


async def heads(tx: Tx) -> Heads:
    rows = await tx.rows(_HEADS)
    return Heads(
        log=(rows[0].id, rows[0].epoch), positions={row.partition: row.position for row in rows}
    )


async def consumed(tx: Tx) -> dict[int, int]:
    """Up to where the tables of this service reflect the log, by partition."""
    rows = await tx.rows(_CURSORS, name=GROUP_NAME)
    return {row.partition: row.position for row in rows}


async def tenants(tx: Tx) -> list[UUID]:
    """All tenants, by the policy of the due reader."""
    async with tx.reading_as(DUE_READER):
        return [row.tenant_id for row in await tx.rows(_TENANTS)]


async def sandbox_clocks(tx: Tx) -> dict[UUID, datetime]:
    """The clock of each tenant that has one of its own."""
    async with tx.reading_as(DUE_READER):
        return {row.tenant_id: row.now_at for row in await tx.rows(_SANDBOX_CLOCKS)}


async def products_of(tx: Tx, tenant_id: UUID) -> Sequence[Row[Any]]:
    """``(id, resources)`` of each product of a visible tenant."""
    return await tx.rows(_PRODUCTS, tenant=tenant_id)


async def customer_pages(tx: Tx, tenant_id: UUID) -> AsyncIterator[Sequence[Row[Any]]]:
    """``(id, external_id, changed_at)`` of each customer who is not deleted."""
    after = _FIRST
    while rows := await tx.rows(_CUSTOMER_PAGE, tenant=tenant_id, after=after, most=PAGE):
        yield rows
        after = rows[-1].id


async def grant_pages(tx: Tx, tenant_id: UUID) -> AsyncIterator[Sequence[Row[Any]]]:
    """``(subscription_id, customer_id, product_id, state, valid_until_at)``, also revoked ones."""
    after = _FIRST
    while rows := await tx.rows(_GRANT_PAGE, tenant=tenant_id, after=after, most=PAGE):
        yield rows
        after = rows[-1].subscription_id


async def tail(
    tx: Tx, spans: Sequence[tuple[int, int, int]], types: Sequence[str]
) -> Sequence[Row[Any]]:
    """Events of the wanted types in ``(partition, after, upto]``, in order; ``data`` is text."""
    async with tx.reading_as(LOG_READER):
        return await tx.rows(
            _TAIL,
            partitions=[partition for partition, _, _ in spans],
            afters=[after for _, after, _ in spans],
            uptos=[upto for _, _, upto in spans],
            types=types,
        )
