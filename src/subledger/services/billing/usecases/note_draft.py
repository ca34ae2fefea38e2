"""A credit note as it would be issued now: what of which line, and where it goes.

Preview and issue are this one computation. Discount and tax follow from what each line has
stored, never from today's discounts and rates; earlier notes count, and so does what later
invoices took back of the same charge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Row

from subledger.core.amounts import Amounts
from subledger.core.credit_notes import (
    CREDITABLE,
    CreditNote,
    Invoice,
    InvoiceLine,
    NoteLine,
    Reason,
    Request,
    credit_note,
    part,
    rest,
)
from subledger.core.errors import InvalidCredit
from subledger.core.noted import Charged, taken_back
from subledger.core.settlement import Settlement
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import problems
from subledger.services.billing.store import credit_notes as store


@dataclass(frozen=True, slots=True)
class LineRequest:
    """How much of a line's gross (minor units, above zero) is to be given back."""

    n: int
    gross_minor: int


@dataclass(frozen=True, slots=True)
class Backed:
    """A refund that a note backs (minor units): ``amount_minor`` of the invoice's lines, of which
    ``money_minor`` leaves as money, after ``refunded_minor`` that left before."""

    amount_minor: int
    money_minor: int
    refunded_minor: int


@dataclass(frozen=True, slots=True)
class NoteRequest:
    """What is to be credited: lines, or with None all that is left of the invoice.

    ``settlement`` says what becomes of the part that was paid: credit, or money back (which only a
    payment's refund can send). What is still open is never paid out either way: it is taken off
    the invoice. A refund's note says what it is ``backing`` instead of its lines.
    """

    tenant_id: UUID
    invoice_id: UUID
    reason: Reason
    memo: str | None
    lines: Sequence[LineRequest] | None
    settlement: Literal["credit", "refund"]
    cause: UUID | None
    backing: Backed | None = None


@dataclass(frozen=True, slots=True)
class DraftLine:
    """What of one line goes back: the stored line and the note's."""

    stored: Row[Any]
    note: NoteLine

    @property
    def noted(self) -> Amounts:
        """What all standing notes will have given back of the line."""
        return noted_of(self.stored) + self.note.amounts


@dataclass(frozen=True, slots=True)
class Draft:
    """A note before it has an id and a number."""

    invoice: Row[Any]
    note: CreditNote
    lines: Sequence[DraftLine]


def noted_of(row: Row[Any]) -> Amounts:
    """What standing notes gave back of a stored line."""
    return Amounts(
        row.noted_gross_minor, row.noted_discount_minor, row.noted_net_minor, row.noted_tax_minor
    )


async def draft(tx: Tx, request: NoteRequest, invoice: Row[Any]) -> Draft:
    """The note that ``request`` makes of an invoice as it is.

    Raises Problem: refund_unavailable, invoice_not_creditable, nothing_to_credit,
    credit_exceeds_line (with ``left_minor``), unknown_reference for a line that is not there.
    """
    if request.settlement == "refund":
        raise Problem(
            problems.REFUND_UNAVAILABLE, pointer="/settlement",
            detail="A credit note alone sends no money back.",
        )  # fmt: skip
    if invoice.status not in CREDITABLE:
        raise Problem(
            problems.INVOICE_NOT_CREDITABLE, pointer="/invoice_id",
            detail=f"The invoice is {invoice.status}.",
        )  # fmt: skip
    key = (request.tenant_id, request.invoice_id)
    rows = {str(row.n): row for row in await store.lines(tx, key)}
    known, earlier = _known(invoice, rows.values())
    backing = request.backing
    if backing is not None:
        known = replace(known, refunded_minor=backing.refunded_minor)
    taken = _taken(request.invoice_id, await store.same_charges(tx, key))
    try:
        asked = _asked(request, known, earlier, taken, rows)
        note = credit_note(
            known,
            asked,
            reason=request.reason,
            earlier=[earlier],
            taken=taken,
            refund_minor=None if backing is None else backing.money_minor,
        )
    except InvalidCredit as refused:
        raise _problem(refused) from refused
    if note.total_minor == 0:
        raise Problem(problems.NOTHING_TO_CREDIT, detail="These lines cost nothing.")
    return Draft(
        invoice=invoice,
        note=note,
        lines=[DraftLine(rows[each.line_id], each) for each in note.lines],
    )


