"""Cancellations: at once, at the period's end, or at a date; with or without the rest given back.

A date inside the period that was billed already cuts it, and the rest is given back if that was
asked for. A date in a later period is known when that period is billed, so that it is billed cut
(Stripe's ``cancel_at``, Kill Bill's requested date). Nothing is refunded by itself: what is given
back becomes the customer's credit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Row

from subledger.contracts.events import Recorded
from subledger.core.errors import CoreError
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import problems
from subledger.services.billing.store import pauses, subscriptions
from subledger.services.billing.terms import PlanTerms, TermsMemory
from subledger.services.billing.usecases import anew, redeem, work_items
from subledger.services.billing.usecases.anchors import NOT_BEGUN
from subledger.services.billing.usecases.close import bill_the_rest
from subledger.services.billing.usecases.end import (
    MOST_AHEAD,
    Ending,
    due_subscriptions,
    end,
    lock_one,
)
from subledger.services.billing.usecases.extensions import PAUSED
from subledger.services.billing.usecases.invoice_now import invoice_now
from subledger.services.billing.usecases.parking import park
from subledger.services.billing.usecases.recording import changed, record
from subledger.services.billing.usecases.timelines import period_start
from subledger.services.billing.usecases.unpaid import void_open


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """When a subscription is to end, a moment (UTC) or in words, and why: ``reason`` is a code,
    ``comment`` the customer's own words, which no event repeats."""

    tenant_id: UUID
    subscription_id: UUID
    at: datetime | Literal["now", "period_end"]
    credit_unused: bool
    reason: str | None
    comment: str | None
    cause: UUID | None


async def cancel(tx: Tx, memory: TermsMemory, request: CancelRequest) -> None:
    """Cancel a subscription now, or let it end later. A cancellation that waited is replaced.

    A subscription that was never paid ends at once either way, and its invoice is voided; at the
    end of its period so does one whose start day has not come. Before its first period, in a
    trial, nothing is billed. Changes
    that waited for the next invoice are billed by a last one, which with ``credit_unused`` gives
    the rest of the period back as credit. Raises not_found, subscription_ended, invoice_reserved
    while its first payment is open, cancellation_out_of_range, and invoice_still_open for credit of
    what was not paid; CoreError for a last invoice that cannot be made.
    """
    row, at = await lock_one(tx, request.tenant_id, request.subscription_id)
    end_at = await _moment(tx, request, row, at)
    if row.status == "incomplete":
        moments = {(row.tenant_id, row.payer_id): at}
        await void_open(tx, [row], at=moments, cause=request.cause, strict=True)
    elif request.at == "period_end" and row.status == "pending":
        pass  # its wait is its period
    elif end_at > at or (request.at == "period_end" and await _is_extending(tx, row)):
        await _schedule(tx, memory, request, row, at, end_at)
        return
    elif row.status not in NOT_BEGUN:
        terms = await _terms(tx, memory, row)
        await bill_the_rest(
            tx, memory, row, terms, at=at, credit_unused=request.credit_unused, cause=request.cause
        )
    await _remember(tx, row, request, cancel_at=row.cancel_at, charged_until_at=None)
    await end(
        tx,
        memory,
        [
            Ending(
                row,
                at,
                "requested",
                request.cause,
                charged_until_at=_charged(row, request.credit_unused),
                cancel_reason=request.reason,
            )
        ],
    )


async def _moment(tx: Tx, request: CancelRequest, row: Row[Any], at: datetime) -> datetime:
    if request.at == "now":
        return at
    if request.at == "period_end":
        period_end_at: datetime = row.current_period_end_at
        return max(period_end_at, at)
    if not at <= request.at <= at + MOST_AHEAD:
        raise Problem(
            problems.CANCELLATION_OUT_OF_RANGE, pointer="/at",
            detail="The moment is past." if request.at < at else "The moment is too far ahead.",
        )  # fmt: skip
    return request.at


