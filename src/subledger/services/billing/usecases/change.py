"""Changes of plan, quantity and billing anchor: now, backdated, at a date, at the period's end;
settled at once or on the next invoice. A preview is the same computation without the save.

Same interval: the cycle goes on, the present period is billed anew and the difference is the
invoice. Another interval, or another billing anchor: the cycle ends here, what is unused is given
back, and a new one begins (``restart.py``). What gives more back than it costs becomes the
customer's credit, which pays for later invoices; money goes back only by a refund.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Row

from subledger.contracts.events import Recorded
from subledger.core import invoicing
from subledger.core.calendar import index_at
from subledger.core.errors import CoreError
from subledger.core.timeline import Draft
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import facts, problems
from subledger.services.billing.store import phases, subscriptions
from subledger.services.billing.terms import PlanTerms, TermsMemory
from subledger.services.billing.usecases import bill, guard, work_items
from subledger.services.billing.usecases.anchors import NOT_BEGUN, anchor_of
from subledger.services.billing.usecases.bill import Bill
from subledger.services.billing.usecases.close import check_paid
from subledger.services.billing.usecases.conditions import conditions_of
from subledger.services.billing.usecases.end import LIVE, lock_one, look_at_one
from subledger.services.billing.usecases.extensions import (
    PAUSED,
    billed_by,
    extension,
    history_in_paid_time,
    in_paid_time,
)
from subledger.services.billing.usecases.planned import Planned, Settle
from subledger.services.billing.usecases.recording import changed as _changed
from subledger.services.billing.usecases.recording import record as _record
from subledger.services.billing.usecases.restart import hung, restart
from subledger.services.billing.usecases.timelines import (
    History,
    Stage,
    billed_from,
    history,
    timeline,
)

MOST_PERIODS_BACK = 24


@dataclass(frozen=True, slots=True)
class ChangeRequest:
    """What is to be otherwise. ``plan_id``, ``quantity`` and ``billing_anchor`` (JSON text) None:
    as it is. A plan means its newest version, unless ``plan_version_id`` names another one of it.
    With a billing anchor a new cycle begins, aligned so.

    ``at`` is a moment (UTC), past or future, ``"period_end"``, or None for now. ``settle``: an
    invoice at once, on the next invoice, or ``auto``: at once if something is to be paid.
    """

    tenant_id: UUID
    subscription_id: UUID
    plan_id: UUID | None
    quantity: Decimal | None
    at: datetime | Literal["period_end"] | None
    settle: Settle
    cause: UUID | None
    billing_anchor: str | None = None
    plan_version_id: UUID | None = None
    forfeits: bool = False
    """The cycle ends here and gives nothing back, whatever the interval: it was never paid for."""


async def preview(tx: Tx, memory: TermsMemory, request: ChangeRequest) -> Planned:
    """What ``change`` would do now. Raises as it does."""
    row, _ = await look_at_one(tx, request.tenant_id, request.subscription_id)
    return await preview_row(tx, memory, request, row)


async def preview_row(
    tx: Tx,
    memory: TermsMemory,
    request: ChangeRequest,
    row: Row[Any],
    *,
    terms: PlanTerms | None = None,
) -> Planned:
    """As ``preview``, of a subscription that was read already; to ``terms`` that need not exist,
    if given."""
    account = (request.tenant_id, row.payer_id)
    accounts = await subscriptions.accounts(tx, [account])
    clock = (await tx.clocks({request.tenant_id}))[request.tenant_id]
    at = max(clock, accounts[account].last_occurred_at)
    return await _plan(tx, memory, request, row, at, terms)


async def change(tx: Tx, memory: TermsMemory, request: ChangeRequest) -> None:
    """Change a subscription, or remember to do so at a later moment.

    Raises Problem: not_found, subscription_ended, subscription_not_active, nothing_to_change,
    unknown_reference (plan), price_missing_for_currency, change_out_of_range, invoice_still_open,
    billing_limit_exceeded; CoreError for amounts out of range. A change that waited is replaced.
    """
    row, at = await lock_one(tx, request.tenant_id, request.subscription_id)
    await change_row(tx, memory, request, row, at)


async def change_row(
    tx: Tx, memory: TermsMemory, request: ChangeRequest, row: Row[Any], at: datetime
) -> Planned:
    """As ``change``, of a subscription that is locked already; tells what was done."""
    planned = await _plan(tx, memory, request, row, at)
    if planned.waits:
        await _schedule(tx, request, planned)
    else:
        await _unschedule(tx, row)
        await _apply(tx, planned, cause=request.cause)
    return planned


async def undo_change(
    tx: Tx, memory: TermsMemory, *, tenant_id: UUID, subscription_id: UUID, cause: UUID | None
) -> None:
    """Forget the change that a subscription waits for. Raises change_not_scheduled."""
    row, at = await lock_one(tx, tenant_id, subscription_id)
    key = (tenant_id, subscription_id)
    if key not in await phases.scheduled(tx, [key]):
        raise Problem(problems.CHANGE_NOT_SCHEDULED, detail="The subscription waits for no change.")
    await _unschedule(tx, row)
    terms = await memory.load(tx, [(tenant_id, row.plan_version_id)])
    await _record(tx, row, "change_undone", effective_at=at, at=at, data={})
    tx.emit([_changed(row, terms[tenant_id, row.plan_version_id], ["scheduled_change"], at, cause)])


async def reach_change(tx: Tx, memory: TermsMemory, given: Sequence[Recorded]) -> None:
    """Changes whose moment came. One that is not possible any more is forgotten and opens a work
    item; the subscription goes on as it is."""
    for event in given:
        key = (event.tenant_id, ids.parse("sub", event.data["subscription_id"]))
        accounts = await subscriptions.accounts(tx, [(event.tenant_id, event.subject)])
        (row,) = await subscriptions.lock_subscriptions(tx, [key])
        waiting = (await phases.scheduled(tx, [key])).get(key)
        at = (await subscriptions.moments(tx, accounts, accounts))[event.tenant_id, event.subject]
        if waiting is None or waiting.effective_at > at or row.status not in LIVE:
            continue
        if row.status == PAUSED:  # it waits until the subscription is resumed
            await subscriptions.due.drop(tx, [(row.tenant_id, subscriptions.CHANGE, row.id)])
            continue
        await _unschedule(tx, row)
        request = ChangeRequest(
            tenant_id=event.tenant_id,
            subscription_id=row.id,
            plan_id=waiting.plan_id,
            quantity=waiting.quantity,
            at=waiting.effective_at,
            settle=waiting.settle,
            cause=event.id,
            billing_anchor=waiting.billing_anchor,
            plan_version_id=waiting.plan_version_id,
        )
        try:
            planned = await _plan_reached(tx, memory, request, row, at)
        except (Problem, CoreError) as refused:
            await _refuse(tx, row, at, event, f"{refused.code}: {refused.detail}")
            continue
        await _apply(tx, planned, cause=event.id)


async def _plan_reached(
    tx: Tx, memory: TermsMemory, request: ChangeRequest, row: Row[Any], at: datetime
) -> Planned:
    """As ``_plan``; what it would give back of an invoice that is not paid yet waits for the next
    invoice, since nobody is there to choose that."""
    try:
        return await _plan(tx, memory, request, row, at)
    except Problem as refused:
        if refused.code != problems.INVOICE_STILL_OPEN:
            raise
        return await _plan(tx, memory, replace(request, settle="next_invoice"), row, at)


async def _refuse(tx: Tx, row: Row[Any], at: datetime, event: Recorded, reason: str) -> None:
    data = {"subscription_id": event.data["subscription_id"], "reason": reason}
    await _record(tx, row, "change_refused", effective_at=at, at=at, data=data)
    await work_items.open_item(
        tx,
        tenant_id=row.tenant_id,
        account_id=row.payer_id,
        kind="change_refused",
        data=data,
        at=at,
        cause=event.id,
    )


async def _plan(
    tx: Tx,
    memory: TermsMemory,
    request: ChangeRequest,
    row: Row[Any],
    at: datetime,
    terms: PlanTerms | None = None,
) -> Planned:
    if row.status == "incomplete":
        raise Problem(
            problems.SUBSCRIPTION_NOT_ACTIVE, detail="The first payment was not made yet."
        )
    if row.status == PAUSED:
        raise Problem(problems.SUBSCRIPTION_PAUSED, detail="A change takes effect while it runs.")
    tenant, values = request.tenant_id, row._asdict()
    old = (await memory.load(tx, [(tenant, row.plan_version_id)]))[tenant, row.plan_version_id]
    new = terms or await _new_terms(tx, memory, request, old)
    quantity = request.quantity if request.quantity is not None else row.quantity
    if (
        new.plan_version_id == old.plan_version_id
        and quantity == row.quantity
        and request.billing_anchor is None
    ):
        raise Problem(problems.NOTHING_TO_CHANGE, detail="Plan and quantity are so already.")
    prices = new.prices_in(row.currency)
    if not prices:
        raise Problem(
            problems.PRICE_MISSING, pointer="/plan_id",
            detail=f"The plan has no price in {row.currency}.",
        )  # fmt: skip
    if request.at == "period_end":
        effective_at = max(row.current_period_end_at, at)
    elif row.status == "pending":  # from its start day on
        effective_at = max(request.at or at, row.started_at)
    else:
        effective_at = request.at or at
    if row.status in NOT_BEGUN and effective_at <= at:
        # Its trial or its wait may be over: then it changes as of that end, where billing begins.
        effective_at = min(effective_at, row.current_period_end_at)
    attached = (await subscriptions.attached_discounts(tx, [(tenant, row.id)])).get(
        (tenant, row.id), []
    )
    planned = Planned(
        row=row,
        at=at,
        effective_at=effective_at,
        quantity=quantity,
        before=old,
        terms=new,
        draft=None,
        after=values | {"plan_version_id": new.plan_version_id, "quantity": quantity},
        restarts=request.billing_anchor is not None
        or request.forfeits
        or new.interval(row.currency) != old.interval(row.currency),
        forfeits=request.forfeits,
        settle=request.settle,
        attached=attached,
    )
    _check_moment(row, planned)
    if planned.restarts:
        planned = await hung(tx, planned, request.billing_anchor)
    if planned.waits:
        return planned
    if row.status in NOT_BEGUN:  # nothing was billed: the first invoice will be of what is then
        return replace(planned, restarts=False)
    _check_billed(row, planned)
    found = await (restart if planned.restarts else _go_on)(tx, memory, planned)
    if found.draft is not None:
        await _check_bill(tx, found, found.draft)
    return found


async def _check_bill(tx: Tx, planned: Planned, draft: Draft) -> None:
    """What a change would bill at once: nothing is given back that was not paid, it is not above
    the tenant's largest invoice and has no more lines than a run."""
    row = planned.row
    if planned.restarts or planned.settle == "now":
        await check_paid(tx, row, draft)
    if planned.settle != "next_invoice":
        await guard.refuse_large(
            tx, tenant_id=row.tenant_id, at=planned.at, currency=row.currency,
            total_minor=draft.total_minor,
        )  # fmt: skip
    if len(draft.lines) > bill.MOST_LINES:
        raise Problem(
            problems.CHANGE_OUT_OF_RANGE, pointer="/at",
            detail=f"It would make {len(draft.lines)} lines, {bill.MOST_LINES} is the most.",
        )  # fmt: skip


