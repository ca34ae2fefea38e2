"""Customers as payments knows them, and their saved methods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.bulk import Insert, Update, by_keys
from subledger.platform.db import DUE_READER, Tx, sql
from subledger.services.payments import tables
from subledger.services.payments.protocol import Saved
from subledger.services.payments.store.payments import Key, split

MOST_IN_ORDER = 50
_WANTED = "unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[])) AS w(tenant_id, id)"

_METHOD_COLUMNS = (
    "m.tenant_id, m.id, m.customer_id, m.connection_id, m.status, m.token, m.brand,"
    " m.last_four, m.test_kind, m.make_default, m.tries, m.created_at, m.detached_at,"
    " m.turn, m.expires_on, m.provider_ref, m.mandate_encrypted, m.redirect_url"
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
# The default one first, then by the customer's own order, then as they came. What has expired by
# the tenant's clock is left out.
_IN_ORDER = sql(
    """
    SELECT w.tenant_id, w.customer_id, m.id, m.connection_id
    FROM unnest(CAST(:tenants AS uuid[]), CAST(:customers AS uuid[]), CAST(:days AS date[]))
        AS w(tenant_id, customer_id, day)
    CROSS JOIN LATERAL (
        SELECT r.id, r.connection_id FROM payments.methods r
        JOIN payments.customers c ON c.tenant_id = r.tenant_id AND c.id = r.customer_id
        WHERE r.tenant_id = w.tenant_id AND r.customer_id = w.customer_id
          AND r.status = 'active' AND (r.expires_on IS NULL OR r.expires_on >= w.day)
        ORDER BY (r.id = c.default_method_id) IS TRUE DESC, r.turn NULLS LAST, r.created_at, r.id
        LIMIT :limit
    ) AS m
    """
)
_SET_TURNS = Update(tables.methods, keys=["tenant_id", "id"], sets=["turn"])
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
    " brand, last_four, test_kind, make_default, expires_on, tries, ready_at, created_at)"
    " SELECT w.*, 0, clock_timestamp(), w_at FROM unnest(CAST(:tenant_id AS uuid[]),"
    " CAST(:id AS uuid[]), CAST(:customer_id AS uuid[]), CAST(:connection_id AS uuid[]),"
    " CAST(:status AS text[]), CAST(:token AS text[]), CAST(:brand AS text[]),"
    " CAST(:last_four AS text[]), CAST(:test_kind AS text[]), CAST(:make_default AS boolean[]),"
    " CAST(:expires_on AS date[]))"
    " AS w CROSS JOIN (SELECT CAST(:created_at AS timestamptz) AS w_at) AS at"
)
_SAVE_METHODS = Update(
    tables.methods,
    keys=["tenant_id", "id"],
    sets=["status", "token", "brand", "last_four", "detached_at"],
)
_SET_SETUPS = Update(
    tables.methods,
    keys=["tenant_id", "id"],
    sets=["provider_ref", "return_url", "redirect_url"],
)
_DESCRIBE = Update(
    tables.methods,
    keys=["tenant_id", "id"],
    sets=["token", "brand", "last_four", "expires_on", "provider_ref", "mandate_encrypted"],
)
_MANDATES = sql(
    "SELECT m.id, m.mandate_encrypted FROM payments.methods m"
    " WHERE m.tenant_id = :tenant AND m.id > :after ORDER BY m.id LIMIT :limit FOR NO KEY UPDATE"
)
_SAVE_MANDATES = Update(tables.methods, keys=["tenant_id", "id"], sets=["mandate_encrypted"])
_ATTACHING = sql(
    "SELECT m.tenant_id, m.id FROM payments.methods m"
    " WHERE m.status = 'attaching' AND m.test_kind IS NOT NULL"
    " AND m.ready_at <= statement_timestamp()"
    " ORDER BY m.ready_at LIMIT :limit"
)
_CLAIM_ATTACHING = sql(
    f"""
    WITH locked AS (
        SELECT {_METHOD_COLUMNS} FROM {_WANTED} JOIN payments.methods m USING (tenant_id, id)
        WHERE m.status = 'attaching' AND m.test_kind IS NOT NULL
          AND m.ready_at <= statement_timestamp()
        ORDER BY m.tenant_id, m.id FOR NO KEY UPDATE OF m SKIP LOCKED
    ), claimed AS (
        UPDATE payments.methods AS m SET tries = m.tries + 1,
            ready_at = clock_timestamp() + make_interval(secs => :lease_s)
        FROM locked l WHERE m.tenant_id = l.tenant_id AND m.id = l.id
    )
    SELECT tenant_id, id, customer_id, connection_id, test_kind, tries FROM locked
    """
)

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


async def in_order(tx: Tx, customers: Iterable[Key]) -> dict[Key, list[Row[Any]]]:
    """``(id, connection_id)`` of what each customer can be charged by now, in the customer's order;
    absent without any."""
    wanted = sorted(set(customers))
    clocks = await tx.clocks({tenant for tenant, _ in wanted})
    rows = await tx.rows(
        _IN_ORDER,
        tenants=[tenant for tenant, _ in wanted],
        customers=[customer for _, customer in wanted],
        days=[clocks[tenant].date() for tenant, _ in wanted],
        limit=MOST_IN_ORDER,
    )
    found: dict[Key, list[Row[Any]]] = {}
    for row in rows:
        found.setdefault((row.tenant_id, row.customer_id), []).append(row)
    return found


async def set_turns(tx: Tx, rows: Iterable[Mapping[str, Any]]) -> None:
    """Set ``turn`` of locked methods (None: after those that have one)."""
    await _SET_TURNS(tx, rows)


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
        "expires_on",
    )
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in names}
    if "attaching" in columns["status"]:
        tx.work.add(ATTACHING)
    if rows:
        await tx.run(_INSERT_METHODS, created_at=created_at, **columns)


async def save_methods(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace status, token and what is shown of locked methods."""
    await _SAVE_METHODS(tx, rows)


