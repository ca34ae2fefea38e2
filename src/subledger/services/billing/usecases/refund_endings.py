"""What a refund ends: the subscriptions that its payment's invoice bills.

Asked for with the refund they end when it is granted. A refund that somebody made at the provider
ends them where the tenant's policy says so, and only if all of the money that paid for the present
period went back. They end at once and nothing more is given back; what was used and is billed
afterwards is still billed. A refund that fails later begins nothing again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row

from subledger.core.errors import CoreError
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing.store import invoices, subscriptions
from subledger.services.billing.store import refunds as store
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import work_items
from subledger.services.billing.usecases.anchors import NOT_BEGUN
from subledger.services.billing.usecases.close import bill_the_rest
from subledger.services.billing.usecases.end import Ending, end

REASON: Final = "refund"
"""Why a subscription ends, as its events say it."""
REFUSED: Final = "refund_step_refused"
"""Kind of a work item: the last invoice could not be made."""
_ENDS = frozenset({"pending", "trialing", "active", "past_due", "paused"})
"""One whose first payment is open ends by itself."""


async def set_policy(tx: Tx, *, tenant_id: UUID, on_outside_refund: str) -> None:
    """Replace the tenant's policy; it holds for refunds that are found from now on."""
    row = {
        "tenant_id": tenant_id,
        "on_outside_refund": on_outside_refund,
        "updated_at": await tx.now(tenant_id),
    }
    await store.put_policy(tx, row)


async def would_end(tx: Tx, tenant_id: UUID, invoice_id: UUID | None) -> list[UUID]:
    """What ``end_with`` would end now; nothing is locked."""
    named = await _named(tx, tenant_id, invoice_id)
    rows = await subscriptions.subscriptions(tx, named)
    return sorted(row.id for row in rows if row.status in _ENDS)


async def lock(tx: Tx, tenant_id: UUID, invoice_id: UUID | None) -> list[Row[Any]]:
    """Those that the invoice bills and that are alive, locked. The account is locked."""
    named = await _named(tx, tenant_id, invoice_id)
    rows = await subscriptions.lock_subscriptions(tx, named)
    return [row for row in rows if row.status in _ENDS]


async def _named(tx: Tx, tenant_id: UUID, invoice_id: UUID | None) -> list[Key]:
    if invoice_id is None:
        return []
    key = (tenant_id, invoice_id)
    return [(tenant_id, each) for each in (await invoices.subscriptions_of(tx, [key])).get(key, [])]


async def end_with(
    tx: Tx, memory: TermsMemory, rows: Sequence[Row[Any]], *, cause: UUID | None
) -> tuple[UUID, ...]:
    """End locked subscriptions of one account now. A last invoice that cannot be made is left to
    a person, by a work item."""
    if not rows:
        return ()
    account = (rows[0].tenant_id, rows[0].payer_id)
    accounts = await subscriptions.lock_accounts(tx, [account])
    at = (await subscriptions.moments(tx, accounts, accounts))[account]
    terms = await memory.load(tx, {(row.tenant_id, row.plan_version_id) for row in rows})
    for row in rows:
        if row.status in NOT_BEGUN:
            continue
        try:
            await bill_the_rest(
                tx,
                memory,
                row,
                terms[row.tenant_id, row.plan_version_id],
                at=at,
                credit_unused=False,
                cause=cause,
            )
        except (Problem, CoreError) as refused:
            await work_items.open_item(
                tx,
                tenant_id=row.tenant_id,
                account_id=row.payer_id,
                kind=REFUSED,
                data={
                    "subscription_id": ids.text("sub", row.id),
                    "reason": f"{refused.code}: {refused.detail}",
                },
                at=at,
                cause=cause,
            )
    await end(tx, memory, [Ending(row, at, REASON, cause) for row in rows])
    return tuple(sorted(row.id for row in rows))


async def follow_outside(
    tx: Tx,
    memory: TermsMemory,
    tenant_id: UUID,
    invoice_id: UUID | None,
    *,
    is_whole: bool,
    cause: UUID,
) -> None:
    """A refund that was made at the provider is booked: do as the policy says. ``is_whole``: all
    of the payment went back."""
    if not is_whole or invoice_id is None or await store.policy(tx, tenant_id) != "cancel":
        return
    paid = await store.paid_periods(tx, (tenant_id, invoice_id))
    rows = [row for row in await lock(tx, tenant_id, invoice_id) if row.id in paid]
    await end_with(tx, memory, rows, cause=cause)
