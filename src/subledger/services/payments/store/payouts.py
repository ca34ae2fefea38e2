"""Payouts and what they are made of; what the lists say that a provider holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.bulk import Insert, Update
from subledger.platform.db import Tx, sql
from subledger.services.payments import tables
from subledger.services.payments.comparing import SIGNS
from subledger.services.payments.store.listed_disputes import TAKEN
from subledger.services.payments.store.payments import Key
from subledger.services.payments.store.reconciliations import CAPTURED

_PUT_PAYOUTS = Insert(
    tables.payouts,
    [
        *("tenant_id", "id", "connection_id", "provider_ref", "amount_minor", "currency"),
        *("paid_at", "created_at"),
    ],
    conflict="(tenant_id, connection_id, provider_ref) DO NOTHING",
)
_PAYOUT = (
    "o.tenant_id, o.id, o.connection_id, o.provider_ref, o.amount_minor, o.currency, o.gross_minor,"
    " o.fee_minor, o.difference_minor, o.paid_at, o.booked_at, o.created_at"
)
_TO_BOOK = sql(
    f"SELECT {_PAYOUT} FROM payments.payouts o WHERE o.tenant_id = :tenant"
    " AND o.connection_id = :connection AND o.booked_at IS NULL"
    " ORDER BY o.paid_at, o.id LIMIT 1"
)
_LOCK_PAYOUT = sql(
    f"SELECT {_PAYOUT} FROM payments.payouts o WHERE o.tenant_id = :tenant AND o.id = :id"
    " FOR NO KEY UPDATE OF o"
)
_PAYOUT_ENTRIES = sql(
    "SELECT s.kind, sum(s.amount_minor)::bigint AS amount_minor, sum(s.fee_minor)::bigint"
    " AS fee_minor FROM payments.settlements s WHERE s.tenant_id = :tenant"
    " AND s.connection_id = :connection AND s.payout_ref = :ref GROUP BY s.kind ORDER BY s.kind"
)
_SAVE_PAYOUTS = Update(
    tables.payouts,
    keys=["tenant_id", "id"],
    sets=["gross_minor", "fee_minor", "difference_minor", "booked_at"],
)
_LIST_PAYOUTS = sql(
    f"SELECT {_PAYOUT} FROM payments.payouts o WHERE o.tenant_id = :tenant"
    " AND (o.paid_at, o.id) < (:before_at, :before_id)"
    " ORDER BY o.paid_at DESC, o.id DESC LIMIT :limit"
)
_ADDED = ", ".join(f"'{kind}'" for kind in sorted(SIGNS) if SIGNS[kind] > 0)
_LISTED_SUMS = sql(
    f"""
    SELECT s.currency, sum(CASE WHEN s.kind IN ({_ADDED}) THEN s.amount_minor
        WHEN s.kind = 'payout' THEN 0 ELSE -s.amount_minor END)::bigint AS amount_minor
    FROM payments.settlements s
    LEFT JOIN payments.settlements o ON o.tenant_id = s.tenant_id
      AND o.connection_id = s.connection_id AND o.provider_ref = s.payout_ref AND o.at <= :until
    WHERE s.tenant_id = :tenant AND s.connection_id = :connection AND s.at <= :until
      AND o.provider_ref IS NULL
    GROUP BY s.currency
    """
)
_OWN_SUMS = sql(
    f"""
    SELECT currency, sum(amount_minor)::bigint AS amount_minor FROM (
        SELECT p.currency, {CAPTURED} AS amount_minor
        FROM payments.payments p JOIN payments.attempts a
          ON a.tenant_id = p.tenant_id AND a.payment_id = p.id AND a.state = 'succeeded'
        WHERE p.tenant_id = :tenant AND p.connection_id = :connection
        UNION ALL
        SELECT f.currency, -f.amount_minor
        FROM payments.refunds f JOIN payments.payments p
          ON p.tenant_id = f.tenant_id AND p.id = f.payment_id
        WHERE f.tenant_id = :tenant AND p.connection_id = :connection
          AND f.destination = 'method' AND f.state IN ('ready', 'in_flight', 'unknown', 'succeeded')
        UNION ALL
        SELECT d.currency, -({TAKEN})
        FROM payments.disputes d JOIN payments.payments p
          ON p.tenant_id = d.tenant_id AND p.id = d.payment_id
        WHERE d.tenant_id = :tenant AND p.connection_id = :connection
        UNION ALL
        SELECT o.currency, -o.gross_minor FROM payments.payouts o
        WHERE o.tenant_id = :tenant AND o.connection_id = :connection AND o.booked_at IS NOT NULL
    ) AS moved GROUP BY currency
    """
)


async def put_payouts(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Payouts that the provider lists; known ones stay as they are."""
    await _PUT_PAYOUTS(tx, sorted(rows, key=lambda row: str(row["provider_ref"])))


async def to_book(tx: Tx, connection: Key) -> Row[Any] | None:
    """The connection's next payout that is not booked."""
    rows = await tx.rows(_TO_BOOK, tenant=connection[0], connection=connection[1])
    return rows[0] if rows else None


async def lock_payout(tx: Tx, key: Key) -> Row[Any]:
    """Lock one payout."""
    return (await tx.rows(_LOCK_PAYOUT, tenant=key[0], id=key[1]))[0]


async def payout_entries(tx: Tx, connection: Key, *, ref: str) -> list[tuple[str, int, int]]:
    """What a payout is made of: ``(kind, amounts, fees)`` by kind."""
    rows = await tx.rows(_PAYOUT_ENTRIES, tenant=connection[0], connection=connection[1], ref=ref)
    return [(row.kind, row.amount_minor, row.fee_minor) for row in rows]


async def save_payouts(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """What locked payouts turned out to be made of."""
    await _SAVE_PAYOUTS(tx, rows)


async def listed_payouts(
    tx: Tx, tenant_id: UUID, *, before: tuple[datetime, UUID], limit: int
) -> Sequence[Row[Any]]:
    """Payouts from the newest, older than ``before``."""
    return await tx.rows(
        _LIST_PAYOUTS, tenant=tenant_id, before_at=before[0], before_id=before[1], limit=limit
    )


async def listed_sums(tx: Tx, connection: Key, *, until: datetime) -> dict[str, int]:
    """What the provider's entries up to ``until`` leave with it, by currency."""
    rows = await tx.rows(_LISTED_SUMS, tenant=connection[0], connection=connection[1], until=until)
    return {row.currency: row.amount_minor for row in rows}


async def own_sums(tx: Tx, connection: Key) -> dict[str, int]:
    """What we have told billing that the provider holds, by currency."""
    rows = await tx.rows(_OWN_SUMS, tenant=connection[0], connection=connection[1])
    return {row.currency: row.amount_minor for row in rows}