async def _new_terms(
    tx: Tx, memory: TermsMemory, request: ChangeRequest, old: PlanTerms
) -> PlanTerms:
    if request.plan_id is None:
        return old
    if request.plan_version_id is not None:
        chosen = (request.tenant_id, request.plan_version_id)
        return (await memory.load(tx, [chosen]))[chosen]
    plan = (request.tenant_id, request.plan_id)
    version = (await subscriptions.latest_versions(tx, [plan])).get(plan)
    if version is None:
        raise Problem(
            problems.UNKNOWN_REFERENCE, pointer="/plan_id", detail="There is no such plan."
        )
    return (await memory.load(tx, [(request.tenant_id, version)]))[request.tenant_id, version]


def _check_moment(row: Row[Any], planned: Planned) -> None:
    """Not before the start (or, for another interval, the past), not after the end."""
    ends_at = row.cancel_at
    if planned.effective_at < row.started_at:
        what = "before the subscription's start"
    elif planned.restarts and planned.effective_at < min(planned.at, row.current_period_end_at):
        what = "in the past, with another interval or anchor"
    elif ends_at is not None and planned.effective_at >= ends_at:
        what = "when the subscription has ended"
    else:
        return
    raise Problem(
        problems.CHANGE_OUT_OF_RANGE, pointer="/at", detail=f"A change {what} is not possible."
    )


