"""Money: integers of minor units with their ISO 4217 currency, and exact splitting.

Exponents are those of ISO 4217 list one. Amounts stay within ±10^15 minor units, which fits a
PostgreSQL bigint with room for sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from subledger.core.errors import AmountOutOfRange, CurrencyMismatch, UnknownCurrency

LIMIT_MINOR = 10**15

_NO_DECIMALS = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_THREE_DECIMALS = "BHD IQD JOD KWD LYD OMR TND"
_FOUR_DECIMALS = "CLF UYW"
_TWO_DECIMALS = """
AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF
CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD
GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL
MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR
PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP
TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG
"""

EXPONENTS: dict[str, int] = {
    code: exponent
    for exponent, codes in (
        (0, _NO_DECIMALS),
        (2, _TWO_DECIMALS),
        (3, _THREE_DECIMALS),
        (4, _FOUR_DECIMALS),
    )
    for code in codes.split()
}


def exponent(currency: str) -> int:
    """Decimals of a currency. Raises UnknownCurrency for lower case and for codes not in use."""
    try:
        return EXPONENTS[currency]
    except KeyError:
        raise UnknownCurrency(
            f"{currency!r} is not an active ISO 4217 currency code",
            fix="Use an upper-case code such as EUR.",
        ) from None


def check_amount(amount_minor: int, *, pointer: str = "") -> int:
    """The amount itself. Raises AmountOutOfRange beyond ±10^15 minor units."""
    if not -LIMIT_MINOR <= amount_minor <= LIMIT_MINOR:
        raise AmountOutOfRange(
            "amounts are at most 10^15 minor units", pointer=pointer, fix="Use a smaller amount."
        )
    return amount_minor


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in minor units of one currency."""

    amount_minor: int
    currency: str

    def __post_init__(self) -> None:
        exponent(self.currency)
        check_amount(self.amount_minor)

    def __add__(self, other: Money) -> Money:
        self._same(other)
        return Money(self.amount_minor + other.amount_minor, self.currency)

    def __sub__(self, other: Money) -> Money:
        self._same(other)
        return Money(self.amount_minor - other.amount_minor, self.currency)

    def __neg__(self) -> Money:
        return Money(-self.amount_minor, self.currency)

    def _same(self, other: Money) -> None:
        if self.currency != other.currency:
            raise CurrencyMismatch(
                f"{self.currency} and {other.currency} cannot be added",
                fix="Convert first, or keep two sums.",
            )

    def __str__(self) -> str:
        return f"{format_minor(self.amount_minor, self.currency)} {self.currency}"


def round_half_up(value: int | Fraction | Decimal) -> int:
    """The nearest integer, halves away from zero: 0.5 → 1, −0.5 → −1.

    The convention of all billing systems compared (conformance README, "line rounding").
    """
    if isinstance(value, int):
        return value
    exact = Fraction(value)
    size = (2 * abs(exact.numerator) + exact.denominator) // (2 * exact.denominator)
    return size if exact >= 0 else -size


def allocate(total_minor: int, weights: Sequence[int]) -> list[int]:
    """Split a total in proportion to weights so that the parts sum to it exactly.

    Largest remainder (Hamilton); of equal remainders the earlier part gets the unit first. A
    negative total mirrors the positive one. Equal shares if all weights are zero. Refuses
    negative weights and an empty list (AssertionError: a caller's mistake).
    """
    assert weights, "nothing to allocate to"
    assert all(weight >= 0 for weight in weights), "weights are not negative"
    if total_minor < 0:
        return [-part for part in allocate(-total_minor, weights)]
    whole = sum(weights)
    if whole == 0:
        return allocate(total_minor, [1] * len(weights))
    parts, remainders = [], []
    for place, weight in enumerate(weights):
        part, rest = divmod(total_minor * weight, whole)
        parts.append(part)
        remainders.append((-rest, place))
    for _, place in sorted(remainders)[: total_minor - sum(parts)]:
        parts[place] += 1
    return parts


def format_minor(amount_minor: int, currency: str) -> str:
    """Plain decimal text: 1000 EUR is ``10.00``, 1000 JPY is ``1000``, 1000 KWD ``1.000``."""
    decimals = exponent(currency)
    sign = "-" if amount_minor < 0 else ""
    digits = str(abs(amount_minor)).rjust(decimals + 1, "0")
    return f"{sign}{digits[:-decimals]}.{digits[-decimals:]}" if decimals else f"{sign}{digits}"
