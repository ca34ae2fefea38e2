"""Refunds: inserting, claiming, locking and saving them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.bulk import Update, by_keys
from subledger.platform.db import DUE_READER, Tx, sql
from subledger.services.payments import tables
from subledger.services.payments.store.payments import Key, split

RECONCILE = "refund_reconcile"
_WANTED = "unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[])) AS w(tenant_id, id)"
_REFUND = (
    "r.tenant_id, r.id, r.payment_id, r.attempt_id, r.destination, r.source, r.origin, r.reason,"
    " r.cancel_subscription, r.asked_minor, r.amount_minor, r.refundable_minor, r.currency,"
    " r.state, r.code, r.credit_note_id, r.provider_ref, r.ready_at, r.claimed_at, r.tries,"
    " r.lost_at, r.exhausted_at, r.cause, r.occurred_at, r.created_at, r.finished_at"
)
_OF_PAYMENT = "p.customer_id, p.invoice_id, p.connection_id"


def _scan(state: str) -> str:
    return f"""
    SELECT a.tenant_id, a.id FROM identity.clocks c
    CROSS JOIN LATERAL (
        SELECT r.tenant_id, r.id, r.ready_at FROM payments.refunds r
        WHERE r.tenant_id = c.tenant_id AND r.state = '{state}'
          AND r.ready_at <= statement_timestamp()
        ORDER BY r.ready_at LIMIT :limit
    ) AS a
    WHERE c.stopped_at IS NULL
    ORDER BY row_number() OVER (PARTITION BY a.tenant_id ORDER BY a.ready_at), a.tenant_id
    LIMIT :limit
    """


_REQUESTED = sql(_scan("requested"))
_READY = sql(_scan("ready"))
_STALE = sql(
    "SELECT r.tenant_id, r.id FROM payments.refunds r WHERE r.state = 'in_flight'"
    " AND r.claimed_at < statement_timestamp() - make_interval(secs => :lease_s)"
    " ORDER BY r.claimed_at LIMIT :limit"
)
_TO_GRANT = sql(
    f"SELECT {_REFUND}, {_OF_PAYMENT}"
    f" {by_keys('payments.refunds r', tenant_id='tenants', id='ids')}"
    " JOIN payments.payments p ON p.tenant_id = r.tenant_id AND p.id = r.payment_id"
    " WHERE r.state = 'requested' ORDER BY r.tenant_id, r.id"
)
_CLAIM = sql(
    f"""
    WITH locked AS (
        SELECT r.tenant_id, r.id, r.payment_id, r.attempt_id, r.amount_minor
        {by_keys("payments.refunds r", tenant_id="tenants", id="ids")}
        WHERE r.state = 'ready' FOR NO KEY UPDATE OF r SKIP LOCKED
    ), claimed AS (
        UPDATE payments.refunds AS r SET state = 'in_flight', claimed_at = clock_timestamp()
        FROM locked l WHERE r.tenant_id = l.tenant_id AND r.id = l.id
        RETURNING r.tenant_id, r.id, r.payment_id, r.attempt_id, r.amount_minor, r.claimed_at
    )
    SELECT l.tenant_id, l.id, l.amount_minor, l.attempt_id, a.provider_ref, p.connection_id,
           p.invoice_id, p.amount_minor AS captured_minor, p.currency, l.claimed_at
    FROM claimed l
    JOIN payments.payments p ON p.tenant_id = l.tenant_id AND p.id = l.payment_id
    JOIN payments.attempts a ON a.tenant_id = l.tenant_id AND a.id = l.attempt_id
    """
)
_LOCK = sql(
    f"SELECT {_REFUND}, {_OF_PAYMENT}, clock_timestamp() AS wall_at"
    f" {by_keys('payments.refunds r', tenant_id='tenants', id='ids')}"
    " JOIN payments.payments p ON p.tenant_id = r.tenant_id AND p.id = r.payment_id"
    " FOR NO KEY UPDATE OF r"
)
_LOCK_PAYMENTS = sql(
    "SELECT p.tenant_id, p.id, p.customer_id, p.invoice_id, p.connection_id, p.status,"
    " p.amount_minor, p.currency, p.occurred_at, a.id AS attempt_id"
    f" {by_keys('payments.payments p', tenant_id='tenants', id='ids')}"
    " LEFT JOIN payments.attempts a ON a.tenant_id = p.tenant_id AND a.payment_id = p.id"
    " AND a.state = 'succeeded' FOR NO KEY UPDATE OF p"
)
_OF_PAYMENTS = sql(
    f"SELECT {_REFUND} {by_keys('payments.refunds r', tenant_id='tenants', payment_id='ids')}"
    " ORDER BY r.tenant_id, r.payment_id, r.created_at, r.id"
)
_REFUNDS = sql(
    f"SELECT {_REFUND}, {_OF_PAYMENT}"
    f" {by_keys('payments.refunds r', tenant_id='tenants', id='ids')}"
    " JOIN payments.payments p ON p.tenant_id = r.tenant_id AND p.id = r.payment_id"
)
_LIST = sql(
    f"SELECT {_REFUND}, {_OF_PAYMENT} FROM payments.refunds r"
    " JOIN payments.payments p ON p.tenant_id = r.tenant_id AND p.id = r.payment_id"
    " WHERE r.tenant_id = :tenant AND r.payment_id = :payment"
    " AND (r.created_at, r.id) < (:before_at, :before_id)"
    " ORDER BY r.created_at DESC, r.id DESC LIMIT :limit"
)
_INSERT = sql(
    "INSERT INTO payments.refunds (tenant_id, id, payment_id, attempt_id, destination, source,"
    " origin, reason, cancel_subscription, asked_minor, amount_minor, currency, state,"
    " provider_ref, ready_at, tries, cause, occurred_at, created_at, finished_at)"
    " SELECT tenant_id, id, payment_id, attempt_id, destination, source, origin, reason,"
    " cancel_subscription, asked_minor, amount_minor, currency, state, provider_ref,"
    " clock_timestamp(), 0, cause, occurred_at, occurred_at, finished_at"
    " FROM unnest(CAST(:tenant_id AS uuid[]), CAST(:id AS uuid[]), CAST(:payment_id AS uuid[]),"
    " CAST(:attempt_id AS uuid[]), CAST(:destination AS text[]), CAST(:source AS text[]),"
    " CAST(:origin AS text[]), CAST(:reason AS text[]),"
    " CAST(:cancel_subscription AS boolean[]), CAST(:asked_minor AS bigint[]),"
    " CAST(:amount_minor AS bigint[]), CAST(:currency AS text[]), CAST(:state AS text[]),"
    " CAST(:provider_ref AS text[]), CAST(:cause AS uuid[]), CAST(:occurred_at AS timestamptz[]),"
    " CAST(:finished_at AS timestamptz[])) AS given(tenant_id, id, payment_id, attempt_id,"
    " destination, source, origin, reason, cancel_subscription, asked_minor, amount_minor,"
    " currency, state, provider_ref, cause, occurred_at, finished_at)"
)
_NAMES = (
    *("tenant_id", "id", "payment_id", "attempt_id", "destination", "source", "origin", "reason"),
    "cancel_subscription",
    *("asked_minor", "amount_minor", "currency", "state", "provider_ref", "cause", "occurred_at"),
    "finished_at",
)
_SAVE_GRANTS = Update(
    tables.refunds,
    keys=["tenant_id", "id"],
    sets=[
        "amount_minor",
        "refundable_minor",
        "credit_note_id",
        "state",
        "code",
        "occurred_at",
        "finished_at",
    ],
)
_SAVE = Update(
    tables.refunds,
    keys=["tenant_id", "id"],
    sets=[
        *("state", "code", "provider_ref", "ready_at", "tries", "lost_at"),
        *("exhausted_at", "occurred_at", "finished_at"),
    ],
)
_PUT_OFF = sql(
    f"UPDATE payments.refunds AS r SET ready_at = clock_timestamp() + interval '1 second'"
    f" FROM {_WANTED} WHERE r.tenant_id = w.tenant_id AND r.id = w.id AND r.state = 'requested'"
)


REQUESTED, READY = "payments.refunds_requested", "payments.refunds"
"""Kinds of work: a refund to ask billing about, one to be sent."""
_WORK = {"requested": REQUESTED, "ready": READY}


async def _found(tx: Tx, statement: Any, **given: Any) -> list[Key]:
    async with tx.reading_as(DUE_READER):
        rows = await tx.rows(statement, **given)
    return [(row.tenant_id, row.id) for row in rows]


async def requested(tx: Tx, limit: int) -> list[Key]:
    """Refunds of all tenants that billing has to grant; tenants take turns."""
    return await _found(tx, _REQUESTED, limit=limit)


async def ready(tx: Tx, limit: int) -> list[Key]:
    """Refunds of all tenants whose call may be made now; tenants take turns."""
    return await _found(tx, _READY, limit=limit)


async def stale(tx: Tx, *, lease_s: float, limit: int) -> list[Key]:
    """Refunds in flight whose caller has not come back within ``lease_s`` (wall clock)."""
    return await _found(tx, _STALE, lease_s=lease_s, limit=limit)


async def to_grant(tx: Tx, keys: Iterable[Key]) -> Sequence[Row[Any]]:
    """Those that still want a grant, with their payments' columns."""
    return await tx.rows(_TO_GRANT, **split(keys))


