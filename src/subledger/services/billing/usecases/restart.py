"""A change that ends the cycle and begins another: a new interval, a new billing anchor.

What is unused of the period that is cut is given back, and the new cycle's first period, a stub up
to its first boundary, is charged (conformance README, "interval change").
"""

from __future__ import annotations

from dataclasses import replace

from subledger.core import invoicing
from subledger.core.errors import InvalidInterval
from subledger.platform.db import Tx
from subledger.services.billing.store import subscriptions
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases.anchors import NOT_BEGUN, begun, does_not_fit
from subledger.services.billing.usecases.close import closing_draft
from subledger.services.billing.usecases.conditions import conditions_of
from subledger.services.billing.usecases.planned import Planned
from subledger.services.billing.usecases.timelines import timeline


async def hung(tx: Tx, planned: Planned, asked: str | None) -> Planned:
    """With the cycle that begins at the change (or still lies ahead of a trial), in the payer's
    present zone. Where the period is over already but not renewed yet, the cycle begins at its
    end, so that no moment is left out. Raises billing_anchor_does_not_fit."""
    row = planned.row
    if not planned.waits and row.status not in NOT_BEGUN:
        effective_at = min(planned.effective_at, row.current_period_end_at)
        planned = replace(planned, effective_at=effective_at)
    account = (row.tenant_id, row.payer_id)
    timezone = (await subscriptions.accounts(tx, [account]))[account].timezone
    start_at = planned.effective_at
    if row.status in NOT_BEGUN:
        start_at = max(start_at, row.cycle_started_at)
    interval = planned.terms.interval(row.currency)
    try:
        cycle = begun(start_at, timezone, interval, asked or row.billing_anchor)
    except InvalidInterval as refused:
        raise does_not_fit(refused) from refused
    kept = row.first_period if row.status in NOT_BEGUN else "prorated"
    return replace(planned, after=planned.after | cycle | {"first_period": kept})


async def restart(tx: Tx, memory: TermsMemory, planned: Planned) -> Planned:
    """The cycle ends at the change, which gives back what is unused unless it is forfeited, and
    another begins."""
    row = planned.row
    start_at = planned.effective_at
    fresh = planned.after | {"dirty_from_period": None, "is_extended": False}
    longest = planned.before.longest(row.currency)
    over = start_at >= row.current_period_end_at and (row.period_number + 1) % longest == 0
    arrears = planned.before.in_arrears(row.currency) and row.period_number >= 0
    if over and row.dirty_from_period is None and not arrears:
        # At the period's end: the renewal that is due then bills the first period.
        return replace(planned, after=fresh | {"period_number": -1, "is_extended": row.is_extended})
    closing = await closing_draft(
        tx, memory, row, planned.before, planned.attached, at=start_at,
        credit_unused=not planned.forfeits,
    )  # fmt: skip
    opening = invoicing.draft(
        timeline(
            fresh,
            planned.terms,
            planned.attached,
            await conditions_of(tx, memory, fresh, [planned.terms], planned.at),
        ),
        first_period=0,
        horizon_at=planned.at,
    )
    covered = opening.period
    assert covered is not None, "the change lies in the new cycle's first period"
    after = fresh | {
        "current_period_start_at": covered.start_at,
        "current_period_end_at": covered.end_at,
        "billed_through_at": covered.end_at,
        "period_number": 0,
    }
    draft = opening if closing is None else invoicing.join(closing, opening)
    return replace(planned, draft=draft, after=after)
