"""A subscription as the core sees it: its phases over time and what was billed for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.core.calendar import boundary, times_in
from subledger.core.errors import CoreError
from subledger.core.proration import BY_DAY, BY_SECOND
from subledger.core.timeline import FirstPeriod, Item, Line, Phase, Timeline, Timing
from subledger.platform.db import Tx
from subledger.services.billing.store import phases as store
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.terms import PlanTerms, TermsMemory
from subledger.services.billing.usecases.anchors import anchor_of, billed_from_at
from subledger.services.billing.usecases.discounts import line_names, running

MODES = {"day": BY_DAY, "second": BY_SECOND}


@dataclass(frozen=True, slots=True)
class Stage:
    """From when a subscription pays for what."""

    from_at: datetime
    plan_version_id: UUID
    quantity: Decimal
    is_paused: bool = False
    """It pays for nothing then."""


@dataclass(frozen=True, slots=True)
class History:
    """What a range of periods is billed anew from."""

    stages: Sequence[Stage]
    terms: Mapping[UUID, PlanTerms]
    billed: Sequence[Line]


def timeline(
    subscription: Mapping[str, Any],
    terms: PlanTerms,
    attached: Sequence[Row[Any]],
    history: History | None = None,
    *,
    sets_up: bool = True,
) -> Timeline:
    """A subscription as the core sees it: as it is now, or with its ``history``. What is billed
    once is billed where the subscription starts, if that ``sets_up``, and for no later change
    (Recurly: set-up fees are for new subscriptions)."""
    currency, begins_at = subscription["currency"], billed_from_at(subscription)
    cycle_at = subscription["cycle_started_at"]
    stages = (
        history.stages
        if history
        else [Stage(cycle_at, terms.plan_version_id, subscription["quantity"])]
    )
    known = history.terms if history else {terms.plan_version_id: terms}
    phases = tuple(
        Phase(
            each.from_at,
            ()
            if each.is_paused
            else _items(
                known[each.plan_version_id],
                currency,
                each.quantity,
                sets_up=sets_up and each.from_at == begins_at,
            ),
        )
        for each in stages
    )
    return Timeline(
        anchor=anchor_of(subscription),
        interval=terms.interval(currency),
        currency=currency,
        phases=phases,
        attached=tuple(running(each) for each in attached),
        ended_at=subscription.get("charged_until_at"),
        proration=MODES[subscription["proration"]],
        first_period=FirstPeriod(subscription["first_period"]),
    )


def _items(
    terms: PlanTerms, currency: str, quantity: Decimal, *, sets_up: bool
) -> tuple[Item, ...]:
    cycle = terms.interval(currency)
    return tuple(
        Item(
            price_id=str(each.price_id),
            model=each.model,
            quantity=quantity,
            timing=each.timing,
            every=times_in(each.interval, cycle) or 1,
            names=line_names(terms, each),
            metered=each.metered,
        )
        for each in terms.prices_in(currency)
        if sets_up or each.timing is not Timing.ONCE
    )


async def history(
    tx: Tx, memory: TermsMemory, rows: Iterable[Mapping[str, Any]], first: Mapping[Key, datetime]
) -> dict[Key, History]:
    """The histories of subscriptions, with what was billed from each one's ``first`` moment on."""
    given = {(row["tenant_id"], row["id"]): row for row in rows}
    found = await store.phases(tx, given)
    terms = await memory.load(
        tx, {(tenant, each.plan_version_id) for (tenant, _), p in found.items() for each in p}
    )
    known = {}
    for key, row in given.items():
        # What a cycle that was left paid for is settled: only this cycle is billed anew.
        stages = [
            Stage(
                max(each.from_at, row["cycle_started_at"]),
                each.plan_version_id,
                each.quantity,
                each.is_paused,
            )
            for each, following in zip(found[key], [*found[key][1:], None], strict=True)
            if following is None or following.from_at > row["cycle_started_at"]
        ]
        billed = await store.billed_lines(tx, key, from_at=first[key])
        if len(billed) > store.MOST_LINES:
            raise CoreError(f"more than {store.MOST_LINES} lines to bill anew")
        known[key] = History(
            stages=stages,
            terms={each.plan_version_id: terms[key[0], each.plan_version_id] for each in stages},
            billed=billed,
        )
    return known


def period_start(row: Mapping[str, Any], terms: PlanTerms, n: int) -> datetime:
    """Where the n-th period of the subscription's present cycle begins: what lies before the
    cycle was billed, and settled, by another."""
    started_at: datetime = row["cycle_started_at"]
    return max(boundary(anchor_of(row), terms.interval(row["currency"]), n), started_at)


def billed_from(row: Mapping[str, Any], terms: PlanTerms, first: int) -> datetime:
    """The earliest moment of what falls due from the start of period ``first`` on: in arrears, a
    period before."""
    currency = row["currency"]
    before = terms.longest(currency) if terms.in_arrears(currency) else 0
    return period_start(row, terms, first - before)
