"""Discounts: of the catalogue, of subscriptions and customers, and how they stack."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, ConfigDict, Field, model_validator
from pydantic.config import JsonDict
from sqlalchemy import Row

from subledger.core.calendar import MAX_COUNT
from subledger.core.discounts import MOST_NAMES, Exclusive, Order, Split
from subledger.core.money import Money
from subledger.platform.http.fields import (
    Code,
    CurrencyCode,
    ExactDecimal,
    Flag,
    Name,
    PositiveAmountMinor,
    Quantity,
    Strict,
    Text,
    Timestamp,
    plain,
)
from subledger.services.billing.schemas.references import (
    CustomerId,
    DiscountId,
    PromotionCodeId,
    SubscriptionId,
)
from subledger.services.billing.usecases.discounts import NewDiscount, Stacking, discount_of

MOST_AMOUNTS = 200
"""More than there are currencies in use."""


def _percent(value: Decimal) -> Decimal:
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and -exponent > 6:
        raise ValueError("a percentage has at most 6 decimals")
    if not 0 < value <= 100:
        raise ValueError("a percentage lies above 0 and up to 100")
    return value


def _unique(values: list[str]) -> list[str]:
    if len(set(values)) != len(values):
        raise ValueError("each name is given once")
    return values


class Amount(Strict):
    """An amount in minor units of one currency."""

    currency: CurrencyCode
    amount_minor: PositiveAmountMinor

    def money(self) -> Money:
        return Money(self.amount_minor, self.currency)


Amounts = Annotated[list[Amount], Field(max_length=MOST_AMOUNTS)]
LineName = Annotated[Text, Field(min_length=1, max_length=80)]
LineNames = Annotated[list[LineName], AfterValidator(_unique), Field(max_length=MOST_NAMES)]

_NEW: JsonDict = {
    "code": "spring",
    "name": "Spring offer",
    "percent": "20",
    "duration": "periods",
    "periods": 3,
}
_SCOPED: JsonDict = {
    "code": "seats-off",
    "name": "Five euros off seats until summer",
    "amount_minor": 500,
    "currency": "EUR",
    "other_amounts": [{"currency": "USD", "amount_minor": 600}],
    "duration": "forever",
    "until_at": "2026-06-01T00:00:00Z",
    "applies_to": ["price:seats", "plan:pro"],
}
_DEFAULTS: JsonDict = {
    "percent": None,
    "amount_minor": None,
    "currency": None,
    "other_amounts": [],
    "free_units": None,
    "periods": None,
    "months": None,
    "until_at": None,
    "applies_to": [],
    "spread": "line",
    "exclusive": False,
    "carried": False,
    "prorated": False,
    "caps": [],
    "cap_for_life": False,
}
_DISCOUNT: JsonDict = {
    "id": "disc_01h455vb4pex5vsknk084sn02q",
    **_DEFAULTS,
    **_NEW,
    "kind": "percent",
    "created_at": "2026-03-01T12:00:00Z",
    "archived_at": None,
}


class DiscountNew(Strict):
    """One of ``percent``, ``amount_minor`` (with ``currency``) and ``free_units``, and for how
    long it is taken."""

    model_config = ConfigDict(json_schema_extra={"examples": [_NEW, _SCOPED]})

    code: Code
    name: Name
    percent: Annotated[ExactDecimal, AfterValidator(_percent)] | None = None
    amount_minor: PositiveAmountMinor | None = None
    currency: CurrencyCode | None = None
    other_amounts: Amounts = Field(
        default_factory=list, description="The fixed amount in further currencies."
    )
    free_units: Quantity | None = Field(
        None, description="Units that cost nothing in each period, of the prices in `applies_to`."
    )
    duration: Literal["once", "periods", "forever"] = Field(
        description="For how many periods it is taken; `months` and `until_at` limit it by date."
    )
    periods: Annotated[int, Field(strict=True, ge=1, le=MAX_COUNT)] | None = Field(
        None, description="For how many periods, with the duration `periods`."
    )
    months: Annotated[int, Field(strict=True, ge=1, le=MAX_COUNT)] | None = Field(
        None, description="Only in periods that begin within so many months of the first."
    )
    until_at: Timestamp | None = Field(
        None, description="Only in periods that begin before this moment."
    )
    applies_to: LineNames = Field(
        default_factory=list,
        description="The lines it is taken from, by id (`price_…`, `plan_…`, `prod_…`) or by code"
        " with its kind (`price:seats`, `plan:pro`, `product:cinema`). All of the invoice, if"
        " empty.",
    )
    spread: Literal["line", "invoice"] | None = Field(
        None,
        description="On each line, or once over the invoice and split over its lines. If null, a"
        " percentage and free units are per line, an amount per invoice.",
    )
    exclusive: Flag = Field(False, description="It does not stack with others.")
    carried: Flag = Field(
        False,
        description="An amount taken once that is larger than the invoice is taken further from"
        " the next ones; else the rest is lost.",
    )
    prorated: Flag = Field(
        False, description="The amount is scaled by the part of the period that is billed."
    )
    caps: Amounts = Field(
        default_factory=list, description="The most it takes from one invoice, by currency."
    )
    cap_for_life: Flag = Field(False, description="The cap is for all invoices together.")

    @model_validator(mode="after")
    def _one_kind(self) -> DiscountNew:
        if sum(each is not None for each in (self.percent, self.amount_minor, self.free_units)) > 1:
            raise ValueError("a discount has one of percent, amount_minor and free_units")
        if self.percent is None and self.amount_minor is None and self.free_units is None:
            raise ValueError("a discount has either percent, amount_minor or free_units")
        if (self.currency is None) != (self.amount_minor is None):
            raise ValueError("amount_minor comes with currency, the others without")
        if (self.duration == "periods") != (self.periods is not None):
            raise ValueError("periods comes with the duration periods, and only with it")
        return self

    def new(self, tenant_id: UUID, discount_id: UUID) -> NewDiscount:
        """The discount as the use case takes it."""
        given = dict(self) | {
            "applies_to": tuple(self.applies_to),
            "other_amounts": tuple(each.money() for each in self.other_amounts),
            "caps": tuple(each.money() for each in self.caps),
        }
        return NewDiscount(tenant_id=tenant_id, discount_id=discount_id, **given)


class Discount(Strict):
    """A discount of the catalogue. It never changes, except that it may be archived."""

    model_config = ConfigDict(json_schema_extra={"examples": [_DISCOUNT]})

    id: DiscountId
    code: str
    name: str
    kind: Literal["percent", "fixed", "free_units"]
    percent: str | None
    amount_minor: int | None
    currency: str | None
    other_amounts: list[Amount]
    free_units: str | None
    duration: str
    periods: int | None
    months: int | None
    until_at: Timestamp | None
    applies_to: list[str]
    spread: Literal["line", "invoice"]
    exclusive: bool
    carried: bool
    prorated: bool
    caps: list[Amount]
    cap_for_life: bool
    created_at: Timestamp
    archived_at: Timestamp | None = Field(description="Since when it is attached to nothing new.")

    @classmethod
    def of(cls, row: Row[Any]) -> Discount:
        discount = discount_of(row)
        return cls(
            id=row.id,
            code=row.code,
            name=row.name,
            kind=discount.kind.value,
            percent=None if discount.percent is None else plain(discount.percent),
            amount_minor=discount.amount_minor,
            currency=discount.currency,
            other_amounts=_amounts(discount.other_amounts),
            free_units=None if discount.free_units is None else plain(discount.free_units),
            duration=discount.duration.value,
            periods=discount.periods,
            months=discount.months,
            until_at=discount.until,
            applies_to=sorted(discount.applies_to),
            spread=discount.taken_per.value,
            exclusive=discount.exclusive,
            carried=discount.carried,
            prorated=discount.prorated,
            caps=_amounts(discount.caps),
            cap_for_life=discount.cap_for_life,
            created_at=row.created_at,
            archived_at=row.archived_at,
        )


def _amounts(given: tuple[Money, ...]) -> list[Amount]:
    return [Amount(currency=each.currency, amount_minor=each.amount_minor) for each in given]


class DiscountSettings(Strict):
    """How discounts stack. ``order``: percentages first and the larger before the smaller, or as
    attached. ``exclusive``: where one does not stack, the one that takes most wins, or the first
    attached that takes anything. ``split``: how an amount over several lines is split: by largest
    remainder; each share rounded with the rest on the last line; or each by itself."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"order": "percent_first", "exclusive": "best", "split": "largest_remainder"}
            ]
        }
    )

    order: Literal["percent_first", "as_attached"]
    exclusive: Literal["best", "first"]
    split: Literal["largest_remainder", "last_line", "each"]

    @classmethod
    def of(cls, stacking: Stacking) -> DiscountSettings:
        return cls(
            order=stacking.order.value,
            exclusive=stacking.exclusive.value,
            split=stacking.split.value,
        )

    def stacking(self) -> Stacking:
        """As the engine takes it."""
        return Stacking(Order(self.order), Exclusive(self.exclusive), Split(self.split))


