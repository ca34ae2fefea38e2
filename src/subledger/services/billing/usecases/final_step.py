"""Dunning's last step: what becomes of an invoice that no retry could collect."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.events import Recorded
from subledger.core.errors import CoreError
from subledger.core.states import SUBSCRIPTION, can, step
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import problems
from subledger.services.billing.store import invoices, subscriptions
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import change, pause, recording, work_items
from subledger.services.billing.usecases.change import ChangeRequest
from subledger.services.billing.usecases.end import LIVE, Ending, end
from subledger.services.billing.usecases.pause import PauseRequest
from subledger.services.billing.usecases.unpaid import close_unpaid

_Do = Callable[[Row[Any], datetime], Coroutine[Any, Any, object]]


async def finish_dunning(tx: Tx, memory: TermsMemory, given: Sequence[Recorded]) -> None:
    """Take the policy's last step, at most one per account.

    ``cancel``, ``downgrade`` and ``uncollectible`` write the invoice off; its subscriptions end,
    begin a new cycle on the lower plan, or go on. ``pause`` leaves it open and pauses them until
    it is paid; ``none`` changes nothing. An invoice that is being collected at this moment is left
    to that payment's outcome.
    """
    steps = {
        (event.tenant_id, ids.parse("inv", event.data["invoice_id"])): event
        for event in given
        if event.data["action"] != "none"
    }
    accounts = await subscriptions.accounts(tx, {(e.tenant_id, e.subject) for e in steps.values()})
    subscribed = await invoices.subscriptions_of(tx, steps)
    rows = {
        (row.tenant_id, row.id): row
        for row in await subscriptions.lock_subscriptions(
            tx, ((tenant, each) for (tenant, _), found in subscribed.items() for each in found)
        )
    }
    locked = await invoices.lock_invoices(tx, steps)
    reserved = await invoices.reservations(tx, steps)
    moments = await subscriptions.moments(tx, accounts, accounts)
    for key, invoice in locked.items():
        if invoice.status != "open" or any(e.state == "held" for e in reserved.get(key, [])):
            continue
        event, at = steps[key], moments[invoice.tenant_id, invoice.account_id]
        billed = [rows[key[0], each] for each in subscribed.get(key, [])]
        live = [row for row in billed if row.status in LIVE]
        if event.data["action"] == "pause":
            await _pause(tx, memory, live, at, event)
        else:
            await _give_up(tx, memory, invoice, live, at, event)


async def _give_up(
    tx: Tx,
    memory: TermsMemory,
    invoice: Row[Any],
    live: Sequence[Row[Any]],
    at: datetime,
    event: Recorded,
) -> None:
    await close_unpaid(
        tx,
        [invoice],
        at={(invoice.tenant_id, invoice.account_id): at},
        cause=event.id,
        trigger="written_off",
        type_=events.INVOICE_UNCOLLECTIBLE,
    )
    if event.data["action"] == "cancel":
        await end(tx, memory, [Ending(row, at, "dunning", event.id) for row in live])
        return
    await subscriptions.set_statuses(
        tx,
        [
            {
                "tenant_id": row.tenant_id,
                "id": row.id,
                "status": step(SUBSCRIPTION, row.status, "written_off"),
            }
            for row in live
            if row.status == "past_due"
        ],
    )
    if event.data["action"] == "downgrade":
        await _downgrade(tx, memory, live, at, event)


async def _pause(
    tx: Tx, memory: TermsMemory, live: Sequence[Row[Any]], at: datetime, event: Recorded
) -> None:
    """Nothing is given back: the period was not paid for, or it runs on to its end."""

    async def pause_one(row: Row[Any], moment: datetime) -> None:
        request = PauseRequest(
            tenant_id=row.tenant_id,
            subscription_id=row.id,
            at="now",
            credit="none",
            resume_at=None,
            cause=event.id,
            until_paid=True,
        )
        await pause.pause_row(tx, memory, request, row, moment)

    for row in live:
        if can(SUBSCRIPTION, row.status, "paused"):
            await _try(tx, row, at, event, pause_one)


async def _downgrade(
    tx: Tx, memory: TermsMemory, live: Sequence[Row[Any]], at: datetime, event: Recorded
) -> None:
    """A new cycle on the lower plan begins now; what is left of the one that was never paid is
    forfeited, and no credit is given for it."""
    plan_id = ids.parse("plan", event.data["downgrade_to_plan_id"])

    async def change_one(row: Row[Any], moment: datetime) -> None:
        request = ChangeRequest(
            tenant_id=row.tenant_id,
            subscription_id=row.id,
            plan_id=plan_id,
            quantity=None,
            at=None,
            settle="now",
            cause=event.id,
            forfeits=True,
        )
        await change.preview_row(tx, memory, request, row)  # it may be refused: nothing is written
        await change.change_row(tx, memory, request, row, moment)

    again = await subscriptions.lock_subscriptions(tx, [(row.tenant_id, row.id) for row in live])
    for row in again:
        await _try(tx, row, at, event, change_one)


async def _try(tx: Tx, row: Row[Any], at: datetime, event: Recorded, do: _Do) -> None:
    """What is not possible (any more) is left to a person; the subscription stays as it is."""
    try:
        await do(row, at)
    except (Problem, CoreError) as refused:
        if refused.code == problems.NOTHING_TO_CHANGE:
            return  # it is on the lower plan already
        data = {
            "subscription_id": ids.text("sub", row.id),
            "action": event.data["action"],
            "reason": f"{refused.code}: {refused.detail}",
        }
        await recording.record(tx, row, "dunning_step_refused", effective_at=at, at=at, data=data)
        await work_items.open_item(
            tx,
            tenant_id=row.tenant_id,
            account_id=row.payer_id,
            kind="dunning_step_refused",
            data=data,
            at=at,
            cause=event.id,
        )
