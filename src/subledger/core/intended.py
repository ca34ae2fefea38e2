"""The lines that should exist: what falls due at one boundary of a subscription's cycle.

In advance a price bills the period that begins there, in arrears the one that ends. Where a phase
begins inside a period, each side pays its part by the timeline's proration. Lines that fall due
together are discounted together; their tax is computed once it is known which of them are new.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

from subledger.core import discounts as discounting
from subledger.core import sharing
from subledger.core.calendar import Period
from subledger.core.difference import ENGINE_VERSION
from subledger.core.discount_parts import Units, take_units
from subledger.core.discounts import Kind, Running, Spread, Target, Usage, runs
from subledger.core.money import check_amount, round_half_up
from subledger.core.parts import Part, ends_in, parts_in, share_in, share_of
from subledger.core.pricing import Commitment, Priced, exact_text, price
from subledger.core.pricing import Usage as Used
from subledger.core.proration import Prorated, Share, prorate
from subledger.core.timeline import (
    DEFAULTS,
    Item,
    Line,
    Taxed,
    Timeline,
    Timing,
)


@dataclass(frozen=True, slots=True)
class Due:
    """What falls due at one moment: lines that bear no tax yet, the taxes of each by its key, and
    the new usage of the discounts taken."""

    lines: Sequence[Line]
    taxed: Mapping[tuple[str, datetime], Taxed]
    usage: Mapping[str, Usage]


def due(
    timeline: Timeline, parts: Sequence[Part], attached: Sequence[Running], due_at: datetime
) -> Due:
    """The lines of these parts, discounted together."""
    if not parts:
        return Due((), {}, {})
    at = max(due_at, timeline.phases[0].from_at)
    attached = [each for each in attached if each.has_begun(at)]
    units, free = _free_units(timeline, parts, attached, at)
    shares = [share_of(timeline, each) for each in parts]
    priced = _priced(timeline, parts, shares, units)
    costs = [_cost(each.amount, share) for each, share in zip(priced, shares, strict=True)]
    gross = [each.amount_minor for each in costs]
    taken, steps, usage = _discounted(timeline, parts, gross, attached, at)
    lines = []
    for n, part in enumerate(parts):
        derivation = {
            "engine": ENGINE_VERSION,
            "steps": [_step(each) for each in priced[n].steps],
            "exact": exact_text(costs[n].exact),
            **_shared(shares[n]),
            "rounding": "half_up",
            "residue": exact_text(costs[n].residue),
            "gross_minor": gross[n],
            "discounts": [*free[n], *steps[n]] if free else list(steps[n]),
            "net_minor": gross[n] - taken[n],
            "taxes": [],
            "tax_included_minor": 0,
            "tax_minor": 0,
        }
        if due_at != part.time.start_at:
            derivation["due_at"] = due_at.isoformat()
        lines.append(_line(part, derivation, gross[n], taken[n], units[n]))
    return Due(
        lines,
        {line.key: each.item.taxed for line, each in zip(lines, parts, strict=True)},
        usage,
    )


def _step(step: Any) -> dict[str, Any]:
    data = {
        "kind": step.kind,
        "quantity": step.quantity,
        "unit_amount": step.unit_amount,
        "amount": step.amount,
    }
    if step.part:
        data["part"] = step.part
    return data


# Prices -------------------------------------------------------------------------------------------


def _cost(amount: int | Fraction, share: Share | None) -> Prorated:
    """What a price comes to, rounded once."""
    if share is not None:
        return prorate(amount, share.fraction, share.rest)
    amount_minor = check_amount(round_half_up(amount))
    return Prorated(amount_minor, amount, amount - amount_minor)


def _priced(
    timeline: Timeline,
    parts: Sequence[Part],
    shares: Sequence[Share | None],
    units: Sequence[Decimal | Used],
) -> list[Priced]:
    found: list[Priced] = []
    for each, used in zip(parts, units, strict=True):
        if isinstance(each.item.model, Commitment):
            found.append(_missing(timeline, each, parts, shares, units))
        else:
            found.append(price(each.item.model, used))
    return found


def _missing(
    timeline: Timeline,
    part: Part,
    parts: Sequence[Part],
    shares: Sequence[Share | None],
    units: Sequence[Decimal | Used],
) -> Priced:
    """What is missing to the commitment of a period: what was charged in it counts, also what was
    billed in advance at its start."""
    assert isinstance(part.item.model, Commitment)
    before = [
        each
        for each in parts_in(timeline, Timing.ADVANCE, part.item.every, part.whole)
        if not isinstance(each.item.model, Commitment)
    ]
    priced = [
        (price(each.item.model, each.item.quantity), share_of(timeline, each)) for each in before
    ]
    priced += [
        (price(each.item.model, used), share)
        for each, share, used in zip(parts, shares, units, strict=True)
        if each.whole == part.whole
        and each.item.timing is Timing.ARREARS
        and not isinstance(each.item.model, Commitment)
    ]
    charged = sum(_cost(each.amount, share).amount_minor for each, share in priced)
    whole = part.time == part.whole
    fraction = Fraction(1) if whole else share_in(timeline, part.time, part.whole).fraction
    return part.item.model.missing(charged, fraction)


def _free_units(
    timeline: Timeline, parts: Sequence[Part], attached: Sequence[Running], at: datetime
) -> tuple[list[Decimal | Used], list[tuple[dict[str, str], ...]] | None]:
    """What each part is priced for, free units taken off; the steps that did (None: there are
    no free units). Units are free in each stretch of time, since parts follow one another."""
    units = [_units(timeline, each) for each in parts]
    if not any(each.discount.kind is Kind.FREE_UNITS for each in attached):
        return units, None
    steps: list[tuple[dict[str, str], ...]] = [()] * len(parts)
    stretches: dict[Period, list[int]] = {}
    for n, each in enumerate(parts):
        stretches.setdefault(each.time, []).append(n)
    for places in stretches.values():
        plain = [n for n in places if isinstance(units[n], Decimal)]
        reduced = take_units(
            attached,
            [Units(parts[n].item.quantity, _names(parts[n].item)) for n in plain],
            at=at,
            timezone=timeline.anchor.timezone,
        )
        for n, left, given in zip(plain, reduced.quantities, reduced.steps, strict=True):
            units[n], steps[n] = left, given
    return units, steps


def _units(timeline: Timeline, part: Part) -> Decimal | Used:
    if part.item.metered:
        return timeline.used.get((part.item.price_id, part.time.start_at), _NOTHING_USED)
    return part.item.quantity


_NOTHING_USED = Used()


def _names(item: Item) -> frozenset[str]:
    return item.names | {item.price_id}


# Discounts ----------------------------------------------------------------------------------------


def _discounted(
    timeline: Timeline,
    parts: Sequence[Part],
    gross: Sequence[int],
    attached: Sequence[Running],
    at: datetime,
) -> tuple[Sequence[int], Sequence[Sequence[Mapping[str, Any]]], dict[str, Usage]]:
    """What the attached discounts take off the parts, their steps, and their new usage."""
    zone = timeline.anchor.timezone
    running = [each for each in attached if runs(each.discount, each.usage, at=at, timezone=zone)]
    if not running:
        return [0] * len(gross), [()] * len(gross), {}
    units = {
        each.discount.id: each.usage.after(0, at)
        for each in running
        if each.discount.kind is Kind.FREE_UNITS
    }
    policy = timeline.policy_at(at)
    if policy == DEFAULTS and all(map(_is_plain, running)):
        shared = _shared_discounts(timeline, parts, gross, running, at)
        if shared is not None:
            return shared
    taken = discounting.take(
        running,
        [Target(minor, _names(each.item)) for minor, each in zip(gross, parts, strict=True)],
        currency=timeline.currency,
        at=at,
        timezone=zone,
        order=policy.order,
        exclusive=policy.exclusive,
        split=policy.split,
        fraction=_covered(timeline, parts),
    )
    return taken.by_line_minor, taken.steps, units | dict(taken.usage)


def _is_plain(each: Running) -> bool:
    """A percentage off all lines, or an amount off the invoice: what ``sharing`` cuts by time."""
    it = each.discount
    if it.applies_to or it.exclusive or it.carried or it.prorated or it.caps or it.other_amounts:
        return False
    if it.kind is Kind.PERCENT:
        return it.taken_per is Spread.LINE
    return it.kind is Kind.FIXED and it.taken_per is Spread.INVOICE


def _shared_discounts(
    timeline: Timeline,
    parts: Sequence[Part],
    gross: Sequence[int],
    running: Sequence[Running],
    at: datetime,
) -> tuple[Sequence[int], Sequence[Sequence[Mapping[str, Any]]], dict[str, Usage]] | None:
    """Plain discounts, shared by time where changes cut the period; None where the parts are not
    of one period."""
    whole = parts[0].whole
    slices = _slices(timeline, whole)
    plain = [each.discount for each in running]
    if len(slices) == 1:
        applied = discounting.apply(plain, gross, currency=timeline.currency)
    elif any(each.whole != whole or each.item.timing is Timing.ONCE for each in parts):
        return None
    else:
        applied = sharing.apply(
            plain, gross, [each.time for each in parts], slices, currency=timeline.currency
        )
    taken = dict.fromkeys(applied.used, 0)
    for steps in applied.steps:
        for step in steps:
            taken[step["discount_id"]] += step["amount_minor"]
    before = {each.discount.id: each.usage for each in running}
    usage = {name: before[name].after(minor, at) for name, minor in taken.items()}
    return applied.by_line_minor, applied.steps, usage


def _slices(timeline: Timeline, whole: Period) -> list[tuple[Period, Fraction]]:
    """The time covered in a period, cut where phases begin, with each one's share of it."""
    phases = timeline.phases
    if len(phases) == 1:
        return [(whole, Fraction(1))]
    first = max(whole.start_at, phases[0].from_at)
    until = whole.end_at
    if timeline.ended_at is not None and first < timeline.ended_at:
        until = ends_in(timeline, whole)
    inside = [each.from_at for each in phases if first < each.from_at < until]
    found = [Period(start, end) for start, end in pairwise([first, *inside, until])]
    if len(found) == 1:
        return [(found[0], Fraction(1))]
    covered = share_in(timeline, Period(first, until), whole).fraction
    return [
        (
            each,
            Fraction(share_in(timeline, each, whole).fraction, covered) if covered else Fraction(0),
        )
        for each in found
    ]


