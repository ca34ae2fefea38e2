"""Prices: their models, when and how often they are billed."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic.config import JsonDict
from sqlalchemy import Row

from subledger.core import calendar, pricing
from subledger.core.calendar import MAX_COUNT
from subledger.core.errors import CoreError
from subledger.core.pricing.matrix import MOST_DIMENSIONS, MOST_LETTERS, MOST_RATES
from subledger.core.timeline import Timing
from subledger.platform.http.fields import (
    Code,
    CurrencyCode,
    ExactDecimal,
    Flag,
    PriceAmountMinor,
    Strict,
    Text,
)
from subledger.services.billing.schemas.references import PriceId
from subledger.services.billing.usecases.catalogue import NewPrice

MOST_PRICES = 200
MOST_PRICES_PER_CURRENCY = 50
"""A billing run has at most as many lines."""


class Interval(Strict):
    """How often a price is due: every ``count`` units."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"unit": "month", "count": 1}]})

    unit: Literal["day", "week", "month", "quarter", "half_year", "year"]
    count: Annotated[int, Field(strict=True, ge=1, le=MAX_COUNT)] = 1


def _unit_amount(value: Decimal) -> Decimal:
    pricing.PerUnit(value)
    return value


UnitAmount = Annotated[ExactDecimal, AfterValidator(_unit_amount)]
Model = Literal[
    "flat",
    "per_unit",
    "graduated",
    "volume",
    "stairstep",
    "package",
    "percentage",
    "graduated_percentage",
    "dynamic",
    "matrix",
    "commitment",
]
OF_USE = frozenset({"percentage", "graduated_percentage", "dynamic", "matrix"})
"""Models of what was used in a period, which is known at its end."""
MOST_TIERS = 100
MOST_STEPS = 20

