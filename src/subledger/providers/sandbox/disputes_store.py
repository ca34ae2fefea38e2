"""SQL of the sandbox provider's disputes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.bulk import Insert, Update
from subledger.platform.db import Tx, sql
from subledger.providers.sandbox import tables

_ADD = Insert(tables.disputes, [column.name for column in tables.disputes.c])
_ADD_ENTRIES = Insert(tables.dispute_entries, [column.name for column in tables.dispute_entries.c])
_CLOSE = Update(
    tables.disputes, keys=["tenant_id", "id"], sets=["outcome", "fee_minor", "closed_at"]
)
_DISPUTE = (
    "d.tenant_id, d.id, d.charge_id, d.attempt_id, d.amount_minor, d.currency, d.reason,"
    " d.fee_minor, d.outcome, d.evidence_due_at, d.opened_at, d.closed_at"
)
_OF_ATTEMPT = sql(
    f"SELECT {_DISPUTE} FROM sandbox.disputes d"
    " WHERE d.tenant_id = :tenant AND d.attempt_id = :attempt ORDER BY d.opened_at, d.id"
)
_LOCK = sql(
    f"SELECT {_DISPUTE} FROM sandbox.disputes d WHERE d.tenant_id = :tenant AND d.id = :id"
    " FOR NO KEY UPDATE"
)
_SUMMARY = sql(
    "SELECT currency, coalesce(sum(amount_minor) FILTER (WHERE outcome IS DISTINCT FROM 'won'),"
    " 0)::bigint AS disputed_minor, sum(fee_minor)::bigint AS fees_minor"
    " FROM sandbox.disputes WHERE tenant_id = :tenant AND opened_at <= :now GROUP BY currency"
)


async def add(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    await _ADD(tx, rows)


async def close(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Outcomes of locked disputes."""
    await _CLOSE(tx, rows)


async def add_entries(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """What disputes took and gave back, in the journal."""
    await _ADD_ENTRIES(tx, rows)


async def of_attempt(tx: Tx, tenant: UUID, attempt: str) -> Sequence[Row[Any]]:
    """All disputes of an attempt's capture, also those that are yet to be opened."""
    return await tx.rows(_OF_ATTEMPT, tenant=tenant, attempt=attempt)


async def lock(tx: Tx, tenant: UUID, dispute_id: UUID) -> Row[Any] | None:
    rows = await tx.rows(_LOCK, tenant=tenant, id=dispute_id)
    return rows[0] if rows else None


async def taken(tx: Tx, tenant: UUID) -> Sequence[Row[Any]]:
    """What open and lost disputes took out of the balance, and all disputes' fees, by currency."""
    return await tx.rows(_SUMMARY, tenant=tenant, now=await tx.now(tenant))
