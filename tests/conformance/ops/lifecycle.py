"""Cases of a subscription's life. They name no operation: a case tells a subscription and its
events, and is answered under the keys it expects by what the account was billed.

Conventions by source: Kill Bill keeps only the day of month where a subscription goes on after a
pause or on another interval; Lago charges the last day and lets a trial run on across changes;
Meteroid's trial ends with a change. Dates stand for local midnights. Where a case tells neither
dates nor a plan, one of ours stands in, and no figure of it is answered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import reduce
from typing import Any

from subledger.core import ledger, lifecycle, states
from subledger.core.calendar import (
    Alignment,
    Anchor,
    Grid,
    Interval,
    Origin,
    Unit,
    align,
    boundary,
    index_at,
)
from subledger.core.cycles import (
    Billed,
    Cycle,
    TakesEffect,
    Trial,
    next_boundary,
    reanchor,
    trial_end,
)
from subledger.core.discounts import Discount, Duration, Kind
from subledger.core.invoicing import join
from subledger.core.lifecycle import (
    LIFECYCLE,
    ChangesBilled,
    LastDay,
    Scheduled,
    Settlement,
    settle,
)
from subledger.core.local_days import add_local_days, day_of_month, local_date, local_midnight
from subledger.core.pricing import Flat, PerUnit, true_up
from subledger.core.tax import Place, Rate, Rounding, StoredTax, TaxLine, compute, credit_tax
from subledger.core.timeline import Attached, Draft, Item, Line, Phase, Timeline
from tests.conformance.case import Answer, Case, Operation, Unsupported

Given = Mapping[str, Any]
SOME_START = "2026-04-01"
SOME_PLAN: Given = {"interval": "month", "amount_minor": 1000}
HALF_OF_APRIL = 15
STARTS = ("start", "start_local", "trial_end", "period", "first_paid_period")
ENDING = ("cancel", "terminate", "change/cancel")
BLOCK = re.compile(r"block back to (\S+), anchor to (\d+), unblock (\S+)")


# What is billed -----------------------------------------------------------------------------------


@dataclass
class Contract:
    """What is paid on one grid, before a trial is taken out, and the lines billed so far."""

    paid: Timeline
    billing: Billed
    free_until: datetime | None = None
    lines: list[Line] = field(default_factory=list)

    @property
    def timeline(self) -> Timeline:
        if self.free_until is None:
            return self.paid
        return replace(self.paid, phases=lifecycle.after_trial(self.paid.phases, self.free_until))


@dataclass(frozen=True)
class Invoice:
    """What one run of an account found."""

    at: datetime
    draft: Draft
    settled: Settlement
    arrears: tuple[Line, ...]
    usage: tuple[int, ...]
    true_up_minor: int
    tax_minor: int
    total_minor: int
    credit_notes_minor: tuple[int, ...]

    def lines(self, kind: str) -> list[Line]:
        return [each for each in self.draft.lines if each.kind == kind]


@dataclass
class Account:
    """Contracts that are billed together, with the customer's credit."""

    zone: str
    tax_percent: Decimal = Decimal(0)
    usage: list[tuple[datetime, int]] = field(default_factory=list)
    minimum_minor: int = 0
    credit_notes: bool = False
    final_statement: bool = False
    changes: ChangesBilled = ChangesBilled.NOW
    contracts: list[Contract] = field(default_factory=list)
    invoices: list[Invoice] = field(default_factory=list)
    credit_minor: int = 0
    now: datetime | None = None
    _stored: dict[Any, StoredTax] = field(default_factory=dict)
    _given_back: dict[Any, tuple[int, int]] = field(default_factory=dict)

    def run(self, at: datetime, *, closing: bool = False) -> None:
        """Bill what is due at ``at``; an invoice if there is anything."""
        self.now = at
        drafts, arrears, issued = [], [], False
        for each in self.contracts:
            found = lifecycle.due(each.timeline, at, billed=each.lines, billing=each.billing)
            drafts.append(found)
            issued = issued or lifecycle.is_issued(
                found, each.timeline, at, final_statement=self.final_statement
            )
            if each.billing is Billed.ARREARS:
                arrears += found.lines
            each.lines += found.lines
        closing = closing or self._closes(at)
        used = [minor for when, minor in self.usage if closing and when < at]
        self.usage = [each for each in self.usage if not (closing and each[0] < at)]
        missing = self._true_up(at, used) if closing and self.minimum_minor else 0
        if not drafts:
            return
        whole = reduce(join, drafts)
        if issued or used or missing:
            self.invoices.append(self._invoice(at, whole, arrears, used, missing))

    def _invoice(
        self, at: datetime, whole: Draft, arrears: Sequence[Line], used: list[int], missing: int
    ) -> Invoice:
        charges = [each for each in whole.lines if each.kind == "charge"]
        credits = [each for each in whole.lines if each.kind == "credit"]
        apart = self.credit_notes or bool(self.tax_percent)
        notes = [self._credit_note(each) for each in credits] if apart else []
        amounts = [each.net_minor for each in charges] + used + ([missing] if missing else [])
        amounts += [] if apart else [each.net_minor for each in credits]
        rates = self._rates()
        taxed = compute([TaxLine(each, rates) for each in amounts], rounding=Rounding.PER_DOCUMENT)
        for line, tax in zip(charges, taxed.lines, strict=False):
            if rates:
                self._stored[line.key] = StoredTax.of(line.net_minor, tax.taxes[0])
        for note in notes:
            self.credit_minor += settle(-note, 0).credit_made_minor
        settled = settle(taxed.gross_minor, self.credit_minor)
        self.credit_minor += settled.credit_made_minor - settled.credit_used_minor
        total_minor = settled.due_minor if apart else taxed.gross_minor
        return Invoice(
            at,
            whole,
            settled,
            tuple(arrears),
            tuple(used),
            missing,
            taxed.tax_minor,
            total_minor,
            tuple(notes),
        )

    def _rates(self) -> tuple[Rate, ...]:
        if not self.tax_percent:
            return ()
        return (Rate("vat", self.tax_percent, "VAT", Place("FR")),)

    def _credit_note(self, line: Line) -> int:
        """The credit with the tax of the line that it gives back (both positive)."""
        if not self.tax_percent:
            return settle(line.net_minor, 0).credit_made_minor
        original = self._stored[line.key]
        before, before_tax = self._given_back.get(line.key, (0, 0))
        tax = credit_tax(
            original,
            credited_minor=-line.net_minor,
            already_credited_minor=before,
            already_credited_tax_minor=before_tax,
        ).tax_minor
        self._given_back[line.key] = (before - line.net_minor, before_tax + tax)
        return tax - line.net_minor

    def _closes(self, at: datetime) -> bool:
        """Whether a period of the grid ends at ``at``."""
        return any(
            boundary(each.paid.anchor, each.paid.interval, n) == at
            for each in self.contracts
            for n in [index_at(each.paid.anchor, each.paid.interval, at)]
        )

    def _true_up(self, at: datetime, used: Sequence[int]) -> int:
        """What the period that ends at ``at`` lacks of its minimum; none for one wholly free."""
        fees = [
            line.net_minor
            for each in self.contracts
            for line in each.lines
            if line.service_end_at == at
        ]
        return int(true_up(self.minimum_minor, [*fees, *used])) if fees else 0

    def next_at(self) -> datetime | None:
        assert self.now is not None
        found = [
            lifecycle.next_due_at(each.timeline, self.now, each.billing, self.changes)
            for each in self.contracts
        ]
        return min((each for each in found if each is not None), default=None)

    def run_before(self, until: datetime, *, including: bool = False) -> None:
        """Every run that is due before ``until``."""
        while (at := self.next_at()) is not None and (at < until or (including and at == until)):
            self.run(at)

    def run_for(self, invoices: int) -> None:
        """Runs until there are so many invoices, or nothing more is due."""
        for _ in range(100):
            at = self.next_at()
            if at is None or len(self.invoices) >= invoices:
                return
            self.run(at)


