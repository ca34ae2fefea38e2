"""Pauses: now, at the period's end, or at a date; what was paid for is given back, served later,
or forfeited. A preview is the same computation without the save.

``credit``: the unused part of what was billed becomes the customer's credit, as when a subscription
is canceled so (Kill Bill's blocking of billing and entitlement). ``extend``: it is served after the
pause, so the period and the cycle's anchor move (``core.extension``). ``none``: it is forfeited.
No period is billed while a subscription is paused; what it owes is collected and dunned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.events import Recorded
from subledger.core.errors import CoreError
from subledger.core.states import SUBSCRIPTION, can, step
from subledger.core.timeline import Draft
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import facts, problems
from subledger.services.billing.store import pauses, phases, subscriptions
from subledger.services.billing.terms import PlanTerms, TermsMemory
from subledger.services.billing.usecases import (
    anew,
    recognize_pauses,
    recording,
    resume,
    work_items,
)
from subledger.services.billing.usecases.bill import check_lines
from subledger.services.billing.usecases.close import check_paid
from subledger.services.billing.usecases.end import LIVE, MOST_AHEAD, lock_one, look_at_one
from subledger.services.billing.usecases.extensions import PAUSED
from subledger.services.billing.usecases.invoice_now import invoice_now

CreditMode = Literal["none", "credit", "extend"]
_BEFORE = {
    "pending": "Nothing is served before its start day. Pause it from then on, or cancel it and"
    " buy it with a later start_at.",
    "trialing": "A trial runs on to its end. Pause it once it is active, or cancel it before.",
}
"""What to do instead of a pause before anything is paid for (Chargebee and Recurly refuse it): a
trial that could be paused would be as long as its user likes."""


@dataclass(frozen=True, slots=True)
class PauseRequest:
    """From when (a moment, UTC, or in words) until when (None: until someone resumes it)."""

    tenant_id: UUID
    subscription_id: UUID
    at: datetime | Literal["now", "period_end"]
    credit: CreditMode
    resume_at: datetime | None
    cause: UUID | None
    until_paid: bool = False
    """Dunning's last step: it goes on by itself when nothing is owed any more."""
    reason: str = "paused"
    """What its event says it is paused for."""


@dataclass(frozen=True, slots=True)
class PlannedPause:
    """A pause as it would happen, nothing saved."""

    row: Row[Any]
    terms: PlanTerms
    attached: Sequence[Row[Any]]
    at: datetime
    from_at: datetime
    credit: CreditMode
    resume_at: datetime | None
    draft: Draft | None
    """What it gives back, and what waited for the next invoice; None if that is nothing."""
    look_back_from: int | None
    until_paid: bool
    reason: str

    @property
    def waits(self) -> bool:
        return self.from_at > self.at


async def preview(tx: Tx, memory: TermsMemory, request: PauseRequest) -> PlannedPause:
    """What ``pause`` would do now. Raises as it does."""
    row, at = await look_at_one(tx, request.tenant_id, request.subscription_id)
    return await _plan(tx, memory, request, row, at)


async def pause(tx: Tx, memory: TermsMemory, request: PauseRequest) -> None:
    """Pause a subscription, or remember to do so; a pause that waited is replaced.

    Raises Problem: not_found, subscription_ended, subscription_paused, subscription_not_active,
    renewal_under_way, pause_out_of_range, and invoice_still_open for credit of what was not paid;
    CoreError for an invoice that cannot be made.
    """
    row, at = await lock_one(tx, request.tenant_id, request.subscription_id)
    await pause_row(tx, memory, request, row, at)


async def pause_row(
    tx: Tx, memory: TermsMemory, request: PauseRequest, row: Row[Any], at: datetime
) -> None:
    """As ``pause``, of a subscription that is locked already."""
    planned = await _plan(tx, memory, request, row, at)
    await pauses.forget(tx, [(row.tenant_id, row.id)])
    if planned.waits:
        await _schedule(tx, planned, request.cause)
        return
    await pauses.insert(tx, _row(planned) | {"state": "scheduled"})
    await _begin(tx, planned, request.cause)


async def undo_pause(
    tx: Tx, memory: TermsMemory, *, tenant_id: UUID, subscription_id: UUID, cause: UUID | None
) -> None:
    """Forget the pause that a subscription waits for. Raises not_found, subscription_ended,
    pause_not_scheduled."""
    row, at = await lock_one(tx, tenant_id, subscription_id)
    key = (tenant_id, subscription_id)
    waiting = (await pauses.open_pauses(tx, [key])).get(key)
    if waiting is None or waiting.state != "scheduled":
        raise Problem(problems.PAUSE_NOT_SCHEDULED, detail="The subscription waits for no pause.")
    await _forget(tx, row)
    await recording.record(tx, row, "pause_undone", effective_at=at, at=at)
    terms = (await memory.load(tx, [(tenant_id, row.plan_version_id)]))[
        tenant_id, row.plan_version_id
    ]
    tx.emit([recording.changed(row, terms, ["pause"], at, cause)])


