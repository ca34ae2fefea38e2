"""Discounts: percentages first, then fixed amounts, each on what is left, never below zero.

Within a kind the larger comes first (of equal ones, by id), so that a result does not depend on
the order of attachment (conformance README, "coupon order"), and what is left over for a later
period is the smaller one. An invoice-level amount is split over the lines by largest
remainder, so that the lines' parts sum to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Any

from subledger.core.errors import InvalidDiscount
from subledger.core.money import LIMIT_MINOR, allocate, exponent, round_half_up

MOST_DECIMALS = 12


class Kind(StrEnum):
    PERCENT = "percent"
    FIXED = "fixed"


class Duration(StrEnum):
    """For how many periods a discount is taken."""

    ONCE = "once"
    PERIODS = "periods"
    FOREVER = "forever"


@dataclass(frozen=True, slots=True)
class Discount:
    """A discount and for how long it runs. ``id`` is opaque text.

    Raises InvalidDiscount for a percentage outside 0…100, a negative or missing amount, a fixed
    amount without currency, or ``periods`` below one; UnknownCurrency for its currency.
    """

    id: str
    kind: Kind
    percent: Decimal | None
    amount_minor: int | None
    currency: str | None
    duration: Duration
    periods: int | None

    def __post_init__(self) -> None:
        if self.kind is Kind.PERCENT and (
            self.percent is None or not self.percent.is_finite() or not 0 < self.percent <= 100
        ):
            raise InvalidDiscount(
                "a percentage lies above 0 and up to 100", pointer="/percent", fix='Use "12.5".'
            )
        # As for prices: "1e-999999" would make an exact fraction of a million digits.
        if self.percent is not None and _decimals(self.percent) > MOST_DECIMALS:
            raise InvalidDiscount(
                f"a percentage has at most {MOST_DECIMALS} decimals",
                pointer="/percent",
                fix='Use "12.5".',
            )
        if self.currency is not None:
            exponent(self.currency)
        if self.kind is Kind.FIXED and (
            self.amount_minor is None
            or not 0 < self.amount_minor <= LIMIT_MINOR
            or self.currency is None
        ):
            raise InvalidDiscount(
                "a fixed discount has a positive amount and a currency",
                pointer="/amount_minor",
                fix="Give amount_minor and currency.",
            )
        if self.duration is Duration.PERIODS and (self.periods is None or self.periods < 1):
            raise InvalidDiscount(
                "a discount for n periods needs n", pointer="/periods", fix="Give periods >= 1."
            )


def _decimals(value: Decimal) -> int:
    power = value.as_tuple().exponent
    return max(-power, 0) if isinstance(power, int) else 0


def applies(discount: Discount, used_periods: int) -> bool:
    """True if the discount still has a period to give after ``used_periods``."""
    match discount.duration:
        case Duration.ONCE:
            return used_periods < 1
        case Duration.PERIODS:
            return used_periods < (discount.periods or 0)
        case Duration.FOREVER:
            return True


@dataclass(frozen=True, slots=True)
class Applied:
    """What discounts took: per line (minor units, not negative), the steps, and who was used."""

    by_line_minor: tuple[int, ...]
    steps: tuple[tuple[dict[str, Any], ...], ...]
    used: tuple[str, ...]


def apply(discounts: Sequence[Discount], gross_minor: Sequence[int], *, currency: str) -> Applied:
    """Take discounts off lines of one invoice.

    Percentages are taken per line and rounded half up per line; fixed amounts are taken off the
    invoice and split. A fixed discount in another currency is passed over. A discount that takes
    nothing is not used up. Discounts never exceed the line. Raises InvalidDiscount if one comes
    twice, since it would use up two periods in one.
    """
    if len({each.id for each in discounts}) < len(discounts):
        raise InvalidDiscount(
            "a discount is taken once in a period", fix="Attach each discount only once."
        )
    left = list(gross_minor)
    steps: list[list[dict[str, Any]]] = [[] for _ in left]
    used = []
    for discount in sorted(discounts, key=order):
        if discount.kind is Kind.FIXED and discount.currency != currency:
            continue
        base = [max(each, 0) for each in left]
        if sum(base) == 0:
            break
        if discount.kind is Kind.PERCENT:
            assert discount.percent is not None
            rate = Fraction(discount.percent) * Fraction(1, 100)
            taken = [min(round_half_up(each * rate), each) for each in base]
        else:
            assert discount.amount_minor is not None
            taken = allocate(min(discount.amount_minor, sum(base)), base)
        if any(taken):
            used.append(discount.id)
        for line, amount in enumerate(taken):
            if amount == 0:
                continue
            steps[line].append(step(discount, base_minor=left[line], amount_minor=amount))
            left[line] -= amount
    return Applied(
        by_line_minor=tuple(g - rest for g, rest in zip(gross_minor, left, strict=True)),
        steps=tuple(tuple(each) for each in steps),
        used=tuple(used),
    )


def order(discount: Discount) -> tuple[bool, Decimal | int, str]:
    """Sorts discounts as they are taken."""
    if discount.kind is Kind.PERCENT:
        return False, -(discount.percent or 0), discount.id
    return True, -(discount.amount_minor or 0), discount.id


def step(discount: Discount, *, base_minor: int, amount_minor: int) -> dict[str, Any]:
    """What a line's derivation says of a discount."""
    told: dict[str, Any] = {
        "discount_id": discount.id,
        "kind": discount.kind.value,
        "base_minor": base_minor,
        "amount_minor": amount_minor,
    }
    if discount.percent is not None:
        told["percent"] = format(discount.percent.normalize(), "f")
    return told
