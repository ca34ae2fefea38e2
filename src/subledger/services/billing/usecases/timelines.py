"""A subscription as the core sees it: its phases over time and what was billed for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.core import invoicing
from subledger.core.calendar import Anchor, boundary
from subledger.core.discounts import Discount, Duration, Kind
from subledger.core.errors import CoreError
from subledger.core.invoicing import draft
from subledger.core.proration import BY_DAY, BY_SECOND
from subledger.core.timeline import Attached, Draft, Item, Line, Phase, Timeline
from subledger.platform.db import Tx
from subledger.services.billing.store import phases as store
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.terms import PlanTerms, TermsMemory

_MODES = {"day": BY_DAY, "second": BY_SECOND}


@dataclass(frozen=True, slots=True)
class Stage:
    """From when a subscription pays for what."""

    from_at: datetime
    plan_version_id: UUID
    quantity: Decimal


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
) -> Timeline:
    """A subscription as the core sees it: as it is now, or with its ``history``."""
    currency = subscription["currency"]
    if history is None:
        now = _items(terms, currency, subscription["quantity"])
        phases: tuple[Phase, ...] = (Phase(subscription["started_at"], now),)
    else:
        phases = tuple(
            Phase(
                each.from_at, _items(history.terms[each.plan_version_id], currency, each.quantity)
            )
            for each in history.stages
        )
    return Timeline(
        anchor=Anchor(subscription["anchor_at"], subscription["timezone"]),
        interval=terms.prices_in(currency)[0].interval,
        currency=currency,
        phases=phases,
        attached=tuple(Attached(discount_of(each), each.used_periods) for each in attached),
        ended_at=subscription.get("cancel_at"),
        proration=_MODES[subscription["proration"]],
    )


def _phase(stage: Stage, terms: PlanTerms, currency: str) -> Phase:
    return Phase(stage.from_at, _items(terms, currency, stage.quantity))


def _items(terms: PlanTerms, currency: str, quantity: Decimal) -> tuple[Item, ...]:
    return tuple(
        Item(str(each.price_id), each.model, quantity) for each in terms.prices_in(currency)
    )


def discount_of(row: Row[Any]) -> Discount:
    """A discount's row as the core sees it."""
    return Discount(
        id=str(row.id),
        kind=Kind(row.kind),
        percent=row.percent,
        amount_minor=row.amount_minor,
        currency=row.currency,
        duration=Duration(row.duration),
        periods=row.periods,
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
            Stage(max(each.from_at, row["anchor_at"]), each.plan_version_id, each.quantity)
            for each, following in zip(found[key], [*found[key][1:], None], strict=True)
            if following is None or following.from_at > row["anchor_at"]
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
    """Where the subscription's n-th period begins."""
    interval = terms.prices_in(row["currency"])[0].interval
    return boundary(Anchor(row["anchor_at"], row["timezone"]), interval, n)


def redraft(known: Timeline, billed: Sequence[Line], *, first_period: int, periods: int,
            horizon_at: datetime) -> Draft:  # fmt: skip
    """Bill ``periods`` periods anew. The discounts' counters hold what ``billed`` has taken
    already, so that is left out of them first."""
    taken = invoicing.taken(billed, known, first_period=first_period, periods=periods)
    fresh = Timeline(
        anchor=known.anchor,
        interval=known.interval,
        currency=known.currency,
        phases=known.phases,
        attached=tuple(
            Attached(each.discount, max(each.used_periods - taken.get(each.discount.id, 0), 0))
            for each in known.attached
        ),
        ended_at=known.ended_at,
        proration=known.proration,
    )
    return draft(
        fresh,
        first_period=first_period,
        horizon_at=horizon_at,
        billed=billed,
        most_periods=periods,
    )
