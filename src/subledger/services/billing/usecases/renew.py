"""Renewal: bill the next period of each due subscription and open its collection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.events import Event, Recorded
from subledger.core import invoicing
from subledger.core.errors import CoreError
from subledger.core.timeline import Draft
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.eventlog.consumer import caused
from subledger.services.billing import facts
from subledger.services.billing.store import subscriptions
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.terms import PlanTerms, TermsMemory
from subledger.services.billing.usecases import bill, work_items
from subledger.services.billing.usecases.bill import Bill, Saved
from subledger.services.billing.usecases.issue import paid_at_once
from subledger.services.billing.usecases.timelines import (
    History,
    billed_from,
    history,
    timeline,
)


async def renew(tx: Tx, memory: TermsMemory, due: Sequence[Recorded]) -> None:
    """Bill what is due, one period each; the next renewal becomes due at that period's end.

    Skips what is no longer due, so that the same request twice bills once. A subscription that
    the core refuses to bill is parked with its reason and opens a work item; the others go on.
    """
    by_id = {
        (event.tenant_id, ids.parse("sub", event.data["subscription_id"])): event for event in due
    }
    accounts = await subscriptions.accounts(tx, {(e.tenant_id, e.subject) for e in due})
    rows = await subscriptions.lock_subscriptions(tx, by_id)
    at = await subscriptions.moments(tx, accounts, accounts)
    ready = [
        row
        for row in rows
        if row.status in {"active", "past_due"}
        and row.parked_reason is None
        and row.current_period_end_at <= at[row.tenant_id, row.payer_id]
        and (row.cancel_at is None or row.current_period_end_at < row.cancel_at)
    ]
    terms = await memory.load(tx, {(row.tenant_id, row.plan_version_id) for row in ready})
    changed = await _histories(tx, memory, ready, terms)
    attached = await subscriptions.attached_discounts(tx, ((r.tenant_id, r.id) for r in ready))

    bills, parked = [], []
    for row in ready:
        key = (row.tenant_id, row.id)
        values = row._asdict()
        try:
            draft = next_draft(
                values,
                terms[row.tenant_id, row.plan_version_id],
                attached.get(key, ()),
                changed.get(key),
                horizon_at=at[row.tenant_id, row.payer_id],
            )
            if len(draft.lines) > bill.MOST_LINES:
                raise CoreError(f"{len(draft.lines)} lines in one run")
        except CoreError as refused:
            parked.append((by_id[key], refused))
            continue
        bills.append(
            Bill(
                subscription=values,
                terms=terms[row.tenant_id, row.plan_version_id],
                draft=draft,
                attached=attached.get(key, ()),
                reason="renewal",
                at=at[row.tenant_id, row.payer_id],
                cause=by_id[key].id,
            )
        )

    saved = await bill.save(tx, bills)
    await _advance(tx, bills)
    tx.emit(_renewed_at_once(saved))
    for event, why in parked:
        await _park(tx, event, why)


async def _histories(
    tx: Tx, memory: TermsMemory, rows: Sequence[Row[Any]], terms: Mapping[Key, PlanTerms]
) -> dict[Key, History]:
    """The histories of those that changed without an invoice of their own: the next one bills
    the change."""
    dirty = [row for row in rows if row.dirty_from_period is not None]
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
    horizon_at: datetime,
) -> Draft:
    """The next period's lines, and what the changes since the last invoice add and take back."""
    known = timeline(values, terms, attached, changed)
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


async def _advance(tx: Tx, bills: Sequence[Bill]) -> None:
    """Each subscription moves on to the period billed, and its next renewal is due at its end."""
    advanced = []
    for each in bills:
        period = each.draft.period
        assert period is not None, "only due subscriptions are billed"
        advanced.append(
            {
                **each.subscription,
                "current_period_start_at": period.start_at,
                "current_period_end_at": period.end_at,
                "billed_through_at": period.end_at,
                "period_number": each.subscription["period_number"] + 1,
                "last_run_number": each.run_number,
                "dirty_from_period": _still_dirty(each),
            }
        )
    await subscriptions.advance_subscriptions(tx, advanced)
    await subscriptions.put_renewals(tx, advanced)


def _still_dirty(each: Bill) -> int | None:
    """From where the next run has to look back: a price in arrears whose period goes on will need
    to know of a change in it."""
    row, currency = each.subscription, each.subscription["currency"]
    over = (row["period_number"] + 1) % each.terms.longest(currency) == 0
    if row["dirty_from_period"] is None or over or not each.terms.in_arrears(currency):
        return None
    return int(row["dirty_from_period"])


def _renewed_at_once(saved: Sequence[Saved]) -> list[Event]:
    """An invoice that is not collected now renews its subscription at once: one of zero is paid,
    a draft and one on terms are paid later."""
    told = []
    for each in saved:
        if each.collected:
            continue
        period = each.bill.draft.period
        assert period is not None
        row = each.bill.subscription
        if each.free:
            told.append(paid_at_once(each.issue))
        told.append(
            Event(
                type=events.SUBSCRIPTION_RENEWED,
                tenant_id=row["tenant_id"],
                subject=row["payer_id"],
                data=facts.subscription(
                    row,
                    each.bill.terms,
                    current_period_start_at=period.start_at,
                    current_period_end_at=period.end_at,
                )
                | {"invoice_id": ids.text("inv", each.invoice["id"])},
                occurred_at=each.bill.at,
                cause=each.bill.cause,
            )
        )
    return told


async def _park(tx: Tx, event: Recorded, refused: CoreError) -> None:
    """Take a subscription out of the runs and ask a person to look at it."""
    subscription_id = ids.parse("sub", event.data["subscription_id"])
    tenant, at = event.tenant_id, event.occurred_at
    reason = f"{refused.code}: {refused.detail}"
    data = {"subscription_id": event.data["subscription_id"], "reason": reason}
    await subscriptions.park_subscriptions(
        tx, [{"tenant_id": tenant, "id": subscription_id, "parked_reason": reason}]
    )
    await subscriptions.due.drop(tx, [(tenant, subscriptions.RENEWAL, subscription_id)])
    tx.emit([caused(event, type=events.BILLING_RUN_PARKED, data=data, occurred_at=at)])
    await work_items.open_item(
        tx,
        tenant_id=tenant,
        account_id=event.subject,
        kind="billing_run_parked",
        data=data,
        at=at,
        cause=event.id,
    )
