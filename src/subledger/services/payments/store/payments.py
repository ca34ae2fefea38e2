"""Payments and their attempts: inserting, claiming, locking and saving them, many at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.bulk import Insert, Update, by_keys, same_keys
from subledger.platform.db import DUE_READER, Tx, sql
from subledger.services.payments import tables
from subledger.services.payments.store.holds import NEVER

Key = tuple[UUID, UUID]
"""``(tenant_id, id)``"""
_LONG_AGO, _FIRST = datetime(1, 1, 1, tzinfo=UTC), UUID(int=0)

_WANTED = "unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[])) AS w(tenant_id, id)"

_PAYMENT_COLUMNS = (
    "p.tenant_id, p.id, p.customer_id, p.invoice_id, p.connection_id, p.method_id, p.mode,"
    " p.dunning, p.amount_minor, p.currency, p.status, p.decline, p.failure_code,"
    " p.redirect_url, p.return_url, p.cause, p.occurred_at, p.created_at, p.finished_at,"
    " p.subscription_ids, p.capture_method"
)

# What a payment shows, beside its own columns: how much of it went back as money, and how much a
# dispute has taken.
_SHOWN = (
    f"{_PAYMENT_COLUMNS}, (SELECT coalesce(sum(f.amount_minor), 0)::bigint FROM payments.refunds f"
    " WHERE f.tenant_id = p.tenant_id AND f.payment_id = p.id AND f.destination = 'method'"
    " AND f.state = 'succeeded') AS refunded_minor,"
    " (SELECT coalesce(sum(d.amount_minor), 0)::bigint FROM payments.disputes d"
    " WHERE d.tenant_id = p.tenant_id AND d.payment_id = p.id"
    " AND d.state <> 'won') AS disputed_minor,"
    " (SELECT to_jsonb(o)::text"
    " FROM payments.offline_payments o WHERE o.tenant_id = p.tenant_id AND o.payment_id = p.id)"
    " AS offline,"
    " (SELECT to_jsonb(z)::text FROM payments.authorizations z JOIN payments.attempts a"
    " ON a.tenant_id = z.tenant_id AND a.id = z.attempt_id"
    " WHERE a.tenant_id = p.tenant_id AND a.payment_id = p.id"
    " ORDER BY a.n DESC LIMIT 1) AS held"
)

_READY = sql(
    """
    SELECT a.tenant_id, a.id FROM identity.clocks c
    CROSS JOIN LATERAL (
        SELECT r.tenant_id, r.id, r.ready_at FROM payments.attempts r
        WHERE r.tenant_id = c.tenant_id AND r.kind = :kind AND r.state = 'ready'
          AND r.ready_at <= statement_timestamp()
        ORDER BY r.ready_at LIMIT :limit
    ) AS a
    WHERE c.stopped_at IS NULL
    ORDER BY row_number() OVER (PARTITION BY a.tenant_id ORDER BY a.ready_at), a.tenant_id
    LIMIT :limit
    """
)
_RESERVING = sql(
    """
    SELECT a.tenant_id, a.id FROM identity.clocks c
    CROSS JOIN LATERAL (
        SELECT r.tenant_id, r.id, r.ready_at FROM payments.attempts r
        WHERE r.tenant_id = c.tenant_id AND r.state = 'reserving'
        ORDER BY r.ready_at LIMIT :limit
    ) AS a
    WHERE c.stopped_at IS NULL
    ORDER BY row_number() OVER (PARTITION BY a.tenant_id ORDER BY a.ready_at), a.tenant_id
    LIMIT :limit
    """
)
_STALE = sql(
    "SELECT a.tenant_id, a.id FROM payments.attempts a WHERE a.state = 'in_flight'"
    " AND a.claimed_at < statement_timestamp() - make_interval(secs => :lease_s)"
    " ORDER BY a.claimed_at LIMIT :limit"
)
# A stopped tenant's automatic charges are put off instead: only the others are claimed.
_CLAIM = sql(
    f"""
    WITH stopped AS (
        SELECT h.tenant_id FROM payments.holds h
        WHERE h.tenant_id = ANY (CAST(:tenants AS uuid[])) AND h.is_on FOR SHARE
    ), found AS (
        SELECT a.tenant_id, a.id, a.payment_id
        {by_keys("payments.attempts a", tenant_id="tenants", id="ids")}
        WHERE a.state = 'ready' AND a.kind = :kind FOR NO KEY UPDATE OF a SKIP LOCKED
    ), put_off AS (
        UPDATE payments.attempts AS a SET ready_at = {NEVER}
        FROM found f JOIN payments.payments p
          ON p.tenant_id = f.tenant_id AND p.id = f.payment_id
        WHERE a.tenant_id = f.tenant_id AND a.id = f.id AND p.mode = 'automatic'
          AND f.tenant_id IN (SELECT tenant_id FROM stopped)
        RETURNING a.tenant_id, a.id
    ), locked AS (
        SELECT f.* FROM found f WHERE NOT EXISTS (
            SELECT FROM put_off o WHERE o.tenant_id = f.tenant_id AND o.id = f.id)
    ), claimed AS (
        UPDATE payments.attempts AS a SET state = 'in_flight', claimed_at = clock_timestamp()
        FROM locked l WHERE a.tenant_id = l.tenant_id AND a.id = l.id
        RETURNING a.tenant_id, a.id, a.payment_id, a.claimed_at
    )
    SELECT l.tenant_id, l.id AS attempt_id, p.id AS payment_id, p.customer_id, p.invoice_id,
           p.amount_minor, p.currency, p.return_url, p.connection_id, p.capture_method,
           m.token, l.claimed_at
    FROM claimed l
    JOIN payments.payments p ON p.tenant_id = l.tenant_id AND p.id = l.payment_id
    LEFT JOIN payments.methods m
      ON m.tenant_id = p.tenant_id AND m.id = p.method_id AND m.status = 'active'
    """
)
_TO_RESERVE = sql(
    "SELECT a.tenant_id, a.id AS attempt_id, a.kind, p.invoice_id, p.customer_id, p.amount_minor,"
    " p.currency"
    f" {by_keys('payments.attempts a', tenant_id='tenants', id='ids')}"
    " JOIN payments.payments p ON p.tenant_id = a.tenant_id AND p.id = a.payment_id"
    " WHERE a.state = 'reserving' ORDER BY a.tenant_id, a.id"
)
# Both rows are locked: a row that is only joined would be shown as it was before the wait.
_LOCK = sql(
    f"""
    SELECT {_PAYMENT_COLUMNS}, a.id AS attempt_id, a.kind, a.state, a.tries, a.fetches,
           a.lost_at, a.exhausted_at, a.provider_ref, a.ready_at, a.claimed_at,
           clock_timestamp() AS wall_at
    FROM (SELECT k.tenant_id, k.payment_id AS id, k.id AS attempt_id
          FROM (SELECT a.* {by_keys("payments.attempts a", tenant_id="tenants", id="ids")}) AS k
          ORDER BY k.tenant_id, k.payment_id, k.id) AS w
    {same_keys("payments.payments", "p", ("tenant_id", "id"))}
    CROSS JOIN LATERAL (SELECT * FROM payments.attempts r
        WHERE r.tenant_id = w.tenant_id AND r.id = w.attempt_id OFFSET 0) AS a
    FOR NO KEY UPDATE OF p, a
    """
)
_ATTEMPTS_OF = sql(
    "SELECT a.tenant_id, a.id, a.payment_id, a.n, a.kind, a.state, a.tries, a.fetches,"
    " a.provider_ref, a.outcome::text AS outcome, a.created_at, a.finished_at"
    f" {by_keys('payments.attempts a', tenant_id='tenants', payment_id='ids')}"
    " ORDER BY a.tenant_id, a.payment_id, a.n"
)
_KNOWN_ATTEMPTS = sql(
    f"SELECT a.tenant_id, a.id {by_keys('payments.attempts a', tenant_id='tenants', id='ids')}"
)
_BY_REF = sql(
    "SELECT a.tenant_id, a.id, a.provider_ref"
    f" {by_keys('payments.attempts a', tenant_id='tenants', provider_ref='refs text')}"
)
_KNOWN_RETRIES = sql(
    "SELECT r.tenant_id, r.invoice_id, r.number FROM unnest(CAST(:tenants AS uuid[]),"
    " CAST(:invoices AS uuid[]), CAST(:numbers AS bigint[])) AS w(tenant_id, invoice_id, number)"
    " JOIN payments.retries r USING (tenant_id, invoice_id, number)"
)
_PAYMENTS = sql(f"SELECT {_SHOWN} {by_keys('payments.payments p', tenant_id='tenants', id='ids')}")
_NEWEST_OF_INVOICES = sql(
    f"""
    SELECT p.* FROM unnest(CAST(:invoices AS uuid[])) WITH ORDINALITY AS w(invoice_id, place)
    CROSS JOIN LATERAL (
        SELECT {_PAYMENT_COLUMNS} FROM payments.payments p
        WHERE p.tenant_id = :tenant AND p.invoice_id = w.invoice_id
        ORDER BY p.created_at DESC, p.id DESC LIMIT 1
    ) AS p ORDER BY w.place
    """
)


_LIVE_OF_INVOICE = sql(
    f"SELECT {_PAYMENT_COLUMNS} FROM payments.payments p"
    " WHERE p.tenant_id = :tenant AND p.invoice_id = :invoice"
    " AND p.status IN ('processing', 'requires_action', 'authorized', 'unknown')"
    " ORDER BY p.created_at DESC, p.id DESC LIMIT 5"
)
_OPTIONAL = {
    "status": ("p.status", "text"),
    "customer": ("p.customer_id", "uuid"),
    "connection": ("p.connection_id", "uuid"),
}


def _listing(first: str = "") -> str:
    """``first`` is the filter whose index is read; the others may be null."""
    kept = "".join(
        f" AND (CAST(:{name} AS {kind}) IS NULL OR {column} = CAST(:{name} AS {kind}))"
        for name, (column, kind) in _OPTIONAL.items()
        if f":{name}" not in first
    )
    return (
        f"SELECT {_SHOWN} FROM payments.payments p WHERE p.tenant_id = :tenant"
        f"{first}{kept} AND p.customer_id IS NOT NULL"
        # What named no invoice of the tenant's is no payment of theirs.
        " AND p.failure_code IS DISTINCT FROM 'unknown_invoice' AND p.created_at >= :created_from"
        " AND (p.created_at, p.id) < (:before_at, :before_id)"
        " ORDER BY p.created_at DESC, p.id DESC LIMIT :limit"
    )


_LIST = sql(_listing())
_LIST_OF_INVOICE = sql(_listing(" AND p.invoice_id = :invoice"))
_LIST_OF_CUSTOMER = sql(_listing(" AND p.customer_id = :customer"))
_LIST_BY_STATUS = sql(_listing(" AND p.status = :status"))

_INSERT_PAYMENTS = Insert(
    tables.payments,
    [
        "tenant_id",
        "id",
        "customer_id",
        "invoice_id",
        "connection_id",
        "method_id",
        "mode",
        "dunning",
        "amount_minor",
        "currency",
        "status",
        "return_url",
        "cause",
        "occurred_at",
        "created_at",
        "subscription_ids",
        "capture_method",
    ],
)
_INSERT_ATTEMPTS = sql(
    "INSERT INTO payments.attempts (tenant_id, id, payment_id, n, kind, state, ready_at, tries,"
    " fetches, outcome, created_at)"
    " SELECT tenant_id, id, payment_id, 1, kind, state, clock_timestamp(), 0, 0, '{}', created_at"
    " FROM unnest(CAST(:tenant_id AS uuid[]), CAST(:id AS uuid[]), CAST(:payment_id AS uuid[]),"
    " CAST(:kind AS text[]), CAST(:state AS text[]), CAST(:created_at AS timestamptz[]))"
    " AS given(tenant_id, id, payment_id, kind, state, created_at)"
)
_INSERT_RETRIES = Insert(tables.retries, ["tenant_id", "invoice_id", "number", "payment_id"])
_GRANT = Update(
    tables.payments,
    keys=["tenant_id", "id"],
    sets=["customer_id", "amount_minor", "currency", "method_id", "connection_id"],
)
_SAVE_PAYMENTS = Update(
    tables.payments,
    keys=["tenant_id", "id"],
    sets=[
        "connection_id",
        "method_id",
        "status",
        "decline",
        "failure_code",
        "redirect_url",
        "occurred_at",
        "finished_at",
    ],
)
_SAVE_ATTEMPTS = Update(
    tables.attempts,
    keys=["tenant_id", "id"],
    sets=[
        "state",
        "ready_at",
        "tries",
        "fetches",
        "lost_at",
        "exhausted_at",
        "provider_ref",
        "outcome",
        "finished_at",
    ],
)
_MOVE_ATTEMPTS = Update(tables.attempts, keys=["tenant_id", "id"], sets=["state", "finished_at"])


READY, RESERVING = "payments.ready", "payments.reserving"
"""Kinds of work: an attempt to be made now, one that wants its reservation."""


def split(keys: Iterable[Key]) -> dict[str, list[UUID]]:
    """Keys as the two sorted arrays that statements take."""
    ordered = sorted(set(keys))
    return {"tenants": [tenant for tenant, _ in ordered], "ids": [each for _, each in ordered]}


async def ready(tx: Tx, *, kind: str, limit: int) -> list[Key]:
    """Attempts of all tenants whose call may be made now; tenants take turns."""
    async with tx.reading_as(DUE_READER):
        rows = await tx.rows(_READY, kind=kind, limit=limit)
    return [(row.tenant_id, row.id) for row in rows]


async def reserving(tx: Tx, limit: int) -> list[Key]:
    """Attempts of all tenants that have no reservation yet; tenants take turns."""
    async with tx.reading_as(DUE_READER):
        rows = await tx.rows(_RESERVING, limit=limit)
    return [(row.tenant_id, row.id) for row in rows]


async def stale(tx: Tx, *, lease_s: float, limit: int) -> list[Key]:
    """Attempts in flight whose caller has not come back within ``lease_s`` (wall clock)."""
    async with tx.reading_as(DUE_READER):
        rows = await tx.rows(_STALE, lease_s=lease_s, limit=limit)
    return [(row.tenant_id, row.id) for row in rows]


async def claim(tx: Tx, keys: Iterable[Key], *, kind: str) -> Sequence[Row[Any]]:
    """Mark ready attempts in flight and return what their calls need. Skips what another holds or
    has taken, and puts off the automatic charges of a tenant whose collections are stopped."""
    return await tx.rows(_CLAIM, kind=kind, **split(keys))


async def to_reserve(tx: Tx, keys: Iterable[Key]) -> Sequence[Row[Any]]:
    """What billing is asked about those that still want a reservation."""
    return await tx.rows(_TO_RESERVE, **split(keys))


async def lock(tx: Tx, attempts: Iterable[Key]) -> dict[Key, Row[Any]]:
    """Lock the payments of attempts, in order, with the attempt's own row; by attempt key."""
    rows = await tx.rows(_LOCK, **split(attempts))
    return {(row.tenant_id, row.attempt_id): row for row in rows}


