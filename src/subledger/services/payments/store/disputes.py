"""Disputes: inserting, reading and saving them; intents to ask a provider for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.bulk import Insert, Update, by_keys
from subledger.platform.db import DUE_READER, Tx, sql
from subledger.services.payments import tables
from subledger.services.payments.store.payments import Key, split

DUE = "dispute"
"""The due moment at which a provider is asked about an attempt's disputes; its id is the
attempt's, its number how often asking taught nothing."""
LOOKS = "payments.dispute_looks"
"""The kind of work that a question about disputes is."""

_WANTED = "unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[])) AS w(tenant_id, id)"
_COLUMNS = [column.name for column in tables.disputes.c]
_DISPUTE = ", ".join(f"d.{name}" for name in _COLUMNS)
_OF_PAYMENT = "p.invoice_id, p.connection_id"
_PAYMENT = "JOIN payments.payments p ON p.tenant_id = d.tenant_id AND p.id = d.payment_id"

_INSERT = Insert(tables.disputes, _COLUMNS)
_SAVE = Update(
    tables.disputes,
    keys=["tenant_id", "id"],
    sets=["state", "fee_minor", "evidence_due_at", "closed_at", "exhausted_at", "occurred_at"],
)
_OF_PAYMENTS = sql(
    f"SELECT {_DISPUTE} {by_keys('payments.disputes d', tenant_id='tenants', payment_id='ids')}"
    " ORDER BY d.tenant_id, d.payment_id, d.opened_at, d.id"
)
_DISPUTES = sql(
    f"SELECT {_DISPUTE}, {_OF_PAYMENT}"
    f" {by_keys('payments.disputes d', tenant_id='tenants', id='ids')} {_PAYMENT}"
)


def _listing(condition: str) -> str:
    return (
        f"SELECT {_DISPUTE}, {_OF_PAYMENT} FROM payments.disputes d {_PAYMENT}"
        f" WHERE d.tenant_id = :tenant{condition}"
        " AND (d.opened_at, d.id) < (:before_at, :before_id)"
        " ORDER BY d.opened_at DESC, d.id DESC LIMIT :limit"
    )


_LIST = sql(_listing(""))
_LIST_OF_PAYMENT = sql(_listing(" AND d.payment_id = :payment"))
_LIST_OF_CUSTOMER = sql(_listing(" AND d.customer_id = :customer"))
_LIST_BY_STATE = sql(_listing(" AND d.state = :state"))

# Asked again while it is claimed: the number moves on, so that the claim's end does not remove it.
_ASK = sql(
    """
    INSERT INTO payments.dispute_looks AS r (tenant_id, attempt_id, asked, tries, requested_at)
    SELECT tenant_id, id, 1, tries, clock_timestamp()
    FROM unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[]), CAST(:tries AS smallint[]))
        AS w(tenant_id, id, tries) ORDER BY tenant_id, id
    ON CONFLICT (tenant_id, attempt_id) DO UPDATE SET asked = r.asked + 1
    """
)
_WAITING = sql(
    "SELECT r.tenant_id, r.attempt_id AS id FROM payments.dispute_looks r"
    " WHERE r.claimed_at IS NULL"
    " OR r.claimed_at < statement_timestamp() - make_interval(secs => :lease_s)"
    " ORDER BY r.claimed_at NULLS FIRST, r.requested_at LIMIT :limit"
)
_CLAIM = sql(
    f"""
    WITH locked AS (
        SELECT r.tenant_id, r.attempt_id, r.asked, r.tries
        {by_keys("payments.dispute_looks r", tenant_id="tenants", attempt_id="ids")}
        WHERE r.claimed_at IS NULL
           OR r.claimed_at < statement_timestamp() - make_interval(secs => :lease_s)
        FOR NO KEY UPDATE OF r SKIP LOCKED
    ), claimed AS (
        UPDATE payments.dispute_looks AS r SET claimed_at = clock_timestamp()
        FROM locked l WHERE r.tenant_id = l.tenant_id AND r.attempt_id = l.attempt_id
    )
    SELECT l.tenant_id, l.attempt_id, l.asked, l.tries, a.payment_id, p.connection_id
    FROM locked l
    JOIN payments.attempts a ON a.tenant_id = l.tenant_id AND a.id = l.attempt_id
    JOIN payments.payments p ON p.tenant_id = a.tenant_id AND p.id = a.payment_id
    """
)
_DONE = sql(
    "DELETE FROM payments.dispute_looks AS r USING unnest(CAST(:tenants AS uuid[]),"
    " CAST(:ids AS uuid[]), CAST(:asked AS bigint[])) AS w(tenant_id, attempt_id, asked)"
    " WHERE r.tenant_id = w.tenant_id AND r.attempt_id = w.attempt_id AND r.asked = w.asked"
)
_RELEASE = sql(
    f"UPDATE payments.dispute_looks AS r SET claimed_at = NULL FROM {_WANTED}"
    " WHERE r.tenant_id = w.tenant_id AND r.attempt_id = w.id"
)


