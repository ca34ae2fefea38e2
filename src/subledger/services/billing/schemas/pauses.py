"""Pauses, ends and new beginnings of subscriptions: what is asked for, what a preview shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.config import JsonDict

from subledger.core.timeline import Draft
from subledger.platform.http.fields import Flag, Strict, Text, Timestamp
from subledger.services.billing.schemas.references import SubscriptionId
from subledger.services.billing.schemas.subscriptions import web_address
from subledger.services.billing.schemas.upcoming import UpcomingLine
from subledger.services.billing.usecases.pause import PlannedPause
from subledger.services.billing.usecases.resume import PlannedResume

MOST_COMMENT = 500

CancelReason = Literal[
    "too_expensive",
    "missing_features",
    "low_quality",
    "too_complex",
    "customer_service",
    "switched_service",
    "unused",
    "moved_away",
    "fraud",
    "other",
]


class Cancel(Strict):
    """When the subscription ends, and why."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"when": "period_end", "reason": "too_expensive"},
                {"when": "now", "credit_unused": True},
                {"at": "2026-03-16T12:00:00Z", "credit_unused": True},
            ]
        }
    )

    when: Literal["now", "period_end"] | None = Field(None, description="This or `at`.")
    at: Timestamp | None = Field(
        None,
        description="A moment from now to ten years ahead. A later period that it cuts is billed"
        " cut.",
    )
    credit_unused: Flag = Field(
        False,
        description="The rest of the period that was paid becomes the customer's credit. At the"
        " period's end nothing is unused.",
    )
    reason: CancelReason | None = None
    comment: Annotated[Text, Field(min_length=1, max_length=MOST_COMMENT)] | None = Field(
        None, description="The customer's own words. No event repeats them."
    )


class Pause(Strict):
    """From when until when, and what becomes of what was paid for."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"at": "now", "credit": "extend"},
                {"at": "period_end", "credit": "none", "resume_at": "2026-06-01T00:00:00Z"},
            ]
        }
    )

    at: Literal["now", "period_end"] | Timestamp = Field(
        description="A moment from now to ten years ahead, or in words."
    )
    credit: Literal["none", "credit", "extend"] = Field(
        description="`credit`: the unused part of the period becomes the customer's credit, and"
        " what is left of the period at the resumption is charged anew. `extend`: nothing is given"
        " back, and the period ends later by the length of the pause. `none`: neither."
    )
    resume_at: Timestamp | None = Field(None, description="Null: until it is resumed by hand.")


class Resume(Strict):
    """When a paused subscription goes on."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"at": "now"}]})

    at: Literal["now"] | Timestamp = "now"


class Reactivate(Strict):
    """With what an ended subscription goes on."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"version": "newest"}]})

    version: Literal["same", "newest"] = Field(
        "same", description="Of its plan. Where the period that was paid goes on, nothing changes."
    )
    collection: Literal["automatic", "page"] = Field(
        "automatic", description="How the first payment is made, as for a new subscription."
    )
    return_url: Annotated[Text, AfterValidator(web_address), Field(max_length=2_000)] | None = (
        Field(None, description="Where the hosted page sends the customer afterwards.")
    )


_PREVIEW: JsonDict = {
    "subscription_id": "sub_01h455vb4pex5vsknk084sn02q",
    "effective_at": "2026-03-16T12:00:00Z",
    "is_scheduled": False,
    "period_is_over": False,
    "current_period_end_at": "2026-04-01T11:00:00Z",
    "currency": "EUR",
    "total_minor": -499,
    "lines": [],
}


class PausePreview(Strict):
    """What a pause or a resumption would do, computed by itself and not saved (minor units)."""

    model_config = ConfigDict(json_schema_extra={"examples": [_PREVIEW]})

    subscription_id: SubscriptionId
    effective_at: Timestamp
    is_scheduled: bool = Field(description="It waits for its moment and bills nothing now.")
    current_period_end_at: Timestamp
    period_is_over: bool = Field(
        description="Nothing is left of the period at the resumption: what comes at its end, the"
        " renewal as a rule, follows in the same moment."
    )
    currency: str
    total_minor: int = Field(description="Below zero: given back as credit.")
    lines: list[UpcomingLine]

    @classmethod
    def of(
        cls, planned: PlannedPause | PlannedResume, descriptions: Mapping[str, str]
    ) -> PausePreview:
        draft: Draft | None = planned.draft
        resumes = isinstance(planned, PlannedResume) and not planned.waits
        after = planned.after if isinstance(planned, PlannedResume) else planned.row._asdict()
        return cls(
            subscription_id=planned.row.id,
            effective_at=planned.from_at,
            is_scheduled=planned.waits,
            current_period_end_at=after["current_period_end_at"],
            period_is_over=resumes and after["current_period_end_at"] <= planned.from_at,
            currency=planned.row.currency,
            total_minor=0 if draft is None else draft.total_minor,
            lines=[] if draft is None else UpcomingLine.all_of(draft, descriptions),
        )
