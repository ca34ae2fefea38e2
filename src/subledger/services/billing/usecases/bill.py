"""Billing: drafts become invoices with lines, runs, postings and reservations, set-based.

This is the one path for a first invoice and for a renewal, for one subscription and for five
hundred. Billed once is decided by the database: run ``last + 1`` of a subscription is unique.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Any, Literal
from uuid import UUID

import msgspec
from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.events import Event
from subledger.core import invoicing
from subledger.core import ledger as books
from subledger.core.difference import ENGINE_VERSION
from subledger.core.errors import CoreError
from subledger.core.lifecycle import settle
from subledger.core.timeline import Draft
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.services.billing import facts, ledger
from subledger.services.billing.store import invoices, postings, subscriptions
from subledger.services.billing.terms import PlanTerms
from subledger.services.billing.usecases.recognize import open_schedules

MOST_LINES = 50
"""A run with more lines is parked, not billed (ARCHITECTURE 6)."""
SERIES = "INV"
TZDATA_VERSION = version("tzdata")

_json = msgspec.json.Encoder(decimal_format="string").encode


class RunTooLarge(CoreError):
    """A run of more than 50 lines: a person has to look at it."""

    code = "run_too_large"


@dataclass(frozen=True, slots=True)
class Bill:
    """One subscription's draft, ready to be saved. ``subscription`` holds the row's columns as
    they were before the run."""

    subscription: Mapping[str, Any]
    terms: PlanTerms
    draft: Draft
    attached: Sequence[Row[Any]]
    reason: Literal["subscription_create", "renewal", "subscription_change", "subscription_end"]
    at: datetime
    cause: UUID | None
    kind: Literal["period", "change", "restart"] = "period"
    """A run covers the next period, changes what is billed of the present one, or leaves the
    cycle for a new one."""

    @property
    def run_number(self) -> int:
        return int(self.subscription["last_run_number"]) + 1


@dataclass(frozen=True, slots=True)
class Saved:
    """An invoice as it was written."""

    bill: Bill
    invoice: Mapping[str, Any]
    attempt_id: UUID | None

    @property
    def due_minor(self) -> int:
        """What is left to be collected."""
        return int(self.invoice["total_minor"] - self.invoice["paid_minor"])


async def save(tx: Tx, bills: Sequence[Bill]) -> list[Saved]:
    """Write the invoices of a batch and emit ``invoice.finalized`` (and ``invoice.paid`` at once
    for a total of zero). The accounts and subscriptions are locked; the subscriptions advance.

    Raises RunTooLarge before anything is written, and an integrity error if a run exists already.
    """
    for bill in bills:
        if len(bill.draft.lines) > MOST_LINES:
            raise RunTooLarge(f"{len(bill.draft.lines)} lines in one run")
    owed = await postings.credits(
        tx, sorted({(each.subscription["tenant_id"], each.subscription["payer_id"])
                    for each in bills}),
    )  # fmt: skip
    saved = [_invoice(tx, bill, owed) for bill in bills]
    await _number(tx, saved)
    await invoices.insert_invoices(tx, [each.invoice for each in saved])
    await invoices.insert_runs(tx, [_run(each) for each in saved])
    lines = [line for each in saved for line in _lines(each)]
    await invoices.insert_lines(tx, lines)
    finalized = {(each.invoice["tenant_id"], each.invoice["id"]): each.bill.at for each in saved}
    await open_schedules(tx, lines, at=finalized)
    await _settle_zero(tx, saved)
    await invoices.insert_reservations(
        tx,
        [
            {
                "tenant_id": each.invoice["tenant_id"],
                "invoice_id": each.invoice["id"],
                "attempt_id": each.attempt_id,
                "amount_minor": each.due_minor,
                "state": "held",
                "reserved_at": each.bill.at,
            }
            for each in saved
            if each.attempt_id
        ],
    )
    await subscriptions.set_used_periods(tx, _used(bills))
    await ledger.post(tx, [posting for each in saved for posting in _postings(each)])
    tx.emit(_finalized(each) for each in saved)
    return saved


def _invoice(tx: Tx, bill: Bill, owed: dict[tuple[UUID, UUID, str], int]) -> Saved:
    """The invoice's row. The customer's credit pays first, the earlier invoice before the later;
    what was used is taken off ``owed``."""
    draft, row = bill.draft, bill.subscription
    account = (row["tenant_id"], row["payer_id"], draft.currency)
    met = settle(draft.total_minor, owed.get(account, 0))
    if met.credit_used_minor:
        owed[account] -= met.credit_used_minor
    inputs = {
        "engine": ENGINE_VERSION,
        "tzdata": TZDATA_VERSION,
        "plan_versions": [str(bill.terms.plan_version_id)],
        "timezone": row["timezone"],
        "discounts": [[str(each.id), each.used_periods] for each in bill.attached],
        "lines": [line.derivation for line in draft.lines],
    }
    encoded = _json(inputs)
    invoice = {
        "tenant_id": row["tenant_id"],
        "id": tx.ids.new(),
        "account_id": row["payer_id"],
        "series": SERIES,
        "number": 0,
        "status": "open",
        "reason": bill.reason,
        "currency": draft.currency,
        "subtotal_minor": draft.subtotal_minor,
        "discount_minor": draft.discount_minor,
        "tax_minor": draft.tax_minor,
        "total_minor": met.due_minor + met.credit_used_minor,
        "credited_minor": met.credit_made_minor,
        "credit_applied_minor": met.credit_used_minor,
        "paid_minor": met.credit_used_minor,
        "due_at": bill.at,
        "finalized_at": bill.at,
        "inputs": encoded.decode(),
        "content_hash": invoicing.content_hash(inputs),
    }
    return Saved(bill=bill, invoice=invoice, attempt_id=tx.ids.new() if met.due_minor else None)


async def _number(tx: Tx, saved: Sequence[Saved]) -> None:
    """Gap-free numbers for the batch. The series is locked from here to the commit."""
    counts: dict[tuple[UUID, str], int] = {}
    for each in saved:
        key = (each.invoice["tenant_id"], each.invoice["series"])
        counts[key] = counts.get(key, 0) + 1
    free = await invoices.take_numbers(tx, counts) if counts else {}
    for each in saved:
        key = (each.invoice["tenant_id"], each.invoice["series"])
        assert isinstance(each.invoice, dict)
        each.invoice["number"] = free[key]
        free[key] += 1


def _run(each: Saved) -> dict[str, Any]:
    period = each.bill.draft.period
    assert period is not None, "a run covers a period"
    return {
        "tenant_id": each.invoice["tenant_id"],
        "subscription_id": each.bill.subscription["id"],
        "number": each.bill.run_number,
        "invoice_id": each.invoice["id"],
        "period_start_at": period.start_at,
        "period_end_at": period.end_at,
        "kind": each.bill.kind,
    }


def _lines(each: Saved) -> list[dict[str, Any]]:
    return [
        {
            "tenant_id": each.invoice["tenant_id"],
            "invoice_id": each.invoice["id"],
            "n": n,
            "kind": line.kind,
            "subscription_id": each.bill.subscription["id"],
            "run_number": each.bill.run_number,
            "price_id": UUID(line.price_id),
            "charged_from_at": line.charged_from_at,
            "service_start_at": line.service_start_at,
            "service_end_at": line.service_end_at,
            "quantity": line.quantity,
            "gross_minor": line.gross_minor,
            "discount_minor": line.discount_minor,
            "net_minor": line.net_minor,
            "tax_minor": line.tax_minor,
            "tax_rate": line.tax_rate,
            "currency": each.bill.draft.currency,
            "derivation": _json(line.derivation).decode(),
        }
        for n, line in enumerate(each.bill.draft.lines, start=1)
    ]


def _used(bills: Sequence[Bill]) -> list[dict[str, Any]]:
    """Subscriptions' discounts that gave a period in this batch, with their new counts."""
    return [
        {
            "tenant_id": bill.subscription["tenant_id"],
            "subscription_id": bill.subscription["id"],
            "n": row.n,
            "used_periods": row.used_periods + bill.draft.used[str(row.id)],
        }
        for bill in bills
        for row in bill.attached
        if str(row.id) in bill.draft.used
    ]


