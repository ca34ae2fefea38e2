"""Customers as payments knows them, their saved methods, and connections to providers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.bulk import Insert, Update, by_keys
from subledger.platform.db import DUE_READER, Tx, sql
from subledger.services.payments import tables
from subledger.services.payments.store.payments import Key, split

_WANTED = "unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[])) AS w(tenant_id, id)"

_METHOD_COLUMNS = (
    "m.tenant_id, m.id, m.customer_id, m.connection_id, m.status, m.token, m.brand,"
    " m.last_four, m.test_kind, m.make_default, m.tries, m.created_at, m.detached_at"
)

_PUT_CUSTOMERS = Insert(
    tables.customers,
    ["tenant_id", "id", "external_id", "currency"],
    conflict="(tenant_id, id) DO UPDATE SET external_id = excluded.external_id,"
    " currency = excluded.currency",
)
_DELETED = Update(
    tables.customers,
    keys=["tenant_id", "id"],
    sets=["deleted_at", "default_method_id"],
)
_DEFAULT = Update(tables.customers, keys=["tenant_id", "id"], sets=["default_method_id"])
_LOCK_CUSTOMERS = sql(
    "SELECT c.tenant_id, c.id, c.currency, c.default_method_id, c.deleted_at"
    f" {by_keys('payments.customers c', tenant_id='tenants', id='ids')} FOR NO KEY UPDATE OF c"
)
_CUSTOMERS = sql(
    "SELECT c.tenant_id, c.id, c.currency, c.default_method_id, c.deleted_at"
    f" {by_keys('payments.customers c', tenant_id='tenants', id='ids')}"
)
# The wanted method if it can still be charged, else the customer's default.
_TO_CHARGE = sql(
    """
    SELECT w.tenant_id, w.customer_id, w.wanted, coalesce(m.id, d.id) AS method_id,
           coalesce(m.connection_id, d.connection_id) AS connection_id
    FROM unnest(CAST(:tenants AS uuid[]), CAST(:customers AS uuid[]), CAST(:wanted AS uuid[]))
        AS w(tenant_id, customer_id, wanted)
    LEFT JOIN LATERAL (SELECT r.* FROM payments.methods r WHERE r.tenant_id = w.tenant_id
        AND r.id = w.wanted AND r.customer_id = w.customer_id AND r.status = 'active' OFFSET 0
    ) AS m ON true
    LEFT JOIN LATERAL (SELECT r.* FROM payments.customers c JOIN payments.methods r
        ON r.tenant_id = c.tenant_id AND r.id = c.default_method_id AND r.status = 'active'
        WHERE c.tenant_id = w.tenant_id AND c.id = w.customer_id OFFSET 0
    ) AS d ON true
    """
)
_METHODS = sql(
    f"SELECT {_METHOD_COLUMNS} {by_keys('payments.methods m', tenant_id='tenants', id='ids')}"
)
_LOCK_METHODS = sql(
    f"SELECT {_METHOD_COLUMNS} FROM {_WANTED} JOIN payments.methods m USING (tenant_id, id)"
    " ORDER BY m.tenant_id, m.id FOR NO KEY UPDATE OF m"
)
_LOCK_METHODS_OF = sql(
    f"SELECT {_METHOD_COLUMNS}"
    " FROM unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[])) AS w(tenant_id, customer_id)"
    " JOIN payments.methods m USING (tenant_id, customer_id)"
    " ORDER BY m.tenant_id, m.id FOR NO KEY UPDATE OF m"
)
_BY_TOKEN = sql(
    "SELECT m.tenant_id, m.connection_id, m.token, m.id FROM unnest(CAST(:tenants AS uuid[]),"
    " CAST(:connections AS uuid[]), CAST(:tokens AS text[])) AS w(tenant_id, connection_id, token)"
    " JOIN payments.methods m USING (tenant_id, connection_id, token) WHERE m.token <> ''"
)


def _listing(condition: str) -> str:
    return (
        f"SELECT {_METHOD_COLUMNS} FROM payments.methods m WHERE m.tenant_id = :tenant{condition}"
        " AND (m.created_at, m.id) < (:before_at, :before_id)"
        " ORDER BY m.created_at DESC, m.id DESC LIMIT :limit"
    )


_LIST = sql(_listing(""))
_LIST_OF_CUSTOMER = sql(_listing(" AND m.customer_id = :customer"))
_INSERT_METHODS = sql(
    "INSERT INTO payments.methods (tenant_id, id, customer_id, connection_id, status, token,"
    " brand, last_four, test_kind, make_default, tries, ready_at, created_at)"
    " SELECT w.*, 0, clock_timestamp(), w_at FROM unnest(CAST(:tenant_id AS uuid[]),"
    " CAST(:id AS uuid[]), CAST(:customer_id AS uuid[]), CAST(:connection_id AS uuid[]),"
    " CAST(:status AS text[]), CAST(:token AS text[]), CAST(:brand AS text[]),"
    " CAST(:last_four AS text[]), CAST(:test_kind AS text[]), CAST(:make_default AS boolean[]))"
    " AS w CROSS JOIN (SELECT CAST(:created_at AS timestamptz) AS w_at) AS at"
)
_SAVE_METHODS = Update(
    tables.methods,
    keys=["tenant_id", "id"],
    sets=["status", "token", "brand", "last_four", "detached_at"],
)
_ATTACHING = sql(
    "SELECT m.tenant_id, m.id FROM payments.methods m"
    " WHERE m.status = 'attaching' AND m.ready_at <= statement_timestamp()"
    " ORDER BY m.ready_at LIMIT :limit"
)
_CLAIM_ATTACHING = sql(
    f"""
    WITH locked AS (
        SELECT {_METHOD_COLUMNS} FROM {_WANTED} JOIN payments.methods m USING (tenant_id, id)
        WHERE m.status = 'attaching' AND m.ready_at <= statement_timestamp()
        ORDER BY m.tenant_id, m.id FOR NO KEY UPDATE OF m SKIP LOCKED
    ), claimed AS (
        UPDATE payments.methods AS m SET tries = m.tries + 1,
            ready_at = clock_timestamp() + make_interval(secs => :lease_s)
        FROM locked l WHERE m.tenant_id = l.tenant_id AND m.id = l.id
    )
    SELECT tenant_id, id, customer_id, connection_id, test_kind, tries FROM locked
    """
)

_CONNECTION_COLUMNS = (
    "c.tenant_id, c.id, c.provider, c.status, c.is_default, c.credentials_encrypted,"
    " c.webhook_secret_encrypted"
)
_CONNECTIONS = sql(
    f"SELECT {_CONNECTION_COLUMNS} FROM {_WANTED} JOIN payments.connections c USING (tenant_id, id)"
)
_DEFAULT_CONNECTION = sql(
    f"SELECT {_CONNECTION_COLUMNS} FROM payments.connections c"
    " WHERE c.tenant_id = :tenant AND c.is_default"
)
_OPEN_CONNECTION = sql(
    "INSERT INTO payments.connections (tenant_id, id, provider, status, is_default,"
    " credentials_encrypted, webhook_secret_encrypted, created_at)"
    " VALUES (:tenant, :id, :provider, 'opening', true, :credentials, :secret, :created_at)"
    " ON CONFLICT (tenant_id) WHERE is_default DO NOTHING"
)
_ACTIVATE_CONNECTION = sql(
    "UPDATE payments.connections SET status = 'active'"
    " WHERE tenant_id = :tenant AND id = :id AND status = 'opening'"
)
_MODE = sql("SELECT mode FROM identity.clocks WHERE tenant_id = :tenant")
_CAUGHT_UP = sql(
    "SELECT coalesce((SELECT c.position FROM payments.cursors c JOIN eventlog.log l"
    " ON l.id = c.log_id WHERE c.group_name = :name AND c.partition = :partition), 0) AS reached,"
    " (SELECT position FROM eventlog.heads WHERE partition = :partition) AS head"
)


# --- customers ---------------------------------------------------------------------------------


ATTACHING = "payments.attaching"
"""The kind of work that a method is which the provider has to be asked for."""


async def put_customers(tx: Tx, rows: Iterable[Mapping[str, Any]]) -> None:
    """Learn or refresh customers."""
    await _PUT_CUSTOMERS(tx, sorted(rows, key=lambda row: (row["tenant_id"], row["id"])))


async def lock_customers(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """Lock customers, in order (after payments, before their methods)."""
    rows = await tx.rows(_LOCK_CUSTOMERS, **split(keys))
    return {(row.tenant_id, row.id): row for row in rows}


async def customers(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """Customers as they are, unlocked."""
    rows = await tx.rows(_CUSTOMERS, **split(keys))
    return {(row.tenant_id, row.id): row for row in rows}


async def delete_customers(tx: Tx, rows: Iterable[Mapping[str, Any]]) -> None:
    """Mark locked customers deleted; they have no default method any more."""
    await _DELETED(tx, [{**row, "default_method_id": None} for row in rows])


async def set_defaults(tx: Tx, rows: Iterable[Mapping[str, Any]]) -> None:
    """Set ``default_method_id`` of locked customers (None: no default)."""
    await _DEFAULT(tx, rows)


async def to_charge(
    tx: Tx, wanted: Sequence[tuple[UUID, UUID, UUID | None]]
) -> dict[tuple[UUID, UUID, UUID | None], tuple[UUID | None, UUID | None]]:
    """The method and its connection for each ``(tenant_id, customer_id, wanted method)``: the
    wanted one while it is active and the customer's own, else the default; or two Nones."""
    rows = await tx.rows(
        _TO_CHARGE,
        tenants=[tenant for tenant, _, _ in wanted],
        customers=[customer for _, customer, _ in wanted],
        wanted=[method for _, _, method in wanted],
    )
    return {
        (row.tenant_id, row.customer_id, row.wanted): (row.method_id, row.connection_id)
        for row in rows
    }


