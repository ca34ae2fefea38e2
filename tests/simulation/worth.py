"""Naive worth: a charge costs about its days' share of the price, whatever led to it.

How long a period is depends on its month, its zone and its anchor, so a share has bounds here and
no exact value: what is wrong by a day's price or more is found.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from tests.simulation.told import Line, Papers

DAYS = {"week": (7, 7), "month": (28, 31)}
_DAY_S = 86_400


@dataclass(frozen=True)
class Price:
    """What a period costs (of one unit, if it is for units), and the days that it may have."""

    amount: Fraction
    is_for_units: bool
    days: tuple[int, int]

    def bounds(self, line: Line) -> tuple[Fraction, Fraction]:
        """The least and the most that the line's time may cost."""
        whole = self.amount * (line.quantity if self.is_for_units else 1)
        days = Fraction(int((line.end_at - line.start_at).total_seconds()), _DAY_S)
        shortest, longest = self.days
        least = whole * min(max(days - 1, 0) / longest, 1)
        return least - 1, min(whole * (days + 1) / shortest, whole) + 1


def price_of(told: Mapping[str, Any]) -> Price | None:
    """A price of the catalogue; None for one that is not so simple."""
    if told["model"] not in {"flat", "per_unit"} or told["timing"] == "once":
        return None
    amount = told["unit_amount"] if told["model"] == "per_unit" else told["amount_minor"]
    days = DAYS[told["interval"]["unit"]]
    return Price(Fraction(str(amount)), told["model"] == "per_unit", days)


def about_right(papers: Papers, prices: Mapping[str, Price], subscriptions: Set[str]) -> list[str]:
    """Of ``subscriptions`` with no first period of their own, whose time was never extended."""
    wrong = []
    for line in papers.lines:
        price = prices.get(line.price_id)
        if line.kind != "charge" or price is None or line.subscription_id not in subscriptions:
            continue
        least, most = price.bounds(line)
        if not least <= line.gross_minor <= most:
            wrong.append(f"{line} costs neither {float(least):.2f} nor up to {float(most):.2f}")
    return wrong
