"""Postings as sets of transfers: each row balances by itself (ARCHITECTURE 8).

A transfer moves a positive amount of one currency from one ledger account's credit to another's
debit. A zero amount makes no transfer. ``customer`` and ``connection`` are opaque texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

DEFERRED_REVENUE = "deferred_revenue"
REVENUE = "revenue"
TAX_PAYABLE = "tax_payable"
BAD_DEBT = "bad_debt"
ADJUSTMENT_EXPENSE = "adjustment_expense"
ROUNDING = "rounding"
DISPUTED = "disputed"
CHARGEBACK_LOSS = "chargeback_loss"
BANK = "bank"
FEES = "fees"
FX_DIFFERENCE = "fx_difference"


@dataclass(frozen=True, slots=True)
class Transfer:
    """Debit one account, credit another, by a positive amount of one currency."""

    debit: str
    credit: str
    amount_minor: int
    currency: str

    def __post_init__(self) -> None:
        assert self.amount_minor > 0, "a transfer moves a positive amount"
        assert self.debit != self.credit, "a transfer has two sides"


def receivable(customer: str) -> str:
    """What the customer owes."""
    return f"receivable:{customer}"


def credit(customer: str) -> str:
    """What we owe the customer for credits."""
    return f"credit:{customer}"


def unapplied(customer: str) -> str:
    """The customer's money that pays for nothing yet."""
    return f"unapplied:{customer}"


def provider_clearing(connection: str) -> str:
    """What the payment provider holds for us."""
    return f"provider_clearing:{connection}"


def money(connection: str | None) -> str:
    """Where money arrives: with the provider, or (None) at our own bank, in cash or by check."""
    return BANK if connection is None else provider_clearing(connection)


def _transfers(currency: str, *moves: tuple[str, str, int]) -> tuple[Transfer, ...]:
    return tuple(
        Transfer(debit=debit, credit=credited, amount_minor=amount, currency=currency)
        for debit, credited, amount in moves
        if amount
    )


def finalized(
    *, customer: str, net_minor: int, tax_minor: int, currency: str
) -> tuple[Transfer, ...]:
    """An invoice is finalized: receivable → deferred revenue, tax payable (the other way round
    where it gives more back than it bills); a negative total becomes credit: receivable → credit.
    """
    owed = receivable(customer)
    moves = [
        (owed, account, amount) if amount > 0 else (account, owed, -amount)
        for account, amount in ((DEFERRED_REVENUE, net_minor), (TAX_PAYABLE, tax_minor))
    ]
    given_back = max(-(net_minor + tax_minor), 0)
    return _transfers(currency, *moves, (owed, credit(customer), given_back))


def credit_applied(*, customer: str, amount_minor: int, currency: str) -> tuple[Transfer, ...]:
    """The customer's credit pays an invoice: credit → receivable."""
    return _transfers(currency, (credit(customer), receivable(customer), amount_minor))


def paid(
    *, connection: str | None, customer: str, amount_minor: int, currency: str
) -> tuple[Transfer, ...]:
    """A payment settles an invoice: provider clearing (off-line: bank) → receivable."""
    return _transfers(currency, (money(connection), receivable(customer), amount_minor))


def unapplied_receipt(
    *, connection: str | None, customer: str, amount_minor: int, currency: str
) -> tuple[Transfer, ...]:
    """Money that finds no open invoice: provider clearing (off-line: bank) → unapplied."""
    return _transfers(currency, (money(connection), unapplied(customer), amount_minor))


def receipt_reversed(*, customer: str, amount_minor: int, currency: str) -> tuple[Transfer, ...]:
    """Off-line money that was none after all: unapplied → bank; below zero the customer owes it."""
    return _transfers(currency, (unapplied(customer), BANK, amount_minor))


def unapplied_applied(*, customer: str, amount_minor: int, currency: str) -> tuple[Transfer, ...]:
    """Unapplied money pays an invoice: unapplied → receivable."""
    return _transfers(currency, (unapplied(customer), receivable(customer), amount_minor))


def written_off(*, customer: str, amount_minor: int, currency: str) -> tuple[Transfer, ...]:
    """An invoice is given up: bad debt → receivable."""
    return _transfers(currency, (BAD_DEBT, receivable(customer), amount_minor))


def recovered(
    *, connection: str | None, customer: str, amount_minor: int, currency: str
) -> tuple[Transfer, ...]:
    """What was given up is paid after all: the writing off reversed, then paid."""
    owed = written_off(customer=customer, amount_minor=amount_minor, currency=currency)
    return reversed_transfers(owed) + paid(
        connection=connection, customer=customer, amount_minor=amount_minor, currency=currency
    )


def refunded(
    *, connection: str, source: str, amount_minor: int, currency: str
) -> tuple[Transfer, ...]:
    """Money goes back: ``source`` (``credit(customer)`` or ``unapplied(customer)``) → clearing."""
    return _transfers(currency, (source, provider_clearing(connection), amount_minor))


def disputed(*, connection: str, amount_minor: int, currency: str) -> tuple[Transfer, ...]:
    """The payer's bank takes money back until it decides: disputed → clearing; reversed if won."""
    return _transfers(currency, (DISPUTED, provider_clearing(connection), amount_minor))


