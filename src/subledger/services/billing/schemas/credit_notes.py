"""Credit notes, the computation behind them, and adjustments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from pydantic import ConfigDict, Field
from pydantic.config import JsonDict
from sqlalchemy import Row

from subledger.core.credit_notes import Reason as NoteReason
from subledger.platform.http.fields import (
    CurrencyCode,
    PositiveAmountMinor,
    Strict,
    Text,
    Timestamp,
    Whole,
)
from subledger.services.billing import facts
from subledger.services.billing.schemas.invoices import Reason
from subledger.services.billing.schemas.references import (
    AdjustmentId,
    CreditNoteId,
    CustomerId,
    InvoiceId,
)
from subledger.services.billing.usecases.explain import ExplainedNote
from subledger.services.billing.usecases.note_draft import Draft

MOST_LINES = 100
Memo = Annotated[Text, Field(min_length=1, max_length=500)]
LineNumber = Annotated[Whole, Field(ge=1, le=1_000_000)]

_AMOUNTS: JsonDict = {
    "gross_minor": 500,
    "discount_minor": 0,
    "net_minor": 500,
    "tax_minor": 0,
    "total_minor": 500,
}
_TO: JsonDict = {"offset_minor": 0, "credit_minor": 500, "refund_minor": 0}
_NOTE: JsonDict = {
    "id": "cn_01h455vb4pex5vsknk084sn02q",
    "number": "CN-000001",
    "invoice_id": "inv_01h455vb4pex5vsknk084sn02q",
    "invoice_number": "INV-000001",
    "customer_id": "cus_01h455vb4pex5vsknk084sn02q",
    "status": "issued",
    "reason": "goodwill",
    "memo": "the stream broke off",
    "currency": "EUR",
    **_AMOUNTS,
    **_TO,
    "issued_at": "2026-03-10T12:00:00Z",
    "voided_at": None,
    "void_reason": None,
}
_LINE: JsonDict = {
    "n": 1,
    "description": "Cinema Basic (monthly)",
    "service_start_at": "2026-03-01T12:00:00Z",
    "service_end_at": "2026-04-01T11:00:00Z",
    **_AMOUNTS,
    "deferred_minor": 355,
    "revenue_minor": 145,
}
_STEP: JsonDict = {
    "kind": "credit",
    "line_id": "1",
    "rounding": "half_up_cumulative",
    "line_gross_minor": 999,
    "line_discount_minor": 0,
    "line_tax_minor": 0,
    "before_gross_minor": 0,
    "before_discount_minor": 0,
    "before_tax_minor": 0,
    "gross_minor": 500,
    "discount_minor": 0,
    "tax_minor": 0,
}
_SETTLED: JsonDict = {
    "kind": "settlement",
    "total_minor": 500,
    "open_minor": 0,
    "refundable_minor": 999,
    "unpaid": "offset",
    **_TO,
}


class CreditNoteLineNew(Strict):
    """How much of a line's gross is to be given back; its share of discount and tax follows."""

    n: LineNumber = Field(description="The invoice's line.")
    gross_minor: PositiveAmountMinor


class CreditNoteNew(Strict):
    """What is to be credited of an invoice, and why."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "invoice_id": "inv_01h455vb4pex5vsknk084sn02q",
                    "reason": "goodwill",
                    "memo": "the stream broke off",
                    "lines": [{"n": 1, "gross_minor": 500}],
                }
            ]
        }
    )

    invoice_id: InvoiceId
    reason: NoteReason
    memo: Memo | None = Field(default=None, description="For people; it is in no event.")
    lines: list[CreditNoteLineNew] | None = Field(
        default=None,
        min_length=1,
        max_length=MOST_LINES,
        description="Left out: all that is left of the invoice.",
    )
    settlement: Literal["credit", "refund"] = Field(
        default="credit",
        description="What becomes of the part that was paid: the customer's credit. What is still"
        " open is taken off the invoice. `refund` is refused: refund the payment, which issues a"
        " note.",
    )


class CreditNoteVoid(Strict):
    """Why the note is not to stand."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "issued twice"}]})

    reason: Reason