# Reading ------------------------------------------------------------------------------------------


def _at(text: str, zone: str) -> datetime:
    if len(text) == 10:
        return local_midnight(date.fromisoformat(text), zone)
    found = datetime.fromisoformat(text)
    return (
        found if found.tzinfo else found.replace(tzinfo=local_midnight(found.date(), zone).tzinfo)
    )


def _is_date(text: Any) -> bool:
    return isinstance(text, str) and re.match(r"\d{4}-\d\d-\d\d", text) is not None


def _interval(plan: Given, otherwise: Interval | None = None) -> Interval:
    if "interval" not in plan:
        return otherwise or Interval(Unit.MONTH)
    if plan["interval"] == "thirty_days":
        return Interval(Unit.DAY, 30)
    return Interval(Unit(plan["interval"]), plan.get("interval_count", 1))


def _items(plan: Given) -> dict[Billed, tuple[Item, ...]]:
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


def _once(plan: Given) -> tuple[Item, ...]:
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
        interval = _interval(plan, self.interval if self.current else None)
        aligned = self.alignment(interval) if alignment is None else alignment
        anchor = align(at, self.zone, interval, aligned)
        self.plan = plan
        free = plan.get("trial_days") if self.source == "lago" else None
        free_until = trial_end(self.start_at, self.zone, Trial(free)) if free else None
        self.current = [
            Contract(_timeline(anchor, interval, at, items), billing, free_until)
            for billing, items in _items(plan).items()
            if items
        ]
        self.account.contracts += self.current
        if _once(plan):
            own = Anchor(at, self.zone)
            once = _timeline(own, interval, at, _once(plan))
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
        if _interval(plan, self.interval) == self.interval and "anchor_day" not in event:
            self.plan = plan
            self.pay(at, _items(plan))
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
        interval = _interval(plan, self.interval)
        if "anchor_day" in event:
            return self.on_day(interval, event["anchor_day"])
        if plan.get("alignment") == "subscription":
            return self.on_day(interval, day_of_month(self.start_at, self.zone))
        if self.source == "killbill":
            return self.on_day(interval, self.day)
        return Alignment()

    def pause(self, at: datetime) -> None:
        self.paused = _items(self.plan)
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
        if _is_date(told):
            return _at(told, self.zone)
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
                each.paid = lifecycle.ended(each.paid, _at(back, self.zone))
            again = self.on_day(self.interval, int(day))
            self.begin(_at(until, self.zone), self.plan, again)
        elif kind == "quantity":
            self.plan = {**self.plan, "quantity": event["quantity"]}
            self.pay(at, _items(self.plan))
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


