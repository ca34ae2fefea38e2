"""Paused subscriptions go on: in the period that was running, or in the one that runs by now.

After ``credit`` and ``none`` the cycle keeps its grid. If the period that was paid is not over,
``credit`` charges what is left of it anew and ``none`` nothing; otherwise the period that contains
the moment is charged from that moment on, by its share (Kill Bill; Stripe's ``unchanged`` anchor).
After ``extend`` nothing is charged: the period ends later, and the next cycle hangs there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Row

from subledger.contracts import events
from subledger.core import invoicing
from subledger.core.calendar import Period, index_at
from subledger.core.errors import CoreError
from subledger.core.extension import Extension, Pause
from subledger.core.states import SUBSCRIPTION, step
from subledger.core.timeline import Draft
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import facts, problems
from subledger.services.billing.store import invoices, pauses, phases, subscriptions
from subledger.services.billing.terms import PlanTerms, TermsMemory
from subledger.services.billing.usecases import anew, recognize_pauses, recording, work_items
from subledger.services.billing.usecases.anchors import anchor_of
from subledger.services.billing.usecases.bill import check_lines
from subledger.services.billing.usecases.close import closing_draft
from subledger.services.billing.usecases.conditions import conditions_of
from subledger.services.billing.usecases.documents import Kind
from subledger.services.billing.usecases.end import MOST_AHEAD, lock_one, look_at_one
from subledger.services.billing.usecases.extensions import (
    PAUSED,
    extension,
    next_cycle,
)
from subledger.services.billing.usecases.invoice_now import invoice_now
from subledger.services.billing.usecases.timelines import (
    billed_from,
    history,
    timeline,
)

_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ResumeRequest:
    """When a paused subscription goes on: a moment (UTC) or now."""

    tenant_id: UUID
    subscription_id: UUID
    at: datetime | Literal["now"]
    cause: UUID | None


@dataclass(frozen=True, slots=True)
class PlannedResume:
    """A resumption as it would happen, nothing saved."""

    row: Row[Any]
    pause: Row[Any]
    terms: PlanTerms
    attached: Sequence[Row[Any]]
    at: datetime
    from_at: datetime
    after: dict[str, Any]
    """The subscription's columns once it goes on."""
    draft: Draft | None = None
    kind: Kind = "change"
    look_back_from: int | None = None
    """What falls due in arrears from this period on has to look back to the pause."""
    moved: Extension | None = None
    """The period that ends later by the pause."""

    @property
    def waits(self) -> bool:
        return self.from_at > self.at


async def preview(tx: Tx, memory: TermsMemory, request: ResumeRequest) -> PlannedResume:
    """What ``resume`` would do now. Raises as it does."""
    row, at = await look_at_one(tx, request.tenant_id, request.subscription_id)
    return await _request(tx, memory, request, row, at)


async def resume(tx: Tx, memory: TermsMemory, request: ResumeRequest) -> None:
    """Let a paused subscription go on, or remember to do so; a moment that waited is replaced.

    Raises Problem: not_found, subscription_ended, subscription_not_paused, pause_out_of_range;
    CoreError for an invoice that cannot be made.
    """
    row, at = await lock_one(tx, request.tenant_id, request.subscription_id)
    planned = await _request(tx, memory, request, row, at)
    if not planned.waits:
        await _go_on(tx, planned, request.cause)
        return
    from_at = planned.from_at
    await pauses.save(tx, [planned.pause._asdict() | {"resume_at": from_at}])
    await subscriptions.put_due(tx, subscriptions.PAUSE, [(row, from_at)])
    await recording.record(tx, row, "resume_scheduled", effective_at=from_at, at=at)
    tx.emit([recording.changed(row, planned.terms, ["pause"], at, request.cause)])


async def reach(
    tx: Tx, memory: TermsMemory, row: Row[Any], pause: Row[Any], at: datetime, cause: UUID
) -> None:
    """The moment of a resumption may have come. Raises as ``resume``."""
    if pause.resume_at is not None and pause.resume_at <= at:
        await _go_on(tx, await _plan(tx, memory, row, pause, at, pause.resume_at), cause)


