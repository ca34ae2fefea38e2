"""Preview: the real path without the save."""

from __future__ import annotations

from uuid import UUID

from subledger.core.timeline import Draft
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import problems
from subledger.services.billing.store import subscriptions
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases.end import LIVE
from subledger.services.billing.usecases.renew import next_invoice
from subledger.services.billing.usecases.timelines import billed_from, history


async def upcoming(tx: Tx, memory: TermsMemory, *, tenant_id: UUID, subscription_id: UUID) -> Draft:
    """The next invoice of a subscription, as its renewal will make it if nothing changes.

    A subscription that ends with its period has no lines left. Raises not_found and
    subscription_ended.
    """
    found = await subscriptions.subscriptions(tx, [(tenant_id, subscription_id)])
    if not found:
        raise Problem("not_found", detail="There is no such subscription.")
    row = found[0]
    if row.status not in LIVE:
        raise Problem(
            problems.SUBSCRIPTION_ENDED, detail=f"The subscription ended: it is {row.status}."
        )
    key = (tenant_id, subscription_id)
    terms = (await memory.load(tx, [(tenant_id, row.plan_version_id)]))[
        tenant_id, row.plan_version_id
    ]
    payer = (tenant_id, row.payer_id)
    account = (await subscriptions.accounts(tx, [payer]))[payer]
    attached = await subscriptions.attached_discounts(tx, [key])
    values = row._asdict()
    changed = None
    if row.dirty_from_period is not None:
        first = billed_from(values, terms, row.dirty_from_period)
        changed = (await history(tx, memory, [values], {key: first}))[key]
    _, draft = await next_invoice(
        tx,
        memory,
        row,
        terms,
        attached.get(key, ()),
        changed,
        timezone=account.timezone,
        # A trial that has not begun lies between the start day and the first invoice.
        horizon_at=max(row.current_period_end_at, row.cycle_started_at),
    )
    return draft
