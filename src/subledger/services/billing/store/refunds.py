"""Refunds as billing books them, and the receipts whose money they give back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.bulk import Insert, Update, by_keys, split
from subledger.platform.db import Tx, sql
from subledger.services.billing import tables
from subledger.services.billing.store.subscriptions import Key

_RECEIPTS = sql(
    "SELECT r.tenant_id, r.payment_id, r.attempt_id, r.account_id, r.invoice_id, r.applied_minor,"
    " r.unapplied_minor, r.currency, r.reversed_at"
    f" {by_keys('billing.receipts r', tenant_id='tenants', attempt_id='ids')}"
    " WHERE r.reversed_at IS NULL"
)
_REFUND = (
    "f.tenant_id, f.id, f.account_id, f.payment_id, f.attempt_id, f.connection_id, f.invoice_id,"
    " f.credit_note_id, f.destination, f.source, f.state, f.amount_minor, f.unapplied_minor,"
    " f.credit_minor, f.note_minor, f.currency"
)
_REFUNDS = sql(f"SELECT {_REFUND} {by_keys('billing.refunds f', tenant_id='tenants', id='ids')}")
_OF_ATTEMPTS = sql(
    f"SELECT {_REFUND} {by_keys('billing.refunds f', tenant_id='tenants', attempt_id='ids')}"
)
_UNAPPLIED = sql(
    "SELECT b.tenant_id, b.account_id, b.currency, -b.balance_minor AS unapplied_minor"
    f" {by_keys('billing.balances b', tenant_id='tenants', account_id='ids')}"
    " WHERE b.ledger = 'unapplied' AND b.balance_minor < 0"
)
_PAID_PERIODS = sql(
    "SELECT DISTINCT l.subscription_id"
    f" {by_keys('billing.invoice_lines l', tenant_id='tenants', invoice_id='ids')}"
    " JOIN billing.subscriptions s ON s.tenant_id = l.tenant_id AND s.id = l.subscription_id"
    " WHERE l.gross_minor > 0 AND l.service_start_at <= s.current_period_start_at"
    " AND l.service_end_at > s.current_period_start_at"
)
_POLICY = sql(
    "SELECT s.on_outside_refund FROM billing.refund_settings s WHERE s.tenant_id = :tenant"
)
_PUT_POLICY = Insert(
    tables.refund_settings,
    [column.name for column in tables.refund_settings.c],
    conflict="(tenant_id) DO UPDATE SET on_outside_refund = excluded.on_outside_refund,"
    " updated_at = excluded.updated_at",
)
_INSERT = Insert(tables.refunds, [column.name for column in tables.refunds.c])
_SET_STATES = Update(tables.refunds, keys=["tenant_id", "id"], sets=["state"])


async def receipts(tx: Tx, attempts: Iterable[Key]) -> dict[Key, Row[Any]]:
    """What is booked of the money of attempts, by attempt."""
    rows = await tx.rows(_RECEIPTS, **split(attempts))
    return {(row.tenant_id, row.attempt_id): row for row in rows}


async def refunds(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """Refunds that are booked. The account's lock protects them."""
    rows = await tx.rows(_REFUNDS, **split(keys))
    return {(row.tenant_id, row.id): row for row in rows}


async def refunds_of(tx: Tx, attempts: Iterable[Key]) -> dict[Key, list[Row[Any]]]:
    """All refunds of each attempt's money."""
    found: dict[Key, list[Row[Any]]] = {}
    for row in await tx.rows(_OF_ATTEMPTS, **split(attempts)):
        found.setdefault((row.tenant_id, row.attempt_id), []).append(row)
    return found


async def unapplied(tx: Tx, account: Key, currency: str) -> int:
    """The customer's money that pays for nothing (minor units, not negative)."""
    rows = await tx.rows(_UNAPPLIED, **split([account]))
    return sum(int(row.unapplied_minor) for row in rows if row.currency == currency)


async def insert(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Book refunds of locked accounts; the database refuses one twice."""
    await _INSERT(tx, rows)


async def set_states(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Refunds of locked accounts."""
    await _SET_STATES(tx, rows)


async def paid_periods(tx: Tx, invoice: Key) -> set[UUID]:
    """The subscriptions whose present period the invoice bills from its start."""
    return {row.subscription_id for row in await tx.rows(_PAID_PERIODS, **split([invoice]))}


async def policy(tx: Tx, tenant_id: UUID) -> str:
    """What a refund made at the provider does: ``keep`` unless the tenant said more."""
    rows = await tx.rows(_POLICY, tenant=tenant_id)
    return str(rows[0].on_outside_refund) if rows else "keep"


async def put_policy(tx: Tx, row: Mapping[str, Any]) -> None:
    await _PUT_POLICY(tx, [row])
