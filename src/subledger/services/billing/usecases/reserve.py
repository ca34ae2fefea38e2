"""Reservations: the invoice's owner decides who may collect (ARCHITECTURE 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.contracts.collections import DueInvoice, Reservation, ReserveRequest
from subledger.core import reservations
from subledger.core.reservations import Claim
from subledger.core.states import INVOICE, can
from subledger.platform.db import Tx
from subledger.services.billing.facts import number_text
from subledger.services.billing.store import invoices, subscriptions
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.usecases.issue import FIRST


async def reserve(tx: Tx, tenant_id: UUID, requests: Sequence[ReserveRequest]) -> list[Reservation]:
    """Reserve open or written-off invoices for attempts; an answer per request, in the order asked.

    Idempotent by attempt id: an attempt that holds its invoice is granted again. Refuses with
    ``unknown_invoice``, ``not_open`` (paid or void), or ``reserved`` (another attempt holds or has
    collected it). Of two requests for one invoice in a batch the first wins. Money for an account
    without an invoice is granted where the account takes its currency, and holds nothing.
    """
    keys = {(tenant_id, each.invoice_id) for each in requests if each.invoice_id is not None}
    found = await invoices.invoices(tx, keys)
    named = {(tenant_id, row.account_id) for row in found.values()}
    named |= {
        (tenant_id, each.customer_id)
        for each in requests
        if each.invoice_id is None and each.customer_id is not None
    }
    accounts = await subscriptions.lock_accounts(tx, named)
    locked = await invoices.lock_invoices(tx, found)
    taken = await invoices.reservations(tx, found)
    at = await subscriptions.moments(tx, accounts, accounts)
    claims = {
        key: [Claim(row.attempt_id, row.state) for row in rows] for key, rows in taken.items()
    }
    answers, fresh = [], []
    for each in requests:
        if each.invoice_id is None:
            answers.append(_for_account(tenant_id, each, accounts))
            continue
        key = (tenant_id, each.invoice_id)
        row = locked.get(key)
        mine = claims.setdefault(key, [])
        refusal = reservations.refusal(None if row is None else row.status, mine, each.attempt_id)
        if row is None or refusal is not None:
            pass
        elif each.customer_id not in {None, row.account_id}:
            refusal = "unknown_customer"
        elif each.currency not in {None, row.currency}:
            refusal = "currency_mismatch"
        if row is None or refusal is not None:
            answers.append(Reservation(each.invoice_id, each.attempt_id, False, refusal))
            continue
        open_minor = row.total_minor - row.paid_minor
        if reservations.holder(mine) is None:
            mine.append(Claim(each.attempt_id, "held"))
            fresh.append(_reservation(each, row, open_minor, at[tenant_id, row.account_id]))
        answers.append(_granted(each, row, open_minor))
    await invoices.insert_reservations(tx, fresh)
    return answers


def _reservation(
    each: ReserveRequest, row: Row[Any], open_minor: int, at: datetime
) -> dict[str, Any]:
    return {
        "tenant_id": row.tenant_id,
        "invoice_id": each.invoice_id,
        "attempt_id": each.attempt_id,
        "amount_minor": min(open_minor, each.amount_minor or open_minor),
        "state": "held",
        "reserved_at": at,
    }


def _granted(each: ReserveRequest, row: Row[Any], open_minor: int) -> Reservation:
    return Reservation(
        invoice_id=each.invoice_id,
        attempt_id=each.attempt_id,
        granted=True,
        customer_id=row.account_id,
        amount_minor=each.amount_minor or open_minor,
        currency=row.currency,
        # What was given up is not dunned again.
        dunning=row.reason not in FIRST and row.status == "open",
    )


def _for_account(
    tenant_id: UUID, each: ReserveRequest, accounts: Mapping[Key, Row[Any]]
) -> Reservation:
    assert each.customer_id is not None, "money is for an invoice or for an account"
    assert each.amount_minor is not None, "money for an account says how much it is"
    row = accounts.get((tenant_id, each.customer_id))
    if row is None or row.deleted_at is not None:
        return Reservation(None, each.attempt_id, False, "unknown_customer")
    if row.currency != each.currency:
        return Reservation(None, each.attempt_id, False, "currency_mismatch")
    return Reservation(
        invoice_id=None,
        attempt_id=each.attempt_id,
        granted=True,
        customer_id=row.id,
        amount_minor=each.amount_minor,
        currency=row.currency,
    )


async def due(tx: Tx, tenant_id: UUID, invoice_ids: Sequence[UUID]) -> list[DueInvoice]:
    """What is open now of those invoices that exist, in the order asked; drafts do not yet."""
    found = await invoices.invoices(tx, ((tenant_id, each) for each in invoice_ids))
    return [
        DueInvoice(
            invoice_id=each,
            number=number_text(row.series, row.number) or "",
            status=row.status,
            due_minor=row.total_minor - row.paid_minor if can(INVOICE, row.status, "paid") else 0,
            currency=row.currency,
        )
        for each in invoice_ids
        if (row := found.get((tenant_id, each))) is not None and row.status != "draft"
    ]