class CreditNote(Strict):
    """A credit note without its lines (minor units, all above zero or zero)."""

    model_config = ConfigDict(json_schema_extra={"examples": [_NOTE]})

    id: CreditNoteId
    number: str
    invoice_id: InvoiceId
    invoice_number: str
    customer_id: CustomerId
    status: Literal["issued", "void"]
    reason: NoteReason
    memo: str | None
    currency: str
    gross_minor: int
    discount_minor: int
    net_minor: int
    tax_minor: int
    total_minor: int
    offset_minor: int = Field(description="What was open and need not be paid any more.")
    credit_minor: int = Field(description="What became the customer's credit.")
    refund_minor: int = Field(
        description="What goes back as money: of a note that backs a payment's refund."
    )
    issued_at: Timestamp
    voided_at: Timestamp | None
    void_reason: str | None

    @classmethod
    def of(cls, row: Row[Any]) -> CreditNote:
        return cls(**_fields(row))


def _fields(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "number": facts.number_text(row.series, row.number),
        "invoice_id": row.invoice_id,
        "invoice_number": facts.number_text(row.invoice_series, row.invoice_number),
        "customer_id": row.account_id,
        "status": row.status,
        "reason": row.reason,
        "memo": row.memo,
        "currency": row.currency,
        **_amounts(row),
        "offset_minor": row.offset_minor,
        "credit_minor": row.credit_minor,
        "refund_minor": row.refund_minor,
        "issued_at": row.issued_at,
        "voided_at": row.voided_at,
        "void_reason": row.void_reason,
    }


def _amounts(row: Any) -> dict[str, int]:
    return {
        "gross_minor": row.gross_minor,
        "discount_minor": row.discount_minor,
        "net_minor": row.net_minor,
        "tax_minor": row.tax_minor,
        "total_minor": row.net_minor + row.tax_minor,
    }


class CreditNoteLine(Strict):
    """What goes back of one line of the invoice (minor units)."""

    model_config = ConfigDict(json_schema_extra={"examples": [_LINE]})

    n: int = Field(description="The invoice's line.")
    description: str
    service_start_at: Timestamp
    service_end_at: Timestamp
    gross_minor: int
    discount_minor: int
    net_minor: int
    tax_minor: int
    total_minor: int
    deferred_minor: int = Field(description="Of the net: service not delivered yet.")
    revenue_minor: int = Field(description="Of the net: service delivered by then.")

    @classmethod
    def of(cls, row: Row[Any]) -> CreditNoteLine:
        return cls(**_line_fields(row))


def _line_fields(row: Row[Any]) -> dict[str, Any]:
    return {
        "n": row.n,
        "description": facts.price_text(row.plan_name, row.price_code),
        "service_start_at": row.service_start_at,
        "service_end_at": row.service_end_at,
        **_amounts(row),
        "deferred_minor": row.deferred_minor,
        "revenue_minor": row.revenue_minor,
    }


class CreditNoteWithLines(CreditNote):
    """A credit note with its lines."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_NOTE, "lines": [_LINE]}]})

    lines: list[CreditNoteLine]

    @classmethod
    def with_lines(cls, row: Row[Any], lines: Sequence[Row[Any]]) -> CreditNoteWithLines:
        return cls(**_fields(row), lines=[CreditNoteLine.of(each) for each in lines])


class PreviewLine(Strict):
    """What would go back of one line (minor units)."""

    n: int
    gross_minor: int
    discount_minor: int
    net_minor: int
    tax_minor: int
    total_minor: int
    derivation: dict[str, Any]


class CreditNotePreview(Strict):
    """The note that the same request would make now. Nothing is saved."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "invoice_id": "inv_01h455vb4pex5vsknk084sn02q",
                    "currency": "EUR",
                    **_AMOUNTS,
                    **_TO,
                    "closes_invoice": False,
                    "lines": [
                        {
                            "n": 1,
                            **_AMOUNTS,
                            "derivation": _STEP,
                        }
                    ],
                }
            ]
        }
    )

    invoice_id: InvoiceId
    currency: str
    gross_minor: int
    discount_minor: int
    net_minor: int
    tax_minor: int
    total_minor: int
    offset_minor: int
    credit_minor: int
    refund_minor: int
    closes_invoice: bool = Field(description="Nothing would be left to pay of an open invoice.")
    lines: list[PreviewLine]

    @classmethod
    def of(cls, draft: Draft) -> CreditNotePreview:
        to, invoice = draft.note.settlement, draft.invoice
        return cls(
            invoice_id=invoice.id,
            currency=draft.note.currency,
            **_amounts(draft.note),
            offset_minor=to.offset_minor,
            credit_minor=to.credit_minor,
            refund_minor=to.refund_minor,
            closes_invoice=invoice.status == "open"
            and invoice.paid_minor + to.offset_minor == invoice.total_minor,
            lines=[
                PreviewLine(
                    n=each.stored.n,
                    **_amounts(each.note),
                    derivation=dict(each.note.step),
                )
                for each in draft.lines
            ],
        )


