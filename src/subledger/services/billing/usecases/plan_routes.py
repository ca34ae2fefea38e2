"""From which versions of a plan to which version, existing or thought up, and what a subscription
pays on either."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Row

from subledger.core import mrr
from subledger.core.calendar import Anchor, Interval, times_in
from subledger.core.timeline import Timing
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import problems
from subledger.services.billing.store import catalogue as plans
from subledger.services.billing.store import plan_migrations as store
from subledger.services.billing.store.plan_migrations import Leaving
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.terms import PlanTerms, PriceTerms, TermsMemory
from subledger.services.billing.usecases.anchors import columns
from subledger.services.billing.usecases.catalogue import NewPrice, check_prices
from subledger.services.billing.usecases.change import ChangeRequest
from subledger.services.billing.usecases.conditions import Conditions, conditions
from subledger.services.billing.usecases.planned import Settle
from subledger.services.billing.usecases.timelines import timeline

Effective = Literal["now", "period_end"]


@dataclass(frozen=True, slots=True)
class Asked:
    """Move the subscriptions of a plan: those on ``from_version``, or all, to ``to_version`` (the
    newest) of ``to_plan_id`` (the same plan), or to a version with ``prices`` that is not saved."""

    tenant_id: UUID
    plan_id: UUID
    from_version: int | None
    to_plan_id: UUID | None
    to_version: int | None
    effective: Effective
    settle: Settle
    prices: Sequence[NewPrice] | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """What was asked for, looked up. ``to_version`` None: it is not saved."""

    asked: Asked
    leaving: Leaving
    target: PlanTerms
    to_version: int | None

    def request(self, subscription_id: UUID, cause: UUID | None) -> ChangeRequest:
        """The change of one subscription."""
        return change_request(
            self.asked.tenant_id,
            subscription_id,
            plan_id=self.target.plan_id,
            plan_version_id=self.target.plan_version_id,
            effective=self.asked.effective,
            settle=self.asked.settle,
            cause=cause,
        )


def change_request(
    tenant_id: UUID,
    subscription_id: UUID,
    *,
    plan_id: UUID,
    plan_version_id: UUID,
    effective: Effective,
    settle: Settle,
    cause: UUID | None,
) -> ChangeRequest:
    """One subscription's change to a version, its quantity as it is."""
    return ChangeRequest(
        tenant_id=tenant_id,
        subscription_id=subscription_id,
        plan_id=plan_id,
        quantity=None,
        at="period_end" if effective == "period_end" else None,
        settle=settle,
        cause=cause,
        plan_version_id=plan_version_id,
    )


async def find_route(tx: Tx, memory: TermsMemory, asked: Asked) -> Route:
    """Look up plans and versions.

    Raises unknown_reference (``/to_plan_id``, ``/from_version``, ``/to_version``), not_found for
    the plan itself, nothing_to_change if no version is left over to be moved, and as
    ``check_prices`` does.
    """
    tenant, to_plan_id = asked.tenant_id, asked.to_plan_id or asked.plan_id
    found = await plans.plans(tx, [(tenant, asked.plan_id), (tenant, to_plan_id)])
    if (tenant, asked.plan_id) not in found:
        raise Problem("not_found", detail="There is no such plan.")
    if (tenant, to_plan_id) not in found:
        raise _unknown("/to_plan_id", "There is no such plan.")
    from_id = await _version(tx, tenant, asked.plan_id, asked.from_version, "/from_version")
    latest = found[tenant, to_plan_id]
    to_version: int | None
    if asked.prices is not None:
        newest_terms = (tenant, latest.plan_version_id)
        plan = (await memory.load(tx, [newest_terms]))[newest_terms]
        target = _thought_up(tx, plan, asked.prices)
        to_id, to_version = None, None
    else:
        chosen = await _version(tx, tenant, to_plan_id, asked.to_version, "/to_version")
        to_id = chosen or latest.plan_version_id
        to_version = asked.to_version or latest.version
        target = (await memory.load(tx, [(tenant, to_id)]))[tenant, to_id]
    newest = found[tenant, asked.plan_id].version
    is_only_version = asked.from_version is not None or newest == 1
    is_there = to_plan_id == asked.plan_id and to_version == (asked.from_version or newest)
    if is_there and is_only_version:
        raise Problem(
            problems.NOTHING_TO_CHANGE, detail="The subscriptions are on this version already."
        )
    leaving = Leaving(tenant, asked.plan_id, from_id, newest, to_id)
    return Route(asked=asked, leaving=leaving, target=target, to_version=to_version)


