"""Money that pays for nothing yet pays the customer's open invoices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.events import Event
from subledger.core import ledger as books
from subledger.core.reservations import Claim, is_held
from subledger.core.states import INVOICE, step
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import facts, ledger
from subledger.services.billing.store import invoices, refunds, subscriptions
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import resume, settled
from subledger.services.billing.usecases.settled import Settled

APPLIED: Final = "account_applied"
"""Kind of the posting: no receipt says it, unlike what off-line money pays of an invoice."""
MOST = 100
"""Invoices of one call; what is left over is applied by the next one."""


async def apply_unapplied(
    tx: Tx, memory: TermsMemory, *, tenant_id: UUID, customer_id: UUID, cause: UUID
) -> None:
    """Pay the customer's open invoices with the unapplied money, the oldest first, as far as it
    goes; the last one perhaps in part, and it stays open for the rest.

    An invoice that a payment holds is left to that payment. Nothing happens without money or
    without invoices. Raises not_found.
    """
    account = (tenant_id, customer_id)
    accounts = await subscriptions.lock_accounts(tx, [account])
    if account not in accounts:
        raise Problem("not_found", detail="There is no such customer.")
    currency = accounts[account].currency
    named = [(tenant_id, each) for each in await invoices.oldest_open(tx, account, limit=MOST)]
    subscribed = await invoices.subscriptions_of(tx, named)
    rows = {
        row.id: row
        for row in await subscriptions.lock_subscriptions(
            tx, {(tenant_id, each) for found in subscribed.values() for each in found}
        )
    }
    locked = await invoices.lock_invoices(tx, named)
    reserved = await invoices.reservations(tx, named)
    left = await refunds.unapplied(tx, account, currency)
    pays: dict[Key, int] = {}
    for key in named:
        claims = [Claim(each.attempt_id, each.state) for each in reserved.get(key, [])]
        if locked[key].currency != currency or is_held(claims):
            continue
        amount = min(left, locked[key].total_minor - locked[key].paid_minor)
        if amount > 0:
            pays[key] = amount
            left -= amount
    if pays:
        at = (await subscriptions.moments(tx, accounts, accounts))[account]
        billed = {key: [rows[each] for each in subscribed.get(key, [])] for key in pays}
        await _book(tx, locked, pays, at)
        await _follow(tx, memory, locked, pays, billed, at, cause)


async def _book(tx: Tx, locked: Mapping[Key, Row[Any]], pays: Mapping[Key, int], at: Any) -> None:
    await ledger.post(
        tx,
        [
            ledger.Posting(
                tenant_id=key[0],
                account_id=locked[key].account_id,
                invoice_id=key[1],
                kind=APPLIED,
                occurred_at=at,
                transfers=books.unapplied_applied(
                    customer=ids.text("cus", locked[key].account_id),
                    amount_minor=amount,
                    currency=locked[key].currency,
                ),
            )
            for key, amount in pays.items()
        ],
    )
    await invoices.close_invoices(tx, [_paid(locked[key], pays[key], at) for key in sorted(pays)])


def _paid(invoice: Row[Any], amount_minor: int, at: Any) -> dict[str, Any]:
    paid_minor = invoice.paid_minor + amount_minor
    whole = paid_minor == invoice.total_minor
    return {
        "tenant_id": invoice.tenant_id,
        "id": invoice.id,
        "status": step(INVOICE, invoice.status, "paid") if whole else invoice.status,
        "paid_minor": paid_minor,
        "closed_at": at if whole else None,
    }


async def _follow(
    tx: Tx,
    memory: TermsMemory,
    locked: Mapping[Key, Row[Any]],
    pays: Mapping[Key, int],
    billed: Mapping[Key, list[Row[Any]]],
    at: Any,
    cause: UUID,
) -> None:
    """What follows when invoices are paid; those paid in part are only told."""
    named = {(row.tenant_id, row.plan_version_id) for found in billed.values() for row in found}
    terms = await memory.load(tx, named)
    for key, amount in pays.items():
        open_minor = locked[key].total_minor - locked[key].paid_minor - amount
        if open_minor:
            data = facts.part_paid(
                locked[key],
                [row.id for row in billed[key]],
                amount_minor=amount,
                open_minor=open_minor,
                payment_id=None,
            )
            tx.emit([_part(locked[key], data, at, cause)])
            continue
        # One by one: an invoice that is paid changes the rows that the next one bills.
        rows = await subscriptions.lock_subscriptions(tx, [(key[0], e.id) for e in billed[key]])
        one = Settled(
            invoice=locked[key],
            subscriptions=rows,
            at=at,
            cause=cause,
            payment_id=None,
            changed={"paid_minor": locked[key].total_minor},
        )
        await settled.follow(tx, terms, [one])
        await resume.when_paid(tx, memory, rows, at, cause)


def _part(invoice: Row[Any], data: Mapping[str, Any], at: Any, cause: UUID) -> Event:
    return Event(
        type=events.INVOICE_PARTIALLY_PAID,
        tenant_id=invoice.tenant_id,
        subject=invoice.account_id,
        data=data,
        occurred_at=at,
        cause=cause,
    )
