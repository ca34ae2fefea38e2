"""Subscriptions end: at once, at the end of the period, when never paid, or when dunning ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import msgspec
from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.events import Event, Recorded
from subledger.core import ledger as books
from subledger.core.states import INVOICE, SUBSCRIPTION, step
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import facts, ledger, problems
from subledger.services.billing.store import invoices, phases, subscriptions
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.terms import PlanTerms, TermsMemory
from subledger.services.billing.usecases import credit_notes, recognize, redeem
from subledger.services.billing.usecases.anchors import NOT_BEGUN
from subledger.services.billing.usecases.close import bill_the_rest

LIVE = frozenset({"pending", "trialing", "incomplete", "active", "past_due"})
_EXPIRY_AGAIN = timedelta(hours=1)


async def lock_one(tx: Tx, tenant_id: UUID, subscription_id: UUID) -> tuple[Row[Any], datetime]:
    """Lock a subscription behind its payer's account. Raises not_found and subscription_ended."""
    found = await subscriptions.subscriptions(tx, [(tenant_id, subscription_id)])
    if not found:
        raise Problem("not_found", detail="There is no such subscription.")
    accounts = await subscriptions.lock_accounts(tx, [(tenant_id, found[0].payer_id)])
    row = (await subscriptions.lock_subscriptions(tx, [(tenant_id, subscription_id)]))[0]
    if row.status not in LIVE:
        raise Problem(
            problems.SUBSCRIPTION_ENDED, detail=f"The subscription ended: it is {row.status}."
        )
    at = await subscriptions.moments(tx, accounts, accounts)
    return row, at[tenant_id, row.payer_id]


async def cancel(
    tx: Tx,
    memory: TermsMemory,
    *,
    tenant_id: UUID,
    subscription_id: UUID,
    when: Literal["now", "period_end"],
    credit_unused: bool,
    cause: UUID | None,
) -> None:
    """Cancel a subscription now, or let it end with its current period.

    A subscription that was never paid ends at once either way, and its invoice is voided; so does
    one whose start day has not come. A trial's period ends with the trial: nothing is billed.
    Changes that waited for the next invoice are billed by a last one, which with ``credit_unused``
    gives the rest of the period back as credit. Raises not_found, subscription_ended,
    invoice_reserved while its first payment is open, and invoice_still_open for credit of what was
    not paid.
    """
    row, at = await lock_one(tx, tenant_id, subscription_id)
    terms = await memory.load(tx, [(tenant_id, row.plan_version_id)])
    if row.status == "incomplete":
        await _void_open(tx, [row], at={(tenant_id, row.payer_id): at}, cause=cause, strict=True)
    elif when == "period_end" and row.status != "pending":
        end_at = row.current_period_end_at
        await subscriptions.set_cancel_moments(
            tx, [{"tenant_id": tenant_id, "id": row.id, "cancel_at": end_at}]
        )
        await subscriptions.put_due(tx, subscriptions.CANCELLATION, [(row, end_at)])
        await _changed(tx, row, terms[tenant_id, row.plan_version_id], at, end_at, cause)
        return
    elif row.status not in NOT_BEGUN:
        await bill_the_rest(
            tx,
            memory,
            row,
            terms[tenant_id, row.plan_version_id],
            at=at,
            credit_unused=credit_unused,
            cause=cause,
        )
    tx.emit(await _end(tx, [(row, at, "requested", cause)], terms))


async def undo_cancel(
    tx: Tx, memory: TermsMemory, *, tenant_id: UUID, subscription_id: UUID, cause: UUID | None
) -> None:
    """Keep a subscription that was to end with its period. Raises cancellation_not_scheduled."""
    row, at = await lock_one(tx, tenant_id, subscription_id)
    if row.cancel_at is None:
        raise Problem(problems.NOT_SCHEDULED, detail="The subscription is not to be canceled.")
    terms = await memory.load(tx, [(tenant_id, row.plan_version_id)])
    await subscriptions.set_cancel_moments(
        tx, [{"tenant_id": tenant_id, "id": row.id, "cancel_at": None}]
    )
    await subscriptions.due.drop(tx, [(tenant_id, subscriptions.CANCELLATION, row.id)])
    await _changed(tx, row, terms[tenant_id, row.plan_version_id], at, None, cause)


async def _changed(
    tx: Tx,
    row: Row[Any],
    terms: PlanTerms,
    at: datetime,
    cancel_at: datetime | None,
    cause: UUID | None,
) -> None:
    await subscriptions.append_changes(
        tx,
        [
            {
                "tenant_id": row.tenant_id,
                "subscription_id": row.id,
                "kind": "cancel_scheduled" if cancel_at else "cancel_undone",
                "effective_at": cancel_at or at,
                "data": "{}",
                "recorded_at": at,
            }
        ],
    )
    data = facts.subscription(row, terms, cancel_at=cancel_at) | {"changed": ["cancel_at"]}
    tx.emit(
        [
            Event(
                type=events.SUBSCRIPTION_CHANGED,
                tenant_id=row.tenant_id,
                subject=row.payer_id,
                data=data,
                occurred_at=at,
                cause=cause,
            )
        ]
    )