def _timeline(
    anchor: Anchor, interval: Interval, at: datetime, items: tuple[Item, ...], currency: str = "EUR"
) -> Timeline:
    return Timeline(anchor, interval, currency, (Phase(at, items),))


def _plan(given: Given) -> Given:
    if "unit_minor" in given:
        return {key: given[key] for key in ("unit_minor", "quantity")}
    if "plans" in given:
        return {"amount_minor": given["plans"][0], "billed": given["billed"]}
    if given.get("plan") == "free":
        return {"interval": "month"}
    first = (given["phases"][0],) if "phases" in given else ()
    told = (*first, *(given.get(key) for key in ("plan", "addon", "old")), SOME_PLAN)
    return next(each for each in told if isinstance(each, Mapping))


def _start(given: Given, zone: str) -> datetime:
    for key in STARTS:
        if key in given:
            told = given[key]
            return _at(told if isinstance(told, str) else told[0], zone)
    return _at(SOME_START, zone)


def _account(given: Given, source: str = "") -> Account:
    zone = str(given.get("timezone", "UTC"))
    return Account(
        zone,
        Decimal(given.get("tax_percent", 0)),
        [(_at(each["at"], zone), each["fee_minor"]) for each in given.get("usage", ())],
        _plan(given).get("minimum_commitment_minor", 0),
        credit_notes=source == "lago",
        final_statement=source == "lago",
    )


# Running ------------------------------------------------------------------------------------------


def subscriptions(case: Case) -> Answer:
    """One subscription, or several with a number each: starts, events, runs."""
    given = dict(case.given)
    events = [dict(each) for each in given.get("events", ())]
    account = _account(given, case.source)
    several = any("sub" in each for each in events)
    known: dict[Any, Subscription] = {}
    if not several:
        known[None] = _started(account, case.source, given)
    told_end = given.get("ends_at", given.get("end"))
    if told_end is not None:
        known[None].end(_at(told_end, account.zone))
    runs = "target" not in given
    # Several subscriptions are told one after another, but billed as time goes on.
    for event in sorted(events, key=lambda each: str(each.get("at", "")) if several else ""):
        if event["type"] == "start":
            _run_before(account, _at(event["at"], account.zone))
            told = {**event, "start": event["at"]}
            known[event["sub"]] = _started(account, case.source, told)
            continue
        of = known[event.get("sub")]
        at = of.moment(event)
        if runs:
            _run_before(account, at, including=at == of.start_at)
        bill_at = of.happen(event, at)
        # With invoicing off nothing runs until it is on again.
        runs = "target" not in given and not event["type"].endswith("invoicing off")
        if runs:
            account.run(bill_at, closing=True)
    return _answer(case, account, given)


