"""The guard: limits, forecasts, parks, kill switches, and who changed them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Annotated, Any, Literal

import msgspec
from pydantic import ConfigDict, Field, field_validator
from pydantic.config import JsonDict
from sqlalchemy import Row

from subledger.platform.http.fields import (
    CurrencyCode,
    Flag,
    PriceAmountMinor,
    Strict,
    Timestamp,
    Whole,
)
from subledger.services.billing.schemas.invoices import Reason
from subledger.services.billing.schemas.references import ParkId, SubscriptionId, WorkItemId
from subledger.services.billing.store import holds
from subledger.services.billing.usecases.forecast import CurrencyExpected, DayExpected
from subledger.services.billing.usecases.forecast import Forecast as Forecasted
from subledger.services.billing.usecases.guard import Limits, Sums

Job = Literal["renewals", "collections", "dunning"]
MOST_CURRENCIES = 50
_LIMIT: JsonDict = {
    "currency": "EUR",
    "largest_minor": 50000,
    "total_minor": 10000000,
    "average_minor": 2000,
    "count": 20000,
}
_SUMS: JsonDict = {
    "count": 2,
    "total_minor": 1998,
    "average_minor": 999,
    "largest_minor": 999,
}
_BEYOND: JsonDict = {"limit": "total_minor", "most": 5000, "would_be": 19980}


class BillingLimit(Strict):
    """What the invoices of one currency may come to; null is no limit."""

    currency: CurrencyCode
    largest_minor: PriceAmountMinor | None = Field(None, description="One invoice.")
    total_minor: PriceAmountMinor | None = Field(None, description="All invoices of a UTC day.")
    average_minor: PriceAmountMinor | None = Field(
        None, description="The day's total by the day's count."
    )
    count: Annotated[Whole, Field(ge=0, le=10**12)] | None = Field(
        None, description="How many invoices a UTC day has."
    )

    def limits(self) -> Limits:
        return Limits(self.largest_minor, self.total_minor, self.average_minor, self.count)

    @classmethod
    def of(cls, row: Row[Any]) -> BillingLimit:
        return cls(currency=row.currency, **Limits.of(row).told())


def _each_once(limits: Sequence[BillingLimit]) -> None:
    if len({each.currency for each in limits}) < len(limits):
        raise ValueError("a currency is named twice")


class BillingLimitsNew(Strict):
    """All limits of the tenant: what is left out has none."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"limits": [_LIMIT], "reason": "twice a usual day"}]}
    )

    limits: list[BillingLimit] = Field(max_length=MOST_CURRENCIES)
    reason: Reason

    @field_validator("limits")
    @classmethod
    def _distinct(cls, value: list[BillingLimit]) -> list[BillingLimit]:
        _each_once(value)
        return value

    def by_currency(self) -> dict[str, Limits]:
        return {each.currency: each.limits() for each in self.limits}


class BillingLimits(Strict):
    """The tenant's limits, by currency. A tenant has none until it sets some."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"limits": [_LIMIT]}]})

    limits: list[BillingLimit]


class InvoiceSums(Strict):
    """Invoices taken together (minor units); the average is rounded down."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SUMS]})

    count: int
    total_minor: int
    average_minor: int
    largest_minor: int

    @classmethod
    def of_sums(cls, sums: Sums) -> InvoiceSums:
        return cls(**sums.told())


class Beyond(Strict):
    """A limit that would be exceeded: what it allows, and what would be."""

    model_config = ConfigDict(json_schema_extra={"examples": [_BEYOND]})

    limit: str
    most: int
    would_be: int


class ForecastDay(InvoiceSums):
    """What a UTC day would bill beside what it has billed already."""

    day: date
    largest_subscription_id: SubscriptionId | None
    billed: InvoiceSums
    beyond: list[Beyond]

    @classmethod
    def of(cls, given: DayExpected) -> ForecastDay:
        return cls(
            **given.expected.told(),
            day=given.day,
            largest_subscription_id=given.expected.largest_of,
            billed=InvoiceSums.of_sums(given.billed),
            beyond=[Beyond(**each) for each in given.beyond],
        )


class ForecastCurrency(InvoiceSums):
    """What would be billed in one currency, and what was in as long a span before."""

    currency: str
    largest_subscription_id: SubscriptionId | None
    before: InvoiceSums
    limits: BillingLimit
    days: list[ForecastDay]

    @classmethod
    def of(cls, given: CurrencyExpected) -> ForecastCurrency:
        return cls(
            **given.expected.told(),
            currency=given.currency,
            largest_subscription_id=given.expected.largest_of,
            before=InvoiceSums.of_sums(given.before),
            limits=BillingLimit(currency=given.currency, **given.limits.told()),
            days=[ForecastDay.of(each) for each in given.days],
        )


