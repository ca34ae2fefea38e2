"""Credit notes and adjustments: what lines have left, saving, voiding, looking."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.bulk import Insert, Update, by_keys, split
from subledger.platform.db import Tx, sql
from subledger.services.billing import tables
from subledger.services.billing.store.subscriptions import Key

_LINES = sql(
    """
    SELECT l.n, l.kind, l.subscription_id, l.price_id, l.charged_from_at, l.service_start_at,
           l.service_end_at, l.gross_minor, l.discount_minor, l.net_minor, l.tax_minor,
           l.noted_gross_minor, l.noted_discount_minor, l.noted_net_minor, l.noted_tax_minor
    FROM billing.invoice_lines l
    WHERE l.tenant_id = :tenant AND l.invoice_id = :invoice ORDER BY l.n
    """
)
# Whatever was billed for the same charge lies between its beginning and the end of a period that
# its run covered, so that the index of a subscription's lines by service moment finds it.
_SAME_CHARGES = sql(
    """
    SELECT l.subscription_id, l.price_id, l.charged_from_at, l.invoice_id, l.n, l.gross_minor,
           l.discount_minor, l.net_minor, l.tax_minor, l.noted_gross_minor,
           l.noted_discount_minor, l.noted_net_minor, l.noted_tax_minor
    FROM (
        SELECT c.tenant_id, c.subscription_id, c.price_id, c.charged_from_at,
               max(greatest(c.service_end_at, r.period_end_at)) AS end_at
        FROM billing.invoice_lines c
        JOIN billing.billing_runs r ON r.tenant_id = c.tenant_id
         AND r.subscription_id = c.subscription_id AND r.number = c.run_number
        WHERE c.tenant_id = :tenant AND c.invoice_id = :invoice AND c.gross_minor > 0
        GROUP BY c.tenant_id, c.subscription_id, c.price_id, c.charged_from_at
    ) AS k
    CROSS JOIN LATERAL (
        SELECT * FROM billing.invoice_lines o
        WHERE o.tenant_id = k.tenant_id AND o.subscription_id = k.subscription_id
          AND o.service_start_at BETWEEN k.charged_from_at AND k.end_at
          AND o.price_id = k.price_id AND o.charged_from_at = k.charged_from_at OFFSET 0
    ) AS l
    JOIN billing.invoices i ON i.tenant_id = l.tenant_id AND i.id = l.invoice_id
    WHERE i.status <> 'void'
    ORDER BY l.run_number, l.invoice_id, l.n
    """
)
_USED_SINCE = sql(
    """
    SELECT coalesce(sum(t.amount_minor), 0)::bigint AS used_minor FROM billing.transfers t
    WHERE t.tenant_id = :tenant AND t.account_id = :account AND t.occurred_at >= :from_at
      AND t.recorded_at > :recorded_at AND t.debit_account = :ledger AND t.currency = :currency
      AND t.kind NOT IN ('credit_note_voided', 'refunded')
    """
)
_NEW = {"recorded_at", "voided_at", "void_reason"}
_INSERT = Insert(tables.credit_notes, [c.name for c in tables.credit_notes.c if c.name not in _NEW])
_INSERT_LINES = Insert(tables.credit_note_lines, [c.name for c in tables.credit_note_lines.c])
_COUNT = Update(
    tables.invoice_lines,
    keys=["tenant_id", "invoice_id", "n"],
    sets=["noted_gross_minor", "noted_discount_minor", "noted_net_minor", "noted_tax_minor"],
)
_SETTLE = Update(
    tables.invoices,
    keys=["tenant_id", "id"],
    sets=["status", "paid_minor", "noted_minor", "offset_minor", "closed_at"],
)
_VOID = Update(
    tables.credit_notes, keys=["tenant_id", "id"], sets=["status", "voided_at", "void_reason"]
)
_LINK = Update(
    tables.invoices,
    keys=["tenant_id", "id"],
    sets=["replaces_invoice_id", "replaced_by_invoice_id"],
)

_NOTE = (
    "c.tenant_id, c.id, c.account_id, c.invoice_id, c.series, c.number, c.status, c.reason,"
    " c.memo, c.currency, c.gross_minor, c.discount_minor, c.net_minor, c.tax_minor,"
    " c.total_minor, c.offset_minor, c.credit_minor, c.refund_minor, c.credit_before_minor,"
    " c.issued_at, c.recorded_at, c.voided_at, c.void_reason, c.derivation::text AS derivation,"
    " i.series AS invoice_series, i.number AS invoice_number"
)
_OF_INVOICE = "JOIN billing.invoices i ON i.tenant_id = c.tenant_id AND i.id = c.invoice_id"
_NOTES = sql(
    f"SELECT {_NOTE} {by_keys('billing.credit_notes c', tenant_id='tenants', id='ids')}"
    f" {_OF_INVOICE}"
)
_STANDING = sql(
    f"SELECT {_NOTE}"
    f" {by_keys('billing.credit_notes c', tenant_id='tenants', invoice_id='ids')}"
    f" {_OF_INVOICE} WHERE c.status = 'issued' ORDER BY c.tenant_id, c.invoice_id, c.number"
)
_NOTE_LINES = sql(
    f"""
    SELECT c.tenant_id, c.credit_note_id, c.n, c.invoice_id, c.gross_minor, c.discount_minor,
           c.net_minor, c.tax_minor, c.deferred_minor, c.revenue_minor,
           c.derivation::text AS derivation, l.service_start_at, l.service_end_at,
           l.noted_gross_minor, l.noted_discount_minor, l.noted_net_minor, l.noted_tax_minor,
           r.code AS price_code, p.name AS plan_name
    {by_keys("billing.credit_note_lines c", tenant_id="tenants", credit_note_id="ids")}
    JOIN billing.invoice_lines l
      ON l.tenant_id = c.tenant_id AND l.invoice_id = c.invoice_id AND l.n = c.n
    JOIN billing.prices r ON r.tenant_id = l.tenant_id AND r.id = l.price_id
    JOIN billing.plan_versions v ON v.tenant_id = r.tenant_id AND v.id = r.plan_version_id
    JOIN billing.plans p ON p.tenant_id = v.tenant_id AND p.id = v.plan_id
    ORDER BY c.tenant_id, c.credit_note_id, c.n
    """
)
_LIST = sql(
    f"SELECT {_NOTE} FROM billing.credit_notes c {_OF_INVOICE}"
    " WHERE c.tenant_id = :tenant AND c.id < :before ORDER BY c.id DESC LIMIT :limit"
)
_OF_ACCOUNT = sql(
    f"SELECT {_NOTE} FROM billing.credit_notes c {_OF_INVOICE}"
    " WHERE c.tenant_id = :tenant AND c.account_id = :account AND c.id < :before"
    " ORDER BY c.id DESC LIMIT :limit"
)
_OF_ONE_INVOICE = sql(
    f"SELECT {_NOTE} FROM billing.credit_notes c {_OF_INVOICE}"
    " WHERE c.tenant_id = :tenant AND c.invoice_id = :invoice AND c.id < :before"
    " AND (CAST(:account AS uuid) IS NULL OR c.account_id = :account)"
    " ORDER BY c.id DESC LIMIT :limit"
)

_INSERT_ADJUSTMENTS = Insert(tables.adjustments, [c.name for c in tables.adjustments.c])
_ADJUSTMENT = (
    "a.tenant_id, a.id, a.account_id, a.direction, a.amount_minor, a.currency, a.reason,"
    " a.made_by, a.made_at"
)
_ADJUSTMENTS = sql(
    f"SELECT {_ADJUSTMENT} {by_keys('billing.adjustments a', tenant_id='tenants', id='ids')}"
)
_LIST_ADJUSTMENTS = sql(
    f"SELECT {_ADJUSTMENT} FROM billing.adjustments a"
    " WHERE a.tenant_id = :tenant AND a.id < :before ORDER BY a.id DESC LIMIT :limit"
)
_ADJUSTMENTS_OF_ACCOUNT = sql(
    f"SELECT {_ADJUSTMENT} FROM billing.adjustments a WHERE a.tenant_id = :tenant"
    " AND a.account_id = :account AND a.id < :before ORDER BY a.id DESC LIMIT :limit"
)


# --- what is left -------------------------------------------------------------------------------


async def lines(tx: Tx, invoice: Key) -> list[Row[Any]]:
    """An invoice's lines in order, and what standing notes gave back of each."""
    return list(await tx.rows(_LINES, tenant=invoice[0], invoice=invoice[1]))


