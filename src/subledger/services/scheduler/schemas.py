"""What the scheduler's routes take and give."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from subledger.core.dunning import (
    MAX_DELAY,
    MAX_RETRIES,
    MAX_SPAN,
    Decline,
    FinalAction,
    FinalAt,
    Since,
)
from subledger.core.dunning_choice import MAX_NAMED
from subledger.platform import ids
from subledger.platform.http.fields import (
    CurrencyCode,
    IdOf,
    Name,
    PriceAmountMinor,
    Strict,
    Timestamp,
    Whole,
)
from subledger.services.scheduler.policies import Kept, Named, Terms
from subledger.services.scheduler.usecases.show import Status

if TYPE_CHECKING:  # a type checker sees what a field holds
    PolicyId = UUID
    PlanId = UUID
    ProductId = UUID
    SubscriptionId = UUID
    InvoiceId = UUID
    MethodId = UUID
else:
    PolicyId = IdOf("dun")
    PlanId = IdOf("plan")
    ProductId = IdOf("prod")
    SubscriptionId = IdOf("sub")
    InvoiceId = IdOf("inv")
    MethodId = IdOf("pm")

_ID = "01h455vb4pex5vsknk084sn02q"
_MAX_DELAY_S = int(MAX_DELAY.total_seconds())
_MAX_SPAN_S = int(MAX_SPAN.total_seconds())

DelayS = Annotated[int, Field(strict=True, gt=0, le=_MAX_DELAY_S)]
Delays = Annotated[list[DelayS], Field(max_length=MAX_RETRIES)]

_EXAMPLE: dict[str, Any] = {
    "delays_s": [86400, 259200, 432000, 604800],
    "final_action": "cancel",
    "hard_decline_stops": True,
    "delays_by_class_s": {"insufficient_funds": [259200, 604800]},
    "preferred": {"hour": 9, "weekdays": [1, 2, 3, 4, 5]},
    "fallback_after": ["hard", "insufficient_funds"],
}


class PreferredMoments(Strict):
    """When in the customer's zone a retry is made; it is only ever put off to such a moment."""

    hour: Annotated[
        Whole | None, Field(description="An hour of the customer's clock, 0 to 23.")
    ] = None
    weekdays: Annotated[
        list[Whole],
        Field(default_factory=list, max_length=7, description="ISO weekdays: 1 is Monday."),
    ]
    month_days: Annotated[
        list[Whole],
        Field(
            default_factory=list,
            max_length=31,
            description="Days of the month; 31 is the last one of every month.",
        ),
    ]


class DunningPolicy(Strict):
    """When a failed payment is tried again, and what happens in the end."""

    model_config = Strict.model_config | {"json_schema_extra": {"examples": [_EXAMPLE]}}

    delays_s: Annotated[
        Delays,
        Field(
            description="Seconds from each failure to the next try; the list's length is how many"
            " tries follow the first failure. An empty list means none.",
        ),
    ]
    final_action: Annotated[
        FinalAction,
        Field(
            description="After the last failure: `cancel` ends the invoice's subscriptions and"
            " writes the invoice off; `uncollectible` only writes it off; `downgrade` writes it"
            " off and moves the subscriptions to another plan; `pause` pauses them until the"
            " invoice is paid; `none` leaves everything as it is."
        ),
    ]
    hard_decline_stops: Annotated[
        bool,
        Field(
            strict=True,
            description="Whether a decline that the bank will repeat (stolen card, closed account)"
            " takes the final action at once.",
        ),
    ]
    delays_by_class_s: Annotated[
        dict[Decline, Delays],
        Field(
            default_factory=dict,
            max_length=len(Decline),
            description="Delays of its own for what follows a decline of a class, in place of"
            " `delays_s`: the n-th failure takes the n-th.",
        ),
    ]
    since: Annotated[Since, Field(description="From which failure a delay is counted.")] = (
        Since.FAILURE_BEFORE
    )
    max_retries: Annotated[
        Whole | None,
        Field(description="Cuts the lists of delays, or goes on with the last delay of each."),
    ] = None
    max_span_s: Annotated[
        Annotated[int, Field(strict=True, gt=0, le=_MAX_SPAN_S)] | None,
        Field(description="No retry comes later after the first failure."),
    ] = None
    final_at: Annotated[
        FinalAt,
        Field(
            description="Whether the final action follows the last failure at once, or waits for"
            " the end of `max_span_s` (without it, of all delays)."
        ),
    ] = FinalAt.AT_ONCE
    preferred: Annotated[PreferredMoments, Field(default_factory=PreferredMoments)]
    fallback_after: Annotated[
        list[Decline],
        Field(
            default_factory=list,
            max_length=len(Decline),
            description="After a decline of these classes the next try goes to the customer's next"
            " payment method, in the customer's order. While there is one, a hard decline does not"
            " end the retries.",
        ),
    ]
    downgrade_to_plan_id: Annotated[
        PlanId | None, Field(description="The plan of the final action `downgrade`.")
    ] = None

    @classmethod
    def _of(cls, terms: Terms) -> dict[str, Any]:
        plan = terms.downgrade_to_plan_id
        return {
            "delays_s": list(terms.delays_s),
            "final_action": terms.final_action,
            "hard_decline_stops": terms.hard_decline_stops,
            "delays_by_class_s": {
                each: list(delays) for each, delays in terms.delays_by_class_s.items()
            },
            "since": terms.since,
            "max_retries": terms.max_retries,
            "max_span_s": terms.max_span_s,
            "final_at": terms.final_at,
            "preferred": PreferredMoments(
                hour=terms.hour,
                weekdays=list(terms.weekdays),
                month_days=list(terms.month_days),
            ),
            "fallback_after": list(terms.fallback_after),
            "downgrade_to_plan_id": None if plan is None else ids.parse("plan", plan),
        }

    @classmethod
    def of(cls, terms: Terms) -> DunningPolicy:
        return cls(**cls._of(terms))

    def terms(self) -> Terms:
        plan = self.downgrade_to_plan_id
        return Terms(
            delays_s=tuple(self.delays_s),
            final_action=self.final_action,
            hard_decline_stops=self.hard_decline_stops,
            delays_by_class_s={name: tuple(each) for name, each in self.delays_by_class_s.items()},
            since=self.since,
            max_retries=self.max_retries,
            max_span_s=self.max_span_s,
            final_at=self.final_at,
            hour=self.preferred.hour,
            weekdays=tuple(self.preferred.weekdays),
            month_days=tuple(self.preferred.month_days),
            fallback_after=tuple(self.fallback_after),
            downgrade_to_plan_id=None if plan is None else ids.text("plan", plan),
        )


