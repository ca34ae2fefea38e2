"""Tax settings, rates and rules; the taxes of a document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic.config import JsonDict
from sqlalchemy import Row

from subledger.platform.http.fields import (
    Code,
    CountryCode,
    Day,
    ExactDecimal,
    Flag,
    Name,
    Strict,
    Text,
    Timestamp,
    plain,
)
from subledger.services.billing.schemas.customers import RegionCode
from subledger.services.billing.schemas.references import TaxRateId, TaxRuleId
from subledger.services.billing.usecases.tax_settings import NewRate, NewRule, Settings
from subledger.services.billing.vat_ids import MOST_LETTERS

RateRounding = Literal["per_tax", "per_line", "per_document"]
TreatmentName = Literal["taxed", "zero_rated", "exempt"]

_SETTINGS: JsonDict = {
    "country": "DE",
    "region": None,
    "vat_id": "DE136695976",
    "registered": True,
    "below_eu_threshold": False,
    "rounding": "per_tax",
    "ties": "half_up",
    "provider": "builtin",
}


class TaxSettingsNew(Strict):
    """Who sells, and how taxes are rounded. With settings, invoices carry tax."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SETTINGS]})

    country: CountryCode = Field(description="Where the seller is established.")
    region: RegionCode | None = None
    vat_id: (
        Annotated[
            Text,
            Field(
                min_length=1,
                max_length=MOST_LETTERS,
                description="The seller's, for invoices; checked by form and check digits within"
                " the EU, shown as it is elsewhere.",
            ),
        ]
        | None
    ) = None
    registered: Flag = Field(True, description="False: a small business that charges no tax.")
    below_eu_threshold: Flag = Field(
        False,
        description="Sales to consumers in other EU members stay below EUR 10,000 a year, so they"
        " are taxed at home.",
    )
    rounding: RateRounding = Field(
        "per_tax",
        description="What is rounded once: each tax on the document, each tax on each line, or all"
        " taxes of the document together.",
    )
    ties: Literal["half_up", "half_even"] = Field(
        "half_up", description="Where a half goes: away from zero, or to the even neighbour."
    )
    provider: Code = Field(
        "builtin", description="Who decides taxes: `builtin` goes by your own rules."
    )

    def settings(self) -> Settings:
        """The settings as the use case takes them."""
        return Settings(
            country=self.country,
            region=self.region or "",
            vat_id=(self.vat_id or "").strip(),
            registered=self.registered,
            below_eu_threshold=self.below_eu_threshold,
            rounding=self.rounding,
            ties=self.ties,
            provider=self.provider,
        )


class TaxSettings(TaxSettingsNew):
    """Tax settings as they are now."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{**_SETTINGS, "updated_at": "2026-03-01T12:00:00Z"}]}
    )

    updated_at: Timestamp

    @classmethod
    def of(cls, row: Row[Any]) -> TaxSettings:
        return cls(
            country=row.country,
            region=row.region or None,
            vat_id=row.vat_id or None,
            registered=row.registered,
            below_eu_threshold=row.below_eu_threshold,
            rounding=row.rounding,
            ties=row.ties,
            provider=row.provider,
            updated_at=row.updated_at,
        )


_RATE_NEW: JsonDict = {
    "code": "de-19",
    "name": "Umsatzsteuer",
    "percent": "19",
    "country": "DE",
}
_RATE: JsonDict = {
    "id": "txr_01h455vb4pex5vsknk084sn02q",
    **_RATE_NEW,
    "region": None,
    "levy": "vat",
    "compound": False,
    "created_at": "2026-03-01T12:00:00Z",
}


class TaxRateNew(Strict):
    """A percentage of one tax in one place. It never changes: a new percentage is a new rate."""

    model_config = ConfigDict(json_schema_extra={"examples": [_RATE_NEW]})

    code: Code
    name: Name = Field(description="As invoices call the tax; of an exempt rule, why it is exempt.")
    percent: ExactDecimal = Field(description="0 to 1000, with at most 12 decimals.")
    country: CountryCode
    region: RegionCode | None = None
    levy: Code = Field(
        "vat",
        description="Which tax it is: rates of one levy replace one another, the more special one"
        " holds; those of different levies hold together (a state's and a county's sales tax).",
    )
    compound: Flag = Field(False, description="Taken of the net amount and of the taxes before it.")

    def new(self) -> NewRate:
        """The rate as the use case takes it."""
        return NewRate(
            code=self.code,
            name=self.name,
            percent=self.percent,
            country=self.country,
            region=self.region or "",
            levy=self.levy,
            compound=self.compound,
        )


class TaxRate(Strict):
    """A tax rate."""

    model_config = ConfigDict(json_schema_extra={"examples": [_RATE]})

    id: TaxRateId
    code: str
    name: str
    percent: str
    country: str
    region: str | None
    levy: str
    compound: bool
    created_at: Timestamp

    @classmethod
    def of(cls, row: Row[Any]) -> TaxRate:
        return cls(
            id=row.id,
            code=row.code,
            name=row.name,
            percent=plain(row.percent),
            country=row.country,
            region=row.region or None,
            levy=row.levy,
            compound=row.compound,
            created_at=row.created_at,
        )


_RULE: JsonDict = {
    "id": "tru_01h455vb4pex5vsknk084sn02q",
    "rate": _RATE,
    "category": None,
    "treatment": "taxed",
    "from_on": "2026-04-01",
    "until_on": None,
    "created_at": "2026-03-01T12:00:00Z",
}


class TaxRuleNew(Strict):
    """Where, for what and when a rate holds: a rate that exists, or a new one made with the rule.

    Of one levy the most special rule holds: a region's before its country's, then one for the
    product's category before one for all.
    """

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"rate": _RATE_NEW, "from_on": "2026-04-01"}]}
    )

    tax_rate_id: TaxRateId | None = Field(None, description="A rate that exists.")
    rate: TaxRateNew | None = Field(None, description="A new rate.")
    category: Code | None = Field(
        None, description="Of products; without it, all that have no rule of their own."
    )
    treatment: TreatmentName = Field(
        "taxed", description="`zero_rated` and `exempt` take a rate of 0 percent."
    )
    from_on: Day | None = Field(None, description="The first local day; since ever, if null.")
    until_on: Day | None = Field(None, description="The first day on which it no longer holds.")

    @model_validator(mode="after")
    def _one_rate(self) -> TaxRuleNew:
        if (self.tax_rate_id is None) == (self.rate is None):
            raise ValueError("a rule has either tax_rate_id or rate")
        return self

    def new(self) -> NewRule:
        """The rule as the use case takes it."""
        rate = self.tax_rate_id if self.rate is None else self.rate.new()
        assert rate is not None, "a rule has a rate"
        return NewRule(
            rate=rate,
            category=self.category or "",
            treatment=self.treatment,
            from_on=self.from_on,
            until_on=self.until_on,
        )


class TaxRuleEnd(Strict):
    """The first day on which a rule no longer holds; at or before its first day, it never holds."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"until_on": "2026-07-01"}]})

    until_on: Day


