"""What is billed, and the invoice that it comes to: the columns, before they are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Any, Literal
from uuid import UUID

import msgspec
from sqlalchemy import Row

from subledger.contracts.events import Event
from subledger.core import invoicing
from subledger.core.difference import ENGINE_VERSION
from subledger.core.timeline import Draft
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.services.billing.tax_data import TaxedLine, summary
from subledger.services.billing.terms import PlanTerms
from subledger.services.billing.usecases.conditions import Parties
from subledger.services.billing.usecases.issue import SERIES, Issue, paid_at_once

Reason = Literal[
    "one_off_charge",
    "subscription_create", "subscription_start", "renewal", "subscription_change",
    "subscription_end", "subscription_pause", "subscription_resume", "subscription_reactivate",
]  # fmt: skip
Kind = Literal["period", "change", "restart", "resume", "reactivation"]
TZDATA_VERSION = version("tzdata")

_json = msgspec.json.Encoder(decimal_format="string").encode


@dataclass(frozen=True, slots=True)
class Bill:
    """One subscription's draft, ready to be saved. ``subscription`` holds the row's columns as
    they were before the run."""

    subscription: Mapping[str, Any]
    terms: PlanTerms
    draft: Draft
    attached: Sequence[Row[Any]]
    reason: Reason
    at: datetime
    cause: UUID | None
    kind: Kind = "period"
    """A run covers the next period, changes what is billed of the present one, leaves the cycle
    for a new one, or covers a period that begins after a pause or after an end."""

    @property
    def run_number(self) -> int:
        return int(self.subscription["last_run_number"]) + 1


@dataclass(frozen=True, slots=True)
class Saved:
    """A bill with the invoice that it is on, issued at once or waiting as a draft; with none, if
    nothing was to be billed: an invoice has lines."""

    bill: Bill
    issue: Issue | None
    drafted: bool = False

    @property
    def invoice(self) -> Mapping[str, Any]:
        """The columns of its invoice as they were written."""
        assert self.issue is not None, "it has lines"
        return self.issue.invoice

    @property
    def invoice_id(self) -> UUID | None:
        return None if self.issue is None else self.issue.invoice["id"]

    @property
    def invoice_text(self) -> str | None:
        """The public form of its id."""
        return None if self.invoice_id is None else ids.text("inv", self.invoice_id)

    @property
    def collected(self) -> bool:
        """Whether its payment is under way, so that everything waits for the outcome."""
        return self.issue is not None and self.issue.attempt_id is not None

    @property
    def free(self) -> bool:
        """Whether it was paid the moment that it was issued."""
        return self.issue is not None and not self.drafted and self.issue.free

    @property
    def paid(self) -> list[Event]:
        """``invoice.paid``, if it needs no payment."""
        return [paid_at_once(self.issue)] if self.issue is not None and self.free else []


def invoice_row(tx: Tx, bill: Bill) -> dict[str, Any]:
    """An invoice's columns, before it is issued."""
    draft, row = bill.draft, bill.subscription
    data = inputs(bill)
    return {
        "tenant_id": row["tenant_id"],
        "id": tx.ids.new(),
        "account_id": row["payer_id"],
        "series": SERIES,
        "reason": bill.reason,
        "currency": draft.currency,
        "subtotal_minor": draft.subtotal_minor,
        "discount_minor": draft.discount_minor,
        "tax_minor": draft.tax_minor,
        "tax_included_minor": draft.tax_included_minor,
        "drafted_at": None,
        "tax": tax_of(draft),
        "inputs": encode(data),
        "content_hash": invoicing.content_hash(data),
    }


def tax_of(draft: Draft, onto: str | None = None) -> str | None:
    """The taxes of an invoice by rate, with seller and buyer (JSON text), together with those that
    the document had before; None without tax settings."""
    parties: Parties | None = draft.parties
    if parties is None:
        return onto
    taxed = [TaxedLine.stored(each.net_minor, each.derivation) for each in draft.lines]
    found = summary(
        [each for each in taxed if each is not None],
        rates=parties.rates,
        parties=parties.data,
        rounding=parties.rounding,
        onto=None if onto is None else msgspec.json.decode(onto),
    )
    return encode(found)


def inputs(bill: Bill) -> dict[str, Any]:
    """What the invoice was computed from; with it the same engine computes it again."""
    draft = bill.draft
    return {
        "engine": ENGINE_VERSION,
        "tzdata": TZDATA_VERSION,
        "plan_versions": [str(bill.terms.plan_version_id)],
        "timezone": bill.subscription["timezone"],
        "discounts": [
            [str(each.id), each.used_periods, each.taken_minor] for each in bill.attached
        ],
        "taxes": list(draft.taxes),
        "lines": [line.derivation for line in draft.lines],
    }


def encode(data: Any) -> str:
    """Plain data as JSON text, decimals as texts."""
    return _json(data).decode()
