"""Naive revenue: of each line that stands, the days that are over (by UTC) are delivered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

from tests.simulation.told import Fact, Line, Papers

NEVER = frozenset({"draft", "void"})

Standstill = tuple[datetime, datetime | None]
"""A pause that is served later: from, and until (None: it goes on)."""


def standstills(accounts: Iterable[Sequence[Fact]]) -> dict[str, list[Standstill]]:
    """Of each subscription, in their order. One that ended in its pause serves nothing more: there
    its charges and credits are as billed."""
    found: dict[str, list[Standstill]] = {}
    for account in accounts:
        for each in account:
            its = found.setdefault(each.data.get("subscription_id", ""), [])
            if each.kind == "subscription.paused" and each.data["credit"] == "extend":
                its.append((datetime.fromisoformat(each.data["paused_at"]), None))
            elif each.kind == "subscription.resumed" and its and its[-1][1] is None:
                its[-1] = (its[-1][0], datetime.fromisoformat(each.data["resumed_at"]))
            elif each.kind == "subscription.canceled" and its and its[-1][1] is None:
                its.pop()
    return found


def earned(
    papers: Papers,
    balances: Sequence[Mapping[str, Any]],
    now_at: datetime,
    paused: Mapping[str, Sequence[Standstill]],
) -> list[str]:
    """What the books call revenue and deferred revenue, against a count of days. What was billed
    today for days that are over is recognized by tomorrow's start: it may be there already."""
    standing = [each for each in papers.lines if each.status not in NEVER]
    nets = sum(each.net_minor - each.noted_net_minor for each in standing)
    least = most = 0
    for each in standing:
        amounts = _delivered(each, now_at, paused.get(each.subscription_id, ()))
        fresh = each.billed_at is not None and each.billed_at.date() == now_at.date()
        least += min(*amounts, 0) if fresh else min(amounts)
        most += max(*amounts, 0) if fresh else max(amounts)
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


def _delivered(line: Line, now_at: datetime, paused: Sequence[Standstill]) -> tuple[int, int]:
    """By a day less or more for each pause: its days are those of the subscription's zone."""
    net = line.net_minor - line.noted_net_minor
    start, end = line.start_at.date(), line.end_at.date()
    whole, over, slack = (end - start).days, max((now_at.date() - start).days, 0), 0
    ends_at = line.end_at
    for from_at, until_at in paused:
        until = until_at or now_at
        if line.billed_at is None or until < line.billed_at or from_at >= ends_at:
            continue
        if until <= line.start_at:
            continue
        still = (until.date() - from_at.date()).days
        slack, over, ends_at = slack + 1, over - still, ends_at + timedelta(days=still)
    if not slack and line.end_at <= now_at:
        return net, net
    return _share(net, over - slack, whole), _share(net, over + slack, whole)


def _share(net: int, over: int, whole: int) -> int:
    if not whole:
        return net if over > 0 else 0
    rounded = int(Fraction(abs(net) * min(max(over, 0), whole), whole) + Fraction(1, 2))
    return rounded if net > 0 else -rounded