def _asked(
    request: NoteRequest,
    known: Invoice,
    earlier: CreditNote,
    taken: Mapping[str, Amounts],
    rows: Mapping[str, Row[Any]],
) -> Sequence[Request]:
    if request.lines is None:
        if request.backing is not None:
            return part(known, request.backing.amount_minor, [earlier], taken=taken)
        found = rest(known, [earlier], taken=taken)
        if not found:
            raise Problem(problems.NOTHING_TO_CREDIT, detail="All of the invoice was given back.")
        return found
    for place, each in enumerate(request.lines):
        if str(each.n) not in rows:
            raise Problem(
                problems.UNKNOWN_REFERENCE, pointer=f"/lines/{place}/n",
                detail=f"The invoice has no line {each.n}.", fix="Name a line of this invoice.",
            )  # fmt: skip
    return [Request(str(each.n), each.gross_minor) for each in request.lines]


def _known(invoice: Row[Any], rows: Iterable[Row[Any]]) -> tuple[Invoice, CreditNote]:
    """The invoice as the core sees it, and its standing notes as one."""
    given = list(rows)
    lines = tuple(
        InvoiceLine(
            id=str(row.n),
            gross_minor=row.gross_minor,
            discount_minor=row.discount_minor,
            tax_minor=row.tax_minor,
            # What is neither discount nor net of a gross is the tax that it contains.
            tax_included_minor=row.gross_minor - row.discount_minor - row.net_minor,
        )
        for row in given
    )
    noted = {str(row.n): noted_of(row) for row in given if row.noted_gross_minor}
    known = Invoice(
        currency=invoice.currency,
        lines=lines,
        state=invoice.status,
        paid_minor=invoice.paid_minor - invoice.credit_applied_minor - invoice.offset_minor,
        credit_applied_minor=invoice.credit_applied_minor,
    )
    earlier = CreditNote(
        currency=invoice.currency,
        reason=Reason.OTHER,
        lines=tuple(
            NoteLine(
                line_id=line_id,
                gross_minor=each.gross_minor,
                discount_minor=each.discount_minor,
                net_minor=each.net_minor,
                tax_minor=each.tax_minor,
                step={},
            )
            for line_id, each in noted.items()
        ),
        gross_minor=sum(each.gross_minor for each in noted.values()),
        discount_minor=sum(each.discount_minor for each in noted.values()),
        net_minor=sum(each.net_minor for each in noted.values()),
        tax_minor=sum(each.tax_minor for each in noted.values()),
        total_minor=invoice.noted_minor,
        settlement=Settlement(
            offset_minor=invoice.offset_minor,
            credit_minor=invoice.noted_minor - invoice.offset_minor,
            refund_minor=0,
            step={},
        ),
    )
    return known, earlier


def _taken(invoice_id: UUID, rows: Iterable[Row[Any]]) -> Mapping[str, Amounts]:
    """What later invoices took back of this invoice's lines, by their numbers."""
    charges: dict[Any, list[Charged]] = {}
    ours: dict[str, str] = {}
    for row in rows:
        line_id = f"{row.invoice_id} {row.n}"
        if row.invoice_id == invoice_id:
            ours[line_id] = str(row.n)
        charges.setdefault((row.subscription_id, row.price_id, row.charged_from_at), []).append(
            Charged(
                line_id,
                Amounts(row.gross_minor, row.discount_minor, row.net_minor, row.tax_minor),
                noted_of(row),
            )
        )
    return {
        ours[line_id]: amounts
        for lines in charges.values()
        for line_id, amounts in taken_back(lines).items()
        if line_id in ours
    }


def _problem(refused: InvalidCredit) -> Problem:
    if refused.left_minor is None:
        return Problem(
            "invalid_request", detail=refused.detail, pointer=refused.pointer, fix=refused.fix
        )
    return Problem(
        problems.CREDIT_EXCEEDS_LINE,
        detail=refused.detail[:1].upper() + refused.detail[1:] + ".",
        pointer=refused.pointer,
        left_minor=refused.left_minor,
    )
