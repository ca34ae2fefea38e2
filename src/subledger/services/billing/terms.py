"""Plan versions as the core sees them. They never change once written, so they are kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec

from subledger.core.calendar import Interval, Unit, times_in
from subledger.core.pricing import PriceModel, from_data
from subledger.core.timeline import MOST_EVERY, Timing
from subledger.platform.db import Tx
from subledger.services.billing.store import subscriptions as store
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.tax_terms import TaxMemory

_MOST = 10_000


@dataclass(frozen=True, slots=True)
class PriceTerms:
    """One price of a plan version."""

    price_id: UUID
    code: str
    currency: str
    model: PriceModel
    interval: Interval
    timing: Timing
    metered: bool
    tax_inclusive: bool
    ramp: tuple[tuple[int, PriceModel], ...] = ()
    """From which period of a cycle on (counted from 0) it is another model."""


@dataclass(frozen=True, slots=True)
class PlanTerms:
    """An immutable plan version with its prices in every currency."""

    tenant_id: UUID
    plan_version_id: UUID
    plan_id: UUID
    product_id: UUID
    plan_code: str
    product_code: str
    grace_s: int
    trial_days: int
    trial_requires_payment_method: bool
    grace_at_start: bool
    prices: tuple[PriceTerms, ...]

    def prices_in(self, currency: str) -> tuple[PriceTerms, ...]:
        """The prices in one currency, by code; empty if the plan is not sold in it."""
        return tuple(each for each in self.prices if each.currency == currency)

    def interval(self, currency: str) -> Interval:
        """The cycle of a subscription: the shortest interval of its prices."""
        found = cycle_of(each.interval for each in self.prices_in(currency))
        assert found is not None, "prices were checked when they were made"
        return found

    def in_arrears(self, currency: str) -> bool:
        """Whether a price is billed when its period is over."""
        return any(each.timing is Timing.ARREARS for each in self.prices_in(currency))

    def longest(self, currency: str) -> int:
        """The most cycles that one of its prices spans."""
        cycle = self.interval(currency)
        return max(times_in(each.interval, cycle) or 1 for each in self.prices_in(currency))


def cycle_of(intervals: Iterable[Interval]) -> Interval | None:
    """The shortest of the intervals, if all others are whole multiples of it; None if not."""
    given = list(dict.fromkeys(intervals))
    for each in given:
        times = [times_in(other, each) for other in given]
        if all(n is not None and n <= MOST_EVERY for n in times):
            return each
    return None


class TermsMemory:
    """Plan versions seen by this process, most recently used last, at most ``most``; and what it
    knows of tenants' ``taxes``."""

    def __init__(self, most: int = _MOST, *, taxes: TaxMemory | None = None) -> None:
        self.taxes = taxes or TaxMemory()
        self._most = most
        self._known: OrderedDict[Key, PlanTerms] = OrderedDict()

    async def load(self, tx: Tx, keys: Iterable[Key]) -> Mapping[Key, PlanTerms]:
        """The terms of each ``(tenant_id, plan_version_id)``; what does not exist is left out."""
        wanted = set(keys)
        assert {tenant for tenant, _ in wanted} <= tx.tenants, "terms of a tenant out of sight"
        missing = [key for key in wanted if key not in self._known]
        found = _read(await store.plan_terms(tx, missing)) if missing else {}
        for key in wanted:
            if key in self._known:
                self._known.move_to_end(key)
                found[key] = self._known[key]
        for key in missing:
            if key in found:
                self._known[key] = found[key]
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        return found


def _read(rows: Iterable[Any]) -> dict[Key, PlanTerms]:
    heads: dict[Key, Any] = {}
    prices: dict[Key, list[PriceTerms]] = {}
    for row in rows:
        key = (row.tenant_id, row.plan_version_id)
        heads[key] = row
        prices.setdefault(key, []).append(
            PriceTerms(
                price_id=row.price_id,
                code=row.code,
                currency=row.currency,
                model=from_data(row.model, msgspec.json.decode(row.terms)),
                interval=Interval(unit=Unit(row.interval_unit), count=row.interval_count),
                timing=Timing(row.timing),
                metered=row.metered,
                tax_inclusive=row.tax_inclusive,
                ramp=tuple(
                    (step["from_period"], from_data(step["model"], step["terms"]))
                    for step in msgspec.json.decode(row.ramp)
                ),
            )
        )
    return {
        key: PlanTerms(
            tenant_id=row.tenant_id,
            plan_version_id=row.plan_version_id,
            plan_id=row.plan_id,
            product_id=row.product_id,
            plan_code=row.plan_code,
            product_code=row.product_code,
            grace_s=row.grace_s,
            trial_days=row.trial_days,
            trial_requires_payment_method=row.trial_requires_payment_method,
            grace_at_start=row.grace_at_start,
            prices=tuple(prices[key]),
        )
        for key, row in heads.items()
    }
