"""Changes of a whole plan: previews, migrations, what became of each subscription."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic.config import JsonDict
from sqlalchemy import Row

from subledger.platform.http.fields import Strict, Text, Timestamp
from subledger.services.billing import facts
from subledger.services.billing.schemas.prices import Interval, Prices
from subledger.services.billing.schemas.references import (
    CustomerId,
    PlanId,
    PlanMigrationId,
    PlanVersionId,
    SubscriptionId,
)
from subledger.services.billing.usecases import plan_preview, plan_routes

MOST_NOTE = 500
MigrationStatus = Literal["running", "paused", "canceled", "finished"]
Outcome = Literal["pending", "changed", "scheduled", "skipped", "failed"]

VersionNumber = Annotated[int, Field(strict=True, ge=1, le=2**31 - 1)]
_FROM = Field(None, description="Only those on this version; on any but the target, if null.")
_TO_PLAN = Field(None, description="The same plan, if null.")
_TO = Field(None, description="A version of the plan gone to; its newest, if null.")
_AT: Any = Field(
    "period_end",
    description="`period_end`: each when its paid period is over. `now`: at once, with the rest of"
    " the period billed anew.",
)
_SETTLE: Any = Field("auto", description="As in a change of one subscription.")

_PLAN = "plan_01h455vb4pex5vsknk084sn02q"
_VERSION = "plv_01h455vb4pex5vsknk084sn02q"
_TOTAL: JsonDict = {
    "currency": "EUR",
    "subscriptions": 120,
    "up": 120,
    "down": 0,
    "same": 0,
    "difference_minor": 12000,
    "mrr_before_minor": 119880,
    "mrr_after_minor": 131880,
    "mrr_difference_minor": 12000,
}


class PlanChangeNew(Strict):
    """Where the plan's subscriptions would go: a version that exists, or `prices` of one that does
    not yet; and when."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"at": "period_end"},
                {
                    "at": "now",
                    "from_version": 1,
                    "prices": [
                        {
                            "code": "monthly",
                            "currency": "EUR",
                            "model": "flat",
                            "amount_minor": 1099,
                            "interval": {"unit": "month", "count": 1},
                        }
                    ],
                },
            ]
        }
    )

    from_version: VersionNumber | None = _FROM
    to_plan_id: PlanId | None = _TO_PLAN
    to_version: VersionNumber | None = _TO
    prices: Prices | None = Field(
        None, description="A version as it would be with these prices; it is not saved."
    )
    at: Literal["period_end", "now"] = _AT
    settle: Literal["auto", "now", "next_invoice"] = _SETTLE

    @model_validator(mode="after")
    def _one_target(self) -> PlanChangeNew:
        if self.prices is not None and self.to_version is not None:
            raise ValueError("give to_version, or prices of a version that is not there yet")
        return self


