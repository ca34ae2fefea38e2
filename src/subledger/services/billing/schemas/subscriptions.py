"""Subscriptions: what a buyer asks for, how they stand, what comes next."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.config import JsonDict
from sqlalchemy import Row

from subledger.core.cycles import MAX_TRIAL_DAYS
from subledger.platform.http.fields import CurrencyCode, Quantity, Strict, Text, Timestamp
from subledger.services.billing import facts
from subledger.services.billing.flows.buy import Bought
from subledger.services.billing.schemas.anchors import BillingAnchor
from subledger.services.billing.schemas.proration import ProrationTerms
from subledger.services.billing.schemas.references import (
    CustomerId,
    DiscountId,
    InvoiceId,
    PaymentMethodId,
    PlanId,
    PlanVersionId,
    ProductId,
    SubscriptionId,
)
from subledger.services.billing.usecases.anchors import ANNIVERSARY
from subledger.services.billing.usecases.opening import Start

MOST_QUANTITY = 10**15
MOST_DISCOUNTS = 20
MOST_CODES = 5

Status = Literal[
    "pending",
    "trialing",
    "incomplete",
    "incomplete_expired",
    "active",
    "past_due",
    "paused",
    "canceled",
]


def countable(value: Decimal) -> Decimal:
    """Refuse quantities of nothing and beyond 10^15."""
    if not 0 < value <= MOST_QUANTITY:
        raise ValueError("a quantity lies above 0 and up to 10^15")
    return value


def web_address(value: str) -> str:
    try:
        parts = urlsplit(value)
        good = (
            parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in parts.netloc
        )
    except ValueError:
        good = False
    if not good or " " in value:
        raise ValueError("a return URL looks like https://shop.example/thanks")
    return value


def _day(value: object) -> object:
    if isinstance(value, date) or (isinstance(value, str) and len(value) == len("2026-03-15")):
        return value
    raise ValueError("a day looks like 2026-03-15")


LocalDate = Annotated[date, BeforeValidator(_day)]


_NEW: JsonDict = {
    "customer_id": "cus_01h455vb4pex5vsknk084sn02q",
    "plan_id": "plan_01h455vb4pex5vsknk084sn02q",
    "quantity": "1",
    "collection": "automatic",
    "payment_method_id": "pm_01h455vb4pex5vsknk084sn02q",
}
_SUBSCRIPTION: JsonDict = {
    "id": "sub_01h455vb4pex5vsknk084sn02q",
    "customer_id": "cus_01h455vb4pex5vsknk084sn02q",
    "beneficiary_id": "cus_01h455vb4pex5vsknk084sn02q",
    "plan_id": "plan_01h455vb4pex5vsknk084sn02q",
    "plan_version_id": "plv_01h455vb4pex5vsknk084sn02q",
    "product_id": "prod_01h455vb4pex5vsknk084sn02q",
    "status": "active",
    "quantity": "1",
    "currency": "EUR",
    "timezone": "Europe/Berlin",
    "collection": "automatic",
    "payment_method_id": "pm_01h455vb4pex5vsknk084sn02q",
    "discount_ids": [],
    "proration": "day",
    "proration_rounds": "used",
    "stub_denominator": "grid",
    "last_day_charged": False,
    "billing_anchor": {"kind": "anniversary"},
    "first_period": "prorated",
    "trial_end_at": None,
    "trial_end_behavior": "invoice",
    "scheduled_change": None,
    "pause": None,
    "latest_invoice_id": "inv_01h455vb4pex5vsknk084sn02q",
    "started_at": "2026-03-01T12:00:00Z",
    "current_period_start_at": "2026-03-01T12:00:00Z",
    "current_period_end_at": "2026-04-01T11:00:00Z",
    "cancel_at": None,
    "cancel_credit_unused": False,
    "cancel_reason": None,
    "cancel_comment": None,
    "ended_at": None,
    "end_reason": None,
    "parked_reason": None,
    "created_at": "2026-03-01T12:00:00Z",
}


class SubscriptionNew(ProrationTerms):
    """Who pays for which plan, how much of it, and how the first payment is made."""

    model_config = ConfigDict(json_schema_extra={"examples": [_NEW]})

    customer_id: CustomerId = Field(description="Who pays.")
    beneficiary_id: CustomerId | None = Field(None, description="Who uses it; the payer if null.")
    plan_id: PlanId
    currency: CurrencyCode | None = Field(None, description="The customer's own, if null.")
    quantity: Annotated[Quantity, AfterValidator(countable)] = Decimal(1)
    discount_ids: list[DiscountId] = Field(default_factory=list, max_length=MOST_DISCOUNTS)
    promotion_codes: list[Annotated[Text, Field(max_length=200)]] = Field(
        default_factory=list,
        max_length=MOST_CODES,
        description="Promo codes as typed; each gives its discount, after those of discount_ids.",
    )
    payment_method_id: PaymentMethodId | None = Field(
        None, description="The customer's default method, if null."
    )
    collection: Literal["automatic", "page"] = Field(
        "automatic",
        description="`automatic` charges a saved method; `page` answers with the address of a"
        " hosted page on which the customer pays and saves a method. After a trial or on a later"
        " start day too the first invoice is paid on a page: no saved method is charged for it, and"
        " until then the subscription is `incomplete` without access, for three days at most.",
    )
    return_url: Annotated[Text, AfterValidator(web_address), Field(max_length=2_000)] | None = (
        Field(None, description="Where the hosted page sends the customer afterwards.")
    )
    start_at: Timestamp | None = Field(
        None,
        description="When it begins; now, if null. From a moment in the past (two years and 50"
        " periods at most) all periods up to now are on the first invoice; until one in the future"
        " (five years at most) it is `pending` and nothing is billed. If the first payment fails"
        " then, it is `incomplete` without access, and expires after three days, unless the plan"
        " has `grace_at_start`.",
    )
    billing_anchor: BillingAnchor = BillingAnchor.of(ANNIVERSARY)
    first_period: Literal["prorated", "full", "free"] = Field(
        "prorated",
        description="What a stub before the first boundary of the billing anchor costs: its share,"
        " a whole period's price, or nothing; `free` also for what is used in it (a price that is"
        " billed once, a set-up fee, is paid all the same).",
    )
    trial_days: Annotated[int, Field(strict=True, ge=0, le=MAX_TRIAL_DAYS)] | None = Field(
        None, description="Local days before anything is billed; 0: none. The plan's, if null."
    )
    trial_until: LocalDate | None = Field(
        None, description="The first local day that is paid, instead of `trial_days`."
    )
    trial_end_behavior: Literal["invoice", "cancel"] = Field(
        "invoice",
        description="At the trial's end of a customer without a payment method: an invoice that"
        " goes past due, or the end of the subscription without one.",
    )

    @model_validator(mode="after")
    def _one_trial(self) -> SubscriptionNew:
        if self.trial_days is not None and self.trial_until is not None:
            raise ValueError("a trial has trial_days or trial_until, not both")
        return self

    def start(self) -> Start:
        """How it is to begin, as the use case takes it."""
        return Start(
            billing_anchor=self.billing_anchor.text(),
            first_period=self.first_period,
            trial_days=self.trial_days,
            trial_until=self.trial_until,
            trial_end_behavior=self.trial_end_behavior,
            start_at=self.start_at,
        )


class ScheduledChange(Strict):
    """A change that waits for its moment."""

    effective_at: Timestamp
    plan_id: PlanId
    quantity: str
    billing_anchor: BillingAnchor | None


class PauseState(Strict):
    """A pause that a subscription waits for or is in."""

    state: Literal["scheduled", "running"]
    credit: Literal["none", "credit", "extend"]
    from_at: Timestamp
    resume_at: Timestamp | None = Field(description="Null: until it is resumed by hand.")


class Subscription(ProrationTerms):
    """A subscription as it is now."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SUBSCRIPTION]})

    id: SubscriptionId
    customer_id: CustomerId
    beneficiary_id: CustomerId
    plan_id: PlanId
    plan_version_id: PlanVersionId
    product_id: ProductId
    status: Status
    quantity: str
    currency: str
    timezone: str
    collection: str
    payment_method_id: PaymentMethodId | None
    discount_ids: list[DiscountId]
    billing_anchor: BillingAnchor
    first_period: Literal["prorated", "full", "free"]
    trial_end_at: Timestamp | None
    trial_end_behavior: Literal["invoice", "cancel"]
    scheduled_change: ScheduledChange | None
    pause: PauseState | None
    latest_invoice_id: InvoiceId | None
    started_at: Timestamp
    current_period_start_at: Timestamp
    current_period_end_at: Timestamp
    cancel_at: Timestamp | None
    cancel_credit_unused: bool
    cancel_reason: str | None
    cancel_comment: str | None
    ended_at: Timestamp | None
    end_reason: str | None
    parked_reason: str | None = Field(description="Why billing waits for a person, if it does.")
    created_at: Timestamp

    @classmethod
    def of(cls, row: Row[Any]) -> Subscription:
        return cls(**fields_of(row))


