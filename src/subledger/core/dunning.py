"""Dunning as data: when a failed payment is tried again, and what happens in the end.

Delays after each failure or after the first, hard declines, the final action, and a rule of its own
for what is no renewal. ``overdue`` has the tracks beside it that look at a whole account, and
``dunning_choice`` which policy and which method are taken. Where billing systems differ
(tests/conformance/cases/README.md), each way is an option.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from types import MappingProxyType

from subledger.core.calendar import anchor_on, parse_zone, utc
from subledger.core.errors import InvalidPolicy
from subledger.core.local_days import day_in_month
from subledger.core.states import SUBSCRIPTION, can, step

MAX_RETRIES = 20
MAX_DELAY = timedelta(days=90)
NOT_COUNTED_DELAY = timedelta(hours=6)
MAX_NOT_COUNTED = 20
MAX_SPAN = timedelta(days=365)
MAX_CODES = 200
_DAY = timedelta(days=1)


def check_policy(holds: bool, detail: str, pointer: str, fix: str) -> None:
    """Raises InvalidPolicy with these texts unless ``holds``."""
    if not holds:
        raise InvalidPolicy(detail, pointer=pointer, fix=fix)


class Decline(StrEnum):
    """Why a payment failed. Hard: the bank will say no again; the others may change."""

    SOFT = "soft"
    HARD = "hard"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    ACTION = "action"
    CONFIG = "config"


class FinalAction(StrEnum):
    """The policy's last step. ``none`` leaves the invoice open and its subscription past due;
    ``pause`` leaves it open too."""

    CANCEL = "cancel"
    UNCOLLECTIBLE = "uncollectible"
    PAUSE = "pause"
    DOWNGRADE = "downgrade"
    NONE = "none"


class Since(StrEnum):
    """From which failure a delay is counted."""

    FAILURE_BEFORE = "failure_before"
    FIRST_FAILURE = "first_failure"


class FinalAt(StrEnum):
    """When the final action is taken once no retry follows."""

    AT_ONCE = "at_once"
    DEADLINE = "deadline"


HARD_CODES = frozenset(
    {
        *("lost_card", "stolen_card", "pickup_card", "fraudulent", "incorrect_number"),
        *("invalid_account", "account_closed", "revocation_of_authorization"),
        *("revocation_of_all_authorizations", "transaction_not_allowed"),
    }
)
"""Codes of the card networks after which the same means of payment is refused again."""


@dataclass(frozen=True, slots=True)
class Preferred:
    """When in the payer's zone a retry is made: at an hour (0 to 23), on some ISO weekdays (1 is
    Monday) or days of the month (31 is the last). Empty means any. Raises InvalidPolicy."""

    hour: int | None = None
    weekdays: tuple[int, ...] = ()
    month_days: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_policy(
            self.hour is None or 0 <= self.hour <= 23,
            "an hour lies between 0 and 23",
            "/preferred/hour",
            "Give a whole hour of the payer's clock.",
        )
        check_policy(
            len(self.weekdays) <= 7 and all(1 <= each <= 7 for each in self.weekdays),
            "a weekday lies between 1 (Monday) and 7",
            "/preferred/weekdays",
            "Give ISO weekdays.",
        )
        check_policy(
            len(self.month_days) <= 31 and all(1 <= each <= 31 for each in self.month_days),
            "a day of the month lies between 1 and 31",
            "/preferred/month_days",
            "Give days of the month; 31 is the last day of every month.",
        )
        check_policy(
            not (self.weekdays and self.month_days),
            "weekdays and days of the month exclude each other",
            "/preferred",
            "Give one of them, since both together may leave no day for months.",
        )

    def on(self, day: date) -> bool:
        """Whether it is one of the days."""
        if self.weekdays:
            return day.isoweekday() in self.weekdays
        return not self.month_days or any(day_in_month(day, n) == day for n in self.month_days)


def preferred_moment(at: datetime, wish: Preferred, timezone: str) -> datetime:
    """The first moment from ``at`` on that the wish allows: at most a month later. Without an hour
    the local time is kept; a local time that a clock change skips is taken as calendar does."""
    if wish == _ANY:
        return at
    wall = utc(at).astimezone(parse_zone(timezone)).replace(tzinfo=None, fold=0)
    if wish.hour is None and wish.on(wall.date()):
        return at
    if wish.hour is not None:
        wall = wall.replace(hour=wish.hour, minute=0, second=0, microsecond=0)
    for days in range(64):
        if wish.on(wall.date() + days * _DAY):
            found = anchor_on(wall + days * _DAY, timezone).at
            if found >= at:
                return found
    raise AssertionError("every month has each wished day")


_ANY = Preferred()


@dataclass(frozen=True, slots=True)
class Policy:
    """Delays, each counted from the failure before (or all from the first); then the final action.

    ``max_retries`` cuts the list, or goes on with its last delay where the list is shorter.
    ``max_span`` is the longest time from the first failure to a retry. A hard decline (by its kind
    or by one of ``hard_codes``) ends the retries if ``hard_decline_stops``. ``final_at`` says
    whether the final action then waits for the deadline: the end of ``max_span`` or, without one,
    the end of all delays. ``preferred`` and a provider's wish only ever postpone.

    ``by_class`` has delays of its own for what follows a decline of a class, in place of
    ``delays``: the n-th counted failure takes the n-th. After a decline of ``fallback_after``
    another method is tried next, and while there is one a hard decline stops nothing.

    Raises InvalidPolicy for more than 20 retries, a delay outside (0, 90 days], a span outside
    (0, 365 days], delays from the first failure that do not grow, or more than 200 codes.
    """

    delays: tuple[timedelta, ...]
    final: FinalAction
    hard_decline_stops: bool = True
    since: Since = Since.FAILURE_BEFORE
    max_retries: int | None = None
    max_span: timedelta | None = None
    final_at: FinalAt = FinalAt.AT_ONCE
    preferred: Preferred = _ANY
    hard_codes: frozenset[str] = HARD_CODES
    by_class: Mapping[Decline, tuple[timedelta, ...]] = field(default_factory=dict)
    fallback_after: frozenset[Decline] = frozenset()

    def __post_init__(self) -> None:
        self._check_delays(self.delays, "/delays_s")
        for each, delays in self.by_class.items():
            self._check_delays(delays, f"/delays_by_class_s/{each}")
        most = len(self.delays) if self.since is Since.FIRST_FAILURE else MAX_RETRIES
        check_policy(
            self.max_retries is None or 0 <= self.max_retries <= (most if self.delays else 0),
            "a policy retries at most 20 times, and only after a delay it can tell",
            "/max_retries",
            "Give fewer, or more delays.",
        )
        check_policy(
            self.max_span is None or timedelta(0) < self.max_span <= MAX_SPAN,
            "the longest time to the last retry lies above zero and at most at 365 days",
            "/max_span_s",
            "Use, for example, 30 days.",
        )
        check_policy(
            len(self.hard_codes) <= MAX_CODES,
            "a policy names at most 200 codes",
            "/hard_codes",
            "Keep those after which the bank never says yes.",
        )

    def _check_delays(self, delays: tuple[timedelta, ...], pointer: str) -> None:
        check_policy(
            len(delays) <= MAX_RETRIES and all(timedelta(0) < each <= MAX_DELAY for each in delays),
            "a policy has at most 20 delays, each above zero and at most 90 days",
            pointer,
            "Use, for example, 1, 3, 5 and 7 days.",
        )
        check_policy(
            self.since is Since.FAILURE_BEFORE or all(a < b for a, b in pairwise(delays)),
            "delays from the first failure grow",
            pointer,
            "Use, for example, 1, 4, 9 and 16 days.",
        )

    @property
    def retries(self) -> int:
        """How many retries follow the first failure at most, if all declines are soft."""
        return self.most(self.after(Decline.SOFT))

    def after(self, decline: Decline) -> tuple[timedelta, ...]:
        """The delays that follow a decline of this class."""
        return self.by_class.get(decline, self.delays)

    def most(self, delays: tuple[timedelta, ...]) -> int:
        """How many retries such delays allow at most: none without a delay."""
        if self.max_retries is None or not delays:
            return len(delays)
        longest = len(delays) if self.since is Since.FIRST_FAILURE else MAX_RETRIES
        return min(self.max_retries, longest)

    def deadline(self, first_failure_at: datetime) -> datetime:
        """The end of the longest span or, without one, of the longest of its lists of delays."""
        if self.max_span is not None:
            return first_failure_at + self.max_span
        lists = (self.delays, *self.by_class.values())
        return first_failure_at + max(self._whole(each) for each in lists)

    def _whole(self, delays: tuple[timedelta, ...]) -> timedelta:
        used = delays[: self.most(delays)]
        if self.since is Since.FIRST_FAILURE:
            return max(used, default=timedelta(0))
        beyond = self.most(delays) - len(used)
        return sum(used, timedelta(0)) + (beyond * used[-1] if beyond else timedelta(0))

    def stops(self, failure: Failure) -> bool:
        """Whether the bank will say no again and no other method is turned to."""
        hard = failure.decline is Decline.HARD or failure.code in self.hard_codes
        elsewhere = failure.elsewhere and failure.decline in self.fallback_after
        return hard and self.hard_decline_stops and not elsewhere


DEFAULT = Policy(
    delays=tuple(timedelta(days=days) for days in (1, 3, 5, 7)), final=FinalAction.CANCEL
)


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed attempt. ``counted`` is false if it never reached the bank; ``code`` is the
    bank's own reason, where it is known; ``method`` what was charged; ``elsewhere`` says that the
    payer has another method that was not refused yet."""

    at: datetime
    decline: Decline
    counted: bool = True
    code: str | None = None
    method: str | None = None
    elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class Success:
    """One attempt that brought money, perhaps not all; it uses up no delay."""

    at: datetime


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