class LeftOut(Strict):
    """What the figures do not hold, and how often that is known to happen; null: nobody knows it
    yet. ``purchases``, changes and one-off charges that are still to be made; ``usage`` that is not
    recorded yet; ``unpaid_purchases``, whose renewals follow their first payment; ``parked``
    subscriptions, until they are released; ``endings`` in the span, with a last invoice; ``pauses``
    that begin or end in it, with what they give back or charge again; ``changes`` inside a period
    (as ``changes_left_out``)."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"what": "endings", "count": 1}]})

    what: Literal[
        "purchases", "usage", "unpaid_purchases", "parked", "endings", "pauses", "changes"
    ]
    count: int | None

    @classmethod
    def all_of(cls, given: Forecasted) -> list[LeftOut]:
        return [
            cls(what="purchases", count=None),
            cls(what="usage", count=None),
            cls(what="unpaid_purchases", count=given.unpaid),
            cls(what="parked", count=given.parked),
            cls(what="endings", count=given.endings),
            cls(what="pauses", count=given.pauses),
            cls(what="changes", count=given.differences),
        ]


class BillingForecast(Strict):
    """What renewals would bill from the tenant's now until a moment if nothing else happens."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "from_at": "2026-03-01T12:00:00Z",
                    "until_at": "2026-03-02T12:00:00Z",
                    "before_from_at": "2026-02-28T12:00:00Z",
                    "before_until_at": "2026-03-01T12:00:00Z",
                    "is_estimate": False,
                    "subscriptions": 2,
                    "computed_subscriptions": 2,
                    "refused_subscriptions": 0,
                    "first_invoices": 0,
                    "changes_left_out": 0,
                    "left_out": [{"what": "endings", "count": 1}],
                    "currencies": [
                        {
                            **_SUMS,
                            "currency": "EUR",
                            "largest_subscription_id": "sub_01h455vb4pex5vsknk084sn02q",
                            "before": _SUMS,
                            "limits": _LIMIT,
                            "days": [
                                {
                                    **_SUMS,
                                    "day": "2026-03-02",
                                    "largest_subscription_id": "sub_01h455vb4pex5vsknk084sn02q",
                                    "billed": {
                                        "count": 0,
                                        "total_minor": 0,
                                        "average_minor": 0,
                                        "largest_minor": 0,
                                    },
                                    "beyond": [],
                                }
                            ],
                        }
                    ],
                }
            ]
        }
    )

    from_at: Timestamp
    until_at: Timestamp
    before_from_at: Timestamp = Field(description="The span before, in whole hours billed.")
    before_until_at: Timestamp
    is_estimate: bool = Field(
        description="More was due than is computed at once: the figures are those of the"
        " subscriptions that are due first."
    )
    subscriptions: int = Field(description="Whose renewal is due in the span.")
    computed_subscriptions: int = Field(description="Of those, how many the figures hold.")
    refused_subscriptions: int = Field(description="Of those, how many cannot be billed.")
    first_invoices: int = Field(
        description="Of those, how many begin in the span: a start day comes, or a trial ends."
    )
    changes_left_out: int = Field(
        description="Scheduled changes inside a period: the new terms are in the figures from the"
        " next period on, what the change itself bills or gives back is not."
    )
    left_out: list[LeftOut]
    currencies: list[ForecastCurrency]

    @classmethod
    def of(cls, given: Forecasted) -> BillingForecast:
        return cls(
            from_at=given.from_at,
            until_at=given.until_at,
            before_from_at=given.before_from_at,
            before_until_at=given.before_until_at,
            is_estimate=given.is_estimate,
            subscriptions=given.total,
            computed_subscriptions=given.computed,
            refused_subscriptions=given.refused,
            first_invoices=given.first,
            changes_left_out=given.differences,
            left_out=LeftOut.all_of(given),
            currencies=[ForecastCurrency.of(each) for each in given.currencies],
        )


class BillingParkNumbers(Strict):
    """A day and currency beyond its limits: what it has billed, and what the batch would add."""

    day: date
    currency: str
    beyond: list[Beyond]
    billed: InvoiceSums
    batch: InvoiceSums


