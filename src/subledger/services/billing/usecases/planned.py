"""A change of a subscription as it would happen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from sqlalchemy import Row

from subledger.core.timeline import Draft
from subledger.services.billing.terms import PlanTerms

Settle = Literal["auto", "now", "next_invoice"]


@dataclass(frozen=True, slots=True)
class Planned:
    """A change as it would happen, nothing saved."""

    row: Row[Any]
    at: datetime
    effective_at: datetime
    quantity: Decimal
    before: PlanTerms
    terms: PlanTerms
    draft: Draft | None
    """What it bills at once; None if the change waits for its time or touches nothing billed."""
    after: dict[str, Any]
    """The subscription's columns once it is done."""
    restarts: bool
    settle: Settle
    attached: Sequence[Row[Any]]
    forfeits: bool = False

    @property
    def waits(self) -> bool:
        return self.effective_at > self.at

    @property
    def invoices_now(self) -> bool:
        """Whether its lines make an invoice of their own: one without a line is none."""
        return self.settles_now and self.draft is not None and bool(self.draft.lines)

    @property
    def settles_now(self) -> bool:
        """Its lines are billed by a run of their own; else they wait for the next one. A new cycle
        has a run also where its first period bills nothing yet."""
        if self.draft is None or self.restarts:
            return self.draft is not None
        return bool(self.draft.lines) and (
            self.settle == "now" or (self.settle == "auto" and self.draft.total_minor > 0)
        )
