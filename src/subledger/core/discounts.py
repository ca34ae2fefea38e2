"""Discounts: percentages first, then fixed amounts, each on what is left, never below zero.

Within a kind the larger comes first (of equal ones, by id), so that a result does not depend on
the order of attachment (conformance README, "coupon order"), and what is left over for a later
period is the smaller one. ``Order.AS_ATTACHED`` asks for the order given instead (Lago). An
invoice-level amount is split over the lines by largest remainder, so that the lines' parts sum to
it.

Free units come before pricing (``discount_parts.take_units``), amounts after it and before tax
(``take``). What a discount has given is a ``Usage``, which the caller stores. A part of a billed
line keeps the discounts of that line (``discount_parts.portion``) and is not discounted again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Any

from subledger.core.discount_terms import (
    MOST_DECIMALS,
    MOST_NAMES,
    UNUSED,
    Discount,
    Duration,
    Kind,
    Running,
    Spread,
    Usage,
    applies,
    runs,
)
from subledger.core.errors import InvalidDiscount
from subledger.core.money import allocate, round_half_up

__all__ = [
    "MOST_DECIMALS", "MOST_DISCOUNTS", "MOST_LINES", "MOST_NAMES", "UNUSED",
    "Applied", "Discount", "Duration", "Exclusive", "Kind", "Order", "Running", "Split", "Spread",
    "Taken", "Target", "Usage", "applies", "apply", "runs", "take",
]  # fmt: skip

MOST_DISCOUNTS = 100
MOST_LINES = 10_000


class Order(StrEnum):
    """In which order discounts are taken, each on what the ones before it left."""

    PERCENT_FIRST = "percent_first"
    AS_ATTACHED = "as_attached"


class Exclusive(StrEnum):
    """Which of several wins where one does not stack: the one that takes most, or the first
    attached that takes anything. The discounts that do stack compete as one."""

    BEST = "best"
    FIRST = "first"


class Split(StrEnum):
    """How an amount over several lines is split (conformance README, "split of an invoice-level
    amount"). By largest remainder; or each share rounded half up with the rest on the last line
    (Meteroid); or each share rounded half up by itself, the rest not given (Lago). Never more than
    the amount in all, nor than a line."""

    LARGEST_REMAINDER = "largest_remainder"
    LAST_LINE = "last_line"
    EACH = "each"


@dataclass(frozen=True, slots=True)
class Target:
    """A line before discounts: its gross amount (minor units), the names it goes by for
    ``applies_to``, and whether it may be discounted. Proration lines may not: their discount is in
    them already (Stripe; ``discount_parts.Portion``)."""

    gross_minor: int
    names: frozenset[str] = frozenset()
    discountable: bool = True


@dataclass(frozen=True, slots=True)
class Applied:
    """What discounts took: per line (minor units, not negative), the steps, and who was used."""

    by_line_minor: tuple[int, ...]
    steps: tuple[tuple[dict[str, Any], ...], ...]
    used: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Taken:
    """What discounts took from an invoice (minor units).

    ``by_discount`` is in the order taken; ``usage`` is the new usage of those; ``passed_over``
    says why of the others: ``ended``, ``other_currency``, ``other_lines``, ``not_stacked`` or
    ``nothing_left``. Discounts passed over are not used up.
    """

    by_line_minor: tuple[int, ...]
    steps: tuple[tuple[dict[str, Any], ...], ...]
    by_discount: tuple[tuple[str, int], ...]
    usage: Mapping[str, Usage]
    passed_over: tuple[tuple[str, str], ...]

    @property
    def total_minor(self) -> int:
        """The sum over the lines, which is the sum over the discounts."""
        return sum(self.by_line_minor)


@dataclass(slots=True)
class _Ready:
    """A discount as it stands for one invoice: the fixed amount that is still to be taken, the
    cap, and the lines in its scope."""

    discount: Discount
    lines: Sequence[int]
    amount_minor: int = 0
    most_minor: int | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class _Stack:
    """Discounts taken one after the other."""

    left: list[int]
    steps: list[list[dict[str, Any]]]
    taken: dict[str, int]


def apply(discounts: Sequence[Discount], gross_minor: Sequence[int], *, currency: str) -> Applied:
    """Take discounts off lines of one invoice, without scopes, exclusiveness and usage.

    Percentages are taken per line and rounded half up per line; fixed amounts are taken off the
    invoice and split. A fixed discount in another currency is passed over. A discount that takes
    nothing is not used up. Discounts never exceed the line. Raises InvalidDiscount if one comes
    twice, since it would use up two periods in one, and for one limited to some lines or that does
    not stack: ``take`` decides those.
    """
    _refuse_twice(discounts)
    for each in discounts:
        if each.applies_to or each.exclusive or each.carried or each.cap_for_life:
            raise InvalidDiscount("this discount has a scope or a state", fix="Ask take().")
    found, every = [], range(len(gross_minor))
    for each in discounts:
        ready = _ready(Running(each), every, currency, _WHOLE)
        if isinstance(ready, _Ready):
            found.append(ready)
    stack = _stack(sorted(found, key=_order), gross_minor)
    return Applied(
        by_line_minor=tuple(g - rest for g, rest in zip(gross_minor, stack.left, strict=True)),
        steps=tuple(tuple(each) for each in stack.steps),
        used=tuple(stack.taken),
    )


_WHOLE = Fraction(1)


def take(
    attached: Sequence[Running],
    lines: Sequence[Target],
    *,
    currency: str,
    at: datetime,
    timezone: str = "UTC",
    order: Order = Order.PERCENT_FIRST,
    exclusive: Exclusive = Exclusive.BEST,
    split: Split = Split.LARGEST_REMAINDER,
    fraction: Fraction = _WHOLE,
) -> Taken:
    """Take the attached discounts off the lines of one invoice whose period starts at ``at``.

    ``fraction`` is the part of a full period that is billed; it scales ``prorated`` discounts only.
    No line goes below zero and none that is negative is touched. The result depends on the order
    of ``attached`` only with AS_ATTACHED or FIRST. Free units are not taken here. Raises
    InvalidDiscount for a discount attached twice, more than 100 discounts or 10,000 lines.
    """
    _refuse_twice([each.discount for each in attached])
    if len(attached) > MOST_DISCOUNTS or len(lines) > MOST_LINES:
        raise InvalidDiscount(
            f"at most {MOST_DISCOUNTS} discounts on {MOST_LINES} lines", fix="Attach fewer."
        )
    assert fraction >= 0, "a fraction of a period"
    ready: list[_Ready] = []
    passed: dict[str, str] = {}
    for each in attached:
        if each.discount.kind is Kind.FREE_UNITS:
            continue
        if not runs(each.discount, each.usage, at=at, timezone=timezone):
            passed[each.discount.id] = "ended"
            continue
        found = _ready(each, _scope(each.discount, lines), currency, fraction)
        if isinstance(found, _Ready):
            ready.append(found)
        else:
            passed[each.discount.id] = found
    gross = [line.gross_minor for line in lines]
    chosen = _chosen(ready, gross, order, exclusive, split)
    stack = _stack(chosen, gross, split)
    stacked = {each.discount.id for each in chosen}
    for left_out in ready:
        name = left_out.discount.id
        if name not in stack.taken:
            passed[name] = "nothing_left" if name in stacked else "not_stacked"
    before = {each.discount.id: each.usage for each in attached}
    return Taken(
        by_line_minor=tuple(g - rest for g, rest in zip(gross, stack.left, strict=True)),
        steps=tuple(tuple(each) for each in stack.steps),
        by_discount=tuple(stack.taken.items()),
        usage={name: before[name].after(minor, at) for name, minor in stack.taken.items()},
        passed_over=tuple(sorted(passed.items())),
    )


def _refuse_twice(discounts: Sequence[Discount]) -> None:
    if len({each.id for each in discounts}) < len(discounts):
        raise InvalidDiscount(
            "a discount is taken once in a period", fix="Attach each discount only once."
        )


def _scope(discount: Discount, lines: Sequence[Target]) -> Sequence[int]:
    wanted = discount.applies_to
    return [
        n
        for n, line in enumerate(lines)
        if line.discountable and (not wanted or not wanted.isdisjoint(line.names))
    ]


def _ready(each: Running, lines: Sequence[int], currency: str, fraction: Fraction) -> _Ready | str:
    """What it may take from this invoice, or why nothing."""
    discount = each.discount
    if discount.kind is Kind.FREE_UNITS or not lines:
        return "other_lines"
    ready = _Ready(discount, lines)
    if discount.kind is Kind.FIXED:
        amount = discount.amount_in(currency)
        if amount is None:
            return "other_currency"
        if discount.prorated and fraction != 1:
            ready.details = {"whole_minor": amount, "fraction": str(fraction)}
            amount = round_half_up(amount * fraction)
        elif discount.carried:
            amount -= each.usage.taken_minor
        ready.amount_minor = amount
    if discount.caps:
        most = discount.cap_in(currency)
        if most is None:
            return "other_currency"
        ready.most_minor = most - (each.usage.taken_minor if discount.cap_for_life else 0)
    return ready


def _order(ready: _Ready) -> tuple[bool, Decimal | int, str]:
    if ready.discount.kind is Kind.PERCENT:
        return False, -(ready.discount.percent or 0), ready.discount.id
    return True, -ready.amount_minor, ready.discount.id


def _chosen(
    ready: Sequence[_Ready],
    gross: Sequence[int],
    order: Order,
    exclusive: Exclusive,
    split: Split,
) -> Sequence[_Ready]:
    """Those that are taken, in their order: all, if all stack."""
    ordered = ready if order is Order.AS_ATTACHED else sorted(ready, key=_order)
    alone = [each for each in ordered if each.discount.exclusive]
    if not alone:
        return ordered
    together = [each for each in ordered if not each.discount.exclusive]
    if exclusive is Exclusive.FIRST:
        for each in ready:
            if _stack([each], gross, split).taken:
                return [each] if each.discount.exclusive else together
        return ()
    # Of equal ones the first in order: max() keeps it.
    rivals: list[list[_Ready]] = [*([each] for each in alone), together]
    return max(rivals, key=lambda rival: sum(_stack(rival, gross, split).taken.values()))


def _stack(
    ready: Sequence[_Ready], gross: Sequence[int], split: Split = Split.LARGEST_REMAINDER
) -> _Stack:
    stack = _Stack(list(gross), [[] for _ in gross], {})
    left = stack.left
    for each in ready:
        base = [max(left[n], 0) for n in each.lines]
        whole = sum(base)
        if whole == 0:
            continue
        parts, details = _parts(each, base, whole, split)
        wanted, most = parts, each.most_minor
        capped = most is not None and sum(parts) > most
        if capped:
            assert most is not None
            parts = _split(most, wanted, split)
            details |= {"total_minor": most, "of_minor": sum(wanted)}
        if split is not Split.LARGEST_REMAINDER and "of_minor" in details:
            details["split"] = split.value
        total = sum(parts)
        if total == 0:
            continue
        stack.taken[each.discount.id] = total
        for n, amount, uncapped in zip(each.lines, parts, wanted, strict=True):
            if amount:
                step = _step(each.discount, left[n], amount, details)
                if capped:
                    step["uncapped_minor"] = uncapped
                stack.steps[n].append(step)
                left[n] -= amount
    return stack


def _parts(
    each: _Ready, base: Sequence[int], whole: int, split: Split
) -> tuple[list[int], dict[str, Any]]:
    """What a discount wants of each line in scope, and how that came about."""
    discount = each.discount
    if discount.kind is Kind.PERCENT:
        assert discount.percent is not None
        rate = discount.percent.as_integer_ratio()
        percent = format(discount.percent.normalize(), "f")
        if discount.taken_per is Spread.LINE:
            name = "percent" if each.most_minor is None else "capped_percent"
            return [_percent(line, rate) for line in base], {name: percent}
        total = _percent(whole, rate)
        details = {"total_percent": percent, "total_minor": total, "of_minor": whole}
        return _split(total, base, split), details
    if discount.taken_per is Spread.LINE:
        most = each.amount_minor
        return [min(most, line) for line in base], {"each_minor": most, **each.details}
    total = min(each.amount_minor, whole)
    parts = _split(total, base, split)
    details = dict(each.details)
    if len(base) > 1:
        details |= {"total_minor": total, "of_minor": whole}
    if discount.carried:
        details["carried_minor"] = each.amount_minor - sum(parts)
    return parts, details


def _split(total_minor: int, weights: Sequence[int], split: Split) -> list[int]:
    """Parts of at most each weight; ``total_minor`` is at most the sum of the weights."""
    if split is Split.LARGEST_REMAINDER:
        return allocate(total_minor, weights)
    whole, rest, parts = max(sum(weights), 1), total_minor, []
    for weight in weights:
        part = min((2 * total_minor * weight + whole) // (2 * whole), weight, rest)
        parts.append(part)
        rest -= part
    if split is Split.LAST_LINE:
        for n in range(len(parts) - 1, -1, -1):
            more = min(rest, weights[n] - parts[n])
            parts[n] += more
            rest -= more
    return parts


def _percent(amount_minor: int, rate: tuple[int, int]) -> int:
    """Half up, in whole numbers only, since every renewal comes by here."""
    numerator, denominator = rate
    return (2 * amount_minor * numerator + 100 * denominator) // (200 * denominator)


def _step(
    discount: Discount, base_minor: int, amount_minor: int, details: Mapping[str, Any]
) -> dict[str, Any]:
    """``percent`` is that percentage of ``base_minor``; ``fixed`` is an amount: whole, or the
    share of ``total_minor`` that ``base_minor`` (``uncapped_minor`` under a cap) has in
    ``of_minor``, split as asked."""
    return {
        "discount_id": discount.id,
        "kind": Kind.PERCENT.value if "percent" in details else Kind.FIXED.value,
        "base_minor": base_minor,
        "amount_minor": amount_minor,
        **details,
    }
