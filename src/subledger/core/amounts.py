"""The parts of an amount that is billed or given back."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Amounts:
    """The parts of a line (minor units). Net is gross less discount less the tax that the gross
    contains; the total is net and tax."""

    gross_minor: int = 0
    discount_minor: int = 0
    net_minor: int = 0
    tax_minor: int = 0

    @property
    def priced_minor(self) -> int:
        """Gross less discount: what the taxes are measured by."""
        return self.gross_minor - self.discount_minor

    @property
    def tax_included_minor(self) -> int:
        """The tax that the gross contains."""
        return self.gross_minor - self.discount_minor - self.net_minor

    @property
    def total_minor(self) -> int:
        """Net and tax."""
        return self.net_minor + self.tax_minor

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(
            self.gross_minor + other.gross_minor,
            self.discount_minor + other.discount_minor,
            self.net_minor + other.net_minor,
            self.tax_minor + other.tax_minor,
        )

    def __neg__(self) -> Amounts:
        return Amounts(-self.gross_minor, -self.discount_minor, -self.net_minor, -self.tax_minor)

    def __sub__(self, other: Amounts) -> Amounts:
        return self + -other

    def within(self, left: Amounts) -> Amounts:
        """As much of this as ``left`` holds, in gross, in net and in tax; never below zero."""
        gross = max(min(self.gross_minor, left.gross_minor), 0)
        included = max(min(self.tax_included_minor, left.tax_included_minor, gross), 0)
        net = max(min(self.net_minor, left.net_minor, gross - included), 0)
        tax = max(min(self.tax_minor, left.tax_minor), 0)
        return Amounts(gross, gross - included - net, net, tax)


NOTHING = Amounts()
