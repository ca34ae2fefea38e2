"""Invoices, their lines and the computation behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from pydantic import AfterValidator, ConfigDict, Field
from pydantic.config import JsonDict
from sqlalchemy import Row

from subledger.platform.http.fields import Strict, Text, Timestamp, plain
from subledger.services.billing import facts
from subledger.services.billing.schemas.references import (
    CustomerId,
    InvoiceId,
    PriceId,
    SubscriptionId,
)
from subledger.services.billing.schemas.taxes import DOCUMENT_TAX, DocumentTax
from subledger.services.billing.usecases.explain import Explained

InvoiceStatus = Literal["draft", "open", "paid", "void", "uncollectible", "skipped"]


def _told(value: str) -> str:
    if not value.strip():
        raise ValueError("say why")
    return value


Reason = Annotated[Text, AfterValidator(_told), Field(min_length=1, max_length=500)]

_AMOUNTS: JsonDict = {
    "subtotal_minor": 999,
    "discount_minor": 0,
    "tax_minor": 0,
    "tax_included_minor": 0,
    "total_minor": 999,
    "credited_minor": 0,
    "credit_applied_minor": 0,
}
_NOTED: JsonDict = {"noted_minor": 0, "offset_minor": 0}
_INVOICE: JsonDict = {
    "id": "inv_01h455vb4pex5vsknk084sn02q",
    "number": "INV-000001",
    "customer_id": "cus_01h455vb4pex5vsknk084sn02q",
    "subscription_ids": ["sub_01h455vb4pex5vsknk084sn02q"],
    "status": "paid",
    "reason": "renewal",
    "currency": "EUR",
    **_AMOUNTS,
    "paid_minor": 999,
    "tax": None,
    "drafted_at": None,
    "due_at": "2026-03-01T12:00:00Z",
    "finalized_at": "2026-03-01T12:00:00Z",
    "closed_at": "2026-03-01T12:00:00Z",
    "close_reason": None,
    **_NOTED,
    "replaces_invoice_id": None,
    "replaced_by_invoice_id": None,
}
_LINE: JsonDict = {
    "n": 1,
    "kind": "charge",
    "description": "Cinema Basic (monthly)",
    "subscription_id": "sub_01h455vb4pex5vsknk084sn02q",
    "price_id": "price_01h455vb4pex5vsknk084sn02q",
    "service_start_at": "2026-03-01T12:00:00Z",
    "service_end_at": "2026-04-01T11:00:00Z",
    "quantity": "1",
    "gross_minor": 999,
    "discount_minor": 0,
    "net_minor": 999,
    "tax_minor": 0,
    "tax_included_minor": 0,
    "tax_rate": "0",
}
_DERIVATION: JsonDict = {
    "engine": 3,
    "steps": [{"kind": "flat", "quantity": "1", "unit_amount": "999", "amount": "999"}],
    "exact": "999",
    "fraction": "1",
    "rounding": "half_up",
    "residue": "0",
    "gross_minor": 999,
    "discounts": [],
    "net_minor": 999,
    "taxes": [],
    "tax_included_minor": 0,
    "tax_minor": 0,
}


class Void(Strict):
    """Why the invoice is not to be paid."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "ordered twice"}]})

    reason: Reason


class Invoice(Strict):
    """An invoice without its lines (minor units)."""

    model_config = ConfigDict(json_schema_extra={"examples": [_INVOICE]})

    id: InvoiceId
    number: str | None = Field(description="A draft has none yet.")
    customer_id: CustomerId
    subscription_ids: list[SubscriptionId]
    status: InvoiceStatus
    reason: str = Field(
        description="subscription_create, renewal, subscription_change, one_off_charge,"
        " subscription_pause, subscription_resume, subscription_reactivate or subscription_end"
    )
    currency: str
    subtotal_minor: int
    discount_minor: int
    tax_minor: int
    tax_included_minor: int = Field(description="Tax that prices contain already.")
    total_minor: int
    credited_minor: int = Field(
        description="What it gives back more than it bills: it becomes the customer's credit."
    )
    credit_applied_minor: int = Field(description="What the customer's credit paid of it.")
    paid_minor: int = Field(description="By credit, by payments and by credit notes.")
    tax: DocumentTax | None = Field(
        description="Its taxes by rate, with notes and VAT ids, as they were when it was made; null"
        " if the shop had no tax settings."
    )
    drafted_at: Timestamp | None = Field(description="Since when it waited to be finalized.")
    due_at: Timestamp | None
    finalized_at: Timestamp | None
    closed_at: Timestamp | None
    close_reason: str | None
    noted_minor: int = Field(description="What credit notes gave back of it.")
    offset_minor: int = Field(
        description="The part of that which was open and need not be paid any more."
    )
    replaces_invoice_id: InvoiceId | None
    replaced_by_invoice_id: InvoiceId | None

    @classmethod
    def of(cls, row: Row[Any], subscription_ids: Sequence[UUID]) -> Invoice:
        return cls(**_fields(row, subscription_ids))


