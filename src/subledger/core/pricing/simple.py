"""Prices without tiers: flat, per unit, per package, and amounts that the events bring along."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from subledger.core.pricing.exact import (
    SCALE,
    Priced,
    Sheet,
    check_bound,
    check_flat,
    check_unit_amount,
    scaled,
)
from subledger.core.pricing.usage import Usage

_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Flat:
    """The same amount whatever the quantity."""

    amount_minor: int

    def __post_init__(self) -> None:
        check_flat(self.amount_minor)

    def priced(self, usage: Usage) -> Priced:
        sheet = Sheet()
        sheet.flat("flat", self.amount_minor)
        return sheet.priced()


@dataclass(frozen=True, slots=True)
class PerUnit:
    """So much for each unit; the unit amount may have decimals of a minor unit."""

    unit_amount: Decimal

    def __post_init__(self) -> None:
        check_unit_amount(self.unit_amount)

    def priced(self, usage: Usage) -> Priced:
        sheet = Sheet()
        sheet.add("per_unit", scaled(usage.units()), self.unit_amount)
        return sheet.priced()


class Started(StrEnum):
    """What a package that was only started counts."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Package:
    """So much for each package of ``size`` units, after ``free_units``.

    A started package counts whole by default (conformance README, "started packages"), or not at
    all with ``Started.DOWN``.
    """

    size: Decimal
    package_amount: Decimal
    free_units: Decimal = _ZERO
    started: Started = Started.UP

    def __post_init__(self) -> None:
        check_bound(self.size, pointer="/size")
        check_unit_amount(self.package_amount, pointer="/package_amount")
        if self.free_units:
            check_bound(self.free_units, pointer="/free_units")

    def priced(self, usage: Usage) -> Priced:
        units, free, size = scaled(usage.units()), scaled(self.free_units), scaled(self.size)
        sheet = Sheet()
        if free:
            sheet.add("free", min(units, free), _ZERO)
        over = max(units - free, 0)
        packages = over // size if self.started is Started.DOWN else -(-over // size)
        sheet.add("package", packages * SCALE, self.package_amount)
        return sheet.priced()


@dataclass(frozen=True, slots=True)
class Dynamic:
    """The amounts that the events carry (minor units), times a multiplier."""

    multiplier: Decimal = Decimal(1)

    def __post_init__(self) -> None:
        check_unit_amount(self.multiplier, pointer="/multiplier")

    def priced(self, usage: Usage) -> Priced:
        sheet = Sheet()
        sheet.add("event_amounts", usage.amount_scaled(), self.multiplier)
        return sheet.priced()


@dataclass(frozen=True, slots=True)
class Commitment:
    """A minimum for all that a period's other prices charge; what is missing is its price (Lago's
    minimum commitment, Orb's minimums: a true-up at the period's end)."""

    commitment_minor: int

    def __post_init__(self) -> None:
        check_flat(self.commitment_minor, pointer="/commitment_minor")

    def priced(self, usage: Usage) -> Priced:
        """The quantity of ``usage`` is what was charged (whole minor units)."""
        return self.missing(int(usage.units()), Fraction(1))

    def missing(self, charged_minor: int, fraction: Fraction) -> Priced:
        """What is missing to the minimum, agreed for ``fraction`` of the period; never less than
        zero. What was charged above it is a step of its own."""
        sheet = Sheet()
        sheet.times("minimum", fraction, self.commitment_minor)
        sheet.times("charged", -1, charged_minor)
        if sheet.amount < 0:
            sheet.times("above_minimum", 1, -sheet.amount)
        return sheet.priced()