class BillingPark(Strict):
    """A job of the tenant that a limit has stopped."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "park_01h455vb4pex5vsknk084sn02q",
                    "job": "renewals",
                    "status": "parked",
                    "reason": "2026-03-01 EUR: total_minor would be 19980, 5000 is the most",
                    "numbers": [
                        {
                            "day": "2026-03-01",
                            "currency": "EUR",
                            "beyond": [_BEYOND],
                            "billed": _SUMS,
                            "batch": _SUMS,
                        }
                    ],
                    "work_item_id": "wrk_01h455vb4pex5vsknk084sn02q",
                    "since_at": "2026-03-01T12:00:00Z",
                    "released_at": None,
                    "released_by": None,
                    "release_reason": None,
                }
            ]
        }
    )

    id: ParkId
    job: Job
    status: Literal["parked", "released"]
    reason: str
    numbers: list[BillingParkNumbers]
    work_item_id: WorkItemId
    since_at: Timestamp
    released_at: Timestamp | None
    released_by: str | None
    release_reason: str | None

    @classmethod
    def of(cls, row: Row[Any]) -> BillingPark:
        return cls(
            id=row.id,
            job=row.job,
            status="parked" if row.released_at is None else "released",
            reason=row.reason,
            numbers=msgspec.json.decode(row.numbers),
            work_item_id=row.work_item_id,
            since_at=row.since_at,
            released_at=row.released_at,
            released_by=row.released_by,
            release_reason=row.release_reason,
        )


class ReleaseJob(Strict):
    """Why the job may go on, and under which limits on this day."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"reason": "the prices were corrected"},
                {"reason": "the new price is right", "limits_today": [_LIMIT]},
            ]
        }
    )

    reason: Reason
    limits_today: list[BillingLimit] = Field(
        default_factory=list,
        max_length=MOST_CURRENCIES,
        description="Instead of the tenant's limits in these currencies until the present UTC day"
        " of its clock is over; the tenant's own where left out.",
    )

    @field_validator("limits_today")
    @classmethod
    def _distinct(cls, value: list[BillingLimit]) -> list[BillingLimit]:
        _each_once(value)
        return value

    def by_currency(self) -> dict[str, Limits]:
        return {each.currency: each.limits() for each in self.limits_today}


class ReleaseRun(Strict):
    """Why billing may go on, and how much this run may bill."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"reason": "a hundred seats, as agreed", "most_minor": 99900}]
        }
    )

    reason: Reason
    most_minor: PriceAmountMinor | None = Field(
        None,
        description="This one run may bill up to so much (minor units) whatever the tenant's"
        " largest invoice is; that holds, if null.",
    )


class SwitchNew(Strict):
    """Stop a job, or let it go on, and why."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"on": True, "reason": "the March prices look wrong"}]}
    )

    on: Flag = Field(description="true stops the job.")
    reason: Reason


class KillSwitch(Strict):
    """Whether a job of the tenant is stopped by a person."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "job": "renewals",
                    "on": True,
                    "installation_on": False,
                    "parked": False,
                    "reason": "the March prices look wrong",
                    "changed_by": "key_01h455vb4pex5vsknk084sn02q",
                    "changed_at": "2026-03-01T12:00:00Z",
                }
            ]
        }
    )

    job: Job
    on: bool
    installation_on: bool = Field(description="The operator stopped it for all tenants.")
    parked: bool = Field(description="A limit stopped it (GET /v1/billing-parks).")
    reason: str | None
    changed_by: str | None
    changed_at: Timestamp | None


class KillSwitches(Strict):
    """The switch of every job."""

    data: list[KillSwitch]

    @classmethod
    def of(cls, rows: Sequence[Row[Any]]) -> KillSwitches:
        return cls(data=[_switch(job, rows) for job in holds.JOBS])

    def one(self, job: str) -> KillSwitch:
        return next(each for each in self.data if each.job == job)


def _switch(job: Any, rows: Sequence[Row[Any]]) -> KillSwitch:
    by = {row.source: row for row in rows if row.job == job}
    own = by.get(holds.TENANT)
    return KillSwitch(
        job=job,
        on=own is not None,
        installation_on=holds.INSTALLATION in by,
        parked=holds.PARK in by,
        reason=own and own.reason,
        changed_by=own and own.set_by,
        changed_at=own and own.set_at,
    )


class GuardChange(Strict):
    """Who changed the guard, when, and why: kept for good."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "kind": "kill_switch",
                    "data": {"job": "renewals", "on": True, "source": "tenant"},
                    "reason": "the March prices look wrong",
                    "changed_by": "key_01h455vb4pex5vsknk084sn02q",
                    "changed_at": "2026-03-01T12:00:00Z",
                }
            ]
        }
    )

    kind: Literal["limits_set", "kill_switch", "job_released", "run_released"]
    data: dict[str, Any]
    reason: str
    changed_by: str
    changed_at: Timestamp

    @classmethod
    def of(cls, row: Row[Any]) -> GuardChange:
        return cls(
            kind=row.kind,
            data=msgspec.json.decode(row.data),
            reason=row.reason,
            changed_by=row.changed_by,
            changed_at=row.changed_at,
        )
