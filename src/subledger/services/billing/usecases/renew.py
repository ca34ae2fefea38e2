"""Renewal: bill the next period of each due subscription and open its collection."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from subledger.contracts import events
from subledger.contracts.events import Event, Recorded
from subledger.core import invoicing
from subledger.core.errors import CoreError
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.eventlog.consumer import caused
from subledger.services.billing import facts
from subledger.services.billing.store import invoices, subscriptions
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import bill
from subledger.services.billing.usecases.bill import Bill, Saved


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
    attached = await subscriptions.attached_discounts(tx, ((r.tenant_id, r.id) for r in ready))

    bills, parked = [], []
    for row in ready:
        key = (row.tenant_id, row.id)
        values = row._asdict()
        try:
            draft = invoicing.draft(
                bill.timeline(
                    values, terms[row.tenant_id, row.plan_version_id], attached.get(key, ())
                ),
                first_period=row.period_number + 1,
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
            }
        )
    await subscriptions.advance_subscriptions(tx, advanced)
    await subscriptions.put_renewals(tx, advanced)


def _renewed_at_once(saved: Sequence[Saved]) -> list[Event]:
    """An invoice of zero needs no payment: it is paid and its subscription renewed at once."""
    told = []
    for each in saved:
        if each.attempt_id is not None:
            continue
        period = each.bill.draft.period
        assert period is not None
        row = each.bill.subscription
        told.append(bill.paid_at_once(each))
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
    item = tx.ids.new()
    data = {"subscription_id": event.data["subscription_id"], "reason": reason}
    await subscriptions.park_subscriptions(
        tx, [{"tenant_id": tenant, "id": subscription_id, "parked_reason": reason}]
    )
    await subscriptions.due.drop(tx, [(tenant, subscriptions.RENEWAL, subscription_id)])
    await invoices.insert_work_items(
        tx,
        [
            {
                "tenant_id": tenant,
                "id": item,
                "kind": "billing_run_parked",
                "account_id": event.subject,
                "data": msgspec.json.encode(data).decode(),
                "opened_at": at,
            }
        ],
    )
    tx.emit(
        [
            caused(event, type=events.BILLING_RUN_PARKED, data=data, occurred_at=at),
            caused(
                event,
                type=events.WORK_ITEM_OPENED,
                occurred_at=at,
                data={"work_item_id": ids.text("wrk", item), "kind": "billing_run_parked", **data},
            ),
        ]
    )
