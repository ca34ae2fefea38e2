"""SQL of pages on which a method is saved without a charge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.bulk import Insert, Update
from subledger.platform.db import TENANT_FINDER, Tx, sql
from subledger.providers.sandbox import tables

_ADD = Insert(
    tables.setups, [c.name for c in tables.setups.c], conflict="(tenant_id, setup_id) DO NOTHING"
)
_COLUMNS = "s.tenant_id, s.id, s.setup_id, s.return_url, s.state, s.saved_token, s.tries"
_OF_SETUP = sql(
    f"SELECT {_COLUMNS} FROM sandbox.setups s WHERE s.tenant_id = :tenant AND s.setup_id = :setup"
)
_OF_ID = sql(f"SELECT {_COLUMNS} FROM sandbox.setups s WHERE s.tenant_id = :tenant AND s.id = :id")
_LOCK = sql(
    f"SELECT {_COLUMNS} FROM sandbox.setups s WHERE s.tenant_id = :tenant AND s.id = :id"
    " FOR NO KEY UPDATE"
)
_OF_SECRET = sql(
    f"SELECT {_COLUMNS} FROM sandbox.setups s WHERE s.tenant_id = :tenant AND s.secret_hash = :hash"
)
_TENANT = sql("SELECT tenant_id FROM sandbox.setups WHERE secret_hash = :hash")
_SET = Update(tables.setups, keys=["tenant_id", "id"], sets=["state", "saved_token", "tries"])


async def add(tx: Tx, row: Mapping[str, Any]) -> Row[Any]:
    """Open a setup, once for its merchant's name; as it is then."""
    await _ADD(tx, [row])
    found = await tx.rows(_OF_SETUP, tenant=row["tenant_id"], setup=row["setup_id"])
    return found[0]


async def of_id(tx: Tx, tenant: UUID, setup: UUID, *, lock: bool = False) -> Row[Any] | None:
    rows = await tx.rows(_LOCK if lock else _OF_ID, tenant=tenant, id=setup)
    return rows[0] if rows else None


async def of_secret(tx: Tx, secret_hash: bytes) -> Row[Any] | None:
    """The setup behind an address; its tenant is visible then."""
    async with tx.reading_as(TENANT_FINDER):
        found = await tx.rows(_TENANT, hash=secret_hash)
    if not found:
        return None
    tenant = found[0].tenant_id
    tx.use_tenants([tenant])
    rows = await tx.rows(_OF_SECRET, tenant=tenant, hash=secret_hash)
    return rows[0] if rows else None


async def change(tx: Tx, row: Row[Any], **changed: Any) -> None:
    """Change a locked setup."""
    names = ("tenant_id", "id", "state", "saved_token", "tries")
    await _SET(tx, [{name: getattr(row, name) for name in names} | changed])