async def _end(
    tx: Tx,
    ended: Sequence[tuple[Row[Any], datetime, str, UUID | None]],
    terms: Mapping[Key, PlanTerms],
) -> list[Event]:
    """End subscriptions (locked) and drop everything that was due for them."""
    await redeem.release(tx, [(row, at, cause) for row, at, _, cause in ended])
    await subscriptions.end_subscriptions(
        tx,
        [
            {
                "tenant_id": row.tenant_id,
                "id": row.id,
                "status": _final_status(row, reason),
                "ended_at": at,
                "end_reason": reason,
                "cancel_at": row.cancel_at,
            }
            for row, at, reason, _ in ended
        ],
    )
    await subscriptions.append_changes(
        tx,
        [
            {
                "tenant_id": row.tenant_id,
                "subscription_id": row.id,
                "kind": "canceled",
                "effective_at": at,
                "data": msgspec.json.encode({"reason": reason}).decode(),
                "recorded_at": at,
            }
            for row, at, reason, _ in ended
        ],
    )
    kinds = (
        *(subscriptions.RENEWAL, subscriptions.CANCELLATION),
        *(subscriptions.EXPIRY, subscriptions.CHANGE, subscriptions.REMINDER),
    )
    await subscriptions.due.drop(
        tx, ((row.tenant_id, kind, row.id) for row, _, _, _ in ended for kind in kinds)
    )
    await phases.unschedule(tx, ((row.tenant_id, row.id) for row, _, _, _ in ended))
    return [
        Event(
            type=events.SUBSCRIPTION_CANCELED,
            tenant_id=row.tenant_id,
            subject=row.payer_id,
            data=facts.subscription(
                row, terms[row.tenant_id, row.plan_version_id], status=_final_status(row, reason)
            )
            | {"reason": reason, "ended_at": facts.moment(at)},
            occurred_at=at,
            cause=cause,
        )
        for row, at, reason, cause in ended
    ]


async def lapse(
    tx: Tx,
    given: Sequence[tuple[Row[Any], datetime, UUID]],
    terms: Mapping[Key, PlanTerms],
) -> None:
    """Trials (locked) that end without a payment method: the subscription ends, nothing is
    billed."""
    ended = [(row, at, "trial_lapsed", cause) for row, at, cause in given]
    tx.emit(await _end(tx, ended, terms))


def _final_status(row: Row[Any], reason: str) -> str:
    trigger = "expired" if reason == "incomplete_expired" else "canceled"
    return step(SUBSCRIPTION, row.status, trigger)


