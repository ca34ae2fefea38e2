"""Discounts beside the taking of amounts: free units before pricing, and parts of billed lines.

A part of a billed line (a credit for unused time, the charge for the rest of a period) carries the
discounts that the line carried: it is computed from what was stored, never by taking the discounts
again. So no discount is shaved twice, and all credits together return at most what was billed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any

from subledger.core.discounts import (
    MOST_DISCOUNTS,
    MOST_LINES,
    Kind,
    Running,
    Spread,
    Target,
    Usage,
    runs,
)
from subledger.core.errors import InvalidDiscount
from subledger.core.money import allocate, check_amount, round_half_up
from subledger.core.pricing import check_quantity

_EXACT = Context(prec=80)
"""Quantities have up to 38 digits, more than Decimal keeps by default."""


@dataclass(frozen=True, slots=True)
class Units:
    """The quantity of a line that is priced per unit, and the names it goes by."""

    quantity: Decimal
    names: frozenset[str]

    def __post_init__(self) -> None:
        check_quantity(self.quantity)


@dataclass(frozen=True, slots=True)
class Reduced:
    """The quantities still to be priced, per line; steps as data; the new usage of the discounts
    that gave units."""

    quantities: tuple[Decimal, ...]
    steps: tuple[tuple[dict[str, str], ...], ...]
    usage: Mapping[str, Usage]


def take_units(
    attached: Sequence[Running], lines: Sequence[Units], *, at: datetime, timezone: str = "UTC"
) -> Reduced:
    """Take free units off quantities, before these are priced; never below zero.

    The units are free on each line in scope or, with Spread.INVOICE, once over the lines in
    their order. The larger number comes first, of equal ones by id. Other kinds of discount are
    passed over, and so are those that ended by ``at``, the start of the period. Raises
    InvalidDiscount for a discount attached twice, more than 100 discounts or 10,000 lines.
    """
    free = [each for each in attached if each.discount.kind is Kind.FREE_UNITS]
    if len({each.discount.id for each in free}) < len(free):
        raise InvalidDiscount(
            "a discount is taken once in a period", fix="Attach each discount only once."
        )
    if len(attached) > MOST_DISCOUNTS or len(lines) > MOST_LINES:
        raise InvalidDiscount(
            f"at most {MOST_DISCOUNTS} discounts on {MOST_LINES} lines", fix="Attach fewer."
        )
    left = [line.quantity for line in lines]
    steps: list[list[dict[str, str]]] = [[] for _ in lines]
    usage = {}
    for each in sorted(free, key=_larger_first):
        if not runs(each.discount, each.usage, at=at, timezone=timezone):
            continue
        rest = each.discount.free_units or Decimal(0)
        for n, line in enumerate(lines):
            if each.discount.applies_to.isdisjoint(line.names):
                continue
            taken = min(rest, left[n])
            if taken <= 0:
                continue
            steps[n].append(_units_step(each.discount.id, left[n], taken))
            left[n] = _EXACT.subtract(left[n], taken)
            if each.discount.taken_per is Spread.INVOICE:
                rest = _EXACT.subtract(rest, taken)
            usage[each.discount.id] = each.usage.after(0, at)
    return Reduced(tuple(left), tuple(tuple(each) for each in steps), usage)


def _larger_first(each: Running) -> tuple[Decimal, str]:
    return (each.discount.free_units or Decimal(0)).copy_negate(), each.discount.id


def _units_step(discount_id: str, base: Decimal, units: Decimal) -> dict[str, str]:
    return {
        "discount_id": discount_id,
        "kind": Kind.FREE_UNITS.value,
        "base_units": format(base, "f"),
        "units": format(units, "f"),
    }


@dataclass(frozen=True, slots=True)
class Portion:
    """A part of a discounted line (minor units, not negative): which part of the whole line, what
    it comes to after discounts, and the share of each discount in it."""

    part: Fraction
    net_minor: int
    discounts: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        # A negative earlier portion would raise what may still be credited.
        if self.part < 0 or self.net_minor < 0 or any(minor < 0 for _, minor in self.discounts):
            raise InvalidDiscount(
                "a part of a line is not negative", pointer="/net_minor", fix="Give its size."
            )

    @property
    def discount_minor(self) -> int:
        """The discounts' share together."""
        return sum(minor for _, minor in self.discounts)

    @property
    def gross_minor(self) -> int:
        """Before discounts."""
        return self.net_minor + self.discount_minor

    def target(self, names: frozenset[str] = frozenset()) -> Target:
        """As a line of an invoice: not discounted a second time."""
        return Target(self.net_minor, names, discountable=False)

    def step(self) -> dict[str, Any]:
        """As data."""
        return {
            "part": str(self.part),
            "gross_minor": self.gross_minor,
            "discounts": [[name, minor] for name, minor in self.discounts],
            "net_minor": self.net_minor,
        }


def portion(
    gross_minor: int,
    discounts: Sequence[tuple[str, int]],
    part: Fraction,
    *,
    earlier: Sequence[Portion] = (),
) -> Portion:
    """The ``part`` (0…1) of a line that cost ``gross_minor`` and carried ``discounts`` (id, minor
    units), after the ``earlier`` portions of it.

    Net and discount are each rounded half up over all portions so far, less those portions, so
    that portions which make up the whole line sum to it exactly. Capped at what is left of the
    line; ``earlier`` may hold amounts credited by hand (part 0). Raises InvalidDiscount unless the
    discounts, each named once, lie between zero and the gross amount and the part between zero and
    one.
    """
    check_amount(gross_minor, pointer="/gross_minor")
    stored = [minor for _, minor in discounts]
    discount = sum(stored)
    if (
        not 0 <= part <= 1
        or min(stored, default=0) < 0
        or discount > gross_minor
        or len(dict(discounts)) < len(discounts)
    ):
        raise InvalidDiscount(
            "a part lies between 0 and 1, and discounts, each once, between 0 and the amount",
            pointer="/part",
            fix="Give the line as it was billed.",
        )
    before = min(sum((each.part for each in earlier), Fraction(0)), Fraction(1))
    after = min(before + part, Fraction(1))
    net = gross_minor - discount
    left_net = net - sum(each.net_minor for each in earlier)
    left = [
        max(minor - sum(dict(each.discounts).get(name, 0) for each in earlier), 0)
        for name, minor in discounts
    ]
    shares = [0] * len(left)
    if left:
        shares = allocate(min(_between(discount, before, after), sum(left)), left)
    return Portion(
        part=part,
        net_minor=max(min(_between(net, before, after), left_net), 0),
        discounts=tuple((name, share) for (name, _), share in zip(discounts, shares, strict=True)),
    )


def _between(amount_minor: int, before: Fraction, after: Fraction) -> int:
    return round_half_up(amount_minor * after) - round_half_up(amount_minor * before)
