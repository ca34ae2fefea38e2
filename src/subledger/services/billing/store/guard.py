"""The guard's rows: limits, what was billed by the hour, parks and releases, who changed what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row

from subledger.platform.bulk import Insert, by_keys, split
from subledger.platform.db import Tx, sql
from subledger.services.billing import tables
from subledger.services.billing.store.subscriptions import Key

Day = tuple[UUID, str, date]
"""``(tenant_id, currency, day)``; a day is a UTC day of the tenant's clock."""
HOUR, DAY = timedelta(hours=1), timedelta(days=1)

_LIMIT_COLUMNS = "largest_minor, total_minor, average_minor, invoice_count"
_LIMITS = sql(
    f"SELECT tenant_id, currency, {_LIMIT_COLUMNS}, set_at FROM billing.billing_limits"
    " WHERE tenant_id = ANY (CAST(:tenants AS uuid[])) ORDER BY tenant_id, currency"
)
_LOCK_LIMITS = sql(
    f"SELECT tenant_id, currency, {_LIMIT_COLUMNS} FROM billing.billing_limits"
    " WHERE tenant_id = ANY (CAST(:tenants AS uuid[])) ORDER BY tenant_id, currency"
    " FOR NO KEY UPDATE"
)
_RAISED = sql(
    f"SELECT tenant_id, currency, day, {_LIMIT_COLUMNS} FROM billing.raised_limits"
    " WHERE tenant_id = ANY (CAST(:tenants AS uuid[])) AND day = ANY (CAST(:days AS date[]))"
)
_INSERT_LIMITS = Insert(tables.billing_limits, [column.name for column in tables.billing_limits.c])
_DROP_LIMITS = sql("DELETE FROM billing.billing_limits WHERE tenant_id = :tenant")
_RAISE = Insert(
    tables.raised_limits,
    [column.name for column in tables.raised_limits.c],
    conflict="(tenant_id, day, currency) DO UPDATE SET largest_minor = excluded.largest_minor,"
    " total_minor = excluded.total_minor, average_minor = excluded.average_minor,"
    " invoice_count = excluded.invoice_count, set_at = excluded.set_at",
)
_COUNT = Insert(
    tables.billing_hours,
    [column.name for column in tables.billing_hours.c],
    conflict="(tenant_id, currency, hour_at) DO UPDATE SET"
    " invoice_count = billing_hours.invoice_count + excluded.invoice_count,"
    " total_minor = billing_hours.total_minor + excluded.total_minor,"
    " largest_minor = greatest(billing_hours.largest_minor, excluded.largest_minor)",
)
_SUMS = "sum(h.invoice_count)::bigint AS invoice_count, sum(h.total_minor) AS total_minor, " \
    "max(h.largest_minor) AS largest_minor"  # fmt: skip
_DAYS = sql(
    f"""
    SELECT w.tenant_id, w.currency, w.from_at, {_SUMS}
    FROM unnest(CAST(:tenants AS uuid[]), CAST(:currencies AS text[]),
                CAST(:starts AS timestamptz[])) AS w(tenant_id, currency, from_at)
    JOIN billing.billing_hours h ON h.tenant_id = w.tenant_id AND h.currency = w.currency
     AND h.hour_at >= w.from_at AND h.hour_at < w.from_at + interval '24 hours'
    GROUP BY w.tenant_id, w.currency, w.from_at
    """
)
_SPAN = sql(
    f"SELECT h.currency, {_SUMS} FROM billing.billing_hours h WHERE h.tenant_id = :tenant"
    " AND h.hour_at >= :from_at AND h.hour_at < :to_at GROUP BY h.currency ORDER BY h.currency"
)
_RELEASED_RUNS = sql(
    "SELECT r.tenant_id, r.subscription_id, r.number, r.most_minor"
    f" {by_keys('billing.released_runs r', tenant_id='tenants', subscription_id='ids')}"
)
_RELEASE_RUN = Insert(
    tables.released_runs,
    [column.name for column in tables.released_runs.c],
    conflict="(tenant_id, subscription_id, number) DO UPDATE SET"
    " most_minor = excluded.most_minor, released_at = excluded.released_at",
)
_INSERT_PARKS = Insert(
    tables.billing_parks,
    ["tenant_id", "id", "job", "reason", "numbers", "work_item_id", "since_at"],
)
_PARK_COLUMNS = (
    "p.tenant_id, p.id, p.job, p.reason, p.numbers::text AS numbers, p.work_item_id, p.since_at,"
    " p.released_at, p.released_by, p.release_reason"
)
_PARK = sql(
    f"SELECT {_PARK_COLUMNS} FROM billing.billing_parks p WHERE p.tenant_id = :tenant"
    " AND p.id = :id"
)
_LOCK_PARK = sql(
    f"SELECT {_PARK_COLUMNS} FROM billing.billing_parks p WHERE p.tenant_id = :tenant"
    " AND p.id = :id FOR NO KEY UPDATE"
)
_LIST_PARKS = sql(
    f"SELECT {_PARK_COLUMNS} FROM billing.billing_parks p WHERE p.tenant_id = :tenant"
    " AND p.id < :before ORDER BY p.id DESC LIMIT :limit"
)
_RELEASE_PARK = sql(
    "UPDATE billing.billing_parks SET released_at = :at, released_by = :by,"
    " release_reason = :reason WHERE tenant_id = :tenant AND id = :id"
)
_INSERT_CHANGES = Insert(tables.guard_changes, [column.name for column in tables.guard_changes.c])
_LIST_CHANGES = sql(
    "SELECT c.tenant_id, c.id, c.kind, c.data::text AS data, c.reason, c.changed_by, c.changed_at"
    " FROM billing.guard_changes c WHERE c.tenant_id = :tenant AND c.id < :before"
    " ORDER BY c.id DESC LIMIT :limit"
)