class AmountAbove(Strict):
    """Invoices of this currency above this amount."""

    amount_minor: PriceAmountMinor
    currency: CurrencyCode


class PolicySegment(Strict):
    """Which unpaid invoices a policy is for: all that is named has to fit."""

    plan_ids: Annotated[list[PlanId], Field(default_factory=list, max_length=MAX_NAMED)]
    product_ids: Annotated[list[ProductId], Field(default_factory=list, max_length=MAX_NAMED)]
    currencies: Annotated[list[CurrencyCode], Field(default_factory=list, max_length=MAX_NAMED)]
    amount_above: AmountAbove | None = None

    @classmethod
    def of(cls, named: Named) -> PolicySegment:
        above = None
        if named.above_minor is not None and named.above_currency is not None:
            above = AmountAbove(amount_minor=named.above_minor, currency=named.above_currency)
        return cls(
            plan_ids=[ids.parse("plan", each) for each in named.plan_ids],
            product_ids=[ids.parse("prod", each) for each in named.product_ids],
            currencies=list(named.currencies),
            amount_above=above,
        )

    def named(self) -> Named:
        above = self.amount_above
        return Named(
            plan_ids=tuple(ids.text("plan", each) for each in self.plan_ids),
            product_ids=tuple(ids.text("prod", each) for each in self.product_ids),
            currencies=tuple(self.currencies),
            above_minor=None if above is None else above.amount_minor,
            above_currency=None if above is None else above.currency,
        )


class NewDunningPolicy(DunningPolicy):
    """A policy for a segment of the unpaid invoices."""

    model_config = Strict.model_config | {
        "json_schema_extra": {
            "examples": [
                {
                    **_EXAMPLE,
                    "name": "Patient with the dear plans",
                    "segment": {"plan_ids": [f"plan_{_ID}"]},
                }
            ]
        }
    }
    name: Name
    segment: PolicySegment


class NamedDunningPolicy(NewDunningPolicy):
    """A policy for a segment, in its newest version."""

    model_config = Strict.model_config | {
        "json_schema_extra": {
            "examples": [
                {
                    "id": f"dun_{_ID}",
                    "version": 1,
                    **_EXAMPLE,
                    "name": "Patient with the dear plans",
                    "segment": {"plan_ids": [f"plan_{_ID}"]},
                }
            ]
        }
    }
    id: PolicyId
    version: int

    @classmethod
    def of_kept(cls, kept: Kept) -> NamedDunningPolicy:
        assert kept.id is not None
        assert kept.named is not None
        return cls(
            id=kept.id,
            version=kept.version,
            name=kept.name,
            segment=PolicySegment.of(kept.named),
            **cls._of(kept.terms),
        )


class PolicyUsed(Strict):
    """A policy in the version that holds; ``id`` is null for the default one."""

    id: PolicyId | None
    name: str
    version: int


class DunningStep(Strict):
    """What is to come. ``scheduled`` has its moment; ``expected`` follows if all before it fail;
    ``under_way`` is being tried."""

    kind: Literal["retry", "final_step"]
    status: Status
    at: Timestamp | None
    local_at: Annotated[str | None, Field(description="The same in the customer's zone.")]
    number: int | None
    payment_method_id: MethodId | None
    action: FinalAction | None
    downgrade_to_plan_id: PlanId | None


class DunningFailure(Strict):
    """A payment that failed. ``counted`` is false if it never reached the bank."""

    at: Timestamp
    decline: Decline
    code: str | None
    counted: bool
    payment_method_id: MethodId | None


class InvoiceInDunning(Strict):
    """An unpaid invoice: what failed, and what is to come."""

    invoice_id: InvoiceId
    amount_minor: int | None
    currency: str | None
    policy: PolicyUsed
    first_failed_at: Timestamp
    failures: list[DunningFailure]
    ahead: list[DunningStep]


class SubscriptionDunning(Strict):
    """Where a subscription's unpaid invoices stand, and what a failure now would lead to."""

    subscription_id: SubscriptionId
    timezone: str
    invoices: list[InvoiceInDunning]
    policy: PolicyUsed
    if_a_payment_failed_now: list[DunningStep]


def local_text(at: datetime) -> str:
    """RFC 3339 with the offset of its zone."""
    return at.isoformat(timespec="seconds")
