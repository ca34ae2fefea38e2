"""Renewal: bill the next period of each due subscription and open its collection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.events import Event, Recorded
from subledger.core import invoicing
from subledger.core.errors import CoreError
from subledger.core.timeline import Draft
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.services.billing import facts
from subledger.services.billing.store import holds, subscriptions
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.terms import PlanTerms, TermsMemory
from subledger.services.billing.usecases import begin, bill, guard
from subledger.services.billing.usecases.anchors import NOT_BEGUN, in_zone
from subledger.services.billing.usecases.begin import Waiting
from subledger.services.billing.usecases.bill import Bill, Saved
from subledger.services.billing.usecases.close import closing_draft
from subledger.services.billing.usecases.conditions import Conditions, Given, conditions
from subledger.services.billing.usecases.documents import Reason
from subledger.services.billing.usecases.extensions import next_cycle
from subledger.services.billing.usecases.issue import FIRST
from subledger.services.billing.usecases.parking import park
from subledger.services.billing.usecases.subscribe import activate_at_once
from subledger.services.billing.usecases.timelines import (
    History,
    billed_from,
    history,
    timeline,
)

RENEWED = NOT_BEGUN | {"active", "past_due"}


async def renew(tx: Tx, memory: TermsMemory, due: Sequence[Recorded]) -> None:
    """Bill what is due, one period each; the next renewal becomes due at that period's end.

    Skips what is no longer due, so that the same request twice bills once. A subscription that
    the core refuses to bill, or beyond the tenant's largest invoice, is parked with its reason and
    opens a work item; the others go on. While a tenant's renewals are stopped, or if the day's
    limits stop them now, nothing of it is billed: what is due waits until they are let go.
    """
    due = await guard.not_held(tx, holds.RENEWALS, due)
    if not due:
        return
    by_id = {
        (event.tenant_id, ids.parse("sub", event.data["subscription_id"])): event for event in due
    }
    accounts = await subscriptions.accounts(tx, {(e.tenant_id, e.subject) for e in due})
    rows = await subscriptions.lock_subscriptions(tx, by_id)
    at = await subscriptions.moments(tx, accounts, accounts)
    ready = [
        row
        for row in rows
        if row.status in RENEWED
        and row.parked_reason is None
        and row.current_period_end_at <= at[row.tenant_id, row.payer_id]
        and (row.cancel_at is None or row.current_period_end_at < row.cancel_at)
    ]
    terms = await memory.load(tx, {(row.tenant_id, row.plan_version_id) for row in ready})
    ready = await begin.first_periods(
        tx, ready, at=at, terms=terms, causes={key: event.id for key, event in by_id.items()}
    )
    changed = await histories(tx, memory, ready, terms)
    attached = await subscriptions.attached_discounts(tx, ((r.tenant_id, r.id) for r in ready))

    found_for = await conditions(
        tx, memory, [_given(row, terms, changed, at[row.tenant_id, row.payer_id]) for row in ready]
    )
    made: list[_Made] = []
    parked: list[tuple[Recorded, CoreError]] = []
    for row in ready:
        key, payer = (row.tenant_id, row.id), (row.tenant_id, row.payer_id)
        try:
            values, draft = await next_invoice(
                tx,
                memory,
                row,
                terms[row.tenant_id, row.plan_version_id],
                attached.get(key, ()),
                changed.get(key),
                found_for=found_for,
                timezone=accounts[payer].timezone,
                horizon_at=at[payer],
            )
            if len(draft.lines) > bill.MOST_LINES:
                raise CoreError(f"{len(draft.lines)} lines in one run")
        except CoreError as refused:
            parked.append((by_id[key], refused))
            continue
        its = _bill(
            row, values, draft, terms[row.tenant_id, row.plan_version_id],
            attached=attached.get(key, ()), net_days=accounts[payer].net_days,
            at=at[payer], cause=by_id[key].id,
        )  # fmt: skip
        made.append(_Made(row, its))

    judged = await guard.judge(tx, [each.bill for each in made], due)
    await _save(tx, [each for each in made if guard.key_of(each.bill) in judged.allowed])
    parked = [each for each in parked if each[0].tenant_id not in judged.stopped]
    for event, why in [*parked, *((by_id[key], why) for key, why in judged.too_large)]:
        await park(tx, event, why)


def _bill(
    row: Row[Any], values: Mapping[str, Any], draft: Draft, terms: PlanTerms, *,
    attached: Sequence[Row[Any]], net_days: int, at: datetime, cause: UUID,
) -> Bill:  # fmt: skip
    """What a subscription's next period costs; one whose first payment comes before anything else
    is incomplete until then."""
    reason: Reason = "renewal"
    if row.status in NOT_BEGUN:
        first = begin.pays_first(values, terms)
        reason = "subscription_create" if first else "subscription_start"
    is_unpaid = reason in FIRST and draft.total_minor > 0 and not net_days
    return Bill(
        subscription=begin.begun(values, is_unpaid=is_unpaid),
        terms=terms,
        draft=draft,
        attached=attached,
        reason=reason,
        at=at,
        cause=cause,
        kind="resume" if row.is_extended else "period",
    )


def _given(
    row: Row[Any],
    terms: Mapping[Key, PlanTerms],
    changed: Mapping[Key, History],
    at: datetime,
) -> Given:
    found = changed.get((row.tenant_id, row.id))
    its = [terms[row.tenant_id, row.plan_version_id]]
    return row._asdict(), [*its, *(found.terms.values() if found else ())], at


@dataclass(frozen=True, slots=True)
class _Made:
    """A subscription as it was, and the bill of its next period."""

    was: Row[Any]
    bill: Bill

    @property
    def has_moved(self) -> bool:
        """Whether its cycle hangs elsewhere from this period on: its customer's zone changed, or
        a pause moved its period's end."""
        return self.was.is_extended or self.in_another_zone

    @property
    def in_another_zone(self) -> bool:
        return bool(self.bill.subscription["timezone"] != self.was.timezone)