def _started(account: Account, source: str, given: Given) -> Subscription:
    start_at, plan = _start(given, account.zone), _plan(given)
    found = Subscription(account, source, given, start_at, plan)
    found.begin(start_at, plan)
    if "phases" in given:
        months, anchor = 0, found.anchor
        for before, after in zip(given["phases"], given["phases"][1:], strict=False):
            months += before["months"]
            found.change(boundary(anchor, Interval(Unit.MONTH), months), {"plan": after})
    return found


def _run_before(account: Account, at: datetime, *, including: bool = False) -> None:
    if account.now is None:
        first = min((each.paid.phases[0].from_at for each in account.contracts), default=None)
        account.now = None if first is None else first - timedelta(microseconds=1)
    if account.now is not None:
        account.run_before(at, including=including)


def _finish(account: Account, given: Given, expect: Given) -> None:
    """The runs that the case looks at: one at its target, all up to the last date it shows, or as
    many as it has figures for."""
    if "target" in given:
        account.run(_at(given["target"], account.zone))
        return
    _run_before(account, account.now or _at("1971-01-01", account.zone))
    shown = [each for each in _dates(expect) if _is_date(each)]
    if shown:
        last = _at(max(shown)[:10], account.zone)
        account.run_before(add_local_days(last, 1, account.zone))
    elif "ends_at" in given or "end" in given:
        account.run_for(100)
    else:
        counted = [expect.get(key) for key in ("invoices_total_minor", "invoices_minor", *LISTS)]
        account.run_for(max(len(each) for each in (*counted, [1]) if isinstance(each, list)))
    if given.get("existing"):
        assert account.now is not None
        account.run(account.now)


LISTS = ("monthly_minor", "invoices", "fees_minor")


def _dates(expect: Given) -> Iterable[Any]:
    listed = expect.get("invoices")
    for each in listed if isinstance(listed, list) else ():
        yield from (each.get(key) for key in ("at", "date", "target"))
    yield from expect.get("invoice_dates", ())
    yield from (each[0] for each in expect.get("periods", ()))


