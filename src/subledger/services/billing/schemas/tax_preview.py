"""The tax preview: amounts for a customer, or for a buyer who is none yet."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from subledger.platform.http.fields import (
    AmountMinor,
    Code,
    CountryCode,
    Day,
    Flag,
    Strict,
    TimeZoneName,
)
from subledger.services.billing.schemas.customers import RegionCode, TaxId
from subledger.services.billing.schemas.references import CustomerId, ProductId
from subledger.services.billing.schemas.taxes import DOCUMENT_TAX, TaxedDocument, TaxNote
from subledger.services.billing.usecases.tax_preview import Amount, Previewed, Visitor

MOST_PREVIEWED = 100


class PreviewAmount(Strict):
    """An amount after discounts (minor units, negative for a credit), net or with its taxes; for a
    product, or for a category of products."""

    amount_minor: AmountMinor
    product_id: ProductId | None = None
    category: Code | None = None
    tax_inclusive: Flag = False

    @model_validator(mode="after")
    def _one_kind(self) -> PreviewAmount:
        if self.product_id is not None and self.category is not None:
            raise ValueError("give either product_id, which has its category, or category")
        return self


class PreviewBuyer(Strict):
    """A buyer who is no customer yet."""

    country: CountryCode
    region: RegionCode | None = None
    tax_id: TaxId | None = None
    timezone: TimeZoneName = Field("UTC", description="The date of supply is the buyer's.")


_PREVIEW_NEW: JsonDict = {
    "buyer": {"country": "DE"},
    "lines": [{"amount_minor": 999, "category": None, "tax_inclusive": False}],
}


class TaxPreviewNew(Strict):
    """Amounts for a customer, or for a buyer who is none yet."""

    model_config = ConfigDict(json_schema_extra={"examples": [_PREVIEW_NEW]})

    customer_id: CustomerId | None = None
    buyer: PreviewBuyer | None = None
    lines: Annotated[list[PreviewAmount], Field(min_length=1, max_length=MOST_PREVIEWED)]

    @model_validator(mode="after")
    def _one_buyer(self) -> TaxPreviewNew:
        if (self.customer_id is None) == (self.buyer is None):
            raise ValueError("give either customer_id or buyer")
        return self

    def asked(self) -> tuple[Any, list[Amount]]:
        """Buyer and amounts as the use case takes them."""
        amounts = [
            Amount(each.amount_minor, each.product_id, each.category, each.tax_inclusive)
            for each in self.lines
        ]
        if self.buyer is None:
            return self.customer_id, amounts
        visitor = Visitor(
            country=self.buyer.country,
            region=self.buyer.region or "",
            tax_id=self.buyer.tax_id or "",
            timezone=self.buyer.timezone,
        )
        return visitor, amounts


class PreviewTax(Strict):
    """One rate on one line (minor units)."""

    rate_id: str
    name: str
    percent: str
    tax_minor: int


class PreviewLine(Strict):
    """An amount with its taxes (minor units): net + tax = gross."""

    net_minor: int
    tax_minor: int
    gross_minor: int
    reason: str = Field(
        description="standard, reverse_charge, exempt, zero_rated or not_registered"
    )
    taxes: list[PreviewTax]


class PreviewNote(TaxNote):
    """A note in words."""

    text: str


class PreviewDocument(TaxedDocument):
    """The taxes by rate, with the notes in words."""

    notes: list[PreviewNote]


class TaxPreview(Strict):
    """What an invoice of these amounts would carry now (minor units)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "supplied_on": "2026-03-01",
                    "lines": [
                        {
                            "net_minor": 999,
                            "tax_minor": 190,
                            "gross_minor": 1189,
                            "reason": "standard",
                            "taxes": [
                                {
                                    "rate_id": "txr_01h455vb4pex5vsknk084sn02q",
                                    "name": "Umsatzsteuer",
                                    "percent": "19",
                                    "tax_minor": 190,
                                }
                            ],
                        }
                    ],
                    "net_minor": 999,
                    "tax_minor": 190,
                    "gross_minor": 1189,
                    "tax": DOCUMENT_TAX,
                }
            ]
        }
    )

    supplied_on: Day
    lines: list[PreviewLine]
    net_minor: int
    tax_minor: int
    gross_minor: int
    tax: PreviewDocument

    @classmethod
    def of(cls, found: Previewed, tax: dict[str, Any]) -> TaxPreview:
        """``tax`` are the document's taxes with the notes in words."""
        lines = [
            PreviewLine(
                net_minor=line.net_minor,
                tax_minor=line.tax_minor,
                gross_minor=line.gross_minor,
                reason=decision.reason.value,
                taxes=[
                    PreviewTax(
                        rate_id=each.rate.id,
                        name=each.rate.name,
                        percent=each.rate.percent_text,
                        tax_minor=each.tax_minor,
                    )
                    for each in line.taxes
                ],
            )
            for decision, line in zip(found.decisions, found.document.lines, strict=True)
        ]
        return cls(
            supplied_on=found.on,
            lines=lines,
            net_minor=found.document.net_minor,
            tax_minor=found.document.tax_minor,
            gross_minor=found.document.gross_minor,
            tax=PreviewDocument.model_validate(tax),
        )
