"""Credit notes: see before, issue, void.

A note is a numbered document of its own; the invoice stays as it was written. What is open of the
invoice is taken off it, and one with nothing left to pay is paid, with all that follows from it;
what was paid becomes the customer's credit (Stripe and Lago do both; ARCHITECTURE 8). A note is
voided only while nothing has come of it: its invoice still open, its credit unused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.events import Event
from subledger.core import ledger as books
from subledger.core.amounts import Amounts
from subledger.core.recognition import CreditSplit
from subledger.core.states import INVOICE, step
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import facts, ledger, problems
from subledger.services.billing.store import credit_notes as store
from subledger.services.billing.store import invoices, postings, subscriptions
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import note_draft, recognize, resume, settled
from subledger.services.billing.usecases.note_draft import Draft, NoteRequest
from subledger.services.billing.usecases.recognize import Credit
from subledger.services.billing.usecases.settled import Settled

SERIES = "CN"
_json = msgspec.json.Encoder().encode


async def preview(tx: Tx, request: NoteRequest) -> Draft:
    """The note that ``issue`` would make now. Raises as it does."""
    invoice = await _invoice(tx, request)
    found = await note_draft.draft(tx, request, invoice)
    await _check_reserved(tx, found)
    return found


async def issue(tx: Tx, memory: TermsMemory, request: NoteRequest, *, credit_note_id: UUID) -> None:
    """Issue a note: lines, counters, postings, the invoice, ``credit_note.issued``.

    Raises Problem: unknown_reference, invoice_not_creditable, nothing_to_credit,
    credit_exceeds_line, refund_unavailable, and invoice_reserved if less would be open than a
    payment under way is for.
    """
    tenant = request.tenant_id
    seen = await _invoice(tx, request)
    account, key = (tenant, seen.account_id), (tenant, seen.id)
    accounts = await subscriptions.lock_accounts(tx, [account])
    subscribed = (await invoices.subscriptions_of(tx, [key])).get(key, [])
    rows = await subscriptions.lock_subscriptions(tx, ((tenant, each) for each in subscribed))
    invoice = (await invoices.lock_invoices(tx, [key]))[key]
    at = (await subscriptions.moments(tx, accounts, accounts))[account]
    draft = await note_draft.draft(tx, request, invoice)
    await _check_reserved(tx, draft)
    owed = await postings.credits(tx, [account])
    splits = await recognize.split_credits(
        tx, _recognized(account, invoice.id, draft), at={account: at}
    )
    note = _row(request, draft, credit_note_id, owed.get((*account, invoice.currency), 0), at)
    numbers = await invoices.take_numbers(tx, {(tenant, SERIES): 1})
    note["number"] = numbers[tenant, SERIES]
    lines = _lines(draft, splits, note)
    await store.insert_notes(tx, [note], lines)
    await store.count_lines(tx, [_counted(note, each.stored.n, each.noted) for each in draft.lines])
    changed = _credited(draft, at)
    await store.settle_invoices(tx, [{"tenant_id": tenant, "id": invoice.id, **changed}])
    await ledger.post(tx, [_posting(note, lines, "credit_note", at)])
    tx.emit([_event(events.CREDIT_NOTE_ISSUED, note, at, request.cause)])
    if changed["status"] != invoice.status:
        terms = await memory.load(tx, {(tenant, row.plan_version_id) for row in rows})
        closed = Settled(
            invoice=invoice,
            subscriptions=rows,
            at=at,
            cause=request.cause,
            payment_id=None,
            changed=changed,
        )
        await settled.follow(tx, terms, [closed])
        await resume.when_paid(tx, memory, rows, at, request.cause)


async def _invoice(tx: Tx, request: NoteRequest) -> Row[Any]:
    key = (request.tenant_id, request.invoice_id)
    found = (await invoices.invoices(tx, [key])).get(key)
    if found is None:
        raise Problem(
            problems.UNKNOWN_REFERENCE, pointer="/invoice_id", detail="There is no such invoice."
        )
    return found


async def _check_reserved(tx: Tx, draft: Draft) -> None:
    """A payment under way is for an amount that must stay open until its outcome is known."""
    invoice = draft.invoice
    left = invoice.total_minor - invoice.paid_minor - draft.note.settlement.offset_minor
    held = await _held_minor(tx, (invoice.tenant_id, invoice.id))
    if draft.note.settlement.offset_minor and left < held:
        raise Problem(
            problems.INVOICE_RESERVED,
            detail=f"A payment of {held} is under way, and {left} would be left to pay.",
        )


async def _held_minor(tx: Tx, key: Key) -> int:
    reserved = await invoices.reservations(tx, [key])
    return sum(each.amount_minor for each in reserved.get(key, ()) if each.state == "held")


def _recognized(account: Key, invoice_id: UUID, draft: Draft) -> list[Credit]:
    """What is not recognized any more, line by line. The service goes on: a note ends nothing."""
    return [
        Credit(
            tenant_id=account[0],
            account_id=account[1],
            invoice_id=invoice_id,
            n=each.stored.n,
            credited_minor=each.note.net_minor,
        )
        for each in draft.lines
    ]


def _row(
    request: NoteRequest,
    draft: Draft,
    credit_note_id: UUID,
    credit_before_minor: int,
    at: datetime,
) -> dict[str, Any]:
    note, to = draft.note, draft.note.settlement
    return {
        "tenant_id": request.tenant_id,
        "id": credit_note_id,
        "account_id": draft.invoice.account_id,
        "invoice_id": draft.invoice.id,
        "series": SERIES,
        "number": 0,
        "status": "issued",
        "reason": note.reason.value,
        "memo": request.memo,
        "currency": note.currency,
        "gross_minor": note.gross_minor,
        "discount_minor": note.discount_minor,
        "net_minor": note.net_minor,
        "tax_minor": note.tax_minor,
        "total_minor": note.total_minor,
        "offset_minor": to.offset_minor,
        "credit_minor": to.credit_minor,
        "refund_minor": to.refund_minor,
        "credit_before_minor": credit_before_minor,
        "derivation": _json(to.step).decode(),
        "issued_at": at,
    }


def _lines(
    draft: Draft, splits: Sequence[CreditSplit], note: Mapping[str, Any]
) -> list[dict[str, Any]]:
    return [
        {
            "tenant_id": note["tenant_id"],
            "credit_note_id": note["id"],
            "n": each.stored.n,
            "invoice_id": note["invoice_id"],
            "gross_minor": each.note.gross_minor,
            "discount_minor": each.note.discount_minor,
            "net_minor": each.note.net_minor,
            "tax_minor": each.note.tax_minor,
            "deferred_minor": split.deferred_minor,
            "revenue_minor": split.revenue_minor,
            "derivation": _json([each.note.step, split.step]).decode(),
        }
        for each, split in zip(draft.lines, splits, strict=True)
    ]


def _counted(note: Mapping[str, Any], n: int, noted: Amounts) -> dict[str, Any]:
    return {
        "tenant_id": note["tenant_id"],
        "invoice_id": note["invoice_id"],
        "n": n,
        "noted_gross_minor": noted.gross_minor,
        "noted_discount_minor": noted.discount_minor,
        "noted_net_minor": noted.net_minor,
        "noted_tax_minor": noted.tax_minor,
    }


def _credited(draft: Draft, at: datetime) -> dict[str, Any]:
    """The invoice's columns after the note: with nothing left to pay it is paid."""
    invoice, to = draft.invoice, draft.note.settlement
    paid = invoice.paid_minor + to.offset_minor
    closes = invoice.status == "open" and paid == invoice.total_minor
    return {
        "status": step(INVOICE, invoice.status, "paid") if closes else invoice.status,
        "closed_at": at if closes else invoice.closed_at,
        "paid_minor": paid,
        "noted_minor": invoice.noted_minor + draft.note.total_minor,
        "offset_minor": invoice.offset_minor + to.offset_minor,
    }


