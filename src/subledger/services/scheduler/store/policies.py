"""Dunning policies. The default one has its tenant's id, and no segment."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row

from subledger.platform.db import Tx, sql
from subledger.services.scheduler.policies import (
    DEFAULT_KEPT,
    DEFAULT_NAME,
    Kept,
    Named,
    Shelf,
    Terms,
)

_COLUMNS = (
    "p.tenant_id, p.id, p.name, p.version, p.segment::text AS segment, p.terms::text AS terms"
)
_ALL = sql(
    f"SELECT {_COLUMNS} FROM scheduler.policies p"
    " WHERE p.tenant_id = ANY (CAST(:tenants AS uuid[])) ORDER BY p.tenant_id, p.id"
)
_LIST = sql(
    f"SELECT {_COLUMNS} FROM scheduler.policies p"
    " WHERE p.tenant_id = :tenant AND p.id < :before AND p.segment IS NOT NULL"
    " ORDER BY p.id DESC LIMIT :limit"
)
_LOCK_TENANT = sql("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
_PUT = sql(
    "INSERT INTO scheduler.policies AS p"
    " (tenant_id, id, name, version, segment, terms, updated_at)"
    " VALUES (:tenant, :id, :name, 1, CAST(:segment AS jsonb), CAST(:terms AS jsonb), :at)"
    " ON CONFLICT (tenant_id, id) DO UPDATE SET name = excluded.name, version = p.version + 1,"
    " segment = excluded.segment, terms = excluded.terms, updated_at = excluded.updated_at"
)
_DELETE = sql("DELETE FROM scheduler.policies WHERE tenant_id = :tenant AND id = :id")

_terms = msgspec.json.Decoder(Terms)
_named = msgspec.json.Decoder(Named)


def read_terms(text: str) -> Terms:
    """Terms from their JSON text."""
    return _terms.decode(text)


def terms_text(terms: Terms) -> str:
    """Terms as JSON text."""
    return msgspec.json.encode(terms).decode()


def _kept(row: Row[Any]) -> Kept:
    if row.segment is None:
        return Kept(None, DEFAULT_NAME, row.version, read_terms(row.terms))
    return Kept(row.id, row.name, row.version, read_terms(row.terms), _named.decode(row.segment))


async def lock(tx: Tx, tenant_id: UUID) -> None:
    """Let nobody else change the tenant's policies until the transaction ends."""
    await tx.rows(_LOCK_TENANT, name=f"scheduler.policies:{tenant_id}")


async def shelves(tx: Tx, tenants: Iterable[UUID]) -> dict[UUID, Shelf]:
    """The policies of each tenant, the oldest first."""
    wanted = sorted(set(tenants))
    found: dict[UUID, list[Kept]] = {tenant: [] for tenant in wanted}
    for row in await tx.rows(_ALL, tenants=wanted):
        found[row.tenant_id].append(_kept(row))
    return {
        tenant: Shelf(
            next((each for each in kept if each.id is None), DEFAULT_KEPT),
            [each for each in kept if each.id is not None],
        )
        for tenant, kept in found.items()
    }


async def listed(tx: Tx, tenant_id: UUID, *, before: UUID, limit: int) -> list[Kept]:
    """Named policies with an id below ``before``, the newest first."""
    rows = await tx.rows(_LIST, tenant=tenant_id, before=before, limit=limit)
    return [_kept(row) for row in rows]


async def put(
    tx: Tx,
    tenant_id: UUID,
    *,
    policy_id: UUID | None,
    name: str,
    named: Named | None,
    terms: Terms,
    at: datetime,
) -> None:
    """A new policy, or the next version of one (``policy_id`` None: the default policy)."""
    await tx.run(
        _PUT,
        tenant=tenant_id,
        id=policy_id or tenant_id,
        name=name,
        segment=None if named is None else msgspec.json.encode(named).decode(),
        terms=terms_text(terms),
        at=at,
    )


async def delete(tx: Tx, tenant_id: UUID, policy_id: UUID) -> int:
    """Remove a policy; how many there were."""
    return await tx.run(_DELETE, tenant=tenant_id, id=policy_id)
