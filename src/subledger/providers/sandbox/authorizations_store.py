"""SQL of authorizations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.bulk import Insert, Update
from subledger.platform.db import Tx, sql
from subledger.providers.sandbox import tables

_ADD = Insert(tables.authorizations, [c.name for c in tables.authorizations.c])
_COLUMNS = (
    "a.tenant_id, a.idempotency_key, a.id, a.attempt_id, a.token, a.amount_minor, a.currency,"
    " a.request_hash, a.state, a.at, a.expires_at"
)
_FROM = f"SELECT {_COLUMNS} FROM sandbox.authorizations a WHERE a.tenant_id = :tenant"
_BY_KEY = sql(f"{_FROM} AND a.idempotency_key = :key")
_BY_ID = sql(f"{_FROM} AND a.id = :id")
_OF_ATTEMPT = sql(f"{_FROM} AND a.attempt_id = :attempt ORDER BY a.at DESC, a.id DESC LIMIT 1")
_SET = Update(tables.authorizations, keys=["tenant_id", "idempotency_key"], sets=["state"])


async def add(tx: Tx, row: Mapping[str, Any]) -> None:
    await _ADD(tx, [row])


async def by_key(tx: Tx, tenant: UUID, key: str) -> Row[Any] | None:
    rows = await tx.rows(_BY_KEY, tenant=tenant, key=key)
    return rows[0] if rows else None


async def by_id(tx: Tx, tenant: UUID, authorization_id: UUID) -> Row[Any] | None:
    rows = await tx.rows(_BY_ID, tenant=tenant, id=authorization_id)
    return rows[0] if rows else None


async def of_attempt(tx: Tx, tenant: UUID, attempt: str) -> Row[Any] | None:
    """The attempt's newest authorization."""
    rows = await tx.rows(_OF_ATTEMPT, tenant=tenant, attempt=attempt)
    return rows[0] if rows else None


async def set_state(tx: Tx, row: Row[Any], state: str) -> None:
    await _SET(
        tx,
        [{"tenant_id": row.tenant_id, "idempotency_key": row.idempotency_key, "state": state}],
    )
