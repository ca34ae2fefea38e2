"""Encrypting anew, page by page, what is kept encrypted: connections' secrets, payers' mandates."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import structlog
from cryptography.fernet import InvalidToken, MultiFernet

from subledger.platform.db import Tx
from subledger.services.payments.store import connections, methods

AT_ONCE = 100
_log = structlog.get_logger()


async def reseal_connections(
    tx: Tx, fernet: MultiFernet, *, tenant_id: UUID, after: UUID
) -> UUID | None:
    """Encrypt the tenant's next connections with the newest key; where to go on, or None."""
    rows = await connections.lock_ciphers(tx, tenant_id, after=after, limit=AT_ONCE)
    if not rows:
        return None
    await connections.save_ciphers(
        tx,
        tenant_id,
        [
            (
                row.id,
                fernet.rotate(bytes(row.credentials_encrypted)),
                fernet.rotate(bytes(row.webhook_secret_encrypted)),
                None
                if row.webhook_path_encrypted is None
                else fernet.rotate(bytes(row.webhook_path_encrypted)),
            )
            for row in rows
        ],
    )
    return UUID(int=rows[-1].id.int)


async def reseal_mandates(
    tx: Tx, fernet: MultiFernet, *, tenant_id: UUID, after: UUID
) -> UUID | None:
    """Encrypt the mandates of the tenant's next methods with the newest key; where to go on, or
    None. One that no key opens any more is left as it is, and logged."""
    rows = await methods.lock_mandates(tx, tenant_id, after=after, limit=AT_ONCE)
    sealed: list[dict[str, Any]] = []
    for row in rows:
        if row.mandate_encrypted is None:
            continue
        key = {"tenant_id": tenant_id, "id": row.id}
        try:
            anew = fernet.rotate(bytes(row.mandate_encrypted))
        except InvalidToken:
            _log.error("payments.mandate_sealed", tenant=str(tenant_id), method_id=str(row.id))
            continue
        sealed.append(key | {"mandate_encrypted": anew})
    await methods.save_mandates(tx, sealed)
    return UUID(int=rows[-1].id.int) if rows else None
