"""Preview: the real path without the save."""

from __future__ import annotations

from uuid import UUID

from subledger.core import invoicing
from subledger.core.invoicing import Draft
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import problems
from subledger.services.billing.store import subscriptions
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import bill
from subledger.services.billing.usecases.end import LIVE


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
    terms = await memory.load(tx, [(tenant_id, row.plan_version_id)])
    attached = await subscriptions.attached_discounts(tx, [(tenant_id, subscription_id)])
    return invoicing.draft(
        bill.timeline(
            row._asdict(),
            terms[tenant_id, row.plan_version_id],
            attached.get((tenant_id, subscription_id), ()),
        ),
        first_period=row.period_number + 1,
        horizon_at=row.current_period_end_at,
    )
