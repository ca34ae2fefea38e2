"""A change of a whole plan before it is made: who pays what now and then, and the sums.

The details of a page are the change itself without the save, subscription by subscription. The
sums run over all subscriptions, read a thousand at a time, up to a limit that is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.core.errors import CoreError
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing.store import phases, subscriptions
from subledger.services.billing.store import plan_migrations as store
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.terms import PlanTerms, TermsMemory
from subledger.services.billing.usecases import change
from subledger.services.billing.usecases.conditions import Conditions
from subledger.services.billing.usecases.plan_routes import (
    Amounts,
    Asked,
    Compared,
    Route,
    Summary,
    Total,
    conditions_for,
    find_route,
    why_not,
)
from subledger.services.billing.usecases.planned import Planned

MOST_SUMMED = 20_000
_AT_A_TIME = 1_000


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What the change would do to one subscription; ``reason`` (code, detail) if it cannot."""

    row: Row[Any]
    plan_id: UUID
    compared: Compared | None
    planned: Planned | None
    reason: tuple[str, str] | None

    @property
    def immediate_minor(self) -> int:
        """The lines that the change makes when it is made, invoiced at once or on the next one."""
        if self.planned is None or self.planned.draft is None:
            return 0
        return self.planned.draft.total_minor


@dataclass(frozen=True, slots=True)
class PlanPreview:
    """One page in detail, and the sums over all (or the first 20,000: ``is_complete`` False)."""

    route: Route
    page: Sequence[Foreseen]
    totals: Sequence[Total]
    subscriptions: int
    is_complete: bool
    reasons: Mapping[str, int]


async def preview_plan(
    tx: Tx, memory: TermsMemory, asked: Asked, *, after: UUID, limit: int
) -> PlanPreview:
    """What moving the plan's subscriptions would do now, by their ids above ``after``.

    ``reasons`` counts those that cannot change by what can be told without computing their
    invoices; what only that tells (an open invoice, too many lines) is in the page. Raises as
    ``find_route`` does.
    """
    route = await find_route(tx, memory, asked)
    amounts = Amounts()
    page = await _page(tx, memory, route, amounts, after=after, limit=limit)
    summary, reasons, last, found = Summary(), Counter[str](), store.FIRST, 0
    while found < MOST_SUMMED:
        rows = await store.living_on(tx, route.leaving, after=last, limit=_AT_A_TIME)
        if rows:
            found, last = found + len(rows), rows[-1].id
            await _sum(tx, memory, route, amounts, [row.id for row in rows], summary, reasons)
        if len(rows) < _AT_A_TIME:
            break
    more = await store.living_on(tx, route.leaving, after=last, limit=1)
    return PlanPreview(
        route=route,
        page=page,
        totals=summary.totals(),
        subscriptions=found,
        is_complete=not more,
        reasons=dict(sorted(reasons.items())),
    )


@dataclass(frozen=True, slots=True)
class _Loaded:
    rows: Sequence[Row[Any]]
    terms: Mapping[Key, PlanTerms]
    attached: Mapping[Key, list[Row[Any]]]
    scheduled: Mapping[Key, Row[Any]]
    conditions: Conditions


async def _load(tx: Tx, memory: TermsMemory, route: Route, ids: Sequence[UUID]) -> _Loaded:
    keys = [(route.asked.tenant_id, each) for each in ids]
    rows = await subscriptions.subscriptions(tx, keys)
    terms = await memory.load(tx, {(row.tenant_id, row.plan_version_id) for row in rows})
    return _Loaded(
        rows=rows,
        terms=terms,
        attached=await subscriptions.attached_discounts(tx, keys),
        scheduled=await phases.scheduled(tx, keys),
        conditions=await conditions_for(tx, memory, rows, terms, route.target),
    )


def _compare(
    route: Route, amounts: Amounts, loaded: _Loaded, row: Row[Any]
) -> Compared | tuple[str, str]:
    """What it pays now and then, or why it cannot change."""
    key = (row.tenant_id, row.id)
    reason = why_not(row, effective=route.asked.effective, has_scheduled=key in loaded.scheduled)
    if reason is not None:
        return reason
    old = loaded.terms[row.tenant_id, row.plan_version_id]
    try:
        attached = loaded.attached.get(key, ())
        return amounts.compare(row, old, route.target, attached, loaded.conditions)
    except (Problem, CoreError) as refused:
        return refused.code, refused.detail


async def _sum(
    tx: Tx, memory: TermsMemory, route: Route, amounts: Amounts, ids: Sequence[UUID],
    summary: Summary, reasons: Counter[str],
) -> None:  # fmt: skip
    loaded = await _load(tx, memory, route, ids)
    for row in loaded.rows:
        found = _compare(route, amounts, loaded, row)
        if isinstance(found, Compared):
            summary.add(found)
        else:
            reasons[found[0]] += 1


async def _page(
    tx: Tx, memory: TermsMemory, route: Route, amounts: Amounts, *, after: UUID, limit: int
) -> list[Foreseen]:
    listed = await store.living_on(tx, route.leaving, after=after, limit=limit)
    loaded = await _load(tx, memory, route, [each.id for each in listed])
    page = []
    for row in loaded.rows:
        plan_id = loaded.terms[row.tenant_id, row.plan_version_id].plan_id
        found = _compare(route, amounts, loaded, row)
        if not isinstance(found, Compared):
            page.append(Foreseen(row, plan_id, None, None, found))
            continue
        request = route.request(row.id, None)
        try:
            planned = await change.preview_row(tx, memory, request, row, terms=route.target)
        except (Problem, CoreError) as refused:
            page.append(Foreseen(row, plan_id, found, None, (refused.code, refused.detail)))
            continue
        page.append(Foreseen(row, plan_id, found, planned, None))
    return page
