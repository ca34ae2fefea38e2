"""Off-line money that was none after all: a check that bounced, a transfer that was called back."""

from __future__ import annotations

from collections.abc import Sequence

from subledger.contracts.events import Recorded
from subledger.core import ledger as books
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.services.billing import ledger
from subledger.services.billing.store import reconciled, subscriptions
from subledger.services.billing.store import refunds as store
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import work_items


async def reverse(tx: Tx, memory: TermsMemory, given: Sequence[Recorded]) -> None:
    """Take receipts back, each once. Invoices that they paid stay paid: the customer owes the money
    as negative unapplied money, and a person is asked (``payment_reversed``)."""
    named = {(each.tenant_id, ids.parse("att", each.data["attempt_id"])): each for each in given}
    receipts = await store.receipts(tx, named)
    fresh = {key: row for key, row in receipts.items() if row.reversed_at is None}
    keys = {(row.tenant_id, row.account_id) for row in fresh.values()}
    accounts = await subscriptions.accounts(tx, keys)
    at = await subscriptions.moments(tx, accounts, accounts)
    await reconciled.reverse(
        tx,
        [
            {
                "tenant_id": key[0],
                "attempt_id": key[1],
                "reversed_at": at[row.tenant_id, row.account_id],
                # Its invoice stays paid: unapplied money owes it.
                "stays_applied": True,
            }
            for key, row in sorted(fresh.items())
        ],
    )
    for key, row in sorted(fresh.items()):
        event, moment = named[key], at[row.tenant_id, row.account_id]
        amount_minor = row.applied_minor + row.unapplied_minor
        posting = ledger.Posting(
            tenant_id=row.tenant_id,
            account_id=row.account_id,
            invoice_id=None,
            kind="payment_reversed",
            occurred_at=moment,
            transfers=books.receipt_reversed(
                customer=ids.text("cus", row.account_id),
                amount_minor=amount_minor,
                currency=row.currency,
            ),
        )
        await ledger.post(tx, [posting])
        await work_items.open_item(
            tx,
            tenant_id=row.tenant_id,
            account_id=row.account_id,
            kind="payment_reversed",
            data={
                "payment_id": event.data["payment_id"],
                "invoice_id": event.data["invoice_id"],
                "amount_minor": amount_minor,
                "currency": row.currency,
            },
            at=moment,
            cause=event.id,
        )
