"""The route that shows where a subscription stands in dunning."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from subledger.contracts.calls import Call
from subledger.contracts.checkouts import Checkouts
from subledger.core.calendar import parse_zone
from subledger.core.dunning import Retry
from subledger.platform import ids
from subledger.platform.db import Database, story
from subledger.platform.http.callers import CallerRead
from subledger.platform.http.fields import PositiveAmountMinor
from subledger.platform.http.problems import problems
from subledger.services.scheduler.policies import Terms
from subledger.services.scheduler.schemas import (
    DunningFailure,
    DunningStep,
    InvoiceInDunning,
    PolicyUsed,
    SubscriptionDunning,
    SubscriptionId,
    local_text,
)
from subledger.services.scheduler.store.collections import Collection
from subledger.services.scheduler.usecases import show
from subledger.services.scheduler.usecases.show import Ahead, Standing

_READ = story("scheduler.read_dunning", reads=True)


def router(database: Database, checkouts: Checkouts) -> APIRouter:
    """``/v1/subscriptions/{id}/dunning``."""
    routes = APIRouter(prefix="/v1/subscriptions", tags=["Dunning"])

    @routes.get(
        "/{subscription_id}/dunning",
        response_model=SubscriptionDunning,
        summary="See a subscription's dunning ahead of time",
        description="Its unpaid invoices: each failure, and each step to come with its moment and"
        " what it will do. The steps hold if each retry fails softly at its moment and the payer"
        " does nothing. Also what would follow if a payment failed now.",
        responses={**problems("not_found", "invalid_request")},
    )
    async def get_subscription_dunning(
        subscription_id: SubscriptionId,
        caller: CallerRead,
        amount_minor: Annotated[
            PositiveAmountMinor | None,
            Query(description="Of the invoice that would fail now, for policies by amount."),
        ] = None,
    ) -> SubscriptionDunning:
        async with database.transaction(_READ, tenants=[caller.tenant_id]) as tx:
            found = await show.standing(
                tx, caller.tenant_id, subscription_id, amount_minor=amount_minor
            )
        methods = await checkouts.methods_to_try(Call(caller.tenant_id), found.account_id)
        return _shown(found, [ids.text("pm", each) for each in methods])

    return routes


def _shown(found: Standing, methods: Sequence[str]) -> SubscriptionDunning:
    policy = found.next_policy
    return SubscriptionDunning(
        subscription_id=found.subscription_id,
        timezone=found.timezone,
        invoices=[_invoice(found, each, waiting, methods) for each, waiting in found.open],
        policy=PolicyUsed(id=policy.id, name=policy.name, version=policy.version),
        if_a_payment_failed_now=[
            _step(each, policy.terms, found.timezone)
            for each in show.if_failed(policy.terms, found.at, found.timezone, methods)
        ],
    )


def _invoice(
    found: Standing,
    collection: Collection,
    waiting: tuple[str, datetime] | None,
    methods: Sequence[str],
) -> InvoiceInDunning:
    terms = collection.terms
    assert terms is not None, "it was given its terms"
    return InvoiceInDunning(
        invoice_id=collection.invoice_id,
        amount_minor=collection.amount_minor,
        currency=collection.currency,
        policy=PolicyUsed(
            id=collection.policy_id,
            name=collection.policy_name,
            version=collection.policy_version,
        ),
        first_failed_at=collection.first_failed_at,
        failures=[
            DunningFailure(
                at=each.at,
                decline=each.decline,
                code=each.code,
                counted=each.counted,
                payment_method_id=None
                if each.method_id is None
                else ids.parse("pm", each.method_id),
            )
            for each in collection.failures
        ],
        ahead=[
            _step(each, terms, found.timezone)
            for each in show.ahead_of(collection, waiting, found.at, found.timezone, methods)
        ],
    )


def _step(ahead: Ahead, terms: Terms, timezone: str) -> DunningStep:
    step = ahead.step
    is_retry = isinstance(step, Retry)
    plan: UUID | None = None
    if not is_retry and terms.downgrade_to_plan_id is not None:
        plan = ids.parse("plan", terms.downgrade_to_plan_id)
    at = ahead.at
    return DunningStep(
        kind="retry" if is_retry else "final_step",
        status=ahead.status,
        at=at,
        local_at=None if at is None else local_text(at.astimezone(parse_zone(timezone))),
        number=step.number if isinstance(step, Retry) else None,
        payment_method_id=ahead.method_id,
        action=None if isinstance(step, Retry) else step.action,
        downgrade_to_plan_id=plan,
    )
