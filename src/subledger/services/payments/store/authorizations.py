"""Authorizations: what is set aside at providers, and the wish to capture or void it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Row

from subledger.platform.bulk import Insert, Update, by_keys
from subledger.platform.db import DUE_READER, Tx, sql
from subledger.services.payments import tables
from subledger.services.payments.store.payments import Key, split

WANTED = "payments.wanted_captures"
"""The kind of work that a capture or a void to be made now is."""

_KEYS = ["tenant_id", "attempt_id"]
_OPEN = Insert(
    tables.authorizations,
    [*_KEYS, "authorized_minor", "expires_at", "tries"],
    conflict="(tenant_id, attempt_id) DO UPDATE SET claimed_at = NULL,"
    " ready_at = CASE WHEN authorizations.wish IS NULL THEN NULL ELSE clock_timestamp() END",
)
_LOCK = sql(
    "SELECT a.tenant_id, a.attempt_id, a.authorized_minor, a.expires_at, a.wish, a.capture_minor,"
    " a.tries, clock_timestamp() AS wall_at"
    f" {by_keys('payments.authorizations a', tenant_id='tenants', attempt_id='ids')}"
    " ORDER BY a.tenant_id, a.attempt_id FOR NO KEY UPDATE OF a"
)
_SET = Update(
    tables.authorizations,
    keys=_KEYS,
    sets=["wish", "capture_minor", "tries", "ready_at", "claimed_at"],
)
_SCAN = sql(
    "SELECT a.tenant_id, a.attempt_id AS id FROM payments.authorizations a"
    " WHERE a.ready_at <= statement_timestamp() AND (a.claimed_at IS NULL"
    " OR a.claimed_at < statement_timestamp() - make_interval(secs => :lease_s))"
    " ORDER BY a.ready_at LIMIT :limit"
)
_CLAIM = sql(
    f"""
    WITH locked AS (
        SELECT a.tenant_id, a.attempt_id, a.wish, a.capture_minor
        {by_keys("payments.authorizations a", tenant_id="tenants", attempt_id="ids")}
        WHERE a.ready_at <= statement_timestamp() AND (a.claimed_at IS NULL
           OR a.claimed_at < statement_timestamp() - make_interval(secs => :lease_s))
        ORDER BY a.tenant_id, a.attempt_id FOR NO KEY UPDATE OF a SKIP LOCKED
    ), claimed AS (
        UPDATE payments.authorizations AS a SET claimed_at = clock_timestamp()
        FROM locked l WHERE a.tenant_id = l.tenant_id AND a.attempt_id = l.attempt_id
    )
    SELECT l.tenant_id, l.attempt_id, l.wish, l.capture_minor, t.provider_ref, p.connection_id,
           p.currency
    FROM locked l
    JOIN payments.attempts t ON t.tenant_id = l.tenant_id AND t.id = l.attempt_id
    JOIN payments.payments p ON p.tenant_id = t.tenant_id AND p.id = t.payment_id
    """
)
_SET_AMOUNTS = Update(tables.payments, keys=["tenant_id", "id"], sets=["amount_minor"])


async def open_all(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Remember what is authorized; one that is known already goes on with what was wanted of it."""
    if rows:
        tx.work.add(WANTED)
    await _OPEN(tx, sorted(rows, key=lambda row: (row["tenant_id"], row["attempt_id"])))


async def lock(tx: Tx, attempts: Iterable[Key]) -> dict[Key, Row[Any]]:
    """Lock authorizations, in order, after their payments; by attempt."""
    rows = await tx.rows(_LOCK, **split(attempts))
    return {(row.tenant_id, row.attempt_id): row for row in rows}


async def save(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace what is wanted of locked authorizations; ``ready_at`` None: nothing now."""
    if any(row["ready_at"] is not None for row in rows):
        tx.work.add(WANTED)
    await _SET(tx, rows)


def changed(row: Row[Any], **values: Any) -> dict[str, Any]:
    """A locked row as ``save`` takes it, with other ``values``; unclaimed."""
    kept = ("tenant_id", "attempt_id", "wish", "capture_minor", "tries")
    before = {name: getattr(row, name) for name in kept}
    return before | {"ready_at": None, "claimed_at": None} | values


async def wanted(tx: Tx, *, lease_s: float, limit: int) -> list[Key]:
    """Authorizations of all tenants that are to be captured or voided now."""
    async with tx.reading_as(DUE_READER):
        rows = await tx.rows(_SCAN, lease_s=lease_s, limit=limit)
    return [(row.tenant_id, row.id) for row in rows]


async def claim(tx: Tx, keys: Iterable[Key], *, lease_s: float) -> Sequence[Row[Any]]:
    """Claim them and return what the calls need; skips what another holds."""
    return await tx.rows(_CLAIM, lease_s=lease_s, **split(keys))


async def set_amounts(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Locked payments are of what was captured, not of what was authorized."""
    await _SET_AMOUNTS(tx, rows)
