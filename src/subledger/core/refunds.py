"""Giving money back: how much can go, what it is taken from, what of the service is unused.

Money that paid for nothing goes back first. The rest is backed by a credit note, so that what was
billed and its tax go back with it, or is taken from credit that the customer has.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction

from subledger.core.errors import InvalidCredit
from subledger.core.money import round_half_up

_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Funds:
    """What there is to give back (minor units, not negative): what the payment captured, what of
    it went back before, what of it paid for nothing, and what a note or credit can back."""

    captured_minor: int
    refunded_minor: int
    unapplied_minor: int
    backed_minor: int

    def __post_init__(self) -> None:
        parts = (self.captured_minor, self.refunded_minor, self.unapplied_minor, self.backed_minor)
        assert min(parts) >= 0, "funds are not negative"

    @property
    def refundable_minor(self) -> int:
        """The most that can go back."""
        left = max(self.captured_minor - self.refunded_minor, 0)
        return min(left, self.unapplied_minor + self.backed_minor)


@dataclass(frozen=True, slots=True)
class Backing:
    """What a refund is taken from (minor units); the parts sum to its amount."""

    unapplied_minor: int
    backed_minor: int

    @property
    def amount_minor(self) -> int:
        return self.unapplied_minor + self.backed_minor


def back(funds: Funds, amount_minor: int | None) -> Backing:
    """What a refund of ``amount_minor`` (None: of all that can go back) is taken from.

    Raises InvalidCredit, with what is left, for nothing and for more than can go back.
    """
    most = funds.refundable_minor
    amount = most if amount_minor is None else amount_minor
    if not 0 < amount <= most:
        raise InvalidCredit(
            f"{most} can be refunded, not {amount}",
            pointer="/amount_minor",
            fix="Refund more than zero and at most what is left.",
            left_minor=most,
        )
    unapplied = min(amount, funds.unapplied_minor)
    return Backing(unapplied_minor=unapplied, backed_minor=amount - unapplied)


@dataclass(frozen=True, slots=True)
class Served:
    """What is left of a line (minor units, with tax) and the time that it pays for."""

    total_minor: int
    start_at: datetime
    end_at: datetime


def unused_minor(lines: Iterable[Served], at: datetime) -> int:
    """What service costs that is not delivered at ``at``: of each line the part of its seconds
    that lie ahead, rounded half up. A line of no length is delivered."""
    total = 0
    for each in lines:
        seconds = (each.end_at - each.start_at) // _SECOND
        ahead = (each.end_at - max(at, each.start_at)) // _SECOND
        if seconds > 0 and ahead > 0:
            total += round_half_up(each.total_minor * Fraction(ahead, seconds))
    return total
