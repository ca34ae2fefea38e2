"""Where a subscription stands in dunning: what failed, and each step ahead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from subledger.core.dunning import Decline, Failure, Final, Retry, steps_ahead
from subledger.core.dunning_choice import Debt, avoided, method_to_try
from subledger.core.money import Money
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.scheduler.policies import Kept, Terms
from subledger.services.scheduler.store import collections as store
from subledger.services.scheduler.store import known, policies
from subledger.services.scheduler.store.collections import Collection

MOST_SHOWN = 20
Status = Literal["scheduled", "expected", "under_way"]


@dataclass(frozen=True, slots=True)
class Ahead:
    """A step to come; ``at`` is None while it is under way."""

    step: Retry | Final
    status: Status
    at: datetime | None
    method_id: UUID | None


@dataclass(frozen=True, slots=True)
class Standing:
    """All that is known, before the customer's methods are asked for."""

    subscription_id: UUID
    account_id: UUID
    timezone: str
    at: datetime
    open: Sequence[tuple[Collection, tuple[str, datetime] | None]]
    next_policy: Kept


async def standing(
    tx: Tx, tenant_id: UUID, subscription_id: UUID, *, amount_minor: int | None
) -> Standing:
    """Read it. ``amount_minor`` is of the invoice that would fail next. Raises
    not_found, also for one whose beginning has not been heard of yet."""
    key = (tenant_id, subscription_id)
    row = (await known.subscriptions(tx, [key])).get(key)
    if row is None:
        raise Problem("not_found", detail="There is no such subscription.")
    account = (tenant_id, row.account_id)
    zones = await known.timezones(tx, [account])
    found = await store.open_of_subscription(
        tx,
        tenant_id,
        account_id=row.account_id,
        subscription_id=subscription_id,
        limit=MOST_SHOWN,
    )
    shelf = (await policies.shelves(tx, [tenant_id]))[tenant_id]
    for collection, _ in found:
        if collection.terms is None:
            collection.begin_by(shelf.default)
    debt = Debt(
        currency=row.currency,
        plans=frozenset({ids.text("plan", row.plan_id)}),
        products=frozenset({ids.text("prod", row.product_id)}),
        amount=None if amount_minor is None else Money(amount_minor, row.currency),
    )
    return Standing(
        subscription_id=subscription_id,
        account_id=row.account_id,
        timezone=zones.get(account, "UTC"),
        at=await tx.now(tenant_id),
        open=found,
        next_policy=shelf.choose(debt),
    )


def if_failed(terms: Terms, at: datetime, timezone: str, methods: Sequence[str]) -> list[Ahead]:
    """What would follow a soft decline of the first method at this moment."""
    first = Failure(at, Decline.SOFT, method=methods[0] if methods else None)
    steps = steps_ahead(terms.policy(), [first], timezone=timezone)
    return _shown(terms, [first], steps, methods, status="expected", named=None)


def ahead_of(
    collection: Collection,
    waiting: tuple[str, datetime] | None,
    at: datetime,
    timezone: str,
    methods: Sequence[str],
) -> list[Ahead]:
    """What is to come of an open collection as of ``at``; nothing after its final step."""
    terms, failures = collection.terms, collection.failed()
    assert terms is not None, "it was given its terms"
    policy = terms.policy()
    named = None if collection.method_id is None else ids.text("pm", collection.method_id)
    first: Retry | Final
    if waiting is not None:
        kind, due_at = waiting
        first = Retry(due_at, collection.retries)
        if kind == store.FINAL:
            first = Final(policy.final, due_at)
    elif collection.is_under_way:
        first = Retry(at, collection.retries)
    else:
        return []
    steps = steps_ahead(policy, failures, timezone=timezone, first=first)
    status: Status = "under_way" if waiting is None else "scheduled"
    return _shown(terms, failures, steps, methods, status=status, named=named)


def _shown(
    terms: Terms,
    failures: Sequence[Failure],
    steps: Sequence[Retry | Final],
    methods: Sequence[str],
    *,
    status: Status,
    named: str | None,
) -> list[Ahead]:
    """Each step with its method: the one named for the first, then as retries choose it."""
    policy, so_far, shown = terms.policy(), list(failures), list[Ahead]()
    for n, step in enumerate(steps):
        how: Status = status if n == 0 else "expected"
        method = None
        if isinstance(step, Retry):
            method = named if n == 0 and named in methods else None
            method = method or method_to_try(methods, avoided(policy, so_far))
            so_far.append(Failure(step.at, Decline.SOFT, method=method))
        at = None if how == "under_way" else step.at
        shown.append(Ahead(step, how, at, None if method is None else ids.parse("pm", method)))
    return shown
