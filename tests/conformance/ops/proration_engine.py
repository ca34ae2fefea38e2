"""Subscriptions of the cases of proration, as the engine knows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from subledger.core.calendar import Anchor, Interval, Period, Unit
from subledger.core.discounts import Discount, Duration, Kind, Running
from subledger.core.invoicing import draft
from subledger.core.pricing import Flat, PerUnit
from subledger.core.proration import BY_DAY, BY_SECOND, ByTime, Rounds
from subledger.core.timeline import Item, Line, Phase, Timeline
from tests.conformance.case import Unsupported

DAY = timedelta(days=1)
CREDIT_BY_DAY = replace(BY_DAY, rounds=Rounds.CREDIT)
CREDIT_BY_SECOND = replace(BY_SECOND, rounds=Rounds.CREDIT)
"""All of the sources round what they give back."""

Items = tuple[Item, ...]
Off = tuple[Discount, ...]
_UNITS = {"thirty_days": (Unit.DAY, 30)}


def at(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def interval_of(plan: Mapping[str, Any]) -> Interval:
    name = plan.get("interval", "month")
    try:
        unit, count = _UNITS[name] if name in _UNITS else (Unit(name), 1)
    except ValueError:
        raise Unsupported(f"no interval {name}") from None
    return Interval(unit, count * plan.get("interval_count", 1))


def cycle_of(whole: Period) -> tuple[Anchor, Interval]:
    """A cycle whose period 0 is this one."""
    days, rest = divmod(whole.end_at - whole.start_at, DAY)
    if rest or not days:
        raise Unsupported("a cycle has whole days")
    return Anchor(whole.start_at, "UTC"), Interval(Unit.DAY, days)


def known(
    cycle: tuple[Anchor, Interval],
    *phases: tuple[datetime, Items],
    mode: ByTime,
    off: Off = (),
    ended_at: datetime | None = None,
) -> Timeline:
    """A subscription; of two phases that begin together the later holds."""
    anchor, interval = cycle
    return Timeline(
        anchor=anchor,
        interval=interval,
        currency="USD",
        phases=tuple(Phase(from_at, items) for from_at, items in dict(phases).items()),
        attached=tuple(map(Running, off)),
        ended_at=ended_at,
        proration=mode,
    )


def flat(name: str, amount_minor: int, **more: Any) -> Item:
    return Item(name, Flat(amount_minor), Decimal(1), **more)


def seats(name: str, unit_minor: int, quantity: int) -> Item:
    return Item(name, PerUnit(Decimal(unit_minor)), Decimal(quantity))


def change(
    whole: Period,
    when: datetime,
    old: Items,
    new: Items,
    *,
    mode: ByTime,
    off: tuple[Off, Off] = ((), ()),
    periods: int = 1,
) -> list[Line]:
    """What a change adds to what was billed for a period in advance. Where other discounts go with
    the new items than with the old, they are on a subscription of their own."""
    cycle, start_at = cycle_of(whole), whole.start_at
    first = draft(
        known(cycle, (start_at, old), mode=mode, off=off[0]), first_period=0, horizon_at=start_at
    )
    if off[0] == off[1]:
        sides = [known(cycle, (start_at, old), (when, new), mode=mode, off=off[0])]
    else:
        sides = [
            known(cycle, (start_at, old), (when, ()), mode=mode, off=off[0]),
            known(cycle, (start_at, ()), (when, new), mode=mode, off=off[1]),
        ]
    horizon_at = when if periods == 1 else whole.end_at
    lines: list[Line] = []
    for side, billed in zip(sides, (first.lines, ()), strict=False):
        lines += draft(
            side, first_period=0, horizon_at=horizon_at, billed=billed, most_periods=periods
        ).lines
    return lines


def net_minor(lines: Iterable[Line]) -> int:
    """As ``Draft.total_minor``, of lines of several drafts."""
    return sum(each.net_minor for each in lines)


def by_kind(lines: Sequence[Line]) -> dict[str, int]:
    """The net of ``credit`` and of ``charge`` lines; without what costs nothing at all."""
    return {
        kind: net_minor(each for each in lines if each.kind == kind)
        for kind in ("credit", "charge")
        if any(each.kind == kind and each.gross_minor for each in lines)
    }


def fraction_of(line: Line) -> Fraction:
    return Fraction(line.derivation["fraction"])


def off_of(told: Mapping[str, Any] | None) -> Off:
    """A case's discount; none is told as null."""
    if told is None:
        return ()
    percent = told["type"] == "percent"
    return (
        Discount(
            id="told",
            kind=Kind.PERCENT if percent else Kind.FIXED,
            percent=Decimal(told["value"]) if percent else None,
            amount_minor=None if percent else told["value"],
            currency=None if percent else "USD",
            duration=Duration.FOREVER,
            periods=None,
        ),
    )