class PlanMigrationNew(Strict):
    """Which subscriptions move to which version, and when."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "plan_id": _PLAN,
                    "from_version": 1,
                    "at": "period_end",
                    "note": "New prices from May",
                }
            ]
        }
    )

    plan_id: PlanId
    from_version: VersionNumber | None = _FROM
    to_plan_id: PlanId | None = _TO_PLAN
    to_version: VersionNumber | None = _TO
    at: Literal["period_end", "now"] = _AT
    settle: Literal["auto", "now", "next_invoice"] = _SETTLE
    note: Annotated[Text, Field(max_length=MOST_NOTE)] | None = Field(
        None, description="Why, for people."
    )


class Reason(Strict):
    """Why a subscription does not change."""

    code: str
    detail: str


class PlanTotal(Strict):
    """What changes in one currency (minor units)."""

    model_config = ConfigDict(json_schema_extra={"examples": [_TOTAL]})

    currency: str
    subscriptions: int = Field(description="Those that change.")
    up: int = Field(description="They pay more, by what it comes to in a month.")
    down: int
    same: int
    difference_minor: int = Field(
        description="Per period, summed over those whose interval stays, before tax."
    )
    mrr_before_minor: int = Field(
        description="Monthly recurring revenue, before tax: a year counts 12 months, 52 weeks or"
        " 365 days; rounded once."
    )
    mrr_after_minor: int
    mrr_difference_minor: int = Field(description="What is after less what was before.")

    @classmethod
    def of(cls, total: plan_routes.Total) -> PlanTotal:
        return cls(**_fields_of(total))


def _fields_of(total: plan_routes.Total) -> dict[str, Any]:
    return {
        "currency": total.currency,
        "subscriptions": total.subscriptions,
        "up": total.up,
        "down": total.down,
        "same": total.same,
        "difference_minor": total.difference_minor,
        "mrr_before_minor": total.mrr_before_minor,
        "mrr_after_minor": total.mrr_after_minor,
        "mrr_difference_minor": total.mrr_after_minor - total.mrr_before_minor,
    }


class ForeseenChange(Strict):
    """What the change would do to one subscription (minor units), or the `reason` why it cannot."""

    subscription_id: SubscriptionId
    customer_id: CustomerId
    plan_version_id: PlanVersionId = Field(description="The one that it is on.")
    status: str
    quantity: str
    currency: str
    reason: Reason | None
    effective_at: Timestamp | None
    restarts_period: bool = Field(description="The interval differs: a new period begins.")
    before_minor: int | None = Field(
        description="What the next period costs as it is, before tax, after its discounts, without"
        " usage. Where prices have several intervals: all of them once round (a year, with yearly"
        " prices beside monthly ones), as `before_interval` says."
    )
    before_interval: Interval | None
    after_minor: int | None
    after_interval: Interval | None
    difference_minor: int | None = Field(description="Null if the intervals differ.")
    immediate_minor: int = Field(
        description="The lines that the change makes when it is made, with `now`: credit for the"
        " rest of the period and its new charge."
    )
    is_invoiced_at_once: bool = Field(description="Else these lines are on the next invoice.")

    @classmethod
    def of(cls, foreseen: plan_preview.Foreseen) -> ForeseenChange:
        row, compared, planned = foreseen.row, foreseen.compared, foreseen.planned
        reason = foreseen.reason
        return cls(
            subscription_id=row.id,
            customer_id=row.payer_id,
            plan_version_id=row.plan_version_id,
            status=row.status,
            quantity=facts.quantity_text(row.quantity),
            currency=row.currency,
            reason=None if reason is None else Reason(code=reason[0], detail=reason[1]),
            effective_at=None if planned is None else planned.effective_at,
            restarts_period=planned is not None and planned.restarts,
            before_minor=None if compared is None else compared.before_minor,
            before_interval=None if compared is None else _interval(compared.before),
            after_minor=None if compared is None else compared.after_minor,
            after_interval=None if compared is None else _interval(compared.after),
            difference_minor=None if compared is None else compared.difference_minor,
            immediate_minor=foreseen.immediate_minor,
            is_invoiced_at_once=planned is not None and planned.invoices_now,
        )


def _interval(interval: Any) -> Interval:
    return Interval(unit=interval.unit.value, count=interval.count)


class ReasonCount(Strict):
    """How many cannot change for one reason."""

    code: str
    subscriptions: int


class PlanChangePreview(Strict):
    """A change of a plan, computed and not saved: sums over all, one page in detail."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "plan_id": _PLAN,
                    "to_plan_id": _PLAN,
                    "to_version": 2,
                    "at": "period_end",
                    "settle": "auto",
                    "subscriptions": 121,
                    "is_complete": True,
                    "totals": [_TOTAL],
                    "cannot_change": [{"code": "change_scheduled", "subscriptions": 1}],
                    "data": [],
                    "has_more": False,
                    "next_cursor": None,
                }
            ]
        }
    )

    plan_id: PlanId
    to_plan_id: PlanId
    to_version: int | None = Field(description="Null: `prices` that are not saved.")
    at: Literal["period_end", "now"]
    settle: Literal["auto", "now", "next_invoice"]
    subscriptions: int = Field(description="Summed, those that cannot change included.")
    is_complete: bool = Field(
        description=f"False: there are more than {plan_preview.MOST_SUMMED:,}; the sums are of the"
        " first, by id."
    )
    totals: list[PlanTotal]
    cannot_change: list[ReasonCount] = Field(
        description="By reason. What only the computation of an invoice tells (invoice_still_open,"
        " too many lines) is in `data` alone."
    )
    data: list[ForeseenChange]
    has_more: bool
    next_cursor: str | None


class MigrationTotal(PlanTotal):
    """What a migration has changed so far in one currency (minor units)."""

    immediate_minor: int = Field(
        description="The lines that the changes made when they were made, with tax, invoiced at"
        " once or on the next invoice."
    )

    @classmethod
    def of(cls, total: plan_routes.Total) -> MigrationTotal:
        return cls(**_fields_of(total), immediate_minor=total.immediate_minor)