async def set_setups(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Where the payer saves a method that is attaching, and where from there."""
    await _SET_SETUPS(tx, rows)


def described(row: Row[Any], saved: Saved) -> dict[str, Any]:
    """A locked method as the provider describes it now; an expiry that it does not tell stays."""
    return {
        "tenant_id": row.tenant_id,
        "id": row.id,
        "token": saved.token,
        "brand": saved.brand,
        "last_four": saved.last_four,
        "expires_on": saved.expires_on or row.expires_on,
        "provider_ref": saved.reference,
        "mandate_encrypted": saved.mandate or row.mandate_encrypted,
    }


async def describe(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace what providers say about locked methods."""
    await _DESCRIBE(tx, rows)


async def attaching(tx: Tx, limit: int) -> list[Key]:
    """Methods of all tenants whose attaching nobody works on."""
    async with tx.reading_as(DUE_READER):
        rows = await tx.rows(_ATTACHING, limit=limit)
    return [(row.tenant_id, row.id) for row in rows]


async def claim_attaching(tx: Tx, keys: Iterable[Key], *, lease_s: float) -> Sequence[Row[Any]]:
    """Take methods to attach for ``lease_s`` (wall clock); skips what another holds."""
    return await tx.rows(_CLAIM_ATTACHING, lease_s=lease_s, **split(keys))


async def lock_mandates(tx: Tx, tenant_id: UUID, *, after: UUID, limit: int) -> Sequence[Row[Any]]:
    """What is encrypted of the tenant's next methods, locked; None for those without a mandate."""
    return await tx.rows(_MANDATES, tenant=tenant_id, after=after, limit=limit)


async def save_mandates(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace ciphertexts of locked methods."""
    await _SAVE_MANDATES(tx, rows)
