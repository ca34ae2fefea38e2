"""Dunning of a whole account: states by what it owes, requests by the sum overdue in a currency.
What a block by such a state gives back is a pause's (``timeline``: a phase without items).

``Overdue`` grades an account by its unpaid invoices' age, number and balance (the convention of
Kill Bill); ``Campaign`` asks for money when a currency's overdue sum reaches a threshold (that of
Lago). Both stand beside the retries of ``dunning`` and need none. Days are dates in the customer's
zone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

from subledger.core.dunning import check_policy
from subledger.core.money import Money

MAX_STATES = 20
MAX_THRESHOLDS = 200
MAX_AGE_DAYS = 3_650
MAX_ATTEMPTS = 100
MAX_DAYS_BETWEEN = 365
CLEAR = "clear"


class Level(StrEnum):
    """What a state does: warn, block service and its billing, or end the subscriptions."""

    WARNING = "warning"
    BLOCKED = "blocked"
    CANCELLED = "cancelled"


class Leaves(StrEnum):
    """How an account comes back to a milder state: as soon as the conditions fail, or (hysteresis)
    only when nothing is unpaid any more."""

    WHEN_BELOW = "when_below"
    WHEN_PAID = "when_paid"


@dataclass(frozen=True, slots=True)
class Unpaid:
    """What an invoice still asks for (minor units, not negative), and since when."""

    since: date
    balance: Money


@dataclass(frozen=True, slots=True)
class State:
    """A state that holds where each condition given does: the days since the earliest unpaid
    invoice, the number of unpaid invoices, or a balance of theirs in one of some currencies (at
    least so much). ``blocks_change`` refuses changes of plan. Raises InvalidPolicy without a
    condition or for one outside its bounds."""

    name: str
    min_age_days: int | None = None
    min_count: int | None = None
    min_balances: tuple[Money, ...] = ()
    level: Level = Level.WARNING
    blocks_change: bool = False

    def __post_init__(self) -> None:
        check_policy(
            0 < len(self.name) <= 100 and self.name != CLEAR,
            "a state has a name of at most 100 characters that is not clear",
            "/name",
            "Name it, for example, warning.",
        )
        check_policy(
            self.min_age_days is not None or self.min_count is not None or bool(self.min_balances),
            f"the state {self.name} has no condition",
            "/min_age_days",
            "Give an age, a count or a balance.",
        )
        check_policy(
            self.min_age_days is None or 0 <= self.min_age_days <= MAX_AGE_DAYS,
            "an age lies between 0 and 3650 days",
            "/min_age_days",
            "Give whole days.",
        )
        check_policy(
            self.min_count is None or 1 <= self.min_count <= 10_000,
            "a count lies between 1 and 10000 invoices",
            "/min_count",
            "Give a whole number.",
        )
        _check_thresholds(self.min_balances, "/min_balances")

    def holds(self, unpaid: Sequence[Unpaid], on: date) -> bool:
        """Whether it holds for these unpaid invoices (at least one)."""
        if self.min_age_days is not None:
            oldest = min(each.since for each in unpaid)
            if (on - oldest).days < self.min_age_days:
                return False
        if self.min_count is not None and len(unpaid) < self.min_count:
            return False
        sums = _sums(each.balance for each in unpaid)
        return not self.min_balances or any(
            sums.get(each.currency, 0) >= each.amount_minor for each in self.min_balances
        )


def _sums(amounts: Iterable[Money]) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in amounts:
        found[each.currency] = found.get(each.currency, 0) + each.amount_minor
    return found


def _check_thresholds(thresholds: Sequence[Money], pointer: str) -> None:
    check_policy(
        len(thresholds) <= MAX_THRESHOLDS
        and len({each.currency for each in thresholds}) == len(thresholds)
        and all(each.amount_minor > 0 for each in thresholds),
        "at most 200 thresholds, one a currency, each above zero",
        pointer,
        "Give each currency once with an amount above zero.",
    )


@dataclass(frozen=True, slots=True)
class Overdue:
    """States from the mildest to the severest, and how they are left. Raises InvalidPolicy for
    more than 20 states, a name given twice, or a state that follows one that cancels."""

    states: tuple[State, ...]
    leaves: Leaves = Leaves.WHEN_BELOW

    def __post_init__(self) -> None:
        check_policy(
            len(self.states) <= MAX_STATES
            and len({each.name for each in self.states}) == len(self.states),
            "a policy has at most 20 states, each name once",
            "/states",
            "Leave out what does not differ.",
        )
        cancels = [each.level is Level.CANCELLED for each in self.states]
        check_policy(
            cancels == sorted(cancels),
            "nothing follows a state that cancels but another that does",
            "/states",
            "Put the states that cancel last.",
        )


def state_on(
    policy: Overdue, unpaid: Sequence[Unpaid], on: date, before: State | None = None
) -> State | None:
    """The severest state that holds on a day; None is clear. ``before`` is the state until then.

    However an invoice was settled (payment, credit, adjustment, write-off), what has no balance
    counts for nothing, and with nothing unpaid the account is clear. A state that cancelled is
    never left: what ended does not come back.
    """
    if before is not None and before.level is Level.CANCELLED:
        return before
    owed = [each for each in unpaid if each.balance.amount_minor > 0 and each.since <= on]
    if not owed:
        return None
    found = next((each for each in reversed(policy.states) if each.holds(owed, on)), None)
    if policy.leaves is Leaves.WHEN_BELOW or before not in policy.states or before is None:
        return found
    return before if found is None else max(found, before, key=policy.states.index)


def state_days(policy: Overdue, unpaid: Sequence[Unpaid], since: date) -> dict[date, State]:
    """On which days from ``since`` on the account enters a state, if nothing is paid and nothing
    new falls due. Raises nothing; empty where no state is reached by age."""
    owed = [each for each in unpaid if each.balance.amount_minor > 0]
    if not owed:
        return {}
    oldest = min(each.since for each in owed)
    days = (
        {since}
        | {each.since for each in owed}
        | {
            oldest + timedelta(days=each.min_age_days)
            for each in policy.states
            if each.min_age_days is not None
        }
    )
    entered: dict[date, State] = {}
    before: State | None = None
    for day in sorted(each for each in days if each >= since):
        now = state_on(policy, owed, day, before)
        if now is not None and now != before:
            entered[day] = now
        before = now
    return entered


def may_change(state: State | None) -> bool:
    """Whether a plan may be changed in this state."""
    return state is None or (state.level is Level.WARNING and not state.blocks_change)


def may_bill(state: State | None) -> bool:
    """Whether invoices are made: not while service is blocked or has ended."""
    return state is None or state.level is Level.WARNING


class Settling(StrEnum):
    """What moves an invoice's balance after it was made."""

    PAYMENT = "payment"
    EXTERNAL_PAYMENT = "external_payment"
    CREDIT = "credit"
    ADJUSTMENT = "adjustment"
    WRITE_OFF = "write_off"
    CHARGEBACK = "chargeback"


