"""Payment links: one live address per invoice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.bulk import Insert, by_keys
from subledger.platform.db import Tx, sql
from subledger.services.payments import tables
from subledger.services.payments.store.payments import Key, split

_COLUMNS = "l.tenant_id, l.id, l.invoice_id, l.return_url, l.expires_at, l.revoked_at, l.created_at"
_PUT = Insert(
    tables.links,
    ["tenant_id", "id", "invoice_id", "return_url", "expires_at", "created_at"],
    conflict="(tenant_id, invoice_id) WHERE revoked_at IS NULL DO UPDATE SET"
    " return_url = excluded.return_url, expires_at = excluded.expires_at",
)
_LINKS = sql(f"SELECT {_COLUMNS} {by_keys('payments.links l', tenant_id='tenants', id='ids')}")
_OF_INVOICE = sql(
    f"SELECT {_COLUMNS} FROM payments.links l"
    " WHERE l.tenant_id = :tenant AND l.invoice_id = :invoice AND l.revoked_at IS NULL"
)
_LIST = sql(
    f"SELECT {_COLUMNS} FROM payments.links l WHERE l.tenant_id = :tenant"
    " AND (l.created_at, l.id) < (:before_at, :before_id)"
    " ORDER BY l.created_at DESC, l.id DESC LIMIT :limit"
)
_REVOKE = sql(
    "UPDATE payments.links SET revoked_at = :at"
    " WHERE tenant_id = :tenant AND id = :id AND revoked_at IS NULL"
)


async def put(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """New links; the live one of an invoice stays and takes the new terms."""
    await _PUT(tx, sorted(rows, key=lambda row: (row["tenant_id"], row["invoice_id"])))


async def links(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """Links as they are."""
    return {(row.tenant_id, row.id): row for row in await tx.rows(_LINKS, **split(keys))}


async def of_invoice(tx: Tx, tenant_id: UUID, invoice_id: UUID) -> Row[Any] | None:
    """The link of an invoice that is not revoked."""
    rows = await tx.rows(_OF_INVOICE, tenant=tenant_id, invoice=invoice_id)
    return rows[0] if rows else None


async def listed(
    tx: Tx, tenant_id: UUID, *, before: tuple[datetime, UUID], limit: int
) -> Sequence[Row[Any]]:
    """Links from the newest, older than ``before``."""
    page = {"before_at": before[0], "before_id": before[1], "limit": limit}
    return await tx.rows(_LIST, tenant=tenant_id, **page)


async def revoke(tx: Tx, key: Key, at: datetime) -> None:
    """From now on the address leads nowhere; what is revoked stays so."""
    await tx.run(_REVOKE, tenant=key[0], id=key[1], at=at)