# Writing ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Billing:
    """An account after its runs, and what a case wants to see of it."""

    account: Account
    given: Given
    expect: Given
    ends: Mapping[str, datetime] = field(default_factory=dict)

    @property
    def invoices(self) -> list[Invoice]:
        return self.account.invoices

    @property
    def charges(self) -> list[Line]:
        return [line for each in self.invoices for line in each.lines("charge")]

    @property
    def credits(self) -> list[Line]:
        return [line for each in self.invoices for line in each.lines("credit")]

    def day(self, at: datetime) -> str:
        return local_date(at, self.account.zone).isoformat()

    def span(self, line: Line) -> list[str]:
        return [self.day(line.service_start_at), self.day(line.service_end_at)]

    def periods(self) -> list[list[str]]:
        """Of what was charged, each once."""
        return list(map(list, dict.fromkeys(tuple(self.span(each)) for each in self.charges)))

    def items(self) -> Any:
        """How many lines the last invoice has, or those of all, as the case shows them."""
        wanted = self.expect["items"]
        if isinstance(wanted, int):
            return len(self.invoices[-1].draft.lines)
        return [
            {"type": KINDS[line.kind], "period": self.span(line), "amount_minor": line.net_minor}
            for line in self.invoices[-1].draft.lines
        ]

    def shown(self) -> Any:
        """The invoices as the case shows them: from its first date on, with its columns."""
        wanted = self.expect["invoices"]
        if isinstance(wanted, int):
            return len(self.invoices)
        dates = [str(each) for each in _dates(self.expect) if _is_date(each)]
        found = [
            each for each in self.invoices if not dates or self.day(each.at) >= min(dates)[:10]
        ]
        return [
            self.columns(each, wanted[n] if n < len(wanted) else {"at": None})
            for n, each in enumerate(found)
        ]

    def columns(self, invoice: Invoice, wanted: Given) -> dict[str, Any]:
        charges = invoice.lines("charge")
        arrears = {each.key for each in invoice.arrears}
        answer: dict[str, Any] = {
            "date": self.day(invoice.at),
            "target": self.day(invoice.at),
            "at": self.when(invoice.at, wanted.get("at")),
            "total_minor": invoice.total_minor,
            "fee_minor": _net(charges),
            "usage_minor": _net_of(invoice.usage),
            "true_up_minor": invoice.true_up_minor,
            "period": self.span(charges[0]) if charges else None,
            "items": len(invoice.draft.lines),
            "arrears": len(arrears),
        }
        if isinstance(wanted.get("items"), list):
            answer["items"] = self.lines(invoice, [each["type"] for each in wanted["items"]])
        amounts = {k: answer[k] for k in ("fee_minor", "usage_minor", "true_up_minor")}
        unasked = {key: value for key, value in amounts.items() if value and key not in wanted}
        hidden = {} if "total_minor" in wanted or "items" in wanted else unasked
        return {key: answer[key] for key in wanted if key in answer} | hidden

    def when(self, at: datetime, told: Any) -> str:
        """The case's own words for a moment if they fit it."""
        shown = self.day(at)
        if told in self.ends and self.ends[told] == at:
            return str(told)
        if isinstance(told, str) and " after " in told:
            day, _, time = told.partition(" after ")
            return told if day == shown and at >= _at(f"{day}T{time}", self.account.zone) else shown
        return shown

    def lines(self, invoice: Invoice, order: Sequence[str]) -> list[dict[str, Any]]:
        """Kill Bill's items; their order says nothing, so the case's is taken."""
        found = [
            {
                "type": KINDS[line.kind],
                "start": self.day(line.service_start_at),
                "end": self.day(line.service_end_at),
                "amount_minor": line.net_minor,
            }
            for line in invoice.draft.lines
        ]
        made, used = invoice.settled.credit_made_minor, invoice.settled.credit_used_minor
        found += [
            {"type": "account_credit", "start": None, "end": None, "amount_minor": minor}
            for minor in (made, -used)
            if minor
        ]
        places = {kind: n for n, kind in enumerate(order)}
        return sorted(found, key=lambda each: places.get(str(each["type"]), len(order)))

    def document(self, invoice: Invoice) -> dict[str, Any]:
        settled = invoice.settled
        return {
            "fee_minor": _net(invoice.lines("charge")),
            "usage_minor": _net_of(invoice.usage),
            "tax_minor": invoice.tax_minor,
            "credit_notes_minor": settled.credit_used_minor,
            "total_minor": settled.due_minor,
        }

    def some(self, key: str, invoice: Invoice) -> Any:
        wanted = self.expect[key]
        found = self.document(invoice)
        return {each: found[each] for each in wanted} if isinstance(wanted, Mapping) else found

    def notes(self) -> list[int]:
        return [note for each in self.invoices for note in each.credit_notes_minor]


KINDS = {"charge": "recurring", "credit": "repair"}


def _net(lines: Iterable[Line]) -> int:
    return _net_of([each.net_minor for each in lines])


def _net_of(amounts: Sequence[int]) -> int:
    return compute([TaxLine(each, ()) for each in amounts]).net_minor if amounts else 0


def _last(found: Billing) -> Invoice:
    return found.invoices[-1]


def _item(found: Billing) -> Any:
    (line,) = _last(found).draft.lines
    return {"period": found.span(line), "amount_minor": line.net_minor}


def _quiet(found: Billing) -> Any:
    """The moments at which nothing was billed, of those named."""
    zone = found.account.zone
    return [
        told
        for told in found.expect["no_invoice_at"]
        if not any(
            found.day(each.at) == told if len(told) == 10 else each.at == _at(told, zone)
            for each in found.invoices
        )
    ]


