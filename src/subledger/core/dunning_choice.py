"""Which dunning policy an unpaid invoice gets, and which method a retry turns to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from subledger.core.dunning import Failure, Policy, check_policy
from subledger.core.money import Money

MAX_NAMED = 100

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Debt:
    """An unpaid invoice: what it is for, and how much. ``amount`` is None before there is one."""

    currency: str
    plans: frozenset[str] = frozenset()
    products: frozenset[str] = frozenset()
    amount: Money | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """What a policy is for: everything that it names has to fit. Raises InvalidPolicy for one that
    names nothing, or more than 100 of a kind."""

    plans: frozenset[str] = frozenset()
    products: frozenset[str] = frozenset()
    currencies: frozenset[str] = frozenset()
    above: Money | None = None
    """Invoices of its currency above it."""

    def __post_init__(self) -> None:
        named = (self.plans, self.products, self.currencies)
        check_policy(
            any(named) or self.above is not None,
            "a segment names a plan, a product, a currency or an amount",
            "/segment",
            "Name one, or change the default policy, which holds for all the rest.",
        )
        check_policy(
            all(len(each) <= MAX_NAMED for each in named),
            "a segment names at most 100 plans, products or currencies",
            "/segment",
            "Make several policies.",
        )

    def fits(self, debt: Debt) -> bool:
        """Whether the invoice belongs to it."""
        return (
            (not self.plans or bool(self.plans & debt.plans))
            and (not self.products or bool(self.products & debt.products))
            and (not self.currencies or debt.currency in self.currencies)
            and (self.above is None or self._is_above(self.above, debt.amount))
        )

    @staticmethod
    def _is_above(least: Money, amount: Money | None) -> bool:
        return (
            amount is not None
            and amount.currency == least.currency
            and amount.amount_minor > least.amount_minor
        )

    @property
    def rank(self) -> tuple[bool, bool, int, bool]:
        """How specific it is: a plan before a product, then an amount (the higher), a currency."""
        amount = -1 if self.above is None else self.above.amount_minor
        return bool(self.plans), bool(self.products), amount, bool(self.currencies)


def choose(policies: Iterable[tuple[Segment, T]], debt: Debt) -> T | None:
    """What stands beside the most specific segment that the debt fits; of equals the one given
    first, and None where none fits."""
    best: tuple[Segment, T] | None = None
    for each in policies:
        if each[0].fits(debt) and (best is None or each[0].rank > best[0].rank):
            best = each
    return None if best is None else best[1]


def avoided(policy: Policy, failures: Sequence[Failure]) -> tuple[str, ...]:
    """The methods that were refused in a way after which the policy turns to another, each once."""
    return tuple(
        dict.fromkeys(
            each.method
            for each in failures
            if each.method is not None and each.counted and each.decline in policy.fallback_after
        )
    )


def method_to_try(methods: Sequence[T], avoid: Sequence[T]) -> T | None:
    """The first of the payer's methods, in their order, that is not avoided; where all are, the
    first; None without any."""
    return next((each for each in methods if each not in avoid), methods[0] if methods else None)