def _posting(
    note: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], kind: str, at: datetime
) -> ledger.Posting:
    """The note's postings, or their exact reversal."""
    transfers = books.credit_note(
        customer=ids.text("cus", note["account_id"]),
        deferred_minor=sum(each["deferred_minor"] for each in lines),
        revenue_minor=sum(each["revenue_minor"] for each in lines),
        tax_minor=note["tax_minor"],
        offset_minor=note["offset_minor"],
        currency=note["currency"],
    )
    return ledger.Posting(
        tenant_id=note["tenant_id"],
        account_id=note["account_id"],
        invoice_id=note["invoice_id"],
        kind=kind,
        occurred_at=at,
        transfers=transfers if kind == "credit_note" else books.reversed_transfers(transfers),
    )


def _event(
    type_: str, note: Mapping[str, Any] | Row[Any], at: datetime, cause: UUID | None, **changed: Any
) -> Event:
    values = note if isinstance(note, Mapping) else note._asdict()
    return Event(
        type=type_,
        tenant_id=values["tenant_id"],
        subject=values["account_id"],
        data=facts.credit_note(values, **changed),
        occurred_at=at,
        cause=cause,
    )


# --- void ---------------------------------------------------------------------------------------


async def void(
    tx: Tx, *, tenant_id: UUID, credit_note_id: UUID, reason: str, cause: UUID | None
) -> None:
    """Void a note of which nothing was used: its lines can be credited again, what it took off is
    open again, its credit is gone; the exact reversal of its postings.

    Raises Problem: not_found, credit_note_void, credit_note_used once its invoice is closed by
    what it took off or its credit was used, also in part; invoice_reserved while a payment of the
    smaller amount is under way.
    """
    key = (tenant_id, credit_note_id)
    found = (await store.notes(tx, [key])).get(key)
    if found is None:
        raise Problem("not_found", detail="There is no such credit note.")
    account, invoice_key = (tenant_id, found.account_id), (tenant_id, found.invoice_id)
    accounts = await subscriptions.lock_accounts(tx, [account])
    invoice = (await invoices.lock_invoices(tx, [invoice_key]))[invoice_key]
    note = (await store.notes(tx, [key]))[key]
    await _check_unused(tx, note, invoice)
    at = (await subscriptions.moments(tx, accounts, accounts))[account]
    await _void(tx, invoice, [note], at=at, reason=reason, cause=cause)


