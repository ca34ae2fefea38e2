"""What was used in a period, and prices agreed with a customer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import msgspec
from pydantic import ConfigDict, Field, model_validator
from pydantic.config import JsonDict
from sqlalchemy import Row

from subledger.core import pricing
from subledger.platform.http.fields import ExactDecimal, Strict, Text, Timestamp
from subledger.services.billing.schemas.prices import Model, PriceTerms, model_of
from subledger.services.billing.schemas.references import PriceId

MOST_EVENTS = 1_000
MOST_PARTS = 1_000
_USED: JsonDict = {"price_id": "price_01h455vb4pex5vsknk084sn02q", "quantity": "301"}


class PartUsed(Strict):
    """Units of one combination of a matrix price's dimensions."""

    values: Annotated[list[Annotated[Text, Field(max_length=100)]], Field(max_length=8)]
    quantity: ExactDecimal


class Used(Strict):
    """What the running period used of a metered price, in the way that the price reads it. It
    replaces what was said of the period before."""

    model_config = ConfigDict(json_schema_extra={"examples": [_USED]})

    price_id: PriceId
    quantity: ExactDecimal | None = Field(
        None, description="Units; of a percentage or dynamic price the sum of amounts (minor)."
    )
    event_count: Annotated[int, Field(strict=True, ge=0, le=10**15)] | None = Field(
        None, description="How many events the quantity is of."
    )
    event_amounts: Annotated[list[ExactDecimal], Field(max_length=MOST_EVENTS)] | None = Field(
        None, description="The amount of each event (minor units) in the order of time."
    )
    by_dimensions: Annotated[list[PartUsed], Field(max_length=MOST_PARTS)] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Used:
        given = (self.quantity, self.event_amounts, self.by_dimensions)
        if sum(each is not None for each in given) != 1:
            raise ValueError("give quantity, or event_amounts, or by_dimensions")
        if self.event_count is not None and self.quantity is None:
            raise ValueError("event_count goes with quantity")
        return self

    def usage(self) -> pricing.Usage:
        """As the core reads it."""
        if self.event_amounts is not None:
            return pricing.Usage(event_amounts=tuple(self.event_amounts))
        if self.by_dimensions is not None:
            found: dict[tuple[str, ...], Decimal] = {}
            for each in self.by_dimensions:
                found[tuple(each.values)] = (
                    found.get(tuple(each.values), Decimal(0)) + each.quantity
                )
            return pricing.Usage(by_dimensions=found)
        return pricing.Usage(self.quantity or Decimal(0), event_count=self.event_count)

    def data(self) -> str:
        """As it is stored (JSON text)."""
        told = self.model_dump(mode="json", exclude={"price_id"}, exclude_none=True)
        return msgspec.json.encode(told).decode()


class UsedQuantity(Strict):
    """What was said of one period."""

    price_id: PriceId
    period_start_at: Timestamp
    used: dict[str, Any]
    recorded_at: Timestamp


class UsedQuantities(Strict):
    """What a subscription used, the latest period first; at most 100 entries."""

    data: list[UsedQuantity]

    @classmethod
    def of(cls, rows: Sequence[Row[Any]]) -> UsedQuantities:
        return cls(
            data=[
                UsedQuantity(
                    price_id=row.price_id,
                    period_start_at=row.period_start_at,
                    used=msgspec.json.decode(row.used),
                    recorded_at=row.recorded_at,
                )
                for row in rows
            ]
        )


class AgreedPrice(PriceTerms):
    """What a customer pays in place of a price of the catalogue."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "flat", "amount_minor": 799}]}
    )

    model: Model

    @model_validator(mode="after")
    def _possible(self) -> AgreedPrice:
        model_of(self.model, self)
        return self

    def wanted(self) -> pricing.PriceModel:
        """The model that was told."""
        return model_of(self.model, self)


class AgreedPriceRead(PriceTerms):
    """An agreement, and since when it holds."""

    price_id: PriceId
    from_at: Timestamp
    model: Model


class AgreedPrices(Strict):
    """The prices agreed with a customer, the earliest first."""

    data: list[AgreedPriceRead]

    @classmethod
    def of(cls, found: Sequence[tuple[UUID, datetime, pricing.PriceModel]]) -> AgreedPrices:
        return cls(
            data=[
                AgreedPriceRead.model_validate(
                    {
                        "price_id": price_id,
                        "from_at": from_at,
                        "model": pricing.kind_of(model),
                        **pricing.to_data(model),
                    }
                )
                for price_id, from_at, model in found
            ]
        )


class OneOffCharge(Strict):
    """A price of the catalogue with timing ``once``, billed now."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"price_id": "price_01h455vb4pex5vsknk084sn02q", "quantity": "1"}]
        }
    )

    price_id: PriceId
    quantity: ExactDecimal = Decimal(1)
