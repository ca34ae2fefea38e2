"""Reservations: the invoice's owner decides who may collect (ARCHITECTURE 7)."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from subledger.contracts.collections import Reservation, ReserveRequest
from subledger.core.states import INVOICE, can
from subledger.platform.db import Tx
from subledger.services.billing.store import invoices, subscriptions
from subledger.services.billing.usecases.issue import FIRST


async def reserve(tx: Tx, tenant_id: UUID, requests: Sequence[ReserveRequest]) -> list[Reservation]:
    """Reserve open or written-off invoices for attempts; an answer per request, in the order asked.

    Idempotent by attempt id: an attempt that holds its invoice is granted again. Refuses with
    ``unknown_invoice``, ``not_open`` (paid or void), or ``reserved`` (another attempt holds or has
    collected it). Of two requests for one invoice in a batch the first wins.
    """
    keys = {(tenant_id, each.invoice_id) for each in requests}
    found = await invoices.invoices(tx, keys)
    accounts = await subscriptions.lock_accounts(
        tx, {(tenant_id, row.account_id) for row in found.values()}
    )
    locked = await invoices.lock_invoices(tx, found)
    taken = await invoices.reservations(tx, found)
    at = await subscriptions.moments(tx, accounts, accounts)
    held = {
        key: row.attempt_id
        for key, rows in taken.items()
        for row in rows
        if row.state != "released"
    }
    spent = {(row.invoice_id, row.attempt_id) for rows in taken.values() for row in rows}
    answers, fresh = [], []
    for each in requests:
        key = (tenant_id, each.invoice_id)
        row = locked.get(key)
        refusal = None
        if row is None:
            refusal = "unknown_invoice"
        elif not can(INVOICE, row.status, "paid"):
            refusal = "not_open"
        elif key in held and held[key] != each.attempt_id:
            refusal = "reserved"
        elif key not in held and (each.invoice_id, each.attempt_id) in spent:
            refusal = "released"
        if row is None or refusal is not None:
            answers.append(Reservation(each.invoice_id, each.attempt_id, False, refusal))
            continue
        amount_minor = row.total_minor - row.paid_minor
        if key not in held:
            held[key] = each.attempt_id
            fresh.append(
                {
                    "tenant_id": tenant_id,
                    "invoice_id": each.invoice_id,
                    "attempt_id": each.attempt_id,
                    "amount_minor": amount_minor,
                    "state": "held",
                    "reserved_at": at[tenant_id, row.account_id],
                }
            )
        answers.append(
            Reservation(
                invoice_id=each.invoice_id,
                attempt_id=each.attempt_id,
                granted=True,
                customer_id=row.account_id,
                amount_minor=amount_minor,
                currency=row.currency,
                # What was given up is not dunned again.
                dunning=row.reason not in FIRST and row.status == "open",
            )
        )
    await invoices.insert_reservations(tx, fresh)
    return answers
