"""Connections to providers, the default for each currency, and which payment goes through which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row

from subledger.platform.db import Tx, sql
from subledger.services.payments.store.payments import Key, split

MOST_OPEN = 20
"""Connections of a tenant that are not closed."""

_json = msgspec.json.Encoder().encode
_COLUMNS = (
    "c.tenant_id, c.id, c.provider, c.name, c.status, c.opens_itself, c.currencies, c.position,"
    " c.credentials_shown::text AS credentials_shown, c.credentials_encrypted,"
    " c.webhook_secret_encrypted, c.webhook_path_encrypted, c.revision, c.address_number,"
    " c.reconciles_daily, c.created_at, c.closed_at,"
    " ARRAY(SELECT d.currency FROM payments.currency_defaults d WHERE d.tenant_id = c.tenant_id"
    " AND d.connection_id = c.id ORDER BY d.currency) AS default_for"
)
_WANTED = "unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[])) AS w(tenant_id, id)"
_BY_ID = sql(f"SELECT {_COLUMNS} FROM {_WANTED} JOIN payments.connections c USING (tenant_id, id)")
_OPEN = sql(
    f"SELECT {_COLUMNS} FROM payments.connections c"
    " WHERE c.tenant_id = :tenant AND c.status <> 'closed' ORDER BY c.id LIMIT :limit"
)
_LOCK_OPEN = sql(
    "SELECT c.tenant_id, c.id, c.status FROM payments.connections c"
    " WHERE c.tenant_id = :tenant AND c.status <> 'closed' ORDER BY c.id FOR NO KEY UPDATE OF c"
)
_LIST = sql(
    f"SELECT {_COLUMNS} FROM payments.connections c WHERE c.tenant_id = :tenant"
    " AND (c.created_at, c.id) < (:before_at, :before_id)"
    " ORDER BY c.created_at DESC, c.id DESC LIMIT :limit"
)
_OF_ITSELF = sql(
    f"SELECT {_COLUMNS} FROM payments.connections c WHERE c.tenant_id = :tenant AND c.opens_itself"
)
_INSERT = sql(
    "INSERT INTO payments.connections (tenant_id, id, provider, name, status, opens_itself,"
    " currencies, position, credentials_shown, credentials_encrypted, webhook_secret_encrypted,"
    " created_at) VALUES (:tenant, :id, :provider, :name, 'opening', :opens_itself,"
    " CAST(:currencies AS text[]), :position, CAST(:shown AS jsonb), :credentials, :secret,"
    " :created_at) ON CONFLICT (tenant_id) WHERE opens_itself DO NOTHING"
)
_ACTIVATE = sql(
    "UPDATE payments.connections SET webhook_path_encrypted = :path,"
    " status = CASE status WHEN 'opening' THEN 'active' ELSE status END"
    " WHERE tenant_id = :tenant AND id = :id AND revision = :revision"
)
_CHANGE = sql(
    "UPDATE payments.connections SET name = :name, currencies = CAST(:currencies AS text[]),"
    " position = :position WHERE tenant_id = :tenant AND id = :id"
)
_NEW_CREDENTIALS = sql(
    "UPDATE payments.connections SET revision = revision + 1, credentials_encrypted = :credentials,"
    " webhook_secret_encrypted = :secret, credentials_shown = CAST(:shown AS jsonb)"
    " WHERE tenant_id = :tenant AND id = :id"
)
_NEW_ADDRESS = sql(
    "UPDATE payments.connections SET revision = revision + 1, address_number = address_number + 1"
    " WHERE tenant_id = :tenant AND id = :id"
)
_CLOSE = sql(
    "UPDATE payments.connections SET status = 'closed', closed_at = :at"
    " WHERE tenant_id = :tenant AND id = :id AND status <> 'closed'"
)
_DROP_DEFAULTS = sql(
    "DELETE FROM payments.currency_defaults WHERE tenant_id = :tenant AND connection_id = :id"
    " AND currency <> ALL (CAST(:currencies AS text[]))"
)
_SET_DEFAULTS = sql(
    "INSERT INTO payments.currency_defaults (tenant_id, currency, connection_id)"
    " SELECT :tenant, currency, :id FROM unnest(CAST(:currencies AS text[])) AS w(currency)"
    " ORDER BY currency"
    " ON CONFLICT (tenant_id, currency) DO UPDATE SET connection_id = excluded.connection_id"
)
_ASSIGN = sql(
    "UPDATE payments.payments SET connection_id = :connection"
    " WHERE tenant_id = :tenant AND id = :payment AND connection_id IS NULL"
)
_ASSIGNED = sql(
    "SELECT connection_id FROM payments.payments WHERE tenant_id = :tenant AND id = :payment"
    " FOR NO KEY UPDATE"
)
_CIPHERS = sql(
    "SELECT c.id, c.credentials_encrypted, c.webhook_secret_encrypted, c.webhook_path_encrypted"
    " FROM payments.connections c WHERE c.tenant_id = :tenant AND c.id > :after"
    " ORDER BY c.id LIMIT :limit FOR NO KEY UPDATE OF c"
)
_SAVE_CIPHERS = sql(
    "UPDATE payments.connections AS c SET credentials_encrypted = w.credentials,"
    " webhook_secret_encrypted = w.secret, webhook_path_encrypted = w.path"
    " FROM unnest(CAST(:ids AS uuid[]), CAST(:credentials AS bytea[]), CAST(:secrets AS bytea[]),"
    " CAST(:paths AS bytea[])) AS w(id, credentials, secret, path)"
    " WHERE c.tenant_id = :tenant AND c.id = w.id"
)
_MODE = sql("SELECT mode FROM identity.clocks WHERE tenant_id = :tenant")


async def connections(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """Connections with their encrypted credentials."""
    rows = await tx.rows(_BY_ID, **split(keys))
    return {(row.tenant_id, row.id): row for row in rows}


async def open_ones(tx: Tx, tenant_id: UUID) -> Sequence[Row[Any]]:
    """The tenant's connections that are not closed."""
    return await tx.rows(_OPEN, tenant=tenant_id, limit=MOST_OPEN + 1)


