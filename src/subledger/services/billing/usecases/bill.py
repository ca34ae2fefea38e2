"""Billing: drafts become invoices with lines, runs, postings and reservations, set-based.

This is the one path for a first invoice and for a renewal, for one subscription and for five
hundred. Billed once is decided by the database: run ``last + 1`` of a subscription is unique.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from subledger.core.errors import CoreError
from subledger.core.timeline import Draft
from subledger.platform.db import Tx
from subledger.services.billing.store import invoices, subscriptions
from subledger.services.billing.usecases import drafts, totals
from subledger.services.billing.usecases.documents import Bill, Saved, encode, invoice_row
from subledger.services.billing.usecases.issue import FIRST, Issue, announce, prepare

__all__ = ["MOST_LINES", "Bill", "RunTooLarge", "Saved", "check_lines", "save"]

MOST_LINES = 50
"""A run with more lines is parked, not billed (ARCHITECTURE 6)."""


class RunTooLarge(CoreError):
    """A run of more than 50 lines: a person has to look at it."""

    code = "run_too_large"


async def save(tx: Tx, bills: Sequence[Bill]) -> list[Saved]:
    """Write the invoices of a batch with their runs and lines, and issue them, or leave those as
    drafts that are to wait (``drafts``). Where nothing is due there is a run and no invoice, since
    one without a line is none. The accounts and subscriptions are locked.

    Raises RunTooLarge before anything is written, and an integrity error if a run exists already.
    """
    for bill in bills:
        check_lines(bill.draft)
    policies = await drafts.policies(
        tx, [(each.subscription["tenant_id"], each.subscription["payer_id"]) for each in bills]
    )
    lined = [each for each in bills if each.draft.lines]
    waiting = [each for each in lined if policies.waits(each)]
    issued = [_issued(tx, each, policies) for each in lined if not policies.waits(each)]
    await totals.count(tx, lined)
    issues = [each.issue for each in issued if each.issue is not None]
    await prepare(tx, issues)
    await invoices.insert_invoices(tx, [each.invoice for each in issues])
    waited = await drafts.put(tx, waiting, policies)
    bare = [Saved(each, None) for each in bills if not each.draft.lines]
    saved = [*issued, *(each for each, _ in waited), *bare]
    await invoices.insert_runs(tx, [_run(each) for each in saved])
    lines = [line for each in issued for line in _lines(each, 0)]
    waiting_lines = [line for each, before in waited for line in _lines(each, before)]
    await invoices.insert_lines(tx, [*lines, *waiting_lines])
    await subscriptions.set_usage(tx, _usage(bills))
    await announce(tx, issues, lines)
    return saved


def check_lines(draft: Draft) -> None:
    """Raises RunTooLarge."""
    if len(draft.lines) > MOST_LINES:
        raise RunTooLarge(f"{len(draft.lines)} lines in one run")


def _issued(tx: Tx, bill: Bill, policies: drafts.Policies) -> Saved:
    """An invoice of one bill, to be issued at once."""
    row = bill.subscription
    key = (row["tenant_id"], row["payer_id"])
    first = bill.reason in FIRST
    return Saved(
        bill,
        Issue(
            invoice=invoice_row(tx, bill),
            subscription_ids=[row["id"]],
            at=bill.at,
            cause=bill.cause,
            mode=row["collection"] if first else "automatic",
            method_id=row["payment_method_id"],
            return_url=row["return_url"],
            net_days=policies.net_days(key),
            skips_zero=policies.skips_zero(row["tenant_id"]),
        ),
    )


def _run(each: Saved) -> dict[str, Any]:
    period, row = each.bill.draft.period, each.bill.subscription
    return {
        "tenant_id": row["tenant_id"],
        "subscription_id": row["id"],
        "number": each.bill.run_number,
        "invoice_id": each.invoice_id,
        "period_start_at": period.start_at if period else row["current_period_start_at"],
        "period_end_at": period.end_at if period else row["current_period_end_at"],
        "kind": each.bill.kind,
    }


def _lines(each: Saved, before: int) -> list[dict[str, Any]]:
    """The rows of its lines, after so many that are on the invoice already."""
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
            "tax_included_minor": line.tax_included_minor,
            "tax_rate": line.tax_rate,
            "currency": each.bill.draft.currency,
            "derivation": encode(line.derivation),
        }
        for n, line in enumerate(each.bill.draft.lines, start=before + 1)
    ]


def _usage(bills: Sequence[Bill]) -> list[dict[str, Any]]:
    """What the discounts that the batch took have given by now."""
    return [
        {
            "tenant_id": bill.subscription["tenant_id"],
            "subscription_id": bill.subscription["id"],
            "n": row.n,
            "used_periods": used.periods,
            "taken_minor": used.taken_minor,
            "first_at": used.first_at,
        }
        for bill in bills
        for row in bill.attached
        if (used := bill.draft.usage.get(str(row.id))) is not None
    ]
