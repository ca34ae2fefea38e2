"""Reading the ledger: balances, a customer's entries, the trial balance."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.db import Tx, sql

_BALANCES = sql(
    "SELECT currency, ledger, balance_minor FROM billing.balances"
    " WHERE tenant_id = :tenant AND account_id = :account ORDER BY currency, ledger"
)
_SUMS = sql(
    """
    SELECT currency, split_part(ledger_account, ':', 1) AS ledger,
           coalesce(sum(debit_minor - credit_minor) FILTER (WHERE occurred_at < :from_at), 0)
               AS opening_minor,
           sum(debit_minor - credit_minor) AS closing_minor
    FROM billing.entries
    WHERE tenant_id = :tenant AND account_id = :account AND occurred_at < :to_at
      AND ledger_account = ANY (CAST(:ledgers AS text[]))
    GROUP BY currency, split_part(ledger_account, ':', 1)
    ORDER BY currency, ledger
    """
)
_ENTRIES = sql(
    """
    WITH personal AS (
        SELECT e.*, sum(e.debit_minor - e.credit_minor) OVER (
                   PARTITION BY e.currency
                   ORDER BY e.occurred_at, e.recorded_at, e.ledger_tx, e.n, e.ledger_account
               ) AS running_minor
        FROM billing.entries e
        WHERE e.tenant_id = :tenant AND e.account_id = :account
          AND e.occurred_at >= :from_at AND e.occurred_at < :to_at
          AND e.ledger_account = ANY (CAST(:ledgers AS text[]))
    )
    SELECT p.ledger_tx, p.n, p.kind, p.ledger_account, p.invoice_id, i.series, i.number,
           p.debit_minor, p.credit_minor, p.currency, p.occurred_at, p.recorded_at, p.running_minor
    FROM personal p
    LEFT JOIN billing.invoices i ON i.tenant_id = p.tenant_id AND i.id = p.invoice_id
    WHERE (p.occurred_at, p.recorded_at, p.ledger_tx, p.n, p.ledger_account)
        > (:after_at, :after_recorded_at, :after_tx, :after_n, :after_ledger)
    ORDER BY p.occurred_at, p.recorded_at, p.ledger_tx, p.n, p.ledger_account
    LIMIT :limit
    """
)
_ROLLED_UP = sql(
    "SELECT through_day, (through_day + 1)::timestamp AT TIME ZONE 'UTC' AS tail_at"
    " FROM billing.rolled_up WHERE tenant_id = :tenant"
)
# Customers' accounts are shown as one account each of receivables, credits and unapplied money.
_SHOWN = (
    "CASE WHEN split_part(ledger_account, ':', 1) IN ('receivable', 'credit', 'unapplied')"
    " THEN split_part(ledger_account, ':', 1) ELSE ledger_account END"
)
_TRIAL_BALANCE = sql(
    f"""
    SELECT currency, account, sum(debit_minor) AS debit_minor, sum(credit_minor) AS credit_minor
    FROM (
        SELECT currency, {_SHOWN} AS account, debit_minor, credit_minor
        FROM billing.ledger_days WHERE tenant_id = :tenant AND day < :tail_day
        UNION ALL
        SELECT currency, {_SHOWN}, debit_minor, credit_minor
        FROM billing.entries WHERE tenant_id = :tenant AND recorded_at >= :tail_at
    ) AS moved
    GROUP BY currency, account ORDER BY currency, account
    """
)
_BALANCES_OF = sql(
    """
    SELECT currency, sum(debit_minor) - sum(credit_minor) AS balance_minor FROM (
        SELECT currency, debit_minor, credit_minor FROM billing.ledger_days
        WHERE tenant_id = :tenant AND ledger_account = :account AND day < :tail_day
        UNION ALL
        SELECT currency, debit_minor, credit_minor FROM billing.entries
        WHERE tenant_id = :tenant AND ledger_account = :account AND recorded_at >= :tail_at
    ) AS moved
    GROUP BY currency HAVING sum(debit_minor) <> sum(credit_minor) ORDER BY currency
    """
)


class EntryKey(NamedTuple):
    """Where an entry stands in its account: moment, wall clock, transaction, row, ledger."""

    occurred_at: datetime
    recorded_at: datetime
    ledger_tx: UUID
    n: int
    ledger_account: str


async def balances(tx: Tx, tenant_id: UUID, account_id: UUID) -> Sequence[Row[Any]]:
    """Balances (debits less credits, minor units) by currency and ledger."""
    return await tx.rows(_BALANCES, tenant=tenant_id, account=account_id)


async def sums(
    tx: Tx,
    tenant_id: UUID,
    account_id: UUID,
    *,
    ledgers: Sequence[str],
    from_at: datetime,
    to_at: datetime,
) -> Sequence[Row[Any]]:
    """Debits less credits before ``from_at`` and before ``to_at``, by currency and ledger."""
    return await tx.rows(
        _SUMS,
        tenant=tenant_id,
        account=account_id,
        ledgers=list(ledgers),
        from_at=from_at,
        to_at=to_at,
    )


async def entries(
    tx: Tx,
    tenant_id: UUID,
    account_id: UUID,
    *,
    ledgers: Sequence[str],
    from_at: datetime,
    to_at: datetime,
    after: EntryKey,
    limit: int,
) -> Sequence[Row[Any]]:
    """Entries of the span after ``after``, in their order; ``running_minor`` sums the currency's
    entries from ``from_at`` on."""
    return await tx.rows(
        _ENTRIES,
        tenant=tenant_id,
        account=account_id,
        ledgers=list(ledgers),
        from_at=from_at,
        to_at=to_at,
        after_at=after.occurred_at,
        after_recorded_at=after.recorded_at,
        after_tx=after.ledger_tx,
        after_n=after.n,
        after_ledger=after.ledger_account,
        limit=limit,
    )


async def rolled_up(tx: Tx, tenant_id: UUID) -> Row[Any] | None:
    """Through which day (UTC) the ledger is summed, and where the tail begins; None if nothing
    is."""
    rows = await tx.rows(_ROLLED_UP, tenant=tenant_id)
    return rows[0] if rows else None


async def trial_balance(tx: Tx, tenant_id: UUID, *, tail_at: datetime) -> Sequence[Row[Any]]:
    """Debits and credits by currency and account: summed days before ``tail_at`` and the
    transfers recorded since."""
    return await tx.rows(_TRIAL_BALANCE, tenant=tenant_id, tail_at=tail_at, tail_day=tail_at.date())


async def balances_of(
    tx: Tx, tenant_id: UUID, account: str, *, tail_at: datetime
) -> Sequence[Row[Any]]:
    """The balance of one ledger account by currency, where it is not zero: the days rolled up
    before ``tail_at`` and what was recorded since."""
    return await tx.rows(
        _BALANCES_OF, tenant=tenant_id, account=account, tail_at=tail_at, tail_day=tail_at.date()
    )