async def _is_extending(tx: Tx, row: Row[Any]) -> bool:
    """True while a pause goes on that moves the period's end, so that it is not known yet."""
    if row.status != PAUSED:
        return False
    key = (row.tenant_id, row.id)
    return bool((await pauses.open_pauses(tx, [key]))[key].credit == "extend")


def _charged(row: Row[Any], credit_unused: bool) -> datetime | None:
    """Up to where what was charged and not given back reaches. A pause leaves nothing that could
    go on."""
    if credit_unused or row.status not in {"active", "past_due"}:
        return None
    period_end_at: datetime = row.current_period_end_at
    return min(row.charged_until_at or period_end_at, period_end_at)


async def _schedule(
    tx: Tx,
    memory: TermsMemory,
    request: CancelRequest,
    row: Row[Any],
    at: datetime,
    end_at: datetime,
) -> None:
    """It ends later. Without credit, what is billed of the present period stays charged."""
    terms = await _terms(tx, memory, row)
    if request.at == "period_end":
        end_at = row.current_period_end_at
    billed_to_at = _charged(row, False) or row.current_period_end_at
    charged_until_at = end_at if request.credit_unused else max(end_at, billed_to_at)
    await _remember(tx, row, request, cancel_at=end_at, charged_until_at=charged_until_at)
    if request.at == "period_end" and await _is_extending(tx, row):
        # It moves with the period's end when the subscription is resumed.
        await subscriptions.due.drop(tx, [(row.tenant_id, subscriptions.CANCELLATION, row.id)])
    else:
        await subscriptions.put_due(tx, subscriptions.CANCELLATION, [(row, end_at)])
    await record(tx, row, "cancel_scheduled", effective_at=end_at, at=at)
    tx.emit([changed(row, terms, ["cancel_at"], at, request.cause, cancel_at=end_at)])
    await _bill_uncut(tx, memory, row, terms, charged_until_at, at, request.cause)


async def _remember(
    tx: Tx,
    row: Row[Any],
    request: CancelRequest | None,
    *,
    cancel_at: datetime | None,
    charged_until_at: datetime | None,
) -> None:
    await subscriptions.set_cancellations(
        tx,
        [
            {
                "tenant_id": row.tenant_id,
                "id": row.id,
                "cancel_at": cancel_at,
                "charged_until_at": charged_until_at,
                "cancel_credit": request is not None and request.credit_unused,
                "cancel_reason": None if request is None else request.reason,
                "cancel_comment": None if request is None else request.comment,
            }
        ],
    )


async def _terms(tx: Tx, memory: TermsMemory, row: Row[Any]) -> PlanTerms:
    key = (row.tenant_id, row.plan_version_id)
    return (await memory.load(tx, [key]))[key]


async def undo_cancel(
    tx: Tx, memory: TermsMemory, *, tenant_id: UUID, subscription_id: UUID, cause: UUID | None
) -> None:
    """Keep a subscription that was to end. What was billed only up to the date of the end is
    billed up to the period's end now. Raises not_found, subscription_ended,
    cancellation_not_scheduled; CoreError for an invoice that cannot be made."""
    row, at = await lock_one(tx, tenant_id, subscription_id)
    if row.cancel_at is None:
        raise Problem(problems.NOT_SCHEDULED, detail="The subscription is not to be canceled.")
    terms = await _terms(tx, memory, row)
    await _remember(tx, row, None, cancel_at=None, charged_until_at=None)
    await subscriptions.due.drop(tx, [(tenant_id, subscriptions.CANCELLATION, row.id)])
    await record(tx, row, "cancel_undone", effective_at=at, at=at)
    tx.emit([changed(row, terms, ["cancel_at"], at, cause, cancel_at=None)])
    await _bill_uncut(tx, memory, row, terms, None, at, cause)