def fields_of(row: Row[Any]) -> dict[str, Any]:
    """A subscription's row as the fields of its answer."""
    return {
        "id": row.id,
        "customer_id": row.payer_id,
        "beneficiary_id": row.beneficiary_id,
        "plan_id": row.plan_id,
        "plan_version_id": row.plan_version_id,
        "product_id": row.product_id,
        "status": row.status,
        "quantity": facts.quantity_text(row.quantity),
        "currency": row.currency,
        "timezone": row.timezone,
        "collection": row.collection,
        "payment_method_id": row.payment_method_id,
        "discount_ids": list(row.discount_ids),
        "proration": row.proration,
        "proration_rounds": row.proration_rounds,
        "stub_denominator": row.stub_denominator,
        "last_day_charged": row.last_day_charged,
        "billing_anchor": BillingAnchor.of(row.billing_anchor),
        "first_period": row.first_period,
        "trial_end_at": row.trial_end_at,
        "trial_end_behavior": row.trial_end_behavior,
        "scheduled_change": None
        if row.change_at is None
        else ScheduledChange(
            effective_at=row.change_at,
            plan_id=row.change_plan_id,
            quantity=facts.quantity_text(row.change_quantity),
            billing_anchor=None
            if row.change_billing_anchor is None
            else BillingAnchor.of(row.change_billing_anchor),
        ),
        "pause": None
        if row.pause_state is None
        else PauseState(
            state=row.pause_state,
            credit=row.pause_credit,
            from_at=row.pause_from_at,
            resume_at=row.pause_resume_at,
        ),
        "latest_invoice_id": row.latest_invoice_id,
        "started_at": row.started_at,
        "current_period_start_at": row.current_period_start_at,
        "current_period_end_at": row.current_period_end_at,
        "cancel_at": row.cancel_at,
        "cancel_credit_unused": row.cancel_credit,
        "cancel_reason": row.cancel_reason,
        "cancel_comment": row.cancel_comment,
        "ended_at": row.ended_at,
        "end_reason": row.end_reason,
        "parked_reason": row.parked_reason,
        "created_at": row.created_at,
    }