class ExplainedNoteLine(CreditNoteLine):
    """A line with the computation that made it, as it was stored then."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_LINE, "derivation": [_STEP]}]})

    derivation: list[dict[str, Any]] = Field(
        description="`credit`: the stored line, what was given back before, what goes back now, by"
        " cumulative rounding. `credit_split`: how the net is booked."
    )


class CreditNoteExplanation(Strict):
    """A credit note as data from which its total can be recomputed without this service."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "credit_note_id": "cn_01h455vb4pex5vsknk084sn02q",
                    "number": "CN-000001",
                    "invoice_number": "INV-000001",
                    "currency": "EUR",
                    **_AMOUNTS,
                    "lines": [{**_LINE, "derivation": [_STEP]}],
                    "settlement": _SETTLED,
                }
            ]
        }
    )

    credit_note_id: CreditNoteId
    number: str
    invoice_number: str
    currency: str
    gross_minor: int
    discount_minor: int
    net_minor: int
    tax_minor: int
    total_minor: int
    lines: list[ExplainedNoteLine]
    settlement: dict[str, Any] = Field(
        description="What was open of the invoice, and where the total went."
    )

    @classmethod
    def of(cls, explained: ExplainedNote) -> CreditNoteExplanation:
        row = explained.note
        return cls(
            credit_note_id=row.id,
            number=str(facts.number_text(row.series, row.number)),
            invoice_number=str(facts.number_text(row.invoice_series, row.invoice_number)),
            currency=row.currency,
            **_amounts(row),
            lines=[
                ExplainedNoteLine(
                    **_line_fields(each), derivation=msgspec.json.decode(each.derivation)
                )
                for each in explained.lines
            ],
            settlement=dict(explained.settlement),
        )


_ADJUSTMENT: JsonDict = {
    "id": "adj_01h455vb4pex5vsknk084sn02q",
    "customer_id": "cus_01h455vb4pex5vsknk084sn02q",
    "direction": "credit",
    "amount_minor": 500,
    "currency": "EUR",
    "reason": "an apology",
    "made_by": "key_01h455vb4pex5vsknk084sn02q",
    "made_at": "2026-03-10T12:00:00Z",
}


class AdjustmentNew(Strict):
    """Credit that a person gives a customer, or takes back."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "customer_id": "cus_01h455vb4pex5vsknk084sn02q",
                    "direction": "credit",
                    "amount_minor": 500,
                    "currency": "EUR",
                    "reason": "an apology",
                }
            ]
        }
    )

    customer_id: CustomerId
    direction: Literal["credit", "debit"] = Field(
        description="`credit` gives, `debit` takes back; never below zero."
    )
    amount_minor: PositiveAmountMinor
    currency: CurrencyCode = Field(description="The customer's own.")
    reason: Reason


class Adjustment(Strict):
    """An adjustment of a customer's credit (minor units). It never changes."""

    model_config = ConfigDict(json_schema_extra={"examples": [_ADJUSTMENT]})

    id: AdjustmentId
    customer_id: CustomerId
    direction: Literal["credit", "debit"]
    amount_minor: int
    currency: str
    reason: str
    made_by: str
    made_at: Timestamp

    @classmethod
    def of(cls, row: Row[Any]) -> Adjustment:
        return cls(
            id=row.id,
            customer_id=row.account_id,
            direction=row.direction,
            amount_minor=row.amount_minor,
            currency=row.currency,
            reason=row.reason,
            made_by=row.made_by,
            made_at=row.made_at,
        )
