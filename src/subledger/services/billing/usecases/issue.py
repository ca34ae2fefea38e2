"""Issuing: an invoice gets its number, meets the customer's credit, is posted and collected.

Whether it was just made or waited as a draft, this is the one path to ``invoice.finalized``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.events import Event
from subledger.core import ledger as books
from subledger.core.lifecycle import settle
from subledger.core.states import DUE_RANK
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.due import Due
from subledger.services.billing import facts, ledger
from subledger.services.billing.store import invoices, postings, subscriptions
from subledger.services.billing.usecases.recognize import open_schedules

FIRST = frozenset({"subscription_create", "subscription_reactivate"})
"""Reasons of invoices that are paid before anything is served: their payer is asked at once, and
nobody is dunned for them."""


SERIES = "INV"


@dataclass(slots=True)
class Issue:
    """An invoice to be issued at ``at``. ``invoice`` holds the row's columns and is completed.

    ``mode`` and ``method_id`` say how it is collected. With ``net_days`` it is collected that many
    days later. An invoice of zero is left without a number if it ``skips_zero``.
    """

    invoice: dict[str, Any]
    subscription_ids: Sequence[UUID]
    at: datetime
    cause: UUID | None
    mode: str = "automatic"
    method_id: UUID | None = None
    return_url: str | None = None
    net_days: int = 0
    skips_zero: bool = False
    attempt_id: UUID | None = field(default=None, init=False)

    @property
    def due_minor(self) -> int:
        """What is left to be collected."""
        return int(self.invoice["total_minor"] - self.invoice["paid_minor"])

    @property
    def skipped(self) -> bool:
        """Whether it is no document: nothing was billed."""
        return bool(self.invoice["status"] == "skipped")

    @property
    def free(self) -> bool:
        """Whether it is paid the moment that it is issued: of zero, or by credit."""
        return bool(self.invoice["status"] == "paid")


async def prepare(tx: Tx, given: Sequence[Issue]) -> None:
    """Numbers, sums and moments. The accounts are locked; the series are locked from here on."""
    owed = await postings.credits(
        tx, sorted({(each.invoice["tenant_id"], each.invoice["account_id"]) for each in given})
    )
    for each in given:
        _meet_credit(each, owed)
        if each.due_minor and not each.net_days:
            each.attempt_id = tx.ids.new()
    counts: dict[tuple[UUID, str], int] = {}
    numbered = [each for each in given if not each.skipped]
    for each in numbered:
        key = (each.invoice["tenant_id"], each.invoice["series"])
        counts[key] = counts.get(key, 0) + 1
    free = await invoices.take_numbers(tx, counts) if counts else {}
    for each in numbered:
        key = (each.invoice["tenant_id"], each.invoice["series"])
        each.invoice["number"] = free[key]
        free[key] += 1


def _meet_credit(each: Issue, owed: dict[tuple[UUID, UUID, str], int]) -> None:
    """The customer's credit pays first, the earlier invoice before the later; what was used is
    taken off ``owed``."""
    row = each.invoice
    account = (row["tenant_id"], row["account_id"], row["currency"])
    met = settle(raw_total(row), owed.get(account, 0))
    if met.credit_used_minor:
        owed[account] -= met.credit_used_minor
    status = "open" if met.due_minor else "paid"
    if each.skips_zero and not met.due_minor + met.credit_used_minor + met.credit_made_minor:
        status = "skipped"
    row |= {
        "status": status,
        "series": unnumbered(row["id"]) if status == "skipped" else SERIES,
        "number": 0,
        "total_minor": met.due_minor + met.credit_used_minor,
        "credited_minor": met.credit_made_minor,
        "credit_applied_minor": met.credit_used_minor,
        "paid_minor": met.credit_used_minor,
        "due_at": each.at + timedelta(days=each.net_days),
        "finalized_at": each.at,
        "closed_at": None if met.due_minor else each.at,
    }


def unnumbered(invoice_id: UUID) -> str:
    """The series of what has no number (its number is 0): one of its own, since a series has each
    number once."""
    return f"draft:{invoice_id}"


def raw_total(row: Mapping[str, Any]) -> int:
    """The total before it meets credit (minor units; negative where more is given back)."""
    return int(
        row["subtotal_minor"] - row["discount_minor"] + row["tax_minor"] - row["tax_included_minor"]
    )


async def announce(
    tx: Tx, given: Sequence[Issue], lines: Sequence[Row[Any] | Mapping[str, Any]]
) -> None:
    """Reserve, schedule the ``lines`` (rows of ``invoice_lines``), post and tell, once the rows
    are written."""
    finalized = {(each.invoice["tenant_id"], each.invoice["id"]): each.at for each in given}
    await open_schedules(tx, lines, at=finalized)
    await invoices.insert_reservations(
        tx, [reservation(each) for each in given if each.attempt_id is not None]
    )
    await _put_due(tx, [each for each in given if each.due_minor and each.net_days])
    await ledger.post(tx, [posting for each in given for posting in _postings(each)])
    tx.emit(_finalized(each) for each in given if not each.skipped)


def reservation(each: Issue) -> dict[str, Any]:
    """The row that holds an invoice for its attempt."""
    return {
        "tenant_id": each.invoice["tenant_id"],
        "invoice_id": each.invoice["id"],
        "attempt_id": each.attempt_id,
        "amount_minor": each.due_minor,
        "state": "held",
        "reserved_at": each.at,
    }


async def _put_due(tx: Tx, given: Sequence[Issue]) -> None:
    """What is paid on terms is collected when it falls due."""
    await put_due(tx, invoices.DUE, [(each.invoice, each.invoice["due_at"]) for each in given])


async def put_due(tx: Tx, kind: str, rows: Iterable[tuple[Mapping[str, Any], datetime]]) -> None:
    """Set what becomes of invoices at the moments given."""
    await subscriptions.due.put(
        tx,
        [
            Due(
                tenant_id=row["tenant_id"],
                kind=kind,
                id=row["id"],
                account_id=row["account_id"],
                due_at=moment,
                rank=DUE_RANK[kind],
            )
            for row, moment in rows
        ],
    )


def _postings(each: Issue) -> list[ledger.Posting]:
    row = each.invoice
    customer = ids.text("cus", row["account_id"])
    found = (
        (
            "finalized",
            books.finalized(
                customer=customer,
                net_minor=row["subtotal_minor"] - row["discount_minor"] - row["tax_included_minor"],
                tax_minor=row["tax_minor"],
                currency=row["currency"],
            ),
        ),
        (
            "credit_applied",
            books.credit_applied(
                customer=customer,
                amount_minor=row["credit_applied_minor"],
                currency=row["currency"],
            ),
        ),
    )
    return [
        ledger.Posting(
            tenant_id=row["tenant_id"],
            account_id=row["account_id"],
            invoice_id=row["id"],
            kind=kind,
            occurred_at=each.at,
            transfers=transfers,
        )
        for kind, transfers in found
        if transfers
    ]


def collection(each: Issue) -> dict[str, Any]:
    """What payments needs to collect a reserved invoice."""
    assert each.attempt_id is not None, "it is reserved"
    first = each.invoice["reason"] in FIRST
    return {
        "mode": each.mode,
        "attempt_id": ids.text("att", each.attempt_id),
        "amount_minor": each.due_minor,
        "payment_method_id": None if each.method_id is None else ids.text("pm", each.method_id),
        "dunning": not first or each.net_days > 0,
        "return_url": each.return_url,
    }


def _finalized(each: Issue) -> Event:
    told = None if each.attempt_id is None else collection(each)
    return event(each, events.INVOICE_FINALIZED, {"collection": told})


def event(each: Issue, kind: str, data: Mapping[str, Any], **changed: Any) -> Event:
    """A fact of the invoice."""
    return Event(
        type=kind,
        tenant_id=each.invoice["tenant_id"],
        subject=each.invoice["account_id"],
        data=facts.invoice(each.invoice, each.subscription_ids, **changed) | dict(data),
        occurred_at=each.at,
        cause=each.cause,
    )


def paid_at_once(each: Issue) -> Event:
    """``invoice.paid`` of an invoice that needs no payment."""
    return event(each, events.INVOICE_PAID, {"payment_id": None}, status="paid")