def _check_billed(row: Row[Any], planned: Planned) -> None:
    """A change reaches at most one period beyond what is billed, where renewals are late or held
    (a cycle that begins anew begins at the end of what is billed)."""
    end_at = row.current_period_end_at
    if planned.effective_at <= end_at:
        return
    interval = planned.before.interval(row.currency)
    first = index_at(anchor_of(row._asdict()), interval, planned.effective_at)
    if row.is_extended or first > row.period_number + 1:
        raise Problem(
            problems.CHANGE_OUT_OF_RANGE,
            pointer="/at",
            detail=f"The renewal of {facts.moment(end_at)} is not billed yet.",
            fix=f"Change it as of {facts.moment(end_at)}, or when the renewal is billed: see"
            " GET /v1/kill-switches and GET /v1/billing-parks.",
        )


async def _go_on(tx: Tx, memory: TermsMemory, planned: Planned) -> Planned:
    """The cycle goes on: bill anew from the period in which the change takes effect."""
    row = planned.row
    key = (row.tenant_id, row.id)
    within = await extension(tx, row)
    values, effective_at = in_paid_time(row._asdict(), within), within.paid(planned.effective_at)
    interval = planned.before.interval(row.currency)
    first = max(index_at(anchor_of(values), interval, effective_at), 0)
    if first > row.period_number:
        if planned.effective_at <= row.current_period_end_at or row.dirty_from_period is not None:
            return planned
        # Inside a period whose renewal is late: that renewal bills both parts.
        return replace(planned, after=planned.after | {"dirty_from_period": first})
    if row.dirty_from_period is not None:
        first = min(first, row.dirty_from_period)
    longest = max(each.longest(row.currency) for each in (planned.before, planned.terms))
    first -= first % longest
    if row.period_number - first > MOST_PERIODS_BACK:
        raise Problem(
            problems.CHANGE_OUT_OF_RANGE, pointer="/at",
            detail=f"A change reaches back {MOST_PERIODS_BACK} periods at most.",
        )  # fmt: skip
    from_at = min(billed_from(values, each, first) for each in (planned.before, planned.terms))
    known = (await history(tx, memory, [values], {key: from_at}))[key]
    last = known.stages[-1].from_at
    if planned.effective_at < last:
        raise Problem(
            problems.CHANGE_OUT_OF_RANGE, pointer="/at",
            detail=f"Another change took effect later, at {facts.moment(last)}.",
        )  # fmt: skip
    changed = history_in_paid_time(_with_stage(known, planned), within)
    draft = invoicing.redraft(
        timeline(
            values,
            planned.terms,
            planned.attached,
            await conditions_of(tx, memory, values, changed.terms.values(), planned.at),
            changed,
        ),
        billed=changed.billed,
        first_period=first,
        periods=row.period_number - first + 1,
        horizon_at=within.paid(planned.at),
    )
    draft = within.real_draft(draft, known.billed)
    return replace(planned, draft=draft, after=planned.after | {"dirty_from_period": first})


