"""All SQL of webhooks: endpoints, and what was received at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.db import DUE_READER, TENANT_FINDER, Tx, sql

KEPT_DAYS = 30

_BY_TOKEN = sql("SELECT tenant_id, id FROM webhooks.endpoints WHERE token_hash = :hash")
_ENDPOINT = sql(
    "SELECT tenant_id, id, provider, connection_id, token_encrypted, secret_encrypted"
    " FROM webhooks.endpoints WHERE tenant_id = :tenant AND id = :id"
)
_OF_CONNECTION = sql(
    "SELECT tenant_id, id, provider, connection_id, token_encrypted, secret_encrypted"
    " FROM webhooks.endpoints WHERE tenant_id = :tenant AND connection_id = :connection"
)
# A higher number is a new address, a higher revision a newer secret; lower ones come from a caller
# that another has overtaken.
_REGISTER = sql(
    """
    INSERT INTO webhooks.endpoints AS e (tenant_id, id, provider, connection_id, token_hash,
        token_encrypted, secret_encrypted, address_number, revision, created_at)
    VALUES (:tenant, :id, :provider, :connection, :hash, :token, :secret, :number, :revision,
        :created_at)
    ON CONFLICT (tenant_id, connection_id) DO UPDATE SET
        secret_encrypted = CASE WHEN excluded.revision >= e.revision
            THEN excluded.secret_encrypted ELSE e.secret_encrypted END,
        revision = greatest(excluded.revision, e.revision),
        token_hash = CASE WHEN excluded.address_number > e.address_number
            THEN excluded.token_hash ELSE e.token_hash END,
        token_encrypted = CASE WHEN excluded.address_number > e.address_number
            THEN excluded.token_encrypted ELSE e.token_encrypted END,
        address_number = greatest(excluded.address_number, e.address_number)
    """
)
_RECEIVE = sql(
    """
    INSERT INTO webhooks.received
        (tenant_id, id, endpoint_id, dedupe_key, kind, trust, body_encrypted, received_at)
    SELECT w.*, clock_timestamp()
    FROM unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[]), CAST(:endpoints AS uuid[]),
        CAST(:dedupe_keys AS text[]), CAST(:kinds AS text[]), CAST(:trusts AS text[]),
        CAST(:bodies AS bytea[])) AS w(tenant_id, id, endpoint_id, dedupe_key, kind, trust, body)
    ORDER BY tenant_id, endpoint_id, dedupe_key
    ON CONFLICT (tenant_id, endpoint_id, dedupe_key) DO NOTHING
    RETURNING id
    """
)
_COLUMNS = "r.tenant_id, r.id, r.endpoint_id, r.dedupe_key, r.kind, r.trust, r.received_at"
_ONE = sql(
    f"SELECT {_COLUMNS}, r.body_encrypted, e.connection_id, e.provider FROM webhooks.received r"
    " JOIN webhooks.endpoints e ON e.tenant_id = r.tenant_id AND e.id = r.endpoint_id"
    " WHERE r.tenant_id = :tenant AND r.id = :id"
)


def _listing(condition: str) -> str:
    # The endpoints are few and joined last; the page comes out of one index.
    return (
        f"SELECT p.*, e.connection_id, e.provider FROM (SELECT {_COLUMNS}"
        f" FROM webhooks.received r WHERE r.tenant_id = :tenant{condition}"
        " AND r.received_at >= :since AND (r.received_at, r.id) < (:before_at, :before_id)"
        " ORDER BY r.received_at DESC, r.id DESC LIMIT :limit) AS p"
        " JOIN webhooks.endpoints e ON e.tenant_id = p.tenant_id AND e.id = p.endpoint_id"
        " ORDER BY p.received_at DESC, p.id DESC"
    )


_LIST = {
    None: sql(_listing("")),
    "endpoint_id": sql(_listing(" AND r.endpoint_id = :value")),
    "kind": sql(_listing(" AND r.kind = :value")),
    "trust": sql(_listing(" AND r.trust = :value")),
}
_RANGE = sql(
    f"SELECT {_COLUMNS}, r.body_encrypted FROM webhooks.received r"
    " WHERE r.tenant_id = :tenant AND r.endpoint_id = :endpoint AND r.received_at < :until"
    " AND (r.received_at, r.id) > (:after_at, :after_id)"
    " ORDER BY r.received_at, r.id LIMIT :limit"
)
_CIPHERS = sql(
    "SELECT e.id, e.token_encrypted, e.secret_encrypted FROM webhooks.endpoints e"
    " WHERE e.tenant_id = :tenant AND e.id > :after ORDER BY e.id LIMIT :limit"
    " FOR NO KEY UPDATE OF e"
)
_SAVE_CIPHERS = sql(
    "UPDATE webhooks.endpoints AS e SET token_encrypted = w.token, secret_encrypted = w.secret"
    " FROM unnest(CAST(:ids AS uuid[]), CAST(:tokens AS bytea[]), CAST(:secrets AS bytea[]))"
    " AS w(id, token, secret) WHERE e.tenant_id = :tenant AND e.id = w.id"
)
_TENANTS = sql("SELECT tenant_id FROM identity.clocks ORDER BY tenant_id")
_PURGE = sql(
    f"""
    DELETE FROM webhooks.received WHERE (tenant_id, id) IN (
        SELECT r.tenant_id, r.id FROM unnest(CAST(:tenants AS uuid[])) AS w(tenant_id)
        CROSS JOIN LATERAL (
            SELECT r.tenant_id, r.id FROM webhooks.received r
            WHERE r.tenant_id = w.tenant_id
              AND r.received_at < statement_timestamp() - interval '{KEPT_DAYS} days'
            ORDER BY r.received_at LIMIT :limit
        ) AS r LIMIT :limit)
    """
)


async def endpoint_by_token(tx: Tx, token_hash: bytes) -> Row[Any] | None:
    """The endpoint with this token, whoever's it is; its tenant is visible afterwards."""
    async with tx.reading_as(TENANT_FINDER):
        found = await tx.rows(_BY_TOKEN, hash=token_hash)
    if not found:
        return None
    tx.use_tenants([found[0].tenant_id])
    return (await tx.rows(_ENDPOINT, tenant=found[0].tenant_id, id=found[0].id))[0]