class NextAction(Strict):
    """What the payer has to do."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"type": "redirect", "redirect_url": "https://pay.example/p/1"}]
        }
    )

    type: Literal["redirect"]
    redirect_url: str


class Purchase(Subscription):
    """A subscription that was just bought: `active`, or `incomplete` with what to do next."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{**_SUBSCRIPTION, "payment_status": None, "next_action": None}]
        }
    )

    payment_status: str | None = Field(
        description="Of the first payment, while the subscription is incomplete: none, processing,"
        " requires_action, unknown, canceled."
    )
    next_action: NextAction | None

    @classmethod
    def bought(cls, row: Row[Any], bought: Bought) -> Purchase:
        waiting = row.status == "incomplete"
        action = None
        if waiting and bought.redirect_url is not None:
            action = NextAction(type="redirect", redirect_url=bought.redirect_url)
        return cls(
            **fields_of(row),
            payment_status=bought.payment_status if waiting else None,
            next_action=action,
        )


class ChangeNew(Strict):
    """What is to be otherwise, and from when."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"quantity": "3"}, {"at": "period_end", "quantity": "1"}]}
    )

    plan_id: PlanId | None = Field(None, description="Its newest version; as it is, if null.")
    quantity: Annotated[Quantity, AfterValidator(countable)] | None = None
    at: Timestamp | Literal["period_end"] | None = Field(
        None,
        description="A moment, past or future, or `period_end`; now, if null. A moment in the past"
        " bills anew from there.",
    )
    settle: Literal["auto", "now", "next_invoice"] = Field(
        "auto",
        description="`now` makes an invoice of the difference, `next_invoice` adds it to the next"
        " one, `auto` bills what is to be paid now and leaves a credit to the next invoice. A plan"
        " with another interval ends the present period and begins a new one, always settled now.",
    )
    billing_anchor: BillingAnchor | None = Field(
        None, description="A new period begins with the change, aligned so; as it is, if null."
    )
