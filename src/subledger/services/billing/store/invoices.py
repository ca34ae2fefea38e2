"""Invoices with their lines, runs, reservations and receipts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.bulk import Insert, Update, by_keys, split
from subledger.platform.db import Tx, sql
from subledger.services.billing import tables
from subledger.services.billing.store.subscriptions import Key

FINALIZATION = "invoice_finalization"
DUE = "invoice_due"
MOST_DRAFT_LINES = 500
"""A draft with more takes no further lines: another is begun."""

_INVOICE = (
    "i.tenant_id, i.id, i.account_id, i.series, i.number, i.status, i.reason, i.currency,"
    " i.subtotal_minor, i.discount_minor, i.tax_minor, i.total_minor, i.credited_minor,"
    " i.tax_included_minor, i.credit_applied_minor, i.paid_minor, i.drafted_at, i.due_at,"
    " i.finalized_at, i.closed_at, i.noted_minor, i.offset_minor, i.replaces_invoice_id,"
    " i.replaced_by_invoice_id"
)
_NUMBERS = sql(
    """
    INSERT INTO billing.number_series AS s (tenant_id, series, last_number)
    SELECT * FROM unnest(
        CAST(:tenants AS uuid[]), CAST(:series AS text[]), CAST(:counts AS bigint[])
    ) AS w(tenant_id, series, n) ORDER BY tenant_id, series
    ON CONFLICT (tenant_id, series) DO UPDATE SET last_number = s.last_number + excluded.last_number
    RETURNING tenant_id, series, last_number
    """
)
_INSERT_INVOICES = Insert(
    tables.invoices,
    [
        column.name
        for column in tables.invoices.c
        if column.name
        not in {
            *("close_reason", "noted_minor", "offset_minor"),
            *("replaces_invoice_id", "replaced_by_invoice_id"),
        }
    ],
)
_CHANGE_DRAFTS = Update(
    tables.invoices,
    keys=["tenant_id", "id"],
    sets=["subtotal_minor", "discount_minor", "tax_minor", "tax_included_minor", "total_minor",
          "credited_minor", "inputs", "content_hash", "tax"],
)  # fmt: skip
_ISSUE = Update(
    tables.invoices,
    keys=["tenant_id", "id"],
    sets=["series", "number", "status", "total_minor", "credited_minor", "credit_applied_minor",
          "paid_minor", "due_at", "finalized_at", "closed_at"],
)  # fmt: skip
_DRAFTS = sql(
    f"SELECT {_INVOICE}, i.inputs::text AS inputs, i.tax::text AS tax, l.lines"
    f" {by_keys('billing.invoices i', tenant_id='tenants', account_id='ids')}"
    " CROSS JOIN LATERAL (SELECT count(*) AS lines FROM billing.invoice_lines l"
    " WHERE l.tenant_id = i.tenant_id AND l.invoice_id = i.id) AS l"
    " WHERE i.status = 'draft' ORDER BY i.tenant_id, i.id"
)
_SETTINGS = sql(
    "SELECT s.tenant_id, s.draft_s, s.zero_invoices, s.minimums::text AS minimums, s.updated_at"
    " FROM billing.invoice_settings s WHERE s.tenant_id = ANY (CAST(:tenants AS uuid[]))"
)
_PUT_SETTINGS = Insert(
    tables.invoice_settings,
    [column.name for column in tables.invoice_settings.c],
    conflict="(tenant_id) DO UPDATE SET draft_s = excluded.draft_s,"
    " zero_invoices = excluded.zero_invoices, minimums = excluded.minimums,"
    " updated_at = excluded.updated_at",
)
_INSERT_RUNS = Insert(tables.billing_runs, [column.name for column in tables.billing_runs.c])
_INSERT_LINES = Insert(
    tables.invoice_lines,
    [column.name for column in tables.invoice_lines.c if not column.name.startswith("noted_")],
)
_INSERT_RESERVATIONS = Insert(
    tables.reservations,
    ["tenant_id", "invoice_id", "attempt_id", "amount_minor", "state", "reserved_at"],
)
_CLOSE_RESERVATIONS = Update(
    tables.reservations,
    keys=["tenant_id", "invoice_id", "attempt_id"],
    sets=["state", "closed_at"],
)
_CLOSE_INVOICES = Update(
    tables.invoices, keys=["tenant_id", "id"], sets=["status", "paid_minor", "closed_at"]
)
_RECEIPT_COLUMNS = [
    each.name for each in tables.receipts.c if each.name not in {"reversed_at", "stays_applied"}
]
# Money that had been taken back for never having arrived may arrive after all.
_INSERT_RECEIPTS = Insert(
    tables.receipts,
    _RECEIPT_COLUMNS,
    conflict="(tenant_id, attempt_id) DO UPDATE SET reversed_at = NULL, "
    + ", ".join(f"{name} = excluded.{name}" for name in _RECEIPT_COLUMNS)
    + " WHERE receipts.reversed_at IS NOT NULL",
)
_INSERT_WORK_ITEMS = Insert(
    tables.work_items, ["tenant_id", "id", "kind", "account_id", "data", "opened_at"]
)

_LOCK_WORK_ITEMS = sql(
    f"SELECT k.id {by_keys('billing.work_items k', tenant_id='tenants', id='ids')}"
    " FOR NO KEY UPDATE OF k"
)
_OPEN_WORK_ITEMS_OF = sql(
    "SELECT k.tenant_id, k.id, k.kind, k.account_id, k.data::text AS data, k.closed_at"
    " FROM billing.work_items k WHERE k.tenant_id = :tenant AND k.account_id = :account"
    " AND k.closed_at IS NULL AND k.kind = :kind ORDER BY k.id"
)

_WANTED = "unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[]))"
_LOCK_INVOICES = sql(
    f"SELECT {_INVOICE} {by_keys('billing.invoices i', tenant_id='tenants', id='ids')}"
    " FOR NO KEY UPDATE OF i"
)
_INVOICES = sql(f"SELECT {_INVOICE} {by_keys('billing.invoices i', tenant_id='tenants', id='ids')}")
_SUBSCRIPTIONS_OF = sql(
    "SELECT DISTINCT r.tenant_id, r.invoice_id, r.subscription_id"
    f" {by_keys('billing.billing_runs r', tenant_id='tenants', invoice_id='ids')}"
    " ORDER BY r.tenant_id, r.invoice_id, r.subscription_id"
)
_OPEN_OF_SUBSCRIPTIONS = sql(
    f"""
    SELECT r.tenant_id, r.subscription_id, i.id
    {by_keys("billing.billing_runs r", tenant_id="tenants", subscription_id="ids")}
    JOIN billing.invoices i ON i.tenant_id = r.tenant_id AND i.id = r.invoice_id
    WHERE i.status = 'open'
    """
)
_OLDEST_OPEN = sql(
    "SELECT i.id FROM billing.invoices i WHERE i.tenant_id = :tenant AND i.account_id = :account"
    " AND i.status = 'open' ORDER BY i.finalized_at, i.id LIMIT :limit"
)
_GIVEN_UP = sql(
    """
    SELECT r.number FROM billing.billing_runs r
    JOIN billing.invoices i ON i.tenant_id = r.tenant_id AND i.id = r.invoice_id
    WHERE r.tenant_id = :tenant AND r.subscription_id = :subscription
      AND r.period_end_at > :covering_at AND i.status IN ('void', 'uncollectible') LIMIT 1
    """
)
_RESERVATIONS = sql(
    "SELECT r.tenant_id, r.invoice_id, r.attempt_id, r.amount_minor, r.state"
    f" {by_keys('billing.reservations r', tenant_id='tenants', invoice_id='ids')}"
)
_RECEIPTS = sql(
    "SELECT r.tenant_id, r.attempt_id"
    f" {by_keys('billing.receipts r', tenant_id='tenants', attempt_id='ids')}"
    " WHERE r.reversed_at IS NULL"
)
_TRANSFERS_OF = sql(
    """
    SELECT t.tenant_id, t.invoice_id, t.kind, t.debit_account, t.credit_account, t.amount_minor,
           t.currency
    FROM unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[])) AS w(tenant_id, invoice_id)
    JOIN billing.invoices i ON i.tenant_id = w.tenant_id AND i.id = w.invoice_id
    JOIN billing.transfers t ON t.tenant_id = i.tenant_id AND t.account_id = i.account_id
        AND t.occurred_at >= i.finalized_at AND t.invoice_id = i.id
    WHERE t.kind = ANY (CAST(:kinds AS text[])) ORDER BY t.tenant_id, t.ledger_tx, t.n
    """
)


async def take_numbers(
    tx: Tx, counts: Mapping[tuple[UUID, str], int]
) -> dict[tuple[UUID, str], int]:
    """Take ``count`` numbers of each series; returns the first of them. Gap-free: the numbers are
    given back if the transaction rolls back. Held to the end of the transaction, so taken late."""
    ordered = sorted(counts)
    rows = await tx.rows(
        _NUMBERS,
        tenants=[tenant for tenant, _ in ordered],
        series=[series for _, series in ordered],
        counts=[counts[key] for key in ordered],
    )
    return {
        (row.tenant_id, row.series): row.last_number - counts[row.tenant_id, row.series] + 1
        for row in rows
    }


async def insert_invoices(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    await _INSERT_INVOICES(tx, rows)


async def change_drafts(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace the sums and inputs of drafts (locked)."""
    await _CHANGE_DRAFTS(tx, rows)