async def _bill_uncut(
    tx: Tx,
    memory: TermsMemory,
    before: Row[Any],
    terms: PlanTerms,
    charged_until_at: datetime | None,
    at: datetime,
    cause: UUID | None,
) -> None:
    """Charge what was cut off the present period when the date of the end, as it was ``before``,
    was known on billing it, and is now served. While it is paused the next invoice does so."""
    period_end_at = before.current_period_end_at
    if not before.is_extended:
        period_end_at = period_start(before._asdict(), terms, before.period_number + 1)
    cut_at = before.charged_until_at
    if cut_at is None or cut_at >= min(period_end_at, charged_until_at or period_end_at):
        return
    key, dirty = (before.tenant_id, before.id), before.dirty_from_period
    first = before.period_number if dirty is None else dirty
    (row,) = await subscriptions.lock_subscriptions(tx, [key])
    values = row._asdict() | {"current_period_end_at": period_end_at}
    if row.status == PAUSED:
        await subscriptions.change_subscriptions(tx, [values | {"dirty_from_period": first}])
        return
    await subscriptions.put_renewals(tx, [values])
    attached = (await subscriptions.attached_discounts(tx, [key])).get(key, [])
    found = await anew.present_period(tx, memory, row, terms, attached, at=at)
    if found is None or found.draft.total_minor <= 0:
        # Nothing was cut: what waited before goes on waiting for the next invoice.
        await subscriptions.change_subscriptions(tx, [values])
        return
    await invoice_now(
        tx,
        row,
        terms,
        found.draft,
        attached,
        after=values,
        reason="subscription_change",
        at=at,
        cause=cause,
        look_back_from=found.look_back_from,
    )


async def reach_cancellation(tx: Tx, memory: TermsMemory, given: Sequence[Recorded]) -> None:
    """The moment has come for subscriptions that were to end then, and if it is past (their
    renewals were stopped, or we were), they ended then. They end also where their last invoice
    cannot be made: then a work item asks a person to look."""
    found, at = await due_subscriptions(tx, given)
    await redeem.hold(tx, [row for _, row in found])
    ending = []
    for event, row in found:
        moment = at[row.tenant_id, row.payer_id]
        if row.cancel_at is None or row.cancel_at > moment:
            continue
        planned_at = max(row.cancel_at, row.current_period_start_at)
        if row.status not in NOT_BEGUN:
            await _bill_last(tx, memory, event, row, moment, planned_at)
        ending.append(
            Ending(
                row,
                moment,
                "requested",
                event.id,
                charged_until_at=row.charged_until_at if _charged(row, False) else None,
                cancel_reason=row.cancel_reason,
                planned_at=planned_at,
            )
        )
    await end(tx, memory, ending)


async def _bill_last(
    tx: Tx,
    memory: TermsMemory,
    event: Recorded,
    row: Row[Any],
    at: datetime,
    ended_at: datetime,
) -> None:
    terms = await _terms(tx, memory, row)
    # A later period that the date cuts was billed cut: there is nothing more to give back.
    is_cut = row.cancel_credit or row.charged_until_at <= row.cancel_at
    credit = is_cut and (row.status == PAUSED or row.cancel_at < row.current_period_end_at)

    async def rest(credit_unused: bool) -> None:
        await bill_the_rest(
            tx, memory, row, terms, at=at, credit_unused=credit_unused, cause=event.id,
            ended_at=ended_at,
        )  # fmt: skip

    try:
        try:
            await rest(credit)
        except Problem as refused:
            await _ask(tx, event, row, at, refused)
            await rest(False)
    except CoreError as refused:
        await park(tx, event, refused)


async def _ask(tx: Tx, event: Recorded, row: Row[Any], at: datetime, refused: Problem) -> None:
    """What was to be given back was not: a person decides."""
    await work_items.open_item(
        tx,
        tenant_id=row.tenant_id,
        account_id=row.payer_id,
        kind="credit_refused",
        data={
            "subscription_id": ids.text("sub", row.id),
            "reason": f"{refused.code}: {refused.detail}",
        },
        at=at,
        cause=event.id,
    )
