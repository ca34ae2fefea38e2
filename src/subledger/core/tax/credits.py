"""The tax of a credit: from what the original line has stored, never from today's rates."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from subledger.core.errors import CreditExceedsLine, InvalidTax
from subledger.core.money import check_amount
from subledger.core.pricing import exact_text
from subledger.core.tax.amounts import RateTax, Ties, rounded_ratio


@dataclass(frozen=True, slots=True)
class StoredTax:
    """What an invoiced line keeps of one rate: the line's amount as it was given (net, or gross of
    an inclusive line), the tax in whole minor units, and the exact tax less that.

    Raises InvalidTax if the residue is a unit or more, or if tax and amount have other signs.
    """

    amount_minor: int
    tax_minor: int
    residue: Fraction

    def __post_init__(self) -> None:
        check_amount(self.amount_minor, pointer="/amount_minor")
        if not -1 < self.residue < 1:
            raise InvalidTax(
                "a residue is less than one minor unit", pointer="/residue",
                fix="Give the exact tax less the rounded one.",
            )  # fmt: skip
        sign = -1 if self.amount_minor < 0 else 1
        if sign * self.tax_minor < 0 or (self.amount_minor == 0 and self.tax_minor):
            raise InvalidTax(
                "a line's tax has the sign of its amount", pointer="/tax_minor",
                fix="Give amount and tax of the same line.",
            )  # fmt: skip

    @classmethod
    def of(cls, amount_minor: int, tax: RateTax) -> StoredTax:
        """From a line that ``compute`` made."""
        return cls(amount_minor, tax.tax_minor, tax.residue)


@dataclass(frozen=True, slots=True)
class CreditTax:
    """The tax that a credit gives back (minor units, with the sign of the original: the credit's
    line carries the opposite), and how it came about."""

    tax_minor: int
    derivation: dict[str, Any]


def credit_tax(
    original: StoredTax,
    *,
    credited_minor: int,
    already_credited_minor: int,
    already_credited_tax_minor: int,
    ties: Ties = Ties.HALF_UP,
) -> CreditTax:
    """The tax of crediting ``credited_minor`` of a line after earlier credits.

    All amounts have the sign of the original's and are measured as it is (net, or gross of an
    inclusive line). The tax of all credits so far is the exact tax in proportion, rounded, at most
    the line's tax, and exactly that once the whole line is credited; this credit's is the
    difference to the earlier ones', never against their direction. Raises CreditExceedsLine if
    more would be credited than was charged, amount or tax, or if a sign differs.
    """
    sign = -1 if original.amount_minor < 0 else 1
    amount, tax = sign * original.amount_minor, sign * original.tax_minor
    before, before_tax = sign * already_credited_minor, sign * already_credited_tax_minor
    through = before + sign * credited_minor
    if before < 0 or sign * credited_minor < 0 or through > amount:
        raise CreditExceedsLine(
            f"{credited_minor} after {already_credited_minor} is more than is left of "
            f"{original.amount_minor}",
            pointer="/credited_minor",
            fix="Credit at most what is left, with the sign of the original.",
        )
    if not 0 <= before_tax <= tax:
        raise CreditExceedsLine(
            f"earlier credits gave back {already_credited_tax_minor} of a tax of "
            f"{original.tax_minor}",
            pointer="/already_credited_tax_minor",
            fix="Give the sum of the earlier credits' taxes, with the sign of the original.",
        )
    exact = tax + sign * original.residue
    if through == amount:
        reached = tax
    else:
        part = exact * Fraction(through, amount)
        reached = min(max(rounded_ratio(part.numerator, part.denominator, ties), 0), tax)
    given = sign * max(reached - before_tax, 0)
    return CreditTax(
        tax_minor=given,
        derivation={
            "kind": "credit_tax",
            "original_minor": original.amount_minor,
            "original_tax_minor": original.tax_minor,
            "original_residue": exact_text(original.residue),
            "already_credited_minor": already_credited_minor,
            "already_credited_tax_minor": already_credited_tax_minor,
            "credited_minor": credited_minor,
            "through_minor": sign * through,
            "through_tax_minor": sign * reached,
            "ties": ties.value,
            "tax_minor": given,
        },
    )
