"""A hundred thousand rows: what one shop left behind, copied under new ids into two tenants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

ROWS = 100_000
ALONE = {
    "tenants", "clocks", "clock_moves", "connections", "endpoints", "faults",
    "recognition_policies", "discount_settings", "billing_limits", "raised_limits", "holds",
    "billing_parks", "currency_defaults", "policies", "dispute_settings", "refund_settings",
    "settings",
}  # fmt: skip
"""Tables that stay as they are: a tenant has one or a few rows of them."""
NAMES = {"attempt_id", "token", "saved_token", "provider_ref", "external_id", "email_normalized"}
"""Texts that name one thing each: a copy has its own."""
MOMENTS = {
    "due_at": "t.due_at + interval '50 years'",
    "ready_at": "t.ready_at + interval '50 years'",
    "at": "t.at - k * interval '3 hours'",
    "received_at": "t.received_at - k * interval '1 second'",
    "recorded_at": "t.recorded_at - k * interval '3 hours'",
}
"""Nobody works on copies, and they were not all written today."""
OF_MANY = {
    *("identity.api_keys", "entitlements.products", "billing.tax_rates", "billing.tax_rules"),
}
"""Tables of which one tenant has a few rows and a hundred thousand tenants have many."""
_STRETCHED = {"text", "bytea", "bigint", "integer", "smallint", "date"}


@dataclass(frozen=True)
class Table:
    """A tenant table: its columns with types, and the columns of each unique index."""

    schema: str
    name: str
    columns: dict[str, str]
    uniques: list[list[str]]

    @property
    def full(self) -> str:
        return f"{self.schema}.{self.name}"


async def tables(connection: asyncpg.Connection[Any]) -> list[Table]:
    """Every table with a tenant_id that is no partition."""
    rows = await connection.fetch(
        """
        SELECT n.nspname AS schema, c.relname AS name,
               (SELECT jsonb_object_agg(a.attname, format_type(a.atttypid, NULL))::text
                FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0
                AND NOT a.attisdropped) AS columns,
               (SELECT coalesce(jsonb_agg((SELECT jsonb_agg(a.attname) FROM pg_attribute a
                    WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey))), '[]')::text
                FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique) AS uniques
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
          AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid
                      AND a.attname = 'tenant_id')
        ORDER BY 1, 2
        """
    )
    import json

    return [
        Table(r["schema"], r["name"], json.loads(r["columns"]), json.loads(r["uniques"]))
        for r in rows
    ]


_INDEXES = """
SELECT i.indexrelid::regclass::text AS name, pg_get_indexdef(i.indexrelid) AS definition
FROM pg_index i
WHERE i.indrelid = format('%I.%I', $1::text, $2::text)::regclass
  AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)
"""


async def multiply(
    connection: asyncpg.Connection[Any], tenant_id: UUID, other_id: UUID
) -> dict[str, int]:
    """Copy the tenant's rows until each table holds 100,000; every other copy goes to another
    tenant. Due moments of the copies lie 50 years ahead, so that nobody works on them. Indexes
    that no constraint needs are made anew afterwards, which is far quicker."""
    counts = {}
    await connection.execute("SET session_replication_role = replica")
    for table in await tables(connection):
        if table.name in ALONE or table.schema == "eventlog":
            continue
        have = await connection.fetchval(
            f"SELECT count(*) FROM {table.full} WHERE tenant_id = $1", tenant_id
        )
        if have and set(table.uniques[0]) != {"tenant_id"}:
            copies = -(-ROWS // have)
            # Vacuum would go over what is written while it is written, and again.
            await connection.execute(f"ALTER TABLE {table.full} SET (autovacuum_enabled = off)")
            indexes = await connection.fetch(_INDEXES, table.schema, table.name)
            for each in indexes:
                await connection.execute(f"DROP INDEX {each['name']}")
            await connection.execute(_copy(table), tenant_id, other_id, copies)
            for each in indexes:
                await connection.execute(each["definition"])
            counts[table.full] = have * copies
    counts["eventlog.events"] = await _multiply_events(connection, tenant_id, other_id)
    await connection.execute("SET session_replication_role = DEFAULT")
    return counts


def _copy(table: Table) -> str:
    stretched = set[str]()
    for unique in table.uniques:
        keys = [each for each in unique if each != "tenant_id"]
        if not any(table.columns[each] == "uuid" for each in keys):
            stretched.add(next(each for each in keys if table.columns[each] in _STRETCHED))
    values = [
        _value(name, kind, stretch=name in stretched, crowd=table.full in OF_MANY)
        for name, kind in table.columns.items()
    ]
    return (
        f"INSERT INTO {table.full} ({', '.join(table.columns)}) SELECT {', '.join(values)}"
        f" FROM {table.full} t CROSS JOIN generate_series(1, $3::int) AS k"
        " WHERE t.tenant_id = $1 AND $2::uuid IS NOT NULL"
    )


def _value(name: str, kind: str, *, stretch: bool, crowd: bool) -> str:
    if name == "tenant_id":
        one = "md5(t.tenant_id::text || k)::uuid"
        return one if crowd else "CASE WHEN k % 2 = 0 THEN $1::uuid ELSE $2::uuid END"
    if kind == "uuid":
        return f"md5(t.{name}::text || k)::uuid"
    if name in MOMENTS:
        return MOMENTS[name]
    stretch = stretch or name.endswith("_hash")
    if not stretch and not (name in NAMES and kind == "text"):
        return f"t.{name}"
    return {
        "text": f"t.{name} || '-' || k",
        "bytea": f"sha256(t.{name} || k::text::bytea)",
        "date": f"t.{name} + k",
    }.get(kind, f"t.{name} + 1000 * k")


async def _multiply_events(
    connection: asyncpg.Connection[Any], tenant_id: UUID, other_id: UUID
) -> int:
    """Events keep their partition; heads and readers' cursors stand behind the copies."""
    have = await connection.fetchval(
        "SELECT count(*) FROM eventlog.events WHERE tenant_id = $1", tenant_id
    )
    await connection.execute(
        """
        INSERT INTO eventlog.events
        SELECT t.partition, h.position + row_number() OVER (PARTITION BY t.partition ORDER BY k),
               md5(t.id::text || k)::uuid, t.type, t.version,
               CASE WHEN k % 2 = 0 THEN $1::uuid ELSE $2::uuid END,
               md5(t.subject::text || k)::uuid, t.data, t.occurred_at, t.recorded_at, t.cause
        FROM eventlog.events t JOIN eventlog.heads h USING (partition)
        CROSS JOIN generate_series(1, $3::int) AS k WHERE t.tenant_id = $1
        """,
        *(tenant_id, other_id, -(-ROWS // have)),
    )
    await connection.execute(
        "UPDATE eventlog.heads h SET position = coalesce("
        "(SELECT max(e.position) FROM eventlog.events e WHERE e.partition = h.partition),"
        " h.position)"
    )
    for row in await connection.fetch(
        "SELECT table_schema AS name FROM information_schema.tables WHERE table_name = 'cursors'"
    ):
        await connection.execute(
            f"UPDATE {row['name']}.cursors c SET position = h.position"
            " FROM eventlog.heads h WHERE h.partition = c.partition"
        )
    return int(have) * -(-ROWS // have)
