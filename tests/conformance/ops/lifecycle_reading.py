"""What a case of a lifecycle tells: plans, moments, a subscription and its events."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from subledger.core import lifecycle
from subledger.core.calendar import (
    Alignment,
    Anchor,
    Grid,
    Interval,
    Origin,
    Unit,
    align,
    boundary,
)
from subledger.core.cycles import (
    Billed,
    Trial,
    next_boundary,
    trial_end,
)
from subledger.core.lifecycle import (
    LastDay,
)
from subledger.core.local_days import add_local_days, day_of_month, local_midnight
from subledger.core.pricing import Flat, PerUnit
from subledger.core.timeline import Item, Phase, Timeline
from tests.conformance.case import Unsupported
from tests.conformance.ops.lifecycle_account import Account, Contract

Given = Mapping[str, Any]
SOME_START = "2026-04-01"
SOME_PLAN: Given = {"interval": "month", "amount_minor": 1000}
HALF_OF_APRIL = 15
STARTS = ("start", "start_local", "trial_end", "period", "first_paid_period")
ENDING = ("cancel", "terminate", "change/cancel")
BLOCK = re.compile(r"block back to (\S+), anchor to (\d+), unblock (\S+)")


def instant(text: str, zone: str) -> datetime:
    if len(text) == 10:
        return local_midnight(date.fromisoformat(text), zone)
    found = datetime.fromisoformat(text)
    return (
        found if found.tzinfo else found.replace(tzinfo=local_midnight(found.date(), zone).tzinfo)
    )


def is_date(text: Any) -> bool:
    return isinstance(text, str) and re.match(r"\d{4}-\d\d-\d\d", text) is not None


def interval_of(plan: Given, otherwise: Interval | None = None) -> Interval:
    if "interval" not in plan:
        return otherwise or Interval(Unit.MONTH)
    if plan["interval"] == "thirty_days":
        return Interval(Unit.DAY, 30)
    return Interval(Unit(plan["interval"]), plan.get("interval_count", 1))


def items_of(plan: Given) -> dict[Billed, tuple[Item, ...]]:
    """What a plan's components are, by when they are billed."""
    found: dict[Billed, list[Item]] = {each: [] for each in Billed}
    own = Billed(plan.get("billed", "advance"))
    for key, minor, billing in (
        ("fee", plan.get("amount_minor"), own),
        ("capacity", plan.get("capacity_minor"), Billed.ADVANCE),
        ("advance", plan.get("advance_minor"), Billed.ADVANCE),
        ("arrears", plan.get("arrears_minor"), Billed.ARREARS),
        *((f"component {n}", c, own) for n, c in enumerate(plan.get("components_minor", ()))),
    ):
        if minor is not None:
            found[billing].append(Item(f"{key} of {minor}", Flat(minor), Decimal(1)))
    if "unit_minor" in plan:
        seats = Item("units", PerUnit(Decimal(plan["unit_minor"])), Decimal(plan["quantity"]))
        found[own].append(seats)
    return {billing: tuple(items) for billing, items in found.items()}


def once_of(plan: Given) -> tuple[Item, ...]:
    minor = plan.get("fixed_minor", plan.get("one_time_minor"))
    return () if minor is None else (Item("once", Flat(minor), Decimal(1)),)


