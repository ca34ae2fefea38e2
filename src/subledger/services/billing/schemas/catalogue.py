"""Products, plans with versions and prices."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from pydantic import AfterValidator, ConfigDict, Field, model_validator
from pydantic.config import JsonDict
from sqlalchemy import Row

from subledger.core import calendar, pricing
from subledger.core.calendar import MAX_COUNT
from subledger.core.cycles import MAX_TRIAL_DAYS
from subledger.core.errors import CoreError
from subledger.platform.http.fields import (
    Code,
    CurrencyCode,
    ExactDecimal,
    ExternalId,
    Flag,
    Name,
    PriceAmountMinor,
    Strict,
    Timestamp,
)
from subledger.services.billing.schemas.references import (
    PlanId,
    PlanVersionId,
    PriceId,
    ProductId,
)
from subledger.services.billing.usecases.catalogue import DAY_S, NewPrice

MOST_RESOURCES = 5_000
MOST_PRICES = 200
MOST_PRICES_PER_CURRENCY = 50
"""A billing run has at most as many lines."""
MOST_GRACE_DAYS = 3_650

Resource = ExternalId


def _unique(values: list[str]) -> list[str]:
    if len(set(values)) != len(values):
        raise ValueError("each resource is named once")
    return values


Resources = Annotated[
    list[Resource],
    AfterValidator(_unique),
    Field(max_length=MOST_RESOURCES, description="What the product gives access to."),
]

TaxCategory = Annotated[
    Code,
    Field(description="What kind of product it is for taxes: the category that tax rules name."),
]

_PRODUCT_NEW: JsonDict = {"code": "cinema", "name": "Cinema", "resources": ["film-1", "film-2"]}
_PRODUCT: JsonDict = {
    "id": "prod_01h455vb4pex5vsknk084sn02q",
    **_PRODUCT_NEW,
    "tax_category": None,
    "created_at": "2026-03-01T12:00:00Z",
}


class ProductNew(Strict):
    """Something that is sold by subscription."""

    model_config = ConfigDict(json_schema_extra={"examples": [_PRODUCT_NEW]})

    code: Code
    name: Name
    resources: Resources
    tax_category: TaxCategory | None = None


class ProductChange(Strict):
    """The fields to replace; those left out stay."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"resources": ["film-1"]}]})

    name: Name | None = None
    resources: Resources | None = None
    tax_category: TaxCategory | None = Field(None, description="null removes it.")

    @model_validator(mode="after")
    def _something(self) -> ProductChange:
        if not self.model_fields_set:
            raise ValueError("name at least one field to replace")
        for name in sorted(self.model_fields_set - {"tax_category"}):
            if getattr(self, name) is None:
                raise ValueError(f"{name} cannot be null")
        return self

    def category(self) -> str | None:
        """The tax category to write: empty text removes it, None leaves it."""
        return (self.tax_category or "") if "tax_category" in self.model_fields_set else None


class Product(Strict):
    """A product as it is now."""

    model_config = ConfigDict(json_schema_extra={"examples": [_PRODUCT]})

    id: ProductId
    code: str
    name: str
    resources: list[str]
    tax_category: str | None
    created_at: Timestamp

    @classmethod
    def of(cls, row: Row[Any]) -> Product:
        return cls(
            id=row.id,
            code=row.code,
            name=row.name,
            resources=list(row.resources),
            tax_category=row.tax_category,
            created_at=row.created_at,
        )