async def when_paid(
    tx: Tx, memory: TermsMemory, rows: Sequence[Row[Any]], at: datetime, cause: UUID | None
) -> None:
    """An invoice of these locked subscriptions was paid: those that dunning paused go on, unless
    more is owed. One that cannot stays paused and opens a work item."""
    paused = {(row.tenant_id, row.id): row for row in rows if row.status == PAUSED}
    if not paused:
        return
    waiting = await pauses.open_pauses(tx, paused)
    owed = await invoices.open_invoices_of(tx, paused)
    for key, row in paused.items():
        if waiting[key].until_paid and not owed.get(key):
            await go_on(tx, memory, row, waiting[key], at, cause)


async def go_on(
    tx: Tx, memory: TermsMemory, row: Row[Any], pause: Row[Any], at: datetime, cause: UUID | None
) -> None:
    """What a locked subscription was paused for is over: it goes on now. One that cannot stays
    paused and opens a work item."""
    try:
        planned = await _plan(tx, memory, row, pause, at, at)
    except (Problem, CoreError) as refused:
        await work_items.open_item(
            tx,
            tenant_id=row.tenant_id,
            account_id=row.payer_id,
            kind="resume_refused",
            data={
                "subscription_id": ids.text("sub", row.id),
                "reason": f"{refused.code}: {refused.detail}",
            },
            at=at,
            cause=cause,
        )
        return
    await _go_on(tx, planned, cause)


async def _request(
    tx: Tx, memory: TermsMemory, request: ResumeRequest, row: Row[Any], at: datetime
) -> PlannedResume:
    key = (row.tenant_id, row.id)
    if row.status != PAUSED:
        raise Problem(problems.SUBSCRIPTION_NOT_PAUSED, detail=f"The subscription is {row.status}.")
    pause = (await pauses.open_pauses(tx, [key]))[key]
    from_at = at if request.at == "now" else request.at
    what = None
    if from_at < at:
        what = "in the past"
    elif from_at > at + MOST_AHEAD:
        what = "more than ten years ahead"
    elif at < from_at and not _moves_end(row, pause) and from_at >= (row.cancel_at or _NEVER):
        what = "when the subscription has ended"
    if what is not None:
        raise Problem(
            problems.PAUSE_OUT_OF_RANGE, pointer="/at", detail=f"To go on {what} is not possible."
        )
    return await _plan(tx, memory, row, pause, at, from_at)


def _moves_end(row: Row[Any], pause: Row[Any]) -> bool:
    """True if the end that was asked for is the end of the period, which the pause moves."""
    return bool(pause.credit == "extend" and row.cancel_at == row.current_period_end_at)


async def _plan(
    tx: Tx, memory: TermsMemory, row: Row[Any], pause: Row[Any], at: datetime, from_at: datetime
) -> PlannedResume:
    key = (row.tenant_id, row.id)
    terms = (await memory.load(tx, [(row.tenant_id, row.plan_version_id)]))[
        row.tenant_id, row.plan_version_id
    ]
    attached = (await subscriptions.attached_discounts(tx, [key])).get(key, [])
    planned = PlannedResume(row, pause, terms, attached, at, from_at, row._asdict())
    if planned.waits:
        return planned
    if pause.credit == "extend":
        return await _extend(tx, planned)
    if from_at >= row.current_period_end_at:
        found = await _in_a_later_period(tx, memory, planned)
    elif pause.credit == "credit":
        found = await _in_the_same_period(tx, memory, planned)
    else:
        return planned
    assert found.draft is not None
    check_lines(found.draft)
    return found if found.draft.lines or found.kind == "resume" else replace(found, draft=None)


async def _extend(tx: Tx, planned: PlannedResume) -> PlannedResume:
    row = planned.row
    moved = _moved(await extension(tx, row), planned.from_at)
    return replace(
        planned,
        after=planned.after | {"current_period_end_at": moved.extended_to, "is_extended": True},
        moved=moved,
    )


def _moved(within: Extension, until_at: datetime) -> Extension:
    """The period with its last pause over."""
    *before, last = within.pauses
    return replace(within, pauses=(*before, Pause(last.from_at, until_at)))


async def _in_the_same_period(tx: Tx, memory: TermsMemory, planned: PlannedResume) -> PlannedResume:
    """What was given back of the period that still runs is charged from here on."""
    row = planned.row
    found = await anew.present_period(
        tx,
        memory,
        row,
        planned.terms,
        planned.attached,
        stages=[anew.stage(row, planned.from_at)],
        at=planned.at,
    )
    assert found is not None, "a cycle that has not begun has no period that runs"
    return replace(planned, draft=found.draft, look_back_from=found.look_back_from)


