"""What people look at: subscriptions, invoices with lines, work items."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.bulk import Update, by_keys, split
from subledger.platform.db import Tx, sql
from subledger.services.billing import tables
from subledger.services.billing.store.subscriptions import Key

FAR = (1 << 63) - 1
"""Beyond every number: where a list by number that shows the newest first begins."""

_WANTED = "unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[])) AS w(tenant_id, id)"

_SUBSCRIPTION = """
    s.tenant_id, s.id, s.payer_id, s.beneficiary_id, s.number, v.plan_id, s.plan_version_id,
    p.product_id, s.currency, s.quantity, s.status, s.timezone, s.started_at,
    s.current_period_start_at, s.current_period_end_at, s.cancel_at, s.ended_at, s.end_reason,
    s.collection, s.payment_method_id, s.parked_reason, s.proration,
    s.proration_rounds, s.stub_denominator, s.last_day_charged, s.created_at,
    s.billing_anchor::text AS billing_anchor, s.first_period, s.trial_end_at,
    s.trial_end_behavior, s.cancel_credit, s.cancel_reason, s.cancel_comment,
    u.state AS pause_state, u.credit AS pause_credit, u.from_at AS pause_from_at,
    u.resume_at AS pause_resume_at, c.billing_anchor::text AS change_billing_anchor,
    coalesce(r.invoice_id, (
        SELECT o.invoice_id FROM billing.billing_runs o WHERE o.tenant_id = s.tenant_id
          AND o.subscription_id = s.id AND o.invoice_id IS NOT NULL
        ORDER BY o.number DESC LIMIT 1)) AS latest_invoice_id, c.effective_at AS change_at,
    coalesce(c.plan_id, v.plan_id) AS change_plan_id,
    coalesce(c.quantity, s.quantity) AS change_quantity,
    ARRAY(SELECT a.discount_id FROM billing.subscription_discounts a
          WHERE a.tenant_id = s.tenant_id AND a.subscription_id = s.id AND a.until_at IS NULL
          ORDER BY a.n) AS discount_ids
"""
_OF_PLAN = """
    JOIN billing.plan_versions v ON v.tenant_id = s.tenant_id AND v.id = s.plan_version_id
    JOIN billing.plans p ON p.tenant_id = v.tenant_id AND p.id = v.plan_id
    LEFT JOIN billing.billing_runs r ON r.tenant_id = s.tenant_id AND r.subscription_id = s.id
        AND r.number = s.last_run_number
    LEFT JOIN billing.scheduled_changes c
      ON c.tenant_id = s.tenant_id AND c.subscription_id = s.id
    LEFT JOIN billing.pauses u
      ON u.tenant_id = s.tenant_id AND u.subscription_id = s.id AND u.state <> 'over'
