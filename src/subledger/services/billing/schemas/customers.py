"""Customers, their balances and statements."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator
from pydantic.config import JsonDict
from sqlalchemy import Row

from subledger.platform.http.fields import (
    CountryCode,
    CurrencyCode,
    Email,
    ExternalId,
    LocaleTag,
    Name,
    Strict,
    Text,
    Timestamp,
    TimeZoneName,
)
from subledger.services.billing.schemas.references import CustomerId, InvoiceId, TaxRateId
from subledger.services.billing.usecases.statement import Entry, Standing
from subledger.services.billing.vat_ids import MOST_LETTERS

MOST_AGREED_RATES = 8
"""A line has at most as many taxes."""


def _each_once(values: list[Any]) -> list[Any]:
    if len(set(values)) != len(values):
        raise ValueError("each tax rate is named once")
    return values


RegionCode = Annotated[
    str,
    Field(
        pattern=r"^[A-Z0-9]{1,3}$",
        description="What follows the hyphen in the ISO 3166-2 code: CA of US-CA.",
        examples=["CA"],
    ),
]
TaxId = Annotated[
    Text,
    Field(
        min_length=1,
        max_length=MOST_LETTERS,
        description="A VAT id of an EU member or of Northern Ireland, of the customer's own"
        " country. Its form and check digits are checked; nobody is asked whether it is in use.",
        examples=["DE136695976"],
    ),
]
ExemptReason = Annotated[
    Name,
    Field(description="Why no purchase of the customer is taxed, as its invoices say it."),
]
TaxRateIds = Annotated[
    list[TaxRateId],
    AfterValidator(_each_once),
    Field(
        max_length=MOST_AGREED_RATES,
        description="Rates agreed with the customer, which take the place of the rules'.",
    ),
]

_NEW: JsonDict = {
    "external_id": "viewer-17",
    "name": "Ada Lovelace",
    "email": "ada@example.com",
    "currency": "EUR",
    "timezone": "Europe/Berlin",
    "locale": "en",
    "country": "DE",
}
_CUSTOMER: JsonDict = {
    "id": "cus_01h455vb4pex5vsknk084sn02q",
    **_NEW,
    "region": None,
    "tax_id": "DE136695976",
    "tax_id_check": "format",
    "tax_id_checked_at": "2026-03-01T12:00:00Z",
    "tax_exempt_reason": None,
    "tax_rate_ids": [],
    "created_at": "2026-03-01T12:00:00Z",
}


class CustomerNew(Strict):
    """A paying customer: contacts, currency, time zone."""

    model_config = ConfigDict(json_schema_extra={"examples": [_NEW]})

    external_id: ExternalId | None = Field(
        None, description="Your own id of the customer, unique; our id if left out."
    )
    name: Name
    email: Email
    currency: CurrencyCode
    timezone: TimeZoneName
    locale: LocaleTag = "en"
    country: CountryCode | None = None
    region: RegionCode | None = None
    tax_id: TaxId | None = None
    tax_exempt_reason: ExemptReason | None = None
    tax_rate_ids: TaxRateIds = Field(default_factory=list)


_REMOVABLE = frozenset({"country", "region", "tax_id", "tax_exempt_reason"})


class CustomerChange(Strict):
    """The fields to replace; those left out stay."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"email": "ada@example.org"}]})

    name: Name | None = None
    email: Email | None = None
    currency: CurrencyCode | None = Field(None, description="Only while nothing was billed.")
    timezone: TimeZoneName | None = Field(
        None, description="Running periods keep their ends; the next ones are counted in it."
    )
    locale: LocaleTag | None = None
    country: CountryCode | None = Field(None, description="null removes it.")
    region: RegionCode | None = Field(None, description="null removes it.")
    tax_id: TaxId | None = Field(None, description="null removes it.")
    tax_exempt_reason: ExemptReason | None = Field(None, description="null removes it.")
    tax_rate_ids: TaxRateIds | None = None

    @model_validator(mode="after")
    def _something(self) -> CustomerChange:
        if not self.model_fields_set:
            raise ValueError("name at least one field to replace")
        for name in sorted(self.model_fields_set - _REMOVABLE):
            if getattr(self, name) is None:
                raise ValueError(f"{name} cannot be null")
        return self

    def changes(self) -> dict[str, Any]:
        """Column → value of the fields given."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        for name in _REMOVABLE & given.keys():
            given[name] = given[name] or ""
        return given


class Customer(Strict):
    """A customer as it is now."""

    model_config = ConfigDict(json_schema_extra={"examples": [_CUSTOMER]})

    id: CustomerId
    external_id: str
    name: str
    email: str
    currency: str
    timezone: str
    locale: str
    country: str | None
    region: str | None
    tax_id: str | None = Field(description="In its normal form.")
    tax_id_check: Literal["format"] | None = Field(
        description="How the id was checked: `format` is its form and check digits."
    )
    tax_id_checked_at: Timestamp | None
    tax_exempt_reason: str | None
    tax_rate_ids: list[TaxRateId]
    created_at: Timestamp

    @classmethod
    def of(cls, row: Row[Any]) -> Customer:
        return cls(
            id=row.id,
            external_id=row.external_id,
            name=row.name,
            email=row.email,
            currency=row.currency,
            timezone=row.timezone,
            locale=row.locale,
            country=row.country or None,
            region=row.region or None,
            tax_id=row.tax_id or None,
            tax_id_check=row.tax_id_check or None,
            tax_id_checked_at=row.tax_id_checked_at,
            tax_exempt_reason=row.tax_exempt_reason or None,
            tax_rate_ids=list(row.tax_rate_ids),
            created_at=row.created_at,
        )


class Balance(Strict):
    """How a customer stands in one currency (minor units). Above zero the customer owes you."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "currency": "EUR",
                    "receivable_minor": 999,
                    "credit_minor": 0,
                    "unapplied_minor": 0,
                    "balance_minor": 999,
                }
            ]
        }
    )

    currency: str
    receivable_minor: int = Field(description="What the customer owes on open invoices.")
    credit_minor: int = Field(description="Credits that the customer can still use.")
    unapplied_minor: int = Field(description="Money received that pays for nothing yet.")
    balance_minor: int = Field(description="receivable − credit − unapplied")

    @classmethod
    def of(cls, standing: Standing) -> Balance:
        return cls(
            currency=standing.currency,
            receivable_minor=standing.receivable_minor,
            credit_minor=standing.credit_minor,
            unapplied_minor=standing.unapplied_minor,
            balance_minor=standing.balance_minor,
        )


