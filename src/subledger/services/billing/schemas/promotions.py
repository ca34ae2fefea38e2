"""Promo codes: what limits them, who redeemed them, whether one would work."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import msgspec
from pydantic import AfterValidator, ConfigDict, Field
from pydantic.config import JsonDict
from sqlalchemy import Row

from subledger.core.money import Money
from subledger.platform.http.fields import (
    CurrencyCode,
    Flag,
    PriceAmountMinor,
    Quantity,
    Strict,
    Text,
    Timestamp,
)
from subledger.services.billing.refusals import REFUSALS
from subledger.services.billing.schemas.references import (
    BatchId,
    CustomerId,
    DiscountId,
    PlanId,
    PromotionCodeId,
    SubscriptionId,
)
from subledger.services.billing.schemas.subscriptions import countable
from subledger.services.billing.texts import say
from subledger.services.billing.usecases.promotions import LENGTH, MOST_GENERATED, Limits

MOST_PLANS = 100
MOST_CURRENCIES = 200
MOST_USES = 10**9

Typed = Annotated[Text, Field(max_length=200)]
Uses = Annotated[int, Field(strict=True, ge=1, le=MOST_USES)]


def _unique(values: list[Any]) -> list[Any]:
    if len(set(values)) != len(values):
        raise ValueError("each is named once")
    return values


class Minimum(Strict):
    """The least that a purchase costs before discounts (minor units)."""

    currency: CurrencyCode
    amount_minor: PriceAmountMinor


_LIMITS: JsonDict = {
    "discount_id": "disc_01h455vb4pex5vsknk084sn02q",
    "most_redemptions": 100,
    "most_per_customer": 1,
    "valid_until_at": "2026-06-01T00:00:00Z",
}
_CODE: JsonDict = {
    "id": "promo_01h455vb4pex5vsknk084sn02q",
    "code": "spring24",
    "discount_id": "disc_01h455vb4pex5vsknk084sn02q",
    "batch_id": None,
    "customer_id": None,
    "plan_ids": [],
    "currencies": [],
    "minimum": [],
    "first_purchase_only": False,
    "most_redemptions": 100,
    "most_per_customer": 1,
    "valid_from_at": None,
    "valid_until_at": "2026-06-01T00:00:00Z",
    "redemptions": 17,
    "created_at": "2026-03-01T12:00:00Z",
    "deactivated_at": None,
}


class CodeLimits(Strict):
    """Which discount a code gives, and what limits it; what is left out does not limit."""

    discount_id: DiscountId
    customer_id: CustomerId | None = Field(None, description="A personal code: for this payer.")
    plan_ids: Annotated[list[PlanId], AfterValidator(_unique), Field(max_length=MOST_PLANS)] = (
        Field(default_factory=list, description="Only for these plans.")
    )
    currencies: Annotated[
        list[CurrencyCode], AfterValidator(_unique), Field(max_length=MOST_CURRENCIES)
    ] = Field(default_factory=list, description="Only in these currencies.")
    minimum: Annotated[list[Minimum], Field(max_length=MOST_CURRENCIES)] = Field(
        default_factory=list,
        description="What a full period must cost before discounts, by currency; only in these.",
    )
    first_purchase_only: Flag = Field(
        False,
        description="Only for a customer who has bought nothing. A purchase under way counts until"
        " it is canceled or expires.",
    )
    most_redemptions: Uses | None = Field(None, description="Of one code, in total.")
    most_per_customer: Uses | None = Field(None, description="Of one code, by one customer.")
    valid_from_at: Timestamp | None = None
    valid_until_at: Timestamp | None = Field(None, description="Not valid from then on.")

    def limits(self, tenant_id: UUID) -> Limits:
        """As the use case takes them."""
        return Limits(
            tenant_id=tenant_id,
            discount_id=self.discount_id,
            customer_id=self.customer_id,
            plan_ids=tuple(self.plan_ids),
            currencies=tuple(self.currencies),
            minimum=tuple(Money(each.amount_minor, each.currency) for each in self.minimum),
            first_purchase_only=self.first_purchase_only,
            most_redemptions=self.most_redemptions,
            most_per_customer=self.most_per_customer,
            valid_from_at=self.valid_from_at,
            valid_until_at=self.valid_until_at,
        )


class PromotionCodeNew(CodeLimits):
    """A code with its limits."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"code": "SPRING24", **_LIMITS}]})

    code: Typed | None = Field(
        None,
        description="3 to 64 letters A to Z, digits and hyphens; case and spaces do not matter."
        " Generated, if null.",
    )