"""
_SUBSCRIPTIONS = sql(
    f"SELECT {_SUBSCRIPTION} FROM {_WANTED} JOIN billing.subscriptions s USING (tenant_id, id)"
    f" {_OF_PLAN}"
)
_LAST_INVOICES = sql(
    "SELECT s.tenant_id, s.id, s.status, r.invoice_id"
    f" {by_keys('billing.subscriptions s', tenant_id='tenants', id='ids')}"
    " LEFT JOIN billing.billing_runs r ON r.tenant_id = s.tenant_id AND r.subscription_id = s.id"
    " AND r.number = s.last_run_number"
)
_LIST_SUBSCRIPTIONS = sql(
    f"SELECT {_SUBSCRIPTION} FROM billing.subscriptions s {_OF_PLAN}"
    " WHERE s.tenant_id = :tenant AND s.id < :before ORDER BY s.id DESC LIMIT :limit"
)
_SUBSCRIPTIONS_OF_STATUS = sql(
    f"SELECT {_SUBSCRIPTION} FROM billing.subscriptions s {_OF_PLAN}"
    " WHERE s.tenant_id = :tenant AND s.status = :status AND s.id < :before"
    " ORDER BY s.id DESC LIMIT :limit"
)
_SUBSCRIPTIONS_OF_PAYER = sql(
    f"SELECT {_SUBSCRIPTION} FROM billing.subscriptions s {_OF_PLAN}"
    " WHERE s.tenant_id = :tenant AND s.payer_id = :payer AND s.number < :before"
    " AND (CAST(:status AS text) IS NULL OR s.status = :status)"
    " ORDER BY s.number DESC LIMIT :limit"
)

_INVOICE = (
    "i.tenant_id, i.id, i.account_id, i.series, i.number, i.status, i.reason, i.currency,"
    " i.subtotal_minor, i.discount_minor, i.tax_minor, i.total_minor, i.credited_minor,"
    " i.tax_included_minor, i.credit_applied_minor, i.paid_minor, i.drafted_at, i.due_at,"
    " i.finalized_at, i.closed_at, i.close_reason, i.tax::text AS tax,"
    " i.noted_minor, i.offset_minor, i.replaces_invoice_id, i.replaced_by_invoice_id"
)
_INVOICES = sql(f"SELECT {_INVOICE} FROM billing.invoices i JOIN {_WANTED} USING (tenant_id, id)")
_LIST_INVOICES = sql(
    f"SELECT {_INVOICE} FROM billing.invoices i WHERE i.tenant_id = :tenant AND i.id < :before"
    " ORDER BY i.id DESC LIMIT :limit"
)
_PAID_INVOICES = sql(
    f"SELECT {_INVOICE} FROM billing.invoices i WHERE i.tenant_id = :tenant AND i.id < :before"
    " AND i.status = 'paid' ORDER BY i.id DESC LIMIT :limit"
)
# The index of invoices by status leaves out the paid ones, which are nearly all.
_UNPAID_INVOICES = sql(
    f"SELECT {_INVOICE} FROM billing.invoices i WHERE i.tenant_id = :tenant AND i.id < :before"
    " AND i.status = :status AND i.status <> 'paid' ORDER BY i.id DESC LIMIT :limit"
)
_INVOICES_OF_ACCOUNT = sql(
    f"SELECT {_INVOICE} FROM billing.invoices i"
    " WHERE i.tenant_id = :tenant AND i.account_id = :account AND i.id < :before"
    " AND (CAST(:status AS text) IS NULL OR i.status = :status)"
    " ORDER BY i.id DESC LIMIT :limit"
)
_INVOICES_OF_SUBSCRIPTION = sql(
    f"SELECT {_INVOICE}, r.number AS run_number FROM billing.billing_runs r"
    " JOIN billing.invoices i ON i.tenant_id = r.tenant_id AND i.id = r.invoice_id"
    " WHERE r.tenant_id = :tenant AND r.subscription_id = :subscription AND r.number < :before"
    " AND (CAST(:status AS text) IS NULL OR i.status = :status)"
    " AND (CAST(:account AS uuid) IS NULL OR i.account_id = :account)"
    " ORDER BY r.number DESC LIMIT :limit"
)
_LINES = sql(
    f"""
    SELECT l.tenant_id, l.invoice_id, l.n, l.kind, l.subscription_id, l.run_number, l.price_id,
           c.code AS price_code, p.name AS plan_name, l.service_start_at, l.service_end_at,
           l.quantity, l.gross_minor, l.discount_minor, l.net_minor, l.tax_minor,
           l.tax_included_minor, l.tax_rate, l.derivation::text AS derivation
    FROM {_WANTED}
    JOIN billing.invoice_lines l ON l.tenant_id = w.tenant_id AND l.invoice_id = w.id
    JOIN billing.prices c ON c.tenant_id = l.tenant_id AND c.id = l.price_id
    JOIN billing.plan_versions v ON v.tenant_id = c.tenant_id AND v.id = c.plan_version_id
    JOIN billing.plans p ON p.tenant_id = v.tenant_id AND p.id = v.plan_id
    ORDER BY l.tenant_id, l.invoice_id, l.n
    """
)
_PRICES = sql(
    f"""
    SELECT c.tenant_id, c.id, c.code, p.name AS plan_name FROM {_WANTED}
    JOIN billing.prices c USING (tenant_id, id)
    JOIN billing.plan_versions v ON v.tenant_id = c.tenant_id AND v.id = c.plan_version_id
    JOIN billing.plans p ON p.tenant_id = v.tenant_id AND p.id = v.plan_id
    """
)
_INPUTS = sql(
    "SELECT i.tenant_id, i.id, i.inputs::text AS inputs, i.content_hash FROM billing.invoices i"
    f" JOIN {_WANTED} USING (tenant_id, id)"
)
_CLOSE_REASONS = Update(tables.invoices, keys=["tenant_id", "id"], sets=["close_reason"])

_WORK_ITEM = (
    "k.tenant_id, k.id, k.kind, k.account_id, k.data::text AS data, k.opened_at, k.closed_at,"
    " k.closed_by, k.close_reason"
)
_WORK_ITEMS = sql(
    f"SELECT {_WORK_ITEM} FROM billing.work_items k JOIN {_WANTED} USING (tenant_id, id)"
)
_LIST_WORK_ITEMS = sql(
    f"SELECT {_WORK_ITEM} FROM billing.work_items k WHERE k.tenant_id = :tenant"
    " AND k.id < :before ORDER BY k.id DESC LIMIT :limit"
)
_OPEN_WORK_ITEMS = sql(
    f"SELECT {_WORK_ITEM} FROM billing.work_items k WHERE k.tenant_id = :tenant"
    " AND k.id < :before AND k.closed_at IS NULL ORDER BY k.id DESC LIMIT :limit"
)
_CLOSED_WORK_ITEMS = sql(
    f"SELECT {_WORK_ITEM} FROM billing.work_items k WHERE k.tenant_id = :tenant"
    " AND k.id < :before AND k.closed_at IS NOT NULL ORDER BY k.id DESC LIMIT :limit"
)
_CLOSE_WORK_ITEMS = Update(
    tables.work_items,
    keys=["tenant_id", "id"],
    sets=["closed_at", "closed_by", "close_reason"],
)


def _by_key(rows: Iterable[Row[Any]]) -> dict[Key, Row[Any]]:
    return {(row.tenant_id, row.id): row for row in rows}


# --- subscriptions ------------------------------------------------------------------------------


async def subscriptions(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """Subscriptions with plan, product, discounts and latest invoice."""
    return _by_key(await tx.rows(_SUBSCRIPTIONS, **split(keys)))


async def last_invoices(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """The status of subscriptions and the invoice of the last run of each, if it made one."""
    return _by_key(await tx.rows(_LAST_INVOICES, **split(keys)))


async def list_subscriptions(
    tx: Tx, tenant_id: UUID, *, status: str | None, before: UUID, limit: int
) -> list[Row[Any]]:
    """Subscriptions with an id below ``before``, newest first."""
    asked = {"tenant": tenant_id, "before": before, "limit": limit}
    if status is None:
        return list(await tx.rows(_LIST_SUBSCRIPTIONS, **asked))
    return list(await tx.rows(_SUBSCRIPTIONS_OF_STATUS, **asked, status=status))


async def list_subscriptions_of_payer(
    tx: Tx, tenant_id: UUID, payer_id: UUID, *, status: str | None, before: int, limit: int
) -> list[Row[Any]]:
    """A payer's subscriptions with a number below ``before``, newest first."""
    return list(
        await tx.rows(
            _SUBSCRIPTIONS_OF_PAYER,
            tenant=tenant_id,
            payer=payer_id,
            status=status,
            before=before,
            limit=limit,
        )
    )