async def _save(tx: Tx, made: Sequence[_Made]) -> None:
    await begin.tell_begun(
        tx,
        [
            (
                each.was,
                Waiting(_advanced(each.bill), each.bill.terms, each.bill.at, each.bill.cause),
            )
            for each in made
        ],
    )
    await _tell_moved(tx, [each.bill for each in made if each.in_another_zone])
    saved = await bill.save(tx, [each.bill for each in made])
    advanced = [_advanced(each.bill) for each in made]
    moved = [each.has_moved for each in made]
    await subscriptions.advance_subscriptions(
        tx, [row for row, elsewhere in zip(advanced, moved, strict=True) if not elsewhere]
    )
    await subscriptions.change_subscriptions(
        tx, [row for row, elsewhere in zip(advanced, moved, strict=True) if elsewhere]
    )
    first = [each for each in saved if each.bill.reason in FIRST]
    later = [each for each in saved if each.bill.reason not in FIRST]
    await subscriptions.put_renewals(tx, [_advanced(each.bill) for each in later])
    tx.emit(_renewed_at_once(later))
    await _await_payment(tx, first)


async def _await_payment(tx: Tx, saved: Sequence[Saved]) -> None:
    """First periods that wait for their payment, as a purchase does: the next renewal is due once
    they are active. One that is not collected now is active at once."""
    unpaid = [
        (_advanced(each.bill), each.bill.at + begin.UNPAID_FOR) for each in saved if each.collected
    ]
    await subscriptions.due.drop(
        tx, ((row["tenant_id"], subscriptions.RENEWAL, row["id"]) for row, _ in unpaid)
    )
    await subscriptions.put_due(tx, subscriptions.EXPIRY, unpaid)
    await activate_at_once(
        tx,
        [
            replace(each, bill=replace(each.bill, subscription=_advanced(each.bill)))
            for each in saved
            if not each.collected
        ],
    )


async def histories(
    tx: Tx, memory: TermsMemory, rows: Sequence[Row[Any]], terms: Mapping[Key, PlanTerms]
) -> dict[Key, History]:
    """The histories of those that changed without an invoice of their own: the next one bills
    the change."""
    dirty = [row for row in rows if row.dirty_from_period is not None and not row.is_extended]
    if not dirty:
        return {}
    first = {
        (row.tenant_id, row.id): billed_from(
            row._asdict(), terms[row.tenant_id, row.plan_version_id], row.dirty_from_period
        )
        for row in dirty
    }
    return await history(tx, memory, [row._asdict() for row in dirty], first)


def next_draft(
    values: Mapping[str, Any],
    terms: PlanTerms,
    attached: Sequence[Row[Any]],
    changed: History | None,
    *,
    found_for: Conditions,
    horizon_at: datetime,
) -> Draft:
    """The next period's lines, and what the changes since the last invoice add and take back."""
    known = timeline(values, terms, attached, found_for, changed)
    following = values["period_number"] + 1
    if changed is None:
        return invoicing.draft(known, first_period=following, horizon_at=horizon_at)
    dirty = values["dirty_from_period"]
    return invoicing.redraft(
        known,
        billed=changed.billed,
        first_period=dirty,
        periods=following - dirty + 1,
        horizon_at=horizon_at,
    )


