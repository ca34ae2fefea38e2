"""Price models: exact amounts in minor units, unrounded, with the steps that made them."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from subledger.core.errors import InvalidPrice, InvalidQuantity
from subledger.core.money import LIMIT_MINOR

QUANTITY_DIGITS = 38
MOST_DECIMALS = 12


@dataclass(frozen=True, slots=True)
class Flat:
    """The same amount whatever the quantity."""

    amount_minor: int

    def __post_init__(self) -> None:
        if not 0 <= self.amount_minor <= LIMIT_MINOR:
            raise InvalidPrice(
                "a flat price lies between 0 and 10^15 minor units",
                pointer="/amount_minor",
                fix="Use a non-negative amount; give money back by a discount.",
            )


@dataclass(frozen=True, slots=True)
class PerUnit:
    """So much for each unit; the unit amount may have decimals of a minor unit."""

    unit_amount: Decimal

    def __post_init__(self) -> None:
        if not self.unit_amount.is_finite() or not 0 <= self.unit_amount <= LIMIT_MINOR:
            raise InvalidPrice(
                "a unit amount lies between 0 and 10^15 minor units",
                pointer="/unit_amount",
                fix='Use a decimal text of minor units such as "0.05".',
            )
        # Without a bound "1e-999999" makes an exact fraction of a million digits.
        if _decimals(self.unit_amount) > MOST_DECIMALS:
            raise InvalidPrice(
                f"a unit amount has at most {MOST_DECIMALS} decimals",
                pointer="/unit_amount",
                fix="Round the unit amount, or price a larger unit.",
            )


PriceModel = Flat | PerUnit


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a computation: so many units at so much, or a flat part."""

    kind: str
    quantity: str
    unit_amount: str
    amount: str


@dataclass(frozen=True, slots=True)
class Priced:
    """The exact amount (minor units, unrounded) and how it came about."""

    amount: int | Fraction
    steps: tuple[Step, ...]


def check_quantity(quantity: Decimal, *, pointer: str = "/quantity") -> Decimal:
    """The quantity itself. Raises InvalidQuantity for NaN, negatives and over 38 digits."""
    if not quantity.is_finite() or quantity < 0:
        raise InvalidQuantity(
            "a quantity is a number, zero or more", pointer=pointer, fix="Use a plain number."
        )
    _, digits, power = quantity.as_tuple()
    assert isinstance(power, int)
    before, after = max(len(digits) + power, 0), max(-power, 0)
    if before + after > QUANTITY_DIGITS or after > MOST_DECIMALS:
        raise InvalidQuantity(
            f"a quantity has at most {QUANTITY_DIGITS} digits, {MOST_DECIMALS} of them decimals",
            pointer=pointer,
            fix="Round the quantity, or count in larger units.",
        )
    return quantity


def _decimals(value: Decimal) -> int:
    power = value.as_tuple().exponent
    assert isinstance(power, int), "finite"
    return max(-power, 0)


def price(model: PriceModel, quantity: Decimal) -> Priced:
    """What ``quantity`` costs under ``model``: exact, with one step per part of the price.

    Raises InvalidQuantity as ``check_quantity`` does, also where the price does not depend on it.
    """
    check_quantity(quantity)
    match model:
        case Flat(amount_minor):
            amount = str(amount_minor)
            return Priced(amount_minor, (Step("flat", "1", amount, amount),))
        case PerUnit(unit_amount):
            exact = Fraction(unit_amount) * Fraction(quantity)
            plain = exact.numerator if exact.denominator == 1 else exact
            step = Step("per_unit", _plain(quantity), _plain(unit_amount), exact_text(exact))
            return Priced(plain, (step,))


def exact_text(value: int | Fraction) -> str:
    """An exact number as text: ``12`` or ``"25/2"``."""
    return str(value)


def _plain(value: Decimal) -> str:
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
