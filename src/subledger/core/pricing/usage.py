"""What was used, in the way that a price model reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from subledger.core.errors import InvalidQuantity
from subledger.core.pricing.exact import check_change, check_quantity, sum_scaled, unscaled

MOST_EVENTS = 1_000_000
MOST_CHANGES = 10_000
MOST_COMBINATIONS = 10_000

_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used, told in one way: a quantity, the amounts of events, quantities per
    combination of dimensions, or changes in time.

    Raises InvalidQuantity for numbers that are none, for two ways at once and for too many.
    """

    quantity: Decimal = _ZERO
    """Units; for percentages and dynamic prices the sum of amounts (minor units)."""
    tier_quantity: Decimal | None = None
    """Full units that choose the tier of a volume price while ``quantity`` is prorated."""
    event_count: int | None = None
    """How many events make up ``quantity``, where their single amounts do not matter."""
    event_amounts: Sequence[Decimal] | None = None
    """The amount of each event in time order (minor units)."""
    by_dimensions: Mapping[tuple[str, ...], Decimal] | None = None
    """Units per combination of values, in the order of the price's dimensions."""
    changes: Sequence[tuple[Decimal, Decimal]] | None = None
    """Changes of a running total in time order: full units and the same prorated."""

    def __post_init__(self) -> None:
        check_quantity(self.quantity)
        details = (self.event_amounts, self.by_dimensions, self.changes)
        if any(each is not None for each in details):
            self._check_details(details)
        if self.tier_quantity is not None:
            check_quantity(self.tier_quantity, pointer="/tier_quantity")
        if self.event_count is not None and self.event_count < 0:
            raise InvalidQuantity(
                "a count of events is zero or more", pointer="/event_count", fix="Use 0 or more."
            )

    def _check_details(self, details: tuple[object, ...]) -> None:
        one = sum(each is not None for each in details) == 1
        if not one or self.quantity or self.tier_quantity is not None or self.event_count:
            raise InvalidQuantity(
                "what was used is told in one way",
                fix="Give a quantity, or event amounts, or quantities by dimensions, or changes.",
            )
        amounts, by_dimensions = self.event_amounts or (), self.by_dimensions or {}
        changes = self.changes or ()
        _few(len(amounts), MOST_EVENTS, "/event_amounts")
        _few(len(by_dimensions), MOST_COMBINATIONS, "/by_dimensions")
        _few(len(changes), MOST_CHANGES, "/changes")
        for place, amount in enumerate(amounts):
            check_quantity(amount, pointer=f"/event_amounts/{place}")
        for quantity in by_dimensions.values():
            check_quantity(quantity, pointer="/by_dimensions")
        for place, (full, prorated) in enumerate(changes):
            check_change(full, pointer=f"/changes/{place}/0")
            check_change(prorated, pointer=f"/changes/{place}/1")
            if not full and prorated:
                raise InvalidQuantity(
                    "a change of no units has no prorated units",
                    pointer=f"/changes/{place}/1",
                    fix="Leave the change out.",
                )

    def units(self) -> Decimal:
        """The quantity. Raises InvalidQuantity if what was used is told in another way."""
        if (
            self.event_amounts is not None
            or self.by_dimensions is not None
            or self.changes is not None
        ):
            raise InvalidQuantity(
                "this price is for a quantity", pointer="/quantity", fix="Give a quantity."
            )
        return self.quantity

    def amount_scaled(self) -> int:
        """The sum of the events' amounts, or the quantity, in 10^-12 minor units."""
        if self.event_amounts is not None:
            return sum_scaled(self.event_amounts)
        return sum_scaled((self.units(),))

    def plus(self, later: Usage) -> Usage:
        """Both together, ``later`` after ``self``. Raises InvalidQuantity if they are told in
        different ways, or if the sum is no longer a quantity."""
        if self._way() != later._way():
            raise InvalidQuantity(
                "usage told in different ways cannot be added", fix="Tell both in one way."
            )
        tiers = (self.tier_quantity, later.tier_quantity)
        counts = (self.event_count, later.event_count)
        both = dict(self.by_dimensions or {})
        for key, quantity in (later.by_dimensions or {}).items():
            both[key] = _sum(both.get(key, _ZERO), quantity)
        return Usage(
            quantity=_sum(self.quantity, later.quantity),
            tier_quantity=None
            if tiers == (None, None)
            else _sum(*(t if t is not None else q.quantity for t, q in zip(tiers, (self, later),
                                                                          strict=True))),
            event_count=None if None in counts else (counts[0] or 0) + (counts[1] or 0),
            event_amounts=None
            if self.event_amounts is None
            else (*self.event_amounts, *(later.event_amounts or ())),
            by_dimensions=None if self.by_dimensions is None else both,
            changes=None if self.changes is None else (*self.changes, *(later.changes or ())),
        )  # fmt: skip

    def _way(self) -> tuple[bool, bool, bool]:
        return (
            self.event_amounts is not None,
            self.by_dimensions is not None,
            self.changes is not None,
        )


def _sum(one: Decimal, other: Decimal) -> Decimal:
    """Exact: ``one + other`` would round to 28 digits."""
    return unscaled(sum_scaled((one, other)))


def _few(count: int, most: int, pointer: str) -> None:
    if count > most:
        raise InvalidQuantity(
            f"at most {most} entries are priced at once",
            pointer=pointer,
            fix="Sum them up first, or price them in parts.",
        )