SHOWN: Mapping[str, Callable[[Billing], Any]] = {
    "periods": Billing.periods,
    "items": Billing.items,
    "item": _item,
    "total_minor": lambda of: _last(of).total_minor,
    "invoice": lambda of: None if len(of.invoices) < 2 else of.document(_last(of)),
    "second_invoice": lambda of: None if len(of.invoices) < 2 else of.document(_last(of)),
    "no_second_invoice": lambda of: len(of.invoices) == 1,
    "invoices": Billing.shown,
    "invoices_total_minor": lambda of: [each.total_minor for each in of.invoices],
    "invoices_minor": lambda of: [each.total_minor for each in of.invoices],
    "monthly_minor": lambda of: [each.total_minor for each in of.invoices],
    "invoice_dates": lambda of: [of.day(each.at) for each in of.invoices],
    "repair_minor": lambda of: _net(of.credits),
    "new_period": lambda of: of.span(of.charges[-1]),
    "new_minor": lambda of: of.charges[-1].net_minor,
    "fees_minor": lambda of: [each.net_minor for each in of.charges],
    "credit_notes_minor": Billing.notes,
    "credit_note_minor": lambda of: of.notes()[-1],
    "credit_note": lambda of: None if not of.credits else _net(of.credits),
    "first_invoice": lambda of: of.some("first_invoice", of.invoices[0]),
    "final_invoice": lambda of: of.some("final_invoice", _last(of)),
    "no_invoice_at": _quiet,
    "fee_minor": lambda of: _net(_last(of).lines("charge")),
    "last_fee_minor": lambda of: _net(_last(of).lines("charge")),
    "last_invoice_total_minor": lambda of: _last(of).total_minor,
    "split_arrears_minor": lambda of: [each.net_minor for each in _last(of).arrears],
    "adjustment_invoice": lambda of: None if not of.credits else _net(of.credits),
    "first_invoice_minor": lambda of: of.invoices[0].total_minor,
    "renewal_minor": lambda of: _last(of).total_minor,
    "second_period_cut_to": lambda of: of.span(of.charges[1])[1],
    "proration": lambda of: bool(of.credits) and of.charges[-1].derivation["fraction"] != "1",
}


def _answer(
    case: Case,
    account: Account,
    given: Given,
    ends: Mapping[str, datetime] | None = None,
    **more: Any,
) -> Answer:
    _finish(account, given, case.expect)
    found = Billing(account, given, case.expect, ends or {})
    unknown = case.expect.keys() - SHOWN.keys() - more.keys()
    if unknown:
        raise Unsupported(f"nothing of ours answers {sorted(unknown)}")
    return {key: more[key] if key in more else SHOWN[key](found) for key in case.expect}


# States -------------------------------------------------------------------------------------------

WORDS = {"trialing": "trial_active"}
"""Meteroid's word where it has its own."""


def _states(*triggers: str) -> list[str]:
    found, state = [], "pending"
    for each in triggers:
        state = states.step(LIFECYCLE, state, each)
        found.append(WORDS.get(state, state))
    return found


def ending(case: Case) -> Answer:
    """A fixed end: the general case with the state after it."""
    last = _states("started", "ended")[-1]
    if "state" in case.expect:
        account = _account(case.given, case.source)
        told = _started(account, case.source, case.given)
        told.end(_at(case.given.get("end") or case.given["ends_at"], account.zone))
        return _answer(case, account, case.given, state=last)
    return subscriptions(case)


def stated(case: Case) -> Answer:
    """A subscription in a state, and one thing done to it."""
    state = case.given["state"]
    for event in case.given["events"]:
        trigger = event["type"]
        if trigger == "terminate":
            trigger = "canceled" if (state, "canceled") in LIFECYCLE else "terminated"
        state = states.step(LIFECYCLE, state, trigger)
    if state == "active":
        raise Unsupported("the case tells no plan, so what it is billed is not known")
    return {"state": state, "invoice": None}


def trial(case: Case) -> Answer:
    """A trial that is given with the subscription: free up to its end, or paid from the start."""
    given = dict(case.given)
    account = _account(given, case.source)
    start_at = _start(given, account.zone)
    ends_at = trial_end(start_at, account.zone, Trial(given["trial_days"]))
    told = Subscription(account, case.source, given, start_at, _plan(given))
    events = given.get("events", ())
    missing = given.get("checkout_done") is False or "checkout" in given
    lapses = given.get("activation") == "on_checkout" and missing and given.get("trial") != "paid"
    triggers = ["trial_started"]
    more: dict[str, Any] = {}
    account.now = start_at - timedelta(microseconds=1)
    if events:
        (event,) = events
        at = _at(event["at"], account.zone)
        told.begin(at, event["plan"])
        triggers.append("changed" if at < ends_at else "trial_ended")
    elif given.get("trial") == "paid":
        told.begin(start_at, told.plan)
        triggers.append("trial_ended")
    elif lapses:
        triggers.append("trial_lapsed")
        if given.get("checkout") == "after expiry":
            triggers.append("paid")
            told.begin(add_local_days(ends_at, 1, account.zone), told.plan)
    else:
        told.begin(ends_at, told.plan)
        triggers.append("trial_ended")
    if "renewals" in case.expect:
        account.run_for(1 + case.expect["renewals"])
        more["renewals"] = sum(
            each.draft.lines[0].key[1] != told.anchor.at for each in account.invoices
        )
    if "status_change_without_invoice" in case.expect:
        probe = lifecycle.due(
            told.current[0].timeline,
            ends_at,
            billed=lifecycle.due(told.current[0].timeline, start_at).lines,
        )
        more["status_change_without_invoice"] = (
            None if probe.lines else local_date(ends_at, account.zone).isoformat()
        )
    stages = _states(*triggers)
    more |= {"states": stages, "state": stages[-1]}
    return _answer(case, account, given, {"trial end": ends_at}, **more)


