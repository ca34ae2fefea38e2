"""Preview: the real path without the save."""

from __future__ import annotations

from uuid import UUID

from subledger.core import invoicing
from subledger.core.timeline import Draft
from subledger.platform.db import Tx
from subledger.services.billing.store import subscriptions
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases.conditions import NONE, conditions_of
from subledger.services.billing.usecases.end import look_at_one
from subledger.services.billing.usecases.extensions import PAUSED
from subledger.services.billing.usecases.renew import next_invoice
from subledger.services.billing.usecases.timelines import billed_from, history, timeline


async def upcoming(tx: Tx, memory: TermsMemory, *, tenant_id: UUID, subscription_id: UUID) -> Draft:
    """The next invoice of a subscription, as its renewal will make it if nothing changes.

    A subscription that ends with its period, or is paused, has no lines. Raises not_found and
    subscription_ended.
    """
    row, _ = await look_at_one(tx, tenant_id, subscription_id)
    key = (tenant_id, subscription_id)
    terms = (await memory.load(tx, [(tenant_id, row.plan_version_id)]))[
        tenant_id, row.plan_version_id
    ]
    payer = (tenant_id, row.payer_id)
    account = (await subscriptions.accounts(tx, [payer]))[payer]
    attached = await subscriptions.attached_discounts(tx, [key])
    values = row._asdict()
    if row.status == PAUSED:
        known = timeline(values, terms, attached.get(key, ()), NONE)
        return invoicing.draft(known, first_period=0, horizon_at=row.anchor_at, most_periods=0)
    changed = None
    if row.dirty_from_period is not None and not row.is_extended:
        first = billed_from(values, terms, row.dirty_from_period)
        changed = (await history(tx, memory, [values], {key: first}))[key]
    _, draft = await next_invoice(
        tx,
        memory,
        row,
        terms,
        attached.get(key, ()),
        changed,
        found_for=await conditions_of(
            tx,
            memory,
            values,
            [terms, *(changed.terms.values() if changed else ())],
            row.current_period_end_at,
        ),
        timezone=account.timezone,
        # A trial that has not begun lies between the start day and the first invoice.
        horizon_at=max(row.current_period_end_at, row.cycle_started_at),
    )
    return draft
