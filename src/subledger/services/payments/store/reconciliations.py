"""Reconciliation: runs, the provider's entries, what of ours they are compared with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.bulk import Insert, by_keys
from subledger.platform.db import DUE_READER, Tx, sql
from subledger.services.payments import tables
from subledger.services.payments.store.holds import NEVER
from subledger.services.payments.store.payments import Key, split

DUE = "reconciliation"
"""The kind of the due moment at which a connection's day is compared."""
RUNS = "payments.reconciliations"
"""The kind of work that an open run is."""

_RUN = (
    "r.tenant_id, r.id, r.connection_id, r.origin, r.since_at, r.until_at, r.phase, r.cursor,"
    " r.counts::text AS counts, r.balances::text AS balances, r.tries, r.code, r.created_at,"
    " r.finished_at"
)
_INSERT_RUN = sql(
    "INSERT INTO payments.reconciliations (tenant_id, id, connection_id, origin, since_at,"
    " until_at, phase, counts, balances, ready_at, tries, created_at) VALUES (:tenant, :id,"
    " :connection, :origin, :since, :until, 'listing', '{}', '{}', clock_timestamp(), 0, :now)"
)
_WAITING = sql(
    """
    SELECT a.tenant_id, a.id FROM identity.clocks c
    CROSS JOIN LATERAL (
        SELECT r.tenant_id, r.id, r.ready_at FROM payments.reconciliations r
        WHERE r.tenant_id = c.tenant_id AND r.phase NOT IN ('done', 'failed')
          AND r.ready_at <= statement_timestamp() AND (r.claimed_at IS NULL OR r.claimed_at
              < statement_timestamp() - make_interval(secs => :lease_s))
        ORDER BY r.ready_at LIMIT :limit
    ) AS a
    WHERE c.stopped_at IS NULL ORDER BY a.ready_at, a.tenant_id, a.id LIMIT :limit
    """
)
_CLAIM = sql(
    f"""
    WITH locked AS (
        SELECT r.tenant_id, r.id
        {by_keys("payments.reconciliations r", tenant_id="tenants", id="ids")}
        WHERE r.phase NOT IN ('done', 'failed') AND (r.claimed_at IS NULL OR r.claimed_at
              < statement_timestamp() - make_interval(secs => :lease_s))
        FOR NO KEY UPDATE OF r SKIP LOCKED
    )
    UPDATE payments.reconciliations AS r SET claimed_at = clock_timestamp()
    FROM locked l WHERE r.tenant_id = l.tenant_id AND r.id = l.id
    RETURNING {_RUN}
    """
)
_LOCK_RUN = sql(
    f"SELECT {_RUN} FROM payments.reconciliations r"
    " WHERE r.tenant_id = :tenant AND r.id = :id FOR NO KEY UPDATE OF r"
)
_SAVE_RUN = sql(
    "UPDATE payments.reconciliations SET phase = :phase, cursor = :cursor,"
    " counts = CAST(:counts AS jsonb), balances = CAST(:balances AS jsonb), tries = :tries,"
    " code = :code, finished_at = :finished_at, claimed_at = NULL,"
    " ready_at = clock_timestamp() + make_interval(secs => :wait_s)"
    " WHERE tenant_id = :tenant AND id = :id"
)
_RUN_OF = sql(
    f"SELECT {_RUN} FROM payments.reconciliations r WHERE r.tenant_id = :tenant AND r.id = :id"
)
_LIST_RUNS = sql(
    f"SELECT {_RUN} FROM payments.reconciliations r WHERE r.tenant_id = :tenant"
    " AND (r.created_at, r.id) < (:before_at, :before_id)"
    " ORDER BY r.created_at DESC, r.id DESC LIMIT :limit"
)
_NEWEST_DONE = sql(
    f"SELECT {_RUN} FROM payments.reconciliations r WHERE r.tenant_id = :tenant"
    " AND r.connection_id = :connection AND r.phase = 'done' ORDER BY r.until_at DESC LIMIT 1"
)
_OPEN_RUN = sql(
    "SELECT r.id FROM payments.reconciliations r WHERE r.tenant_id = :tenant"
    " AND r.connection_id = :connection AND r.phase = 'listing' AND r.cursor IS NULL"
    " AND r.until_at >= :until AND r.claimed_at IS NULL LIMIT 1"
)
_SETTLEMENT_COLUMNS = [column.name for column in tables.settlements.c]
_PUT_SETTLEMENTS = Insert(
    tables.settlements,
    _SETTLEMENT_COLUMNS,
    conflict="(tenant_id, connection_id, provider_ref) DO UPDATE SET"
    " amount_minor = excluded.amount_minor, fee_minor = excluded.fee_minor,"
    " payout_ref = coalesce(excluded.payout_ref, settlements.payout_ref), at = excluded.at",
)
CAPTURED = "coalesce((a.outcome ->> 'captured_minor')::bigint, p.amount_minor)"
"""What an attempt ``a`` of payment ``p`` captured, as far as we know."""
_OURS = (
    f"a.tenant_id, a.id AS attempt_id, a.provider_ref, a.state, {CAPTURED} AS amount_minor,"
    " p.currency, p.id AS payment_id, p.customer_id, p.invoice_id, p.connection_id, a.finished_at"
)
_PAYMENT_OF = "JOIN payments.payments p ON p.tenant_id = a.tenant_id AND p.id = a.payment_id"
_OURS_OF = sql(
    f"SELECT {_OURS} {by_keys('payments.attempts a', tenant_id='tenants', id='ids')} {_PAYMENT_OF}"
)
_OURS_BY_REF = sql(
    f"SELECT {_OURS}"
    f" {by_keys('payments.attempts a', tenant_id='tenants', provider_ref='refs text')}"
    f" {_PAYMENT_OF} WHERE p.connection_id = :connection"
)
_HELD = sql(
    f"SELECT {_OURS} {by_keys('payments.payments p', tenant_id='tenants', customer_id='ids')}"
    " JOIN payments.attempts a ON a.tenant_id = p.tenant_id AND a.payment_id = p.id"
    f" WHERE p.status = 'processing' AND a.state = 'ready' AND a.ready_at = {NEVER}"
    " ORDER BY p.created_at, a.id"
)
_SUCCEEDED = sql(
    f"SELECT {_OURS} FROM payments.attempts a {_PAYMENT_OF} WHERE a.tenant_id = :tenant"
    " AND a.state = 'succeeded' AND a.finished_at >= :since AND a.finished_at < :until"
    " AND (a.finished_at, a.id) > (:after_at, :after_id) AND p.connection_id = :connection"
    " ORDER BY a.finished_at, a.id LIMIT :limit"
)
_ENTRY = "s.provider_ref, s.attempt_id, s.amount_minor, s.currency, s.at"
_ENTRIES_OF = sql(
    f"SELECT {_ENTRY} {by_keys('payments.settlements s', tenant_id='tenants', attempt_id='ids')}"
    " WHERE s.kind = 'capture' AND s.connection_id = :connection"
)
_ENTRIES_BY_REF = sql(
    f"SELECT {_ENTRY} FROM unnest(CAST(:refs AS text[])) AS w(ref) CROSS JOIN LATERAL (SELECT *"
    " FROM payments.settlements r WHERE r.tenant_id = :tenant AND r.connection_id = :connection"
    " AND r.provider_ref = w.ref OFFSET 0) AS s WHERE s.kind = 'capture'"
)
_REFUNDS_MISSING = sql(
    """
    SELECT f.id, f.payment_id, f.amount_minor, f.currency, f.finished_at, p.customer_id,
           f.provider_ref, f.attempt_id, l.is_listed
    FROM payments.refunds f
    JOIN payments.payments p ON p.tenant_id = f.tenant_id AND p.id = f.payment_id
    CROSS JOIN LATERAL (SELECT EXISTS (
        SELECT FROM payments.settlements s WHERE s.tenant_id = f.tenant_id AND s.refund_id = f.id
          AND s.kind = 'refund'
        UNION ALL
        SELECT FROM payments.settlements s WHERE s.tenant_id = f.tenant_id
          AND s.connection_id = p.connection_id AND s.provider_ref = f.provider_ref
    ) AS is_listed) AS l
    WHERE f.tenant_id = :tenant AND f.state = 'succeeded' AND f.destination = 'method'
      AND f.finished_at >= :since AND f.finished_at < :until
      AND (f.finished_at, f.id) > (:after_at, :after_id) AND p.connection_id = :connection
    ORDER BY f.finished_at, f.id LIMIT :limit
    """
)
_LISTED_REFUNDS = sql(
    f"SELECT r.id {by_keys('payments.refunds r', tenant_id='tenants', id='ids')}"
    " WHERE EXISTS (SELECT FROM payments.settlements s WHERE s.tenant_id = r.tenant_id"
    " AND s.refund_id = r.id) OR EXISTS (SELECT FROM payments.settlements s"
    " WHERE s.tenant_id = r.tenant_id AND s.connection_id = :connection"
    " AND s.provider_ref = r.provider_ref) OR r.state <> 'succeeded'"
)
_KNOWN_REFUNDS = sql(
    f"SELECT r.id, r.state {by_keys('payments.refunds r', tenant_id='tenants', id='ids')}"
)
_KNOWN_REFUND_REFS = sql(
    "SELECT r.attempt_id, r.provider_ref, r.state"
    f" {by_keys('payments.refunds r', tenant_id='tenants', attempt_id='ids')}"
)
_SET_DAILY = sql(
    "UPDATE payments.connections SET reconciles_daily = :daily"
    " WHERE tenant_id = :tenant AND id = :id AND reconciles_daily <> :daily"
)
_CONNECTIONS = sql(
    "SELECT c.tenant_id, c.id, c.status, c.reconciles_daily, c.created_at, c.provider"
    f" {by_keys('payments.connections c', tenant_id='tenants', id='ids')} FOR NO KEY UPDATE OF c"
)


