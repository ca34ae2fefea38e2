"""Disputes: inserting, reading and saving them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.bulk import Insert, Update, by_keys
from subledger.platform.db import Tx, sql
from subledger.services.payments import tables
from subledger.services.payments.store.payments import Key, split

DUE = "dispute"
"""The due moment at which a provider is asked about an attempt's disputes; its id is the
attempt's, its number how often asking taught nothing."""

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