def untried(case: Case) -> Answer:
    """A change to a plan with a trial: the subscription is no trial, nor becomes one."""
    account = _account(case.given, case.source)
    told = _started(account, case.source, case.given)
    _run_before(account, told.start_at, including=True)
    (event,) = case.given["events"]
    at = told.moment(event)
    told.happen(event, at)
    account.run(at)
    trialing = "trial_active" in _states("started", "changed")
    return _answer(case, account, case.given, trial=trialing)


def late_trial(case: Case) -> Answer:
    """A trial that a plan gets later leaves subscriptions that run as they are."""
    account = _account(case.given, case.source)
    told = _started(account, case.source, {**case.given, "plan": SOME_PLAN})
    _run_before(account, told.start_at, including=True)
    account.run(trial_end(told.start_at, account.zone, Trial(HALF_OF_APRIL)))
    return _answer(case, account, case.given)


# Plans for later ----------------------------------------------------------------------------------


def scheduled(case: Case) -> Answer:
    """Things planned for the end of a period, in words."""
    ends_at = boundary(Anchor(_at(SOME_START, "UTC"), "UTC"), Interval(Unit.MONTH), 1)
    pending: tuple[Scheduled, ...] = ()
    for told in case.given["events"]:
        kind = "cancellation" if "cancel" in told else "plan change"
        pending = lifecycle.schedule(pending, Scheduled(kind, told.split()[-1], ends_at))
    if "renewal_minor" in case.expect:
        raise Unsupported("the case does not tell what the plans cost")
    wanted = case.expect["pending"]
    kinds = [each.kind for each in pending]
    return {
        "pending": kinds if isinstance(wanted, list) else len(kinds),
        "executed": f"{pending[-1].name} at period end",
    }


# Changes of other sources -------------------------------------------------------------------------


def restarted(case: Case) -> Answer:
    """Ended and begun again in one step: the grid goes on, and every moment is on one side."""
    if [each["type"] for each in case.given["events"]] != ["terminate and recreate in one step"]:
        raise Unsupported("events in words")
    start_at = _at(SOME_START, "UTC")
    interval = _interval(case.given["plan"])
    cycle = Cycle(start_at, align(start_at, "UTC", interval, Alignment()), interval)
    at = add_local_days(start_at, HALF_OF_APRIL, "UTC")
    change = reanchor(cycle, at, None, TakesEffect.NOW)
    assert change.last is not None
    before, after = change.last.served, change.first.served
    used_at = at - timedelta(microseconds=1)
    return {
        "new_subscription_starts": "at the termination instant"
        if change.following.start_at == at
        else change.following.start_at.isoformat(),
        "anchor": "unchanged" if change.following.anchor == cycle.anchor else "moved",
        "usage_billed_once": (before.start_at <= used_at < before.end_at)
        and not after.start_at <= used_at < after.end_at,
    }


def polar_change(case: Case) -> Answer:
    """A change inside a period by a named behaviour."""
    given = dict(case.given)
    if given["behavior"] not in {"reset", "prorate"}:
        raise Unsupported(f"no behaviour {given['behavior']!r}")
    account = _account(given, case.source)
    told = _started(account, case.source, {**given, "plan": {"amount_minor": given["old_minor"]}})
    _run_before(account, told.start_at, including=True)
    at = _at(given["at"], account.zone)
    new = {"type": "change", "plan": {"amount_minor": given["new_minor"]}}
    if given["behavior"] == "reset":
        # What was billed stands: the old grid is closed, not credited.
        account.contracts.clear()
        told.begin(at, new["plan"], Alignment())  # type: ignore[arg-type]
    else:
        told.happen(new, at)
    account.run(at)
    credits = account.invoices[-1].lines("credit")
    charge = account.invoices[-1].lines("charge")[-1]
    return {
        "credit_minor": -_net(credits) if credits else None,
        "debit_minor": charge.net_minor,
        "new_period_start": local_date(charge.service_start_at, account.zone).isoformat(),
        "anchor_day": day_of_month(told.anchor.at, account.zone),
    }


