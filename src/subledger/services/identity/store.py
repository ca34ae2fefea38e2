"""All SQL of identity, except the clock mover's own questions (``clock/quiet.py``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.bulk import Insert
from subledger.platform.db import DUE_READER, TENANT_FINDER, Tx, sql
from subledger.services.identity import tables

# --- tenants ------------------------------------------------------------------------------------

_INSERT_TENANTS = Insert(
    tables.tenants, ["tenant_id", "name", "mode", "live_tenant_id", "created_at"]
)
_INSERT_CLOCKS = Insert(tables.clocks, ["tenant_id", "mode", "now_at", "now_rank", "now_number"])
_TENANTS = sql(
    "SELECT tenant_id, name, mode, live_tenant_id, created_at FROM identity.tenants"
    " WHERE tenant_id = ANY (CAST(:tenants AS uuid[])) AND deleted_at IS NULL ORDER BY tenant_id"
)
_LOCK_TENANTS = sql(
    "SELECT tenant_id, mode FROM identity.tenants"
    " WHERE tenant_id = ANY (CAST(:tenants AS uuid[])) AND deleted_at IS NULL"
    " ORDER BY tenant_id FOR NO KEY UPDATE"
)
_SANDBOXES = sql(
    "SELECT tenant_id FROM identity.tenants WHERE live_tenant_id = :live AND deleted_at IS NULL"
    " AND tenant_id > :after ORDER BY tenant_id LIMIT :limit"
)
_ALL_TENANTS = sql(
    "SELECT tenant_id FROM identity.tenants WHERE tenant_id > :after ORDER BY tenant_id"
    " LIMIT :limit"
)
_DELETE_TENANTS = sql(
    "UPDATE identity.tenants SET deleted_at = clock_timestamp()"
    " WHERE tenant_id = ANY (CAST(:tenants AS uuid[])) AND deleted_at IS NULL"
)
_STOP_CLOCKS = sql(
    "UPDATE identity.clocks SET stopped_at = clock_timestamp()"
    " WHERE tenant_id = ANY (CAST(:tenants AS uuid[])) AND stopped_at IS NULL"
)

FIRST = UUID(int=0)
"""Before every id: where a listing starts."""


async def insert_tenants(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """New tenants with their clocks: ``tenant_id, name, mode, live_tenant_id, created_at,
    now_at`` (null for live ones). They must be visible in the transaction."""
    ordered = sorted(rows, key=lambda row: row["tenant_id"].bytes)
    await _INSERT_TENANTS(tx, ordered)
    latest = {"now_rank": 32767, "now_number": 9223372036854775807}
    await _INSERT_CLOCKS(tx, [{**row, **latest} for row in ordered])


async def tenants(tx: Tx, tenant_ids: Iterable[UUID]) -> Sequence[Row[Any]]:
    """The visible tenants among these that are not deleted."""
    return await tx.rows(_TENANTS, tenants=list(tenant_ids))


async def lock_tenants(tx: Tx, tenant_ids: Iterable[UUID]) -> Sequence[Row[Any]]:
    """Lock tenants that are not deleted, in order: root rows of identity."""
    return await tx.rows(_LOCK_TENANTS, tenants=list(tenant_ids))


async def sandboxes_of(
    tx: Tx, live_tenant_id: UUID, *, after: UUID = FIRST, limit: int = 1000
) -> list[UUID]:
    """The sandbox tenants linked to a live one, ascending."""
    async with tx.reading_as(TENANT_FINDER):
        rows = await tx.rows(_SANDBOXES, live=live_tenant_id, after=after, limit=limit)
    return [row.tenant_id for row in rows]


async def all_tenants(tx: Tx, *, after: UUID = FIRST, limit: int = 1000) -> list[UUID]:
    """Every tenant, deleted ones too, ascending: for jobs that walk them in batches."""
    async with tx.reading_as(TENANT_FINDER):
        rows = await tx.rows(_ALL_TENANTS, after=after, limit=limit)
    return [row.tenant_id for row in rows]


async def delete_tenants(tx: Tx, tenant_ids: Iterable[UUID]) -> None:
    """Mark tenants deleted and stop their clocks, so that nothing of theirs comes due."""
    listed = list(tenant_ids)
    await tx.run(_DELETE_TENANTS, tenants=listed)
    await tx.run(_STOP_CLOCKS, tenants=listed)


# --- API keys -----------------------------------------------------------------------------------

_INSERT_KEYS = Insert(
    tables.api_keys,
    ["tenant_id", "id", "key_hash", "last_four", "role", "name", "created_at"],
)
_KEY_COLUMNS = "tenant_id, id, last_four, role, name, created_at, revoked_at"
_KEYS = sql(
    f"SELECT {_KEY_COLUMNS} FROM identity.api_keys"
    " WHERE tenant_id = :tenant AND id = ANY (CAST(:ids AS uuid[])) ORDER BY id"
)
_LIST_KEYS = sql(
    f"SELECT {_KEY_COLUMNS} FROM identity.api_keys"
    " WHERE tenant_id = :tenant AND id > :after ORDER BY id LIMIT :limit"
)
_LOCK_KEYS = sql(
    "SELECT id, role, revoked_at FROM identity.api_keys"
    " WHERE tenant_id = :tenant AND revoked_at IS NULL ORDER BY id FOR NO KEY UPDATE"
)
_REVOKE_KEYS = sql(
    "UPDATE identity.api_keys SET revoked_at = :at"
    " WHERE tenant_id = :tenant AND id = ANY (CAST(:ids AS uuid[])) AND revoked_at IS NULL"
)
_FIND_KEYS = sql(
    "SELECT k.tenant_id, k.id, k.key_hash, k.role, t.mode FROM identity.api_keys k"
    " JOIN identity.tenants t ON t.tenant_id = k.tenant_id"
    " WHERE k.key_hash = ANY (CAST(:hashes AS bytea[]))"
    " AND k.revoked_at IS NULL AND t.deleted_at IS NULL"
)


async def insert_keys(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """New keys; only their hash and last four letters are kept."""
    await _INSERT_KEYS(tx, rows)


async def keys(tx: Tx, tenant_id: UUID, key_ids: Iterable[UUID]) -> Sequence[Row[Any]]:
    return await tx.rows(_KEYS, tenant=tenant_id, ids=list(key_ids))


async def list_keys(tx: Tx, tenant_id: UUID, *, after: UUID, limit: int) -> Sequence[Row[Any]]:
    return await tx.rows(_LIST_KEYS, tenant=tenant_id, after=after, limit=limit)


async def lock_valid_keys(tx: Tx, tenant_id: UUID) -> Sequence[Row[Any]]:
    """Lock the tenant's keys that are not revoked, in order."""
    return await tx.rows(_LOCK_KEYS, tenant=tenant_id)