async def _in_a_later_period(tx: Tx, memory: TermsMemory, planned: PlannedResume) -> PlannedResume:
    """The period that contains the moment is charged from there on; periods that passed in the
    pause cost nothing. What waited for the next invoice is on this one."""
    row, key = planned.row, (planned.row.tenant_id, planned.row.id)
    values, interval = row._asdict(), planned.terms.interval(row.currency)
    if row.is_extended:
        values = next_cycle(values, interval, row.timezone)
    number = index_at(anchor_of(values), interval, planned.from_at)
    first = _first(planned, values, number)
    from_at = billed_from(values, planned.terms, first)
    known = (await history(tx, memory, [values], {key: from_at}))[key]
    stages = [anew.stage(row, planned.from_at)]
    if planned.pause.credit == "none":
        stages.insert(0, anew.stage(row, row.current_period_end_at, is_paused=True))
    stages_of = anew.with_stages(known, stages, planned.terms)
    draft = invoicing.redraft(
        timeline(
            values,
            planned.terms,
            planned.attached,
            await conditions_of(tx, memory, values, stages_of.terms.values(), planned.at),
            stages_of,
        ),
        billed=known.billed,
        first_period=first,
        periods=number - first + 1,
        horizon_at=planned.at,
    )
    rest = await _rest_of_extended(tx, memory, planned) if row.is_extended else None
    draft = draft if rest is None else invoicing.join(rest, draft)
    assert draft.period is not None, "a period contains the moment"
    served = Period(planned.from_at, draft.period.end_at)
    after = values | {
        "current_period_start_at": served.start_at,
        "current_period_end_at": served.end_at,
        "period_number": number,
    }
    return replace(
        planned,
        draft=replace(draft, period=served),
        after=after,
        kind="resume",
        look_back_from=number if planned.terms.in_arrears(row.currency) else None,
    )


def _first(planned: PlannedResume, values: Mapping[str, Any], number: int) -> int:
    """From which period on it is billed anew. A price of several periods is, from where its own
    began, unless that was before the pause and nothing of it was given back; a price in arrears
    from the period that the pause left unbilled."""
    terms, currency = planned.terms, planned.row.currency
    following = values["period_number"] + 1
    first = number - number % terms.longest(currency)
    if planned.pause.credit == "none" and first < following:
        first = number
    if terms.in_arrears(currency):
        first = min(first, following)
    if values["dirty_from_period"] is not None:
        dirty = values["dirty_from_period"]
        first = min(first, dirty - dirty % terms.longest(currency))
    return int(first)


async def _rest_of_extended(tx: Tx, memory: TermsMemory, planned: PlannedResume) -> Draft | None:
    """What the grid that ended with an extended period leaves to bill."""
    row = planned.row
    over = (row.period_number + 1) % planned.terms.longest(row.currency) == 0
    return await closing_draft(
        tx,
        memory,
        row,
        planned.terms,
        planned.attached,
        at=row.current_period_end_at,
        credit_unused=not over,
    )


def phase(
    row: Row[Any],
    from_at: datetime,
    at: datetime,
    *,
    is_paused: bool = False,
    is_ended: bool = False,
) -> dict[str, Any]:
    """A phase of a subscription as it is now, of a pause that costs nothing, or of the time until
    it went on after its end."""
    return {
        "tenant_id": row.tenant_id,
        "subscription_id": row.id,
        "from_at": from_at,
        "plan_version_id": row.plan_version_id,
        "quantity": row.quantity,
        "recorded_at": at,
        "is_paused": is_paused,
        "is_ended": is_ended,
    }