async def issue_drafts(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Give drafts (locked) their numbers, moments and what credit pays of them."""
    await _ISSUE(tx, rows)


async def drafts_of(tx: Tx, accounts: Iterable[Key]) -> list[Row[Any]]:
    """The drafts of accounts, with ``inputs`` and how many ``lines`` they have, oldest first."""
    return list(await tx.rows(_DRAFTS, **split(accounts)))


async def settings(tx: Tx, tenants: Iterable[UUID]) -> dict[UUID, Row[Any]]:
    """The invoice settings of those tenants that have any."""
    rows = await tx.rows(_SETTINGS, tenants=sorted(set(tenants)))
    return {row.tenant_id: row for row in rows}


async def put_settings(tx: Tx, row: Mapping[str, Any]) -> None:
    await _PUT_SETTINGS(tx, [row])


async def insert_runs(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Claim the next run of each subscription; the database refuses a number used already."""
    await _INSERT_RUNS(tx, rows)


async def insert_lines(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    await _INSERT_LINES(tx, rows)


async def insert_reservations(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Hold invoices for attempts; the database refuses a second one."""
    await _INSERT_RESERVATIONS(tx, rows)


async def close_reservations(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    await _CLOSE_RESERVATIONS(tx, rows)


async def close_invoices(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    await _CLOSE_INVOICES(tx, rows)


async def insert_receipts(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    await _INSERT_RECEIPTS(tx, rows)


async def insert_work_items(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    await _INSERT_WORK_ITEMS(tx, rows)


async def lock_work_items(tx: Tx, keys: Iterable[Key]) -> None:
    """Lock work items that are no account's, in ascending order."""
    await tx.rows(_LOCK_WORK_ITEMS, **split(keys))


async def open_work_items_of(
    tx: Tx, tenant_id: UUID, account_id: UUID, kind: str
) -> Sequence[Row[Any]]:
    """The open work items of a kind of one (locked) account."""
    return await tx.rows(_OPEN_WORK_ITEMS_OF, tenant=tenant_id, account=account_id, kind=kind)


async def lock_invoices(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """Lock invoices in ascending order (accounts and subscriptions are locked before)."""
    rows = await tx.rows(_LOCK_INVOICES, **split(keys))
    return {(row.tenant_id, row.id): row for row in rows}


async def invoices(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    rows = await tx.rows(_INVOICES, **split(keys))
    return {(row.tenant_id, row.id): row for row in rows}


async def subscriptions_of(tx: Tx, invoices: Iterable[Key]) -> dict[Key, list[UUID]]:
    """The subscriptions that each invoice bills."""
    found: dict[Key, list[UUID]] = {}
    for row in await tx.rows(_SUBSCRIPTIONS_OF, **split(invoices)):
        found.setdefault((row.tenant_id, row.invoice_id), []).append(row.subscription_id)
    return found


async def open_invoices_of(tx: Tx, subscriptions: Iterable[Key]) -> dict[Key, set[UUID]]:
    """The open invoices of each subscription."""
    found: dict[Key, set[UUID]] = {}
    for row in await tx.rows(_OPEN_OF_SUBSCRIPTIONS, **split(subscriptions)):
        found.setdefault((row.tenant_id, row.subscription_id), set()).add(row.id)
    return found


async def oldest_open(tx: Tx, account: Key, *, limit: int) -> list[UUID]:
    """The account's open invoices, the oldest first."""
    rows = await tx.rows(_OLDEST_OPEN, tenant=account[0], account=account[1], limit=limit)
    return [row.id for row in rows]


async def given_up(tx: Tx, subscription: Key, *, covering_at: datetime) -> bool:
    """Whether an invoice of a period that ends later than the moment was voided or written off."""
    rows = await tx.rows(
        _GIVEN_UP, tenant=subscription[0], subscription=subscription[1], covering_at=covering_at
    )
    return bool(rows)


async def reservations(tx: Tx, invoices: Iterable[Key]) -> dict[Key, list[Row[Any]]]:
    """All reservations of each invoice; the invoice's lock protects them."""
    found: dict[Key, list[Row[Any]]] = {}
    for row in await tx.rows(_RESERVATIONS, **split(invoices)):
        found.setdefault((row.tenant_id, row.invoice_id), []).append(row)
    return found


async def booked_attempts(tx: Tx, attempts: Iterable[Key]) -> set[Key]:
    """Which attempts' money is booked already."""
    rows = await tx.rows(_RECEIPTS, **split(attempts))
    return {(row.tenant_id, row.attempt_id) for row in rows}


async def transfers_of(
    tx: Tx, invoices: Iterable[Key], *, kinds: Sequence[str]
) -> dict[Key, list[Row[Any]]]:
    """The transfers of these kinds that speak of each invoice, in the order of their posting."""
    found: dict[Key, list[Row[Any]]] = {}
    for row in await tx.rows(_TRANSFERS_OF, **split(invoices), kinds=list(kinds)):
        found.setdefault((row.tenant_id, row.invoice_id), []).append(row)
    return found