def _by_payment(rows: Iterable[Row[Any]]) -> dict[Key, list[Row[Any]]]:
    found: dict[Key, list[Row[Any]]] = {}
    for row in rows:
        found.setdefault((row.tenant_id, row.payment_id), []).append(row)
    return found


async def of_payments(tx: Tx, payments: Iterable[Key]) -> dict[Key, list[Row[Any]]]:
    """All disputes of each payment, the oldest first. A locked payment's stay as they are."""
    return _by_payment(await tx.rows(_OF_PAYMENTS, **split(payments)))


async def disputes(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """Disputes with their payments' columns."""
    rows = await tx.rows(_DISPUTES, **split(keys))
    return {(row.tenant_id, row.id): row for row in rows}


async def listed(
    tx: Tx,
    tenant_id: UUID,
    *,
    before: tuple[datetime, UUID],
    limit: int,
    payment_id: UUID | None = None,
    customer_id: UUID | None = None,
    state: str | None = None,
) -> Sequence[Row[Any]]:
    """Disputes from the newest, older than ``before``; at most one of the filters."""
    page = {"tenant": tenant_id, "before_at": before[0], "before_id": before[1], "limit": limit}
    if payment_id is not None:
        return await tx.rows(_LIST_OF_PAYMENT, payment=payment_id, **page)
    if customer_id is not None:
        return await tx.rows(_LIST_OF_CUSTOMER, customer=customer_id, **page)
    if state is not None:
        return await tx.rows(_LIST_BY_STATE, state=state, **page)
    return await tx.rows(_LIST, **page)


async def insert(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """New disputes; their payments are locked."""
    await _INSERT(tx, rows)


async def save(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """What was found out about disputes of locked payments."""
    await _SAVE(tx, rows)


# --- intents to look -----------------------------------------------------------------------------


async def ask(tx: Tx, attempts: Mapping[Key, int]) -> None:
    """Intend to ask the provider for all disputes of attempts; the values say how often asking has
    taught nothing before."""
    if attempts:
        tx.work.add(LOOKS)
        await tx.run(_ASK, **split(attempts), tries=[attempts[key] for key in sorted(attempts)])


async def waiting(tx: Tx, *, lease_s: float, limit: int) -> list[Key]:
    """Attempts of all tenants with an intent that nobody works on."""
    async with tx.reading_as(DUE_READER):
        rows = await tx.rows(_WAITING, lease_s=lease_s, limit=limit)
    return [(row.tenant_id, row.id) for row in rows]


async def claim(tx: Tx, keys: Iterable[Key], *, lease_s: float) -> Sequence[Row[Any]]:
    """Claim intents and return what the questions need; skips what another holds."""
    return await tx.rows(_CLAIM, lease_s=lease_s, **split(keys))


async def looked(tx: Tx, claimed: Iterable[Row[Any]]) -> None:
    """Remove answered intents; one that was asked again meanwhile is released instead."""
    rows = sorted(claimed, key=lambda row: (row.tenant_id, row.attempt_id))
    removed = await tx.run(
        _DONE,
        tenants=[row.tenant_id for row in rows],
        ids=[row.attempt_id for row in rows],
        asked=[row.asked for row in rows],
    )
    if removed < len(rows):
        tx.work.add(LOOKS)
        await tx.run(_RELEASE, **split((row.tenant_id, row.attempt_id) for row in rows))