async def same_charges(tx: Tx, invoice: Key) -> list[Row[Any]]:
    """All lines that bill or take back a charge of this invoice, void invoices left out, the
    oldest first."""
    return list(await tx.rows(_SAME_CHARGES, tenant=invoice[0], invoice=invoice[1]))


async def used_since(tx: Tx, note: Row[Any], *, ledger: str) -> int:
    """How much of the customer's credit (``ledger``, minor units) was used after the note."""
    rows = await tx.rows(
        _USED_SINCE,
        tenant=note.tenant_id,
        account=note.account_id,
        from_at=note.issued_at,
        recorded_at=note.recorded_at,
        ledger=ledger,
        currency=note.currency,
    )
    return int(rows[0].used_minor)


# --- saving -------------------------------------------------------------------------------------


async def insert_notes(
    tx: Tx, notes: Sequence[Mapping[str, Any]], lines: Sequence[Mapping[str, Any]]
) -> None:
    await _INSERT(tx, notes)
    await _INSERT_LINES(tx, lines)


async def count_lines(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """What standing notes give back of lines whose invoices are locked; the database refuses more
    than a line is."""
    await _COUNT(tx, rows)


async def settle_invoices(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """What standing notes gave back of locked invoices, and what is open of them."""
    await _SETTLE(tx, rows)


async def void_notes(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Notes of locked accounts."""
    await _VOID(tx, rows)


async def link_invoices(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Which invoice replaces which (locked, or new)."""
    await _LINK(tx, rows)


async def insert_adjustments(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    await _INSERT_ADJUSTMENTS(tx, rows)


# --- looking ------------------------------------------------------------------------------------


async def notes(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """Notes with their invoices' numbers; ``derivation`` as JSON text. The account's lock protects
    a note."""
    rows = await tx.rows(_NOTES, **split(keys))
    return {(row.tenant_id, row.id): row for row in rows}


async def standing_notes(tx: Tx, invoices: Iterable[Key]) -> dict[Key, list[Row[Any]]]:
    """The notes of each invoice that are not void."""
    found: dict[Key, list[Row[Any]]] = {}
    for row in await tx.rows(_STANDING, **split(invoices)):
        found.setdefault((row.tenant_id, row.invoice_id), []).append(row)
    return found


async def note_lines(tx: Tx, notes: Iterable[Key]) -> dict[Key, list[Row[Any]]]:
    """The lines of each note, in order; ``noted_*`` is what all standing notes gave back of the
    invoice's line."""
    found: dict[Key, list[Row[Any]]] = {}
    for row in await tx.rows(_NOTE_LINES, **split(notes)):
        found.setdefault((row.tenant_id, row.credit_note_id), []).append(row)
    return found


async def list_notes(
    tx: Tx,
    tenant_id: UUID,
    *,
    account_id: UUID | None,
    invoice_id: UUID | None,
    before: UUID,
    limit: int,
) -> list[Row[Any]]:
    """Notes (of one account, of one invoice) with an id below ``before``, newest first."""
    asked = {"tenant": tenant_id, "before": before, "limit": limit}
    if invoice_id is not None:
        rows = await tx.rows(_OF_ONE_INVOICE, **asked, invoice=invoice_id, account=account_id)
    elif account_id is not None:
        rows = await tx.rows(_OF_ACCOUNT, **asked, account=account_id)
    else:
        rows = await tx.rows(_LIST, **asked)
    return list(rows)


async def adjustments(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    rows = await tx.rows(_ADJUSTMENTS, **split(keys))
    return {(row.tenant_id, row.id): row for row in rows}


async def list_adjustments(
    tx: Tx, tenant_id: UUID, *, account_id: UUID | None, before: UUID, limit: int
) -> list[Row[Any]]:
    """Adjustments (of one account) with an id below ``before``, newest first."""
    asked = {"tenant": tenant_id, "before": before, "limit": limit}
    if account_id is None:
        return list(await tx.rows(_LIST_ADJUSTMENTS, **asked))
    return list(await tx.rows(_ADJUSTMENTS_OF_ACCOUNT, **asked, account=account_id))
