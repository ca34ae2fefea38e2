"""Invoices that nobody will pay: voided or written off, and subscriptions that end with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.events import Event, Recorded
from subledger.core import ledger as books
from subledger.core.reservations import Claim, is_held
from subledger.core.states import INVOICE, step
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import facts, ledger, problems
from subledger.services.billing.store import credit_notes as credit_note_store
from subledger.services.billing.store import invoices, subscriptions
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import credit_notes, recognize, work_items
from subledger.services.billing.usecases.apply_unapplied import APPLIED
from subledger.services.billing.usecases.end import Ending, due_subscriptions, end

_APPLIED = frozenset({"applied", APPLIED})
_UNDONE = ["finalized", "credit_applied", *sorted(_APPLIED)]
"""What a void reverses: a part that was paid is the customer's unapplied money again."""
_EXPIRY_AGAIN = timedelta(hours=1)


async def void_open(
    tx: Tx,
    rows: Sequence[Row[Any]],
    *,
    at: Mapping[Key, datetime],
    cause: UUID | None,
    strict: bool,
) -> set[Key]:
    """Void the open invoices of subscriptions. Returns the subscriptions whose invoice is
    reserved and so stays; with ``strict`` raises invoice_reserved instead."""
    opened = await invoices.open_invoices_of(tx, ((row.tenant_id, row.id) for row in rows))
    keys = {(tenant, each) for (tenant, _), found in opened.items() for each in found}
    locked = await invoices.lock_invoices(tx, keys)
    held = {
        key
        for key, found in (await invoices.reservations(tx, keys)).items()
        if is_held(Claim(each.attempt_id, each.state) for each in found)
    }
    if held and strict:
        raise Problem(
            problems.INVOICE_RESERVED,
            detail="The first payment of the subscription is still under way.",
        )
    waiting = {
        (tenant, subscription)
        for (tenant, subscription), found in opened.items()
        if any((tenant, each) in held for each in found)
    }
    await void_invoices(
        tx, [row for key, row in locked.items() if key not in held], at=at, cause=cause
    )
    return waiting


async def void_invoices(
    tx: Tx, rows: Sequence[Row[Any]], *, at: Mapping[Key, datetime], cause: UUID | None
) -> None:
    """Void open, unreserved, locked invoices: the exact reversal of their finalization. Credit
    notes of them go first."""
    if any(row.noted_minor for row in rows):
        await credit_notes.void_standing(tx, rows, at=at, cause=cause)
        found = await invoices.lock_invoices(tx, ((row.tenant_id, row.id) for row in rows))
        rows = list(found.values())
    await close_unpaid(tx, rows, at=at, cause=cause, trigger="voided", type_=events.INVOICE_VOIDED)


async def close_unpaid(
    tx: Tx,
    rows: Sequence[Row[Any]],
    *,
    at: Mapping[Key, datetime],
    cause: UUID | None,
    trigger: str,
    type_: str,
) -> None:
    """Close open invoices that nobody will pay: ``voided`` (finalization reversed) or
    ``written_off`` (uncollectible, to bad debt); ARCHITECTURE 8."""
    status = {(row.tenant_id, row.id): step(INVOICE, row.status, trigger) for row in rows}
    keys = [(row.tenant_id, row.id) for row in rows]
    posted_for = await invoices.transfers_of(tx, keys, kinds=_UNDONE)
    subscribed = await invoices.subscriptions_of(tx, keys)
    released = await recognize.reverse(tx, rows, at=at) if trigger == "voided" else {}
    await invoices.close_invoices(
        tx,
        [
            {
                "tenant_id": row.tenant_id,
                "id": row.id,
                "status": status[row.tenant_id, row.id],
                "paid_minor": row.paid_minor,
                "closed_at": at[row.tenant_id, row.account_id],
            }
            for row in rows
        ],
    )
    await ledger.post(
        tx,
        [
            ledger.Posting(
                tenant_id=row.tenant_id,
                account_id=row.account_id,
                invoice_id=row.id,
                kind=trigger,
                occurred_at=at[row.tenant_id, row.account_id],
                transfers=_reversed(posted_for.get((row.tenant_id, row.id), []))
                + released.get((row.tenant_id, row.id), ())
                if trigger == "voided"
                else books.written_off(
                    customer=ids.text("cus", row.account_id),
                    amount_minor=row.total_minor - row.paid_minor,
                    currency=row.currency,
                ),
            )
            for row in rows
        ],
    )
    if trigger == "voided":
        await _tell_freed(tx, rows, posted_for, at=at, cause=cause)
    tx.emit(
        Event(
            type=type_,
            tenant_id=row.tenant_id,
            subject=row.account_id,
            data=facts.invoice(
                row,
                subscribed.get((row.tenant_id, row.id), []),
                status=status[row.tenant_id, row.id],
            ),
            occurred_at=at[row.tenant_id, row.account_id],
            cause=cause,
        )
        for row in rows
    )