# --- runs -----------------------------------------------------------------------------------------


async def insert_run(
    tx: Tx,
    connection: Key,
    *,
    run_id: UUID,
    origin: str,
    since: datetime,
    until: datetime,
    now: datetime,
) -> None:
    """A new run."""
    tx.work.add(RUNS)
    await tx.run(
        _INSERT_RUN,
        tenant=connection[0],
        id=run_id,
        connection=connection[1],
        origin=origin,
        since=since,
        until=until,
        now=now,
    )


async def waiting(tx: Tx, *, lease_s: float, limit: int) -> list[Key]:
    """Open runs of all tenants that nobody works on."""
    async with tx.reading_as(DUE_READER):
        rows = await tx.rows(_WAITING, lease_s=lease_s, limit=limit)
    return [(row.tenant_id, row.id) for row in rows]


async def claim(tx: Tx, keys: Iterable[Key], *, lease_s: float) -> Sequence[Row[Any]]:
    """Claim runs; skips what another holds."""
    rows = await tx.rows(_CLAIM, lease_s=lease_s, **split(keys))
    tx.wrote = tx.wrote or bool(rows)
    return rows


async def lock_run(tx: Tx, key: Key) -> Row[Any]:
    """Lock one run."""
    return (await tx.rows(_LOCK_RUN, tenant=key[0], id=key[1]))[0]


