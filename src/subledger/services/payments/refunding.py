"""The refund protocol as pure functions: what a finding about a refund changes.

As ``protocol`` for attempts: whatever comes first, call, webhook or reconciler, is applied once.
A refund that may have been made is never made again blindly; the provider's list of an attempt's
refunds says what became of ours, and which were made there by somebody else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Final
from uuid import UUID

from subledger.contracts import events
from subledger.core.states import REFUND, can, step
from subledger.services.payments.protocol import (
    HELD_BACK,
    HELD_BACK_S,
    HORIZON,
    MOST_TRIES,
    RECONCILE,
    Absent,
    Captured,
    Finding,
    Lost,
    NotSent,
    Refused,
)

OVER: Final = frozenset({"succeeded", "failed", "refused"})
LIVE: Final = frozenset({"requested", "ready", "in_flight", "unknown", "succeeded"})
"""States in which a refund's money is gone or may go."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a refund stands. ``looked`` is false for the end of its own call, which is not
    ``is_current`` if another has claimed the refund since; ``asked_at`` is when the provider was
    asked (see ``protocol.Standing``)."""

    state: str
    tries: int
    lost_at: datetime | None
    looked: bool = False
    asked_at: datetime | None = None
    is_current: bool = True


@dataclass(frozen=True, slots=True)
class Decision:
    """What changes. ``look_in`` is from now on the tenant's clock, ``back_off_s`` wall-clock time
    until the call is made again."""

    state: str
    event: str | None = None
    code: str | None = None
    provider_ref: str | None = None
    look_in: timedelta | None = None
    back_off_s: float = 0
    tries: int = 0
    lost: bool = False
    exhausted: bool = False


_EVENTS: Final[Mapping[str, str]] = {
    "succeeded": events.REFUND_SUCCEEDED,
    "failed": events.REFUND_FAILED,
}


def decide(now: Standing, finding: Finding, at: datetime) -> Decision | None:
    """What ``finding`` changes, or None if it changes nothing.

    ``Captured`` says that the money went back. What the provider does not know some minutes after
    it was lost was never made: it is sent again under the same key, a few times.
    """
    decided: Decision | None = None
    match finding:
        case Captured():
            decided = _over(now, "succeeded", provider_ref=finding.provider_ref)
        case Refused():
            decided = _over(now, "failed", code=finding.code, provider_ref=finding.provider_ref)
        case _ if now.state == "in_flight" and (now.looked or not now.is_current):
            pass  # its own call will say
        case NotSent() if now.state == "in_flight":
            decided = _again(now, finding)
        case Absent() if now.state == "unknown" and _beyond_horizon(now, at):
            decided = _again(now, NotSent("not_executed"))
        case _ if now.state == "in_flight":
            decided = Decision(
                state=step(REFUND, now.state, "lost"),
                event=events.REFUND_UNKNOWN,
                code=finding.reason if isinstance(finding, Lost) else "unexpected",
                tries=now.tries + 1,
                look_in=RECONCILE[0],
                lost=True,
            )
        case _ if now.state == "unknown":
            look_in = _next_look(now, at)
            decided = Decision(
                state=now.state, tries=now.tries, look_in=look_in, exhausted=look_in is None
            )
    return decided


def _over(
    now: Standing, trigger: str, *, code: str | None = None, provider_ref: str | None
) -> Decision | None:
    # Nothing was sent, we thought; the provider knows better.
    before = "in_flight" if now.state == "ready" else now.state
    if not can(REFUND, before, trigger):
        return None
    return Decision(
        state=step(REFUND, before, trigger),
        event=_EVENTS[trigger],
        code=code,
        provider_ref=provider_ref,
        tries=now.tries,
    )


def _again(now: Standing, finding: NotSent) -> Decision | None:
    """Nothing was done: it is sent again, unless that was tried often enough."""
    waits = finding.reason in HELD_BACK
    tries = now.tries if waits else now.tries + 1
    if tries >= MOST_TRIES:
        return _over(now, "failed", code=finding.reason, provider_ref=None)
    back_off_s = max(finding.retry_after_s or HELD_BACK_S, 0.2) if waits else 0.2 * 2**tries
    return Decision(
        state=step(REFUND, now.state, "not_executed"),
        code=finding.reason,
        tries=tries,
        back_off_s=back_off_s,
    )


def _next_look(now: Standing, at: datetime) -> timedelta | None:
    """Until the next moment of the schedule, counted from the loss: a look that a webhook asked for
    puts nothing off. None after the last one."""
    if now.lost_at is None:
        return RECONCILE[0]
    due = (now.lost_at + each for each in accumulate(RECONCILE, initial=timedelta(0)))
    return next((moment - at for moment in due if moment > at), None)


def _beyond_horizon(now: Standing, at: datetime) -> bool:
    asked_at = at if now.asked_at is None else min(at, now.asked_at)
    return now.lost_at is not None and asked_at - now.lost_at >= HORIZON


@dataclass(frozen=True, slots=True)
class Known:
    """A refund of the attempt that we know; ``name`` is our id as the provider was told it."""

    id: UUID
    name: str
    provider_ref: str | None


@dataclass(frozen=True, slots=True)
class Listed:
    """A refund as the provider lists it: ``name`` is ours, if it has one."""

    provider_ref: str
    name: str | None
    amount_minor: int
    finding: Finding


def compare(
    known: Sequence[Known], listed: Sequence[Listed]
) -> tuple[dict[UUID, Finding], list[Listed]]:
    """What the provider's whole list says about each of our refunds, and those that are done and
    none of ours. What it does not list it does not know."""
    by_name = {each.name: each.id for each in known}
    by_ref = {each.provider_ref: each.id for each in known if each.provider_ref is not None}
    found: dict[UUID, Finding] = {}
    outside = []
    for each in listed:
        ours = by_ref.get(each.provider_ref)
        if ours is None and each.name is not None:
            ours = by_name.get(each.name)
        if ours is not None:
            found[ours] = each.finding
        elif isinstance(each.finding, Captured):
            outside.append(each)
    return {each.id: found.get(each.id, Absent()) for each in known}, outside
