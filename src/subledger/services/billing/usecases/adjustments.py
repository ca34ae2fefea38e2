"""Adjustments: a person gives a customer credit, or takes some back, and says why.

Credit given so is an expense of its own (``adjustment_expense``), apart from revenue that credit
notes take back, so that the books show what goodwill costs.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from subledger.contracts import events
from subledger.contracts.events import Event
from subledger.core import ledger as books
from subledger.core.money import check_amount
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import facts, ledger, problems
from subledger.services.billing.store import credit_notes as store
from subledger.services.billing.store import postings, subscriptions

Direction = Literal["credit", "debit"]


@dataclass(frozen=True, slots=True)
class AdjustmentRequest:
    """``credit`` gives the customer credit, ``debit`` takes it back (minor units, above zero)."""

    tenant_id: UUID
    adjustment_id: UUID
    customer_id: UUID
    direction: Direction
    amount_minor: int
    currency: str
    reason: str
    made_by: str
    cause: UUID | None


async def adjust(tx: Tx, request: AdjustmentRequest) -> None:
    """Post the adjustment and tell ``adjustment.made``; the reason stays out of the event.

    Raises Problem: unknown_reference (customer), currency_mismatch, credit_insufficient;
    AmountOutOfRange if the customer would have more credit than 10^15.
    """
    account = (request.tenant_id, request.customer_id)
    accounts = await subscriptions.lock_accounts(tx, [account])
    if account not in accounts or accounts[account].deleted_at is not None:
        raise Problem(
            problems.UNKNOWN_REFERENCE, pointer="/customer_id", detail="There is no such customer."
        )
    own = accounts[account].currency
    if request.currency != own:
        raise Problem(
            problems.CURRENCY_MISMATCH, pointer="/currency",
            detail=f"The customer is billed in {own}.", fix=f"Use {own}.",
        )  # fmt: skip
    has = (await postings.credits(tx, [account])).get((*account, own), 0)
    signed = request.amount_minor if request.direction == "credit" else -request.amount_minor
    if has + signed < 0:
        raise Problem(
            problems.CREDIT_INSUFFICIENT, pointer="/amount_minor",
            detail=f"The customer has a credit of {has}.", left_minor=has,
        )  # fmt: skip
    check_amount(has + signed, pointer="/amount_minor")
    at = (await subscriptions.moments(tx, accounts, accounts))[account]
    customer = ids.text("cus", request.customer_id)
    await store.insert_adjustments(
        tx,
        [
            {
                "tenant_id": request.tenant_id,
                "id": request.adjustment_id,
                "account_id": request.customer_id,
                "direction": request.direction,
                "amount_minor": request.amount_minor,
                "currency": own,
                "reason": request.reason,
                "made_by": request.made_by,
                "made_at": at,
            }
        ],
    )
    await ledger.post(
        tx,
        [
            ledger.Posting(
                tenant_id=request.tenant_id,
                account_id=request.customer_id,
                invoice_id=None,
                kind="adjusted",
                occurred_at=at,
                transfers=books.adjusted(customer=customer, amount_minor=signed, currency=own),
            )
        ],
    )
    tx.emit([_told(request, at)])


def _told(request: AdjustmentRequest, at: datetime) -> Event:
    return Event(
        type=events.ADJUSTMENT_MADE,
        tenant_id=request.tenant_id,
        subject=request.customer_id,
        data={
            "adjustment_id": ids.text("adj", request.adjustment_id),
            "customer_id": ids.text("cus", request.customer_id),
            "direction": request.direction,
            "amount_minor": request.amount_minor,
            "currency": request.currency,
            "made_at": facts.moment(at),
        },
        occurred_at=at,
        cause=request.cause,
    )
