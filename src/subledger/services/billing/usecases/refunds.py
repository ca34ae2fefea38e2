"""Refunds: billing says whether money may go back, and books it in the same transaction.

Money that paid for nothing goes back first. The rest is backed by a credit note on the payment's
invoice, or taken from the customer's credit. It leaves the books when it is granted, under the
account's lock, so that nobody can use it twice; a refund that fails is the exact reversal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Row

from subledger.contracts.refunds import RefundGrant, RefundRequest
from subledger.core import ledger as books
from subledger.core.credit_notes import Reason
from subledger.core.errors import InvalidCredit
from subledger.core.refunds import Funds, Served, back, unused_minor
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import ledger, problems
from subledger.services.billing.store import disputes, invoices, postings, subscriptions
from subledger.services.billing.store import refunds as store
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import credit_notes, note_draft, refund_endings
from subledger.services.billing.usecases.note_draft import Backed, Draft, NoteRequest


@dataclass(frozen=True, slots=True)
class Held:
    """What there is to give back of an attempt's money (minor units). ``rest`` is the note of all
    that is left of its invoice; ``backed_before_minor`` left before, backed by notes or credit."""

    receipt: Row[Any]
    invoice: Row[Any] | None
    rest: Draft | None
    refunded_minor: int
    backed_before_minor: int
    unapplied_minor: int
    credit_minor: int
    disputed_minor: int
    """What open and lost disputes took of it."""

    @property
    def note_minor(self) -> int:
        """The most that a note can back."""
        if self.rest is None:
            return 0
        left: int = max(self.receipt.applied_minor - self.backed_before_minor, 0)
        return min(self.rest.note.total_minor, left)

    def funds(self, source: str, *, disputed: bool = True) -> Funds:
        """``disputed`` false: as if no dispute had taken anything."""
        gone = self.refunded_minor + (self.disputed_minor if disputed else 0)
        return Funds(
            captured_minor=self.receipt.applied_minor + self.receipt.unapplied_minor,
            refunded_minor=gone,
            unapplied_minor=self.unapplied_minor,
            backed_minor=self.note_minor if source == "invoice" else self.credit_minor,
        )


@dataclass(frozen=True, slots=True)
class Parts:
    """What a refund is taken from (minor units)."""

    unapplied_minor: int
    credit_minor: int
    note_minor: int

    @property
    def amount_minor(self) -> int:
        return self.unapplied_minor + self.credit_minor + self.note_minor


async def preview(tx: Tx, tenant_id: UUID, requests: Sequence[RefundRequest]) -> list[RefundGrant]:
    """What ``grant`` would answer now, each request by itself."""
    answers = []
    for each in requests:
        held = await held_of(tx, (tenant_id, each.attempt_id))
        parts = _decide(held, each)
        if held is None or isinstance(parts, RefundGrant):
            assert isinstance(parts, RefundGrant), "what nothing is known of is refused"
            answers.append(parts)
            continue
        draft = None
        if parts.note_minor and held.invoice is not None:
            noted = _note(tenant_id, held, parts, to=each.to, reason=each.reason, cause=None)
            draft = await note_draft.draft(tx, noted, held.invoice)
        answer = await _granted(tx, held, each, parts, draft=draft, credit_note_id=None)
        if each.cancel_subscription:
            ends = await refund_endings.would_end(tx, tenant_id, held.receipt.invoice_id)
            answer = replace(answer, ends=tuple(ends))
        answers.append(answer)
    return answers


async def grant(
    tx: Tx,
    memory: TermsMemory,
    tenant_id: UUID,
    requests: Sequence[RefundRequest],
    *,
    cause: UUID | None,
) -> list[RefundGrant]:
    """Grant refunds and book them; an answer per request, in the order asked.

    Idempotent by refund id. Refuses with ``not_booked`` (the payment's success has not been read
    yet), ``disputed`` (a dispute has taken it) and ``exceeds`` (more than can go back, or nothing
    can).
    """
    receipts = await store.receipts(tx, ((tenant_id, each.attempt_id) for each in requests))
    await subscriptions.lock_accounts(
        tx, {(tenant_id, row.account_id) for row in receipts.values()}
    )
    known = await store.refunds(tx, ((tenant_id, each.refund_id) for each in requests))
    answers = []
    for each in requests:
        row = known.get((tenant_id, each.refund_id))
        if row is not None:
            answers.append(_again(row))
            continue
        held = await held_of(tx, (tenant_id, each.attempt_id))
        parts = _decide(held, each)
        if held is None or isinstance(parts, RefundGrant):
            assert isinstance(parts, RefundGrant), "what nothing is known of is refused"
            answers.append(parts)
            continue
        ends = []
        if each.cancel_subscription:
            ends = await refund_endings.lock(tx, tenant_id, held.receipt.invoice_id)
        note_id = await issue_note(
            tx, memory, held, parts, to=each.to, reason=each.reason, cause=cause
        )
        answer = await _granted(tx, held, each, parts, draft=None, credit_note_id=note_id)
        await book(
            tx,
            held,
            parts,
            refund_id=each.refund_id,
            connection_id=each.connection_id,
            to=each.to,
            source=each.source,
            state="granted",
            credit_note_id=note_id,
        )
        ended = await refund_endings.end_with(tx, memory, ends, cause=cause)
        answers.append(replace(answer, ends=ended))
    return answers


async def held_of(tx: Tx, attempt: Key) -> Held | None:
    """What there is to give back of an attempt's money; None if it is not booked."""
    receipt = (await store.receipts(tx, [attempt])).get(attempt)
    if receipt is None:
        return None
    tenant, account = attempt[0], (attempt[0], receipt.account_id)
    earlier = [
        each
        for each in (await store.refunds_of(tx, [attempt])).get(attempt, [])
        if each.state != "failed"
    ]
    as_money = [each for each in earlier if each.destination == "method"]
    invoice = None
    if receipt.invoice_id is not None:
        key = (tenant, receipt.invoice_id)
        invoice = (await invoices.invoices(tx, [key])).get(key)
    unapplied = receipt.unapplied_minor - sum(each.unapplied_minor for each in earlier)
    owed = await postings.credits(tx, [account])
    return Held(
        receipt=receipt,
        invoice=invoice,
        rest=await _rest(tx, invoice) if receipt.applied_minor else None,
        refunded_minor=sum(each.amount_minor for each in as_money),
        backed_before_minor=sum(each.credit_minor + each.note_minor for each in as_money),
        unapplied_minor=max(
            min(unapplied, await store.unapplied(tx, account, receipt.currency)), 0
        ),
        credit_minor=owed.get((*account, receipt.currency), 0),
        disputed_minor=await disputes.held(tx, attempt),
    )


