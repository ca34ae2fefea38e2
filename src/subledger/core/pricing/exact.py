"""Exact arithmetic for prices: decimals as integers of 10^-12, sums as steps.

``Decimal`` arithmetic rounds to 28 digits by default; integers and fractions never do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from subledger.core.errors import InvalidPrice, InvalidQuantity
from subledger.core.money import LIMIT_MINOR

QUANTITY_DIGITS = 38
MOST_DECIMALS = 12
SCALE: int = 10**MOST_DECIMALS
_SCALE_SQUARED = SCALE * SCALE


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a computation: ``quantity`` times ``unit_amount`` is ``amount``, in every step.

    ``kind`` says what was counted (``per_unit``, ``flat``, ``package``, …). Numbers are texts,
    decimal (``"0.35"``) or, where no decimal is exact, fractions (``"1/3"``); amounts are minor
    units. ``part`` is the tier it belongs to (counted from 1) or the combination of dimensions
    (``/eu/small``), ``minimum`` for a true-up, and empty where the price has no parts.
    """

    kind: str
    quantity: str
    unit_amount: str
    amount: str
    part: str = ""


@dataclass(frozen=True, slots=True)
class Priced:
    """The exact amount (minor units, unrounded) and how it came about: the sum of the steps."""

    amount: int | Fraction
    steps: tuple[Step, ...]


NOTHING = Priced(0, ())


class Sheet:
    """Collects the steps of one price and their sum."""

    __slots__ = ("amount", "steps")

    def __init__(self) -> None:
        self.amount: int | Fraction = 0
        self.steps: list[Step] = []

    def add(self, kind: str, units: int, unit_amount: Decimal, part: str = "") -> None:
        """So many units (in 10^-12) at so much (minor units)."""
        amount = ratio(units * scaled(unit_amount), _SCALE_SQUARED)
        self.amount += amount
        self.steps.append(
            Step(kind, units_text(units), decimal_text(unit_amount), exact_text(amount), part)
        )

    def flat(self, kind: str, amount_minor: int, part: str = "") -> None:
        """An amount that is due once."""
        self.amount += amount_minor
        text = str(amount_minor)
        self.steps.append(Step(kind, "1", text, text, part))

    def times(
        self, kind: str, quantity: int | Fraction, unit_amount: int | Fraction, part: str = ""
    ) -> None:
        """As ``add``, for numbers that need not be decimals."""
        amount = plain(Fraction(quantity) * unit_amount)
        self.amount += amount
        self.steps.append(
            Step(kind, number_text(quantity), number_text(unit_amount), exact_text(amount), part)
        )

    def priced(self) -> Priced:
        return Priced(plain(self.amount), tuple(self.steps))