def _covered(timeline: Timeline, parts: Sequence[Part]) -> Fraction:
    """The part of a full period that is billed, for discounts that are prorated."""
    start_at = min(each.time.start_at for each in parts)
    end_at = max(each.time.end_at for each in parts)
    whole = max((each.whole for each in parts), key=lambda each: each.end_at - each.start_at)
    if start_at <= whole.start_at and end_at >= whole.end_at:
        return Fraction(1)
    time = Period(max(start_at, whole.start_at), min(end_at, whole.end_at))
    return share_in(timeline, time, whole).fraction


def _shared(share: Share | None) -> dict[str, Any]:
    """What the derivation says of the part of the period that a line covers."""
    if share is None:
        return {"fraction": "1"}
    found = {"fraction": exact_text(share.fraction), "proration": share.derivation}
    return {**found, "rest": exact_text(share.rest)} if share.rest else found


_NO_TAX = Decimal(0)


def _line(
    part: Part,
    derivation: Mapping[str, Any],
    gross_minor: int,
    taken_minor: int,
    used: Decimal | Used,
) -> Line:
    return Line(
        kind="charge",
        price_id=part.item.price_id,
        charged_from_at=part.time.start_at,
        service_start_at=part.time.start_at,
        service_end_at=part.time.end_at,
        quantity=used.quantity if isinstance(used, Used) else part.item.quantity,
        gross_minor=gross_minor,
        discount_minor=taken_minor,
        net_minor=gross_minor - taken_minor,
        tax_minor=0,
        tax_rate=_NO_TAX,
        derivation=derivation,
    )