async def _rest(tx: Tx, invoice: Row[Any] | None) -> Draft | None:
    """The note of all that is left of a paid invoice, if anything is."""
    if invoice is None or invoice.status != "paid":
        return None
    request = NoteRequest(
        tenant_id=invoice.tenant_id,
        invoice_id=invoice.id,
        reason=Reason.OTHER,
        memo=None,
        lines=None,
        settlement="credit",
        cause=None,
    )
    try:
        return await note_draft.draft(tx, request, invoice)
    except Problem as nothing:
        if nothing.code != problems.NOTHING_TO_CREDIT:
            raise
        return None


def _decide(held: Held | None, request: RefundRequest) -> Parts | RefundGrant:
    if held is None:
        return RefundGrant(request.refund_id, granted=False, refusal="not_booked")
    funds = held.funds(request.source)
    try:
        taken = back(funds, request.amount_minor)
    except InvalidCredit:
        wanted = request.amount_minor or 1
        undisputed = held.funds(request.source, disputed=False).refundable_minor
        return RefundGrant(
            request.refund_id,
            granted=False,
            refusal="disputed" if wanted <= undisputed else "exceeds",
            refundable_minor=funds.refundable_minor,
            customer_id=held.receipt.account_id,
            currency=held.receipt.currency,
        )
    noted = request.source == "invoice"
    return Parts(
        unapplied_minor=taken.unapplied_minor,
        credit_minor=0 if noted else taken.backed_minor,
        note_minor=taken.backed_minor if noted else 0,
    )


def _note(
    tenant_id: UUID, held: Held, parts: Parts, *, to: str, reason: str, cause: UUID | None
) -> NoteRequest:
    return NoteRequest(
        tenant_id=tenant_id,
        invoice_id=held.receipt.invoice_id,
        reason=Reason(reason),
        memo=None,
        lines=None,
        settlement="credit",
        cause=cause,
        backing=Backed(
            amount_minor=parts.note_minor,
            money_minor=parts.note_minor if to == "method" else 0,
            refunded_minor=held.backed_before_minor,
        ),
    )


