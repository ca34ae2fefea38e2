"""Who pays for which time of a period, and which share of its price.

Where a phase begins inside a period, each side pays its part by the timeline's proration. Where a
subscription begins or ends inside one, the part that it covers is paid: measured against the grid's
period or as its mode says, and with the last day of use charged if the mode charges it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from subledger.core import proration
from subledger.core.calendar import Interval, Period, boundary, index_at
from subledger.core.pricing import Commitment
from subledger.core.proration import By, Denominator, Rounds, Share
from subledger.core.timeline import FirstPeriod, Item, Phase, Timeline, Timing

Window = tuple[Timing, int]
"""When and how often prices are billed: what they have in common that share a period."""


@dataclass(frozen=True, slots=True)
class Part:
    """An item and the time in ``whole`` that it is paid for."""

    item: Item
    time: Period
    whole: Period


def windows(timeline: Timeline) -> tuple[Window, ...]:
    """The kinds of period that the timeline's prices have."""
    found = {(item.timing, item.every) for each in timeline.phases for item in each.items}
    return tuple(sorted(found))


def parts_at(timeline: Timeline, kinds: Sequence[Window], n: int, start_at: datetime) -> list[Part]:
    """Who pays for which time, of what falls due where the n-th period begins."""
    found: list[Part] = []
    for timing, every in kinds:
        if n % every:
            continue
        if timing is Timing.ARREARS:
            before = boundary(timeline.anchor, timeline.interval, n - every)
            whole = Period(before, start_at)
        else:
            whole = Period(start_at, boundary(timeline.anchor, timeline.interval, n + every))
        found += parts_in(timeline, timing, every, whole)
    return found


def parts_at_end(timeline: Timeline, kinds: Sequence[Window]) -> list[Part]:
    """Who pays for which time, of what falls due where the subscription ends: the periods in
    arrears that run until then."""
    assert timeline.ended_at is not None, "it ends"
    n = index_at(timeline.anchor, timeline.interval, timeline.ended_at)
    if boundary(timeline.anchor, timeline.interval, n) == timeline.ended_at:
        n -= 1
    found: list[Part] = []
    for timing, every in kinds:
        if timing is Timing.ARREARS:
            first = n - n % every
            whole = Period(
                boundary(timeline.anchor, timeline.interval, first),
                boundary(timeline.anchor, timeline.interval, first + every),
            )
            found += parts_in(timeline, timing, every, whole)
    return found


def running_part(timeline: Timeline, price_id: str, at: datetime) -> Part | None:
    """The part of a period that a price is paid for at a moment; None if it is not paid then."""
    for timing, every in windows(timeline):
        n = index_at(timeline.anchor, timeline.interval, at)
        first = n - n % every
        whole = Period(
            boundary(timeline.anchor, timeline.interval, first),
            boundary(timeline.anchor, timeline.interval, first + every),
        )
        for part in parts_in(timeline, timing, every, whole):
            if part.item.price_id == price_id and part.time.start_at <= at < part.time.end_at:
                return part
    return None


def parts_in(timeline: Timeline, timing: Timing, every: int, whole: Period) -> Iterator[Part]:
    """The parts of one period. What a change leaves as it was is not cut."""
    if timeline.first_period is FirstPeriod.FULL and _starts_in(timeline, whole):
        whole = Period(timeline.phases[0].from_at, whole.end_at)
    until = whole.end_at
    if not (timeline.serves_out and timing is Timing.ADVANCE):
        until = ends_in(timeline, whole)
    found: list[Part] = []
    open_at: dict[Item, int] = {}
    for items, start_at, end_at in _stretches(timeline.phases, whole.start_at, until):
        for item in items:
            if item.timing is not timing or item.every != every:
                continue
            place = open_at.get(item)
            if place is not None and found[place].time.end_at == start_at:
                grown = Period(found[place].time.start_at, end_at)
                found[place] = replace(found[place], time=grown)
            else:
                open_at[item] = len(found)
                found.append(Part(item, Period(start_at, end_at), whole))
    for each in found:
        if timing is not Timing.ONCE or _begins(timeline.phases, each):
            yield each