@dataclass(frozen=True, slots=True)
class Nothing:
    """Nothing follows; ``reason`` is paid, void, given_up, ended or no_failure."""

    reason: str


def next_step(
    policy: Policy,
    failures: Sequence[Failure],
    *,
    retry_not_before: datetime | None = None,
    timezone: str = "UTC",
) -> Retry | Final:
    """What follows the failures so far (in order, at least one).

    The n-th counted failure is followed by the n-th delay; when delays are used up, or after a
    hard decline if the policy says so, the final action follows. A failure that did not reach the
    bank uses up no delay: it is tried again after six hours, at most 20 times in all.
    ``retry_not_before`` (the provider's wish) only ever postpones a retry, and by no more than
    90 days after the failure, since a wish for the far future would leave the debt hanging.
    ``timezone`` is the payer's, for the policy's preferred hour and days. A retry that would come
    after the policy's longest span is not made.
    """
    assert failures, "nothing failed"
    last = failures[-1]
    counted = sum(each.counted for each in failures)
    at = _retry_at(policy, failures, counted)
    if at is None:
        return _final(policy, failures)
    if retry_not_before is not None:
        at = max(at, min(retry_not_before, last.at + MAX_DELAY))
    if last.counted:
        at = preferred_moment(at, policy.preferred, timezone)
    if policy.max_span is not None and at > failures[0].at + policy.max_span:
        return _final(policy, failures)
    return Retry(at, len(failures))


