"""Subscriptions by plan version, and the migrations that move them to another one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.bulk import Insert, Update, by_keys, split
from subledger.platform.db import DUE_READER, Tx, sql
from subledger.services.billing import tables
from subledger.services.billing.store.subscriptions import Key

FIRST = UUID(int=0)
"""Below every id: where a list that begins with the oldest begins."""
_MOST_RUNNING = 10

_LIVING_ON = sql(
    """
    SELECT s.id, s.payer_id, s.plan_version_id, s.currency FROM billing.plan_versions v
    CROSS JOIN LATERAL (
        SELECT s.id, s.payer_id, s.plan_version_id, s.currency FROM billing.subscriptions s
        WHERE s.tenant_id = v.tenant_id AND s.plan_version_id = v.id AND s.ended_at IS NULL
          AND s.id > :after
        ORDER BY s.id LIMIT :limit
    ) AS s
    WHERE v.tenant_id = :tenant AND v.plan_id = :plan AND v.version <= :up_to
      AND v.id IS DISTINCT FROM CAST(:to AS uuid)
      AND (CAST(:from AS uuid) IS NULL OR v.id = :from)
    ORDER BY s.id LIMIT :limit
    """
)
_VERSIONS = sql(
    "SELECT v.tenant_id, v.plan_id, v.version, v.id FROM unnest(CAST(:tenants AS uuid[]),"
    " CAST(:plans AS uuid[]), CAST(:numbers AS integer[])) AS w(tenant_id, plan_id, version)"
    " JOIN billing.plan_versions v USING (tenant_id, plan_id, version)"
)
_CURRENCIES = sql(
    "SELECT DISTINCT r.currency FROM billing.plan_versions v JOIN billing.prices r"
    " ON r.tenant_id = v.tenant_id AND r.plan_version_id = v.id"
    " WHERE v.tenant_id = :tenant AND v.plan_id = :plan AND v.version <= :up_to"
    " AND v.id IS DISTINCT FROM CAST(:to AS uuid)"
    " AND (CAST(:from AS uuid) IS NULL OR v.id = :from)"
)

_INSERT = Insert(
    tables.plan_migrations,
    [
        *("tenant_id", "id", "plan_id", "from_version_id", "up_to_version", "to_plan_id"),
        *("to_version_id", "effective", "settle", "note", "status", "subscriptions_found"),
        *("last_listed_id", "is_listed", "cause", "created_at"),
    ],
)
_MIGRATION = (
    "m.tenant_id, m.id, m.plan_id, m.from_version_id, f.version AS from_version, m.up_to_version,"
    " m.to_plan_id, m.to_version_id, t.version AS to_version, m.effective, m.settle, m.note,"
    " m.status, m.subscriptions_found, m.last_listed_id, m.is_listed, m.changed, m.scheduled,"
    " m.skipped, m.failed, m.cause, m.created_at, m.ended_at"
)
_NUMBERS = (
    " JOIN billing.plan_versions t ON t.tenant_id = m.tenant_id AND t.id = m.to_version_id"
    " LEFT JOIN billing.plan_versions f ON f.tenant_id = m.tenant_id AND f.id = m.from_version_id"
)
_MIGRATIONS = sql(
    f"SELECT {_MIGRATION} {by_keys('billing.plan_migrations m', tenant_id='tenants', id='ids')}"
    f" {_NUMBERS}"
)
_LOCK = sql(
    f"SELECT {_MIGRATION} {by_keys('billing.plan_migrations m', tenant_id='tenants', id='ids')}"
    f" {_NUMBERS} FOR NO KEY UPDATE OF m"
)
_LIST = sql(
    f"SELECT {_MIGRATION} FROM billing.plan_migrations m {_NUMBERS}"
    " WHERE m.tenant_id = :tenant AND m.id < :before ORDER BY m.id DESC LIMIT :limit"
)
_OPEN = sql(
    "SELECT m.id FROM billing.plan_migrations m WHERE m.tenant_id = :tenant"
    " AND m.status IN ('running', 'paused')"
    " AND (m.plan_id = ANY (CAST(:plans AS uuid[])) OR m.to_plan_id = ANY (CAST(:plans AS uuid[])))"
    " ORDER BY m.id LIMIT 1"
)
_RUNNING = sql(
    # The one that waited longest first: a large migration does not hold up others' small ones.
    "SELECT m.tenant_id, m.id FROM billing.plan_migrations m"
    " WHERE m.status = 'running' AND NOT EXISTS (SELECT FROM identity.clocks c"
    " WHERE c.tenant_id = m.tenant_id AND c.stopped_at IS NOT NULL)"
    " ORDER BY m.worked_at LIMIT :limit"
)
_CLAIM = sql(
    f"SELECT {_MIGRATION} {by_keys('billing.plan_migrations m', tenant_id='tenants', id='ids')}"
    f" {_NUMBERS} WHERE m.status = 'running' FOR NO KEY UPDATE OF m SKIP LOCKED"
)
_STATUS = Update(tables.plan_migrations, keys=["tenant_id", "id"], sets=["status", "ended_at"])
_LISTED = Update(
    tables.plan_migrations,
    keys=["tenant_id", "id"],
    sets=["subscriptions_found", "last_listed_id", "is_listed"],
)
_MOVE_ON = sql(
    "UPDATE billing.plan_migrations SET changed = changed + :changed,"
    " scheduled = scheduled + :scheduled, skipped = skipped + :skipped,"
    " failed = failed + :failed, worked_at = clock_timestamp()"
    " WHERE tenant_id = :tenant AND id = :id"
)
_LIST_SUBSCRIPTIONS = Insert(
    tables.plan_migration_results,
    ["tenant_id", "migration_id", "subscription_id", "outcome", "from_version_id", "currency"],
)
_PENDING = sql(
    "SELECT r.subscription_id, r.from_version_id, s.payer_id"
    " FROM billing.plan_migration_results r"
    " JOIN billing.subscriptions s ON s.tenant_id = r.tenant_id AND s.id = r.subscription_id"
    " WHERE r.tenant_id = :tenant AND r.migration_id = :migration AND r.outcome = 'pending'"
    " ORDER BY r.subscription_id LIMIT :limit"
)
_RESULTS = Update(
    tables.plan_migration_results,
    keys=["tenant_id", "migration_id", "subscription_id"],
    sets=[
        *("outcome", "reason", "detail", "effective_at", "before_minor", "after_minor"),
        *("immediate_minor", "recorded_at"),
    ],
)
_COLUMNS = ", ".join(f"r.{column.name}" for column in tables.plan_migration_results.c)
_LIST_RESULTS = sql(
    f"SELECT {_COLUMNS} FROM billing.plan_migration_results r WHERE r.tenant_id = :tenant"
    " AND r.migration_id = :migration AND r.subscription_id > :after"
    " ORDER BY r.subscription_id LIMIT :limit"
)
_RESULTS_OF_OUTCOME = sql(
    f"SELECT {_COLUMNS} FROM billing.plan_migration_results r WHERE r.tenant_id = :tenant"
    " AND r.migration_id = :migration AND r.outcome = :outcome AND r.subscription_id > :after"
    " ORDER BY r.subscription_id LIMIT :limit"
)
_SUMS = ("up", "down", "same", "before_minor", "after_minor", "immediate_minor")
_ADD_TOTALS = Insert(
    tables.plan_migration_totals,
    ["tenant_id", "migration_id", "currency", "from_version_id", *_SUMS],
    conflict="(tenant_id, migration_id, currency, from_version_id) DO UPDATE SET "
    + ", ".join(f"{name} = plan_migration_totals.{name} + excluded.{name}" for name in _SUMS),
)
_TOTALS = sql(
    "SELECT t.tenant_id, t.migration_id, t.currency, t.from_version_id, t.up, t.down, t.same,"
    " t.before_minor, t.after_minor, t.immediate_minor"
    f" {by_keys('billing.plan_migration_totals t', tenant_id='tenants', migration_id='ids')}"
)


@dataclass(frozen=True, slots=True)
class Leaving:
    """The versions of a plan that are left: one, or all up to a number but the one gone to."""

    tenant_id: UUID
    plan_id: UUID
    version_id: UUID | None
    up_to_version: int
    to_version_id: UUID | None

    @property
    def values(self) -> dict[str, Any]:
        return {
            "tenant": self.tenant_id,
            "plan": self.plan_id,
            "from": self.version_id,
            "up_to": self.up_to_version,
            "to": self.to_version_id,
        }


RUNNING = "billing.plan_migrations"
"""The kind of work that a migration is whose status changed."""


async def living_on(tx: Tx, leaving: Leaving, *, after: UUID, limit: int) -> list[Row[Any]]:
    """``(id, payer_id, plan_version_id, currency)`` of subscriptions that have not ended, ids
    above ``after`` ascending."""
    return list(await tx.rows(_LIVING_ON, **leaving.values, after=after, limit=limit))


async def versions(tx: Tx, wanted: Iterable[tuple[UUID, UUID, int]]) -> dict[Any, UUID]:
    """The ids of versions by ``(tenant_id, plan_id, version)``; what does not exist is left out."""
    given = list(wanted)
    rows = await tx.rows(
        _VERSIONS,
        tenants=[tenant for tenant, _, _ in given],
        plans=[plan for _, plan, _ in given],
        numbers=[number for _, _, number in given],
    )
    return {(row.tenant_id, row.plan_id, row.version): row.id for row in rows}


async def currencies(tx: Tx, leaving: Leaving) -> set[str]:
    """The currencies in which the versions that are left were sold."""
    return {row.currency for row in await tx.rows(_CURRENCIES, **leaving.values)}


async def insert_migrations(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    tx.work.add(RUNNING)
    await _INSERT(tx, rows)


async def migrations(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    return {(row.tenant_id, row.id): row for row in await tx.rows(_MIGRATIONS, **split(keys))}


async def lock_migrations(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """Lock migrations in ascending order: waits for a batch that is being worked on."""
    return {(row.tenant_id, row.id): row for row in await tx.rows(_LOCK, **split(keys))}


async def list_migrations(tx: Tx, tenant_id: UUID, *, before: UUID, limit: int) -> list[Row[Any]]:
    """Migrations with an id below ``before``, newest first."""
    return list(await tx.rows(_LIST, tenant=tenant_id, before=before, limit=limit))


async def open_migration(tx: Tx, tenant_id: UUID, plans: Iterable[UUID]) -> UUID | None:
    """A migration from or to one of the plans (locked) that runs or is paused."""
    rows = await tx.rows(_OPEN, tenant=tenant_id, plans=list(plans))
    return rows[0].id if rows else None


async def claim(tx: Tx) -> Row[Any] | None:
    """Lock a running migration that no other process works on. Sets the transaction's tenant."""
    async with tx.reading_as(DUE_READER):
        found = await tx.rows(_RUNNING, limit=_MOST_RUNNING)
    for each in found:
        tx.use_tenants([each.tenant_id])
        rows = await tx.rows(_CLAIM, **split([(each.tenant_id, each.id)]))
        if rows:
            return rows[0]
    return None