async def _tell_freed(
    tx: Tx,
    rows: Sequence[Row[Any]],
    posted_for: Mapping[Key, Sequence[Row[Any]]],
    *,
    at: Mapping[Key, datetime],
    cause: UUID | None,
) -> None:
    """Money that had paid a part of a void invoice pays for nothing now: a person decides."""
    for row in rows:
        posted = posted_for.get((row.tenant_id, row.id), [])
        freed = sum(each.amount_minor for each in posted if each.kind in _APPLIED)
        if freed:
            await work_items.open_item(
                tx,
                tenant_id=row.tenant_id,
                account_id=row.account_id,
                kind="payment_unapplied",
                data={
                    "invoice_id": ids.text("inv", row.id),
                    "amount_minor": freed,
                    "currency": row.currency,
                },
                at=at[row.tenant_id, row.account_id],
                cause=cause,
            )


def _reversed(posted: Sequence[Row[Any]]) -> tuple[books.Transfer, ...]:
    return books.reversed_transfers(
        [
            books.Transfer(
                debit=each.debit_account,
                credit=each.credit_account,
                amount_minor=each.amount_minor,
                currency=each.currency,
            )
            for each in posted
        ]
    )


async def void_invoice(tx: Tx, *, tenant_id: UUID, invoice_id: UUID, cause: UUID | None) -> None:
    """Void one open invoice. Raises not_found, invoice_not_open, invoice_reserved,
    invoice_credited while credit notes of it stand or another invoice takes a part of it back
    (voiding goes backwards), and invoice_settles_cycle where it gives back what a cycle that ended
    was paid: nobody would give that back again."""
    found = (await invoices.invoices(tx, [(tenant_id, invoice_id)])).get((tenant_id, invoice_id))
    if found is None:
        raise Problem("not_found", detail="There is no such invoice.")
    accounts = await subscriptions.lock_accounts(tx, [(tenant_id, found.account_id)])
    row = (await invoices.lock_invoices(tx, [(tenant_id, invoice_id)]))[tenant_id, invoice_id]
    await check_voidable(tx, row)
    await _check_cycle(tx, row)
    at = await subscriptions.moments(tx, accounts, accounts)
    await void_invoices(tx, [row], at=at, cause=cause)


async def check_voidable(tx: Tx, row: Row[Any]) -> None:
    """Refuse to void a locked invoice. Raises as ``void_invoice``."""
    if row.status != "open":
        raise Problem(problems.INVOICE_NOT_OPEN, detail=f"The invoice is {row.status}.")
    reserved = await invoices.reservations(tx, [(row.tenant_id, row.id)])
    claims = (Claim(e.attempt_id, e.state) for found in reserved.values() for e in found)
    if is_held(claims):
        raise Problem(problems.INVOICE_RESERVED, detail="A payment of the invoice is under way.")
    if row.noted_minor:
        raise Problem(
            problems.INVOICE_CREDITED, detail=f"Credit notes gave {row.noted_minor} of it back."
        )
    charges = await credit_note_store.same_charges(tx, (row.tenant_id, row.id))
    if any(line.invoice_id != row.id and line.gross_minor < 0 for line in charges):
        raise Problem(
            problems.INVOICE_CREDITED, detail="A later invoice took a part of it back already."
        )


async def _check_cycle(tx: Tx, row: Row[Any]) -> None:
    """Raises invoice_settles_cycle."""
    key = (row.tenant_id, row.id)
    named = ((key[0], each) for each in (await invoices.subscriptions_of(tx, [key])).get(key, ()))
    began_at = {
        each.id: each.cycle_started_at for each in await subscriptions.subscriptions(tx, named)
    }
    if any(
        line.gross_minor < 0 and line.charged_from_at < began_at[line.subscription_id]
        for line in await credit_note_store.lines(tx, key)
    ):
        raise Problem(
            problems.INVOICE_SETTLES_CYCLE,
            detail="It gives back what was paid before the subscription's present cycle began.",
        )


async def expire_incomplete(tx: Tx, memory: TermsMemory, given: Sequence[Recorded]) -> None:
    """Subscriptions that were never paid end, their invoices are voided. While a payment is
    still under way the expiry is put off by an hour."""
    found, at = await due_subscriptions(tx, given)
    rows = [row for _, row in found if row.status == "incomplete"]
    waiting = await void_open(tx, rows, at=at, cause=None, strict=False)
    again = [
        (row, at[row.tenant_id, row.payer_id] + _EXPIRY_AGAIN)
        for row in rows
        if (row.tenant_id, row.id) in waiting
    ]
    await subscriptions.put_due(tx, subscriptions.EXPIRY, again)
    ending = [
        Ending(row, at[row.tenant_id, row.payer_id], "incomplete_expired", event.id)
        for event, row in found
        if row.status == "incomplete" and (row.tenant_id, row.id) not in waiting
    ]
    await end(tx, memory, ending)
