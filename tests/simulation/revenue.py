"""Naive revenue: of each line that stands, the days that are over (by UTC) are delivered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from fractions import Fraction
from typing import Any

from tests.simulation.told import Line, Papers

NEVER = frozenset({"draft", "void"})


def earned(papers: Papers, balances: Sequence[Mapping[str, Any]], now_at: datetime) -> list[str]:
    """What the books call revenue and deferred revenue, against a count of days. What was billed
    today for days that are over is recognized by tomorrow's start: it may be there already."""
    standing = [each for each in papers.lines if each.status not in NEVER]
    nets = sum(each.net_minor - each.noted_net_minor for each in standing)
    least = most = 0
    for each in standing:
        amount = _delivered(each, now_at)
        fresh = each.billed_at is not None and each.billed_at.date() == now_at.date()
        least += min(amount, 0) if fresh else amount
        most += max(amount, 0) if fresh else amount
    booked = {
        account["account"]: -account["balance_minor"]
        for each in balances
        for account in each["accounts"]
    }
    revenue, deferred = (booked.get(name, 0) for name in ("revenue", "deferred_revenue"))
    wrong = []
    if not least <= revenue <= most:
        wrong.append(f"revenue: booked {revenue}, by days {least} to {most}")
    if revenue + deferred != nets:
        wrong.append(f"revenue {revenue} and deferred {deferred} are not the lines' {nets}")
    return wrong


def _delivered(line: Line, now_at: datetime) -> int:
    net = line.net_minor - line.noted_net_minor
    if line.end_at <= now_at:
        return net
    start, end = line.start_at.date(), line.end_at.date()
    whole, over = (end - start).days, max((now_at.date() - start).days, 0)
    if not whole:
        return 0
    rounded = int(Fraction(abs(net) * min(over, whole), whole) + Fraction(1, 2))
    return rounded if net > 0 else -rounded