async def reach(tx: Tx, memory: TermsMemory, given: Sequence[Recorded]) -> None:
    """The moments of pauses and resumptions have come. One that is not possible any more is
    forgotten and opens a work item; the subscription stays as it is."""
    for event in given:
        key = (event.tenant_id, ids.parse("sub", event.data["subscription_id"]))
        accounts = await subscriptions.accounts(tx, [(event.tenant_id, event.subject)])
        (row,) = await subscriptions.lock_subscriptions(tx, [key])
        waiting = (await pauses.open_pauses(tx, [key])).get(key)
        at = (await subscriptions.moments(tx, accounts, accounts))[event.tenant_id, event.subject]
        if waiting is None or row.status not in LIVE:
            continue
        try:
            if waiting.state == "running":
                await resume.reach(tx, memory, row, waiting, at, event.id)
            elif waiting.from_at <= at:
                await _reach(tx, memory, row, waiting, at, event.id)
        except (Problem, CoreError) as refused:
            await _refuse(tx, row, waiting, at, event, f"{refused.code}: {refused.detail}")


async def _reach(
    tx: Tx, memory: TermsMemory, row: Row[Any], waiting: Row[Any], at: datetime, cause: UUID
) -> None:
    request = PauseRequest(
        tenant_id=row.tenant_id,
        subscription_id=row.id,
        at=waiting.from_at,
        credit=waiting.credit,
        resume_at=waiting.resume_at,
        cause=cause,
    )
    planned = await _plan(tx, memory, request, row, at, reached=True)
    await _begin(tx, planned, cause)


async def _refuse(
    tx: Tx, row: Row[Any], waiting: Row[Any], at: datetime, event: Recorded, reason: str
) -> None:
    kind = "pause_refused"
    if waiting.state == "scheduled":
        await _forget(tx, row)
    else:
        kind = "resume_refused"
        await pauses.save(tx, [waiting._asdict() | {"resume_at": None}])
        await subscriptions.due.drop(tx, [(row.tenant_id, subscriptions.PAUSE, row.id)])
    data = {"subscription_id": event.data["subscription_id"], "reason": reason}
    await recording.record(tx, row, kind, effective_at=at, at=at, data=data)
    await work_items.open_item(
        tx,
        tenant_id=row.tenant_id,
        account_id=row.payer_id,
        kind=kind,
        data=data,
        at=at,
        cause=event.id,
    )


async def _plan(
    tx: Tx,
    memory: TermsMemory,
    request: PauseRequest,
    row: Row[Any],
    at: datetime,
    *,
    reached: bool = False,
) -> PlannedPause:
    if row.status == PAUSED:
        raise Problem(problems.SUBSCRIPTION_PAUSED, detail="The subscription is paused already.")
    if not can(SUBSCRIPTION, row.status, "paused"):
        raise Problem(
            problems.SUBSCRIPTION_NOT_ACTIVE,
            detail=f"The subscription is {row.status}.",
            fix=_BEFORE.get(row.status),
        )
    from_at = _moment(request, row, at)
    if not reached:
        _check_moments(request, row, at, from_at)
    if from_at <= at and from_at > row.current_period_end_at and row.parked_reason is None:
        raise Problem(
            problems.RENEWAL_UNDER_WAY, detail="The period that has begun is not billed yet."
        )
    key = (row.tenant_id, row.id)
    terms = (await memory.load(tx, [(row.tenant_id, row.plan_version_id)]))[
        row.tenant_id, row.plan_version_id
    ]
    attached = (await subscriptions.attached_discounts(tx, [key])).get(key, [])
    found = None
    if request.credit == "credit" and from_at <= at:
        stages = [anew.stage(row, from_at, is_paused=True)]
        found = await anew.present_period(tx, memory, row, terms, attached, stages=stages, at=at)
    if found is not None:
        await check_paid(tx, row, found.draft)
        check_lines(found.draft)
    return PlannedPause(
        row=row,
        terms=terms,
        attached=attached,
        at=at,
        from_at=from_at,
        credit=request.credit,
        resume_at=request.resume_at,
        draft=found.draft if found is not None and found.draft.lines else None,
        look_back_from=None if found is None else found.look_back_from,
        until_paid=request.until_paid,
        reason="dunning" if request.until_paid else request.reason,
    )