async def save_run(
    tx: Tx,
    key: Key,
    *,
    phase: str,
    cursor: str | None,
    counts: str,
    balances: str,
    tries: int,
    code: str | None,
    finished_at: datetime | None,
    wait_s: float = 0,
) -> None:
    """What a locked run has come to; it is claimed again after ``wait_s`` (wall clock)."""
    if finished_at is None:
        tx.work.add(RUNS)
    await tx.run(
        _SAVE_RUN,
        tenant=key[0],
        id=key[1],
        phase=phase,
        cursor=cursor,
        counts=counts,
        balances=balances,
        tries=tries,
        code=code,
        finished_at=finished_at,
        wait_s=wait_s,
    )


async def run(tx: Tx, key: Key) -> Row[Any] | None:
    """One run."""
    rows = await tx.rows(_RUN_OF, tenant=key[0], id=key[1])
    return rows[0] if rows else None


async def listed_runs(
    tx: Tx, tenant_id: UUID, *, before: tuple[datetime, UUID], limit: int
) -> Sequence[Row[Any]]:
    """Runs from the newest, older than ``before``."""
    return await tx.rows(
        _LIST_RUNS, tenant=tenant_id, before_at=before[0], before_id=before[1], limit=limit
    )


async def newest_done(tx: Tx, connection: Key) -> Row[Any] | None:
    """The finished run of a connection that reached furthest."""
    rows = await tx.rows(_NEWEST_DONE, tenant=connection[0], connection=connection[1])
    return rows[0] if rows else None