async def attempts_of(tx: Tx, payments: Iterable[Key]) -> dict[Key, list[Row[Any]]]:
    """The attempts of each payment, by number."""
    found: dict[Key, list[Row[Any]]] = {}
    for row in await tx.rows(_ATTEMPTS_OF, **split(payments)):
        found.setdefault((row.tenant_id, row.payment_id), []).append(row)
    return found


async def known_attempts(tx: Tx, keys: Iterable[Key]) -> set[Key]:
    """Which of the attempts exist."""
    return {(row.tenant_id, row.id) for row in await tx.rows(_KNOWN_ATTEMPTS, **split(keys))}


async def attempts_by_ref(tx: Tx, refs: Iterable[tuple[UUID, str]]) -> dict[tuple[UUID, str], UUID]:
    """The attempt behind each ``(tenant_id, provider_ref)`` that is known."""
    wanted = sorted(set(refs))
    rows = await tx.rows(
        _BY_REF, tenants=[tenant for tenant, _ in wanted], refs=[ref for _, ref in wanted]
    )
    return {(row.tenant_id, row.provider_ref): row.id for row in rows}


async def known_retries(
    tx: Tx, keys: Iterable[tuple[UUID, UUID, int]]
) -> set[tuple[UUID, UUID, int]]:
    """Which retries ``(tenant_id, invoice_id, number)`` have a payment already."""
    wanted = sorted(set(keys))
    rows = await tx.rows(
        _KNOWN_RETRIES,
        tenants=[tenant for tenant, _, _ in wanted],
        invoices=[invoice for _, invoice, _ in wanted],
        numbers=[number for _, _, number in wanted],
    )
    return {(row.tenant_id, row.invoice_id, row.number) for row in rows}


