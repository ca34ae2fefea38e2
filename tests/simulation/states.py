"""The life of each subscription, replayed from its events alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from tests.simulation.told import Fact

LIVE = frozenset({"pending", "trialing", "incomplete", "active", "past_due", "paused"})
RUNNING = frozenset({"active", "past_due"})
_SAME = {(each, each) for each in LIVE}
MOVES = {
    "subscription.created": {(None, to) for to in ("pending", "trialing", "incomplete", "active")},
    "subscription.trial_started": {("pending", "trialing"), ("trialing", "trialing")},
    "subscription.trial_will_end": {("trialing", "trialing")},
    "subscription.trial_ended": {("trialing", "active"), ("trialing", "incomplete")},
    "subscription.started": {("pending", "active"), ("pending", "incomplete")},
    "subscription.activated": {("incomplete", "active"), ("active", "active"),
                               ("past_due", "active"), ("past_due", "past_due")},
    "subscription.renewed": {(one, other) for one in RUNNING for other in RUNNING},
    "subscription.past_due": {("active", "past_due")},
    "subscription.changed": _SAME,
    "subscription.paused": {(each, "paused") for each in RUNNING},
    "subscription.resumed": {("paused", each) for each in RUNNING},
    "subscription.canceled": {(each, "canceled") for each in LIVE}
    | {("incomplete", "incomplete_expired")},
    "subscription.reactivated": {
        (one, other)
        for one in ("canceled", "incomplete_expired")
        for other in ("incomplete", "active", "past_due")
    },
}  # fmt: skip
"""Which event may take a subscription from which state to which."""


@dataclass
class Replayed:
    """A subscription as its events leave it, and the spans in which it was served."""

    status: str | None = None
    since_at: datetime | None = None
    spans: list[tuple[datetime, datetime]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def move(self, kind: str, status: str, at: datetime) -> None:
        if (self.status, status) not in MOVES[kind]:
            self.wrong.append(f"{kind} from {self.status} to {status} at {at.isoformat()}")
        self.go(status, at)

    def go(self, status: str, at: datetime) -> None:
        was, now = self.status in RUNNING, status in RUNNING
        if now and not was:
            self.since_at = at
        if was and not now and self.since_at is not None and self.since_at < at:
            self.spans.append((self.since_at, at))
        self.status = status


def replayed(account: Sequence[Fact], end_at: datetime, *, may_wait: bool) -> dict[str, Replayed]:
    """Every subscription of the account; what is served is served until ``end_at``. Where renewals
    ``may_wait``, since a person stopped them, what ended meanwhile had paid, and access, till its
    period's end."""
    found: dict[str, Replayed] = {}
    for fact in account:
        if fact.kind in MOVES:
            one = found.setdefault(fact.data["subscription_id"], Replayed())
            one.move(fact.kind, fact.data["status"], _moment(fact, may_wait))
        elif fact.kind == "invoice.uncollectible":
            # Writing off ends past due; where the policy cancels, that is told next.
            for each in fact.data["subscription_ids"]:
                if found[each].status == "past_due":
                    found[each].go("active", fact.at)
    for one in found.values():
        if one.status in RUNNING and one.since_at is not None and one.since_at < end_at:
            one.spans.append((one.since_at, end_at))
    return found


def _moment(fact: Fact, may_wait: bool) -> datetime:
    """Told late, an end or a pause that was planned is as of its moment."""
    if fact.kind == "subscription.paused":
        return datetime.fromisoformat(fact.data["paused_at"])
    if fact.kind != "subscription.canceled":
        return fact.at
    ended_at = datetime.fromisoformat(fact.data["ended_at"])
    if not may_wait:
        return ended_at
    return min(ended_at, datetime.fromisoformat(fact.data["current_period_end_at"]))