def _fields(row: Row[Any], subscription_ids: Sequence[UUID]) -> dict[str, Any]:
    return {
        "id": row.id,
        "number": facts.number_text(row.series, row.number),
        "customer_id": row.account_id,
        "subscription_ids": list(subscription_ids),
        "status": row.status,
        "reason": row.reason,
        "currency": row.currency,
        "subtotal_minor": row.subtotal_minor,
        "discount_minor": row.discount_minor,
        "tax_minor": row.tax_minor,
        "tax_included_minor": row.tax_included_minor,
        "total_minor": row.total_minor,
        "credited_minor": row.credited_minor,
        "credit_applied_minor": row.credit_applied_minor,
        "paid_minor": row.paid_minor,
        "tax": _tax(row.tax),
        "drafted_at": row.drafted_at,
        "due_at": row.due_at,
        "finalized_at": row.finalized_at,
        "closed_at": row.closed_at,
        "close_reason": row.close_reason,
        "noted_minor": row.noted_minor,
        "offset_minor": row.offset_minor,
        "replaces_invoice_id": row.replaces_invoice_id,
        "replaced_by_invoice_id": row.replaced_by_invoice_id,
    }


def _tax(text: str | None) -> DocumentTax | None:
    return None if text is None else DocumentTax.model_validate(msgspec.json.decode(text))


class InvoiceLine(Strict):
    """One line: a price for a service period (minor units)."""

    model_config = ConfigDict(json_schema_extra={"examples": [_LINE]})

    n: int
    kind: str
    description: str
    subscription_id: SubscriptionId
    price_id: PriceId
    service_start_at: Timestamp
    service_end_at: Timestamp
    quantity: str
    gross_minor: int
    discount_minor: int
    net_minor: int
    tax_minor: int
    tax_included_minor: int
    tax_rate: str

    @classmethod
    def of(cls, row: Row[Any]) -> InvoiceLine:
        return cls(**_line_fields(row))


def _line_fields(row: Row[Any]) -> dict[str, Any]:
    return {
        "n": row.n,
        "kind": row.kind,
        "description": facts.price_text(row.plan_name, row.price_code),
        "subscription_id": row.subscription_id,
        "price_id": row.price_id,
        "service_start_at": row.service_start_at,
        "service_end_at": row.service_end_at,
        "quantity": facts.quantity_text(row.quantity),
        "gross_minor": row.gross_minor,
        "discount_minor": row.discount_minor,
        "net_minor": row.net_minor,
        "tax_minor": row.tax_minor,
        "tax_included_minor": row.tax_included_minor,
        "tax_rate": plain(row.tax_rate),
    }


class InvoiceWithLines(Invoice):
    """An invoice with its lines."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_INVOICE, "lines": [_LINE]}]})

    lines: list[InvoiceLine]

    @classmethod
    def with_lines(
        cls, row: Row[Any], subscription_ids: Sequence[UUID], lines: Sequence[Row[Any]]
    ) -> InvoiceWithLines:
        return cls(**_fields(row, subscription_ids), lines=[InvoiceLine.of(each) for each in lines])


class ExplainedLine(InvoiceLine):
    """A line with the computation that made it, as it was stored then."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{**_LINE, "derivation": _DERIVATION}]}
    )

    derivation: dict[str, Any] = Field(
        description="Steps with exact amounts (whole numbers or fractions as text, minor units),"
        " rounding, discounts in the order in which they were taken, tax."
    )


class Explanation(Strict):
    """An invoice as data from which its total can be recomputed without this service."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "invoice_id": "inv_01h455vb4pex5vsknk084sn02q",
                    "number": "INV-000001",
                    "currency": "EUR",
                    **_AMOUNTS,
                    "tax": DOCUMENT_TAX,
                    "lines": [{**_LINE, "derivation": _DERIVATION}],
                    "inputs": {"engine": 3, "timezone": "Europe/Berlin"},
                    "content_hash": "9f86d081884c7d659a2feaa0c55ad015"
                    "a3bf4f1b2b0b822cd15d6c15b0f00a08",
                }
            ]
        }
    )

    invoice_id: InvoiceId
    number: str | None
    currency: str
    subtotal_minor: int
    discount_minor: int
    tax_minor: int
    tax_included_minor: int
    total_minor: int
    credited_minor: int
    tax: DocumentTax | None
    lines: list[ExplainedLine]
    inputs: dict[str, Any] = Field(
        description="What the computation took from outside: engine, time zone data, plan"
        " versions, zone, discounts with the periods used before."
    )
    content_hash: str = Field(
        description="SHA-256 of the canonical JSON (sorted keys, no spaces, UTF-8) of `inputs`"
        " with the lines' derivations as its member `lines`."
    )

    @classmethod
    def of(cls, explained: Explained) -> Explanation:
        row = explained.invoice
        return cls(
            invoice_id=row.id,
            number=facts.number_text(row.series, row.number),
            currency=row.currency,
            subtotal_minor=row.subtotal_minor,
            discount_minor=row.discount_minor,
            tax_minor=row.tax_minor,
            tax_included_minor=row.tax_included_minor,
            credited_minor=row.credited_minor,
            total_minor=row.total_minor,
            tax=_tax(row.tax),
            lines=[
                ExplainedLine(**_line_fields(each.row), derivation=dict(each.derivation))
                for each in explained.lines
            ],
            inputs=dict(explained.inputs),
            content_hash=explained.content_hash,
        )