async def issue_note(
    tx: Tx,
    memory: TermsMemory,
    held: Held,
    parts: Parts,
    *,
    to: str,
    reason: str,
    cause: UUID | None,
) -> UUID | None:
    """The credit note behind a refund, if a note backs it."""
    if not parts.note_minor:
        return None
    note_id = tx.ids.new()
    request = _note(held.receipt.tenant_id, held, parts, to=to, reason=reason, cause=cause)
    await credit_notes.issue(tx, memory, request, credit_note_id=note_id)
    return note_id


async def _granted(
    tx: Tx,
    held: Held,
    request: RefundRequest,
    parts: Parts,
    *,
    draft: Draft | None,
    credit_note_id: UUID | None,
) -> RefundGrant:
    receipt = held.receipt
    lines = held.rest.lines if held.rest is not None else ()
    served = [
        Served(each.note.total_minor, each.stored.service_start_at, each.stored.service_end_at)
        for each in lines
    ]
    return RefundGrant(
        refund_id=request.refund_id,
        granted=True,
        refundable_minor=held.funds(request.source).refundable_minor,
        customer_id=receipt.account_id,
        amount_minor=parts.amount_minor,
        currency=receipt.currency,
        from_unapplied_minor=parts.unapplied_minor,
        from_credit_minor=parts.credit_minor,
        note_minor=parts.note_minor,
        tax_minor=0 if draft is None else draft.note.tax_minor,
        unused_minor=unused_minor(served, await tx.now(receipt.tenant_id)),
        credit_note_id=credit_note_id,
    )


def _again(row: Row[Any]) -> RefundGrant:
    """What was granted before, told again."""
    return RefundGrant(
        refund_id=row.id,
        granted=True,
        customer_id=row.account_id,
        amount_minor=row.amount_minor,
        currency=row.currency,
        from_unapplied_minor=row.unapplied_minor,
        from_credit_minor=row.credit_minor,
        note_minor=row.note_minor,
        credit_note_id=row.credit_note_id,
    )


async def book(
    tx: Tx,
    held: Held,
    parts: Parts,
    *,
    refund_id: UUID,
    connection_id: UUID,
    to: str,
    source: str,
    state: Literal["granted", "succeeded"],
    credit_note_id: UUID | None,
) -> None:
    """The refund's row and its posting. The account is locked."""
    receipt = held.receipt
    account = (receipt.tenant_id, receipt.account_id)
    accounts = await subscriptions.lock_accounts(tx, [account])
    at = (await subscriptions.moments(tx, accounts, accounts))[account]
    row = {
        "tenant_id": receipt.tenant_id,
        "id": refund_id,
        "account_id": receipt.account_id,
        "payment_id": receipt.payment_id,
        "attempt_id": receipt.attempt_id,
        "connection_id": connection_id,
        "invoice_id": receipt.invoice_id,
        "credit_note_id": credit_note_id,
        "destination": to,
        "source": source,
        "state": state,
        "amount_minor": parts.amount_minor,
        "unapplied_minor": parts.unapplied_minor,
        "credit_minor": parts.credit_minor,
        "note_minor": parts.note_minor,
        "currency": receipt.currency,
        "granted_at": at,
    }
    await store.insert(tx, [row])
    kind = "refunded" if source == "invoice" else "credit_refunded"
    await ledger.post(
        tx,
        [
            ledger.Posting(
                tenant_id=receipt.tenant_id,
                account_id=receipt.account_id,
                invoice_id=receipt.invoice_id,
                kind=kind if to == "method" else "unapplied_credited",
                occurred_at=at,
                transfers=transfers(row),
            )
        ],
    )


def transfers(row: Any) -> tuple[books.Transfer, ...]:
    """What a refund moves: its money leaves for the method, or stays as the customer's credit."""
    customer, currency = ids.text("cus", row["account_id"]), row["currency"]
    if row["destination"] == "credit":
        return books.unapplied_credited(
            customer=customer, amount_minor=row["unapplied_minor"], currency=currency
        )
    connection = ids.text("conn", row["connection_id"])
    backed = row["credit_minor"] + row["note_minor"]
    return books.refunded(
        connection=connection,
        source=books.unapplied(customer),
        amount_minor=row["unapplied_minor"],
        currency=currency,
    ) + books.refunded(
        connection=connection,
        source=books.credit(customer),
        amount_minor=backed,
        currency=currency,
    )