async def register(
    tx: Tx,
    *,
    tenant_id: UUID,
    provider: str,
    connection_id: UUID,
    token_hash: bytes,
    token_encrypted: bytes,
    secret_encrypted: bytes,
    number: int,
    revision: int,
) -> Row[Any]:
    """Open the connection's endpoint, or give the one it has the secret of a newer revision and,
    for a higher number, a new address."""
    await tx.run(
        _REGISTER,
        tenant=tenant_id,
        id=tx.ids.new(),
        provider=provider,
        connection=connection_id,
        hash=token_hash,
        token=token_encrypted,
        secret=secret_encrypted,
        number=number,
        revision=revision,
        created_at=await tx.now(tenant_id),
    )
    return (await tx.rows(_OF_CONNECTION, tenant=tenant_id, connection=connection_id))[0]


async def receive(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> set[UUID]:
    """Keep what was received; the ids of what was not received before."""
    kept = await tx.rows(
        _RECEIVE,
        tenants=[row["tenant_id"] for row in rows],
        ids=[row["id"] for row in rows],
        endpoints=[row["endpoint_id"] for row in rows],
        dedupe_keys=[row["dedupe_key"] for row in rows],
        kinds=[row["kind"] for row in rows],
        trusts=[row["trust"] for row in rows],
        bodies=[row["body_encrypted"] for row in rows],
    )
    return {row.id for row in kept}


async def endpoint_of(tx: Tx, tenant_id: UUID, connection_id: UUID) -> Row[Any] | None:
    """The connection's endpoint, or None."""
    rows = await tx.rows(_OF_CONNECTION, tenant=tenant_id, connection=connection_id)
    return rows[0] if rows else None


async def received(tx: Tx, tenant_id: UUID, received_id: UUID) -> Row[Any] | None:
    """One of what was received, with its encrypted body, or None."""
    rows = await tx.rows(_ONE, tenant=tenant_id, id=received_id)
    return rows[0] if rows else None


async def listed(
    tx: Tx,
    tenant_id: UUID,
    *,
    before: tuple[datetime, UUID],
    since: datetime,
    limit: int,
    by: tuple[str, object] | None = None,
) -> Sequence[Row[Any]]:
    """What was received from ``since`` on and before ``before``, the newest first; narrowed by one
    of ``endpoint_id``, ``kind`` and ``trust``."""
    values = {
        "tenant": tenant_id,
        "before_at": before[0],
        "before_id": before[1],
        "since": since,
        "limit": limit,
    }
    if by is None:
        return await tx.rows(_LIST[None], **values)
    return await tx.rows(_LIST[by[0]], value=by[1], **values)


async def in_range(
    tx: Tx,
    tenant_id: UUID,
    endpoint_id: UUID,
    *,
    after: tuple[datetime, UUID],
    until: datetime,
    limit: int,
) -> Sequence[Row[Any]]:
    """What an endpoint received after ``after`` and before ``until``, the oldest first, with
    encrypted bodies."""
    return await tx.rows(
        _RANGE,
        tenant=tenant_id,
        endpoint=endpoint_id,
        after_at=after[0],
        after_id=after[1],
        until=until,
        limit=limit,
    )


async def lock_ciphers(tx: Tx, tenant_id: UUID, *, after: UUID, limit: int) -> Sequence[Row[Any]]:
    """What is encrypted of the tenant's next endpoints, locked."""
    return await tx.rows(_CIPHERS, tenant=tenant_id, after=after, limit=limit)


async def save_ciphers(tx: Tx, tenant_id: UUID, rows: Sequence[tuple[UUID, bytes, bytes]]) -> None:
    """Replace ciphertexts of locked endpoints: id, token, secret."""
    await tx.run(
        _SAVE_CIPHERS,
        tenant=tenant_id,
        ids=[each for each, _, _ in rows],
        tokens=[each for _, each, _ in rows],
        secrets=[each for _, _, each in rows],
    )


async def purge(tx: Tx, limit: int) -> int:
    """Forget what is older than 30 days (wall clock), at most ``limit`` of all tenants."""
    async with tx.reading_as(DUE_READER):
        tenants = [row.tenant_id for row in await tx.rows(_TENANTS)]
    tx.use_tenants(tenants)
    return await tx.run(_PURGE, tenants=tenants, limit=limit)
