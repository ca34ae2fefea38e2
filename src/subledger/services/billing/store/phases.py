"""A subscription over time: its phases, the lines billed for it, the change it waits for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Row

from subledger.core.amounts import Amounts
from subledger.core.timeline import Line
from subledger.platform.bulk import Insert, by_keys, split
from subledger.platform.db import Tx, sql
from subledger.services.billing import tables
from subledger.services.billing.store.subscriptions import Key

MOST_LINES = 2_000
"""Lines read to bill a range anew."""

_INSERT = Insert(
    tables.subscription_phases,
    [column.name for column in tables.subscription_phases.c],
    conflict="(tenant_id, subscription_id, from_at) DO UPDATE SET"
    " plan_version_id = excluded.plan_version_id, quantity = excluded.quantity,"
    " recorded_at = excluded.recorded_at, is_paused = excluded.is_paused,"
    " is_ended = excluded.is_ended",
)
_PHASES = sql(
    "SELECT p.tenant_id, p.subscription_id, p.from_at, p.plan_version_id, p.quantity, p.is_paused,"
    " p.is_ended"
    f" {by_keys('billing.subscription_phases p', tenant_id='tenants', subscription_id='ids')}"
    " ORDER BY p.tenant_id, p.subscription_id, p.from_at"
)
_LINES = sql(
    """
    SELECT l.kind, l.price_id, l.charged_from_at, l.service_start_at, l.service_end_at,
           l.quantity, l.gross_minor, l.discount_minor, l.net_minor, l.tax_minor,
           l.tax_included_minor, l.tax_rate,
           l.derivation::text AS derivation, l.noted_gross_minor, l.noted_discount_minor,
           l.noted_net_minor, l.noted_tax_minor
    FROM billing.invoice_lines l
    JOIN billing.invoices i ON i.tenant_id = l.tenant_id AND i.id = l.invoice_id
    WHERE l.tenant_id = :tenant AND l.subscription_id = :subscription
      AND l.service_start_at >= :from_at AND l.charged_from_at >= :from_at AND i.status <> 'void'
      AND l.kind <> 'one_off'
    ORDER BY l.invoice_id, l.n LIMIT :most
    """
)
_SCHEDULE = Insert(
    tables.scheduled_changes,
    [column.name for column in tables.scheduled_changes.c],
    conflict="(tenant_id, subscription_id) DO UPDATE SET effective_at = excluded.effective_at,"
    " plan_id = excluded.plan_id, quantity = excluded.quantity, settle = excluded.settle,"
    " billing_anchor = excluded.billing_anchor, recorded_at = excluded.recorded_at,"
    " plan_version_id = excluded.plan_version_id",
)
_SCHEDULED = sql(
    "SELECT c.tenant_id, c.subscription_id, c.effective_at, c.plan_id, c.quantity, c.settle,"
    " c.billing_anchor::text AS billing_anchor, c.plan_version_id"
    f" {by_keys('billing.scheduled_changes c', tenant_id='tenants', subscription_id='ids')}"
)
_UNSCHEDULE = sql(
    "DELETE FROM billing.scheduled_changes AS c"
    " USING unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[])) AS w(tenant_id, id)"
    " WHERE c.tenant_id = w.tenant_id AND c.subscription_id = w.id"
)


async def insert_phases(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Phases of locked (or new) subscriptions; one that begins at the same moment is replaced.
    What says neither ``is_paused`` nor ``is_ended`` is paid for."""
    await _INSERT(tx, [{"is_paused": False, "is_ended": False, **row} for row in rows])


async def phases(tx: Tx, keys: Iterable[Key]) -> dict[Key, list[Row[Any]]]:
    """Each subscription's phases, the earliest first."""
    found: dict[Key, list[Row[Any]]] = {}
    for row in await tx.rows(_PHASES, **split(keys)):
        found.setdefault((row.tenant_id, row.subscription_id), []).append(row)
    return found


async def billed_lines(tx: Tx, key: Key, *, from_at: datetime) -> list[Line]:
    """The lines that a subscription's charges from ``from_at`` on have made, voided ones left out,
    with what credit notes gave back of each; at most 2,000 and one."""
    rows = await tx.rows(
        _LINES, tenant=key[0], subscription=key[1], from_at=from_at, most=MOST_LINES + 1
    )
    return [
        Line(
            kind=row.kind,
            price_id=str(row.price_id),
            charged_from_at=row.charged_from_at,
            service_start_at=row.service_start_at,
            service_end_at=row.service_end_at,
            quantity=row.quantity,
            gross_minor=row.gross_minor,
            discount_minor=row.discount_minor,
            net_minor=row.net_minor,
            tax_minor=row.tax_minor,
            tax_included_minor=row.tax_included_minor,
            tax_rate=row.tax_rate,
            derivation=msgspec.json.decode(row.derivation),
            noted=Amounts(
                row.noted_gross_minor,
                row.noted_discount_minor,
                row.noted_net_minor,
                row.noted_tax_minor,
            ),
        )
        for row in rows
    ]


async def schedule(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Remember what changes later; a subscription waits for one change at a time."""
    await _SCHEDULE(tx, rows)


async def scheduled(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """The change that each subscription waits for."""
    rows = await tx.rows(_SCHEDULED, **split(keys))
    return {(row.tenant_id, row.subscription_id): row for row in rows}


async def unschedule(tx: Tx, keys: Iterable[Key]) -> None:
    """Forget the changes that locked subscriptions wait for."""
    await tx.run(_UNSCHEDULE, **split(keys))