def _moment(request: PauseRequest, row: Row[Any], at: datetime) -> datetime:
    if request.at == "now":
        return at
    if request.at == "period_end":
        period_end_at: datetime = row.current_period_end_at
        return max(period_end_at, at)
    return request.at


def _check_moments(request: PauseRequest, row: Row[Any], at: datetime, from_at: datetime) -> None:
    """Neither past nor more than ten years ahead, and before the end; resumed after the start."""
    pointer, what = "/at", None
    if from_at < at:
        what = "in the past"
    elif from_at > at + MOST_AHEAD:
        what = "more than ten years ahead"
    elif row.cancel_at is not None and from_at >= row.cancel_at:
        what = "when the subscription has ended"
    elif request.resume_at is not None:
        pointer = "/resume_at"
        if request.resume_at <= from_at:
            what = "that is resumed before it begins"
        elif request.resume_at > at + MOST_AHEAD:
            what = "of more than ten years"
    if what is not None:
        raise Problem(
            problems.PAUSE_OUT_OF_RANGE, pointer=pointer, detail=f"A pause {what} is not possible."
        )


def _row(planned: PlannedPause) -> dict[str, Any]:
    return {
        "tenant_id": planned.row.tenant_id,
        "subscription_id": planned.row.id,
        "credit": planned.credit,
        "from_at": planned.from_at,
        "resume_at": planned.resume_at,
        "recorded_at": planned.at,
        "until_paid": planned.until_paid,
    }


async def _schedule(tx: Tx, planned: PlannedPause, cause: UUID | None) -> None:
    row = planned.row
    await pauses.insert(tx, _row(planned) | {"state": "scheduled"})
    await subscriptions.put_due(tx, subscriptions.PAUSE, [(row, planned.from_at)])
    await recording.record(
        tx, row, "pause_scheduled", effective_at=planned.from_at, at=planned.at,
        data={"credit": planned.credit},
    )  # fmt: skip
    tx.emit([recording.changed(row, planned.terms, ["pause"], planned.at, cause)])


async def _forget(tx: Tx, row: Row[Any]) -> None:
    await pauses.forget(tx, [(row.tenant_id, row.id)])
    await subscriptions.due.drop(tx, [(row.tenant_id, subscriptions.PAUSE, row.id)])


async def _begin(tx: Tx, planned: PlannedPause, cause: UUID | None) -> None:
    """The pause that the subscription waited for begins."""
    row, at, key = planned.row, planned.at, (planned.row.tenant_id, planned.row.id)
    waiting = (await pauses.open_pauses(tx, [key]))[key]
    running = {
        "state": "running",
        "anchor_at": row.anchor_at,
        "period_number": row.period_number,
        "period_end_at": row.current_period_end_at,
    }
    await pauses.save(tx, [waiting._asdict() | running])
    status = step(SUBSCRIPTION, row.status, "paused")
    await subscriptions.set_statuses(
        tx, [{"tenant_id": row.tenant_id, "id": row.id, "status": status}]
    )
    await _wait(tx, planned)
    data = {"credit": planned.credit, "resume_at": facts.moment(planned.resume_at)}
    await recording.record(tx, row, "paused", effective_at=planned.from_at, at=at, data=data)
    tx.emit(
        [
            recording.told(
                events.SUBSCRIPTION_PAUSED, row, planned.terms, at, cause,
                more={**data, "reason": planned.reason, "paused_at": facts.moment(planned.from_at)},
                status=status,
            )
        ]
    )  # fmt: skip
    if planned.credit == "extend":
        await recognize_pauses.stand_still(tx, row, from_at=planned.from_at, at=at)
    if planned.credit == "credit":
        await phases.insert_phases(tx, [resume.phase(row, planned.from_at, at, is_paused=True)])
    if planned.draft is not None:
        await invoice_now(
            tx, row, planned.terms, planned.draft, planned.attached,
            reason="subscription_pause", at=at, cause=cause, look_back_from=planned.look_back_from,
        )  # fmt: skip
    elif planned.look_back_from is not None:
        dirty = {"dirty_from_period": planned.look_back_from}
        await subscriptions.change_subscriptions(tx, [row._asdict() | dirty])


async def _wait(tx: Tx, planned: PlannedPause) -> None:
    """Nothing falls due while it is paused, but the end that was asked for and the resumption.
    The end of a period that moves is not known before."""
    row = planned.row
    kinds = [subscriptions.RENEWAL, subscriptions.PAUSE]
    if planned.credit == "extend" and row.cancel_at == row.current_period_end_at:
        kinds.append(subscriptions.CANCELLATION)
    await subscriptions.due.drop(tx, [(row.tenant_id, kind, row.id) for kind in kinds])
    if planned.resume_at is not None:
        await subscriptions.put_due(tx, subscriptions.PAUSE, [(row, planned.resume_at)])
