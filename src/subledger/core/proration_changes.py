"""Changes within a period: credit what is left of what was billed, charge the rest anew.

A credit is taken from what was billed net of discounts and over the time that it was billed for,
so it never exceeds what was billed and no discount is taken twice (conformance README, "cap of a
credit"). How much of a period a part takes is ``proration``'s.

Each line is rounded once, half away from zero. So a change and its undoing net to zero at the same
moment, and any run of changes stays within one minor unit per line of the exact amount.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Any

from subledger.core.calendar import Period
from subledger.core.errors import InvalidProration
from subledger.core.money import LIMIT_MINOR
from subledger.core.pricing import exact_text
from subledger.core.proration import (
    BY_DAY,
    Mode,
    Prorated,
    Share,
    charged_until,
    overlap,
    prorate,
    share,
)

MOST_LINES = 1_000


@dataclass(frozen=True, slots=True)
class Billed:
    """What stands billed of one price for a stretch of time (minor units).

    ``credited_minor``: given back before in other ways; ``paid_minor``: if given, no more than
    that less ``credited_minor`` is credited. Raises InvalidProration for negative amounts or a
    discount above the gross.
    """

    price_id: str
    period: Period
    gross_minor: int
    discount_minor: int = 0
    credited_minor: int = 0
    paid_minor: int | None = None

    def __post_init__(self) -> None:
        _check_amounts(self.gross_minor, self.discount_minor)
        if self.credited_minor < 0 or (self.paid_minor is not None and self.paid_minor < 0):
            raise InvalidProration(
                "what was paid or credited is not negative", pointer="/paid_minor", fix="Use 0."
            )

    @property
    def net_minor(self) -> int:
        return self.gross_minor - self.discount_minor

    @property
    def creditable_minor(self) -> int:
        """The most that may still be given back."""
        paid = self.net_minor if self.paid_minor is None else min(self.paid_minor, self.net_minor)
        return max(paid - self.credited_minor, 0)


@dataclass(frozen=True, slots=True)
class Target:
    """What a whole period of a price costs from the change on: exact minor units, before and of
    discounts. ``end_at``: charged to there instead of to the whole's end (a yearly price in a
    monthly period). Raises InvalidProration as ``Billed`` does."""

    price_id: str
    whole: Period
    gross: int | Fraction
    discount: int | Fraction = 0
    end_at: datetime | None = None

    def __post_init__(self) -> None:
        _check_amounts(self.gross, self.discount)


def _check_amounts(gross: int | Fraction, discount: int | Fraction) -> None:
    if not 0 <= discount <= gross <= LIMIT_MINOR:
        raise InvalidProration(
            "0 <= discount <= gross <= 10^15 minor units",
            pointer="/gross",
            fix="Give money back by a credit, not by a negative price.",
        )


@dataclass(frozen=True, slots=True)
class ChangeLine:
    """A ``credit`` (amounts not positive) or a ``charge`` (not negative), in minor units."""

    kind: str
    price_id: str
    period: Period
    gross_minor: int
    discount_minor: int
    derivation: dict[str, Any]

    @property
    def net_minor(self) -> int:
        return self.gross_minor - self.discount_minor


@dataclass(frozen=True, slots=True)
class Change:
    """The lines of a change, and what stands billed after it: the ``billed`` of the next one."""

    lines: tuple[ChangeLine, ...]
    standing: tuple[Billed, ...]

    @property
    def net_minor(self) -> int:
        return sum(each.net_minor for each in self.lines)

    @property
    def due_minor(self) -> int:
        """What is to be paid; nothing if the credits weigh more."""
        return max(self.net_minor, 0)

    @property
    def to_balance_minor(self) -> int:
        """What goes to the customer's balance instead of back ("negative invoice")."""
        return max(-self.net_minor, 0)


def cap_credit(credit_minor: int, *, paid_minor: int, credited_minor: int = 0) -> int:
    """A credit, no more than what was paid less earlier credits ("cap of a credit")."""
    return max(min(credit_minor, paid_minor - credited_minor), 0)


