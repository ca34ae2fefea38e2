"""All SQL of webhooks: endpoints, and what was received at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
_REGISTER = sql(
    "INSERT INTO webhooks.endpoints (tenant_id, id, provider, connection_id, token_hash,"
    " token_encrypted, secret_encrypted, created_at) VALUES (:tenant, :id, :provider,"
    " :connection, :hash, :token, :secret, :created_at)"
    " ON CONFLICT (tenant_id, connection_id) DO UPDATE"
    " SET secret_encrypted = excluded.secret_encrypted"
)
_RECEIVE = sql(
    """
    INSERT INTO webhooks.received
        (tenant_id, id, endpoint_id, dedupe_key, kind, trust, body_encrypted, received_at)
    SELECT :tenant, id, :endpoint, dedupe_key, kind, :trust, :body, clock_timestamp()
    FROM unnest(CAST(:ids AS uuid[]), CAST(:dedupe_keys AS text[]), CAST(:kinds AS text[]))
        AS w(id, dedupe_key, kind)
    ORDER BY dedupe_key
    ON CONFLICT (tenant_id, endpoint_id, dedupe_key) DO NOTHING
    RETURNING id
    """
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
    await tx.use_tenants([found[0].tenant_id])
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
) -> Row[Any]:
    """Open the connection's endpoint, or give the one it has a new secret."""
    await tx.run(
        _REGISTER,
        tenant=tenant_id,
        id=tx.ids.new(),
        provider=provider,
        connection=connection_id,
        hash=token_hash,
        token=token_encrypted,
        secret=secret_encrypted,
        created_at=await tx.now(tenant_id),
    )
    return (await tx.rows(_OF_CONNECTION, tenant=tenant_id, connection=connection_id))[0]


async def receive(
    tx: Tx,
    *,
    tenant_id: UUID,
    endpoint_id: UUID,
    trust: str,
    body_encrypted: bytes,
    rows: Sequence[Mapping[str, Any]],
) -> set[UUID]:
    """Keep what was received; the ids of what was not received before."""
    kept = await tx.rows(
        _RECEIVE,
        tenant=tenant_id,
        endpoint=endpoint_id,
        trust=trust,
        body=body_encrypted,
        ids=[row["id"] for row in rows],
        dedupe_keys=[row["dedupe_key"] for row in rows],
        kinds=[row["kind"] for row in rows],
    )
    return {row.id for row in kept}


async def purge(tx: Tx, limit: int) -> int:
    """Forget what is older than 30 days (wall clock), at most ``limit`` of all tenants."""
    async with tx.reading_as(DUE_READER):
        tenants = [row.tenant_id for row in await tx.rows(_TENANTS)]
    await tx.use_tenants(tenants)
    return await tx.run(_PURGE, tenants=tenants, limit=limit)