async def revoke_keys(tx: Tx, tenant_id: UUID, key_ids: Iterable[UUID], *, at: Any) -> int:
    return await tx.run(_REVOKE_KEYS, tenant=tenant_id, ids=list(key_ids), at=at)


async def find_keys(tx: Tx, hashes: Sequence[bytes]) -> Sequence[Row[Any]]:
    """Valid keys of tenants that are not deleted, by their hash: the tenant finder's question."""
    async with tx.reading_as(TENANT_FINDER):
        return await tx.rows(_FIND_KEYS, hashes=list(hashes))


# --- clocks and their moves ---------------------------------------------------------------------

_LOCK_CLOCKS = sql(
    "SELECT tenant_id, mode, now_at FROM identity.clocks"
    " WHERE tenant_id = ANY (CAST(:tenants AS uuid[])) ORDER BY tenant_id FOR NO KEY UPDATE"
)
_INSERT_MOVES = sql(
    "INSERT INTO identity.clock_moves"
    " (tenant_id, id, status, from_at, target_at, reached_at, marks)"
    " SELECT :tenant, :id, 'moving', :from_at, :target_at, :from_at,"
    " (SELECT jsonb_object_agg(h.partition, h.position) FROM eventlog.heads h)"
)
_MOVE_COLUMNS = (
    "tenant_id, id, status, from_at, target_at, reached_at, steps, moment_steps, advanced_at,"
    " result::text AS result, marks::text AS marks, created_at, finished_at"
)
_MOVES = sql(
    f"SELECT {_MOVE_COLUMNS} FROM identity.clock_moves"
    " WHERE tenant_id = :tenant AND id = ANY (CAST(:ids AS uuid[])) ORDER BY id"
)
_LIST_MOVES = sql(
    f"SELECT {_MOVE_COLUMNS} FROM identity.clock_moves"
    " WHERE tenant_id = :tenant AND id < :before ORDER BY id DESC LIMIT :limit"
)
_MOVING = sql(
    "SELECT tenant_id, id FROM identity.clock_moves WHERE finished_at IS NULL"
    " ORDER BY tenant_id LIMIT :limit"
)
_OPEN_MOVES = sql(
    "SELECT id FROM identity.clock_moves WHERE tenant_id = :tenant AND finished_at IS NULL"
)
_CLAIM_MOVES = sql(
    f"SELECT {_MOVE_COLUMNS} FROM identity.clock_moves"
    " WHERE tenant_id = :tenant AND id = :id AND finished_at IS NULL"
    " FOR NO KEY UPDATE SKIP LOCKED"
)
_CLOCKS = sql(
    "SELECT tenant_id, mode, coalesce(now_at, clock_timestamp()) AS now_at, now_rank, now_number"
    " FROM identity.clocks WHERE tenant_id = ANY (CAST(:tenants AS uuid[])) ORDER BY tenant_id"
)
_SET_CLOCKS = sql(
    "UPDATE identity.clocks SET now_at = :at, now_rank = :rank, now_number = :number"
    " WHERE tenant_id = :tenant"
)
_ADVANCE_MOVES = sql(
    "UPDATE identity.clock_moves SET steps = steps + 1, reached_at = :at,"
    " moment_steps = CASE WHEN reached_at < :at THEN 1 ELSE moment_steps + 1 END,"
    " advanced_at = CASE WHEN reached_at < :at THEN clock_timestamp() ELSE advanced_at END"
    " WHERE tenant_id = :tenant AND id = :id"
)
_FINISH_MOVES = sql(
    "UPDATE identity.clock_moves SET status = :status, reached_at = :at,"
    " result = CAST(:result AS jsonb), finished_at = clock_timestamp()"
    " WHERE tenant_id = :tenant AND id = :id"
)
# In the order of positions: else the planner, who cannot know how few are new, reads all.
_EVENTS_SINCE = """
    FROM unnest(CAST(:partitions AS smallint[]), CAST(:positions AS bigint[]))
        AS m(partition, position)
    CROSS JOIN LATERAL (
        SELECT e.type, e.subject FROM eventlog.events e
        WHERE e.partition = m.partition AND e.position > m.position AND e.tenant_id = :tenant
    """
