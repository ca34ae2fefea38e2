"""Products, plans with versions and prices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, model_validator
from pydantic.config import JsonDict
from sqlalchemy import Row

from subledger.core.cycles import MAX_TRIAL_DAYS
from subledger.platform.http.fields import (
    Code,
    ExternalId,
    Flag,
    Name,
    Strict,
    Timestamp,
)
from subledger.services.billing.schemas.prices import PRICE, PRICE_NEW, Price, Prices
from subledger.services.billing.schemas.references import (
    PlanId,
    PlanVersionId,
    ProductId,
)
from subledger.services.billing.usecases.catalogue import DAY_S

MOST_RESOURCES = 5_000
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
GraceAtStart = Annotated[
    Flag,
    Field(
        description="Of a subscription that begins on a later start day, and whose first payment"
        " fails then: with `true` it is `past_due` with access for the grace days, and dunned, as"
        " a renewal is; without it is `incomplete` and gives no access before it is paid."
    ),
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
                    "prices": [PRICE_NEW],
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
    grace_at_start: GraceAtStart = False
    prices: Prices


class PlanVersionNew(Strict):
    """The prices of the next version, for future subscriptions."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"prices": [PRICE_NEW]}]})

    grace_days: GraceDays | None = Field(None, description="That of the version before, if null.")
    trial_days: TrialDays | None = Field(None, description="That of the version before, if null.")
    trial_requires_payment_method: Flag | None = Field(
        None, description="That of the version before, if null."
    )
    grace_at_start: Flag | None = Field(None, description="That of the version before, if null.")
    prices: Prices


_VERSION: JsonDict = {
    "plan_version_id": "plv_01h455vb4pex5vsknk084sn02q",
    "version": 1,
    "grace_days": 16,
    "trial_days": 0,
    "trial_requires_payment_method": False,
    "grace_at_start": False,
    "prices": [PRICE],
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
    grace_at_start: bool
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
            grace_at_start=row.grace_at_start,
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
