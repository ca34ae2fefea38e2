"""Dunning policies as they are kept: JSON that means what ``core.dunning`` computes with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import msgspec

from subledger.core.dunning import (
    DEFAULT,
    Decline,
    FinalAction,
    FinalAt,
    Policy,
    Preferred,
    Since,
)
from subledger.core.dunning_choice import Debt, Segment, choose
from subledger.core.money import Money

DEFAULT_NAME = "default"


class Terms(msgspec.Struct, frozen=True):
    """What a policy says: times in seconds, ids in their public form."""

    delays_s: tuple[int, ...]
    final_action: FinalAction
    hard_decline_stops: bool
    delays_by_class_s: dict[Decline, tuple[int, ...]] = {}
    since: Since = Since.FAILURE_BEFORE
    max_retries: int | None = None
    max_span_s: int | None = None
    final_at: FinalAt = FinalAt.AT_ONCE
    hour: int | None = None
    weekdays: tuple[int, ...] = ()
    month_days: tuple[int, ...] = ()
    fallback_after: tuple[Decline, ...] = ()
    downgrade_to_plan_id: str | None = None

    def policy(self) -> Policy:
        """As the core takes it. Raises InvalidPolicy."""
        return Policy(
            delays=_delays(self.delays_s),
            final=self.final_action,
            hard_decline_stops=self.hard_decline_stops,
            since=self.since,
            max_retries=self.max_retries,
            max_span=None if self.max_span_s is None else timedelta(seconds=self.max_span_s),
            final_at=self.final_at,
            preferred=Preferred(self.hour, self.weekdays, self.month_days),
            by_class={each: _delays(given) for each, given in self.delays_by_class_s.items()},
            fallback_after=frozenset(self.fallback_after),
        )


def _delays(seconds: Sequence[int]) -> tuple[timedelta, ...]:
    return tuple(timedelta(seconds=each) for each in seconds)


DEFAULT_TERMS = Terms(
    delays_s=tuple(int(each.total_seconds()) for each in DEFAULT.delays),
    final_action=DEFAULT.final,
    hard_decline_stops=DEFAULT.hard_decline_stops,
)


class Named(msgspec.Struct, frozen=True):
    """The segment of a policy: ids in their public form."""

    plan_ids: tuple[str, ...] = ()
    product_ids: tuple[str, ...] = ()
    currencies: tuple[str, ...] = ()
    above_minor: int | None = None
    above_currency: str | None = None

    def segment(self) -> Segment:
        """As the core takes it. Raises InvalidPolicy."""
        above = None
        if self.above_minor is not None and self.above_currency is not None:
            above = Money(self.above_minor, self.above_currency)
        return Segment(
            plans=frozenset(self.plan_ids),
            products=frozenset(self.product_ids),
            currencies=frozenset(self.currencies),
            above=above,
        )


@dataclass(frozen=True, slots=True)
class Kept:
    """A policy in one of its versions; ``id`` and ``named`` are None for the default one."""

    id: UUID | None
    name: str
    version: int
    terms: Terms
    named: Named | None = None


DEFAULT_KEPT = Kept(None, DEFAULT_NAME, 0, DEFAULT_TERMS)


@dataclass(frozen=True, slots=True)
class Shelf:
    """A tenant's policies, the oldest first."""

    default: Kept
    others: Sequence[Kept]

    def choose(self, debt: Debt) -> Kept:
        """The policy for an unpaid invoice."""
        fitting = ((each.named.segment(), each) for each in self.others if each.named is not None)
        return choose(fitting, debt) or self.default