async def set_statuses(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Set status and end of locked migrations."""
    tx.work.add(RUNNING)
    await _STATUS(tx, rows)


async def set_listed(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """How many subscriptions locked migrations have listed, up to which, whether that is all."""
    await _LISTED(tx, rows)


async def move_on(tx: Tx, key: Key, counts: Mapping[str, int]) -> None:
    """Add to a locked migration's counts by outcome."""
    await tx.run(
        _MOVE_ON,
        tenant=key[0],
        id=key[1],
        **{each: counts.get(each, 0) for each in ("changed", "scheduled", "skipped", "failed")},
    )


async def insert_pending(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """List subscriptions that a locked migration has to move; each once."""
    await _LIST_SUBSCRIPTIONS(tx, rows)


async def pending(tx: Tx, key: Key, limit: int) -> list[Row[Any]]:
    """``(subscription_id, from_version_id, payer_id)`` of what a locked migration has to do."""
    return list(await tx.rows(_PENDING, tenant=key[0], migration=key[1], limit=limit))


async def set_results(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """What became of listed subscriptions of locked migrations."""
    await _RESULTS(tx, rows)


async def list_results(
    tx: Tx, key: Key, *, outcome: str | None, after: UUID, limit: int
) -> list[Row[Any]]:
    """Results of a migration with a subscription above ``after``, ascending."""
    values = {"tenant": key[0], "migration": key[1], "after": after, "limit": limit}
    if outcome is not None:
        return list(await tx.rows(_RESULTS_OF_OUTCOME, **values, outcome=outcome))
    return list(await tx.rows(_LIST_RESULTS, **values))


async def add_to_totals(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add to the sums of locked migrations, by currency and version left."""
    await _ADD_TOTALS(tx, rows)


async def totals(tx: Tx, keys: Iterable[Key]) -> dict[Key, list[Row[Any]]]:
    """The sums of each migration, by currency and version left."""
    found: dict[Key, list[Row[Any]]] = {}
    for row in await tx.rows(_TOTALS, **split(keys)):
        found.setdefault((row.tenant_id, row.migration_id), []).append(row)
    return found
