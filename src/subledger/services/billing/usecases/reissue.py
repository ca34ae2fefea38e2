"""Reissue: void an unpaid invoice and bill the same anew, under a new number.

Nothing is copied. Once the invoice is void its lines do not count as billed any more, so that the
difference of what should be billed and what is makes them again, as the subscription, its
discounts and its taxes are now (ARCHITECTURE 6). The runs that the void invoice billed stay its
own; the new one is billed by a run of its own, which like a change's covers no new period.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.core import invoicing
from subledger.core.calendar import index_at
from subledger.core.timeline import Draft, Line
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import problems
from subledger.services.billing.store import credit_notes as store
from subledger.services.billing.store import invoices, subscriptions
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.terms import PlanTerms, TermsMemory
from subledger.services.billing.usecases import bill, recognize_pauses, settled
from subledger.services.billing.usecases.anchors import NOT_BEGUN, anchor_of
from subledger.services.billing.usecases.bill import Bill
from subledger.services.billing.usecases.change import MOST_PERIODS_BACK
from subledger.services.billing.usecases.close import check_paid
from subledger.services.billing.usecases.conditions import conditions_of
from subledger.services.billing.usecases.documents import Saved
from subledger.services.billing.usecases.end import LIVE
from subledger.services.billing.usecases.settled import Settled
from subledger.services.billing.usecases.timelines import (
    History,
    billed_from,
    history,
    timeline,
)
from subledger.services.billing.usecases.unpaid import check_voidable, void_invoices


async def reissue(
    tx: Tx, memory: TermsMemory, *, tenant_id: UUID, invoice_id: UUID, cause: UUID | None
) -> None:
    """Void the invoice and make the one that replaces it; each names the other.

    Changes that waited for the next invoice are billed with it. What the void invoice had taken
    of a discount is given back first. Raises Problem: not_found, invoice_not_open,
    invoice_reserved, invoice_credited, invoice_not_reissuable, invoice_still_open; RunTooLarge.
    """
    key = (tenant_id, invoice_id)
    seen = (await invoices.invoices(tx, [key])).get(key)
    if seen is None:
        raise Problem("not_found", detail="There is no such invoice.")
    account = (tenant_id, seen.account_id)
    accounts = await subscriptions.lock_accounts(tx, [account])
    subscribed = (await invoices.subscriptions_of(tx, [key])).get(key, [])
    rows = await subscriptions.lock_subscriptions(tx, ((tenant_id, each) for each in subscribed))
    invoice = (await invoices.lock_invoices(tx, [key]))[key]
    await check_voidable(tx, invoice)
    if invoice.reason == "one_off_charge":
        raise Problem(
            problems.INVOICE_NOT_REISSUABLE, detail="It is for no period: charge again instead."
        )
    row = _only(rows)
    at = await subscriptions.moments(tx, accounts, accounts)
    version = (tenant_id, row.plan_version_id)
    terms = (await memory.load(tx, [version]))[version]
    first = await _first_period(tx, key, row, terms)
    before = await _known(tx, memory, row, terms, first)
    await void_invoices(tx, [invoice], at=at, cause=cause)
    after = await _known(tx, memory, row, terms, first)
    attached = (await subscriptions.attached_discounts(tx, [(tenant_id, row.id)])).get(
        (tenant_id, row.id), []
    )
    known = [terms, *after.terms.values()]
    conditions = await conditions_of(tx, memory, row._asdict(), known, at[account])
    draft = invoicing.redraft(
        timeline(row._asdict(), terms, attached, conditions, after),
        billed=after.billed,
        voided=_gone(before.billed, after.billed),
        first_period=first,
        periods=row.period_number - first + 1,
        horizon_at=at[account],
    )
    await _check_billable(tx, row, draft)
    (saved,) = await bill.save(
        tx,
        [
            Bill(
                subscription=row._asdict(),
                terms=terms,
                draft=draft,
                attached=attached,
                reason=invoice.reason,
                at=at[account],
                cause=cause,
                kind="change",
            )
        ],
    )
    await recognize_pauses.billed_meanwhile(tx, [row], at=at[account])
    billed = {"last_run_number": row.last_run_number + 1, "dirty_from_period": None}
    await subscriptions.change_subscriptions(tx, [row._asdict() | billed])
    _check_issued(saved)
    await _link(tx, key, (tenant_id, saved.invoice["id"]))
    if saved.free:
        await _settle(tx, saved, row, terms, at[account], cause)


def _only(rows: Sequence[Row[Any]]) -> Row[Any]:
    """The one live subscription that the invoice bills."""
    if len(rows) != 1 or rows[0].status not in LIVE - NOT_BEGUN:
        raise Problem(
            problems.INVOICE_NOT_REISSUABLE, detail="Its subscription has ended, or it has several."
        )
    return rows[0]


async def _first_period(tx: Tx, invoice: Key, row: Row[Any], terms: PlanTerms) -> int:
    """The first period from which everything on the invoice fell due. Raises
    invoice_not_reissuable."""
    lines = await store.lines(tx, invoice)
    from_at = min(each.charged_from_at for each in lines)
    if from_at < row.cycle_started_at:
        raise Problem(problems.INVOICE_NOT_REISSUABLE, detail="It bills a cycle that has ended.")
    values = row._asdict()
    first = max(index_at(anchor_of(values), terms.interval(row.currency), from_at), 0)
    if row.dirty_from_period is not None:
        first = min(first, row.dirty_from_period)
    first -= first % terms.longest(row.currency)
    if row.period_number - first > MOST_PERIODS_BACK:
        raise Problem(
            problems.INVOICE_NOT_REISSUABLE,
            detail=f"It is older than {MOST_PERIODS_BACK} periods.",
        )
    return first


async def _known(
    tx: Tx, memory: TermsMemory, row: Row[Any], terms: PlanTerms, first: int
) -> History:
    values, key = row._asdict(), (row.tenant_id, row.id)
    return (await history(tx, memory, [values], {key: billed_from(values, terms, first)}))[key]


def _gone(before: Sequence[Line], after: Sequence[Line]) -> list[Line]:
    """The lines that are not billed any more."""
    found = list(before)
    for line in after:
        found.remove(line)
    return found


async def _check_billable(tx: Tx, row: Row[Any], draft: Draft) -> None:
    if not draft.lines:
        raise Problem(problems.INVOICE_NOT_REISSUABLE, detail="Nothing would be on the new one.")
    await check_paid(tx, row, draft)


def _check_issued(saved: Saved) -> None:
    """A draft that waits, maybe with what else is billed meanwhile, replaces nothing."""
    if saved.drafted or saved.issue is None or saved.issue.skipped:
        raise Problem(
            problems.INVOICE_NOT_REISSUABLE,
            detail="The new one would wait as a draft, or be of zero and no document.",
        )


async def _settle(
    tx: Tx, saved: Saved, row: Row[Any], terms: PlanTerms, at: datetime, cause: UUID | None
) -> None:
    """Credit pays the new one at once."""
    key = (row.tenant_id, saved.invoice["id"])
    closed = Settled(
        invoice=(await invoices.invoices(tx, [key]))[key],
        subscriptions=[row],
        at=at,
        cause=cause,
        payment_id=None,
        changed={},
    )
    await settled.follow(tx, {(row.tenant_id, row.plan_version_id): terms}, [closed])


async def _link(tx: Tx, old: Key, new: Key) -> None:
    """Each invoice names the other."""
    known = (await invoices.invoices(tx, [old]))[old]
    await store.link_invoices(
        tx,
        [
            {
                "tenant_id": old[0],
                "id": old[1],
                "replaces_invoice_id": known.replaces_invoice_id,
                "replaced_by_invoice_id": new[1],
            },
            {
                "tenant_id": new[0],
                "id": new[1],
                "replaces_invoice_id": old[1],
                "replaced_by_invoice_id": None,
            },
        ],
    )
