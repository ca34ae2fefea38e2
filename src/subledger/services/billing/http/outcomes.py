"""The answer to a buyer, who waits for the outcome of a first payment."""

from __future__ import annotations

from uuid import UUID

from subledger.platform import ids
from subledger.platform.http.callers import Caller
from subledger.platform.http.problems import Problem
from subledger.services.billing.flows.buy import Buyers
from subledger.services.billing.schemas.subscriptions import Purchase


async def waited(
    buyers: Buyers, caller: Caller, subscription_id: UUID, *, at_once: bool = True
) -> Purchase:
    """The subscription once its first payment is decided, or the caller's wait is over. Raises
    payment_declined, a refusal that is committed: it is rebuilt from the subscription for a
    repeated request. Not ``at_once``: its payment was asked for just now."""
    key = (caller.tenant_id, subscription_id)
    row, bought = await buyers.wait(key, caller.wait_s, at_once=at_once)
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
