"""Discounts of a period that changes have cut.

A percentage is taken off each line. A fixed discount is an amount for the whole time that the
subscription covers in the period, shared by time between what was paid before and after a change:
half-way through, half of it has been used, so that the credit for the unused half gives back half
of what was really paid, and the new plan gets the other half (never shaved twice, never credited
beyond what was paid). Shares are rounded cumulatively, so that they sum to the discount whatever
the number of changes, and a later change does not move an earlier share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction

from subledger.core import discounts as discounting
from subledger.core.calendar import Period
from subledger.core.discounts import Applied, Discount, Kind
from subledger.core.money import allocate, round_half_up

_TICK = timedelta(microseconds=1)


def apply(
    discounts: Sequence[Discount],
    gross_minor: Sequence[int],
    parts: Sequence[Period],
    slices: Sequence[tuple[Period, Fraction]],
    *,
    currency: str,
) -> Applied:
    """As ``discounts.apply``, for lines that cover ``parts`` of a period.

    ``slices`` tile the covered time where its changes cut it, each with its share of that time
    (they sum to one); each part is a run of whole slices.
    """
    percents = [each for each in discounts if each.kind is Kind.PERCENT]
    first = discounting.apply(percents, gross_minor, currency=currency)
    left = [g - taken for g, taken in zip(gross_minor, first.by_line_minor, strict=True)]
    steps = [list(each) for each in first.steps]
    used = list(first.used)
    places = [[n for n, (each, _) in enumerate(slices) if _within(each, part)] for part in parts]
    # What is left of each line, slice by slice.
    open_minor = [
        dict(zip(found, allocate(rest, [_ticks(slices[n][0]) for n in found]), strict=True))
        for rest, found in zip(left, places, strict=True)
    ]
    fixed = [each for each in discounts if each.kind is Kind.FIXED and each.currency == currency]
    for discount in sorted(fixed, key=lambda each: (-(each.amount_minor or 0), each.id)):
        taken = _share(discount, open_minor, slices)
        if any(taken):
            used.append(discount.id)
        for line, amount in enumerate(taken):
            if amount:
                steps[line].append(
                    {
                        "discount_id": discount.id,
                        "kind": discount.kind.value,
                        "base_minor": left[line],
                        "amount_minor": amount,
                        "total_minor": discount.amount_minor,
                    }
                )
                left[line] -= amount
    return Applied(
        by_line_minor=tuple(g - rest for g, rest in zip(gross_minor, left, strict=True)),
        steps=tuple(tuple(each) for each in steps),
        used=tuple(used),
    )


def _share(
    discount: Discount,
    open_minor: Sequence[dict[int, int]],
    slices: Sequence[tuple[Period, Fraction]],
) -> list[int]:
    """What a fixed discount takes off each line; ``open_minor`` is reduced by it."""
    assert discount.amount_minor is not None
    taken = [0] * len(open_minor)
    passed, given_minor = Fraction(0), 0
    for n, (_, share) in enumerate(slices):
        passed += share
        until_minor = round_half_up(discount.amount_minor * passed)
        amount_minor, given_minor = until_minor - given_minor, until_minor
        lines = [line for line, each in enumerate(open_minor) if each.get(n, 0) > 0]
        if amount_minor <= 0 or not lines:
            continue
        applied = discounting.apply(
            [replace(discount, amount_minor=amount_minor)],
            [open_minor[line][n] for line in lines],
            currency=discount.currency or "",
        )
        for line, amount in zip(lines, applied.by_line_minor, strict=True):
            open_minor[line][n] -= amount
            taken[line] += amount
    return taken


def _within(part: Period, whole: Period) -> bool:
    return whole.start_at <= part.start_at and part.end_at <= whole.end_at


def _ticks(part: Period) -> int:
    return (part.end_at - part.start_at) // _TICK