class Progress(Strict):
    """How far a migration has come: pending + changed + scheduled + skipped + failed = found."""

    found: int = Field(description="Subscriptions that were on the versions left at the start.")
    is_listed: bool = Field(description="False: some are still to be found.")
    pending: int
    changed: int
    scheduled: int = Field(description="They change when their period is over.")
    skipped: int
    failed: int


class PlanMigration(Strict):
    """The subscriptions of a plan on their way to another version."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "mig_01h455vb4pex5vsknk084sn02q",
                    "plan_id": _PLAN,
                    "from_version": 1,
                    "to_plan_id": _PLAN,
                    "to_plan_version_id": _VERSION,
                    "to_version": 2,
                    "at": "period_end",
                    "settle": "auto",
                    "note": "New prices from May",
                    "status": "finished",
                    "progress": {
                        "found": 121,
                        "is_listed": True,
                        "pending": 0,
                        "changed": 0,
                        "scheduled": 120,
                        "skipped": 1,
                        "failed": 0,
                    },
                    "totals": [{**_TOTAL, "immediate_minor": 0}],
                    "created_at": "2026-04-01T12:00:00Z",
                    "ended_at": "2026-04-01T12:00:00Z",
                }
            ]
        }
    )

    id: PlanMigrationId
    plan_id: PlanId
    from_version: int | None
    to_plan_id: PlanId
    to_plan_version_id: PlanVersionId
    to_version: int
    at: Literal["period_end", "now"]
    settle: Literal["auto", "now", "next_invoice"]
    note: str | None
    status: MigrationStatus
    progress: Progress
    totals: list[MigrationTotal]
    created_at: Timestamp
    ended_at: Timestamp | None

    @classmethod
    def of(cls, row: Row[Any], totals: list[plan_routes.Total]) -> PlanMigration:
        done = row.changed + row.scheduled + row.skipped + row.failed
        return cls(
            id=row.id,
            plan_id=row.plan_id,
            from_version=row.from_version,
            to_plan_id=row.to_plan_id,
            to_plan_version_id=row.to_version_id,
            to_version=row.to_version,
            at=row.effective,
            settle=row.settle,
            note=row.note,
            status=row.status,
            progress=Progress(
                found=row.subscriptions_found,
                is_listed=row.is_listed,
                pending=row.subscriptions_found - done,
                changed=row.changed,
                scheduled=row.scheduled,
                skipped=row.skipped,
                failed=row.failed,
            ),
            totals=[MigrationTotal.of(each) for each in totals],
            created_at=row.created_at,
            ended_at=row.ended_at,
        )


class MigrationResult(Strict):
    """What became of one subscription (minor units)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "subscription_id": "sub_01h455vb4pex5vsknk084sn02q",
                    "outcome": "scheduled",
                    "reason": None,
                    "from_plan_version_id": _VERSION,
                    "currency": "EUR",
                    "effective_at": "2026-05-01T11:00:00Z",
                    "before_minor": 999,
                    "after_minor": 1099,
                    "immediate_minor": 0,
                    "recorded_at": "2026-04-01T12:00:00Z",
                }
            ]
        }
    )

    subscription_id: SubscriptionId
    outcome: Outcome = Field(
        description="`pending`: not done yet. `skipped`: left alone, because it ended, waits for"
        " its first payment or for another change, ends with its period, or was changed by someone"
        " else. `failed`: its change was refused."
    )
    reason: Reason | None
    from_plan_version_id: PlanVersionId
    currency: str
    effective_at: Timestamp | None
    before_minor: int | None
    after_minor: int | None
    immediate_minor: int | None
    recorded_at: Timestamp | None

    @classmethod
    def of(cls, row: Row[Any]) -> MigrationResult:
        return cls(
            subscription_id=row.subscription_id,
            outcome=row.outcome,
            reason=None if row.reason is None else Reason(code=row.reason, detail=row.detail),
            from_plan_version_id=row.from_version_id,
            currency=row.currency,
            effective_at=row.effective_at,
            before_minor=row.before_minor,
            after_minor=row.after_minor,
            immediate_minor=row.immediate_minor,
            recorded_at=row.recorded_at,
        )
