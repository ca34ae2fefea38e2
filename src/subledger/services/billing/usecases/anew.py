"""The present period billed anew: a pause begins or is over, an end was moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from subledger.core import invoicing
from subledger.core.timeline import Draft
from subledger.platform.db import Tx
from subledger.services.billing.terms import PlanTerms, TermsMemory
from subledger.services.billing.usecases.conditions import conditions_of
from subledger.services.billing.usecases.extensions import (
    extension,
    history_in_paid_time,
    in_paid_time,
)
from subledger.services.billing.usecases.timelines import (
    History,
    Stage,
    billed_from,
    history,
    timeline,
)


@dataclass(frozen=True, slots=True)
class Anew:
    """What is to be billed and given back, and ``look_back_from``: the first period that what
    falls due in arrears later has to look back to (None if no price does)."""

    draft: Draft
    look_back_from: int | None


async def present_period(
    tx: Tx,
    memory: TermsMemory,
    row: Row[Any],
    terms: PlanTerms,
    attached: Sequence[Row[Any]],
    *,
    stages: Sequence[Stage] = (),
    at: datetime,
) -> Anew | None:
    """The difference to what is billed of the present period by now, with ``stages`` in place of
    what was known from the first of them on. None before a cycle's first run: nothing is billed."""
    if row.period_number < 0:
        return None
    within = await extension(tx, row)
    values = in_paid_time(row._asdict(), within)
    first = row.period_number if row.dirty_from_period is None else row.dirty_from_period
    first -= first % terms.longest(row.currency)
    key, from_at = (row.tenant_id, row.id), billed_from(values, terms, first)
    found = (await history(tx, memory, [values], {key: from_at}))[key]
    known = history_in_paid_time(with_stages(found, stages, terms), within)
    draft = invoicing.redraft(
        timeline(
            values,
            terms,
            attached,
            await conditions_of(tx, memory, values, [terms, *known.terms.values()], at),
            known,
        ),
        billed=known.billed,
        first_period=first,
        periods=row.period_number - first + 1,
        horizon_at=within.paid(at),
    )
    look_back_from = first if terms.in_arrears(row.currency) else None
    return Anew(within.real_draft(draft, found.billed), look_back_from)


def stage(row: Row[Any], from_at: datetime, *, is_paused: bool = False) -> Stage:
    """From a moment on it pays what it pays now, or nothing."""
    return Stage(from_at, row.plan_version_id, row.quantity, is_paused)


def with_stages(known: History, stages: Sequence[Stage], terms: PlanTerms) -> History:
    """A history with other stages at its end."""
    if not stages:
        return known
    kept = [each for each in known.stages if each.from_at < stages[0].from_at]
    given = {each.from_at: each for each in stages}
    return replace(
        known,
        stages=[*kept, *given.values()],
        terms={**known.terms, terms.plan_version_id: terms},
    )