async def is_begun(tx: Tx, connection: Key, *, until: datetime) -> bool:
    """True if a run that nobody has begun with will come as far."""
    rows = await tx.rows(_OPEN_RUN, tenant=connection[0], connection=connection[1], until=until)
    return bool(rows)


async def lock_connections(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """Lock connections, in order: runs of one change what they find one after the other."""
    rows = await tx.rows(_CONNECTIONS, **split(keys))
    return {(row.tenant_id, row.id): row for row in rows}


async def set_daily(tx: Tx, connection: Key, *, daily: bool) -> bool:
    """Whether a connection is compared every day; False if it was so before."""
    return await tx.run(_SET_DAILY, tenant=connection[0], id=connection[1], daily=daily) > 0


# --- the provider's entries, and ours -------------------------------------------------------------


async def put_settlements(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Keep what the provider lists; listed again it is kept once."""
    await _PUT_SETTLEMENTS(
        tx,
        sorted(rows, key=lambda row: (row["tenant_id"], row["connection_id"], row["provider_ref"])),
    )


async def ours(
    tx: Tx, connection: Key, *, attempts: Iterable[UUID], refs: Iterable[str]
) -> list[Row[Any]]:
    """The attempts that entries name, or that have their references."""
    tenant, wanted = connection[0], sorted(set(refs))
    by_id = await tx.rows(_OURS_OF, **split((tenant, each) for each in attempts))
    by_ref = await tx.rows(
        _OURS_BY_REF, tenants=[tenant] * len(wanted), refs=wanted, connection=connection[1]
    )
    return list({row.attempt_id: row for row in [*by_id, *by_ref]}.values())


async def held(tx: Tx, customers: Iterable[Key]) -> Sequence[Row[Any]]:
    """What a kill switch keeps from being charged to these customers, the oldest first."""
    return await tx.rows(_HELD, **split(customers))


async def succeeded(
    tx: Tx,
    connection: Key,
    *,
    since: datetime,
    until: datetime,
    after: tuple[datetime, UUID],
    limit: int,
) -> Sequence[Row[Any]]:
    """Our attempts of a connection that succeeded in a time, by moment."""
    return await tx.rows(
        _SUCCEEDED,
        tenant=connection[0],
        connection=connection[1],
        since=since,
        until=until,
        after_at=after[0],
        after_id=after[1],
        limit=limit,
    )


async def entries(
    tx: Tx, connection: Key, *, attempts: Iterable[UUID], refs: Iterable[str]
) -> list[Row[Any]]:
    """The captures that the provider listed for attempts or under references."""
    tenant = connection[0]
    named = await tx.rows(
        _ENTRIES_OF, connection=connection[1], **split((tenant, each) for each in attempts)
    )
    by_ref = await tx.rows(
        _ENTRIES_BY_REF, tenant=tenant, connection=connection[1], refs=sorted(set(refs))
    )
    return list({row.provider_ref: row for row in [*named, *by_ref]}.values())


async def refunds_succeeded(
    tx: Tx,
    connection: Key,
    *,
    since: datetime,
    until: datetime,
    after: tuple[datetime, UUID],
    limit: int,
) -> Sequence[Row[Any]]:
    """Our refunds that are done, by moment, each with whether the provider listed it."""
    return await tx.rows(
        _REFUNDS_MISSING,
        tenant=connection[0],
        connection=connection[1],
        since=since,
        until=until,
        after_at=after[0],
        after_id=after[1],
        limit=limit,
    )


async def known_refunds(
    tx: Tx, tenant_id: UUID, *, refunds: Iterable[UUID], attempts: Iterable[UUID]
) -> tuple[set[UUID], set[str]]:
    """Ids and references of the refunds that are done here."""
    by_id = await tx.rows(_KNOWN_REFUNDS, **split((tenant_id, each) for each in refunds))
    of = await tx.rows(_KNOWN_REFUND_REFS, **split((tenant_id, each) for each in attempts))
    return (
        {row.id for row in by_id if row.state == "succeeded"},
        {row.provider_ref for row in of if row.state == "succeeded" and row.provider_ref},
    )


async def agreed_refunds(tx: Tx, connection: Key, refunds: Iterable[UUID]) -> set[UUID]:
    """Those of the refunds that the provider listed by now, or that are not done here any more."""
    rows = await tx.rows(
        _LISTED_REFUNDS,
        connection=connection[1],
        **split((connection[0], each) for each in refunds),
    )
    return {row.id for row in rows}