async def _version(
    tx: Tx, tenant_id: UUID, plan_id: UUID, number: int | None, pointer: str
) -> UUID | None:
    if number is None:
        return None
    key = (tenant_id, plan_id, number)
    found = await store.versions(tx, [key])
    if key not in found:
        raise _unknown(pointer, f"The plan has no version {number}.")
    return found[key]


def _unknown(pointer: str, detail: str) -> Problem:
    return Problem(problems.UNKNOWN_REFERENCE, pointer=pointer, detail=detail)


def _thought_up(tx: Tx, plan: PlanTerms, prices: Sequence[NewPrice]) -> PlanTerms:
    """The plan's next version as it would be with ``prices``; nothing is saved."""
    check_prices(prices)
    return replace(
        plan,
        plan_version_id=tx.ids.new(),
        prices=tuple(
            PriceTerms(
                price_id=tx.ids.new(),
                code=each.code,
                currency=each.currency,
                model=each.model,
                interval=each.interval,
                timing=each.timing,
                metered=each.metered,
                tax_inclusive=each.tax_inclusive,
                ramp=each.ramp,
            )
            for each in sorted(prices, key=lambda price: price.code)
        ),
    )


def why_not(row: Row[Any], *, effective: Effective, has_scheduled: bool) -> tuple[str, str] | None:
    """Why a subscription is left as it is: ``(code, detail)``; None if it is to be moved. What a
    person decided for it is not overwritten."""
    if row.ended_at is not None:
        return problems.SUBSCRIPTION_ENDED, f"The subscription ended: it is {row.status}."
    if row.status == "incomplete":
        return problems.SUBSCRIPTION_NOT_ACTIVE, "The first payment was not made yet."
    if row.status == "paused":
        return problems.SUBSCRIPTION_PAUSED, "A change takes effect while it runs."
    if has_scheduled:
        return "change_scheduled", "The subscription waits for another change."
    ends = row.cancel_at is not None and row.cancel_at <= row.current_period_end_at
    if effective == "period_end" and ends:
        return "subscription_ends", "The subscription ends with its period."
    return None


@dataclass(frozen=True, slots=True)
class Compared:
    """What a subscription pays in one turn of its prices, before tax, now and then (minor units):
    per period, or per year where yearly prices stand beside monthly ones."""

    currency: str
    before_minor: int
    before: Interval
    after_minor: int
    after: Interval

    @property
    def difference_minor(self) -> int | None:
        """None where the turns are not equally long."""
        return difference(self.before, self.before_minor, self.after, self.after_minor)

    @property
    def direction(self) -> Literal["up", "down", "same"]:
        """By what it comes to in a month."""
        before = mrr.monthly(self.before_minor, self.before)
        after = mrr.monthly(self.after_minor, self.after)
        return "same" if after == before else "up" if after > before else "down"


def difference(
    before: Interval, before_minor: int, after: Interval, after_minor: int
) -> int | None:
    """After less before, if the intervals are the same, in whatever words."""
    return after_minor - before_minor if times_in(before, after) == 1 else None


def turn_of(terms: PlanTerms, currency: str) -> Interval:
    """After which time all recurring prices of a version have come round. Raises CoreError."""
    cycle = terms.interval(currency)
    periods = mrr.turn(
        times_in(each.interval, cycle) or 1
        for each in terms.prices_in(currency)
        if each.timing is not Timing.ONCE
    )
    return Interval(cycle.unit, cycle.count * periods)


