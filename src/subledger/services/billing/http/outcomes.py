"""The answer to a buyer, who waits for the outcome of a first payment."""

from __future__ import annotations

from uuid import UUID

from subledger.contracts.checkouts import Checkouts
from subledger.platform import ids
from subledger.platform.db import Database
from subledger.platform.http.callers import Caller
from subledger.platform.http.problems import Problem
from subledger.services.billing.flows import buy
from subledger.services.billing.http.stories import READ
from subledger.services.billing.schemas.subscriptions import Purchase
from subledger.services.billing.store import reads


async def waited(
    database: Database, checkouts: Checkouts, caller: Caller, subscription_id: UUID
) -> Purchase:
    """The subscription once its first payment is decided, or the caller's wait is over. Raises
    payment_declined."""
    bought = await buy.wait(
        database,
        checkouts,
        tenant_id=caller.tenant_id,
        subscription_id=subscription_id,
        wait_s=caller.wait_s,
    )
    return await _outcome(database, caller.tenant_id, subscription_id, bought)


async def _outcome(
    database: Database, tenant_id: UUID, subscription_id: UUID, bought: buy.Bought
) -> Purchase:
    """The answer to a buyer. Raises payment_declined, a refusal that is committed: it is rebuilt
    from the subscription for a repeated request."""
    key = (tenant_id, subscription_id)
    async with database.transaction(READ, tenants=[tenant_id]) as tx:
        row = (await reads.subscriptions(tx, [key]))[key]
    if row.status == "incomplete" and bought.payment_status == "failed":
        code = bought.failure_code
        raise Problem(
            "payment_declined",
            detail="The first payment was declined." if code is None else f"Declined: {code}.",
            fix="Ask the payer for another payment method and pay the invoice by"
            " POST /v1/payments within 24 hours.",
            subscription_id=ids.text("sub", subscription_id),
            invoice_id=None if bought.invoice_id is None else ids.text("inv", bought.invoice_id),
            failure_code=code,
        )
    return Purchase.bought(row, bought)
