"""What may stand over any price: included units, a minimum, a maximum, the most that is sold.

One class holds them all: as long as the minimum is not above the maximum, their order makes no
difference, so that no order needs to be chosen or stored.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction

from subledger.core.errors import InvalidPrice, InvalidQuantity
from subledger.core.pricing.blocks import Blocks
from subledger.core.pricing.exact import (
    Priced,
    Sheet,
    check_bound,
    check_flat,
    plain,
    scaled,
    unscaled,
)
from subledger.core.pricing.matrix import Matrix
from subledger.core.pricing.percentages import GraduatedPercentage, Percentage
from subledger.core.pricing.simple import Commitment, Dynamic, Flat, Package, PerUnit
from subledger.core.pricing.tiers import Graduated, Stairstep, Volume
from subledger.core.pricing.usage import Usage

BaseModel = (
    Flat | PerUnit | Graduated | Volume | Stairstep | Package | Blocks
    | Percentage | GraduatedPercentage | Dynamic | Matrix | Commitment
)  # fmt: skip

_BY_QUANTITY = (PerUnit, Graduated, Volume, Stairstep, Package, Blocks)


@dataclass(frozen=True, slots=True)
class Modified:
    """A price with included units, a minimum, a maximum, or a limit of what is sold.

    Units up to ``included_units`` are paid for elsewhere; the rest (overage) is priced as if it
    were all. What the price stays below ``minimum_minor`` is trued up, what passes
    ``maximum_minor`` is taken off the parts that pass it. A quantity above ``most_quantity`` is
    refused, which is how a price is said whose last tier has a bound (Polar, Kill Bill).
    """

    model: BaseModel
    included_units: Decimal | None = None
    minimum_minor: int | None = None
    maximum_minor: int | None = None
    most_quantity: Decimal | None = None

    def __post_init__(self) -> None:
        units = (("included_units", self.included_units), ("most_quantity", self.most_quantity))
        amounts = (("minimum_minor", self.minimum_minor), ("maximum_minor", self.maximum_minor))
        if all(value is None for _, value in (*units, *amounts)):
            raise InvalidPrice("nothing is modified", fix="Use the price itself.")
        for name, value in units:
            if value is None:
                continue
            check_bound(value, pointer=f"/{name}")
            if not isinstance(self.model, _BY_QUANTITY):
                raise InvalidPrice(
                    "only a price by quantity includes or limits units",
                    pointer=f"/{name}",
                    fix="Use free events or a free total for percentages, or leave it out.",
                )
        for name, amount in amounts:
            if amount is not None:
                check_flat(amount, pointer=f"/{name}")
        if self.maximum_minor is not None and (self.minimum_minor or 0) > self.maximum_minor:
            raise InvalidPrice(
                "the minimum is not above the maximum",
                pointer="/minimum_minor",
                fix="Use a lower minimum.",
            )

    def priced(self, usage: Usage, *, closing: bool = True) -> Priced:
        """Raises InvalidQuantity above ``most_quantity``. The minimum waits for ``closing``."""
        sheet = Sheet()
        if self.most_quantity is not None:
            _check_sold(usage, self.most_quantity)
        if self.included_units is not None:
            usage = _without(usage, self.included_units, sheet)
        inner = self.model.priced(usage)
        sheet.steps += inner.steps
        sheet.amount += inner.amount
        if self.minimum_minor is not None and closing:
            missing = true_up(self.minimum_minor, (sheet.amount,))
            if missing:
                sheet.times("minimum", missing, 1, "minimum")
        if self.maximum_minor is not None and sheet.amount > self.maximum_minor:
            _cut(sheet, plain(sheet.amount - self.maximum_minor))
        return sheet.priced()


def _check_sold(usage: Usage, most: Decimal) -> None:
    quantity = usage.units() if usage.tier_quantity is None else usage.tier_quantity
    if quantity > most:
        raise InvalidQuantity(
            f"at most {most:f} units are sold at this price",
            pointer="/most_quantity",
            fix="Use a smaller quantity, or a price with more.",
        )


def _without(usage: Usage, included: Decimal, sheet: Sheet) -> Usage:
    """The overage. Prorated usage is refused: how much of it is included is nowhere defined."""
    units, free = scaled(usage.units()), scaled(included)
    if usage.tier_quantity is not None:
        raise InvalidQuantity(
            "included units are taken off a plain quantity",
            pointer="/tier_quantity",
            fix="Prorate after the overage is known.",
        )
    sheet.add("included", min(units, free), Decimal(0))
    return replace(usage, quantity=unscaled(max(units - free, 0)))


def _cut(sheet: Sheet, excess: int | Fraction) -> None:
    """Takes the excess off the last parts first: they are the ones that passed the maximum."""
    for part in reversed(by_part(Priced(sheet.amount, tuple(sheet.steps)))):
        taken = min(part.net, excess)
        if taken > 0:
            sheet.times("above_maximum", taken, -1, part.part)
            excess -= taken


def true_up(
    minimum_minor: int,
    charged: Iterable[int | Fraction],
    *,
    fraction: Fraction = Fraction(1),
) -> int | Fraction:
    """What is missing to a minimum (minor units, exact), zero if nothing is.

    ``charged`` are the amounts that count against it; ``fraction`` is the share of the period
    that the minimum was agreed for.
    """
    return plain(max(Fraction(minimum_minor) * fraction - sum(charged), Fraction(0)))


@dataclass(frozen=True, slots=True)
class Part:
    """A tier or combination of a price (minor units, exact): ``net`` is ``gross`` less what lies
    above the maximum. The true-up to a minimum is the part ``minimum``."""

    part: str
    gross: int | Fraction
    above_maximum: int | Fraction
    net: int | Fraction


def by_part(priced: Priced) -> tuple[Part, ...]:
    """The amounts of a price by its parts, in the order of its steps: one line each, for those
    who show a line per tier."""
    gross: dict[str, Fraction] = {}
    above: dict[str, Fraction] = {}
    for step in priced.steps:
        amount = Fraction(step.amount)
        if step.kind == "above_maximum":
            above[step.part] = above.get(step.part, Fraction(0)) - amount
        else:
            gross[step.part] = gross.get(step.part, Fraction(0)) + amount
    return tuple(
        Part(
            part,
            plain(amount),
            plain(above.get(part, Fraction(0))),
            plain(amount - above.get(part, Fraction(0))),
        )
        for part, amount in gross.items()
    )


def counted(priced: Priced, kind: str) -> int | Fraction:
    """How many of a kind (``package``, ``block``, ``per_event``) a price counts."""
    return plain(
        sum((Fraction(each.quantity) for each in priced.steps if each.kind == kind), Fraction(0))
    )


def less(priced: Priced, billed: Priced) -> Priced:
    """What is left of a price when what was billed is taken off, step by step.

    Steps of the same kind, part and unit amount are set off against each other by quantity.
    """
    left: dict[tuple[str, str, str], Fraction] = {}
    for steps, sign in ((priced.steps, 1), (billed.steps, -1)):
        for step in steps:
            key = (step.kind, step.unit_amount, step.part)
            left[key] = left.get(key, Fraction(0)) + sign * Fraction(step.quantity)
    sheet = Sheet()
    for (kind, unit_amount, part), quantity in left.items():
        if quantity:
            sheet.times(kind, plain(quantity), Fraction(unit_amount), part)
    return sheet.priced()