async def _check_unused(tx: Tx, note: Row[Any], invoice: Row[Any]) -> None:
    if note.status != "issued":
        raise Problem(problems.CREDIT_NOTE_VOID, detail="The credit note was voided before.")
    if note.refund_minor:
        raise Problem(
            problems.CREDIT_NOTE_USED,
            detail=f"{note.refund_minor} of it went back as money.",
        )
    if note.offset_minor:
        if invoice.status != "open":
            raise Problem(
                problems.CREDIT_NOTE_USED,
                detail=f"It took {note.offset_minor} off an invoice that is {invoice.status} now.",
            )
        if await _held_minor(tx, (invoice.tenant_id, invoice.id)):
            raise Problem(
                problems.INVOICE_RESERVED, detail="A payment of what the note left is under way."
            )
    if not note.credit_minor:
        return
    account = (note.tenant_id, note.account_id)
    left = (await postings.credits(tx, [account])).get((*account, note.currency), 0)
    ledger_account = books.credit(ids.text("cus", note.account_id))
    since = await store.used_since(tx, note, ledger=ledger_account)
    # The oldest credit is used first. What is left must cover it in any case.
    used = max(since - note.credit_before_minor, note.credit_minor - left, 0)
    if used:
        raise Problem(
            problems.CREDIT_NOTE_USED,
            detail=f"{min(used, note.credit_minor)} of its credit of {note.credit_minor} was used.",
        )


async def void_standing(
    tx: Tx, rows: Sequence[Row[Any]], *, at: Mapping[Key, datetime], cause: UUID | None
) -> None:
    """Void the notes of locked, open invoices that are about to be voided themselves, as that of
    a subscription which was never paid and ends."""
    credited = {(row.tenant_id, row.id): row for row in rows if row.noted_minor}
    standing = await store.standing_notes(tx, credited) if credited else {}
    for key, notes in standing.items():
        row = credited[key]
        await _void(
            tx,
            row,
            notes,
            at=at[row.tenant_id, row.account_id],
            reason="its invoice was voided",
            cause=cause,
        )


async def _void(
    tx: Tx,
    invoice: Row[Any],
    notes: Sequence[Row[Any]],
    *,
    at: datetime,
    reason: str,
    cause: UUID | None,
) -> None:
    """Void standing notes of one invoice (locked): what they took off its lines is theirs again,
    to be paid and to be recognized."""
    lines = await store.note_lines(tx, ((each.tenant_id, each.id) for each in notes))
    taken = [row for note in notes for row in lines.get((note.tenant_id, note.id), ())]
    await store.count_lines(tx, _uncounted(taken))
    await _recognize_again(tx, invoice, taken, at)
    offset = sum(each.offset_minor for each in notes)
    await store.settle_invoices(
        tx,
        [
            {
                "tenant_id": invoice.tenant_id,
                "id": invoice.id,
                "status": invoice.status,
                "closed_at": invoice.closed_at,
                "paid_minor": invoice.paid_minor - offset,
                "noted_minor": invoice.noted_minor - sum(each.total_minor for each in notes),
                "offset_minor": invoice.offset_minor - offset,
            }
        ],
    )
    await store.void_notes(
        tx,
        [
            {
                "tenant_id": note.tenant_id,
                "id": note.id,
                "status": "void",
                "voided_at": at,
                "void_reason": reason,
            }
            for note in notes
        ],
    )
    await ledger.post(
        tx,
        [
            _posting(
                note._asdict(),
                [each._asdict() for each in lines.get((note.tenant_id, note.id), ())],
                "credit_note_voided",
                at,
            )
            for note in notes
        ],
    )
    tx.emit(_event(events.CREDIT_NOTE_VOIDED, each, at, cause, status="void") for each in notes)


def _uncounted(taken: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    """What standing notes give back of each line without these lines of notes."""
    left: dict[int, tuple[Row[Any], Amounts]] = {}
    for row in taken:
        _, standing = left.get(row.n, (row, note_draft.noted_of(row)))
        given = Amounts(row.gross_minor, row.discount_minor, row.net_minor, row.tax_minor)
        left[row.n] = (row, standing - given)
    return [_counted(row._asdict(), n, standing) for n, (row, standing) in left.items()]


async def _recognize_again(
    tx: Tx, invoice: Row[Any], taken: Sequence[Row[Any]], at: datetime
) -> None:
    account = (invoice.tenant_id, invoice.account_id)
    await recognize.restore_credits(
        tx,
        [Credit(*account, invoice.id, row.n, row.net_minor) for row in taken],
        [CreditSplit(row.deferred_minor, row.revenue_minor, {}) for row in taken],
        at={account: at},
    )
