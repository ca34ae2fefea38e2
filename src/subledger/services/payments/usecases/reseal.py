"""Encrypting anew, page by page, what is kept encrypted: connections' secrets, payers' mandates.

What no key opens any more is left as it is, and logged.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import structlog
from cryptography.fernet import MultiFernet

from subledger.platform.db import Tx
from subledger.platform.rotation import rotated
from subledger.services.payments.store import connections, methods

AT_ONCE = 100
_log = structlog.get_logger()


async def reseal_connections(
    tx: Tx, fernet: MultiFernet, *, tenant_id: UUID, after: UUID
) -> UUID | None:
    """Encrypt the tenant's next connections with the newest key; where to go on, or None."""
    rows = await connections.lock_ciphers(tx, tenant_id, after=after, limit=AT_ONCE)
    sealed = []
    for row in rows:
        anew = rotated(
            fernet,
            row.credentials_encrypted,
            row.webhook_secret_encrypted,
            row.webhook_path_encrypted,
        )
        if anew is None:
            _log.error("payments.cannot_open", tenant=str(tenant_id), connection_id=str(row.id))
        else:
            sealed.append((row.id, *anew))
    await connections.save_ciphers(tx, tenant_id, sealed)
    return UUID(int=rows[-1].id.int) if rows else None


async def reseal_mandates(
    tx: Tx, fernet: MultiFernet, *, tenant_id: UUID, after: UUID
) -> UUID | None:
    """Encrypt the mandates of the tenant's next methods with the newest key; where to go on, or
    None."""
    rows = await methods.lock_mandates(tx, tenant_id, after=after, limit=AT_ONCE)
    sealed: list[dict[str, Any]] = []
    for row in rows:
        if row.mandate_encrypted is None:
            continue
        anew = rotated(fernet, row.mandate_encrypted)
        if anew is None:
            _log.error("payments.cannot_open", tenant=str(tenant_id), method_id=str(row.id))
        else:
            sealed.append({"tenant_id": tenant_id, "id": row.id, "mandate_encrypted": anew[0]})
    await methods.save_mandates(tx, sealed)
    return UUID(int=rows[-1].id.int) if rows else None