class Interval(Strict):
    """How often a price is due: every ``count`` units."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"unit": "month", "count": 1}]})

    unit: Literal["day", "week", "month", "quarter", "half_year", "year"]
    count: Annotated[int, Field(strict=True, ge=1, le=MAX_COUNT)] = 1


def _unit_amount(value: Decimal) -> Decimal:
    pricing.PerUnit(value)
    return value


UnitAmount = Annotated[ExactDecimal, AfterValidator(_unit_amount)]
Model = Literal["flat", "per_unit", "graduated", "volume", "stairstep", "package"]
MOST_TIERS = 100

_PRICE_NEW: JsonDict = {
    "code": "monthly",
    "currency": "EUR",
    "model": "flat",
    "amount_minor": 999,
    "interval": {"unit": "month", "count": 1},
}
_GRADUATED: JsonDict = {
    "code": "seats",
    "currency": "EUR",
    "model": "graduated",
    "tiers": [{"up_to": "10", "unit_amount": "1000"}, {"up_to": None, "unit_amount": "800"}],
    "minimum_minor": 5000,
    "interval": {"unit": "month", "count": 1},
}


class PriceTier(Strict):
    """A tier up to a quantity (inclusive; null: the last, which is open), so much for a unit in it
    and so much at once for being reached."""

    up_to: ExactDecimal | None = None
    unit_amount: UnitAmount = Decimal(0)
    flat_minor: PriceAmountMinor = 0


class PriceTerms(Strict):
    """What a model needs. ``flat``: amount_minor. ``per_unit``: unit_amount. ``graduated`` (each
    unit at the price of its tier), ``volume`` (all units at the price of the tier reached) and
    ``stairstep`` (the flat amount of the tier reached): tiers. ``package``: size, package_amount.
    Unit and package amounts are decimal texts of minor units."""

    amount_minor: PriceAmountMinor | None = None
    unit_amount: UnitAmount | None = None
    tiers: Annotated[list[PriceTier], Field(max_length=MOST_TIERS)] | None = None
    charge_zero: bool | None = Field(
        None, description="False: a quantity of zero does not pay the first tier's flat part."
    )
    size: ExactDecimal | None = Field(None, description="Units in a package.")
    package_amount: UnitAmount | None = None
    free_units: ExactDecimal | None = Field(None, description="Units before the first package.")
    started: Literal["up", "down"] | None = Field(
        None, description="Whether a started package counts whole (`up`, by default) or not."
    )
    included_units: ExactDecimal | None = Field(
        None, description="Units in the price already; only what passes them is priced."
    )
    minimum_minor: PriceAmountMinor | None = Field(None, description="It never costs less.")
    maximum_minor: PriceAmountMinor | None = Field(None, description="It never costs more.")
    most_quantity: ExactDecimal | None = Field(None, description="More is refused.")


class PriceNew(PriceTerms):
    """A price: its model, what the model needs, and how often it is due."""

    model_config = ConfigDict(json_schema_extra={"examples": [_PRICE_NEW, _GRADUATED]})

    code: Code
    currency: CurrencyCode
    model: Model
    interval: Interval
    tax_inclusive: Flag = Field(False, description="Whether taxes are in the price already.")

    @model_validator(mode="after")
    def _one_model(self) -> PriceNew:
        try:
            self._model()
        except CoreError as refused:
            place = refused.pointer or "the price"
            raise ValueError(f"{place}: {refused.detail}. {refused.fix}") from refused
        return self

    def _model(self) -> pricing.PriceModel:
        given = self.model_dump(mode="json", include=set(PriceTerms.model_fields))
        data = {name: value for name, value in given.items() if value is not None}
        return pricing.from_data(self.model, data)

    def new(self) -> NewPrice:
        """The price as the use case takes it."""
        return NewPrice(
            code=self.code,
            currency=self.currency,
            model=self._model(),
            interval=calendar.Interval(calendar.Unit(self.interval.unit), self.interval.count),
            tax_inclusive=self.tax_inclusive,
        )


def _bounded(prices: list[PriceNew]) -> list[PriceNew]:
    for currency in {each.currency for each in prices}:
        if sum(each.currency == currency for each in prices) > MOST_PRICES_PER_CURRENCY:
            raise ValueError(f"at most {MOST_PRICES_PER_CURRENCY} prices in one currency")
    return prices


Prices = Annotated[
    list[PriceNew],
    AfterValidator(_bounded),
    Field(
        min_length=1,
        max_length=MOST_PRICES,
        description="Within one currency every interval is a whole multiple of the shortest.",
    ),
]
GraceDays = Annotated[
    int,
    Field(
        strict=True,
        ge=0,
        le=MOST_GRACE_DAYS,
        description="Days for which access outlives a failed renewal while it is tried again.",
    ),
]
TrialDays = Annotated[
    int,
    Field(
        strict=True,
        ge=0,
        le=MAX_TRIAL_DAYS,
        description="Local days before anything is billed; 0: no trial.",
    ),
]
TrialRequires = Annotated[
    Flag,
    Field(description="A trial begins only for a customer with a saved payment method."),
]


class PlanNew(Strict):
    """A plan with the prices of its first version."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "code": "cinema-basic",
                    "name": "Cinema Basic",
                    "product_id": "prod_01h455vb4pex5vsknk084sn02q",
                    "grace_days": 16,
                    "prices": [_PRICE_NEW],
                }
            ]
        }
    )

    code: Code
    name: Name
    product_id: ProductId
    grace_days: GraceDays = 16
    trial_days: TrialDays = 0
    trial_requires_payment_method: TrialRequires = False
    prices: Prices