class TaxRule(Strict):
    """A tax rule with its rate."""

    model_config = ConfigDict(json_schema_extra={"examples": [_RULE]})

    id: TaxRuleId
    rate: TaxRate
    category: str | None
    treatment: TreatmentName
    from_on: Day | None
    until_on: Day | None
    created_at: Timestamp

    @classmethod
    def of(cls, row: Row[Any]) -> TaxRule:
        return cls(
            id=row.id,
            rate=TaxRate(
                id=row.tax_rate_id,
                code=row.rate_code,
                name=row.rate_name,
                percent=plain(row.percent),
                country=row.country,
                region=row.region or None,
                levy=row.levy,
                compound=row.compound,
                created_at=row.rate_created_at,
            ),
            category=row.category or None,
            treatment=row.treatment,
            from_on=row.from_on,
            until_on=row.until_on,
            created_at=row.created_at,
        )


# --- the taxes of a document --------------------------------------------------------------------

_PARTY: JsonDict = {"country": "DE", "region": None, "vat_id": "DE136695976"}
DOCUMENT_TAX: JsonDict = {
    "seller": _PARTY,
    "buyer": {"country": "DE", "region": None, "vat_id": None},
    "rounding": "per_tax",
    "rates": [
        {
            "rate_id": "txr_01h455vb4pex5vsknk084sn02q",
            "name": "Umsatzsteuer",
            "levy": "vat",
            "percent": "19",
            "country": "DE",
            "region": None,
            "reason": "standard",
            "base_minor": 999,
            "tax_minor": 190,
        }
    ],
    "notes": [],
}


class TaxParty(Strict):
    """Seller or buyer, as they were when the document was made."""

    country: str | None
    region: str | None
    vat_id: str | None


class TaxTotal(Strict):
    """One rate over the document (minor units): what the percentage is of, and the tax."""

    rate_id: str = Field(
        description="The tax rate; `reverse_charge` or `exempt` for a base that is not taxed."
    )
    name: str
    levy: str | None
    percent: str
    country: str
    region: str | None
    reason: str = Field(description="standard, reverse_charge, exempt or zero_rated")
    base_minor: int
    tax_minor: int


class TaxNote(Strict):
    """Why something is not taxed, which the invoice has to say."""

    reason: str = Field(description="reverse_charge, exempt, zero_rated or not_registered")
    note_key: str
    exempt_reason: str | None


class TaxedDocument(Strict):
    """A document's parties and its taxes by rate."""

    seller: TaxParty
    buyer: TaxParty
    rounding: RateRounding = Field(description="What was rounded once.")
    rates: list[TaxTotal]


class DocumentTax(TaxedDocument):
    """The taxes of a document by rate, with the ids that its taxation rests on."""

    model_config = ConfigDict(json_schema_extra={"examples": [DOCUMENT_TAX]})

    notes: list[TaxNote]
