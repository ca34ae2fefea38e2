"""The trial balance: every ledger account's debits and credits, whose difference is zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from subledger.contracts.books import ClearingBalance
from subledger.core.ledger import provider_clearing
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.services.billing.store import books

_BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class LedgerSum:
    """Debits and credits of one ledger account (minor units). Customers' accounts of a kind are
    one account here."""

    account: str
    debit_minor: int
    credit_minor: int


@dataclass(frozen=True, slots=True)
class CurrencySums:
    """The accounts of one currency."""

    currency: str
    accounts: Sequence[LedgerSum]

    @property
    def debit_minor(self) -> int:
        return sum(each.debit_minor for each in self.accounts)

    @property
    def credit_minor(self) -> int:
        return sum(each.credit_minor for each in self.accounts)


async def clearing(tx: Tx, *, tenant_id: UUID, connection_id: UUID) -> list[ClearingBalance]:
    """What the connection's provider holds for us by the books, by currency; zeros are left out.

    Wants one snapshot, as ``trial_balance``.
    """
    rolled = await books.rolled_up(tx, tenant_id)
    tail_at = _BEGINNING if rolled is None else rolled.tail_at
    rows = await books.balances_of(
        tx,
        tenant_id,
        provider_clearing(ids.text("conn", connection_id)),
        tail_at=tail_at.astimezone(UTC),
    )
    return [ClearingBalance(row.currency, int(row.balance_minor)) for row in rows]


async def trial_balance(tx: Tx, *, tenant_id: UUID) -> list[CurrencySums]:
    """The sums of the days that are rolled up and of everything recorded since, by currency.

    Wants one snapshot (REPEATABLE READ), so that a day is not counted twice or left out.
    """
    rolled = await books.rolled_up(tx, tenant_id)
    tail_at = _BEGINNING if rolled is None else rolled.tail_at
    sums: dict[str, list[LedgerSum]] = {}
    for row in await books.trial_balance(tx, tenant_id, tail_at=tail_at.astimezone(UTC)):
        sums.setdefault(row.currency, []).append(
            LedgerSum(row.account, int(row.debit_minor), int(row.credit_minor))
        )
    return [CurrencySums(currency, accounts) for currency, accounts in sums.items()]