async def caught_up(tx: Tx, *, group: str, partition: int) -> tuple[int, int]:
    """How far the group has read a partition, and where the partition ends."""
    row = (await tx.rows(_CAUGHT_UP, name=group, partition=partition))[0]
    return row.reached, row.head


# --- methods -----------------------------------------------------------------------------------


async def methods(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """Saved methods as they are, unlocked."""
    rows = await tx.rows(_METHODS, **split(keys))
    return {(row.tenant_id, row.id): row for row in rows}


async def lock_methods(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """Lock methods, whose customers are locked already, in order."""
    rows = await tx.rows(_LOCK_METHODS, **split(keys))
    return {(row.tenant_id, row.id): row for row in rows}


async def lock_methods_of(tx: Tx, customers: Iterable[Key]) -> Sequence[Row[Any]]:
    """Lock all methods of customers that are locked already, in order."""
    return await tx.rows(_LOCK_METHODS_OF, **split(customers))


async def by_token(
    tx: Tx, tokens: Iterable[tuple[UUID, UUID, str]]
) -> dict[tuple[UUID, UUID, str], UUID]:
    """The method behind each ``(tenant_id, connection_id, token)`` that is saved already."""
    wanted = sorted(set(tokens))
    rows = await tx.rows(
        _BY_TOKEN,
        tenants=[tenant for tenant, _, _ in wanted],
        connections=[connection for _, connection, _ in wanted],
        tokens=[token for _, _, token in wanted],
    )
    return {(row.tenant_id, row.connection_id, row.token): row.id for row in rows}


async def listed_methods(
    tx: Tx,
    tenant_id: UUID,
    *,
    before: tuple[datetime, UUID],
    limit: int,
    customer_id: UUID | None = None,
) -> Sequence[Row[Any]]:
    """Methods from the newest, older than ``before``."""
    page = {"tenant": tenant_id, "before_at": before[0], "before_id": before[1], "limit": limit}
    if customer_id is not None:
        return await tx.rows(_LIST_OF_CUSTOMER, customer=customer_id, **page)
    return await tx.rows(_LIST, **page)


async def insert_methods(
    tx: Tx, rows: Sequence[Mapping[str, Any]], *, created_at: datetime
) -> None:
    """New methods of one moment."""
    names = (
        "tenant_id",
        "id",
        "customer_id",
        "connection_id",
        "status",
        "token",
        "brand",
        "last_four",
        "test_kind",
        "make_default",
    )
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in names}
    if "attaching" in columns["status"]:
        tx.work.add(ATTACHING)
    if rows:
        await tx.run(_INSERT_METHODS, created_at=created_at, **columns)


async def save_methods(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace status, token and what is shown of locked methods."""
    await _SAVE_METHODS(tx, rows)


async def attaching(tx: Tx, limit: int) -> list[Key]:
    """Methods of all tenants whose attaching nobody works on."""
    async with tx.reading_as(DUE_READER):
        rows = await tx.rows(_ATTACHING, limit=limit)
    return [(row.tenant_id, row.id) for row in rows]


async def claim_attaching(tx: Tx, keys: Iterable[Key], *, lease_s: float) -> Sequence[Row[Any]]:
    """Take methods to attach for ``lease_s`` (wall clock); skips what another holds."""
    return await tx.rows(_CLAIM_ATTACHING, lease_s=lease_s, **split(keys))


# --- connections -------------------------------------------------------------------------------


async def connections(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """Connections with their encrypted credentials."""
    rows = await tx.rows(_CONNECTIONS, **split(keys))
    return {(row.tenant_id, row.id): row for row in rows}


async def default_connection(tx: Tx, tenant_id: UUID) -> Row[Any] | None:
    """The tenant's default connection, or None."""
    rows = await tx.rows(_DEFAULT_CONNECTION, tenant=tenant_id)
    return rows[0] if rows else None


async def open_connection(
    tx: Tx,
    *,
    tenant_id: UUID,
    connection_id: UUID,
    provider: str,
    credentials_encrypted: bytes,
    secret_encrypted: bytes,
    created_at: datetime,
) -> None:
    """Record the intent to connect, unless the tenant has a default connection already."""
    await tx.run(
        _OPEN_CONNECTION,
        tenant=tenant_id,
        id=connection_id,
        provider=provider,
        credentials=credentials_encrypted,
        secret=secret_encrypted,
        created_at=created_at,
    )


async def activate_connection(tx: Tx, tenant_id: UUID, connection_id: UUID) -> None:
    """The provider and the webhook endpoint know the connection: it may be used."""
    await tx.run(_ACTIVATE_CONNECTION, tenant=tenant_id, id=connection_id)


async def mode_of(tx: Tx, tenant_id: UUID) -> str:
    """``live`` or ``sandbox``."""
    rows = await tx.rows(_MODE, tenant=tenant_id)
    return str(rows[0].mode)