def switched(case: Case) -> Answer:
    """From one interval to another."""
    given = dict(case.given)
    account = _account(given, case.source)
    told = _started(account, case.source, given)
    _run_before(account, told.start_at, including=True)
    event = {"type": "change", "plan": given["new"], "at": given["at"]}
    at = told.moment(event)
    told.happen(event, at)
    account.run(at)
    last = account.invoices[-1]
    return {
        "invoiced_now": last.at == at,
        "credit_minor": -_net(last.lines("credit")),
        "debit_minor": _net(last.lines("charge")),
        "cycle": "restarts at the switch" if told.anchor.at == at else "goes on",
    }


def waiting_credit(case: Case) -> Answer:
    """A downgrade that is billed with the next invoice."""
    if case.given["event"] != "downgrade in advance":
        raise Unsupported(f"an event in words: {case.given['event']!r}")
    account = Account("UTC", changes=ChangesBilled.NEXT_INVOICE)
    told = _started(account, case.source, {"plan": {"amount_minor": 2000}})
    _run_before(account, told.start_at, including=True)
    at = told.moment({"type": "downgrade"})
    told.happen({"type": "downgrade", "plan": {"amount_minor": 1000}}, at)
    account.run_before(next_boundary(told.anchor, told.interval, at), including=True)
    last = account.invoices[-1]
    found = last.lines("credit")
    booked = ledger.finalized(
        customer="c", net_minor=last.draft.total_minor, tax_minor=0, currency="EUR"
    )
    paid_out = [each for each in booked if each.credit.startswith("provider_clearing")]
    waits = len(account.invoices) == 2 and len(found) == 1 and found[0].net_minor < 0
    return {
        "refund": paid_out or None,
        "invoiced_now": any(each.at == at for each in account.invoices),
        "credit": "waits as a negative item for the next invoice" if waits else "invoiced",
    }


def free_of_charge(case: Case) -> Answer:
    """A coupon that leaves nothing to pay."""
    given, coupon = case.given, case.given["coupon"]
    if coupon["type"] == "percent":
        value = Decimal(str(coupon["value"]))
        discount = Discount("c", Kind.PERCENT, value, None, None, Duration.FOREVER, None)
    else:
        value = coupon["value"]
        discount = Discount("c", Kind.FIXED, None, value, "EUR", Duration.FOREVER, None)
    account = _account(given, case.source)
    told = _started(account, case.source, given)
    (contract,) = told.current
    contract.paid = replace(contract.paid, attached=(Attached(discount, 0),))
    _run_before(account, told.start_at, including=True)
    total = account.invoices[0].draft.total_minor
    owed = ledger.finalized(customer="c", net_minor=total, tax_minor=0, currency="EUR")
    state = "incomplete" if owed else states.step(states.SUBSCRIPTION, "incomplete", "paid")
    return {"invoice": {"total_minor": total}, "payments": len(owed), "state": state}


# Shapes -------------------------------------------------------------------------------------------


def by_shape(case: Case) -> Answer:
    """The first shape that fits."""
    given = case.given
    events = given.get("events", ())
    in_words = bool(events) and all(isinstance(each, str) for each in events)
    for fits, operation in (
        (in_words, scheduled),
        ("event" in given, waiting_credit),
        ("behavior" in given, polar_change),
        ("old" in given and "new" in given, switched),
        ("state" in given, stated),
        ("trial_days" in given, trial),
        ("coupon" in given, free_of_charge),
        ("trial" in case.expect, untried),
        ("new_subscription_starts" in case.expect, restarted),
        (str(given.get("plan")).startswith("trial added"), late_trial),
        ("end" in given or "ends_at" in given, ending),
        (True, subscriptions),
    ):
        if fits:
            return operation(case)
    raise AssertionError


OPERATIONS: dict[str, Operation] = {"": by_shape}
