"""The personal account: balances, and a statement of what moved between two moments.

Amounts are minor units. ``receivable`` is what the customer owes, ``credit`` and ``unapplied``
what we owe the customer; the balance is the first less the others, so above zero the customer
owes us.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.core import ledger
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import facts
from subledger.services.billing.store import accounts, books
from subledger.services.billing.store.books import EntryKey

_INSTANT = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a customer stands in one currency."""

    currency: str
    receivable_minor: int
    credit_minor: int
    unapplied_minor: int

    @property
    def balance_minor(self) -> int:
        return self.receivable_minor - self.credit_minor - self.unapplied_minor


@dataclass(frozen=True, slots=True)
class Entry:
    """One side of a transfer on the personal account, and the balance after it."""

    occurred_at: datetime
    kind: str
    ledger: str
    invoice_id: UUID | None
    invoice_number: str | None
    currency: str
    debit_minor: int
    credit_minor: int
    balance_minor: int
    key: EntryKey


@dataclass(frozen=True, slots=True)
class Statement:
    """Opening and closing by currency, and the entries after the page's beginning."""

    from_at: datetime
    to_at: datetime
    opening: Sequence[Standing]
    closing: Sequence[Standing]
    entries: Sequence[Entry]


async def balance(tx: Tx, *, tenant_id: UUID, customer_id: UUID) -> list[Standing]:
    """How the customer stands now, a line per currency (its own at least). Raises not_found."""
    row = await _customer(tx, tenant_id, customer_id)
    rows = await books.balances(tx, tenant_id, customer_id)
    sums = {(each.currency, each.ledger): int(each.balance_minor) for each in rows}
    return _standings(sums, row.currency)


async def statement(
    tx: Tx,
    *,
    tenant_id: UUID,
    customer_id: UUID,
    from_at: datetime | None,
    to_at: datetime | None,
    after: EntryKey | None,
    limit: int,
) -> Statement:
    """What moved from ``from_at`` (the account's beginning) until before ``to_at`` (now, included).

    Opening plus entries is closing. Wants one snapshot (REPEATABLE READ). Raises not_found, and
    invalid_request for a span that ends before it begins.
    """
    row = await _customer(tx, tenant_id, customer_id)
    start_at = row.created_at if from_at is None else from_at
    if to_at is None:
        to_at = max(await tx.now(tenant_id), row.last_occurred_at, start_at) + _INSTANT
    if to_at < start_at:
        raise Problem(
            "invalid_request",
            pointer="/query/to",
            detail="The statement ends before it begins.",
            fix="Give a `to` that is not before `from`.",
        )
    customer = ids.text("cus", customer_id)
    ledgers = [ledger.receivable(customer), ledger.credit(customer), ledger.unapplied(customer)]
    sums = await books.sums(
        tx, tenant_id, customer_id, ledgers=ledgers, from_at=start_at, to_at=to_at
    )
    opening = _standings(
        {(each.currency, each.ledger): int(each.opening_minor) for each in sums}, row.currency
    )
    closing = _standings(
        {(each.currency, each.ledger): int(each.closing_minor) for each in sums}, row.currency
    )
    rows = await books.entries(
        tx,
        tenant_id,
        customer_id,
        ledgers=ledgers,
        from_at=start_at,
        to_at=to_at,
        after=after or EntryKey(start_at - _INSTANT, _EPOCH, UUID(int=0), 0, ""),
        limit=limit,
    )
    began = {each.currency: each.balance_minor for each in opening}
    return Statement(start_at, to_at, opening, closing, _entries(rows, began))


async def _customer(tx: Tx, tenant_id: UUID, customer_id: UUID) -> Row[Any]:
    key = (tenant_id, customer_id)
    found = await accounts.customers(tx, [key])
    if key not in found:
        raise Problem("not_found", detail="There is no such customer.")
    return found[key]


def _standings(sums: dict[tuple[str, str], int], own: str) -> list[Standing]:
    """Sums are debits less credits, so what we owe is below zero in them."""
    return [
        Standing(
            currency=currency,
            receivable_minor=sums.get((currency, "receivable"), 0),
            credit_minor=-sums.get((currency, "credit"), 0),
            unapplied_minor=-sums.get((currency, "unapplied"), 0),
        )
        for currency in sorted({own, *(currency for currency, _ in sums)})
    ]


def _entries(rows: Iterable[Row[Any]], began: dict[str, int]) -> list[Entry]:
    return [
        Entry(
            occurred_at=row.occurred_at,
            kind=row.kind,
            ledger=row.ledger_account.partition(":")[0],
            invoice_id=row.invoice_id,
            invoice_number=None
            if row.number is None
            else facts.number_text(row.series, row.number),
            currency=row.currency,
            debit_minor=row.debit_minor,
            credit_minor=row.credit_minor,
            balance_minor=began[row.currency] + int(row.running_minor),
            key=EntryKey(
                row.occurred_at, row.recorded_at, row.ledger_tx, row.n, row.ledger_account
            ),
        )
        for row in rows
    ]
