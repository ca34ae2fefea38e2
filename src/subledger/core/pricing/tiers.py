"""Prices by tiers of the quantity: graduated, volume and stairstep.

Tiers are continuous: each begins where the one before ends, so that 100.5 units never fall between
100 and 101 (conformance README, "tier bounds").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from subledger.core.errors import InvalidPrice
from subledger.core.pricing.exact import (
    NOTHING,
    Priced,
    Sheet,
    check_bound,
    check_flat,
    check_unit_amount,
    scaled,
)
from subledger.core.pricing.usage import Usage

MOST_TIERS = 100

_ZERO = Decimal(0)


class Bounds(StrEnum):
    """Which tier the bound itself belongs to."""

    UP_TO = "up_to"
    """The lower one: 100 units are within "up to 100"."""
    FROM = "from"
    """The upper one: 100 units are within "from 100" (Meteroid)."""


@dataclass(frozen=True, slots=True)
class Tier:
    """A tier up to a quantity (None: open), with its price per unit and its flat part."""

    up_to: Decimal | None
    unit_amount: Decimal = _ZERO
    flat_minor: int = 0

    def __post_init__(self) -> None:
        if self.up_to is not None:
            check_bound(self.up_to, pointer="/up_to")
        check_unit_amount(self.unit_amount)
        check_flat(self.flat_minor, pointer="/flat_minor")


class Bounded(Protocol):
    """Anything with an upper bound."""

    @property
    def up_to(self) -> Decimal | None: ...


def upper_bounds(starts: Sequence[Decimal]) -> tuple[Decimal | None, ...]:
    """The upper bounds of tiers that are given by where they start. Raises InvalidPrice unless
    the first starts at zero."""
    if starts and starts[0] != 0:
        raise InvalidPrice(
            "the first tier starts at zero", pointer="/tiers/0/from", fix='Use "0" there.'
        )
    return (*starts[1:], None)


def check_tiers(tiers: Sequence[Bounded]) -> None:
    """Raises InvalidPrice for none or over 100 tiers, for bounds that do not rise, and for a last
    tier with a bound, which would give away what lies above."""
    check_tier_count(len(tiers))
    lower = _ZERO
    for place, tier in enumerate(tiers[:-1]):
        if tier.up_to is None or tier.up_to <= lower:
            raise InvalidPrice(
                "only the last tier is open" if tier.up_to is None else "tier bounds rise",
                pointer=f"/tiers/{place}/up_to",
                fix=f"Use a bound above {lower:f}.",
            )
        lower = tier.up_to
    if tiers[-1].up_to is not None:
        raise InvalidPrice(
            "the last tier is open",
            pointer=f"/tiers/{len(tiers) - 1}/up_to",
            fix="Leave its bound out; most_quantity refuses quantities that are not sold.",
        )


def check_tier_count(count: int) -> None:
    """Raises InvalidPrice unless there are 1 to 100 tiers."""
    if not 1 <= count <= MOST_TIERS:
        raise InvalidPrice(
            f"a price has 1 to {MOST_TIERS} tiers", pointer="/tiers", fix="Use fewer tiers."
        )


def tier_of(tiers: Sequence[Bounded], quantity: Decimal, bounds: Bounds) -> int:
    """The place (from 0) of the tier that a quantity falls in."""
    for place, tier in enumerate(tiers):
        if (
            tier.up_to is None
            or quantity < tier.up_to
            or (quantity == tier.up_to and bounds is Bounds.UP_TO)
        ):
            return place
    raise AssertionError("the last tier is open")


def slices(tiers: Sequence[Bounded], units: int, bounds: Bounds) -> Iterable[tuple[int, int]]:
    """The tiers that a quantity (in 10^-12) reaches: place from 0, and its units within. The
    first tier is always reached."""
    lower = 0
    for place, tier in enumerate(tiers):
        if place and (units < lower or (units == lower and bounds is Bounds.UP_TO)):
            return
        upper = units if tier.up_to is None else min(units, scaled(tier.up_to))
        yield place, upper - lower
        lower = upper if tier.up_to is None else scaled(tier.up_to)


@dataclass(frozen=True, slots=True)
class Graduated:
    """Each unit at the price of the tier it lies in; the flat part of every tier reached.

    Zero usage costs the flat part of the first tier, unless ``charge_zero`` is False (conformance
    README, "zero usage"). With ``Usage.changes`` the full units walk the tiers up and down, and
    each slice is priced on its prorated units (to 12 decimals); a flat part is due once its tier
    was ever reached; the sum is not below zero (Lago's prorated graduated charge).
    """

    tiers: tuple[Tier, ...]
    bounds: Bounds = Bounds.UP_TO
    charge_zero: bool = True

    def __post_init__(self) -> None:
        check_tiers(self.tiers)

    def priced(self, usage: Usage) -> Priced:
        if usage.changes:
            return self._walked(usage.changes)
        units = 0 if usage.changes is not None else scaled(usage.units())
        if not units and not self.charge_zero:
            return NOTHING
        sheet = Sheet()
        for place, within in slices(self.tiers, units, self.bounds):
            tier, part = self.tiers[place], str(place + 1)
            if tier.flat_minor:
                sheet.flat("flat", tier.flat_minor, part)
            if within or not units:
                sheet.add("per_unit", within, tier.unit_amount, part)
        return sheet.priced()

    def _walked(self, changes: Sequence[tuple[Decimal, Decimal]]) -> Priced:
        uppers = [None if tier.up_to is None else scaled(tier.up_to) for tier in self.tiers]
        prorated = [0] * len(uppers)
        total = peak = 0
        for full, share in changes:
            after = total + scaled(full)
            low, size, units = min(total, after), abs(after - total), scaled(share)
            given = 0
            for place, upper in _crossed(uppers, low, low + size):
                # To 12 decimals, and all of it in the end: exact fractions of thousands of changes
                # would have thousands of digits. Towards zero, so that up and down cancel out.
                until = abs(units) * (upper - low) // size
                prorated[place] += until - given if units > 0 else given - until
                given = until
            total, peak = after, max(peak, after)
        return self._sum_walked(prorated, peak)

    def _sum_walked(self, prorated: Sequence[int], peak: int) -> Priced:
        sheet = Sheet()
        for place, _ in slices(self.tiers, peak, self.bounds):
            tier, part = self.tiers[place], str(place + 1)
            if tier.flat_minor:
                sheet.flat("flat", tier.flat_minor, part)
            if prorated[place]:
                sheet.add("per_unit", prorated[place], tier.unit_amount, part)
        if sheet.amount < 0:
            sheet.times("not_below_zero", -sheet.amount, 1)
        return sheet.priced()


def _crossed(uppers: Sequence[int | None], low: int, high: int) -> Iterable[tuple[int, int]]:
    """The tiers between two running totals: place from 0, and where its slice ends. What lies
    below zero belongs to the first tier."""
    for place, upper in enumerate(uppers):
        if low >= high:
            return
        if upper is None or low < upper:
            low = high if upper is None else min(high, upper)
            yield place, low


@dataclass(frozen=True, slots=True)
class Volume:
    """All units at the price of the tier that the quantity falls in, and that tier's flat part.

    The total may drop where a bound is passed. The tier is chosen by ``Usage.tier_quantity`` where
    it is given. Zero usage costs the flat part of the first tier, unless ``charge_zero`` is False.
    """

    tiers: tuple[Tier, ...]
    bounds: Bounds = Bounds.UP_TO
    charge_zero: bool = True

    def __post_init__(self) -> None:
        check_tiers(self.tiers)

    def priced(self, usage: Usage) -> Priced:
        quantity = usage.units()
        deciding = quantity if usage.tier_quantity is None else usage.tier_quantity
        if not deciding and not self.charge_zero:
            return NOTHING
        place = tier_of(self.tiers, deciding, self.bounds)
        tier, part = self.tiers[place], str(place + 1)
        sheet = Sheet()
        if tier.flat_minor:
            sheet.flat("flat", tier.flat_minor, part)
        sheet.add("per_unit", scaled(quantity), tier.unit_amount, part)
        return sheet.priced()


@dataclass(frozen=True, slots=True)
class Stairstep:
    """The flat amount of the tier that the quantity falls in, whatever lies below it.

    Zero usage costs the first tier's amount, unless ``charge_zero`` is False.
    """

    tiers: tuple[Tier, ...]
    bounds: Bounds = Bounds.UP_TO
    charge_zero: bool = True

    def __post_init__(self) -> None:
        check_tiers(self.tiers)
        for place, tier in enumerate(self.tiers):
            if tier.unit_amount:
                raise InvalidPrice(
                    "a stairstep has no price per unit",
                    pointer=f"/tiers/{place}/unit_amount",
                    fix="Use flat_minor, or a volume price.",
                )

    def priced(self, usage: Usage) -> Priced:
        quantity = usage.units()
        deciding = quantity if usage.tier_quantity is None else usage.tier_quantity
        if not deciding and not self.charge_zero:
            return NOTHING
        place = tier_of(self.tiers, deciding, self.bounds)
        sheet = Sheet()
        sheet.flat("flat", self.tiers[place].flat_minor, str(place + 1))
        return sheet.priced()