@dataclass
class Subscription:
    """One subscription as its events tell it, on an account."""

    account: Account
    source: str
    given: Given
    start_at: datetime
    plan: Given
    current: list[Contract] = field(default_factory=list)
    paused: dict[Billed, tuple[Item, ...]] = field(default_factory=dict)

    @property
    def zone(self) -> str:
        return self.account.zone

    @property
    def interval(self) -> Interval:
        return self.current[0].paid.interval

    @property
    def anchor(self) -> Anchor:
        return self.current[0].paid.anchor

    @property
    def day(self) -> int:
        """The day of month on which the cycle hangs."""
        told = self.given.get("anchor_day", self.given.get("account_anchor_day"))
        return int(told or day_of_month(self.start_at, self.zone))

    def alignment(self, interval: Interval) -> Alignment:
        told = self.given.get("alignment")
        if self.source == "lago":
            # The cases with a trial are on the calendar and do not say so.
            calendar = told == "calendar" or (told is None and "trial_days" in self.plan)
            return Alignment(Grid.CALENDAR if calendar else Grid.START_DAY)
        if not {"anchor_day", "account_anchor_day"} & self.given.keys():
            return Alignment()
        return self.on_day(interval, self.day)

    def on_day(self, interval: Interval, day: int) -> Alignment:
        if not interval.unit.months:
            return Alignment()
        return Alignment(Grid.DAY, day, origin=Origin.OWN_UNIT)

    def begin(self, at: datetime, plan: Given, alignment: Alignment | None = None) -> None:
        """A cycle starts at ``at``."""
        interval = interval_of(plan, self.interval if self.current else None)
        aligned = self.alignment(interval) if alignment is None else alignment
        anchor = align(at, self.zone, interval, aligned)
        self.plan = plan
        free = plan.get("trial_days") if self.source == "lago" else None
        free_until = trial_end(self.start_at, self.zone, Trial(free)) if free else None
        self.current = [
            Contract(timeline_of(anchor, interval, at, items), billing, free_until)
            for billing, items in items_of(plan).items()
            if items
        ]
        self.account.contracts += self.current
        if once_of(plan):
            own = Anchor(at, self.zone)
            once = timeline_of(own, interval, at, once_of(plan))
            once = lifecycle.ended(once, boundary(own, interval, 1))
            self.account.contracts.append(Contract(once, Billed.ADVANCE))

    def end(self, at: datetime) -> datetime:
        """It ends at ``at``; Lago charges that day."""
        last_day = LastDay.CHARGED if self.source == "lago" else LastDay.FREE
        until = lifecycle.charged_until(at, self.start_at, self.anchor, self.interval, last_day)
        for each in self.current:
            each.paid = lifecycle.ended(each.paid, until)
        return until

    def pay(self, at: datetime, items: Mapping[Billed, tuple[Item, ...]]) -> None:
        for each in self.current:
            each.paid = lifecycle.changed(each.paid, at, items[each.billing])

    def change(self, at: datetime, event: Given) -> None:
        plan = self._changed_plan(event)
        if interval_of(plan, self.interval) == self.interval and "anchor_day" not in event:
            self.plan = plan
            self.pay(at, items_of(plan))
            if "trial_days" in plan and self.source == "lago":
                until = trial_end(self.start_at, self.zone, Trial(plan["trial_days"]))
                for each in self.current:
                    each.free_until = until
            return
        for each in self.current:
            each.paid = lifecycle.ended(each.paid, at)
        self.begin(at, plan, self._new_grid(event, plan))

    def _changed_plan(self, event: Given) -> Given:
        told = event.get("plan")
        if told is None and "to" in event:
            told = {"amount_minor": event["to"]}
        if told is None:
            raise Unsupported(f"the event {event!r} tells no plan")
        return {"billed": self.plan.get("billed", "advance"), **told}

    def _new_grid(self, event: Given, plan: Given) -> Alignment:
        interval = interval_of(plan, self.interval)
        if "anchor_day" in event:
            return self.on_day(interval, event["anchor_day"])
        if plan.get("alignment") == "subscription":
            return self.on_day(interval, day_of_month(self.start_at, self.zone))
        if self.source == "killbill":
            return self.on_day(interval, self.day)
        return Alignment()

    def pause(self, at: datetime) -> None:
        self.paused = items_of(self.plan)
        self.pay(at, dict.fromkeys(Billed, ()))

    def resume(self, at: datetime) -> None:
        if self.source != "killbill":
            self.pay(at, self.paused)
            return
        for each in self.current:
            each.paid = lifecycle.ended(each.paid, at)
        self.begin(at, self.plan, self.on_day(self.interval, self.day))

    def moment(self, event: Given) -> datetime:
        """When an event happens."""
        told = event.get("at")
        if is_date(told):
            return instant(told, self.zone)
        if event["type"] == "change_at_period_end" or told == "next period":
            return next_boundary(self.anchor, self.interval, self.start_at)
        if isinstance(told, str) and told.startswith("start"):
            return self.start_at
        return add_local_days(self.start_at, HALF_OF_APRIL, self.zone)

    def happen(self, event: Given, at: datetime) -> datetime:
        """What is known from then on; gives the moment at which to bill it."""
        kind = event["type"]
        block = BLOCK.fullmatch(kind)
        if block:
            back, day, until = block.groups()
            for each in self.current:
                each.paid = lifecycle.ended(each.paid, instant(back, self.zone))
            again = self.on_day(self.interval, int(day))
            self.begin(instant(until, self.zone), self.plan, again)
        elif kind == "quantity":
            self.plan = {**self.plan, "quantity": event["quantity"]}
            self.pay(at, items_of(self.plan))
        elif kind.startswith(ENDING):
            return self.end(at)
        elif kind.startswith("pause"):
            self.pause(at)
        elif kind.startswith("resume"):
            self.resume(at)
        elif kind.startswith(("change", "phase", "upgrade", "downgrade")):
            self.change(at, event)
        else:
            raise Unsupported(f"no event {kind!r}")
        return at


def timeline_of(
    anchor: Anchor, interval: Interval, at: datetime, items: tuple[Item, ...], currency: str = "EUR"
) -> Timeline:
    return Timeline(anchor, interval, currency, (Phase(at, items),))


def plan_of(given: Given) -> Given:
    if "unit_minor" in given:
        return {key: given[key] for key in ("unit_minor", "quantity")}
    if "plans" in given:
        return {"amount_minor": given["plans"][0], "billed": given["billed"]}
    if given.get("plan") == "free":
        return {"interval": "month"}
    first = (given["phases"][0],) if "phases" in given else ()
    told = (*first, *(given.get(key) for key in ("plan", "addon", "old")), SOME_PLAN)
    return next(each for each in told if isinstance(each, Mapping))


def start_of(given: Given, zone: str) -> datetime:
    for key in STARTS:
        if key in given:
            told = given[key]
            return instant(told if isinstance(told, str) else told[0], zone)
    return instant(SOME_START, zone)


def account_of(given: Given, source: str = "") -> Account:
    zone = str(given.get("timezone", "UTC"))
    return Account(
        zone,
        Decimal(given.get("tax_percent", 0)),
        [(instant(each["at"], zone), each["fee_minor"]) for each in given.get("usage", ())],
        plan_of(given).get("minimum_commitment_minor", 0),
        credit_notes=source == "lago",
        final_statement=source == "lago",
    )


def started(account: Account, source: str, given: Given) -> Subscription:
    start_at, plan = start_of(given, account.zone), plan_of(given)
    found = Subscription(account, source, given, start_at, plan)
    found.begin(start_at, plan)
    if "phases" in given:
        months, anchor = 0, found.anchor
        for before, after in zip(given["phases"], given["phases"][1:], strict=False):
            months += before["months"]
            found.change(boundary(anchor, Interval(Unit.MONTH), months), {"plan": after})
    return found


def run_before(account: Account, at: datetime, *, including: bool = False) -> None:
    if account.now is None:
        first = min((each.paid.phases[0].from_at for each in account.contracts), default=None)
        account.now = None if first is None else first - timedelta(microseconds=1)
    if account.now is not None:
        account.run_before(at, including=including)