# --- invoices -----------------------------------------------------------------------------------


async def invoices(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    return _by_key(await tx.rows(_INVOICES, **split(keys)))


async def list_invoices(
    tx: Tx,
    tenant_id: UUID,
    *,
    account_id: UUID | None,
    status: str | None,
    before: UUID,
    limit: int,
) -> list[Row[Any]]:
    """Invoices (of one account, in one status) with an id below ``before``, newest first."""
    asked = {"tenant": tenant_id, "before": before, "limit": limit}
    if account_id is not None:
        rows = await tx.rows(_INVOICES_OF_ACCOUNT, **asked, account=account_id, status=status)
    elif status is None:
        rows = await tx.rows(_LIST_INVOICES, **asked)
    elif status == "paid":
        rows = await tx.rows(_PAID_INVOICES, **asked)
    else:
        rows = await tx.rows(_UNPAID_INVOICES, **asked, status=status)
    return list(rows)


async def list_invoices_of_subscription(
    tx: Tx,
    tenant_id: UUID,
    subscription_id: UUID,
    *,
    account_id: UUID | None,
    status: str | None,
    before: int,
    limit: int,
) -> list[Row[Any]]:
    """Invoices of the runs of a subscription below number ``before``, newest first."""
    return list(
        await tx.rows(
            _INVOICES_OF_SUBSCRIPTION,
            tenant=tenant_id,
            subscription=subscription_id,
            account=account_id,
            status=status,
            before=before,
            limit=limit,
        )
    )


async def lines(tx: Tx, invoices: Iterable[Key]) -> dict[Key, list[Row[Any]]]:
    """The lines of each invoice, in order; ``derivation`` as JSON text."""
    found: dict[Key, list[Row[Any]]] = {}
    for row in await tx.rows(_LINES, **split(invoices)):
        found.setdefault((row.tenant_id, row.invoice_id), []).append(row)
    return found


async def prices(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """Prices with the name of their plan."""
    return _by_key(await tx.rows(_PRICES, **split(keys)))


async def inputs(tx: Tx, invoices: Iterable[Key]) -> dict[Key, Row[Any]]:
    """What each invoice was computed from (JSON text), and its hash."""
    return _by_key(await tx.rows(_INPUTS, **split(invoices)))


async def set_close_reasons(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Say why locked invoices were closed without being paid."""
    await _CLOSE_REASONS(tx, rows)


# --- work items ---------------------------------------------------------------------------------


async def work_items(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """``data`` as JSON text. The account's lock protects a work item."""
    return _by_key(await tx.rows(_WORK_ITEMS, **split(keys)))


async def list_work_items(
    tx: Tx, tenant_id: UUID, *, status: str | None, before: UUID, limit: int
) -> list[Row[Any]]:
    """Work items (``open``, ``closed`` or all) with an id below ``before``, newest first."""
    statement = {"open": _OPEN_WORK_ITEMS, "closed": _CLOSED_WORK_ITEMS}.get(
        status or "", _LIST_WORK_ITEMS
    )
    return list(await tx.rows(statement, tenant=tenant_id, before=before, limit=limit))


async def close_work_items(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Close work items whose accounts are locked."""
    await _CLOSE_WORK_ITEMS(tx, rows)