def _retry_at(policy: Policy, failures: Sequence[Failure], counted: int) -> datetime | None:
    """The moment before any wish; None if no retry follows."""
    last = failures[-1]
    if not last.counted:
        if len(failures) - counted > MAX_NOT_COUNTED:
            return None
        return last.at + NOT_COUNTED_DELAY
    delays = policy.after(last.decline)
    most = policy.most(delays)
    if counted > most or policy.stops(last):
        return None
    if policy.since is Since.FAILURE_BEFORE:
        return last.at + delays[min(counted, len(delays)) - 1]
    # A moment that a late failure has overtaken is passed over, not made up for.
    planned = (failures[0].at + each for each in delays[counted - 1 : most])
    return next((each for each in planned if each > last.at), None)


def _final(policy: Policy, failures: Sequence[Failure]) -> Final:
    last = failures[-1].at
    if policy.final_at is FinalAt.AT_ONCE:
        return Final(policy.final, last)
    return Final(policy.final, max(last, policy.deadline(failures[0].at)))


def steps_ahead(
    policy: Policy,
    failures: Sequence[Failure],
    *,
    timezone: str,
    first: Retry | Final | None = None,
) -> tuple[Retry | Final, ...]:
    """What follows the failures (at least one) if each retry fails softly at its moment, up to the
    final action. ``first`` is a step that is planned already."""
    so_far, steps = list(failures), []
    step = first or next_step(policy, so_far, timezone=timezone)
    while isinstance(step, Retry):
        steps.append(step)
        so_far.append(Failure(step.at, Decline.SOFT))
        step = next_step(policy, so_far, timezone=timezone)
    return (*steps, step)


