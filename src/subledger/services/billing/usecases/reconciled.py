"""What reconciliation does to the books: payouts, payments that never arrived, other amounts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from subledger.contracts.events import Recorded
from subledger.core import ledger as books
from subledger.core.states import INVOICE, RESERVATION, can, step
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.services.billing import ledger
from subledger.services.billing.store import invoices, reconciled, subscriptions
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import receipt_reversals, work_items

REOPENED = "invoice_reopened"
"""The kind of the work item that asks how a reopened invoice is to be paid."""


async def paid_out(tx: Tx, _: TermsMemory, given: Sequence[Recorded]) -> None:
    """Book payouts, their fees and their differences; each once."""
    for event in given:
        data = event.data
        fresh = await reconciled.insert_payout(
            tx,
            {
                "tenant_id": event.tenant_id,
                "id": ids.parse("po", data["payout_id"]),
                "connection_id": ids.parse("conn", data["connection_id"]),
                "amount_minor": data["amount_minor"],
                "fee_minor": data["fee_minor"],
                "difference_minor": data["difference_minor"],
                "currency": data["currency"],
                "booked_at": event.occurred_at,
            },
        )
        if not fresh:
            continue
        await ledger.post(
            tx,
            [
                ledger.Posting(
                    tenant_id=event.tenant_id,
                    account_id=None,
                    invoice_id=None,
                    kind="paid_out",
                    occurred_at=event.occurred_at,
                    transfers=books.paid_out(
                        connection=data["connection_id"],
                        amount_minor=data["amount_minor"],
                        fee_minor=data["fee_minor"],
                        difference_minor=data["difference_minor"],
                        currency=data["currency"],
                    ),
                )
            ],
        )


async def reversed_payments(tx: Tx, memory: TermsMemory, given: Sequence[Recorded]) -> None:
    """Take back payments that never arrived, off-line ones as ``receipt_reversals`` says. The
    invoice is open again and a person is asked how it is to be paid; one that a credit note has
    touched stays settled, and the customer's unapplied balance owes the money instead."""
    for event in given:
        if event.data["connection_id"] is None:
            await receipt_reversals.reverse(tx, memory, [event])
            continue
        attempt = (event.tenant_id, ids.parse("att", event.data["attempt_id"]))
        account, at = await _account(tx, event)
        receipt = await reconciled.lock_receipt(tx, attempt)
        if receipt is None:
            continue
        invoice = await _reopenable(tx, receipt)
        owed = receipt.applied_minor if invoice is not None else 0
        names = {
            "connection": event.data["connection_id"],
            "customer": event.data["customer_id"],
            "currency": receipt.currency,
        }
        rest = receipt.applied_minor + receipt.unapplied_minor - owed
        taken = (
            *books.reversed_transfers(books.paid(amount_minor=owed, **names)),
            *books.reversed_transfers(books.unapplied_receipt(amount_minor=rest, **names)),
        )
        await ledger.post(
            tx,
            [
                ledger.Posting(
                    tenant_id=event.tenant_id,
                    account_id=account[1],
                    invoice_id=receipt.invoice_id,
                    kind="payment_reversed",
                    occurred_at=at,
                    transfers=taken,
                )
            ],
        )
        if invoice is not None:
            await _reopen(tx, event, account, invoice, receipt, at)
        if invoice is not None or not receipt.applied_minor:
            await reconciled.reverse(
                tx,
                [
                    {
                        "tenant_id": attempt[0],
                        "attempt_id": attempt[1],
                        "reversed_at": at,
                        "stays_applied": False,
                    }
                ],
            )


async def _account(tx: Tx, event: Recorded) -> tuple[Key, datetime]:
    account = (event.tenant_id, ids.parse("cus", event.data["customer_id"]))
    accounts = await subscriptions.lock_accounts(tx, [account])
    return account, (await subscriptions.moments(tx, accounts, accounts))[account]


async def _reopenable(tx: Tx, receipt: Row[Any]) -> Row[Any] | None:
    """The invoice that the money settled, if it can be open again."""
    if receipt.invoice_id is None or not receipt.applied_minor:
        return None
    key = (receipt.tenant_id, receipt.invoice_id)
    invoice = (await invoices.lock_invoices(tx, [key])).get(key)
    if invoice is None or not can(INVOICE, invoice.status, "reversed") or invoice.noted_minor:
        return None
    return invoice


async def _reopen(
    tx: Tx,
    event: Recorded,
    account: Key,
    invoice: Row[Any],
    receipt: Row[Any],
    at: datetime,
) -> None:
    await invoices.close_invoices(
        tx,
        [
            {
                "tenant_id": invoice.tenant_id,
                "id": invoice.id,
                "status": step(INVOICE, invoice.status, "reversed"),
                "paid_minor": invoice.total_minor - receipt.applied_minor,
                "closed_at": None,
            }
        ],
    )
    key = (invoice.tenant_id, invoice.id)
    reservations = (await invoices.reservations(tx, [key])).get(key, [])
    await invoices.close_reservations(
        tx,
        [
            {
                "tenant_id": invoice.tenant_id,
                "invoice_id": invoice.id,
                "attempt_id": row.attempt_id,
                "state": step(RESERVATION, row.state, "reversed"),
                "closed_at": at,
            }
            for row in reservations
            if row.state == "consumed"
        ],
    )
    await work_items.open_item(
        tx,
        tenant_id=account[0],
        account_id=account[1],
        kind=REOPENED,
        data={
            "invoice_id": ids.text("inv", invoice.id),
            "payment_id": event.data["payment_id"],
            "amount_minor": receipt.applied_minor,
            "currency": receipt.currency,
        },
        at=at,
        cause=event.id,
    )


async def corrected(tx: Tx, _: TermsMemory, given: Sequence[Recorded]) -> None:
    """The provider took another amount than was booked: the difference is the customer's unapplied
    money, or is owed by it."""
    for event in given:
        data = event.data
        account, at = await _account(tx, event)
        attempt = (event.tenant_id, ids.parse("att", data["attempt_id"]))
        receipt = await reconciled.lock_receipt(tx, attempt)
        await ledger.post(
            tx,
            [
                ledger.Posting(
                    tenant_id=event.tenant_id,
                    account_id=account[1],
                    invoice_id=None if receipt is None else receipt.invoice_id,
                    kind="corrected",
                    occurred_at=at,
                    transfers=books.corrected(
                        connection=data["connection_id"],
                        customer=data["customer_id"],
                        amount_minor=data["amount_minor"],
                        currency=data["currency"],
                    ),
                )
            ],
        )
        if receipt is not None and data["amount_minor"] > 0:
            more = receipt.unapplied_minor + data["amount_minor"]
            key = {"tenant_id": attempt[0], "attempt_id": attempt[1]}
            await reconciled.receive_more(tx, [key | {"unapplied_minor": more}])