PRICE_NEW: JsonDict = {
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
    unit_amount: UnitAmount | None = Field(None, description="0, if null.")
    rate_percent: ExactDecimal | None = Field(None, description="Of `graduated_percentage`.")
    flat_minor: PriceAmountMinor = 0

    @model_serializer(mode="wrap")
    def _of_its_kind(self, told: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A tier tells of units or of percentages."""
        other = "unit_amount" if self.rate_percent is not None else "rate_percent"
        return {name: value for name, value in told(self).items() if name != other}


class PriceRate(Strict):
    """The unit amount of one combination of values, in the order of the dimensions."""

    values: Annotated[
        list[Annotated[Text, Field(max_length=MOST_LETTERS)]], Field(max_length=MOST_DIMENSIONS)
    ]
    unit_amount: UnitAmount


class PriceTerms(Strict):
    """What a model needs. ``flat``: amount_minor. ``per_unit``: unit_amount. ``graduated`` (each
    unit at the price of its tier), ``volume`` (all units at the price of the tier reached) and
    ``stairstep`` (the flat amount of the tier reached): tiers. ``package``: size, package_amount.
    ``percentage``: rate_percent, and per event what else it names. ``graduated_percentage``: tiers
    with rate_percent. ``dynamic`` (the amount is in the event): multiplier. ``matrix``: dimensions,
    rates. ``commitment`` (what all other prices of the period together lack of it):
    commitment_minor. Unit and package amounts are decimal texts of minor units."""

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
    rate_percent: ExactDecimal | None = Field(None, description="Of the amount of the events.")
    event_amount: UnitAmount | None = Field(None, description="Fixed part for each event.")
    free_events: Annotated[int, Field(strict=True, ge=0)] | None = Field(
        None, description="Events that cost nothing, the first of the period."
    )
    free_total_minor: PriceAmountMinor | None = Field(
        None, description="Amount of events that costs nothing, the first of the period."
    )
    event_minimum_minor: PriceAmountMinor | None = Field(None, description="Least per event.")
    event_maximum_minor: PriceAmountMinor | None = Field(None, description="Most per event.")
    multiplier: ExactDecimal | None = None
    dimensions: (
        Annotated[
            list[Annotated[Text, Field(max_length=MOST_LETTERS)]],
            Field(min_length=1, max_length=MOST_DIMENSIONS),
        ]
        | None
    ) = None
    rates: Annotated[list[PriceRate], Field(max_length=MOST_RATES)] | None = None
    default_unit_amount: UnitAmount | None = Field(
        None, description="Of combinations without a rate; without it they are refused."
    )
    commitment_minor: PriceAmountMinor | None = None
    included_units: ExactDecimal | None = Field(
        None, description="Units in the price already; only what passes them is priced."
    )
    minimum_minor: PriceAmountMinor | None = Field(None, description="It never costs less.")
    maximum_minor: PriceAmountMinor | None = Field(None, description="It never costs more.")
    most_quantity: ExactDecimal | None = Field(None, description="More is refused.")


class RampStep(PriceTerms):
    """What a price is from a later period on."""

    from_period: Annotated[int, Field(strict=True, ge=1, le=MAX_COUNT)] = Field(
        description="Counted from 0, where the cycle begins."
    )
    model: Model


def model_of(kind: str, given: PriceTerms) -> pricing.PriceModel:
    """The model that was told. Raises ValueError with the place and what to mend."""
    data = given.model_dump(mode="json", include=set(PriceTerms.model_fields), exclude_none=True)
    try:
        return pricing.from_data(kind, data)
    except CoreError as refused:
        place = refused.pointer or "the price"
        raise ValueError(f"{place}: {refused.detail}. {refused.fix}") from refused


class PriceNew(PriceTerms):
    """A price: its model, what the model needs, and how often it is due."""

    model_config = ConfigDict(json_schema_extra={"examples": [PRICE_NEW, _GRADUATED]})

    code: Code
    currency: CurrencyCode
    model: Model
    interval: Interval
    timing: Literal["advance", "arrears", "once"] = Field(
        "advance",
        description="`advance`: at its period's start. `arrears`: at its end. `once`: where the"
        " subscription starts, as a set-up fee.",
    )
    metered: Flag = Field(
        False,
        description="The quantity is what was used in the period"
        " (PUT /v1/subscriptions/{id}/quantities), not the subscription's.",
    )
    ramp: Annotated[list[RampStep], Field(max_length=MOST_STEPS)] = Field(
        default_factory=list, description="Other terms from later periods of the cycle on."
    )
    tax_inclusive: Flag = Field(False, description="Whether taxes are in the price already.")

    @model_validator(mode="after")
    def _one_model(self) -> PriceNew:
        self._model()
        self._ramp()
        if self.metered and self.timing != "arrears":
            raise ValueError("what is metered is billed in arrears: say timing arrears")
        if self.model in OF_USE and not self.metered:
            raise ValueError(f"{self.model} is a price of what was used: say metered true")
        if self.model == "commitment" and (self.metered or self.timing != "arrears"):
            raise ValueError("a commitment is trued up in arrears and not metered")
        return self

    def _model(self) -> pricing.PriceModel:
        return model_of(self.model, self)

    def _ramp(self) -> tuple[tuple[int, pricing.PriceModel], ...]:
        steps = [each.from_period for each in self.ramp]
        if steps != sorted(set(steps)):
            raise ValueError("the steps of a ramp begin one after another")
        return tuple((each.from_period, model_of(each.model, each)) for each in self.ramp)

    def new(self) -> NewPrice:
        """The price as the use case takes it."""
        return NewPrice(
            code=self.code,
            currency=self.currency,
            model=self._model(),
            interval=calendar.Interval(calendar.Unit(self.interval.unit), self.interval.count),
            timing=Timing(self.timing),
            metered=self.metered,
            tax_inclusive=self.tax_inclusive,
            ramp=self._ramp(),
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


class Price(PriceTerms):
    """A price of a plan version."""

    id: PriceId
    code: str
    currency: str
    model: Model
    interval: Interval
    timing: Literal["advance", "arrears", "once"]
    metered: bool
    ramp: list[RampStep]
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
            timing=row.timing,
            metered=row.metered,
            ramp=[
                RampStep(from_period=each["from_period"], model=each["model"], **each["terms"])
                for each in msgspec.json.decode(row.ramp)
            ],
            tax_inclusive=row.tax_inclusive,
        )


PRICE: JsonDict = {
    "id": "price_01h455vb4pex5vsknk084sn02q",
    **PRICE_NEW,
    "timing": "advance",
    "metered": False,
    "ramp": [],
    "tax_inclusive": False,
}
