"""Intents to ask a provider again: refetches, hints that nobody knows yet, due moments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.bulk import Insert
from subledger.platform.db import DUE_READER, Tx, sql
from subledger.platform.due import DueQueue
from subledger.services.payments import tables
from subledger.services.payments.store.payments import Key, split

due = DueQueue(tables.due)

RECONCILE = "reconcile"
PAGE_EXPIRY = "page_expiry"
HINT = "hint"
AUTHORIZATION = "authorization"
"""What nobody captured is to be let go."""
SETUP = "setup_look"
_OF_PAYMENTS = (RECONCILE, PAGE_EXPIRY, AUTHORIZATION)
ASKED = "payments.refetches"
"""The kind of work that a question to a provider is."""
OF_REFUND = "refund."
"""The kinds of hints that speak of an attempt's refunds begin so."""
OF_DISPUTE = "dispute."
"""The kinds of hints that speak of an attempt's disputes begin so."""

_WANTED = "unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[])) AS w(tenant_id, id)"

# Asked again while it is claimed: the number moves on, so that the claim's end does not remove it.
_ASK = sql(
    """
    INSERT INTO payments.refetches AS r (tenant_id, attempt_id, action, asked, requested_at)
    SELECT tenant_id, attempt_id, action, 1, clock_timestamp()
    FROM unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[]), CAST(:actions AS text[]))
        AS w(tenant_id, attempt_id, action)
    ORDER BY tenant_id, attempt_id
    ON CONFLICT (tenant_id, attempt_id) DO UPDATE SET asked = r.asked + 1, action = CASE
        WHEN 'expire' IN (r.action, excluded.action) THEN 'expire'
        WHEN 'reconcile' IN (r.action, excluded.action) THEN 'reconcile'
        ELSE 'fetch' END
    """
)
PAYERS_APART_S = 3
"""A provider is asked for payers who look at a page at most this often (wall clock)."""
_LOOK_AGAIN = sql(
    f"""
    WITH mine AS (
        SELECT a.tenant_id, a.id FROM payments.attempts a
        WHERE a.tenant_id = :tenant AND a.id = :id AND (a.looked_at IS NULL
            OR a.looked_at < statement_timestamp() - interval '{PAYERS_APART_S} s')
        FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE payments.attempts a SET looked_at = clock_timestamp()
    FROM mine WHERE a.tenant_id = mine.tenant_id AND a.id = mine.id
    """
)
_WAITING = sql(
    "SELECT r.tenant_id, r.attempt_id AS id FROM payments.refetches r"
    " WHERE r.claimed_at IS NULL"
    " OR r.claimed_at < statement_timestamp() - make_interval(secs => :lease_s)"
    " ORDER BY r.claimed_at NULLS FIRST, r.requested_at LIMIT :limit"
)
_CLAIM = sql(
    f"""
    WITH locked AS (
        SELECT r.tenant_id, r.attempt_id, r.action, r.asked FROM {_WANTED}
        JOIN payments.refetches r ON r.tenant_id = w.tenant_id AND r.attempt_id = w.id
        WHERE r.claimed_at IS NULL
           OR r.claimed_at < statement_timestamp() - make_interval(secs => :lease_s)
        ORDER BY r.tenant_id, r.attempt_id FOR NO KEY UPDATE OF r SKIP LOCKED
    ), claimed AS (
        UPDATE payments.refetches AS r SET claimed_at = clock_timestamp()
        FROM locked l WHERE r.tenant_id = l.tenant_id AND r.attempt_id = l.attempt_id
    )
    SELECT l.tenant_id, l.attempt_id, l.action, l.asked, a.kind, a.provider_ref,
           p.connection_id, p.amount_minor, p.currency
    FROM locked l
    JOIN payments.attempts a ON a.tenant_id = l.tenant_id AND a.id = l.attempt_id
    JOIN payments.payments p ON p.tenant_id = a.tenant_id AND p.id = a.payment_id
    """
)
_IS_ASKED = sql(
    "SELECT 1 AS one FROM payments.refetches r"
    " WHERE r.tenant_id = :tenant AND r.attempt_id = :attempt"
)
_DONE = sql(
    "DELETE FROM payments.refetches AS r USING unnest(CAST(:tenants AS uuid[]),"
    " CAST(:ids AS uuid[]), CAST(:asked AS bigint[])) AS w(tenant_id, attempt_id, asked)"
    " WHERE r.tenant_id = w.tenant_id AND r.attempt_id = w.attempt_id AND r.asked = w.asked"
)
# What was due has been done: only what was asked for since is left.
_RELEASE = sql(
    "UPDATE payments.refetches AS r SET claimed_at = NULL,"
    " action = CASE WHEN r.action = w.action THEN 'fetch' ELSE r.action END"
    " FROM unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[]), CAST(:actions AS text[]))"
    " AS w(tenant_id, attempt_id, action)"
    " WHERE r.tenant_id = w.tenant_id AND r.attempt_id = w.attempt_id"
)
_INSERT_HINTS = Insert(
    tables.hints,
    [
        "tenant_id",
        "id",
        "connection_id",
        "kind",
        "attempt_id",
        "provider_ref",
        "tries",
        "created_at",
    ],
    conflict="(tenant_id, id) DO NOTHING",
)
_LOCK_HINTS = sql(
    "SELECT h.tenant_id, h.id, h.connection_id, h.kind, h.attempt_id, h.provider_ref, h.tries"
    f" FROM {_WANTED} JOIN payments.hints h USING (tenant_id, id)"
    " ORDER BY h.tenant_id, h.id FOR NO KEY UPDATE OF h"
)
_WAITING_HINTS = sql(
    f"SELECT h.id AS webhook_id, h.tries, d.due_at FROM {_WANTED}"
    " JOIN payments.hints h USING (tenant_id, id)"
    " LEFT JOIN payments.due d ON d.tenant_id = h.tenant_id AND d.kind = 'hint' AND d.id = h.id"
    " ORDER BY h.id"
)
_TRIED_HINTS = sql(
    f"UPDATE payments.hints AS h SET tries = tries + 1 FROM {_WANTED}"
    " WHERE h.tenant_id = w.tenant_id AND h.id = w.id"
)
_DROP_HINTS = sql(
    f"DELETE FROM payments.hints AS h USING {_WANTED}"
    " WHERE h.tenant_id = w.tenant_id AND h.id = w.id"
)


