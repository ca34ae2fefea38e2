"""A subscription as the core sees it: its phases over time and what was billed for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.core.calendar import boundary, index_at, times_in
from subledger.core.cycles import boundary_from
from subledger.core.errors import CoreError
from subledger.core.pricing import Commitment, PriceModel
from subledger.core.proration import By, ByTime, Denominator, Mode, Rounds
from subledger.core.timeline import FirstPeriod, Item, Line, Phase, Timeline, Timing
from subledger.platform.db import Tx
from subledger.services.billing.store import phases as store
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.terms import PlanTerms, PriceTerms, TermsMemory
from subledger.services.billing.usecases.anchors import anchor_of, billed_from_at
from subledger.services.billing.usecases.conditions import Conditions
from subledger.services.billing.usecases.discounts import line_names, running


def mode_of(subscription: Mapping[str, Any]) -> Mode:
    """How a subscription's time is shared."""
    return ByTime(
        By(subscription["proration"]),
        last_day_charged=subscription["last_day_charged"],
        denominator=Denominator(subscription["stub_denominator"]),
        rounds=Rounds(subscription["proration_rounds"]),
    )


@dataclass(frozen=True, slots=True)
class Stage:
    """From when a subscription pays for what."""

    from_at: datetime
    plan_version_id: UUID
    quantity: Decimal
    is_paused: bool = False
    """It pays for nothing then."""
    is_ended: bool = False
    """It had ended, and goes on later in what was paid in advance: in arrears it pays for nothing
    then."""


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
    conditions: Conditions,
    history: History | None = None,
    *,
    sets_up: bool = True,
) -> Timeline:
    """A subscription as the core sees it: as it is now, or with its ``history``. What is billed
    once is billed where the subscription starts, if that ``sets_up``, and for no later change
    (Recurly: set-up fees are for new subscriptions)."""
    currency, begins_at = subscription["currency"], billed_from_at(subscription)
    stages = (
        history.stages
        if history
        else [
            Stage(
                subscription["cycle_started_at"],
                terms.plan_version_id,
                subscription["quantity"],
            )
        ]
    )
    known = history.terms if history else {terms.plan_version_id: terms}
    phases: list[Phase] = []
    for each, next_at in zip(stages, [*(each.from_at for each in stages[1:]), None], strict=True):
        if each.is_paused:
            phases.append(Phase(each.from_at, ()))
            continue
        its = known[each.plan_version_id]
        for from_at in _moments(subscription, its, conditions, each.from_at, next_at):
            setting_up = sets_up and each.from_at == begins_at
            items = _items(subscription, its, each.quantity, conditions, from_at, setting_up)
            if each.is_ended:
                items = tuple(filter(_runs_on, items))
            phases.append(Phase(from_at, items))
    tenant = subscription["tenant_id"]
    return Timeline(
        anchor=anchor_of(subscription),
        interval=terms.interval(currency),
        currency=currency,
        phases=tuple(phases),
        attached=tuple(running(each) for each in attached),
        ended_at=subscription.get("charged_until_at"),
        proration=mode_of(subscription),
        first_period=FirstPeriod(subscription["first_period"]),
        used=conditions.used_by(subscription),
        policies=conditions.policies(subscription),
        parties=conditions.parties(subscription),
        tax_rounding=conditions.taxes.rounding(tenant),
        tax_ties=conditions.taxes.ties(tenant),
    )


def _runs_on(item: Item) -> bool:
    """Whether an item is for the time in which a subscription had ended too: it was paid before, or
    nothing of it is shared by time."""
    by_time = not item.metered and not isinstance(item.model, Commitment)
    return item.timing is not Timing.ARREARS or not by_time


def _moments(
    row: Mapping[str, Any],
    terms: PlanTerms,
    conditions: Conditions,
    from_at: datetime,
    until_at: datetime | None,
) -> list[datetime]:
    """Where a stage's prices begin: at its start, and at the periods from which a price is another
    by its ramp or by agreement."""
    found = {from_at}
    for price in terms.prices_in(row["currency"]):
        for moment, _ in _models(row, terms, price, conditions):
            if from_at < moment and (until_at is None or moment < until_at):
                found.add(moment)
    return sorted(found)


def _models(
    row: Mapping[str, Any], terms: PlanTerms, price: PriceTerms, conditions: Conditions
) -> list[tuple[datetime, PriceModel]]:
    """From when on a price is another, the later the stronger; what is agreed beats a ramp."""
    anchor, interval = anchor_of(row), terms.interval(row["currency"])
    steps = [(boundary(anchor, interval, n), model) for n, model in price.ramp]
    agreed = [
        (
            each.from_at
            if each.from_at <= row["cycle_started_at"]
            else boundary_from(anchor, interval, each.from_at),
            each.model,
        )
        for each in conditions.agreed_with(row, price.price_id)
    ]
    if agreed:
        steps = [each for each in steps if each[0] < agreed[0][0]]
    return [*steps, *agreed]


def _items(
    row: Mapping[str, Any],
    terms: PlanTerms,
    quantity: Decimal,
    conditions: Conditions,
    at: datetime,
    setting_up: bool,
) -> tuple[Item, ...]:
    cycle = terms.interval(row["currency"])
    items = []
    for each in terms.prices_in(row["currency"]):
        if each.timing is Timing.ONCE and not setting_up:
            continue
        begun = [model for from_at, model in _models(row, terms, each, conditions) if from_at <= at]
        items.append(
            Item(
                price_id=str(each.price_id),
                model=begun[-1] if begun else each.model,
                quantity=quantity,
                timing=each.timing,
                every=times_in(each.interval, cycle) or 1,
                names=line_names(terms, each),
                taxed=conditions.taxed(row, terms, each),
                metered=each.metered,
            )
        )
    return tuple(items)


async def history(
    tx: Tx, memory: TermsMemory, rows: Iterable[Mapping[str, Any]], first: Mapping[Key, datetime]
) -> dict[Key, History]:
    """The histories of subscriptions, with what was billed from each one's ``first`` moment on; and
    before it, what a plan that was left may have billed in arrears since then."""
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
                each.is_ended,
            )
            for each, following in zip(found[key], [*found[key][1:], None], strict=True)
            if following is None or following.from_at > row["cycle_started_at"]
        ]
        paid = [terms[key[0], each.plan_version_id] for each in stages]
        from_at = min([first[key], *(_in_arrears_from(row, each, first[key]) for each in paid)])
        billed = await store.billed_lines(tx, key, from_at=from_at)
        if len(billed) > store.MOST_LINES:
            raise CoreError(f"more than {store.MOST_LINES} lines to bill anew")
        known[key] = History(
            stages=stages,
            terms={each.plan_version_id: terms[key[0], each.plan_version_id] for each in stages},
            billed=billed,
        )
    return known


def _in_arrears_from(row: Mapping[str, Any], terms: PlanTerms, at: datetime) -> datetime:
    """The earliest moment of what these terms bill in arrears from ``at`` on."""
    if not terms.in_arrears(row["currency"]):
        return at
    n = index_at(anchor_of(row), terms.interval(row["currency"]), at)
    return min(at, period_start(row, terms, n - terms.longest(row["currency"])))


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
