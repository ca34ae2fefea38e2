"""Invoices are a difference: the lines that should exist, less the lines that do.

Renewal, first invoice, retry after a crash, preview and dry run are all ``draft``. The difference
is taken over the dirty range only: what lies before ``billed_through_at`` stands. Billing the
same twice therefore bills once, in whatever order the lines are presented.

Each line keeps its derivation as plain data (texts and integers), from which a program that
imports nothing of ours can recompute it (``examples/recompute_invoice.py``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from subledger.core import discounts as discounting
from subledger.core.calendar import Anchor, Interval, Period, boundary
from subledger.core.discounts import Discount
from subledger.core.money import check_amount, round_half_up
from subledger.core.pricing import Priced, PriceModel, exact_text, price

ENGINE_VERSION = 1


@dataclass(frozen=True, slots=True)
class Item:
    """One price that a subscription pays in advance each period. ``price_id`` is opaque text."""

    price_id: str
    model: PriceModel
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class Attached:
    """A discount of the subscription and how many periods it had given before the first period of
    the draft. (Counting those of ``billed`` too would end it early and bill them anew.)"""

    discount: Discount
    used_periods: int


@dataclass(frozen=True, slots=True)
class Timeline:
    """What is known of a subscription: where its cycle hangs, what it pays, until when.

    ``ended_at`` (exclusive) is where it ends or will end; no period starts at or after it.
    """

    anchor: Anchor
    interval: Interval
    currency: str
    items: tuple[Item, ...]
    attached: tuple[Attached, ...] = ()
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a draft (minor units). A ``credit`` line takes back a line that should not be
    there: its amounts are negative."""

    kind: str
    price_id: str
    service_start_at: datetime
    service_end_at: datetime
    quantity: Decimal
    gross_minor: int
    discount_minor: int
    net_minor: int
    tax_minor: int
    tax_rate: Decimal
    derivation: Mapping[str, Any]

    @property
    def key(self) -> tuple[str, datetime, datetime]:
        """What makes it the same charge: which price, for which time."""
        return (self.price_id, self.service_start_at, self.service_end_at)


@dataclass(frozen=True, slots=True)
class Draft:
    """The lines to be added, their sums (minor units), and what they use up.

    ``period`` is the last period covered (None if there is nothing to bill), ``periods`` how many
    are covered, ``next_billing_at`` when the next run is due (None if the subscription ends).
    """

    lines: tuple[Line, ...]
    currency: str
    subtotal_minor: int
    discount_minor: int
    tax_minor: int
    total_minor: int
    period: Period | None
    periods: int
    next_billing_at: datetime | None
    used: Mapping[str, int]
    """Discount id → periods that this draft adds to those used."""


def draft(
    timeline: Timeline,
    *,
    first_period: int,
    horizon_at: datetime,
    billed: Iterable[Line] = (),
    most_periods: int = 1,
) -> Draft:
    """The lines of the periods from number ``first_period`` that have begun by ``horizon_at``,
    less ``billed`` (the lines that exist in that range), at most ``most_periods`` periods.

    Prices are in advance: a period is billed at its start. Raises AmountOutOfRange when a line or
    the total exceeds 10^15 minor units, DateOutOfRange beyond the calendar's years.
    """
    lines: list[Line] = []
    used: dict[str, int] = {}
    last: Period | None = None
    n = first_period
    start_at = boundary(timeline.anchor, timeline.interval, n)
    while n < first_period + most_periods and start_at <= horizon_at:
        if timeline.ended_at is not None and start_at >= timeline.ended_at:
            break
        end_at = boundary(timeline.anchor, timeline.interval, n + 1)
        last = Period(start_at, end_at)
        lines += _intended(timeline, last, used)
        n, start_at = n + 1, end_at
    existing = tuple(billed)
    if existing:
        lines = difference(lines, existing)
        used = _newly_used(lines, existing)
    ends = timeline.ended_at is not None and start_at >= timeline.ended_at
    return _sum(timeline, lines, last, n - first_period, None if ends else start_at, used)


def _newly_used(added: Iterable[Line], billed: Iterable[Line]) -> dict[str, int]:
    """A discount that a period's billed lines have taken is not used again when they change."""
    used: dict[str, int] = {}
    for discount, _ in sorted(_taken(added) - _taken(billed)):
        used[discount] = used.get(discount, 0) + 1
    return used


def _taken(lines: Iterable[Line]) -> set[tuple[str, datetime]]:
    return {
        (step["discount_id"], line.service_start_at)
        for line in lines
        if line.kind == "charge"
        for step in line.derivation["discounts"]
    }


def _sum(
    timeline: Timeline,
    lines: Sequence[Line],
    last: Period | None,
    periods: int,
    next_billing_at: datetime | None,
    used: Mapping[str, int],
) -> Draft:
    subtotal = sum(line.gross_minor for line in lines)
    discount = sum(line.discount_minor for line in lines)
    tax = sum(line.tax_minor for line in lines)
    return Draft(
        lines=tuple(lines),
        currency=timeline.currency,
        subtotal_minor=subtotal,
        discount_minor=discount,
        tax_minor=tax,
        total_minor=check_amount(subtotal - discount + tax),
        period=last,
        periods=periods,
        next_billing_at=next_billing_at,
        used=used,
    )