def plan_ahead(
    policy: Policy,
    first_failure_at: datetime,
    *,
    timezone: str = "UTC",
    paid_at: datetime | None = None,
) -> tuple[datetime, ...]:
    """The moments of all retries if each fails softly at its moment; only those before
    ``paid_at``, since paying ends them."""
    steps = steps_ahead(policy, [Failure(first_failure_at, Decline.SOFT)], timezone=timezone)
    moments = (each.at for each in steps if isinstance(each, Retry))
    return tuple(each for each in moments if paid_at is None or each < paid_at)


class Owed(StrEnum):
    """What an invoice asks money for."""

    RENEWAL = "renewal"
    OVERAGE = "overage"
    ONE_OFF = "one_off"


@dataclass(frozen=True, slots=True)
class Rules:
    """A policy for each kind of invoice.

    Usage beyond the plan and one-off sales never cancel or pause a subscription. ``voided`` is
    what becomes of a subscription whose invoice in dunning is voided; ``after_end`` whether an
    invoice is still collected once its subscription has ended. Raises InvalidPolicy.
    """

    renewal: Policy = DEFAULT
    overage: Policy = Policy(DEFAULT.delays, FinalAction.UNCOLLECTIBLE)
    one_off: Policy = Policy((), FinalAction.NONE)
    voided: FinalAction = FinalAction.NONE
    after_end: bool = False

    def __post_init__(self) -> None:
        for name in (Owed.OVERAGE, Owed.ONE_OFF):
            check_policy(
                self.policy(name).final in {FinalAction.UNCOLLECTIBLE, FinalAction.NONE},
                "only a renewal cancels or pauses the subscription",
                f"/{name}/final_action",
                "Use uncollectible or none.",
            )

    def policy(self, owed: Owed) -> Policy:
        """The policy of such an invoice."""
        if owed is Owed.RENEWAL:
            return self.renewal
        return self.overage if owed is Owed.OVERAGE else self.one_off


@dataclass(frozen=True, slots=True)
class Standing:
    """An invoice and its subscription as they are now, by the machines of ``states``. Raises
    InvalidPolicy for an invoice's state that is none."""

    invoice: str = "open"
    owed: Owed = Owed.RENEWAL
    subscription: str | None = None

    def __post_init__(self) -> None:
        check_policy(
            self.invoice == "open" or self.invoice in _CLOSED,
            f"an invoice in dunning is never {self.invoice}",
            "/invoice",
            "Give open, paid, void or uncollectible.",
        )


_CLOSED: Mapping[str, str] = MappingProxyType(
    {"paid": "paid", "void": "void", "uncollectible": "given_up"}
)


def decide(
    rules: Rules,
    standing: Standing,
    attempts: Sequence[Failure | Success],
    *,
    at: datetime,
    retry_not_before: datetime | None = None,
    timezone: str = "UTC",
) -> Retry | Final | Nothing:
    """What follows the attempts so far (in order), given what has become of invoice and
    subscription by ``at``. Attempts that brought money count for nothing; a failure told after the
    invoice was paid, void or given up changes nothing."""
    if standing.invoice == "void" and rules.voided is not FinalAction.NONE:
        return Final(rules.voided, at)
    if standing.invoice in _CLOSED:
        return Nothing(_CLOSED[standing.invoice])
    if not rules.after_end and standing.subscription in {"canceled", "incomplete_expired"}:
        return Nothing("ended")
    failures = [each for each in attempts if isinstance(each, Failure)]
    if not failures:
        return Nothing("no_failure")
    return next_step(
        rules.policy(standing.owed),
        failures,
        retry_not_before=retry_not_before,
        timezone=timezone,
    )


_TRIGGERS: Mapping[FinalAction, str] = MappingProxyType(
    {FinalAction.CANCEL: "canceled", FinalAction.UNCOLLECTIBLE: "written_off"}
)


def subscription_after(
    subscription: str, decision: Retry | Final | Nothing, *, at: datetime
) -> str:
    """The subscription's state at ``at``: past due while a retry or the final action is awaited
    (and after ``none``, ``pause`` or ``downgrade``, which are the caller's to make), then what the
    final action says. A state that the machine does not leave by it stays."""
    if isinstance(decision, Nothing):
        return subscription
    after = _stepped(subscription, "payment_failed")
    if isinstance(decision, Retry) or decision.at > at or decision.action not in _TRIGGERS:
        return after
    return _stepped(after, _TRIGGERS[decision.action])


def _stepped(state: str, trigger: str) -> str:
    return step(SUBSCRIPTION, state, trigger) if can(SUBSCRIPTION, state, trigger) else state