def _postings(each: Saved) -> list[ledger.Posting]:
    draft = each.bill.draft
    customer = ids.text("cus", each.invoice["account_id"])
    return [
        ledger.Posting(
            tenant_id=each.invoice["tenant_id"],
            account_id=each.invoice["account_id"],
            invoice_id=each.invoice["id"],
            kind=kind,
            occurred_at=each.bill.at,
            transfers=transfers,
        )
        for kind, transfers in (
            (
                "finalized",
                books.finalized(
                    customer=customer,
                    net_minor=draft.subtotal_minor - draft.discount_minor,
                    tax_minor=draft.tax_minor,
                    currency=draft.currency,
                ),
            ),
            (
                "credit_applied",
                books.credit_applied(
                    customer=customer,
                    amount_minor=each.invoice["credit_applied_minor"],
                    currency=draft.currency,
                ),
            ),
        )
        if transfers
    ]


async def _settle_zero(tx: Tx, saved: Sequence[Saved]) -> None:
    """An invoice of zero, or one that credit pays, is paid the moment that it is finalized."""
    await invoices.close_invoices(
        tx,
        [
            {
                "tenant_id": each.invoice["tenant_id"],
                "id": each.invoice["id"],
                "status": "paid",
                "paid_minor": each.invoice["total_minor"],
                "closed_at": each.bill.at,
            }
            for each in saved
            if each.attempt_id is None
        ],
    )


def _finalized(each: Saved) -> Event:
    row, invoice = each.bill.subscription, each.invoice
    collection = None
    if each.attempt_id is not None:
        method = row["payment_method_id"]
        collection = {
            "mode": row["collection"] if each.bill.reason == "subscription_create" else "automatic",
            "attempt_id": ids.text("att", each.attempt_id),
            "amount_minor": each.due_minor,
            "payment_method_id": None if method is None else ids.text("pm", method),
            "dunning": each.bill.reason != "subscription_create",
            "return_url": row["return_url"],
        }
    return Event(
        type=events.INVOICE_FINALIZED,
        tenant_id=invoice["tenant_id"],
        subject=invoice["account_id"],
        data=facts.invoice(invoice, [row["id"]]) | {"collection": collection},
        occurred_at=each.bill.at,
        cause=each.bill.cause,
    )


def paid_at_once(each: Saved) -> Event:
    """``invoice.paid`` of an invoice that needs no payment."""
    return Event(
        type=events.INVOICE_PAID,
        tenant_id=each.invoice["tenant_id"],
        subject=each.invoice["account_id"],
        data=facts.invoice(each.invoice, [each.bill.subscription["id"]], status="paid")
        | {"payment_id": None},
        occurred_at=each.bill.at,
        cause=each.bill.cause,
    )
