"""Take an API key back."""

from __future__ import annotations

from uuid import UUID

from subledger.contracts.events import API_KEY_REVOKED, Event
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.identity import problems, store


async def revoke_key(tx: Tx, *, tenant_id: UUID, key_id: UUID, cause: UUID | None) -> None:
    """Revoke the key; it works for at most one more second (the gateways remember that long).

    A key that is revoked already stays as it is. Raises not_found for an unknown key, and
    last_admin_key when no key of the role admin would be left.
    """
    if not await store.keys(tx, tenant_id, [key_id]):
        raise Problem("not_found", detail="There is no such API key.")
    valid = await store.lock_valid_keys(tx, tenant_id)
    if all(row.id != key_id for row in valid):
        return
    if not any(row.role == "admin" for row in valid if row.id != key_id):
        raise Problem(problems.LAST_ADMIN_KEY, detail="This is the tenant's last admin key.")
    at = await tx.now(tenant_id)
    await store.revoke_keys(tx, tenant_id, [key_id], at=at)
    tx.emit(
        [
            Event(
                type=API_KEY_REVOKED,
                tenant_id=tenant_id,
                subject=tenant_id,
                data={"api_key_id": ids.text("key", key_id)},
                occurred_at=at,
                cause=cause,
            )
        ]
    )