def scaled(value: Decimal) -> int:
    """A decimal of at most 12 decimals as an integer of 10^-12."""
    numerator, denominator = value.as_integer_ratio()
    return numerator * (SCALE // denominator)


def unscaled(units: int) -> Decimal:
    """The decimal of an integer of 10^-12, without rounding."""
    return Decimal(units_text(units))


def sum_scaled(values: Iterable[Decimal]) -> int:
    """The exact sum in 10^-12."""
    return sum(map(scaled, values))


def ratio(numerator: int, denominator: int) -> int | Fraction:
    whole, rest = divmod(numerator, denominator)
    return Fraction(numerator, denominator) if rest else whole


def plain(value: int | Fraction) -> int | Fraction:
    """The same number, an ``int`` if it is whole."""
    return value.numerator if value.denominator == 1 else value


def exact_text(value: int | Fraction) -> str:
    """An exact number as text: ``12`` or ``"25/2"``."""
    return str(value)


def units_text(units: int) -> str:
    """An integer of 10^-12 as a plain decimal."""
    whole, rest = divmod(abs(units), SCALE)
    sign = "-" if units < 0 else ""
    return f"{sign}{whole}" + (f".{rest:0{MOST_DECIMALS}d}".rstrip("0") if rest else "")


def number_text(value: int | Fraction) -> str:
    """A decimal where at most 24 decimals are exact, else a fraction."""
    if value.denominator == 1:
        return str(value.numerator)
    if _SCALE_SQUARED % value.denominator:
        return str(value)
    whole, rest = divmod(
        abs(value.numerator) * (_SCALE_SQUARED // value.denominator), _SCALE_SQUARED
    )
    sign = "-" if value < 0 else ""
    return f"{sign}{whole}." + f"{rest:0{2 * MOST_DECIMALS}d}".rstrip("0")


def decimal_text(value: Decimal) -> str:
    """Plain digits without trailing zeros: ``0.5`` for ``Decimal("5.0E-1")``."""
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def check_quantity(quantity: Decimal, *, pointer: str = "/quantity") -> Decimal:
    """The quantity itself. Raises InvalidQuantity for NaN, negatives and over 38 digits."""
    if not quantity.is_finite() or quantity < 0:
        raise InvalidQuantity(
            "a quantity is a number, zero or more", pointer=pointer, fix="Use a plain number."
        )
    if not _few_digits(quantity):
        raise InvalidQuantity(
            f"a quantity has at most {QUANTITY_DIGITS} digits, {MOST_DECIMALS} of them decimals",
            pointer=pointer,
            fix="Round the quantity, or count in larger units.",
        )
    return quantity


def check_change(quantity: Decimal, *, pointer: str) -> Decimal:
    """As ``check_quantity``, for what may also be taken away."""
    if not quantity.is_finite():
        raise InvalidQuantity("a change is a number", pointer=pointer, fix="Use a plain number.")
    check_quantity(quantity.copy_abs(), pointer=pointer)
    return quantity


def check_bound(value: Decimal, *, pointer: str) -> None:
    """Raises InvalidPrice unless ``value`` is a quantity above zero."""
    if not value.is_finite() or value <= 0 or not _few_digits(value):
        raise InvalidPrice(
            f"a quantity above zero, of at most {QUANTITY_DIGITS} digits, {MOST_DECIMALS} of them "
            "decimals, is needed here",
            pointer=pointer,
            fix='Use a decimal text such as "1000".',
        )


def check_unit_amount(value: Decimal, *, pointer: str = "/unit_amount") -> None:
    """Raises InvalidPrice for NaN, negatives, over 10^15 minor units and over 12 decimals."""
    if not value.is_finite() or not 0 <= value <= LIMIT_MINOR:
        raise InvalidPrice(
            "a unit amount lies between 0 and 10^15 minor units",
            pointer=pointer,
            fix='Use a decimal text of minor units such as "0.05".',
        )
    # Without a bound "1e-999999" makes an exact fraction of a million digits.
    if _decimals(value) > MOST_DECIMALS:
        raise InvalidPrice(
            f"a unit amount has at most {MOST_DECIMALS} decimals",
            pointer=pointer,
            fix="Round the unit amount, or price a larger unit.",
        )


def check_flat(amount_minor: int, *, pointer: str = "/amount_minor") -> None:
    """Raises InvalidPrice outside 0 … 10^15 minor units."""
    if not 0 <= amount_minor <= LIMIT_MINOR:
        raise InvalidPrice(
            "a flat price lies between 0 and 10^15 minor units",
            pointer=pointer,
            fix="Use a non-negative amount; give money back by a discount.",
        )


MOST_PERCENT = 1000


def check_percent(value: Decimal, *, pointer: str = "/rate_percent") -> None:
    """Raises InvalidPrice outside 0 … 1000 and for over 12 decimals."""
    if not value.is_finite() or not 0 <= value <= MOST_PERCENT or _decimals(value) > MOST_DECIMALS:
        raise InvalidPrice(
            f"a rate lies between 0 and {MOST_PERCENT} percent and has at most {MOST_DECIMALS} "
            "decimals",
            pointer=pointer,
            fix='Use a decimal text of percent such as "2.9".',
        )


def _few_digits(value: Decimal) -> bool:
    _, digits, power = value.as_tuple()
    assert isinstance(power, int), "finite"
    before, after = max(len(digits) + power, 0), max(-power, 0)
    return before + after <= QUANTITY_DIGITS and after <= MOST_DECIMALS


def _decimals(value: Decimal) -> int:
    power = value.as_tuple().exponent
    assert isinstance(power, int), "finite"
    return max(-power, 0)