_COUNT_EVENTS = sql(
    f"SELECT e.type, count(*) AS times {_EVENTS_SINCE} ORDER BY e.position) AS e"
    " GROUP BY e.type ORDER BY e.type"
)
_RESTLESS = sql(
    f"SELECT e.subject, e.type, count(*) AS times {_EVENTS_SINCE}"
    " AND e.subject <> :tenant AND e.recorded_at > :since ORDER BY e.position) AS e"
    " GROUP BY e.subject, e.type HAVING count(*) > :limit ORDER BY count(*) DESC LIMIT 10"
)


async def lock_clocks(tx: Tx, tenant_ids: Iterable[UUID]) -> Sequence[Row[Any]]:
    """Lock clocks in order (``now_at`` null: live), so that a tenant's moves start one by one."""
    return await tx.rows(_LOCK_CLOCKS, tenants=list(tenant_ids))


async def clocks(tx: Tx, tenant_ids: Iterable[UUID]) -> Sequence[Row[Any]]:
    return await tx.rows(_CLOCKS, tenants=list(tenant_ids))


async def open_moves(tx: Tx, tenant_id: UUID) -> list[UUID]:
    """The tenant's move under way, if any."""
    return [row.id for row in await tx.rows(_OPEN_MOVES, tenant=tenant_id)]


async def insert_move(
    tx: Tx, *, tenant_id: UUID, move_id: UUID, from_at: Any, target_at: Any
) -> None:
    """Start a move; it remembers where the log stood, to count what happened during it."""
    await tx.run(_INSERT_MOVES, tenant=tenant_id, id=move_id, from_at=from_at, target_at=target_at)


async def moves(tx: Tx, tenant_id: UUID, move_ids: Iterable[UUID]) -> Sequence[Row[Any]]:
    return await tx.rows(_MOVES, tenant=tenant_id, ids=list(move_ids))


async def list_moves(tx: Tx, tenant_id: UUID, *, before: UUID, limit: int) -> Sequence[Row[Any]]:
    """Moves of a tenant, the newest first (a move's id carries the wall time of its start)."""
    return await tx.rows(_LIST_MOVES, tenant=tenant_id, before=before, limit=limit)


async def moving(tx: Tx, limit: int) -> list[tuple[UUID, UUID]]:
    """``(tenant_id, move_id)`` of every move under way."""
    async with tx.reading_as(DUE_READER):
        rows = await tx.rows(_MOVING, limit=limit)
    return [(row.tenant_id, row.id) for row in rows]


async def claim_moves(tx: Tx, tenant_id: UUID, move_id: UUID) -> Sequence[Row[Any]]:
    """Lock the move unless another mover has it, or it has ended."""
    return await tx.rows(_CLAIM_MOVES, tenant=tenant_id, id=move_id)


async def set_clock(tx: Tx, *, tenant_id: UUID, at: Any, rank: int, number: int) -> None:
    """The sandbox clock opens everything up to ``(at, rank, number)``."""
    await tx.run(_SET_CLOCKS, tenant=tenant_id, at=at, rank=rank, number=number)


async def advance_move(tx: Tx, *, tenant_id: UUID, move_id: UUID, at: Any) -> None:
    await tx.run(_ADVANCE_MOVES, tenant=tenant_id, id=move_id, at=at)


async def finish_move(
    tx: Tx, *, tenant_id: UUID, move_id: UUID, status: str, at: Any, result: str
) -> None:
    await tx.run(_FINISH_MOVES, tenant=tenant_id, id=move_id, status=status, at=at, result=result)


async def count_events(tx: Tx, tenant_id: UUID, marks: Mapping[int, int]) -> dict[str, int]:
    """The tenant's events beyond the marks, by type."""
    rows = await tx.rows(
        _COUNT_EVENTS, tenant=tenant_id, partitions=list(marks), positions=list(marks.values())
    )
    return {row.type: row.times for row in rows}


async def restless_subjects(
    tx: Tx, tenant_id: UUID, marks: Mapping[int, int], *, since: Any, limit: int
) -> Sequence[Row[Any]]:
    """Accounts with more than ``limit`` events of one type recorded since ``since``."""
    return await tx.rows(
        _RESTLESS,
        tenant=tenant_id,
        partitions=list(marks),
        positions=list(marks.values()),
        since=since,
        limit=limit,
    )
