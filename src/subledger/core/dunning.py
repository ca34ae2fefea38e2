"""Dunning as data: when a failed payment is tried again, and what happens in the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from subledger.core.errors import InvalidPolicy

MAX_RETRIES = 20
MAX_DELAY = timedelta(days=90)
NOT_COUNTED_DELAY = timedelta(hours=6)
MAX_NOT_COUNTED = 20


class Decline(StrEnum):
    """Why a payment failed. Hard: the bank will say no again; the others may change."""

    SOFT = "soft"
    HARD = "hard"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    ACTION = "action"
    CONFIG = "config"


class FinalAction(StrEnum):
    """The policy's last step."""

    CANCEL = "cancel"
    UNCOLLECTIBLE = "uncollectible"


@dataclass(frozen=True, slots=True)
class Policy:
    """Delays, each counted from the failure before; then the final action.

    Raises InvalidPolicy for more than 20 delays, or one outside (0, 90 days].
    """

    delays: tuple[timedelta, ...]
    final: FinalAction
    hard_decline_stops: bool = True

    def __post_init__(self) -> None:
        if len(self.delays) > MAX_RETRIES or not all(
            timedelta(0) < each <= MAX_DELAY for each in self.delays
        ):
            raise InvalidPolicy(
                "a policy has at most 20 delays, each above zero and at most 90 days",
                pointer="/delays_s",
                fix="Use, for example, 1, 3, 5 and 7 days.",
            )


DEFAULT = Policy(
    delays=tuple(timedelta(days=days) for days in (1, 3, 5, 7)), final=FinalAction.CANCEL
)


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed attempt. ``counted`` is false if it never reached the bank."""

    at: datetime
    decline: Decline
    counted: bool = True


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again at this moment; ``number`` counts the retries from 1."""

    at: datetime
    number: int


@dataclass(frozen=True, slots=True)
class Final:
    """No further attempt: take the final action at this moment."""

    action: FinalAction
    at: datetime


def next_step(
    policy: Policy, failures: Sequence[Failure], *, retry_not_before: datetime | None = None
) -> Retry | Final:
    """What follows the failures so far (in order, at least one).

    The n-th counted failure is followed by the n-th delay; when delays are used up, or after a
    hard decline if the policy says so, the final action follows at once. A failure that did not
    reach the bank uses up no delay: it is tried again after six hours, at most 20 times in all.
    ``retry_not_before`` (the provider's wish) only ever postpones a retry, and by no more than
    90 days after the failure, since a wish for the far future would leave the debt hanging.
    """
    assert failures, "nothing failed"
    last = failures[-1]
    number = len(failures)
    if not last.counted:
        if number - _counted(failures) > MAX_NOT_COUNTED:
            return Final(policy.final, last.at)
        return Retry(_postponed(last.at, NOT_COUNTED_DELAY, retry_not_before), number)
    if policy.hard_decline_stops and last.decline is Decline.HARD:
        return Final(policy.final, last.at)
    counted = _counted(failures)
    if counted > len(policy.delays):
        return Final(policy.final, last.at)
    return Retry(_postponed(last.at, policy.delays[counted - 1], retry_not_before), number)


def _counted(failures: Sequence[Failure]) -> int:
    return sum(each.counted for each in failures)


def _postponed(failed_at: datetime, delay: timedelta, earliest: datetime | None) -> datetime:
    at = failed_at + delay
    return at if earliest is None else max(at, min(earliest, failed_at + MAX_DELAY))


def plan_ahead(policy: Policy, first_failure_at: datetime) -> tuple[datetime, ...]:
    """The moments of all retries if each fails softly at its moment."""
    moments, at = [], first_failure_at
    for delay in policy.delays:
        at = at + delay
        moments.append(at)
    return tuple(moments)