class Amounts:
    """What subscriptions pay from their next period on (``core.mrr.recurring``). Those on plain
    prices are computed once: whole periods cost the same whenever they are, and whoever pays."""

    def __init__(self) -> None:
        self._known: dict[tuple[UUID, str, Decimal], int] = {}

    def compare(
        self,
        row: Row[Any],
        old: PlanTerms,
        new: PlanTerms,
        attached: Sequence[Row[Any]],
        found: Conditions,
    ) -> Compared:
        """Raises Problem (price_missing_for_currency) and CoreError."""
        if not new.prices_in(row.currency):
            raise Problem(
                problems.PRICE_MISSING, pointer="/to_plan_id",
                detail=f"The plan has no price in {row.currency}.",
            )  # fmt: skip
        values = then = row._asdict()
        if new.interval(row.currency) != old.interval(row.currency):
            # A new cycle begins where the present period ends.
            start_at = row.current_period_end_at
            hung = columns(Anchor(start_at, row.timezone))
            then = values | hung | {"cycle_started_at": start_at, "period_number": -1}
        return Compared(
            currency=row.currency,
            before_minor=self._amount(values, old, attached, found),
            before=turn_of(old, row.currency),
            after_minor=self._amount(then, new, attached, found),
            after=turn_of(new, row.currency),
        )

    def _amount(
        self,
        values: Mapping[str, Any],
        terms: PlanTerms,
        attached: Sequence[Row[Any]],
        found: Conditions,
    ) -> int:
        prices = terms.prices_in(values["currency"])
        # Discounts, ramps, agreed prices and taxes have a time, a count or a payer of their own.
        is_plain = not attached and not any(
            each.ramp or each.tax_inclusive or found.agreed_with(values, each.price_id)
            for each in prices
        )
        key = (terms.plan_version_id, values["currency"], values["quantity"])
        if is_plain and key in self._known:
            return self._known[key]
        known = timeline(values, terms, attached, found, sets_up=False)
        amount = mrr.recurring(known, first_period=values["period_number"] + 1)
        if is_plain:
            self._known[key] = amount
        return amount


async def conditions_for(
    tx: Tx,
    memory: TermsMemory,
    rows: Iterable[Row[Any]],
    terms: Mapping[Key, PlanTerms],
    target: PlanTerms,
) -> Conditions:
    """The conditions of subscriptions, as of their next invoice, on what they pay and on where
    they go."""
    given = [
        (
            row._asdict(),
            (terms[row.tenant_id, row.plan_version_id], target),
            row.current_period_end_at,
        )
        for row in rows
    ]
    return await conditions(tx, memory, given)


@dataclass(slots=True)
class Sums:
    """Sums over subscriptions of one currency whose intervals are the same, before and after."""

    up: int = 0
    down: int = 0
    same: int = 0
    before_minor: int = 0
    after_minor: int = 0
    immediate_minor: int = 0

    def add(self, each: Compared, immediate_minor: int = 0) -> None:
        setattr(self, each.direction, getattr(self, each.direction) + 1)
        self.before_minor += each.before_minor
        self.after_minor += each.after_minor
        self.immediate_minor += immediate_minor


@dataclass(frozen=True, slots=True)
class Total:
    """What changes in one currency (minor units). The difference per period sums those whose
    interval stays; MRR is rounded once, so ``mrr_after - mrr_before`` is the difference shown."""

    currency: str
    subscriptions: int
    up: int
    down: int
    same: int
    difference_minor: int
    mrr_before_minor: int
    mrr_after_minor: int
    immediate_minor: int


@dataclass(slots=True)
class Summary:
    """Sums by currency and intervals, from which totals are made."""

    groups: dict[tuple[str, Interval, Interval], Sums] = field(default_factory=dict)

    def of(self, currency: str, before: Interval, after: Interval) -> Sums:
        return self.groups.setdefault((currency, before, after), Sums())

    def add(self, each: Compared) -> None:
        self.of(each.currency, each.before, each.after).add(each)

    def totals(self) -> list[Total]:
        """One per currency, in its order."""
        return [
            _total(currency, [(key[1], key[2], sums) for key, sums in self.groups.items()
                              if key[0] == currency])
            for currency in sorted({key[0] for key in self.groups})
        ]  # fmt: skip


def _total(currency: str, groups: Iterable[tuple[Interval, Interval, Sums]]) -> Total:
    given = list(groups)
    sums = [each for _, _, each in given]
    return Total(
        currency=currency,
        subscriptions=sum(each.up + each.down + each.same for each in sums),
        up=sum(each.up for each in sums),
        down=sum(each.down for each in sums),
        same=sum(each.same for each in sums),
        difference_minor=sum(
            difference(before, each.before_minor, after, each.after_minor) or 0
            for before, after, each in given
        ),
        mrr_before_minor=mrr.total((each.before_minor, before) for before, _, each in given),
        mrr_after_minor=mrr.total((each.after_minor, after) for _, after, each in given),
        immediate_minor=sum(each.immediate_minor for each in sums),
    )