async def ask(tx: Tx, wanted: Mapping[Key, str]) -> None:
    """Intend to ask the provider about attempts; the value is ``fetch``, ``reconcile`` or
    ``expire``, of which the strongest stays."""
    keys = sorted(wanted)
    if keys:
        tx.work.add(ASKED)
        await tx.run(
            _ASK,
            tenants=[tenant for tenant, _ in keys],
            ids=[each for _, each in keys],
            actions=[wanted[key] for key in keys],
        )


async def look_again(tx: Tx, attempt: Key) -> bool:
    """Note that a payer looks; False if one did a moment ago, or somebody works on the attempt."""
    return bool(await tx.run(_LOOK_AGAIN, tenant=attempt[0], id=attempt[1]))


async def waiting(tx: Tx, *, lease_s: float, limit: int) -> list[Key]:
    """Attempts of all tenants with an intent that nobody works on."""
    async with tx.reading_as(DUE_READER):
        rows = await tx.rows(_WAITING, lease_s=lease_s, limit=limit)
    return [(row.tenant_id, row.id) for row in rows]


async def claim(tx: Tx, keys: Iterable[Key], *, lease_s: float) -> Sequence[Row[Any]]:
    """Claim intents and return what the questions need; skips what another holds."""
    return await tx.rows(_CLAIM, lease_s=lease_s, **split(keys))


async def is_asked(tx: Tx, attempt: Key) -> bool:
    """Whether a question about the attempt is still to be asked or answered."""
    return bool(await tx.rows(_IS_ASKED, tenant=attempt[0], attempt=attempt[1]))


async def done(tx: Tx, claimed: Iterable[Row[Any]]) -> None:
    """Remove answered intents; one that was asked again meanwhile is released instead."""
    rows = sorted(claimed, key=lambda row: (row.tenant_id, row.attempt_id))
    if not rows:
        return
    removed = await tx.run(
        _DONE,
        tenants=[row.tenant_id for row in rows],
        ids=[row.attempt_id for row in rows],
        asked=[row.asked for row in rows],
    )
    if removed < len(rows):
        tx.work.add(ASKED)
        await tx.run(
            _RELEASE,
            tenants=[row.tenant_id for row in rows],
            ids=[row.attempt_id for row in rows],
            actions=[row.action for row in rows],
        )


async def insert_hints(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Keep what a provider said about something that is not known here yet; what is kept already
    stays as it is."""
    await _INSERT_HINTS(tx, sorted(rows, key=lambda row: (row["tenant_id"], row["id"])))


async def waiting_hints(tx: Tx, keys: Iterable[Key]) -> Sequence[Row[Any]]:
    """Which of these hints are still kept: how often it was looked for what they speak of, and
    when it will be again."""
    return await tx.rows(_WAITING_HINTS, **split(keys))


async def lock_hints(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """Lock kept hints, in order."""
    rows = await tx.rows(_LOCK_HINTS, **split(keys))
    return {(row.tenant_id, row.id): row for row in rows}


async def tried_hints(tx: Tx, keys: Iterable[Key]) -> None:
    """Count one more look at locked hints."""
    await tx.run(_TRIED_HINTS, **split(keys))


async def drop_hints(tx: Tx, keys: Iterable[Key]) -> None:
    """Forget locked hints."""
    await tx.run(_DROP_HINTS, **split(keys))


async def drop_due(tx: Tx, payments: Iterable[tuple[UUID, UUID]]) -> None:
    """Nothing is due for these payments any more."""
    keys = list(payments)
    await due.drop(tx, [(t, kind, p) for t, p in keys for kind in _OF_PAYMENTS])
