"""SQL of what becomes of saved methods: updated, replaced, detached."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.bulk import Update
from subledger.platform.db import Tx, sql
from subledger.providers.sandbox import cards, tables

_LOCK = sql(
    "SELECT m.tenant_id, m.token, m.kind, m.brand, m.last_four, m.tries, m.expires_on,"
    " m.detached_at, m.replaced_by, m.mandate FROM sandbox.methods m"
    " WHERE m.tenant_id = :tenant AND m.token = :token FOR NO KEY UPDATE"
)
_DETACH_REPLACED = sql(
    "UPDATE sandbox.methods AS m SET detached_at = :at"
    " WHERE m.tenant_id = :tenant AND m.replaced_by = :token AND m.detached_at IS NULL"
)
_SET = Update(
    tables.methods,
    keys=["tenant_id", "token"],
    sets=["last_four", "expires_on", "detached_at", "replaced_by", "mandate"],
)


def made(tenant_id: UUID, token: str, kind: str) -> dict[str, Any]:
    """A new method of a kind, as ``store.add_methods`` takes it."""
    brand, last_four = cards.face(kind)
    return {
        "tenant_id": tenant_id,
        "token": token,
        "kind": kind,
        "brand": brand,
        "last_four": last_four,
        "tries": 0,
        "expires_on": None,
        "detached_at": None,
        "replaced_by": None,
        "mandate": None,
    }


async def lock(tx: Tx, tenant: UUID, token: str) -> Row[Any] | None:
    rows = await tx.rows(_LOCK, tenant=tenant, token=token)
    return rows[0] if rows else None


async def detach_replaced(tx: Tx, tenant: UUID, token: str, at: datetime) -> None:
    """What this method replaced goes with it."""
    await tx.run(_DETACH_REPLACED, tenant=tenant, token=token, at=at)


async def agree(tx: Tx, tenant: UUID, token: str, mandate: str) -> None:
    """Keep what the payer of a method agreed to, as JSON."""
    row = await lock(tx, tenant, token)
    assert row is not None, "the method was charged a moment ago"
    await change(tx, row, mandate=mandate)


async def change(tx: Tx, row: Row[Any], **changed: Any) -> None:
    """Change a locked method: last four digits, expiry, when it was detached, what replaced it, and
    what its payer agreed to."""
    names = (
        *("tenant_id", "token", "last_four", "expires_on", "detached_at", "replaced_by"),
        "mandate",
    )
    await _SET(tx, [{name: getattr(row, name) for name in names} | changed])