def _with_stage(known: History, planned: Planned) -> History:
    stage = Stage(planned.effective_at, planned.terms.plan_version_id, planned.quantity)
    kept = [each for each in known.stages if each.from_at < stage.from_at]
    return replace(
        known,
        stages=[*kept, stage],
        terms={**known.terms, stage.plan_version_id: planned.terms},
    )


async def _apply(tx: Tx, planned: Planned, *, cause: UUID | None) -> None:
    row, draft, after = planned.row, planned.draft, dict(planned.after)
    # What is billed in arrears is still to come, and needs to know of the change.
    settled = {"dirty_from_period": after["dirty_from_period"] if _in_arrears(planned) else None}
    if draft is not None and not draft.lines and not planned.restarts:
        draft, after = None, after | settled
    now = planned.settles_now
    await phases.insert_phases(
        tx,
        [
            {
                "tenant_id": row.tenant_id,
                "subscription_id": row.id,
                "from_at": planned.effective_at,
                "plan_version_id": planned.terms.plan_version_id,
                "quantity": planned.quantity,
                "recorded_at": planned.at,
            }
        ],
    )
    changed = [
        name
        for name, old, new in (
            ("plan_version_id", row.plan_version_id, planned.terms.plan_version_id),
            ("quantity", row.quantity, planned.quantity),
            ("current_period_end_at", row.current_period_end_at, after["current_period_end_at"]),
            ("billing_anchor", row.billing_anchor, after["billing_anchor"]),
        )
        if old != new
    ]
    await _record(
        tx, row, "changed", effective_at=planned.effective_at, at=planned.at,
        data={"plan_version_id": str(planned.terms.plan_version_id),
              "quantity": str(planned.quantity), "settled": "now" if now else "next_invoice"},
    )  # fmt: skip
    tx.emit([_changed(after, planned.terms, changed, planned.at, cause)])
    if now:
        assert draft is not None
        after |= {**billed_by(row, draft), **settled}
        saved = await bill.save(
            tx,
            [
                Bill(
                    subscription=row._asdict(),
                    terms=planned.terms,
                    draft=draft,
                    attached=planned.attached,
                    reason="subscription_change",
                    at=planned.at,
                    cause=cause,
                    kind="restart" if planned.restarts else "change",
                )
            ],
        )
        tx.emit(event for each in saved for event in each.paid)
    await subscriptions.change_subscriptions(tx, [after])
    if after["current_period_end_at"] != row.current_period_end_at:
        await subscriptions.put_renewals(tx, [after])


