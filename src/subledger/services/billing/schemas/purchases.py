"""What a purchase would cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import ConfigDict, Field

from subledger.platform.http.fields import Strict, Timestamp
from subledger.services.billing.schemas.references import PlanId, PlanVersionId
from subledger.services.billing.schemas.upcoming import UpcomingLine
from subledger.services.billing.usecases.subscribe import Prepared


class PurchasePreview(Strict):
    """A purchase as it would happen, computed by the purchase itself and not saved (minor
    units)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "status": "trialing",
                    "plan_id": "plan_01h455vb4pex5vsknk084sn02q",
                    "plan_version_id": "plv_01h455vb4pex5vsknk084sn02q",
                    "currency": "EUR",
                    "timezone": "Europe/Berlin",
                    "started_at": "2026-03-01T12:00:00Z",
                    "trial_end_at": "2026-03-15T12:00:00Z",
                    "billed_at": "2026-03-15T12:00:00Z",
                    "period_start_at": "2026-03-15T12:00:00Z",
                    "period_end_at": "2026-04-15T11:00:00Z",
                    "subtotal_minor": 999,
                    "discount_minor": 0,
                    "tax_minor": 0,
                    "total_minor": 999,
                    "due_now_minor": 0,
                    "lines": [],
                }
            ]
        }
    )

    status: Literal["incomplete", "active", "trialing", "pending"] = Field(
        description="Before its first payment: `incomplete`, `active` if nothing is to be paid now,"
        " or what it waits for."
    )
    plan_id: PlanId
    plan_version_id: PlanVersionId
    currency: str
    timezone: str
    started_at: Timestamp
    trial_end_at: Timestamp | None
    billed_at: Timestamp = Field(description="When the first invoice is made.")
    period_start_at: Timestamp = Field(description="What the first invoice covers.")
    period_end_at: Timestamp
    subtotal_minor: int
    discount_minor: int
    tax_minor: int
    total_minor: int = Field(description="Of the first invoice, before credit pays for it.")
    due_now_minor: int = Field(description="The total, or zero if nothing is billed yet.")
    lines: list[UpcomingLine] = Field(description="Of the first invoice.")

    @classmethod
    def of(cls, made: Prepared, descriptions: Mapping[str, str]) -> PurchasePreview:
        draft, opened = made.draft, made.opening
        assert draft.period is not None, "the first period is in sight"
        return cls(
            status=opened.waits or ("incomplete" if draft.total_minor > 0 else "active"),
            plan_id=made.terms.plan_id,
            plan_version_id=made.terms.plan_version_id,
            currency=draft.currency,
            timezone=made.row["timezone"],
            started_at=made.row["started_at"],
            trial_end_at=made.row["trial_end_at"],
            billed_at=max(made.at, opened.bills_from_at),
            period_start_at=opened.bills_from_at,
            period_end_at=draft.period.end_at,
            subtotal_minor=draft.subtotal_minor,
            discount_minor=draft.discount_minor,
            tax_minor=draft.tax_minor,
            total_minor=draft.total_minor,
            due_now_minor=0 if opened.waits else draft.total_minor,
            lines=UpcomingLine.all_of(draft, descriptions),
        )
