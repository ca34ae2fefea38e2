"""What follows when an invoice is settled, by a payment or by a credit note."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.events import Event
from subledger.core.states import SUBSCRIPTION, step
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.services.billing import facts
from subledger.services.billing.store import invoices, subscriptions
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.terms import PlanTerms


@dataclass(frozen=True, slots=True)
class Settled:
    """An invoice that has just been closed as paid. ``subscriptions`` are the locked rows of those
    that it bills; ``recovered`` says that it had been given up, which changes none of them."""

    invoice: Row[Any]
    subscriptions: Sequence[Row[Any]]
    at: datetime
    cause: UUID | None
    payment_id: str | None
    changed: Mapping[str, Any]
    """Columns of the invoice that are not as in the row any more."""
    recovered: bool = False

    def event(self, type_: str, data: Mapping[str, Any]) -> Event:
        return Event(
            type=type_,
            tenant_id=self.invoice.tenant_id,
            subject=self.invoice.account_id,
            data=data,
            occurred_at=self.at,
            cause=self.cause,
        )


async def follow(tx: Tx, terms: Mapping[Key, PlanTerms], given: Sequence[Settled]) -> None:
    """Tell ``invoice.paid``; a paid first invoice activates, a paid renewal renews, and past due
    ends with the last debt. The invoices are closed already."""
    billed = [each for each in given if not each.recovered]
    left_open = await invoices.open_invoices_of(
        tx,
        (
            (row.tenant_id, row.id)
            for each in billed
            for row in each.subscriptions
            if row.status == "past_due"
        ),
    )
    tx.emit(_paid(each) for each in given)
    await _activate(tx, terms, billed, left_open)


def _paid(each: Settled) -> Event:
    subscribed = [row.id for row in each.subscriptions]
    data = facts.invoice(each.invoice, subscribed, **{**each.changed, "status": "paid"})
    return each.event(events.INVOICE_PAID, data | {"payment_id": each.payment_id})


async def _activate(
    tx: Tx,
    terms: Mapping[Key, PlanTerms],
    given: Sequence[Settled],
    left_open: Mapping[Key, set[UUID]],
) -> None:
    statuses, activated = [], []
    for each in given:
        for row in each.subscriptions:
            key = (row.tenant_id, row.id)
            if row.status == "incomplete":
                kind = events.SUBSCRIPTION_ACTIVATED
                status = step(SUBSCRIPTION, row.status, "paid")
                activated.append(row)
            elif row.status == "active" and _in_force(each.invoice):
                continue
            elif row.status in {"active", "past_due"}:
                still_owed = left_open.get(key, set()) - {each.invoice.id}
                first = each.invoice.reason == "subscription_start"
                kind = events.SUBSCRIPTION_ACTIVATED if first else events.SUBSCRIPTION_RENEWED
                owes = row.status == "past_due" and still_owed
                status = row.status if owes else step(SUBSCRIPTION, row.status, "paid")
            else:
                continue
            if status != row.status:
                statuses.append({"tenant_id": key[0], "id": key[1], "status": status})
            data = facts.subscription(
                row, terms[row.tenant_id, row.plan_version_id], status=status
            ) | {"invoice_id": ids.text("inv", each.invoice.id)}
            tx.emit([each.event(kind, data)])
    await subscriptions.set_statuses(tx, statuses)
    await subscriptions.due.drop(
        tx, ((row.tenant_id, subscriptions.EXPIRY, row.id) for row in activated)
    )
    await subscriptions.put_renewals(tx, activated)


def _in_force(invoice: Row[Any]) -> bool:
    """Whether what the invoice is for did not wait for its payment: a change, and what is billed
    on terms or as a draft."""
    return bool(
        invoice.reason in {"subscription_change", "one_off_charge"}
        or invoice.drafted_at is not None
        or invoice.due_at > invoice.finalized_at
    )