async def _go_on(tx: Tx, planned: PlannedResume, cause: UUID | None) -> None:
    row, at, pause, after = planned.row, planned.at, planned.pause, planned.after
    moved = planned.moved
    await pauses.save(
        tx,
        [
            pause._asdict()
            | {
                "state": "over",
                "resumed_at": planned.from_at,
                "extended_to_at": moved.extended_to if moved is not None else None,
            }
        ],
    )
    await _insert_phases(tx, planned)
    status, grace = await status_again(tx, row, planned.terms, at, "resumed")
    await subscriptions.set_statuses(
        tx, [{"tenant_id": row.tenant_id, "id": row.id, "status": status}]
    )
    await subscriptions.due.drop(tx, [(row.tenant_id, subscriptions.PAUSE, row.id)])
    if moved is not None:
        await recognize_pauses.go_on(tx, row, moved, at=at)
        after = after | await _move_end(tx, row, after["current_period_end_at"])
    await recording.record(tx, row, "resumed", effective_at=planned.from_at, at=at)
    tx.emit(
        [
            recording.told(
                events.SUBSCRIPTION_RESUMED, after, planned.terms, at, cause,
                more={"resumed_at": facts.moment(planned.from_at)} | grace, status=status,
            )
        ]
    )  # fmt: skip
    if planned.draft is None:
        if planned.look_back_from is not None:
            after = after | {"dirty_from_period": planned.look_back_from}
        await subscriptions.change_subscriptions(tx, [after])
    else:
        await invoice_now(
            tx, row, planned.terms, planned.draft, planned.attached, after=after,
            kind=planned.kind, reason="subscription_resume", at=at, cause=cause,
            look_back_from=planned.look_back_from,
        )  # fmt: skip
    if row.parked_reason is None:
        await subscriptions.put_renewals(tx, [after])
    await _let_changes_go_on(tx, planned)


async def _insert_phases(tx: Tx, planned: PlannedResume) -> None:
    """The time of the pause that cost nothing, where the history does not say it yet."""
    row, at = planned.row, planned.at
    later = planned.from_at >= row.current_period_end_at
    if planned.pause.credit == "extend" or (planned.pause.credit == "none" and not later):
        return
    if planned.pause.credit == "none":
        paused = phase(row, row.current_period_end_at, at, is_paused=True)
        await phases.insert_phases(tx, [paused])
    await phases.insert_phases(tx, [phase(row, planned.from_at, at)])


async def status_again(
    tx: Tx, row: Row[Any], terms: PlanTerms, at: datetime, trigger: str
) -> tuple[str, dict[str, Any]]:
    """The state of a subscription that goes on, and what its event says of grace: past due if an
    invoice is owed that nobody is collecting at this moment; its grace goes on from when it fell
    due, so that a pause makes it no longer."""
    key = (row.tenant_id, row.id)
    found = await invoices.open_invoices_of(tx, [key])
    opened = {(row.tenant_id, each) for each in found.get(key, ())}
    locked = await invoices.lock_invoices(tx, opened)
    reserved = await invoices.reservations(tx, opened)
    owed = [
        invoice.due_at
        for each, invoice in locked.items()
        if invoice.due_at <= at and all(one.state != "held" for one in reserved.get(each, []))
    ]
    if not owed:
        return step(SUBSCRIPTION, row.status, trigger), {}
    until_at = min(owed) + timedelta(seconds=terms.grace_s)
    return (
        step(SUBSCRIPTION, row.status, f"{trigger}_owing"),
        {"grace_until_at": facts.moment(until_at)},
    )


async def _move_end(tx: Tx, row: Row[Any], end_at: datetime) -> dict[str, Any]:
    """What hangs on the period's end moves with it: an end that was asked for, and up to where a
    later end without credit is charged."""
    if row.cancel_at is None:
        return {}
    moved = row.cancel_at == row.current_period_end_at  # as ``_moves_end``
    cancel_at = end_at if moved else row.cancel_at
    charged = {"cancel_at": cancel_at}
    if moved or not row.cancel_credit:
        charged["charged_until_at"] = max(row.charged_until_at, end_at)
    await subscriptions.set_cancellations(tx, [row._asdict() | charged])
    await subscriptions.put_due(tx, subscriptions.CANCELLATION, [(row, cancel_at)])
    return charged


async def _let_changes_go_on(tx: Tx, planned: PlannedResume) -> None:
    """A change that fell due in the pause happens now; one planned for the end of a period that
    has moved happens there."""
    row, key = planned.row, (planned.row.tenant_id, planned.row.id)
    waiting = (await phases.scheduled(tx, [key])).get(key)
    if waiting is None:
        return
    effective_at = max(waiting.effective_at, planned.from_at)
    if planned.pause.credit == "extend" and waiting.effective_at == row.current_period_end_at:
        effective_at = planned.after["current_period_end_at"]
    moved = {"effective_at": effective_at, "recorded_at": planned.at}
    await phases.schedule(tx, [waiting._asdict() | moved])
    await subscriptions.put_due(tx, subscriptions.CHANGE, [(row, effective_at)])