async def lock_open(tx: Tx, tenant_id: UUID) -> set[UUID]:
    """Lock all connections of the tenant that are not closed, in order: who changes one decides
    alone. Returns their ids."""
    return {row.id for row in await tx.rows(_LOCK_OPEN, tenant=tenant_id)}


async def listed(
    tx: Tx, tenant_id: UUID, *, before: tuple[datetime, UUID], limit: int
) -> Sequence[Row[Any]]:
    """Connections from the newest, older than ``before``."""
    return await tx.rows(
        _LIST, tenant=tenant_id, before_at=before[0], before_id=before[1], limit=limit
    )


async def of_itself(tx: Tx, tenant_id: UUID) -> Row[Any] | None:
    """The connection to the sandbox that opened itself, or None."""
    rows = await tx.rows(_OF_ITSELF, tenant=tenant_id)
    return rows[0] if rows else None


async def insert(tx: Tx, row: Mapping[str, Any]) -> None:
    """Record the intent to connect; a second one that opens itself is left out."""
    await tx.run(
        _INSERT,
        tenant=row["tenant_id"],
        id=row["id"],
        provider=row["provider"],
        name=row["name"],
        opens_itself=row["opens_itself"],
        currencies=sorted(row["currencies"]),
        position=row["position"],
        shown=_json(row["shown"]).decode(),
        credentials=row["credentials_encrypted"],
        secret=row["secret_encrypted"],
        created_at=row["created_at"],
    )


async def activate(tx: Tx, key: Key, *, revision: int, path_encrypted: bytes) -> bool:
    """Provider and webhooks know this revision of the connection; False if there is a newer one."""
    done = await tx.run(_ACTIVATE, tenant=key[0], id=key[1], revision=revision, path=path_encrypted)
    return done > 0


async def change(tx: Tx, key: Key, *, name: str, currencies: Iterable[str], position: int) -> None:
    """Replace what a person says of a locked connection."""
    await tx.run(
        _CHANGE,
        tenant=key[0],
        id=key[1],
        name=name,
        currencies=sorted(currencies),
        position=position,
    )


async def set_credentials(
    tx: Tx,
    key: Key,
    *,
    credentials_encrypted: bytes,
    secret_encrypted: bytes,
    shown: Mapping[str, str],
) -> None:
    """Replace the credentials of a locked connection: its next revision."""
    await tx.run(
        _NEW_CREDENTIALS,
        tenant=key[0],
        id=key[1],
        credentials=credentials_encrypted,
        secret=secret_encrypted,
        shown=_json(shown).decode(),
    )


async def set_address(tx: Tx, key: Key) -> None:
    """The next webhook address of a locked connection: its next revision."""
    await tx.run(_NEW_ADDRESS, tenant=key[0], id=key[1])


async def close(tx: Tx, key: Key, *, at: datetime) -> bool:
    """Close a locked connection; False if it was closed before."""
    return await tx.run(_CLOSE, tenant=key[0], id=key[1], at=at) > 0


async def set_defaults(tx: Tx, key: Key, currencies: Iterable[str]) -> None:
    """A connection is the default for exactly these currencies; others lose them. The tenant's
    connections are locked."""
    wanted = sorted(set(currencies))
    await tx.run(_DROP_DEFAULTS, tenant=key[0], id=key[1], currencies=wanted)
    if wanted:
        await tx.run(_SET_DEFAULTS, tenant=key[0], id=key[1], currencies=wanted)


async def assigned(tx: Tx, payment: Key) -> UUID | None:
    """The connection that a payment goes through; the payment is locked."""
    rows = await tx.rows(_ASSIGNED, tenant=payment[0], payment=payment[1])
    return rows[0].connection_id if rows else None


async def assign(tx: Tx, payment: Key, connection_id: UUID) -> None:
    """A locked payment goes through this connection from now on."""
    await tx.run(_ASSIGN, tenant=payment[0], payment=payment[1], connection=connection_id)


async def lock_ciphers(tx: Tx, tenant_id: UUID, *, after: UUID, limit: int) -> Sequence[Row[Any]]:
    """What is encrypted of the tenant's next connections, locked."""
    return await tx.rows(_CIPHERS, tenant=tenant_id, after=after, limit=limit)


async def save_ciphers(
    tx: Tx, tenant_id: UUID, rows: Sequence[tuple[UUID, bytes, bytes, bytes | None]]
) -> None:
    """Replace ciphertexts of locked connections: id, credentials, secret, path."""
    await tx.run(
        _SAVE_CIPHERS,
        tenant=tenant_id,
        ids=[each for each, _, _, _ in rows],
        credentials=[each for _, each, _, _ in rows],
        secrets=[each for _, _, each, _ in rows],
        paths=[each for _, _, _, each in rows],
    )


async def mode_of(tx: Tx, tenant_id: UUID) -> str:
    """``live`` or ``sandbox``."""
    rows = await tx.rows(_MODE, tenant=tenant_id)
    return str(rows[0].mode)
