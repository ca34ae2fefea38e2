"""Invoices are a difference: the lines that should exist, less the lines that do.

Renewal, first invoice, change, retry after a crash, preview and dry run are all ``draft``. The
difference is taken over the dirty range only: what fell due before it stands. Billing the same
twice therefore bills once, in whatever order the lines are presented.

Each line keeps its derivation as plain data (texts and integers), from which a program that
imports nothing of ours can recompute it (``examples/recompute_invoice.py``).
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from subledger.core import tax as taxes
from subledger.core.calendar import Period, boundary
from subledger.core.difference import difference, discounts_of
from subledger.core.discounts import Running, Usage
from subledger.core.intended import due
from subledger.core.money import check_amount
from subledger.core.noted import held
from subledger.core.parts import parts_at, parts_at_end, windows
from subledger.core.tax import LineTax, TaxLine
from subledger.core.timeline import UNTAXED, Draft, Line, Taxed, Timeline

_Key = tuple[str, datetime]


def draft(
    timeline: Timeline,
    *,
    first_period: int,
    horizon_at: datetime,
    billed: Iterable[Line] = (),
    most_periods: int = 1,
) -> Draft:
    """What falls due from the start of period ``first_period`` up to ``horizon_at``, less
    ``billed`` (the lines that exist; those that fell due earlier are passed over), at most
    ``most_periods`` periods.

    In advance a period falls due at its start, in arrears at its end, or where the subscription
    ends. Taxes are those of the charges that are added; credits give back the taxes stored.
    Raises AmountOutOfRange when a line or the total exceeds 10^15 minor units, DateOutOfRange
    beyond the calendar's years, and what prices, discounts and taxes refuse.
    """
    lines: list[Line] = []
    taxed: dict[_Key, Taxed] = {}
    usage: dict[str, Usage] = {}
    attached = timeline.attached
    kinds = windows(timeline)
    last: Period | None = None
    n = first_period
    start_at = first_at = boundary(timeline.anchor, timeline.interval, n)
    ends = timeline.ended_at
    while n < first_period + most_periods and start_at <= horizon_at:
        if ends is not None and start_at >= ends:
            break
        found = due(timeline, parts_at(timeline, kinds, n, start_at), attached, start_at)
        lines += found.lines
        taxed |= found.taxed
        if found.usage:
            usage |= found.usage
            attached = _with(attached, usage)
        end_at = boundary(timeline.anchor, timeline.interval, n + 1)
        last = Period(min(max(start_at, timeline.phases[0].from_at), end_at), end_at)
        n, start_at = n + 1, end_at
    over = ends is not None and start_at >= ends
    if over and ends is not None and ends <= horizon_at and timeline.in_arrears:
        found = due(timeline, parts_at_end(timeline, kinds), attached, ends)
        lines += found.lines
        taxed |= found.taxed
        usage |= found.usage
    existing = [line for line in billed if line.due_at >= first_at]
    if existing:
        lines = difference(lines, existing)
    taxed_lines, rounding = _with_taxes(timeline, lines, taxed)
    taxed_lines = held(taxed_lines, existing)
    return _sum(
        timeline, taxed_lines, last, n - first_period, None if over else start_at, usage, rounding
    )


def _with(attached: Iterable[Running], usage: Mapping[str, Usage]) -> tuple[Running, ...]:
    return tuple(
        replace(each, usage=usage[each.discount.id]) if each.discount.id in usage else each
        for each in attached
    )


def redraft(
    timeline: Timeline,
    *,
    billed: Sequence[Line],
    first_period: int,
    periods: int,
    horizon_at: datetime,
    voided: Sequence[Line] = (),
) -> Draft:
    """``draft`` of ``periods`` periods that are billed already, in full or in part. The usage of
    ``timeline.attached`` is as it stands now: what ``billed`` took, and what lines took that are
    ``voided`` and so not billed any more, is left out of it first."""
    took = (*billed, *voided)
    fresh = replace(
        timeline, attached=_before(timeline, took, first_period=first_period, periods=periods)
    )
    return draft(
        fresh,
        first_period=first_period,
        horizon_at=horizon_at,
        billed=billed,
        most_periods=periods,
    )


def _before(
    timeline: Timeline, billed: Iterable[Line], *, first_period: int, periods: int
) -> tuple[Running, ...]:
    """The discounts with what they had given before the first of these periods."""
    if not timeline.attached:
        return ()
    starts = [
        boundary(timeline.anchor, timeline.interval, n)
        for n in range(first_period, first_period + periods)
    ]
    by_period: dict[int, list[Line]] = {}
    for line in billed:
        if line.due_at >= starts[0]:
            by_period.setdefault(bisect(starts, line.due_at), []).append(line)
    taken: dict[str, tuple[int, int]] = {}
    for lines in by_period.values():
        minors = discounts_of(lines)
        for name in minors.keys() | _units_given(lines):
            times, minor = taken.get(name, (0, 0))
            given = minors.get(name, 0)
            if given > 0 or name not in minors:
                taken[name] = (times + 1, minor + given)
    return tuple(
        replace(each, usage=_less(each.usage, *taken[each.discount.id]))
        if each.discount.id in taken
        else each
        for each in timeline.attached
    )


def _units_given(lines: Iterable[Line]) -> set[str]:
    """The discounts that gave free units on charges."""
    return {
        step["discount_id"]
        for line in lines
        if line.kind == "charge"
        for step in line.derivation.get("discounts", ())
        if "units" in step
    }


def _less(usage: Usage, times: int, minor: int) -> Usage:
    periods = max(usage.periods - times, 0)
    return Usage(periods, max(usage.taken_minor - minor, 0), usage.first_at if periods else None)


def join(first: Draft, then: Draft) -> Draft:
    """Two drafts of one subscription on one invoice: the end of one cycle, the start of another."""
    assert first.currency == then.currency, "one currency"
    return Draft(
        lines=(*first.lines, *then.lines),
        currency=then.currency,
        subtotal_minor=first.subtotal_minor + then.subtotal_minor,
        discount_minor=first.discount_minor + then.discount_minor,
        tax_minor=first.tax_minor + then.tax_minor,
        tax_included_minor=first.tax_included_minor + then.tax_included_minor,
        total_minor=check_amount(first.total_minor + then.total_minor),
        period=then.period,
        periods=first.periods + then.periods,
        next_billing_at=then.next_billing_at,
        usage={**first.usage, **then.usage},
        parties=then.parties,
        taxes=(*first.taxes, *after(then.taxes, len(first.lines))),
    )


def _sum(
    timeline: Timeline,
    lines: Sequence[Line],
    last: Period | None,
    periods: int,
    next_billing_at: datetime | None,
    usage: Mapping[str, Usage],
    rounding: tuple[Mapping[str, Any], ...],
) -> Draft:
    subtotal = sum(line.gross_minor for line in lines)
    discount = sum(line.discount_minor for line in lines)
    tax = sum(line.tax_minor for line in lines)
    included = sum(line.tax_included_minor for line in lines)
    return Draft(
        lines=tuple(lines),
        currency=timeline.currency,
        subtotal_minor=subtotal,
        discount_minor=discount,
        tax_minor=tax,
        tax_included_minor=included,
        total_minor=check_amount(subtotal - discount + tax - included),
        period=last,
        periods=periods,
        next_billing_at=next_billing_at,
        usage=usage,
        taxes=rounding,
        parties=timeline.parties,
    )


# Taxes --------------------------------------------------------------------------------------------


def _with_taxes(
    timeline: Timeline, lines: Sequence[Line], taxed: Mapping[_Key, Taxed]
) -> tuple[Sequence[Line], tuple[Mapping[str, Any], ...]]:
    """The lines, the added charges with their taxes, and how these were rounded together."""
    places = [
        n
        for n, line in enumerate(lines)
        if line.kind == "charge" and taxed.get(line.key, UNTAXED) is not UNTAXED
    ]
    if not places:
        return lines, ()
    document = taxes.compute(
        [
            TaxLine(
                lines[n].gross_minor - lines[n].discount_minor,
                taxed[lines[n].key].rates,
                inclusive=taxed[lines[n].key].inclusive,
            )
            for n in places
        ],
        rounding=timeline.tax_rounding,
        ties=timeline.tax_ties,
    )
    result = list(lines)
    for n, found in zip(places, document.lines, strict=True):
        result[n] = _taxed(lines[n], taxed[lines[n].key], found)
    if not document.groups:
        return result, ()
    return result, (_rounding(document, places),)


def _taxed(line: Line, how: Taxed, found: LineTax) -> Line:
    included = found.tax_minor if how.inclusive else 0
    net = line.gross_minor - line.discount_minor - included
    derivation = {
        **line.derivation,
        "net_minor": net,
        "taxes": found.derivation()["taxes"],
        "tax_inclusive": how.inclusive,
        "tax_included_minor": included,
        "tax_minor": found.tax_minor,
    }
    if how.decision is not None:
        derivation["tax"] = how.decision
    return replace(
        line,
        net_minor=net,
        tax_minor=found.tax_minor,
        tax_included_minor=included,
        tax_rate=sum((each.percent for each in how.rates), Decimal(0)),
        derivation=derivation,
    )


def _rounding(document: taxes.DocumentTax, places: Sequence[int]) -> dict[str, Any]:
    """Which taxes were rounded together, the lines counted from 1."""
    data = document.derivation()
    return {
        "rounding": data["rounding"],
        "ties": data["ties"],
        "groups": [
            {**group, "lines": [places[n] + 1 for n in group["lines"]]} for group in data["groups"]
        ],
    }


def after(roundings: Iterable[Mapping[str, Any]], lines: int) -> tuple[Mapping[str, Any], ...]:
    """How taxes were rounded, where so many ``lines`` come before on the same invoice."""
    return tuple(
        {
            **each,
            "groups": [
                {**group, "lines": [n + lines for n in group["lines"]]} for group in each["groups"]
            ],
        }
        for each in roundings
    )


def content_hash(data: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of the canonical JSON of plain data: sorted keys, no spaces, UTF-8."""
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