async def claim(tx: Tx, keys: Iterable[Key]) -> Sequence[Row[Any]]:
    """Mark ready refunds in flight and return what their calls need; skips what another holds."""
    return await tx.rows(_CLAIM, **split(keys))


async def lock(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """Lock refunds, in order; with their payments' columns."""
    rows = await tx.rows(_LOCK, **split(keys))
    return {(row.tenant_id, row.id): row for row in rows}


async def lock_payments(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """Lock payments, in order, with the attempt that succeeded: their refunds come and go under
    this lock."""
    rows = await tx.rows(_LOCK_PAYMENTS, **split(keys))
    return {(row.tenant_id, row.id): row for row in rows}


async def of_payments(tx: Tx, payments: Iterable[Key]) -> dict[Key, list[Row[Any]]]:
    """All refunds of each payment, the oldest first."""
    found: dict[Key, list[Row[Any]]] = {}
    for row in await tx.rows(_OF_PAYMENTS, **split(payments)):
        found.setdefault((row.tenant_id, row.payment_id), []).append(row)
    return found


async def refunds(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """Refunds as they are, unlocked."""
    rows = await tx.rows(_REFUNDS, **split(keys))
    return {(row.tenant_id, row.id): row for row in rows}


async def listed(
    tx: Tx, tenant_id: UUID, payment_id: UUID, *, before: tuple[datetime, UUID], limit: int
) -> Sequence[Row[Any]]:
    """A payment's refunds from the newest, older than ``before``."""
    return await tx.rows(
        _LIST,
        tenant=tenant_id,
        payment=payment_id,
        before_at=before[0],
        before_id=before[1],
        limit=limit,
    )


async def insert(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """New refunds; their payments are locked."""
    _tell_work(tx, rows)
    if rows:
        await tx.run(_INSERT, **{name: [row[name] for row in rows] for name in _NAMES})


async def save_grants(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """What billing answered about locked refunds."""
    _tell_work(tx, rows)
    await _SAVE_GRANTS(tx, rows)


async def save(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """What was found out about locked refunds."""
    _tell_work(tx, rows)
    await _SAVE(tx, rows)


def _tell_work(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    tx.work.update(_WORK[row["state"]] for row in rows if row["state"] in _WORK)


async def put_off(tx: Tx, keys: Iterable[Key]) -> None:
    """Ask billing about these a little later."""
    await tx.run(_PUT_OFF, **split(keys))
