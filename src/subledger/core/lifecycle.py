"""What happens to a subscription (trial, change, pause, end), and what of it is due when.

A change is a new phase of its timeline, a pause one without items. What is due at a moment is the
``draft`` of the phases that have begun by then, so that nobody is billed for a trial's end or a
planned change before it comes. Only the end is foreseen: the period that it cuts is billed cut.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from subledger.core.calendar import Anchor, Interval, index_at
from subledger.core.cycles import (
    MAX_PERIODS,
    Billed,
    Cycle,
    boundary_from,
    due_periods,
    next_boundary,
)
from subledger.core.invoicing import draft
from subledger.core.local_days import add_local_days, local_date, local_day_start
from subledger.core.states import Machine
from subledger.core.timeline import Draft, Item, Line, Phase, Timeline

# States -------------------------------------------------------------------------------------------

LIFECYCLE: Final[Machine] = MappingProxyType(
    {
        ("pending", "started"): "active",
        ("pending", "trial_started"): "trialing",
        ("pending", "canceled"): "canceled",
        ("trialing", "trial_ended"): "active",
        ("trialing", "trial_lapsed"): "trial_expired",
        ("trialing", "changed"): "active",
        ("trialing", "canceled"): "canceled",
        ("trial_expired", "paid"): "active",
        ("trial_expired", "canceled"): "canceled",
        ("active", "changed"): "active",
        ("active", "paused"): "paused",
        ("active", "ended"): "completed",
        ("active", "terminated"): "terminated",
        ("paused", "resumed"): "active",
        ("paused", "terminated"): "terminated",
    }
)
"""How far a subscription has come, whatever is owed for it (that is ``states.SUBSCRIPTION``). Who
never began is canceled, not terminated; there is no way back into a trial."""


# Phases -------------------------------------------------------------------------------------------


def changed(timeline: Timeline, at: datetime, items: tuple[Item, ...]) -> Timeline:
    """From ``at`` on it pays ``items``, whatever was planned for then or later; none is a pause. A
    change on the first moment leaves nothing of what was before."""
    before = tuple(each for each in timeline.phases if each.from_at < at)
    return replace(timeline, phases=(*before, Phase(at, items)))


def ended(timeline: Timeline, at: datetime) -> Timeline:
    """It ends at ``at`` (exclusive), and what lies after that is not paid."""
    return replace(changed(timeline, at, ()), ended_at=at)


def after_trial(phases: Iterable[Phase], trial_ends_at: datetime) -> tuple[Phase, ...]:
    """The phases with nothing to pay before ``trial_ends_at``: a trial runs on across changes."""
    given = tuple(phases)
    current = [each for each in given if each.from_at <= trial_ends_at]
    if not current or trial_ends_at <= given[0].from_at:
        return given
    return (
        Phase(given[0].from_at, ()),
        Phase(trial_ends_at, current[-1].items),
        *(each for each in given if each.from_at > trial_ends_at),
    )


class LastDay(StrEnum):
    """Whether the local day on which a subscription ends is paid: no (the default; Kill Bill,
    Meteroid), or yes (Lago, flexprice)."""

    FREE = "free"
    CHARGED = "charged"


def charged_until(
    end_at: datetime,
    start_at: datetime,
    anchor: Anchor,
    interval: Interval,
    last_day: LastDay = LastDay.FREE,
) -> datetime:
    """Up to where a subscription from ``start_at`` that ends at ``end_at`` is paid.

    A charged last day is a whole one, to the next local midnight; but where the end lies on the
    day of a boundary after the start, the period ends and no day of the next one is charged.
    """
    if last_day is LastDay.FREE:
        return end_at
    zone = anchor.timezone
    day_start = local_day_start(end_at, zone)
    nearest = boundary_from(anchor, interval, day_start)
    if local_date(nearest, zone) == local_date(end_at, zone) and nearest > start_at:
        return nearest
    return add_local_days(day_start, 1, zone)


# Plans for later ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scheduled:
    """What will happen to a subscription at ``at``. ``kind`` is opaque (``change``, ``cancel``)."""

    kind: str
    name: str
    at: datetime


def schedule(pending: Iterable[Scheduled], new: Scheduled) -> tuple[Scheduled, ...]:
    """What is pending after ``new``: it replaces what was to happen at its moment or later. So at
    one moment one thing happens, the last that was asked for, be it a change or a cancellation."""
    return (*(each for each in pending if each.at < new.at), new)


# Billing ------------------------------------------------------------------------------------------


def due(
    timeline: Timeline,
    at: datetime,
    *,
    billed: Iterable[Line] = (),
    billing: Billed = Billed.ADVANCE,
) -> Draft:
    """What is to be billed at ``at``: all that is due by then from the first phase on, less
    ``billed``. Before the start it is empty. Raises TooManyPeriods, and as ``draft`` does."""
    timeline = _known(timeline, at)
    start_at = timeline.phases[0].from_at
    cycle = Cycle(start_at, timeline.anchor, timeline.interval, _end(timeline))
    periods = len(due_periods(cycle, at, billing, limit=MAX_PERIODS))
    return draft(
        timeline,
        first_period=index_at(timeline.anchor, timeline.interval, start_at),
        horizon_at=at,
        billed=billed,
        most_periods=periods,
    )


def _known(timeline: Timeline, at: datetime) -> Timeline:
    first, *later = timeline.phases
    end_at = timeline.ended_at
    begun = [
        each
        for each in later
        if each.from_at <= at or (end_at is not None and each.from_at >= end_at)
    ]
    return replace(timeline, phases=(first, *begun))


def _end(timeline: Timeline) -> datetime | None:
    start_at = timeline.phases[0].from_at
    return None if timeline.ended_at is None else max(timeline.ended_at, start_at)


class ChangesBilled(StrEnum):
    """When what a change gives back and charges is billed: at once, or with the next invoice that
    is due anyway (the better default for what only gives back)."""

    NOW = "now"
    NEXT_INVOICE = "next_invoice"


def next_due_at(
    timeline: Timeline,
    after: datetime,
    billing: Billed = Billed.ADVANCE,
    changes: ChangesBilled = ChangesBilled.NOW,
) -> datetime | None:
    """The first moment later than ``after`` at which ``due`` may find something: a period's start
    (in arrears its end), the end, and a phase that begins unless changes wait for the next
    invoice. None once it has ended."""
    start_at, end_at = timeline.phases[0].from_at, _end(timeline)
    if after < start_at:
        if billing is Billed.ADVANCE:
            return start_at
        after = start_at
    if end_at is not None and end_at <= after:
        return None
    moments = [next_boundary(timeline.anchor, timeline.interval, after)]
    if changes is ChangesBilled.NOW:
        moments += [each.from_at for each in timeline.phases if each.from_at > after]
    found = min(moments)
    return found if end_at is None else min(found, end_at)


def is_issued(
    found: Draft, timeline: Timeline, at: datetime, *, final_statement: bool = False
) -> bool:
    """Whether what is due at ``at`` makes an invoice: if it has lines. With ``final_statement``
    (Lago) an empty one closes a subscription on its end."""
    return bool(found.lines) or (final_statement and at == timeline.ended_at)


@dataclass(frozen=True, slots=True)
class Settlement:
    """What an invoice leaves to pay, and what it does to the customer's credit (minor units)."""

    due_minor: int
    credit_made_minor: int
    credit_used_minor: int


def settle(total_minor: int, credit_minor: int) -> Settlement:
    """An invoice meets the customer's credit (not negative). A negative total becomes credit and
    nothing is due; credit pays what it can. Nothing is refunded by itself."""
    assert credit_minor >= 0, "credit is not negative"
    if total_minor < 0:
        return Settlement(0, -total_minor, 0)
    used = min(total_minor, credit_minor)
    return Settlement(total_minor - used, 0, used)