def ends_in(timeline: Timeline, whole: Period) -> datetime:
    """Until when a period is paid at most: its end, or where the subscription ends."""
    ends = timeline.ended_at
    if ends is None or ends >= whole.end_at:
        return whole.end_at
    return proration.charged_until(ends, whole, timeline.proration, timeline.anchor.timezone)


def _stretches(
    phases: Sequence[Phase], start_at: datetime, end_at: datetime
) -> Iterator[tuple[Sequence[Item], datetime, datetime]]:
    """What is paid from when to when, between two moments."""
    following = [each.from_at for each in phases[1:]] + [end_at]
    for phase, next_at in zip(phases, following, strict=True):
        begins, ends = max(phase.from_at, start_at), min(next_at, end_at)
        if begins < ends:
            yield phase.items, begins, ends


def _begins(phases: Sequence[Phase], part: Part) -> bool:
    """Whether the price begins with this part, as one that is billed once must."""
    name = part.item.price_id
    begins = (each.from_at for each in phases if any(item.price_id == name for item in each.items))
    return next(begins) == part.time.start_at


# Shares -------------------------------------------------------------------------------------------


def share_of(timeline: Timeline, part: Part) -> Share | None:
    """The share of its period that a part pays; None for all of it. What was used, and what is
    billed once, is not shared by time, and a commitment counts the time itself. What was used in
    a free stub is free as its time is; a set-up fee is not for the time, and is paid."""
    if part.time == part.whole or part.item.timing is Timing.ONCE:
        return None
    if part.item.metered and not _is_free(timeline, part.whole):
        return None
    if isinstance(part.item.model, Commitment):
        return None
    found = share_in(timeline, part.time, part.whole)
    is_cut = part.item.timing is Timing.ADVANCE and part.time.end_at < part.whole.end_at
    if is_cut and timeline.proration.rounds is Rounds.CREDIT:
        rest = Period(part.time.end_at, part.whole.end_at)
        return replace(found, rest=share_in(timeline, rest, part.whole).fraction)
    return found


def share_in(timeline: Timeline, part: Period, whole: Period) -> Share:
    """The share of a period that a part of it takes, by the timeline's proration."""
    mode, zone = timeline.proration, timeline.anchor.timezone
    if _is_free(timeline, whole):
        return proration.share(part, whole, proration.NONE, zone)
    return proration.share(part, _measured(timeline, whole), mode, zone)


def _is_free(timeline: Timeline, whole: Period) -> bool:
    """Whether what a period is served of is a free stub. A start at another hour of the period's
    first day leaves out no day: it is paid."""
    if timeline.first_period is not FirstPeriod.FREE or not _starts_in(timeline, whole):
        return False
    start_at, zone = timeline.phases[0].from_at, timeline.anchor.timezone
    return proration.local_days(whole.start_at, start_at, zone) > 0


def _measured(timeline: Timeline, whole: Period) -> Period:
    """What the parts of a period are measured against: the period, but for a first stub's."""
    mode, anchor, interval = timeline.proration, timeline.anchor, timeline.interval
    if not _starts_in(timeline, whole):
        return whole
    if mode.denominator is Denominator.GRID and mode.by is not By.NONE:
        return whole
    turns = index_at(anchor, interval, whole.end_at) - index_at(anchor, interval, whole.start_at)
    stub = Period(timeline.phases[0].from_at, whole.end_at)
    own = Interval(interval.unit, interval.count * turns)
    return proration.measured(stub, whole, mode, anchor.timezone, own)


def _starts_in(timeline: Timeline, whole: Period) -> bool:
    """Whether the subscription starts inside this period."""
    return whole.start_at < timeline.phases[0].from_at < whole.end_at
