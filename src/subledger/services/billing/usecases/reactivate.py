"""An ended subscription lives again: what was paid for goes on, or a new cycle begins.

What was paid for and neither served nor given back goes on without an invoice (Chargebee's in-term
reactivation). Otherwise a new cycle begins now, with quantity and discounts as they stand: it waits
for its first payment like a purchase and gives no access before (a reactivation that charged like a
renewal would give access to someone who left without paying).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Row

from subledger.contracts import events
from subledger.core import invoicing
from subledger.core.calendar import Period
from subledger.core.errors import InvalidInterval
from subledger.core.proration import charged_until
from subledger.core.states import SUBSCRIPTION, can, step
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import problems
from subledger.services.billing.store import invoices, phases, subscriptions
from subledger.services.billing.terms import PlanTerms, TermsMemory
from subledger.services.billing.usecases import bill, guard, recording
from subledger.services.billing.usecases.anchors import begun, does_not_fit
from subledger.services.billing.usecases.bill import Bill
from subledger.services.billing.usecases.conditions import conditions_of
from subledger.services.billing.usecases.end import lock_any
from subledger.services.billing.usecases.resume import phase, status_again
from subledger.services.billing.usecases.subscribe import INCOMPLETE_FOR, activate_at_once
from subledger.services.billing.usecases.timelines import mode_of, timeline


@dataclass(frozen=True, slots=True)
class ReactivateRequest:
    """Which version of its plan it goes on with, and how the first payment is made."""

    tenant_id: UUID
    subscription_id: UUID
    version: Literal["same", "newest"]
    collection: Literal["automatic", "page"]
    return_url: str | None
    cause: UUID | None


async def reactivate(tx: Tx, memory: TermsMemory, request: ReactivateRequest) -> None:
    """Let an ended subscription live again.

    Raises Problem: not_found, subscription_not_ended, customer_deleted, invoice_still_open (what
    it owes from before), price_missing_for_currency, billing_limit_exceeded; CoreError for amounts
    out of range.
    """
    row, at = await lock_any(tx, request.tenant_id, request.subscription_id)
    if not can(SUBSCRIPTION, row.status, "reactivated"):
        raise Problem(problems.SUBSCRIPTION_NOT_ENDED, detail=f"The subscription is {row.status}.")
    await _check_customers(tx, row)
    key = (row.tenant_id, row.id)
    if await _has_time_left(tx, row, at):
        await _go_on(tx, memory, row, at, request.cause)
        return
    if (await invoices.open_invoices_of(tx, [key])).get(key):
        raise Problem(
            problems.INVOICE_STILL_OPEN,
            detail="An invoice from before the subscription's end is not paid.",
        )
    await _begin(tx, memory, row, await _terms(tx, memory, request, row), at, request)


async def _check_customers(tx: Tx, row: Row[Any]) -> None:
    keys = {(row.tenant_id, row.payer_id), (row.tenant_id, row.beneficiary_id)}
    for account in (await subscriptions.accounts(tx, keys)).values():
        if account.deleted_at is not None:
            raise Problem(
                problems.CUSTOMER_DELETED,
                detail="Who paid for or used the subscription was deleted.",
            )


async def _has_time_left(tx: Tx, row: Row[Any], at: datetime) -> bool:
    """Whether something that was charged, and not given back or given up, is not served yet."""
    if row.charged_until_at is None or row.charged_until_at <= at:
        return False
    key = (row.tenant_id, row.id)
    return not await invoices.given_up(tx, key, covering_at=row.current_period_start_at)


async def _terms(
    tx: Tx, memory: TermsMemory, request: ReactivateRequest, row: Row[Any]
) -> PlanTerms:
    key = (row.tenant_id, row.plan_version_id)
    terms = (await memory.load(tx, [key]))[key]
    if request.version == "same":
        return terms
    plan = (row.tenant_id, terms.plan_id)
    newest = (row.tenant_id, (await subscriptions.latest_versions(tx, [plan]))[plan])
    terms = (await memory.load(tx, [newest]))[newest]
    if not terms.prices_in(row.currency):
        raise Problem(
            problems.PRICE_MISSING, pointer="/version",
            detail=f"The plan's newest version has no price in {row.currency}.",
        )  # fmt: skip
    return terms


_ALIVE = {
    "ended_at": None,
    "end_reason": None,
    "cancel_at": None,
    "charged_until_at": None,
    "cancel_credit": False,
    "cancel_reason": None,
    "cancel_comment": None,
}


async def _go_on(
    tx: Tx, memory: TermsMemory, row: Row[Any], at: datetime, cause: UUID | None
) -> None:
    """The period that was charged goes on to its end. If it was cut by an end that was planned,
    the next invoice bills the rest; and of what is billed in arrears, what is served from now
    on."""
    key = (row.tenant_id, row.plan_version_id)
    terms = (await memory.load(tx, [key]))[key]
    status, grace = await status_again(tx, row, terms, at, "kept")
    values = row._asdict() | _ALIVE | {"status": status}
    looks_back = row.charged_until_at < row.current_period_end_at or terms.in_arrears(row.currency)
    if looks_back and row.dirty_from_period is None:
        values["dirty_from_period"] = row.period_number
        await subscriptions.change_subscriptions(tx, [values])
    await subscriptions.begin_again(tx, [values])
    if terms.in_arrears(row.currency):
        await phases.insert_phases(tx, _left_out(row, at))
    if row.parked_reason is None:
        await subscriptions.put_renewals(tx, [values])
    await recording.record(tx, row, "reactivated", effective_at=at, at=at)
    tx.emit([recording.told(events.SUBSCRIPTION_REACTIVATED, values, terms, at, cause, more=grace)])


def _left_out(row: Row[Any], at: datetime) -> Sequence[dict[str, Any]]:
    """The time since the end, for which nothing is billed in arrears; a last day that was charged
    whole is none of it."""
    period = Period(row.current_period_start_at, row.current_period_end_at)
    from_at = charged_until(row.ended_at, period, mode_of(row._asdict()), row.timezone)
    if from_at >= at:
        return []
    return [phase(row, from_at, at, is_ended=True), phase(row, at, at)]


async def _begin(
    tx: Tx,
    memory: TermsMemory,
    row: Row[Any],
    terms: PlanTerms,
    at: datetime,
    request: ReactivateRequest,
) -> None:
    """A new cycle from now on, which waits for its first payment."""
    key = (row.tenant_id, row.id)
    values = _anew(row, terms, at)
    attached = (await subscriptions.attached_discounts(tx, [key])).get(key, [])
    conditions = await conditions_of(tx, memory, values, [terms], at)
    known = timeline(values, terms, attached, conditions, sets_up=False)
    draft = invoicing.draft(known, first_period=0, horizon_at=at)
    await guard.refuse_large(
        tx,
        tenant_id=row.tenant_id,
        at=at,
        currency=draft.currency,
        total_minor=draft.total_minor,
    )
    first = draft.period
    assert first is not None, "its first period begins now"
    values |= {
        "current_period_start_at": first.start_at,
        "current_period_end_at": first.end_at,
        "billed_through_at": first.end_at,
    }
    await subscriptions.begin_again(tx, [values])
    await phases.insert_phases(tx, _phases(row, terms, at))
    await recording.record(tx, row, "reactivated", effective_at=at, at=at)
    tx.emit(
        [recording.told(events.SUBSCRIPTION_REACTIVATED, values, terms, at, request.cause, more={})]
    )
    asked = {"collection": request.collection, "return_url": request.return_url}
    saved = await bill.save(
        tx,
        [
            Bill(
                subscription=values | asked,
                terms=terms,
                draft=draft,
                attached=attached,
                reason="subscription_reactivate",
                at=at,
                cause=request.cause,
                kind="reactivation",
            )
        ],
    )
    await subscriptions.change_subscriptions(
        tx, [values | {"last_run_number": row.last_run_number + 1}]
    )
    if saved[0].collected:
        await subscriptions.put_due(tx, subscriptions.EXPIRY, [(values, at + INCOMPLETE_FOR)])
    else:
        await activate_at_once(tx, saved)


def _anew(row: Row[Any], terms: PlanTerms, at: datetime) -> dict[str, Any]:
    """The subscription in its new cycle, before its first period is known."""
    try:
        cycle = begun(at, row.timezone, terms.interval(row.currency), row.billing_anchor)
    except InvalidInterval as wrong:
        raise does_not_fit(wrong, "/version") from wrong
    return {
        **row._asdict(),
        **_ALIVE,
        **cycle,
        "status": step(SUBSCRIPTION, row.status, "reactivated"),
        "plan_version_id": terms.plan_version_id,
        "first_period": "prorated",
        "period_number": 0,
        "dirty_from_period": None,
        "is_extended": False,
        "parked_reason": None,
    }


def _phases(row: Row[Any], terms: PlanTerms, at: datetime) -> Sequence[dict[str, Any]]:
    """Nothing from its end on, and its plan from now on."""
    again = phase(row, at, at) | {"plan_version_id": terms.plan_version_id}
    if row.ended_at >= at:
        return [again]
    return [phase(row, row.ended_at, at, is_paused=True), again]