def day_of(at: datetime) -> date:
    """The UTC day of a moment."""
    return at.astimezone(UTC).date()


def start_of(day: date) -> datetime:
    """Where a UTC day begins."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


# --- limits -------------------------------------------------------------------------------------


async def limits(tx: Tx, tenants: Iterable[UUID]) -> Sequence[Row[Any]]:
    """The tenants' limits, a row for each currency that has one."""
    return await tx.rows(_LIMITS, tenants=list(tenants))


async def lock_limits(tx: Tx, tenants: Iterable[UUID]) -> Sequence[Row[Any]]:
    """As ``limits``, locked in order: of two batches that a limit concerns, one waits."""
    return await tx.rows(_LOCK_LIMITS, tenants=list(tenants))


async def raised(tx: Tx, tenants: Iterable[UUID], days: Iterable[date]) -> dict[Day, Row[Any]]:
    """What stands instead of the limits on single days."""
    rows = await tx.rows(_RAISED, tenants=list(tenants), days=sorted(set(days)))
    return {(row.tenant_id, row.currency, row.day): row for row in rows}


async def replace_limits(tx: Tx, tenant_id: UUID, rows: Sequence[Mapping[str, Any]]) -> None:
    """The tenant's limits are these from now on."""
    await tx.run(_DROP_LIMITS, tenant=tenant_id)
    await _INSERT_LIMITS(tx, rows)


async def raise_limits(tx: Tx, rows: Iterable[Mapping[str, Any]]) -> None:
    """Other limits for single days; the last word stands."""
    await _RAISE(tx, sorted(rows, key=lambda row: (row["day"], row["currency"])))


# --- what was billed ----------------------------------------------------------------------------


async def count(tx: Tx, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add to what was billed in an hour. Held to the end of the transaction, so done late."""
    await _COUNT(
        tx, sorted(rows, key=lambda row: (row["tenant_id"].bytes, row["currency"], row["hour_at"]))
    )


async def billed(tx: Tx, days: Iterable[Day]) -> dict[Day, Row[Any]]:
    """What was billed on days; a day without an invoice is absent."""
    wanted = sorted(set(days))
    rows = await tx.rows(
        _DAYS,
        tenants=[tenant for tenant, _, _ in wanted],
        currencies=[currency for _, currency, _ in wanted],
        starts=[start_of(day) for _, _, day in wanted],
    )
    return {(row.tenant_id, row.currency, day_of(row.from_at)): row for row in rows}


async def billed_between(
    tx: Tx, tenant_id: UUID, *, from_at: datetime, to_at: datetime
) -> dict[str, Row[Any]]:
    """What was billed in whole hours, by currency."""
    rows = await tx.rows(_SPAN, tenant=tenant_id, from_at=from_at, to_at=to_at)
    return {row.currency: row for row in rows}


# --- parks and releases -------------------------------------------------------------------------


async def released_runs(tx: Tx, keys: Iterable[Key]) -> dict[tuple[UUID, UUID, int], int]:
    """How much single runs may bill because a person said so."""
    rows = await tx.rows(_RELEASED_RUNS, **split(keys))
    return {(row.tenant_id, row.subscription_id, row.number): row.most_minor for row in rows}


async def release_run(tx: Tx, row: Mapping[str, Any]) -> None:
    """Let the next run of a locked subscription bill up to an amount."""
    await _RELEASE_RUN(tx, [row])


async def insert_parks(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Tenants' jobs park; the database refuses a second park of a job."""
    await _INSERT_PARKS(tx, rows)


async def park(tx: Tx, tenant_id: UUID, park_id: UUID, *, lock: bool = False) -> Row[Any] | None:
    """A park, released ones too."""
    rows = await tx.rows(_LOCK_PARK if lock else _PARK, tenant=tenant_id, id=park_id)
    return rows[0] if rows else None


async def list_parks(tx: Tx, tenant_id: UUID, *, before: UUID, limit: int) -> list[Row[Any]]:
    """Parks with an id below ``before``, newest first."""
    return list(await tx.rows(_LIST_PARKS, tenant=tenant_id, before=before, limit=limit))


async def release_park(
    tx: Tx, tenant_id: UUID, park_id: UUID, *, at: datetime, by: str, reason: str
) -> None:
    """End a locked park."""
    await tx.run(_RELEASE_PARK, tenant=tenant_id, id=park_id, at=at, by=by, reason=reason)


# --- who changed what ---------------------------------------------------------------------------


async def record(
    tx: Tx,
    tenant_id: UUID,
    kind: str,
    data: Mapping[str, Any],
    *,
    reason: str,
    by: str,
    at: datetime,
) -> None:
    """Keep who changed the guard, when and why; rows of this table never change."""
    await _INSERT_CHANGES(
        tx,
        [
            {
                "tenant_id": tenant_id,
                "id": tx.ids.new(),
                "kind": kind,
                "data": msgspec.json.encode(data).decode(),
                "reason": reason,
                "changed_by": by,
                "changed_at": at,
            }
        ],
    )


async def list_changes(tx: Tx, tenant_id: UUID, *, before: UUID, limit: int) -> list[Row[Any]]:
    """Changes with an id below ``before``, newest first."""
    return list(await tx.rows(_LIST_CHANGES, tenant=tenant_id, before=before, limit=limit))