class SubscriptionDiscountNew(Strict):
    """A discount to attach: by its id, or by a promo code."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"discount_id": "disc_01h455vb4pex5vsknk084sn02q"},
                {"promotion_code": "SPRING24"},
            ]
        }
    )

    discount_id: DiscountId | None = None
    promotion_code: Annotated[Text, Field(max_length=200)] | None = None

    @model_validator(mode="after")
    def _one(self) -> SubscriptionDiscountNew:
        if (self.discount_id is None) == (self.promotion_code is None):
            raise ValueError("give either discount_id or promotion_code")
        return self


class SubscriptionDiscount(Strict):
    """A discount that a subscription has or had."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "subscription_id": "sub_01h455vb4pex5vsknk084sn02q",
                    "discount_id": "disc_01h455vb4pex5vsknk084sn02q",
                    "source": "promotion",
                    "promotion_code_id": "promo_01h455vb4pex5vsknk084sn02q",
                    "from_at": None,
                    "until_at": None,
                    "used_periods": 1,
                }
            ]
        }
    )

    subscription_id: SubscriptionId
    discount_id: DiscountId
    source: Literal["direct", "promotion", "customer"] = Field(
        description="By its id, by a promo code, or because the customer has it."
    )
    promotion_code_id: PromotionCodeId | None
    from_at: Timestamp | None = Field(
        description="It is taken in periods that begin then or later; in all, if null."
    )
    until_at: Timestamp | None = Field(
        description="It was taken away: periods that begin then or later are without."
    )
    used_periods: int

    @classmethod
    def of(cls, row: Row[Any]) -> SubscriptionDiscount:
        return cls(
            subscription_id=row.subscription_id,
            discount_id=row.discount_id,
            source=row.source,
            promotion_code_id=row.promotion_id,
            from_at=row.from_at,
            until_at=row.until_at,
            used_periods=row.used_periods,
        )


class CustomerDiscountNew(Strict):
    """A discount for all that a customer pays for."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"discount_id": "disc_01h455vb4pex5vsknk084sn02q"}]}
    )

    discount_id: DiscountId


class CustomerDiscount(Strict):
    """A personal discount: on each of the customer's subscriptions, present and future."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "customer_id": "cus_01h455vb4pex5vsknk084sn02q",
                    "discount_id": "disc_01h455vb4pex5vsknk084sn02q",
                    "added_at": "2026-03-01T12:00:00Z",
                    "removed_at": None,
                }
            ]
        }
    )

    customer_id: CustomerId
    discount_id: DiscountId
    added_at: Timestamp
    removed_at: Timestamp | None

    @classmethod
    def of(cls, row: Row[Any]) -> CustomerDiscount:
        return cls(
            customer_id=row.customer_id,
            discount_id=row.discount_id,
            added_at=row.added_at,
            removed_at=row.removed_at,
        )
