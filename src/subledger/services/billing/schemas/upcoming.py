"""What is to come: the lines of a change before it happens, and of the next invoice."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from pydantic import ConfigDict, Field

from subledger.core.timeline import Draft
from subledger.platform.http.fields import Strict, Timestamp
from subledger.services.billing import facts
from subledger.services.billing.schemas.references import (
    PlanId,
    PriceId,
    SubscriptionId,
)
from subledger.services.billing.usecases.planned import Planned


class UpcomingLine(Strict):
    """A line of the next invoice (minor units)."""

    kind: str
    description: str
    price_id: PriceId
    service_start_at: Timestamp
    service_end_at: Timestamp
    quantity: str
    gross_minor: int
    discount_minor: int
    net_minor: int
    tax_minor: int

    @classmethod
    def all_of(cls, draft: Draft, descriptions: Mapping[str, str]) -> list[UpcomingLine]:
        """A draft's lines, described by the id of their price."""
        return [
            cls(
                kind=line.kind,
                description=descriptions[line.price_id],
                price_id=UUID(line.price_id),
                service_start_at=line.service_start_at,
                service_end_at=line.service_end_at,
                quantity=facts.quantity_text(line.quantity),
                gross_minor=line.gross_minor,
                discount_minor=line.discount_minor,
                net_minor=line.net_minor,
                tax_minor=line.tax_minor,
            )
            for line in draft.lines
        ]


class ChangePreview(Strict):
    """What a change would do, computed by the change itself and not saved (minor units)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "subscription_id": "sub_01h455vb4pex5vsknk084sn02q",
                    "effective_at": "2026-03-16T12:00:00Z",
                    "plan_id": "plan_01h455vb4pex5vsknk084sn02q",
                    "quantity": "3",
                    "is_scheduled": False,
                    "restarts_period": False,
                    "current_period_end_at": "2026-04-01T11:00:00Z",
                    "currency": "EUR",
                    "total_minor": 999,
                    "lines": [],
                }
            ]
        }
    )

    subscription_id: SubscriptionId
    effective_at: Timestamp
    plan_id: PlanId
    quantity: str
    is_scheduled: bool = Field(description="It waits for its moment and bills nothing now.")
    restarts_period: bool
    current_period_end_at: Timestamp
    currency: str
    total_minor: int = Field(description="Below zero: more is given back than billed.")
    lines: list[UpcomingLine]

    @classmethod
    def of(cls, planned: Planned, descriptions: Mapping[str, str]) -> ChangePreview:
        draft = planned.draft
        return cls(
            subscription_id=planned.row.id,
            effective_at=planned.effective_at,
            plan_id=planned.terms.plan_id,
            quantity=facts.quantity_text(planned.quantity),
            is_scheduled=planned.waits,
            restarts_period=planned.restarts,
            current_period_end_at=planned.after["current_period_end_at"],
            currency=planned.row.currency,
            total_minor=0 if draft is None else draft.total_minor,
            lines=[] if draft is None else UpcomingLine.all_of(draft, descriptions),
        )


class UpcomingInvoice(Strict):
    """The next invoice as the renewal will make it if nothing changes. No lines: there is none."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "subscription_id": "sub_01h455vb4pex5vsknk084sn02q",
                    "currency": "EUR",
                    "subtotal_minor": 999,
                    "discount_minor": 0,
                    "tax_minor": 0,
                    "total_minor": 999,
                    "period_start_at": "2026-04-01T11:00:00Z",
                    "period_end_at": "2026-05-01T11:00:00Z",
                    "lines": [],
                }
            ]
        }
    )

    subscription_id: SubscriptionId
    currency: str
    subtotal_minor: int
    discount_minor: int
    tax_minor: int
    total_minor: int
    period_start_at: Timestamp | None
    period_end_at: Timestamp | None
    lines: list[UpcomingLine]

    @classmethod
    def of(
        cls, subscription_id: UUID, draft: Draft, descriptions: Mapping[str, str]
    ) -> UpcomingInvoice:
        return cls(
            subscription_id=subscription_id,
            currency=draft.currency,
            subtotal_minor=draft.subtotal_minor,
            discount_minor=draft.discount_minor,
            tax_minor=draft.tax_minor,
            total_minor=draft.total_minor,
            period_start_at=None if draft.period is None else draft.period.start_at,
            period_end_at=None if draft.period is None else draft.period.end_at,
            lines=UpcomingLine.all_of(draft, descriptions),
        )