def change_lines(
    at: datetime,
    billed: Sequence[Billed],
    new: Sequence[Target],
    *,
    mode: Mode = BY_DAY,
    timezone: str,
) -> Change:
    """Give back the unused part of what was billed and charge the rest at the new prices.

    Credits first, in the order given; lines of zero are left out. A change before an earlier one
    takes back that one's charges too, since they stand in ``billed``. A quantity is a price like
    any other: give back the old one, charge the new one. Raises InvalidProration above 1000 lines,
    and what ``share`` and ``prorate`` raise.
    """
    if len(billed) + len(new) > MOST_LINES:
        raise InvalidProration(
            f"a change has at most {MOST_LINES} lines", pointer="/lines", fix="Split it."
        )
    lines: list[ChangeLine] = []
    standing: list[Billed] = []
    for each in billed:
        line = _credit(each, at, mode, timezone)
        if line is not None:
            lines.append(line)
        standing += _left(each, line, at)
    for target in new:
        line = _charge(target, at, mode, timezone)
        if line is not None:
            lines.append(line)
            standing.append(
                Billed(target.price_id, line.period, line.gross_minor, line.discount_minor)
            )
    return Change(tuple(lines), tuple(standing))


def cancel_lines(
    at: datetime, billed: Sequence[Billed], *, mode: Mode = BY_DAY, timezone: str
) -> Change:
    """``change_lines`` for an end of use: nothing new, and the last day by the mode's rule."""
    lines: list[ChangeLine] = []
    standing: list[Billed] = []
    for each in billed:
        until = charged_until(at, each.period, mode, timezone)
        change = change_lines(until, (each,), (), mode=mode, timezone=timezone)
        lines += change.lines
        standing += change.standing
    return Change(tuple(lines), tuple(standing))


def _credit(billed: Billed, at: datetime, mode: Mode, timezone: str) -> ChangeLine | None:
    unused = overlap(Period(at, billed.period.end_at), billed.period)
    part = share(unused, billed.period, mode, timezone)
    gross = prorate(billed.gross_minor, part.fraction)
    net = prorate(billed.net_minor, part.fraction) if billed.discount_minor else gross
    if gross.amount_minor == 0:
        return None
    credit_minor = min(net.amount_minor, billed.creditable_minor)
    discount_minor = gross.amount_minor - net.amount_minor
    derivation = _derivation(part, billed.gross_minor, billed.net_minor, gross, net)
    if credit_minor < net.amount_minor:
        derivation["cap_minor"] = billed.creditable_minor
        if credit_minor == 0:
            return None
    return ChangeLine(
        kind="credit",
        price_id=billed.price_id,
        period=unused,
        gross_minor=-credit_minor - discount_minor,
        discount_minor=-discount_minor,
        derivation=derivation,
    )


def _left(billed: Billed, credit: ChangeLine | None, at: datetime) -> tuple[Billed, ...]:
    """What of a billed line stands after its credit: the time before the change."""
    if at >= billed.period.end_at:
        return (billed,)
    if at <= billed.period.start_at:
        return ()
    gross_minor, discount_minor, paid_minor = (
        billed.gross_minor,
        billed.discount_minor,
        billed.paid_minor,
    )
    if credit is not None:
        gross_minor += credit.gross_minor
        discount_minor += credit.discount_minor
        if paid_minor is not None:
            paid_minor += credit.net_minor
    if gross_minor == 0:
        return ()
    used = Period(billed.period.start_at, at)
    return (
        Billed(
            billed.price_id, used, gross_minor, discount_minor, billed.credited_minor, paid_minor
        ),
    )


def _charge(target: Target, at: datetime, mode: Mode, timezone: str) -> ChangeLine | None:
    until = target.whole.end_at if target.end_at is None else target.end_at
    rest = overlap(Period(at, until), target.whole)
    part = share(rest, target.whole, mode, timezone)
    gross = prorate(target.gross, part.fraction)
    full_net = target.gross - target.discount
    net = prorate(full_net, part.fraction) if target.discount else gross
    if gross.amount_minor == 0:
        return None
    return ChangeLine(
        kind="charge",
        price_id=target.price_id,
        period=rest,
        gross_minor=gross.amount_minor,
        discount_minor=gross.amount_minor - net.amount_minor,
        derivation=_derivation(part, target.gross, full_net, gross, net),
    )


def _derivation(
    part: Share,
    full_gross: int | Fraction,
    full_net: int | Fraction,
    gross: Prorated,
    net: Prorated,
) -> dict[str, Any]:
    """gross = full_gross × fraction, net = full_net × fraction, each rounded once; ``exact`` and
    ``residue`` (exact less rounded) are the net's. A credit has these amounts with a minus; with
    ``cap_minor`` its net is that cap, and its gross smaller by as much."""
    return {
        "full_gross": exact_text(full_gross),
        "full_net": exact_text(full_net),
        "fraction": exact_text(part.fraction),
        "proration": part.derivation,
        "rounding": "half_up",
        "gross_minor": gross.amount_minor,
        "net_minor": net.amount_minor,
        "exact": exact_text(net.exact),
        "residue": exact_text(net.residue),
    }
