"""What providers answered about attempts: masked, bounded, only for people to read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Row

from subledger.platform.bulk import Insert, by_keys
from subledger.platform.db import Tx, sql
from subledger.services.payments import tables
from subledger.services.payments.store.payments import Key, split

MOST = 40
"""Rows that are kept of one attempt, the newest."""

# A notification is its own id: told again, it is one row.
_INSERT = Insert(
    tables.attempt_answers,
    [column.name for column in tables.attempt_answers.c],
    conflict="(tenant_id, attempt_id, id) DO NOTHING",
)
_TRIM = sql(
    f"""
    DELETE FROM payments.attempt_answers AS a USING (
        SELECT old.tenant_id, old.attempt_id, old.id
        FROM unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[])) AS w(tenant_id, id)
        CROSS JOIN LATERAL (
            SELECT r.tenant_id, r.attempt_id, r.id FROM payments.attempt_answers r
            WHERE r.tenant_id = w.tenant_id AND r.attempt_id = w.id
            ORDER BY r.id DESC OFFSET {MOST}
        ) AS old
    ) AS o
    WHERE a.tenant_id = o.tenant_id AND a.attempt_id = o.attempt_id AND a.id = o.id
    """
)
_OF_ATTEMPTS = sql(
    "SELECT a.tenant_id, a.attempt_id, a.id, a.kind, a.operation, a.status, a.body, a.note,"
    " a.state, a.webhook_id, a.occurred_at"
    f" {by_keys('payments.attempt_answers a', tenant_id='tenants', attempt_id='ids')}"
    " ORDER BY a.occurred_at, a.id"
)


async def insert(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Keep answers; what is there already stays as it is."""
    if rows:
        key = ("tenant_id", "attempt_id", "id")
        await _INSERT(tx, sorted(rows, key=lambda row: [row[name] for name in key]))


async def trim(tx: Tx, attempts: Iterable[Key]) -> None:
    """Let go of all but the newest ``MOST`` rows of each attempt."""
    keys = set(attempts)
    if keys:
        await tx.run(_TRIM, **split(keys))


async def of_attempts(tx: Tx, attempts: Iterable[Key]) -> Sequence[Row[Any]]:
    """All that is kept of these attempts, oldest first."""
    return await tx.rows(_OF_ATTEMPTS, **split(attempts))
