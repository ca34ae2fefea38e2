"""What a cycle that is left still bills: changes that waited for the next invoice, and what is
unused if it is given back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.core import invoicing
from subledger.core.timeline import Draft
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import problems
from subledger.services.billing.store import invoices, subscriptions
from subledger.services.billing.terms import PlanTerms, TermsMemory
from subledger.services.billing.usecases import bill
from subledger.services.billing.usecases.bill import Bill
from subledger.services.billing.usecases.conditions import conditions_of
from subledger.services.billing.usecases.extensions import (
    PAUSED,
    billed_by,
    extension,
    history_in_paid_time,
    in_paid_time,
)
from subledger.services.billing.usecases.timelines import (
    billed_from,
    history,
    timeline,
)


async def closing_draft(
    tx: Tx,
    memory: TermsMemory,
    row: Row[Any],
    terms: PlanTerms,
    attached: Sequence[Row[Any]],
    *,
    at: datetime,
    credit_unused: bool,
    ended_at: datetime | None = None,
) -> Draft | None:
    """The cycle's last lines as of ``at``; None if nothing waits, nothing is given back and no
    price is billed in arrears.

    It ended then, or at ``ended_at`` before: nothing is billed for later. With ``credit_unused``
    the time after the end that was billed is credited.
    """
    dirty = row.dirty_from_period
    if dirty is None and not credit_unused and not terms.in_arrears(row.currency):
        return None
    if row.period_number < 0:
        return None  # nothing of the cycle is billed yet
    within = await extension(tx, row)
    if row.status == PAUSED:
        # No period begins in a pause: what is owed in arrears ends with the one it began in.
        at = min(at, row.current_period_end_at)
    values, until_at = in_paid_time(row._asdict(), within), within.paid(min(at, ended_at or at))
    first = row.period_number if dirty is None else dirty
    first -= first % terms.longest(row.currency)
    key = (row.tenant_id, row.id)
    found = (await history(tx, memory, [values], {key: billed_from(values, terms, first)}))[key]
    known = history_in_paid_time(found, within)
    paid = [terms, *known.terms.values()]
    found_for = await conditions_of(tx, memory, values, paid, within.paid(at))
    draft = invoicing.redraft(
        replace(
            timeline(values, terms, attached, found_for, known),
            ended_at=until_at,
            serves_out=not credit_unused,
        ),
        billed=known.billed,
        first_period=first,
        periods=row.period_number - first + 1,
        horizon_at=until_at,
    )
    return within.real_draft(draft, found.billed)


async def check_paid(tx: Tx, row: Row[Any], draft: Draft) -> None:
    """Refuse to give credit for what was not paid. Raises invoice_still_open."""
    if draft.total_minor >= 0:
        return
    key = (row.tenant_id, row.id)
    if (await invoices.open_invoices_of(tx, [key])).get(key):
        raise Problem(
            problems.INVOICE_STILL_OPEN,
            detail="Credit is given for what was paid, and an invoice of the subscription is open.",
        )


async def bill_the_rest(
    tx: Tx,
    memory: TermsMemory,
    row: Row[Any],
    terms: PlanTerms,
    *,
    at: datetime,
    credit_unused: bool,
    cause: UUID | None,
    ended_at: datetime | None = None,
) -> None:
    """Make the last invoice of a subscription that ends at ``at``, or ended at ``ended_at`` before,
    if there is anything on it.

    Raises invoice_still_open as ``check_paid`` does when ``credit_unused`` was asked for; without
    it, what is to be given back stays with the invoice that is still owed. Raises RunTooLarge.
    """
    key = (row.tenant_id, row.id)
    attached = (await subscriptions.attached_discounts(tx, [key])).get(key, [])
    draft = await closing_draft(
        tx, memory, row, terms, attached, at=at, credit_unused=credit_unused, ended_at=ended_at
    )
    if draft is None or not draft.lines:
        return
    try:
        await check_paid(tx, row, draft)
    except Problem:
        if credit_unused:
            raise
        return
    saved = await bill.save(
        tx,
        [
            Bill(
                subscription=row._asdict(),
                terms=terms,
                draft=draft,
                attached=attached,
                reason="subscription_end",
                at=at,
                cause=cause,
                kind="change",
            )
        ],
    )
    tx.emit(event for each in saved for event in each.paid)
    billed = billed_by(row, draft) | {"dirty_from_period": None}
    await subscriptions.change_subscriptions(tx, [row._asdict() | billed])