async def payments(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """Payments as they are, unlocked."""
    rows = await tx.rows(_PAYMENTS, **split(keys))
    return {(row.tenant_id, row.id): row for row in rows}


async def newest_of_invoices(
    tx: Tx, tenant_id: UUID, invoices: Sequence[UUID]
) -> dict[UUID, Row[Any]]:
    """The newest payment of each invoice that has one."""
    rows = await tx.rows(_NEWEST_OF_INVOICES, tenant=tenant_id, invoices=list(invoices))
    return {row.invoice_id: row for row in rows}


async def live_of_invoice(tx: Tx, tenant_id: UUID, invoice_id: UUID) -> Sequence[Row[Any]]:
    """The invoice's payments that are not over, the newest first, at most five: one may take money,
    others wait to be told that they may not."""
    return await tx.rows(_LIVE_OF_INVOICE, tenant=tenant_id, invoice=invoice_id)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a list is narrowed to; ``created_until`` is exclusive."""

    invoice_id: UUID | None = None
    customer_id: UUID | None = None
    connection_id: UUID | None = None
    status: str | None = None
    created_from: datetime | None = None
    created_until: datetime | None = None


async def listed(
    tx: Tx, tenant_id: UUID, wanted: Wanted, *, before: tuple[datetime, UUID], limit: int
) -> Sequence[Row[Any]]:
    """Payments from the newest, older than ``before``."""
    last = before
    if wanted.created_until is not None:
        last = min(before, (wanted.created_until, _FIRST))
    given = {
        "tenant": tenant_id,
        "customer": wanted.customer_id,
        "connection": wanted.connection_id,
        "status": wanted.status,
        "created_from": wanted.created_from or _LONG_AGO,
        "before_at": last[0],
        "before_id": last[1],
        "limit": limit,
    }
    if wanted.invoice_id is not None:
        return await tx.rows(_LIST_OF_INVOICE, invoice=wanted.invoice_id, **given)
    if wanted.customer_id is not None:
        return await tx.rows(_LIST_OF_CUSTOMER, **given)
    if wanted.status is not None:
        return await tx.rows(_LIST_BY_STATUS, **given)
    return await tx.rows(_LIST, **given)


async def insert(
    tx: Tx, payments: Sequence[Mapping[str, Any]], attempts: Sequence[Mapping[str, Any]]
) -> None:
    """New payments, each with its first attempt."""
    if not payments:
        return
    _tell_work(tx, attempts)
    await _INSERT_PAYMENTS(tx, [{"capture_method": "automatic", **row} for row in payments])
    names = ("tenant_id", "id", "payment_id", "kind", "state", "created_at")
    await tx.run(_INSERT_ATTEMPTS, **{name: [row[name] for row in attempts] for name in names})


async def insert_retries(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Remember which payment answers which retry."""
    await _INSERT_RETRIES(tx, rows)


async def grant(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Fill in what a reservation says about payments that this transaction has locked."""
    await _GRANT(tx, rows)


async def save_payments(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace the outcome columns of locked payments."""
    await _SAVE_PAYMENTS(tx, rows)


async def save_attempts(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace the state and outcome columns of locked attempts."""
    _tell_work(tx, rows)
    await _SAVE_ATTEMPTS(tx, rows)


async def move_attempts(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace only the state of locked attempts."""
    _tell_work(tx, rows)
    await _MOVE_ATTEMPTS(tx, rows)


def _tell_work(tx: Tx, attempts: Sequence[Mapping[str, Any]]) -> None:
    states = {row["state"] for row in attempts}
    tx.work.update(
        kind for state, kind in (("ready", READY), ("reserving", RESERVING)) if state in states
    )
