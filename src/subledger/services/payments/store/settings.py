"""A tenant's settings of payments: where its payers may be sent back to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.bulk import Insert
from subledger.platform.db import Tx, sql
from subledger.services.payments import tables

# A tenant without a row has the defaults; its mode is beside its clock.
_SETTINGS = sql(
    "SELECT c.tenant_id, c.mode, coalesce(s.return_origins, '{}') AS return_origins, s.updated_at"
    " FROM identity.clocks c LEFT JOIN payments.settings s ON s.tenant_id = c.tenant_id"
    " WHERE c.tenant_id = ANY (CAST(:tenants AS uuid[]))"
)
_PUT = Insert(
    tables.settings,
    ["tenant_id", "return_origins", "updated_at"],
    conflict="(tenant_id) DO UPDATE SET return_origins = excluded.return_origins,"
    " updated_at = excluded.updated_at",
)


async def settings(tx: Tx, tenants: Iterable[UUID]) -> dict[UUID, Row[Any]]:
    """``mode``, ``return_origins`` and ``updated_at`` (null: never set) of each tenant."""
    rows = await tx.rows(_SETTINGS, tenants=sorted(set(tenants)))
    return {row.tenant_id: row for row in rows}


async def put(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace the settings of tenants; ``return_origins`` is JSON text."""
    await _PUT(tx, sorted(rows, key=lambda row: row["tenant_id"]))
