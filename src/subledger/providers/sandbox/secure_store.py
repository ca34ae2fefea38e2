"""SQL of charges that wait for their payer's confirmation (3-D Secure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.bulk import Insert, Update, by_keys
from subledger.platform.db import TENANT_FINDER, Tx, sql
from subledger.providers.sandbox import tables

_ADD = Insert(
    tables.challenges,
    [c.name for c in tables.challenges.c],
    conflict="(tenant_id, idempotency_key) DO NOTHING",
)
_COLUMNS = (
    "c.tenant_id, c.idempotency_key, c.id, c.attempt_id, c.token, c.amount_minor, c.currency,"
    " c.request_hash, c.page_id, c.mandate, c.return_url, c.state, c.created_at, c.capture"
)
_BY_KEY = sql(
    f"SELECT {_COLUMNS}"
    f" {by_keys('sandbox.challenges c', tenant_id='tenants', idempotency_key='keys text')}"
)
_OF_ATTEMPT = sql(
    f"SELECT {_COLUMNS} FROM sandbox.challenges c"
    " WHERE c.tenant_id = :tenant AND c.attempt_id = :attempt ORDER BY c.created_at, c.id"
)
_OF_ID = sql(
    f"SELECT {_COLUMNS} FROM sandbox.challenges c WHERE c.tenant_id = :tenant AND c.id = :id"
)
_OF_SECRET = sql(
    f"SELECT {_COLUMNS} FROM sandbox.challenges c"
    " WHERE c.tenant_id = :tenant AND c.secret_hash = :hash"
)
_TENANT = sql("SELECT tenant_id FROM sandbox.challenges WHERE secret_hash = :hash")
_LOCK = sql(
    f"SELECT {_COLUMNS} FROM sandbox.challenges c WHERE c.tenant_id = :tenant AND c.id = :id"
    " FOR NO KEY UPDATE"
)
_SET = Update(tables.challenges, keys=["tenant_id", "idempotency_key"], sets=["state"])


async def add(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> dict[tuple[UUID, str], Row[Any]]:
    """Begin challenges, one per idempotency key; those that stand then, by ``(tenant, key)``."""
    if not rows:
        return {}
    await _ADD(tx, sorted(rows, key=lambda row: (row["tenant_id"], row["idempotency_key"])))
    return await by_key(tx, [(row["tenant_id"], row["idempotency_key"]) for row in rows])


async def by_key(tx: Tx, keys: Sequence[tuple[UUID, str]]) -> dict[tuple[UUID, str], Row[Any]]:
    rows = await tx.rows(
        _BY_KEY, tenants=[tenant for tenant, _ in keys], keys=[key for _, key in keys]
    )
    return {(row.tenant_id, row.idempotency_key): row for row in rows}


async def of_attempt(tx: Tx, tenant: UUID, attempt: str) -> Sequence[Row[Any]]:
    return await tx.rows(_OF_ATTEMPT, tenant=tenant, attempt=attempt)


async def of_id(tx: Tx, tenant: UUID, challenge: UUID) -> Row[Any] | None:
    rows = await tx.rows(_OF_ID, tenant=tenant, id=challenge)
    return rows[0] if rows else None


async def of_secret(tx: Tx, secret_hash: bytes) -> Row[Any] | None:
    """The challenge behind an address; its tenant is visible then."""
    async with tx.reading_as(TENANT_FINDER):
        found = await tx.rows(_TENANT, hash=secret_hash)
    if not found:
        return None
    tenant = found[0].tenant_id
    tx.use_tenants([tenant])
    rows = await tx.rows(_OF_SECRET, tenant=tenant, hash=secret_hash)
    return rows[0] if rows else None


async def lock(tx: Tx, tenant: UUID, challenge: UUID) -> Row[Any] | None:
    """Lock a challenge (after its page)."""
    rows = await tx.rows(_LOCK, tenant=tenant, id=challenge)
    return rows[0] if rows else None


async def set_state(tx: Tx, row: Row[Any], state: str) -> None:
    """Move a locked challenge."""
    key = {"tenant_id": row.tenant_id, "idempotency_key": row.idempotency_key}
    await _SET(tx, [key | {"state": state}])