class Balances(Strict):
    """A customer's personal account, by currency."""

    customer_id: CustomerId
    balances: list[Balance]


class StatementEntry(Strict):
    """One entry of the personal account. ``balance_minor`` is the currency's balance after it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "occurred_at": "2026-03-01T12:00:00Z",
                    "kind": "finalized",
                    "ledger": "receivable",
                    "invoice_id": "inv_01h455vb4pex5vsknk084sn02q",
                    "invoice_number": "INV-000001",
                    "currency": "EUR",
                    "debit_minor": 999,
                    "credit_minor": 0,
                    "balance_minor": 999,
                }
            ]
        }
    )

    occurred_at: Timestamp
    kind: Annotated[
        str,
        Field(
            description="finalized, paid, unapplied, applied, account_applied, voided, written_off,"
            " recovered, credit_note, credit_note_voided, adjusted,"
            " refunded (behind a note), credit_refunded, refund_failed, unapplied_credited,"
            " payment_reversed",
        ),
    ]
    ledger: str
    invoice_id: InvoiceId | None
    invoice_number: str | None
    currency: str
    debit_minor: int
    credit_minor: int
    balance_minor: int

    @classmethod
    def of(cls, entry: Entry) -> StatementEntry:
        return cls(
            occurred_at=entry.occurred_at,
            kind=entry.kind,
            ledger=entry.ledger,
            invoice_id=entry.invoice_id,
            invoice_number=entry.invoice_number,
            currency=entry.currency,
            debit_minor=entry.debit_minor,
            credit_minor=entry.credit_minor,
            balance_minor=entry.balance_minor,
        )


class Statement(Strict):
    """Opening balance, entries, closing balance. Opening and closing are those of the whole span,
    on every page."""

    customer_id: CustomerId
    from_at: Timestamp
    to_at: Timestamp = Field(description="Not included.")
    opening: list[Balance]
    closing: list[Balance]
    entries: list[StatementEntry]
    has_more: bool
    next_cursor: str | None
