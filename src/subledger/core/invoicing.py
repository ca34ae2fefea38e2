"""Invoices are a difference: the lines that should exist, less the lines that do.

Renewal, first invoice, change, retry after a crash, preview and dry run are all ``draft``. The
difference is taken over the dirty range only: what lies before it stands. Billing the same twice
therefore bills once, in whatever order the lines are presented.

Each line keeps its derivation as plain data (texts and integers), from which a program that
imports nothing of ours can recompute it (``examples/recompute_invoice.py``).
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

from subledger.core import discounts as discounting
from subledger.core import proration, sharing
from subledger.core.calendar import Period, boundary
from subledger.core.difference import ENGINE_VERSION, difference
from subledger.core.money import check_amount, round_half_up
from subledger.core.pricing import exact_text, price
from subledger.core.proration import Share
from subledger.core.timeline import Draft, Item, Line, Timeline


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

    Prices are in advance: a period is billed at its start. Where a phase begins inside a period,
    each side pays its part of the period by the timeline's proration. Raises AmountOutOfRange when
    a line or the total exceeds 10^15 minor units, DateOutOfRange beyond the calendar's years.
    """
    lines: list[Line] = []
    used: dict[str, int] = {}
    starts: list[datetime] = []
    last: Period | None = None
    n = first_period
    start_at = boundary(timeline.anchor, timeline.interval, n)
    while n < first_period + most_periods and start_at <= horizon_at:
        if timeline.ended_at is not None and start_at >= timeline.ended_at:
            break
        end_at = boundary(timeline.anchor, timeline.interval, n + 1)
        last = Period(start_at, end_at)
        starts.append(start_at)
        lines += _intended(timeline, last, used)
        n, start_at = n + 1, end_at
    existing = tuple(billed)
    if existing:
        lines = difference(lines, existing)
        used = _newly_used(lines, existing, starts)
    ends = timeline.ended_at is not None and start_at >= timeline.ended_at
    return _sum(timeline, lines, last, n - first_period, None if ends else start_at, used)


def _newly_used(
    added: Iterable[Line], billed: Iterable[Line], starts: Sequence[datetime]
) -> dict[str, int]:
    """A discount that a period's billed lines have taken is not used again when they change."""
    used: dict[str, int] = {}
    for discount, _ in sorted(_taken(added, starts) - _taken(billed, starts)):
        used[discount] = used.get(discount, 0) + 1
    return used


def _taken(lines: Iterable[Line], starts: Sequence[datetime]) -> set[tuple[str, int]]:
    """Discount id and place of the period in which it was taken."""
    return {
        (step["discount_id"], bisect(starts, line.charged_from_at))
        for line in lines
        if line.kind == "charge"
        for step in line.derivation["discounts"]
    }


def taken(
    billed: Iterable[Line], timeline: Timeline, *, first_period: int, periods: int
) -> dict[str, int]:
    """In how many of these periods the billed lines took each discount, by its id."""
    starts = [
        boundary(timeline.anchor, timeline.interval, n)
        for n in range(first_period, first_period + periods)
    ]
    found: dict[str, int] = {}
    for discount, _ in _taken(billed, starts):
        found[discount] = found.get(discount, 0) + 1
    return found


def join(first: Draft, then: Draft) -> Draft:
    """Two drafts of one subscription on one invoice: the end of one cycle, the start of another."""
    assert first.currency == then.currency, "one currency"
    used = dict(first.used)
    for each, times in then.used.items():
        used[each] = used.get(each, 0) + times
    return Draft(
        lines=(*first.lines, *then.lines),
        currency=then.currency,
        subtotal_minor=first.subtotal_minor + then.subtotal_minor,
        discount_minor=first.discount_minor + then.discount_minor,
        tax_minor=first.tax_minor + then.tax_minor,
        total_minor=check_amount(first.total_minor + then.total_minor),
        period=then.period,
        periods=first.periods + then.periods,
        next_billing_at=then.next_billing_at,
        used=used,
    )


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


def _segments(timeline: Timeline, whole: Period) -> list[tuple[Item, Period]]:
    """Who pays for which part of the period. What a change leaves as it was is not cut."""
    found: list[tuple[Item, Period]] = []
    open_until: dict[Item, int] = {}
    ends = [each.from_at for each in timeline.phases[1:]] + [whole.end_at]
    for phase, following in zip(timeline.phases, ends, strict=True):
        start_at, end_at = max(phase.from_at, whole.start_at), min(following, whole.end_at)
        if start_at >= end_at:
            continue
        for item in phase.items:
            place = open_until.get(item)
            if place is not None and found[place][1].end_at == start_at:
                found[place] = (item, Period(found[place][1].start_at, end_at))
            else:
                open_until[item] = len(found)
                found.append((item, Period(start_at, end_at)))
    return found


