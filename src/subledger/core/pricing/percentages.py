"""Prices that are a share of amounts of money: per event, or of their sum by tiers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from subledger.core.errors import InvalidPrice, InvalidQuantity
from subledger.core.money import LIMIT_MINOR
from subledger.core.pricing.exact import (
    NOTHING,
    SCALE,
    Priced,
    Sheet,
    check_bound,
    check_flat,
    check_percent,
    check_unit_amount,
    ratio,
    scaled,
)
from subledger.core.pricing.tiers import Bounds, check_tiers, slices
from subledger.core.pricing.usage import MOST_EVENTS, Usage

_ZERO = Decimal(0)
_PERCENT = 100 * SCALE
"""A rate in 10^-12 percent over this is a plain factor."""


@dataclass(frozen=True, slots=True)
class Percentage:
    """A share of each event's amount and a fixed part per event.

    The first ``free_events`` events and the first ``free_total_minor`` of their amounts are free;
    where both are given, until the first of the two runs out. An event that is only partly free
    pays the fixed part. The bounds hold for share and fixed part of each paying event together
    (all as in Lago's percentage charge).
    """

    rate_percent: Decimal
    event_amount: Decimal = _ZERO
    free_events: int | None = None
    free_total_minor: int | None = None
    event_minimum_minor: int | None = None
    event_maximum_minor: int | None = None

    def __post_init__(self) -> None:
        check_percent(self.rate_percent)
        check_unit_amount(self.event_amount, pointer="/event_amount")
        _check_free(self.free_events, MOST_EVENTS, "/free_events")
        _check_free(self.free_total_minor, LIMIT_MINOR, "/free_total_minor")
        low, high = self.event_minimum_minor, self.event_maximum_minor
        if low is not None:
            check_flat(low, pointer="/event_minimum_minor")
        if high is not None:
            check_flat(high, pointer="/event_maximum_minor")
            if (low or 0) > high:
                raise InvalidPrice(
                    "the minimum per event is not above the maximum",
                    pointer="/event_minimum_minor",
                    fix="Use a lower minimum.",
                )

    def priced(self, usage: Usage) -> Priced:
        """Raises InvalidQuantity if it needs the amounts or the count of events and has none."""
        single = (
            self.free_events,
            self.free_total_minor,
            self.event_minimum_minor,
            self.event_maximum_minor,
        )
        if any(each is not None for each in single):
            if usage.event_amounts is None:
                raise _missing("/event_amounts", "the amount of each event")
            return self._by_event(usage.event_amounts)
        count = usage.event_count if usage.event_amounts is None else len(usage.event_amounts)
        if count is None and self.event_amount:
            raise _missing("/event_count", "the number of events")
        sheet = Sheet()
        self._add(sheet, usage.amount_scaled(), count or 0)
        return sheet.priced()

    def _by_event(self, amounts: Sequence[Decimal]) -> Priced:
        free, paying = self._split(amounts)
        rate, fixed = scaled(self.rate_percent), scaled(self.event_amount) * _PERCENT
        low, high = self.event_minimum_minor, self.event_maximum_minor
        # Both in 10^-24 percent of a minor unit, as the product of rate and amount is.
        least = None if low is None else low * SCALE * _PERCENT
        most = None if high is None else high * SCALE * _PERCENT
        within = count = raised = cut = 0
        for amount in paying:
            due = amount * rate + fixed
            if least is not None and due < least:
                raised += 1
            elif most is not None and due > most:
                cut += 1
            else:
                within, count = within + amount, count + 1
        sheet = Sheet()
        if free:
            sheet.add("free", free, _ZERO)
        self._add(sheet, within, count)
        if raised:
            sheet.times("event_minimum", raised, low or 0)
        if cut:
            sheet.times("event_maximum", cut, high or 0)
        return sheet.priced()

    def _split(self, amounts: Sequence[Decimal]) -> tuple[int, list[int]]:
        """The free sum, and what each paying event pays for (in 10^-12 minor units)."""
        total, events = self.free_total_minor, self.free_events
        if total is None and events is None:
            return 0, [scaled(each) for each in amounts]
        room = None if total is None else total * SCALE
        free, paying = 0, []
        for place, amount in enumerate(map(scaled, amounts)):
            if events is not None and place >= events:
                paying.append(amount)
                continue
            taken = amount if room is None else min(amount, room - free)
            free += taken
            if taken < amount:
                paying.append(amount - taken)
        return free, paying

    def _add(self, sheet: Sheet, amount: int, count: int) -> None:
        rate = ratio(scaled(self.rate_percent), _PERCENT)
        sheet.times("percentage", ratio(amount, SCALE), rate)
        if self.event_amount:
            sheet.add("per_event", count * SCALE, self.event_amount)


@dataclass(frozen=True, slots=True)
class RateTier:
    """A tier up to an amount (minor units; None: open), with its rate and its flat part."""

    up_to: Decimal | None
    rate_percent: Decimal
    flat_minor: int = 0

    def __post_init__(self) -> None:
        if self.up_to is not None:
            check_bound(self.up_to, pointer="/up_to")
        check_percent(self.rate_percent)
        check_flat(self.flat_minor, pointer="/flat_minor")


@dataclass(frozen=True, slots=True)
class GraduatedPercentage:
    """The sum of the amounts by tiers, each slice at its tier's rate; the flat part of every tier
    reached. No amount costs the first flat part, unless ``charge_zero`` is False."""

    tiers: tuple[RateTier, ...]
    bounds: Bounds = Bounds.UP_TO
    charge_zero: bool = True

    def __post_init__(self) -> None:
        check_tiers(self.tiers)

    def priced(self, usage: Usage) -> Priced:
        amount = usage.amount_scaled()
        if not amount and not self.charge_zero:
            return NOTHING
        sheet = Sheet()
        for place, within in slices(self.tiers, amount, self.bounds):
            tier, part = self.tiers[place], str(place + 1)
            if tier.flat_minor:
                sheet.flat("flat", tier.flat_minor, part)
            rate: int | Fraction = ratio(scaled(tier.rate_percent), _PERCENT)
            if within or not amount:
                sheet.times("percentage", ratio(within, SCALE), rate, part)
        return sheet.priced()


def _check_free(value: int | None, most: int, pointer: str) -> None:
    if value is not None and not 1 <= value <= most:
        raise InvalidPrice(
            f"an allowance lies between 1 and {most}",
            pointer=pointer,
            fix="Leave it out if nothing is free.",
        )


def _missing(pointer: str, what: str) -> InvalidQuantity:
    return InvalidQuantity(f"this price needs {what}", pointer=pointer, fix="Give it in Usage.")