def _intended(timeline: Timeline, covered: Period, used: dict[str, int]) -> list[Line]:
    """The lines that one period should have."""
    priced = [price(item.model, item.quantity) for item in timeline.items]
    gross = [check_amount(round_half_up(each.amount)) for each in priced]
    usable = [
        each.discount
        for each in timeline.attached
        if discounting.applies(each.discount, each.used_periods + used.get(each.discount.id, 0))
    ]
    taken: Sequence[int] = [0] * len(gross)
    steps: Sequence[tuple[dict[str, Any], ...]] = [()] * len(gross)
    if usable:
        applied = discounting.apply(usable, gross, currency=timeline.currency)
        taken, steps = applied.by_line_minor, applied.steps
        for each in applied.used:
            used[each] = used.get(each, 0) + 1
    return [
        _line(item, each, gross_minor=gross[n], taken_minor=taken[n], steps=steps[n],
              covered=covered)
        for n, (item, each) in enumerate(zip(timeline.items, priced, strict=True))
    ]  # fmt: skip


_NO_TAX = Decimal(0)


def _line(
    item: Item,
    priced: Priced,
    *,
    gross_minor: int,
    taken_minor: int,
    steps: Sequence[Mapping[str, Any]],
    covered: Period,
) -> Line:
    net_minor = gross_minor - taken_minor
    derivation = {
        "engine": ENGINE_VERSION,
        "steps": [
            {
                "kind": step.kind,
                "quantity": step.quantity,
                "unit_amount": step.unit_amount,
                "amount": step.amount,
            }
            for step in priced.steps
        ],
        "exact": exact_text(priced.amount),
        "fraction": "1",
        "rounding": "half_up",
        "residue": exact_text(Fraction(priced.amount) - gross_minor)
        if isinstance(priced.amount, Fraction)
        else "0",
        "gross_minor": gross_minor,
        "discounts": list(steps),
        "net_minor": net_minor,
        "tax_rate": "0",
        "tax_minor": 0,
    }
    return Line(
        kind="charge",
        price_id=item.price_id,
        service_start_at=covered.start_at,
        service_end_at=covered.end_at,
        quantity=item.quantity,
        gross_minor=gross_minor,
        discount_minor=taken_minor,
        net_minor=net_minor,
        tax_minor=0,
        tax_rate=_NO_TAX,
        derivation=derivation,
    )


def difference(intended: Iterable[Line], billed: Iterable[Line]) -> list[Line]:
    """Intended less billed, by price and time: nothing for what is billed right, a credit of the
    whole billed line and the intended line anew for what is billed wrong, a credit for what
    should not be there. The result does not depend on the order of ``billed``. Intended lines
    have different keys (AssertionError: the second of two would be billed again and again)."""
    intended = tuple(intended)
    assert len({line.key for line in intended}) == len(intended), "one line per price and period"
    existing: dict[tuple[str, datetime, datetime], list[Line]] = {}
    for line in billed:
        existing.setdefault(line.key, []).append(line)
    result = []
    for line in intended:
        found = existing.pop(line.key, [])
        if found and _amounts(found) == _amounts([line]):
            continue
        result += _credits(found)
        result.append(line)
    for key in sorted(existing):
        result += _credits(existing[key])
    return result


def _credits(lines: Sequence[Line]) -> list[Line]:
    """Take back what these lines (charges and earlier credits of one key) leave billed: one
    credit for each stored tax rate, since a credit's tax never comes from another rate."""
    return [
        credit
        for rate in sorted({each.tax_rate for each in lines})
        for credit in _credit([each for each in lines if each.tax_rate == rate])
    ]


def _amounts(lines: Sequence[Line]) -> tuple[int, int, int]:
    """Gross, discount and tax of lines together (minor units)."""
    return (
        sum(each.gross_minor for each in lines),
        sum(each.discount_minor for each in lines),
        sum(each.tax_minor for each in lines),
    )


def _credit(lines: Sequence[Line]) -> list[Line]:
    """At most one credit, for lines of one key and one tax rate."""
    gross, discount, tax = _amounts(lines)
    if gross == discount == tax == 0:
        return []
    first = lines[0]
    # What still stands, whatever the order of the lines: charged less credited.
    quantity = sum(
        (-each.quantity if each.kind == "credit" else each.quantity for each in lines), Decimal(0)
    )
    derivation = {
        "engine": ENGINE_VERSION,
        "steps": [],
        "exact": str(-gross),
        "fraction": "1",
        "rounding": "half_up",
        "residue": "0",
        "gross_minor": -gross,
        "discounts": [
            {
                "discount_id": "",
                "kind": "reversed",
                "base_minor": -gross,
                "amount_minor": -discount,
            }
        ]
        if discount
        else [],
        "net_minor": discount - gross,
        "tax_rate": format(first.tax_rate, "f"),
        "tax_minor": -tax,
    }
    return [
        Line(
            kind="credit",
            price_id=first.price_id,
            service_start_at=first.service_start_at,
            service_end_at=first.service_end_at,
            quantity=quantity,
            gross_minor=-gross,
            discount_minor=-discount,
            net_minor=discount - gross,
            tax_minor=-tax,
            tax_rate=first.tax_rate,
            derivation=derivation,
        )
    ]


def content_hash(data: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of the canonical JSON of plain data: sorted keys, no spaces, UTF-8."""
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