async def _void_open(
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
        if any(each.state == "held" for each in found)
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
    posted_for = await invoices.transfers_of(tx, keys, kinds=["finalized", "credit_applied"])
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
    postings = []
    for row in rows:
        posted = [
            books.Transfer(
                debit=each.debit_account,
                credit=each.credit_account,
                amount_minor=each.amount_minor,
                currency=each.currency,
            )
            for each in posted_for.get((row.tenant_id, row.id), [])
        ]
        transfers = (
            books.reversed_transfers(posted) + released.get((row.tenant_id, row.id), ())
            if trigger == "voided"
            else books.written_off(
                customer=ids.text("cus", row.account_id),
                amount_minor=row.total_minor - row.paid_minor,
                currency=row.currency,
            )
        )
        postings.append(
            ledger.Posting(
                tenant_id=row.tenant_id,
                account_id=row.account_id,
                invoice_id=row.id,
                kind=trigger,
                occurred_at=at[row.tenant_id, row.account_id],
                transfers=transfers,
            )
        )
    await ledger.post(tx, postings)
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


async def void_invoice(tx: Tx, *, tenant_id: UUID, invoice_id: UUID, cause: UUID | None) -> None:
    """Void one open invoice. Raises not_found, invoice_not_open, invoice_reserved, and
    invoice_credited while credit notes of it stand: voiding goes backwards."""
    found = (await invoices.invoices(tx, [(tenant_id, invoice_id)])).get((tenant_id, invoice_id))
    if found is None:
        raise Problem("not_found", detail="There is no such invoice.")
    accounts = await subscriptions.lock_accounts(tx, [(tenant_id, found.account_id)])
    row = (await invoices.lock_invoices(tx, [(tenant_id, invoice_id)]))[tenant_id, invoice_id]
    await check_voidable(tx, row)
    at = await subscriptions.moments(tx, accounts, accounts)
    await void_invoices(tx, [row], at=at, cause=cause)


async def check_voidable(tx: Tx, row: Row[Any]) -> None:
    """Refuse to void a locked invoice. Raises as ``void_invoice``."""
    if row.status != "open":
        raise Problem(problems.INVOICE_NOT_OPEN, detail=f"The invoice is {row.status}.")
    reserved = await invoices.reservations(tx, [(row.tenant_id, row.id)])
    if any(each.state == "held" for found in reserved.values() for each in found):
        raise Problem(problems.INVOICE_RESERVED, detail="A payment of the invoice is under way.")
    if row.noted_minor:
        raise Problem(
            problems.INVOICE_CREDITED, detail=f"Credit notes gave {row.noted_minor} of it back."
        )


async def _due_subscriptions(
    tx: Tx, given: Sequence[Recorded]
) -> tuple[list[tuple[Recorded, Row[Any]]], dict[Key, datetime]]:
    """The live subscriptions that commands speak of, locked, with their accounts' moments."""
    by_id = {
        (event.tenant_id, ids.parse("sub", event.data["subscription_id"])): event for event in given
    }
    accounts = await subscriptions.accounts(tx, {(e.tenant_id, e.subject) for e in given})
    rows = await subscriptions.lock_subscriptions(tx, by_id)
    at = await subscriptions.moments(tx, accounts, accounts)
    return [(by_id[r.tenant_id, r.id], r) for r in rows if r.status in LIVE], at


async def reach_cancellation(tx: Tx, memory: TermsMemory, given: Sequence[Recorded]) -> None:
    """The end of the period has come for subscriptions that were to be canceled then."""
    found, at = await _due_subscriptions(tx, given)
    ending = [
        (row, at[row.tenant_id, row.payer_id], "requested", event.id)
        for event, row in found
        if row.cancel_at is not None and row.cancel_at <= at[row.tenant_id, row.payer_id]
    ]
    terms = await memory.load(tx, {(r.tenant_id, r.plan_version_id) for r, _, _, _ in ending})
    for row, moment, _, cause in ending:
        await bill_the_rest(
            tx,
            memory,
            row,
            terms[row.tenant_id, row.plan_version_id],
            at=moment,
            credit_unused=False,
            cause=cause,
        )
    tx.emit(await _end(tx, ending, terms))


async def expire_incomplete(tx: Tx, memory: TermsMemory, given: Sequence[Recorded]) -> None:
    """Subscriptions that were never paid end, their invoices are voided. While a payment is
    still under way the expiry is put off by an hour."""
    found, at = await _due_subscriptions(tx, given)
    rows = [row for _, row in found if row.status == "incomplete"]
    waiting = await _void_open(tx, rows, at=at, cause=None, strict=False)
    again = [
        (row, at[row.tenant_id, row.payer_id] + _EXPIRY_AGAIN)
        for row in rows
        if (row.tenant_id, row.id) in waiting
    ]
    await subscriptions.put_due(tx, subscriptions.EXPIRY, again)
    ending = [
        (row, at[row.tenant_id, row.payer_id], "incomplete_expired", event.id)
        for event, row in found
        if row.status == "incomplete" and (row.tenant_id, row.id) not in waiting
    ]
    terms = await memory.load(tx, {(r.tenant_id, r.plan_version_id) for r, _, _, _ in ending})
    tx.emit(await _end(tx, ending, terms))


async def finish_dunning(tx: Tx, memory: TermsMemory, given: Sequence[Recorded]) -> None:
    """The policy's last step: the invoice is written off, and with ``cancel`` its subscriptions
    end. An invoice that is being collected at this moment is left to that payment's outcome."""
    actions = {
        (event.tenant_id, ids.parse("inv", event.data["invoice_id"])): event for event in given
    }
    accounts = await subscriptions.accounts(tx, {(e.tenant_id, e.subject) for e in given})
    subscribed = await invoices.subscriptions_of(tx, actions)
    rows = {
        (row.tenant_id, row.id): row
        for row in await subscriptions.lock_subscriptions(
            tx, ((tenant, each) for (tenant, _), found in subscribed.items() for each in found)
        )
    }
    locked = await invoices.lock_invoices(tx, actions)
    reserved = await invoices.reservations(tx, actions)
    at = await subscriptions.moments(tx, accounts, accounts)
    closing = [
        row
        for key, row in locked.items()
        if row.status == "open" and all(each.state != "held" for each in reserved.get(key, []))
    ]
    terms = await memory.load(tx, {(r.tenant_id, r.plan_version_id) for r in rows.values()})
    ending, kept = [], []
    for invoice in closing:
        key = (invoice.tenant_id, invoice.id)
        event = actions[key]
        await close_unpaid(
            tx,
            [invoice],
            at=at,
            cause=event.id,
            trigger="written_off",
            type_=events.INVOICE_UNCOLLECTIBLE,
        )
        for each in subscribed.get(key, []):
            row = rows[invoice.tenant_id, each]
            if row.status not in LIVE:
                continue
            if event.data["action"] == "cancel":
                moment = at[row.tenant_id, row.payer_id]
                ending.append((row, moment, "dunning", event.id))
            elif row.status == "past_due":
                status = step(SUBSCRIPTION, row.status, "written_off")
                kept.append({"tenant_id": row.tenant_id, "id": row.id, "status": status})
    await subscriptions.set_statuses(tx, kept)
    tx.emit(await _end(tx, ending, terms))