async def next_invoice(
    tx: Tx,
    memory: TermsMemory,
    row: Row[Any],
    terms: PlanTerms,
    attached: Sequence[Row[Any]],
    changed: History | None,
    *,
    found_for: Conditions,
    timezone: str,
    horizon_at: datetime,
) -> tuple[dict[str, Any], Draft]:
    """A subscription's columns as its next period is billed, and the lines of its invoice.

    Where its payer's zone is another by now, the cycle is counted in ``timezone`` from the first
    boundary on that all its prices share, and what the old one has to settle joins the invoice.
    So it does where an extended period ends the cycle; what a price of several periods was paid
    for beyond it is given back.
    """
    values, begins = row._asdict(), row.status in NOT_BEGUN
    # A price of several periods is counted in the cycle in which its period began.
    over = begins or (row.period_number + 1) % terms.longest(row.currency) == 0
    if not row.is_extended and (row.timezone == timezone or not over):
        draft = next_draft(
            values, terms, attached, changed, found_for=found_for, horizon_at=horizon_at
        )
        return values, draft
    closing = None
    if not begins:
        end_at = row.current_period_end_at
        closing = await closing_draft(
            tx, memory, row, terms, attached, at=end_at, credit_unused=not over
        )
    moved = next_cycle if row.is_extended else in_zone
    values = moved(values, terms.interval(row.currency), timezone)
    opening = next_draft(values, terms, attached, None, found_for=found_for, horizon_at=horizon_at)
    return values, opening if closing is None else invoicing.join(closing, opening)


def _advanced(each: Bill) -> dict[str, Any]:
    """The subscription's columns in the period billed."""
    period = each.draft.period
    assert period is not None, "only due subscriptions are billed"
    return {
        **each.subscription,
        "current_period_start_at": period.start_at,
        "current_period_end_at": period.end_at,
        "billed_through_at": period.end_at,
        "period_number": each.subscription["period_number"] + 1,
        "last_run_number": each.run_number,
        "dirty_from_period": still_dirty(each.subscription, each.terms),
    }


async def _tell_moved(tx: Tx, moved: Sequence[Bill]) -> None:
    await subscriptions.append_changes(
        tx,
        [
            {
                "tenant_id": each.subscription["tenant_id"],
                "subscription_id": each.subscription["id"],
                "kind": "zone_changed",
                "effective_at": each.subscription["cycle_started_at"],
                "data": msgspec.json.encode({"timezone": each.subscription["timezone"]}).decode(),
                "recorded_at": each.at,
            }
            for each in moved
        ],
    )
    tx.emit(
        Event(
            type=events.SUBSCRIPTION_CHANGED,
            tenant_id=each.subscription["tenant_id"],
            subject=each.subscription["payer_id"],
            data=facts.subscription(each.subscription, each.terms) | {"changed": ["timezone"]},
            occurred_at=each.at,
            cause=each.cause,
        )
        for each in moved
    )


def still_dirty(row: Mapping[str, Any], terms: PlanTerms) -> int | None:
    """From where the run after a subscription's next one has to look back: a price in arrears
    whose period goes on will need to know of a change in it."""
    currency = row["currency"]
    over = (row["period_number"] + 1) % terms.longest(currency) == 0
    if row["dirty_from_period"] is None or over or not terms.in_arrears(currency):
        return None
    return int(row["dirty_from_period"])


def _renewed_at_once(saved: Sequence[Saved]) -> list[Event]:
    """An invoice that is not collected now renews its subscription at once: one of zero is paid,
    a draft and one on terms are paid later, and without one nothing was to be paid."""
    told = []
    for each in saved:
        if each.collected:
            continue
        period = each.bill.draft.period
        assert period is not None
        row = each.bill.subscription
        told += each.paid
        told.append(
            Event(
                type=events.SUBSCRIPTION_ACTIVATED
                if each.bill.reason == "subscription_start"
                else events.SUBSCRIPTION_RENEWED,
                tenant_id=row["tenant_id"],
                subject=row["payer_id"],
                data=facts.subscription(
                    row,
                    each.bill.terms,
                    current_period_start_at=period.start_at,
                    current_period_end_at=period.end_at,
                )
                | {"invoice_id": each.invoice_text},
                occurred_at=each.bill.at,
                cause=each.bill.cause,
            )
        )
    return told
