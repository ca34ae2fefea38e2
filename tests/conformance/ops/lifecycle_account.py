"""An account as the cases of lifecycles need one: contracts billed together, run after run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from functools import reduce
from typing import Any

from subledger.core import lifecycle
from subledger.core.calendar import (
    boundary,
    index_at,
)
from subledger.core.cycles import (
    Billed,
)
from subledger.core.invoicing import join
from subledger.core.lifecycle import (
    ChangesBilled,
    Settlement,
    settle,
)
from subledger.core.pricing import true_up
from subledger.core.tax import Place, Rate, Rounding, StoredTax, TaxLine, compute, credit_tax
from subledger.core.timeline import Draft, Line, Timeline


@dataclass
class Contract:
    """What is paid on one grid, before a trial is taken out, and the lines billed so far."""

    paid: Timeline
    billing: Billed
    free_until: datetime | None = None
    lines: list[Line] = field(default_factory=list)

    @property
    def timeline(self) -> Timeline:
        if self.free_until is None:
            return self.paid
        return replace(self.paid, phases=lifecycle.after_trial(self.paid.phases, self.free_until))


@dataclass(frozen=True)
class Invoice:
    """What one run of an account found."""

    at: datetime
    draft: Draft
    settled: Settlement
    arrears: tuple[Line, ...]
    usage: tuple[int, ...]
    true_up_minor: int
    tax_minor: int
    total_minor: int
    credit_notes_minor: tuple[int, ...]

    def lines(self, kind: str) -> list[Line]:
        return [each for each in self.draft.lines if each.kind == kind]


@dataclass
class Account:
    """Contracts that are billed together, with the customer's credit."""

    zone: str
    tax_percent: Decimal = Decimal(0)
    usage: list[tuple[datetime, int]] = field(default_factory=list)
    minimum_minor: int = 0
    credit_notes: bool = False
    final_statement: bool = False
    changes: ChangesBilled = ChangesBilled.NOW
    contracts: list[Contract] = field(default_factory=list)
    invoices: list[Invoice] = field(default_factory=list)
    credit_minor: int = 0
    now: datetime | None = None
    _stored: dict[Any, StoredTax] = field(default_factory=dict)
    _given_back: dict[Any, tuple[int, int]] = field(default_factory=dict)

    def run(self, at: datetime, *, closing: bool = False) -> None:
        """Bill what is due at ``at``; an invoice if there is anything."""
        self.now = at
        drafts, arrears, issued = [], [], False
        for each in self.contracts:
            found = lifecycle.due(each.timeline, at, billed=each.lines, billing=each.billing)
            drafts.append(found)
            issued = issued or lifecycle.is_issued(
                found, each.timeline, at, final_statement=self.final_statement
            )
            if each.billing is Billed.ARREARS:
                arrears += found.lines
            each.lines += found.lines
        closing = closing or self._closes(at)
        used = [minor for when, minor in self.usage if closing and when < at]
        self.usage = [each for each in self.usage if not (closing and each[0] < at)]
        missing = self._true_up(at, used) if closing and self.minimum_minor else 0
        if not drafts:
            return
        whole = reduce(join, drafts)
        if issued or used or missing:
            self.invoices.append(self._invoice(at, whole, arrears, used, missing))

    def _invoice(
        self, at: datetime, whole: Draft, arrears: Sequence[Line], used: list[int], missing: int
    ) -> Invoice:
        charges = [each for each in whole.lines if each.kind == "charge"]
        credits = [each for each in whole.lines if each.kind == "credit"]
        apart = self.credit_notes or bool(self.tax_percent)
        notes = [self._credit_note(each) for each in credits] if apart else []
        amounts = [each.net_minor for each in charges] + used + ([missing] if missing else [])
        amounts += [] if apart else [each.net_minor for each in credits]
        rates = self._rates()
        taxed = compute([TaxLine(each, rates) for each in amounts], rounding=Rounding.PER_DOCUMENT)
        for line, tax in zip(charges, taxed.lines, strict=False):
            if rates:
                self._stored[line.key] = StoredTax.of(line.net_minor, tax.taxes[0])
        for note in notes:
            self.credit_minor += settle(-note, 0).credit_made_minor
        settled = settle(taxed.gross_minor, self.credit_minor)
        self.credit_minor += settled.credit_made_minor - settled.credit_used_minor
        total_minor = settled.due_minor if apart else taxed.gross_minor
        return Invoice(
            at,
            whole,
            settled,
            tuple(arrears),
            tuple(used),
            missing,
            taxed.tax_minor,
            total_minor,
            tuple(notes),
        )

    def _rates(self) -> tuple[Rate, ...]:
        if not self.tax_percent:
            return ()
        return (Rate("vat", self.tax_percent, "VAT", Place("FR")),)

    def _credit_note(self, line: Line) -> int:
        """The credit with the tax of the line that it gives back (both positive)."""
        if not self.tax_percent:
            return settle(line.net_minor, 0).credit_made_minor
        original = self._stored[line.key]
        before, before_tax = self._given_back.get(line.key, (0, 0))
        tax = credit_tax(
            original,
            credited_minor=-line.net_minor,
            already_credited_minor=before,
            already_credited_tax_minor=before_tax,
        ).tax_minor
        self._given_back[line.key] = (before - line.net_minor, before_tax + tax)
        return tax - line.net_minor

    def _closes(self, at: datetime) -> bool:
        """Whether a period of the grid ends at ``at``."""
        return any(
            boundary(each.paid.anchor, each.paid.interval, n) == at
            for each in self.contracts
            for n in [index_at(each.paid.anchor, each.paid.interval, at)]
        )

    def _true_up(self, at: datetime, used: Sequence[int]) -> int:
        """What the period that ends at ``at`` lacks of its minimum; none for one wholly free."""
        fees = [
            line.net_minor
            for each in self.contracts
            for line in each.lines
            if line.service_end_at == at
        ]
        return int(true_up(self.minimum_minor, [*fees, *used])) if fees else 0

    def next_at(self) -> datetime | None:
        assert self.now is not None
        found = [
            lifecycle.next_due_at(each.timeline, self.now, each.billing, self.changes)
            for each in self.contracts
        ]
        return min((each for each in found if each is not None), default=None)

    def run_before(self, until: datetime, *, including: bool = False) -> None:
        """Every run that is due before ``until``."""
        while (at := self.next_at()) is not None and (at < until or (including and at == until)):
            self.run(at)

    def run_for(self, invoices: int) -> None:
        """Runs until there are so many invoices, or nothing more is due."""
        for _ in range(100):
            at = self.next_at()
            if at is None or len(self.invoices) >= invoices:
                return
            self.run(at)
