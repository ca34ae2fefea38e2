"""What a tenant's rows are, as digests: two equal fingerprints mean that nothing changed."""

from __future__ import annotations

import hashlib
from typing import Any
from uuid import UUID

import asyncpg

_TABLES = """
SELECT format('%I.%I', table_schema, table_name) AS name FROM information_schema.columns
JOIN information_schema.tables USING (table_schema, table_name)
WHERE column_name = 'tenant_id' AND table_type = 'BASE TABLE'
"""


async def fingerprint(connection: asyncpg.Connection[Any], tenant_id: UUID) -> dict[str, str]:
    """A digest of the tenant's rows in each table of the database, events too."""
    digests = {}
    for table in await connection.fetch(_TABLES):
        rows = await connection.fetch(
            f"SELECT t::text AS line FROM {table['name']} t WHERE tenant_id = $1 ORDER BY 1",
            tenant_id,
        )
        lines = "\n".join(each["line"] for each in rows)
        digests[table["name"]] = hashlib.sha256(lines.encode()).hexdigest()
    return digests