class PlanVersionNew(Strict):
    """The prices of the next version, for future subscriptions."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"prices": [_PRICE_NEW]}]})

    grace_days: GraceDays | None = Field(None, description="That of the version before, if null.")
    trial_days: TrialDays | None = Field(None, description="That of the version before, if null.")
    trial_requires_payment_method: Flag | None = Field(
        None, description="That of the version before, if null."
    )
    prices: Prices


class Price(PriceTerms):
    """A price of a plan version."""

    id: PriceId
    code: str
    currency: str
    model: Model
    interval: Interval
    tax_inclusive: bool

    @classmethod
    def of(cls, row: Row[Any]) -> Price:
        return cls(
            **msgspec.json.decode(row.terms),
            id=row.price_id,
            code=row.code,
            currency=row.currency,
            model=row.model,
            interval=Interval(unit=row.interval_unit, count=row.interval_count),
            tax_inclusive=row.tax_inclusive,
        )


_PRICE: JsonDict = {
    "id": "price_01h455vb4pex5vsknk084sn02q",
    **_PRICE_NEW,
    "tax_inclusive": False,
}
_VERSION: JsonDict = {
    "plan_version_id": "plv_01h455vb4pex5vsknk084sn02q",
    "version": 1,
    "grace_days": 16,
    "trial_days": 0,
    "trial_requires_payment_method": False,
    "prices": [_PRICE],
    "created_at": "2026-03-01T12:00:00Z",
}


class PlanVersion(Strict):
    """A version of a plan. It never changes; subscriptions keep theirs."""

    model_config = ConfigDict(json_schema_extra={"examples": [_VERSION]})

    plan_version_id: PlanVersionId
    version: int
    grace_days: int
    trial_days: int
    trial_requires_payment_method: bool
    prices: list[Price]
    created_at: Timestamp

    @classmethod
    def of(cls, row: Row[Any], prices: Iterable[Row[Any]]) -> PlanVersion:
        return cls(
            plan_version_id=row.plan_version_id,
            version=row.version,
            grace_days=row.grace_s // DAY_S,
            trial_days=row.trial_days,
            trial_requires_payment_method=row.trial_requires_payment_method,
            prices=[Price.of(each) for each in prices],
            created_at=row.version_created_at,
        )


class Plan(Strict):
    """A plan with its latest version, the one that new subscriptions get."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "plan_01h455vb4pex5vsknk084sn02q",
                    "code": "cinema-basic",
                    "name": "Cinema Basic",
                    "product_id": "prod_01h455vb4pex5vsknk084sn02q",
                    "latest": _VERSION,
                    "created_at": "2026-03-01T12:00:00Z",
                }
            ]
        }
    )

    id: PlanId
    code: str
    name: str
    product_id: ProductId
    latest: PlanVersion
    created_at: Timestamp

    @classmethod
    def of(cls, row: Row[Any], prices: Iterable[Row[Any]]) -> Plan:
        return cls(
            id=row.id,
            code=row.code,
            name=row.name,
            product_id=row.product_id,
            latest=PlanVersion.of(row, prices),
            created_at=row.created_at,
        )