class PromotionCodesNew(CodeLimits):
    """Codes that nobody guesses, each with the limits for itself."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"n": 1000, "prefix": "SUMMER", **_LIMITS}]}
    )

    n: Annotated[int, Field(strict=True, ge=1, le=MOST_GENERATED)]
    prefix: Typed = Field("", description="Each code is the prefix, a hyphen and the rest.")
    length: Annotated[int, Field(strict=True, ge=1, le=64)] = Field(
        LENGTH, description="Characters after the prefix."
    )


class PromotionCode(Strict):
    """A promo code as it is now."""

    model_config = ConfigDict(json_schema_extra={"examples": [_CODE]})

    id: PromotionCodeId
    code: str
    discount_id: DiscountId
    batch_id: BatchId | None
    customer_id: CustomerId | None
    plan_ids: list[PlanId]
    currencies: list[str]
    minimum: list[Minimum]
    first_purchase_only: bool
    most_redemptions: int | None
    most_per_customer: int | None
    valid_from_at: Timestamp | None
    valid_until_at: Timestamp | None
    redemptions: int = Field(description="Those given back are not counted.")
    created_at: Timestamp
    deactivated_at: Timestamp | None

    @classmethod
    def of(cls, row: Row[Any]) -> PromotionCode:
        return cls(
            id=row.id,
            code=row.code,
            discount_id=row.discount_id,
            batch_id=row.batch_id,
            customer_id=row.customer_id,
            plan_ids=list(row.plan_ids),
            currencies=list(row.currencies),
            minimum=[
                Minimum(currency=currency, amount_minor=minor)
                for currency, minor in msgspec.json.decode(row.minimum)
            ],
            first_purchase_only=row.first_purchase_only,
            most_redemptions=row.most_redemptions,
            most_per_customer=row.most_per_customer,
            valid_from_at=row.valid_from_at,
            valid_until_at=row.valid_until_at,
            redemptions=row.redemptions,
            created_at=row.created_at,
            deactivated_at=row.deactivated_at,
        )


class PromotionCodes(Strict):
    """Codes that were generated together. ``batch_id`` finds them in the list."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "batch_id": "batch_01h455vb4pex5vsknk084sn02q",
                    "codes": ["summer-3k9m0x7ztq2v", "summer-8h1c5wd0p4rn"],
                }
            ]
        }
    )

    batch_id: BatchId
    codes: list[str] = Field(max_length=MOST_GENERATED)

    @classmethod
    def of(cls, batch_id: UUID, codes: Sequence[str]) -> PromotionCodes:
        return cls(batch_id=batch_id, codes=list(codes))


class Redemption(Strict):
    """A code that was used for a subscription."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "promotion_code_id": "promo_01h455vb4pex5vsknk084sn02q",
                    "customer_id": "cus_01h455vb4pex5vsknk084sn02q",
                    "subscription_id": "sub_01h455vb4pex5vsknk084sn02q",
                    "redeemed_at": "2026-03-01T12:00:00Z",
                    "released_at": None,
                }
            ]
        }
    )

    promotion_code_id: PromotionCodeId
    customer_id: CustomerId
    subscription_id: SubscriptionId
    redeemed_at: Timestamp
    released_at: Timestamp | None = Field(
        description="The purchase came to nothing and the redemption was given back."
    )

    @classmethod
    def of(cls, row: Row[Any]) -> Redemption:
        return cls(
            promotion_code_id=row.promotion_id,
            customer_id=row.customer_id,
            subscription_id=row.id,
            redeemed_at=row.redeemed_at,
            released_at=row.released_at,
        )


class CodeCheckNew(Strict):
    """A purchase with a code, as it would be."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "code": "SPRING24",
                    "customer_id": "cus_01h455vb4pex5vsknk084sn02q",
                    "plan_id": "plan_01h455vb4pex5vsknk084sn02q",
                }
            ]
        }
    )

    code: Typed
    customer_id: CustomerId
    plan_id: PlanId
    currency: CurrencyCode | None = Field(None, description="The customer's own, if null.")
    quantity: Annotated[Quantity, AfterValidator(countable)] = Decimal(1)


class Said(Strict):
    """A text in each language."""

    en: str
    ru: str


class CodeCheck(Strict):
    """Whether the code would work now; nothing is reserved."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "is_usable": False,
                    "reason": "expired",
                    "text": {"en": REFUSALS["expired"], "ru": say(REFUSALS["expired"], "ru")},
                    "promotion_code_id": None,
                    "discount_id": None,
                }
            ]
        }
    )

    is_usable: bool
    reason: str | None = Field(
        description="Why not: " + ", ".join(f"`{each}`" for each in sorted(REFUSALS)) + "."
    )
    text: Said | None = Field(description="The reason in words.")
    promotion_code_id: PromotionCodeId | None
    discount_id: DiscountId | None

    @classmethod
    def of(cls, reason: str | None, row: Row[Any] | None) -> CodeCheck:
        text = None
        if reason is not None:
            said = REFUSALS[reason]
            text = Said(en=say(said, "en"), ru=say(said, "ru"))
        return cls(
            is_usable=reason is None,
            reason=reason,
            text=text,
            promotion_code_id=None if row is None else row.id,
            discount_id=None if row is None else row.discount_id,
        )