def _in_arrears(planned: Planned) -> bool:
    """Whether a price of the going cycle is billed when its period is over."""
    terms = (planned.before, planned.terms)
    return not planned.restarts and any(each.in_arrears(planned.row.currency) for each in terms)


async def _schedule(tx: Tx, request: ChangeRequest, planned: Planned) -> None:
    row = planned.row
    await phases.schedule(
        tx,
        [
            {
                "tenant_id": row.tenant_id,
                "subscription_id": row.id,
                "effective_at": planned.effective_at,
                "plan_id": request.plan_id,
                "quantity": request.quantity,
                "settle": request.settle,
                "billing_anchor": request.billing_anchor,
                "recorded_at": planned.at,
                "plan_version_id": request.plan_version_id,
            }
        ],
    )
    await subscriptions.put_due(tx, subscriptions.CHANGE, [(row, planned.effective_at)])
    await _record(
        tx, row, "change_scheduled", effective_at=planned.effective_at, at=planned.at,
        data={"plan_id": str(planned.terms.plan_id), "quantity": str(planned.quantity)},
    )  # fmt: skip
    tx.emit([_changed(row, planned.before, ["scheduled_change"], planned.at, request.cause)])


async def _unschedule(tx: Tx, row: Row[Any]) -> None:
    await phases.unschedule(tx, [(row.tenant_id, row.id)])
    await subscriptions.due.drop(tx, [(row.tenant_id, subscriptions.CHANGE, row.id)])