def dispute_lost(*, amount_minor: int, currency: str) -> tuple[Transfer, ...]:
    """The bank keeps what was disputed: chargeback loss → disputed."""
    return _transfers(currency, (CHARGEBACK_LOSS, DISPUTED, amount_minor))


def provider_fee(*, connection: str, amount_minor: int, currency: str) -> tuple[Transfer, ...]:
    """The provider keeps a fee: fees → clearing; below zero it gives one back."""
    clearing = provider_clearing(connection)
    if amount_minor < 0:
        return _transfers(currency, (clearing, FEES, -amount_minor))
    return _transfers(currency, (FEES, clearing, amount_minor))


def paid_out(
    *, connection: str, amount_minor: int, fee_minor: int, difference_minor: int, currency: str
) -> tuple[Transfer, ...]:
    """The provider pays out: bank, fees, and what rounding or exchange took → clearing; what they
    gave (below zero) the other way round."""
    held = provider_clearing(connection)
    moves = [
        (account, held, amount) if amount > 0 else (held, account, -amount)
        for account, amount in (
            (BANK, amount_minor),
            (FEES, fee_minor),
            (FX_DIFFERENCE, difference_minor),
        )
    ]
    return _transfers(currency, *moves)


def corrected(
    *, connection: str, customer: str, amount_minor: int, currency: str
) -> tuple[Transfer, ...]:
    """The provider took more than was booked: clearing → unapplied; less (below zero): the customer
    owes it, unapplied → clearing."""
    held, owed = provider_clearing(connection), unapplied(customer)
    if amount_minor < 0:
        return _transfers(currency, (owed, held, -amount_minor))
    return _transfers(currency, (held, owed, amount_minor))


def unapplied_credited(*, customer: str, amount_minor: int, currency: str) -> tuple[Transfer, ...]:
    """Unapplied money becomes the customer's credit: unapplied → credit."""
    return _transfers(currency, (unapplied(customer), credit(customer), amount_minor))


def reversed_transfers(transfers: Iterable[Transfer]) -> tuple[Transfer, ...]:
    """The exact reversal, in the same order."""
    return tuple(
        Transfer(
            debit=each.credit,
            credit=each.debit,
            amount_minor=each.amount_minor,
            currency=each.currency,
        )
        for each in transfers
    )


def balances(transfers: Iterable[Transfer]) -> dict[tuple[str, str], int]:
    """Debits less credits by ``(ledger account, currency)``. They sum to zero per currency."""
    sums: dict[tuple[str, str], int] = {}
    for each in transfers:
        debit, credited = (each.debit, each.currency), (each.credit, each.currency)
        sums[debit] = sums.get(debit, 0) + each.amount_minor
        sums[credited] = sums.get(credited, 0) - each.amount_minor
    return sums


def trial_balance(transfers: Sequence[Transfer]) -> dict[str, int]:
    """The sum of all balances by currency: zero, by construction."""
    sums: dict[str, int] = {}
    for (_, currency), amount in balances(transfers).items():
        sums[currency] = sums.get(currency, 0) + amount
    return sums


def credit_note(
    *,
    customer: str,
    deferred_minor: int,
    revenue_minor: int,
    tax_minor: int,
    offset_minor: int,
    currency: str,
) -> tuple[Transfer, ...]:
    """A credit note: deferred revenue (undelivered), revenue (delivered), tax payable →
    receivable up to ``offset_minor`` (what was open), the rest → credit. Money that goes back
    follows as ``refunded`` from ``credit(customer)``. An invoice of negative total is posted so
    too, with nothing open."""
    total = deferred_minor + revenue_minor + tax_minor
    assert 0 <= offset_minor <= total, "a note takes off what is open at most its total"
    moves = []
    open_left = offset_minor
    for debit, amount in (
        (DEFERRED_REVENUE, deferred_minor),
        (REVENUE, revenue_minor),
        (TAX_PAYABLE, tax_minor),
    ):
        offset = min(amount, open_left)
        open_left -= offset
        moves += [
            (debit, receivable(customer), offset),
            (debit, credit(customer), amount - offset),
        ]
    return _transfers(currency, *moves)


def recognized(*, amount_minor: int, currency: str) -> tuple[Transfer, ...]:
    """Service delivered over time: deferred revenue → revenue; of a credit line (a negative
    amount) the other way."""
    if amount_minor < 0:
        return _transfers(currency, (REVENUE, DEFERRED_REVENUE, -amount_minor))
    return _transfers(currency, (DEFERRED_REVENUE, REVENUE, amount_minor))


def adjusted(*, customer: str, amount_minor: int, currency: str) -> tuple[Transfer, ...]:
    """A person gives the customer credit: adjustment expense → credit; below zero it is taken
    back, the other way round."""
    expense, owed = ADJUSTMENT_EXPENSE, credit(customer)
    if amount_minor < 0:
        return _transfers(currency, (owed, expense, -amount_minor))
    return _transfers(currency, (expense, owed, amount_minor))