def settled(unpaid: Unpaid, how: Settling, amount: Money) -> Unpaid:
    """The invoice after a settlement. All ways of settling count alike; only a chargeback adds its
    amount again. Money beyond the balance is the account's, not the invoice's. Raises
    CurrencyMismatch, and InvalidPolicy for an amount that is not above zero."""
    check_policy(amount.amount_minor > 0, "a settlement is above zero", "/amount_minor", "Give it.")
    if how is Settling.CHARGEBACK:
        return Unpaid(unpaid.since, unpaid.balance + amount)
    rest = unpaid.balance - amount
    return Unpaid(unpaid.since, Money(max(0, rest.amount_minor), rest.currency))


class Waiting(StrEnum):
    """Whether the days between two requests must have passed, or be exceeded (Lago)."""

    AT_LEAST = "at_least"
    MORE_THAN = "more_than"


@dataclass(frozen=True, slots=True)
class Campaign:
    """Requests for a currency's overdue sum from its threshold on: at most ``max_attempts`` each,
    ``days_between`` apart for the whole customer. Raises InvalidPolicy for no threshold or more
    than 200, attempts outside 1 to 100, days outside 1 to 365."""

    thresholds: tuple[Money, ...]
    max_attempts: int
    days_between: int
    waiting: Waiting = Waiting.AT_LEAST

    def __post_init__(self) -> None:
        check_policy(
            bool(self.thresholds),
            "a campaign has a threshold",
            "/thresholds",
            "Give a currency with the sum from which money is asked for.",
        )
        _check_thresholds(self.thresholds, "/thresholds")
        check_policy(
            1 <= self.max_attempts <= MAX_ATTEMPTS,
            "a campaign makes 1 to 100 attempts",
            "/max_attempts",
            "Use, for example, 3.",
        )
        check_policy(
            1 <= self.days_between <= MAX_DAYS_BETWEEN,
            "between two attempts lie 1 to 365 days",
            "/days_between",
            "Use, for example, 7.",
        )


@dataclass(frozen=True, slots=True)
class Progress:
    """What a campaign did for a customer: attempts by currency, and when it asked last."""

    attempts: Mapping[str, int]
    last_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """One run: the currencies asked for, whether it was the last that can ask for what is overdue
    now, and the progress after it."""

    requests: tuple[str, ...]
    finishes: bool
    progress: Progress


def run_campaign(
    campaign: Campaign,
    progress: Progress,
    overdue: Sequence[Money],
    *,
    at: datetime,
    excluded: bool = False,
) -> Round:
    """What is asked for at this moment. Attempts count by currency, the waiting time by customer.

    A currency whose sum reaches its threshold is asked for unless its attempts are used up; those
    asked for most come first, then by name. Nothing for a customer who is excluded or was asked
    too lately.
    """
    done = progress.attempts
    sums = _sums(overdue)
    reached = [
        each.currency
        for each in campaign.thresholds
        if sums.get(each.currency, 0) >= each.amount_minor
    ]
    asked = [each for each in reached if done.get(each, 0) < campaign.max_attempts]
    if excluded or not asked or not _waited(campaign, progress.last_at, at):
        return Round((), False, progress)
    asked.sort(key=lambda each: (-done.get(each, 0), each))
    attempts = {**done, **{each: done.get(each, 0) + 1 for each in asked}}
    finishes = all(attempts[each] >= campaign.max_attempts for each in reached)
    return Round(tuple(asked), finishes, Progress(attempts, at))


def _waited(campaign: Campaign, last_at: datetime | None, at: datetime) -> bool:
    if last_at is None:
        return True
    wanted = timedelta(days=campaign.days_between)
    gone = at - last_at
    return gone > wanted if campaign.waiting is Waiting.MORE_THAN else gone >= wanted