def _intended(timeline: Timeline, whole: Period, used: dict[str, int]) -> list[Line]:
    """The lines that one period should have."""
    segments = _segments(timeline, whole)
    if not segments:
        return []
    shares = [None if part == whole else _share(timeline, part, whole) for _, part in segments]
    priced = [price(item.model, item.quantity) for item, _ in segments]
    exact = [
        each.amount if share is None else each.amount * share.fraction
        for each, share in zip(priced, shares, strict=True)
    ]
    gross = [check_amount(round_half_up(each)) for each in exact]
    parts = [part for _, part in segments]
    taken, steps = _discounted(timeline, whole, parts, gross, used)
    return [
        _line(
            item,
            part,
            derivation={
                "engine": ENGINE_VERSION,
                "steps": [
                    {
                        "kind": step.kind,
                        "quantity": step.quantity,
                        "unit_amount": step.unit_amount,
                        "amount": step.amount,
                        **({"part": step.part} if step.part else {}),
                    }
                    for step in priced[n].steps
                ],
                "exact": exact_text(exact[n]),
                **_shared(shares[n]),
                "rounding": "half_up",
                "residue": exact_text(Fraction(exact[n]) - gross[n])
                if isinstance(exact[n], Fraction)
                else "0",
                "gross_minor": gross[n],
                "discounts": list(steps[n]),
                "net_minor": gross[n] - taken[n],
                "tax_rate": "0",
                "tax_minor": 0,
            },
            gross_minor=gross[n],
            taken_minor=taken[n],
        )
        for n, (item, part) in enumerate(segments)
    ]


def _discounted(
    timeline: Timeline,
    whole: Period,
    parts: Sequence[Period],
    gross: Sequence[int],
    used: dict[str, int],
) -> tuple[Sequence[int], Sequence[Sequence[Mapping[str, Any]]]]:
    """What the attached discounts take off the lines of a period, and their steps."""
    usable = [
        each.discount
        for each in timeline.attached
        if discounting.applies(each.discount, each.used_periods + used.get(each.discount.id, 0))
    ]
    if not usable:
        return [0] * len(gross), [()] * len(gross)
    slices = _slices(timeline, whole)
    applied = (
        discounting.apply(usable, gross, currency=timeline.currency)
        if len(slices) == 1
        else sharing.apply(usable, gross, parts, slices, currency=timeline.currency)
    )
    for each in applied.used:
        used[each] = used.get(each, 0) + 1
    return applied.by_line_minor, applied.steps


def _slices(timeline: Timeline, whole: Period) -> list[tuple[Period, Fraction]]:
    """The time covered in a period, cut where phases begin, with each one's share of it."""
    first = max(whole.start_at, timeline.phases[0].from_at)
    inside = [each.from_at for each in timeline.phases if first < each.from_at < whole.end_at]
    moments = [first, *inside, whole.end_at]
    found = [Period(start, end) for start, end in pairwise(moments)]
    if len(found) == 1:
        return [(found[0], Fraction(1))]
    covered = _share(timeline, Period(first, whole.end_at), whole).fraction
    return [
        (
            each,
            Fraction(_share(timeline, each, whole).fraction, covered) if covered else Fraction(0),
        )
        for each in found
    ]


def _share(timeline: Timeline, part: Period, whole: Period) -> Share:
    return proration.share(part, whole, timeline.proration, timeline.anchor.timezone)


def _shared(share: Share | None) -> dict[str, Any]:
    """What the derivation says of the part of the period that a line covers."""
    if share is None:
        return {"fraction": "1"}
    return {"fraction": exact_text(share.fraction), "proration": share.derivation}


_NO_TAX = Decimal(0)


def _line(
    item: Item, part: Period, *, derivation: Mapping[str, Any], gross_minor: int, taken_minor: int
) -> Line:
    return Line(
        kind="charge",
        price_id=item.price_id,
        charged_from_at=part.start_at,
        service_start_at=part.start_at,
        service_end_at=part.end_at,
        quantity=item.quantity,
        gross_minor=gross_minor,
        discount_minor=taken_minor,
        net_minor=gross_minor - taken_minor,
        tax_minor=0,
        tax_rate=_NO_TAX,
        derivation=derivation,
    )


def content_hash(data: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of the canonical JSON of plain data: sorted keys, no spaces, UTF-8."""
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
