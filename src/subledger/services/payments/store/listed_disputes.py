"""What the provider's list says of disputes, beside what is known of them here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.db import Tx, sql
from subledger.services.payments.comparing import OF_DISPUTES, SIGNS
from subledger.services.payments.store.payments import Key, split

_KINDS = ", ".join(f"'{kind}'" for kind in sorted(OF_DISPUTES))
_GIVEN = ", ".join(f"'{kind}'" for kind in sorted(OF_DISPUTES) if SIGNS[kind] > 0)
TAKEN = "d.fee_minor + CASE WHEN d.state = 'won' THEN 0 ELSE d.amount_minor END"
"""What a dispute ``d`` took out of what the provider holds, its fee included, as billing books it.
"""
# Those whose money differs, and those with more disputes there than here (one that was opened and
# won unseen has left no money behind).
_APART = sql(
    f"""
    SELECT w.id AS attempt_id
    FROM unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[])) AS w(tenant_id, id)
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(CASE WHEN s.kind IN ({_GIVEN}) THEN -s.amount_minor
                   ELSE s.amount_minor END), 0) AS taken,
               count(*) FILTER (WHERE s.kind = 'dispute') AS opened
        FROM payments.settlements s WHERE s.tenant_id = w.tenant_id AND s.attempt_id = w.id
          AND s.kind IN ({_KINDS})
    ) AS theirs
    CROSS JOIN LATERAL (
        SELECT coalesce(sum({TAKEN}), 0) AS taken, count(*) AS opened
        FROM payments.disputes d WHERE d.tenant_id = w.tenant_id AND d.attempt_id = w.id
    ) AS own
    WHERE theirs.taken <> own.taken OR theirs.opened > own.opened
    """
)
_UNLISTED = sql(
    """
    SELECT d.id, d.payment_id, d.attempt_id FROM payments.disputes d
    JOIN payments.payments p ON p.tenant_id = d.tenant_id AND p.id = d.payment_id
    WHERE d.tenant_id = :tenant AND d.opened_at >= :since AND d.opened_at < :until
      AND p.connection_id = :connection AND NOT EXISTS (
        SELECT FROM payments.settlements s WHERE s.tenant_id = d.tenant_id
          AND s.attempt_id = d.attempt_id AND s.kind = 'dispute')
    ORDER BY d.opened_at, d.id LIMIT :limit
    """
)


async def apart(tx: Tx, tenant_id: UUID, attempts: Iterable[UUID]) -> set[UUID]:
    """Those of the attempts of whose disputes the provider's list says otherwise than we do."""
    rows = await tx.rows(_APART, **split((tenant_id, each) for each in attempts))
    return {row.attempt_id for row in rows}


async def unlisted(
    tx: Tx, connection: Key, *, since: datetime, until: datetime, limit: int
) -> Sequence[Row[Any]]:
    """Disputes found in a time of whose attempts the provider lists none."""
    return await tx.rows(
        _UNLISTED,
        tenant=connection[0],
        connection=connection[1],
        since=since,
        until=until,
        limit=limit,
    )
