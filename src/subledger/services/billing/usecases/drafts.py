"""Invoices that wait: a grace period before they are final, one document for several
subscriptions, and amounts too small to be collected, which are carried forward.

Renewals alone wait: what a person buys or changes is billed at once. A draft has no number, is in
no books and may not be paid. Later renewals of the same customer and currency join it. (Lago keeps
a grace period before finalizing, Kill Bill consolidates an account's items, Stripe carries amounts
below the smallest charge forward.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row

from subledger.contracts import events
from subledger.core import invoicing
from subledger.core.lifecycle import settle
from subledger.platform.db import Tx
from subledger.services.billing.store import invoices, subscriptions
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.usecases.documents import (
    Bill,
    Saved,
    encode,
    inputs,
    invoice_row,
    tax_of,
)
from subledger.services.billing.usecases.issue import Issue, event, put_due, raw_total, unnumbered

_AccountCurrency = tuple[UUID, UUID, str]


@dataclass(frozen=True, slots=True)
class Policies:
    """How the invoices of some customers are issued, and their drafts, which new lines join."""

    accounts: Mapping[Key, Row[Any]]
    settings: Mapping[UUID, Row[Any]]
    open_drafts: dict[_AccountCurrency, dict[str, Any]] = field(default_factory=dict)

    def net_days(self, account: Key) -> int:
        """Days between an invoice and its collection."""
        return int(self.accounts[account].net_days)

    def skips_zero(self, tenant_id: UUID) -> bool:
        """Whether an invoice of zero is no document."""
        found = self.settings.get(tenant_id)
        return found is not None and found.zero_invoices == "skip"

    def wait(self, tenant_id: UUID) -> timedelta:
        """How long a draft waits at least."""
        found = self.settings.get(tenant_id)
        return timedelta(seconds=found.draft_s if found is not None else 0)

    def minimum_minor(self, tenant_id: UUID, currency: str) -> int:
        """Below this (minor units) an invoice is carried forward."""
        found = self.settings.get(tenant_id)
        return 0 if found is None else int(msgspec.json.decode(found.minimums).get(currency, 0))

    def drafts_for(self, account: Key) -> bool:
        """Whether this customer's renewals may wait."""
        return account[0] in self.settings or bool(self.accounts[account].consolidate)

    def waits(self, bill: Bill) -> bool:
        """Whether a bill is to wait as a draft."""
        row, draft = bill.subscription, bill.draft
        key = (row["tenant_id"], row["payer_id"])
        if bill.reason != "renewal" or not self.drafts_for(key):
            return False
        return (
            bool(self.wait(key[0]))
            or bool(self.accounts[key].consolidate)
            or (*key, draft.currency) in self.open_drafts
            or 0 < draft.total_minor < self.minimum_minor(key[0], draft.currency)
        )


async def policies(tx: Tx, accounts: Sequence[Key]) -> Policies:
    """The policies of customers whose accounts this transaction holds."""
    if not accounts:
        return Policies({}, {})
    found = Policies(
        await subscriptions.accounts(tx, accounts),
        await invoices.settings(tx, (tenant for tenant, _ in accounts)),
    )
    wanted = [key for key in dict.fromkeys(accounts) if found.drafts_for(key)]
    if wanted:
        for row in await invoices.drafts_of(tx, wanted):
            if row.lines < invoices.MOST_DRAFT_LINES:
                found.open_drafts[row.tenant_id, row.account_id, row.currency] = row._asdict()
    return found


async def put(tx: Tx, bills: Sequence[Bill], policies: Policies) -> list[tuple[Saved, int]]:
    """Write or grow the drafts; each bill with the lines that its draft had before."""
    if not bills:
        return []
    placed: list[tuple[Saved, int]] = []
    fresh: dict[UUID, dict[str, Any]] = {}
    grown: dict[UUID, dict[str, Any]] = {}
    for bill in bills:
        row = bill.subscription
        key = (row["tenant_id"], row["payer_id"], bill.draft.currency)
        known = policies.open_drafts.get(key)
        if known is None or known["lines"] + len(bill.draft.lines) > invoices.MOST_DRAFT_LINES:
            known = _begin(tx, bill)
            fresh[known["id"]] = known
            before = 0
        else:
            before = known["lines"]
            _grow(known, bill)
            if known["id"] not in fresh:
                grown[known["id"]] = known
        known["lines"] = before + len(bill.draft.lines)
        policies.open_drafts[key] = known
        issue = Issue(known, [row["id"]], bill.at, bill.cause)
        placed.append((Saved(bill, issue, drafted=True), before))
    await invoices.insert_invoices(tx, list(fresh.values()))
    await invoices.change_drafts(tx, list(grown.values()))
    await put_due(
        tx,
        invoices.FINALIZATION,
        [(row, row["drafted_at"] + policies.wait(row["tenant_id"])) for row in fresh.values()],
    )
    tx.emit(
        event(each.issue, events.INVOICE_DRAFTED, {})
        for each, before in placed
        if each.issue is not None and each.invoice["id"] in fresh and before == 0
    )
    return placed


def _begin(tx: Tx, bill: Bill) -> dict[str, Any]:
    row = invoice_row(tx, bill)
    row |= {
        "series": unnumbered(row["id"]),
        "number": 0,
        "status": "draft",
        "drafted_at": bill.at,
        "due_at": None,
        "finalized_at": None,
        "closed_at": None,
        "paid_minor": 0,
        "credit_applied_minor": 0,
    }
    return row | _sums(row)


def _sums(row: Mapping[str, Any]) -> dict[str, int]:
    met = settle(raw_total(row), 0)
    return {"total_minor": met.due_minor, "credited_minor": met.credit_made_minor}


def _grow(row: dict[str, Any], bill: Bill) -> None:
    """Add a bill to a draft: its amounts, and what they were computed from."""
    draft = bill.draft
    for name in ("subtotal_minor", "discount_minor", "tax_minor", "tax_included_minor"):
        row[name] += getattr(draft, name)
    row |= _sums(row)
    data, more = msgspec.json.decode(row["inputs"]), inputs(bill)
    before = len(data["lines"])
    data["plan_versions"] = list(dict.fromkeys([*data["plan_versions"], *more["plan_versions"]]))
    data["taxes"] += invoicing.after(more["taxes"], before)
    data["discounts"] += more["discounts"]
    data["lines"] += more["lines"]
    row["tax"] = tax_of(draft, row["tax"])
    row |= {"inputs": encode(data), "content_hash": invoicing.content_hash(data)}


def carried_until(
    row: Mapping[str, Any], policies: Policies, subscribed: Iterable[Row[Any]], at: datetime
) -> datetime | None:
    """Until when a draft that is too small waits for more; None if it is to be issued now: it is
    large enough, gives something back, or no subscription of it goes on."""
    minimum = policies.minimum_minor(row["tenant_id"], row["currency"])
    if not 0 < raw_total(row) < minimum:
        return None
    following: list[datetime] = [
        each.current_period_end_at
        for each in subscribed
        if each.status in {"active", "past_due"}
        and each.current_period_end_at > at
        and (each.cancel_at is None or each.current_period_end_at < each.cancel_at)
    ]
    if not following:
        return None
    return min(following) + policies.wait(row["tenant_id"])
