"""Forecast: what renewals would bill until a moment, computed as they will and saved nowhere."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.core.discounts import Usage
from subledger.core.errors import CoreError
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing.store import forecast as store
from subledger.services.billing.store import guard, phases, subscriptions
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.terms import PlanTerms, TermsMemory
from subledger.services.billing.usecases import begin
from subledger.services.billing.usecases.anchors import NOT_BEGUN, begun, billed_from_at
from subledger.services.billing.usecases.conditions import Conditions, conditions
from subledger.services.billing.usecases.guard import Limits, Sums, limits_of
from subledger.services.billing.usecases.renew import (
    RENEWED,
    histories,
    next_draft,
    next_invoice,
    still_dirty,
)
from subledger.services.billing.usecases.timelines import History
from subledger.services.billing.usecases.totals import invoice_total

FURTHEST = timedelta(days=400)
MOST_SUBSCRIPTIONS = 10_000
MOST_INVOICES = 50_000
_PAGE = 500
_DEADLINE_S = 20.0
"""Wall clock: what is computed by then is shown, as an estimate."""


@dataclass(slots=True)
class Expected(Sums):
    """Invoices that would be billed, and whose is the largest."""

    largest_of: UUID | None = None

    def expect(self, total_minor: int, subscription_id: UUID) -> None:
        if self.largest_of is None or total_minor > self.largest_minor:
            self.largest_of = subscription_id
        self.add(total_minor)


@dataclass(frozen=True, slots=True)
class DayExpected:
    """One UTC day of one currency. ``billed`` is what the day has billed already, ``beyond`` what
    the day would go beyond with both, and the largest invoice if it alone is above its limit."""

    day: date
    expected: Expected
    billed: Sums
    beyond: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class CurrencyExpected:
    """A currency's invoices in the span, in the span before it, and day by day."""

    currency: str
    expected: Expected
    before: Sums
    limits: Limits
    days: Sequence[DayExpected]


@dataclass(slots=True)
class Forecast:
    """The answer. ``computed`` of ``total`` subscriptions are in it; ``first`` of those begin then,
    on their start day or at their trial's end; ``refused`` of those the engine refuses to bill.

    Left out are what a person has to release (``parked``), last invoices (``endings``), what
    ``pauses`` give back or charge again, renewals of what is not paid yet (``unpaid``), and what
    ``differences``, changes inside a period, would bill or give back themselves."""

    from_at: datetime
    until_at: datetime
    before_from_at: datetime
    before_until_at: datetime
    computed: int = 0
    total: int = 0
    first: int = 0
    refused: int = 0
    differences: int = 0
    endings: int = 0
    pauses: int = 0
    unpaid: int = 0
    parked: int = 0
    is_estimate: bool = False
    currencies: list[CurrencyExpected] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Coming:
    """One subscription with everything that its next invoices are made of."""

    row: Row[Any]
    terms: PlanTerms
    attached: Sequence[Row[Any]]
    changed: History | None
    found_for: Conditions
    timezone: str
    scheduled: Row[Any] | None
    then: PlanTerms | None
    """The terms of the scheduled change."""


async def forecast(
    tx: Tx, memory: TermsMemory, *, tenant_id: UUID, until: datetime | None
) -> Forecast:
    """What the renewals due until ``until`` (by default 24 hours of the tenant's clock from now)
    would bill if nothing else happens, subscription by subscription in the order in which they
    are due, held ones too; with several periods of one that is due several times.

    The last invoice of a subscription that ends is not in it, nor usage that is not recorded yet.
    At most 10,000 subscriptions and 50,000 invoices within 20 s are computed; beyond that the
    answer says that it is an estimate. Raises invalid_request for a moment before now or more
    than 400 days ahead. Call in a snapshot.
    """
    now = await tx.now(tenant_id)
    until = until or now + timedelta(days=1)
    if not now <= until <= now + FURTHEST:
        raise Problem(
            "invalid_request",
            pointer="/query/until",
            detail=f"A forecast reaches from now ({now.isoformat()}) to 400 days ahead.",
            fix="Ask for a moment within 400 days after the tenant's clock.",
        )
    hour = now.replace(minute=0, second=0, microsecond=0)
    found = Forecast(now, until, hour - (until - now), hour)
    due = await store.due_renewals(tx, tenant_id, until=until, limit=MOST_SUBSCRIPTIONS + 1)
    found.total = len(due)
    if len(due) > MOST_SUBSCRIPTIONS:
        found.total = await store.count_due_renewals(tx, tenant_id, until=until)
        found.is_estimate, due = True, due[:MOST_SUBSCRIPTIONS]
    sums = await _compute(tx, memory, tenant_id, due, found)
    await _compare(tx, tenant_id, sums, found)
    others = await store.others(tx, tenant_id, until=until)
    found.endings = others.get(subscriptions.CANCELLATION, 0)
    found.pauses = others.get(subscriptions.PAUSE, 0)
    found.unpaid = others.get(subscriptions.EXPIRY, 0)
    found.parked = others["parked"]
    return found


Days = dict[tuple[str, date], Expected]


async def _compute(
    tx: Tx, memory: TermsMemory, tenant_id: UUID, due: Sequence[UUID], found: Forecast
) -> Days:
    deadline, made, sums = time.monotonic() + _DEADLINE_S, 0, Days()
    for start in range(0, len(due), _PAGE):
        keys = [(tenant_id, each) for each in due[start : start + _PAGE]]
        for coming in await _load(tx, memory, keys):
            if time.monotonic() > deadline or made >= MOST_INVOICES:
                found.is_estimate = True
                return sums
            found.computed += 1
            begins = coming.row.status in NOT_BEGUN
            found.first += begins and _begins_at(coming.row._asdict()) <= found.until_at
            try:
                async for at, total_minor in _invoices(tx, memory, coming, found):
                    day = (coming.row.currency, guard.day_of(at))
                    sums.setdefault(day, Expected()).expect(total_minor, coming.row.id)
                    made += 1
            except CoreError:
                found.refused += 1
    return sums


async def _load(tx: Tx, memory: TermsMemory, keys: Sequence[Key]) -> list[_Coming]:
    """Subscriptions that a renewal would bill, in the order of ``keys``."""
    rows = {(row.tenant_id, row.id): row for row in await subscriptions.subscriptions(tx, keys)}
    ready = [
        rows[key]
        for key in keys
        if key in rows and rows[key].status in RENEWED and rows[key].parked_reason is None
    ]
    lapsing = await begin.without_method(tx, [row for row in ready if row.status in NOT_BEGUN])
    ready = [row for row in ready if (row.tenant_id, row.id) not in lapsing]
    payers = await subscriptions.accounts(tx, [(row.tenant_id, row.payer_id) for row in ready])
    scheduled = await phases.scheduled(tx, [(row.tenant_id, row.id) for row in ready])
    then = await _scheduled_versions(tx, scheduled)
    versions = {(row.tenant_id, row.plan_version_id) for row in ready}
    terms = await memory.load(tx, versions | {(t, each) for (t, _), each in then.items()})
    attached = await subscriptions.attached_discounts(tx, [(r.tenant_id, r.id) for r in ready])
    known = await histories(tx, memory, ready, terms)
    found_for = await conditions(
        tx,
        memory,
        [
            (row._asdict(), _versions(row, terms, then, known), row.current_period_end_at)
            for row in ready
        ],
    )
    coming = []
    for row in ready:
        key, own = (row.tenant_id, row.id), terms[row.tenant_id, row.plan_version_id]
        version = then.get(key)
        coming.append(
            _Coming(
                row=row,
                terms=own,
                attached=attached.get(key, ()),
                changed=known.get(key),
                timezone=payers[row.tenant_id, row.payer_id].timezone,
                scheduled=scheduled.get(key),
                then=own if version is None else terms[row.tenant_id, version],
                found_for=found_for,
            )
        )
    return coming


def _versions(
    row: Row[Any],
    terms: Mapping[Key, PlanTerms],
    then: Mapping[Key, UUID],
    known: Mapping[Key, History],
) -> list[PlanTerms]:
    """The plan versions that a subscription pays, paid, and will pay."""
    key = (row.tenant_id, row.id)
    ids_ = [row.plan_version_id, *([then[key]] if key in then else [])]
    found = [terms[row.tenant_id, each] for each in ids_]
    return [*found, *(known[key].terms.values() if key in known else ())]


async def _scheduled_versions(tx: Tx, scheduled: Mapping[Key, Row[Any]]) -> dict[Key, UUID]:
    """The plan version that each scheduled change leads to, where it is another plan's or named."""
    plans = {(t, each.plan_id) for (t, _), each in scheduled.items() if each.plan_id is not None}
    newest = await subscriptions.latest_versions(tx, plans) if plans else {}
    found = {}
    for key, each in scheduled.items():
        version = each.plan_version_id or newest.get((key[0], each.plan_id))
        if version is not None:
            found[key] = version
    return found


class _Given:
    """An attached discount as it is after an invoice that is not saved."""

    def __init__(self, row: Any, usage: Usage | None) -> None:
        self._row = row
        if usage is not None:
            self.used_periods = usage.periods
            self.taken_minor = usage.taken_minor
            self.first_at = usage.first_at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._row, name)


async def _invoices(
    tx: Tx, memory: TermsMemory, coming: _Coming, found: Forecast
) -> AsyncIterator[tuple[datetime, int]]:
    """When a subscription's renewals would bill, and how much, until the span's end.

    The next one is computed as its renewal will (``next_invoice``), those after it from where it
    leaves the subscription.
    """
    values, terms, changed = coming.row._asdict(), coming.terms, coming.changed
    attached: Sequence[Any] = coming.attached
    waiting, is_next = coming.scheduled, True
    while True:
        due_at = max(values["current_period_end_at"], _begins_at(values))
        if due_at > found.until_at:
            return
        if values["cancel_at"] is not None and values["cancel_at"] <= due_at:
            return
        if waiting is not None and coming.then is not None and waiting.effective_at <= due_at:
            if waiting.effective_at < due_at or terms.in_arrears(values["currency"]):
                found.differences += 1
            values, terms = _changed(values, terms, coming.then, waiting)
            waiting, changed, is_next = None, None, False
            continue  # with another interval the present period ends elsewhere
        at = max(due_at, found.from_at)
        if is_next:
            values, draft = await next_invoice(
                tx, memory, coming.row, terms, attached, changed,
                found_for=coming.found_for, timezone=coming.timezone, horizon_at=at,
            )  # fmt: skip
        else:
            draft = next_draft(
                values, terms, attached, changed, found_for=coming.found_for, horizon_at=at
            )
        period = draft.period
        if period is None:
            return
        if draft.lines:
            yield at, invoice_total(draft.total_minor)
        attached = [_Given(each, draft.usage.get(str(each.id))) for each in attached]
        dirty = still_dirty(values, terms)
        values = begin.begun(values) | {
            "current_period_start_at": period.start_at,
            "current_period_end_at": period.end_at,
            "period_number": values["period_number"] + 1,
            "dirty_from_period": dirty,
        }
        if changed is not None:
            changed = (
                None if dirty is None else replace(changed, billed=[*changed.billed, *draft.lines])
            )
        is_next = False


def _begins_at(values: Mapping[str, Any]) -> datetime:
    """Where what has not begun will be billed first: after its trial."""
    ends_at: datetime = values["current_period_end_at"]
    return billed_from_at(values) if values["status"] in NOT_BEGUN else ends_at


def _changed(
    values: dict[str, Any], terms: PlanTerms, then: PlanTerms, waiting: Row[Any]
) -> tuple[dict[str, Any], PlanTerms]:
    """The subscription after its scheduled change; another interval or billing anchor begins a new
    cycle, whose first period is billed at once."""
    after = values | {"plan_version_id": then.plan_version_id, "dirty_from_period": None}
    if waiting.quantity is not None:
        after["quantity"] = waiting.quantity
    currency = values["currency"]
    if not then.prices_in(currency):
        raise CoreError("the scheduled plan has no price in this currency")
    interval = then.interval(currency)
    if waiting.billing_anchor is None and interval == terms.interval(currency):
        return after, then
    start_at, asked = waiting.effective_at, waiting.billing_anchor or values["billing_anchor"]
    return (
        after
        | begun(start_at, values["timezone"], interval, asked)
        | {
            "first_period": "prorated",
            "current_period_end_at": start_at,
            "period_number": -1,
            "is_extended": False,
        },
        then,
    )


async def _compare(tx: Tx, tenant_id: UUID, sums: Days, found: Forecast) -> None:
    """Beside the tenant's limits, what the days have billed already, and the span before."""
    rows = await guard.limits(tx, [tenant_id])
    days = {day for _, day in sums}
    limits = await limits_of(tx, rows, days)
    standing = {row.currency: Limits.of(row) for row in rows}
    billed = await guard.billed(tx, [(tenant_id, currency, day) for currency, day in sums])
    before = await guard.billed_between(
        tx, tenant_id, from_at=found.before_from_at, to_at=found.before_until_at
    )
    for currency in sorted({each for each, _ in sums} | set(before)):
        whole, listed = Expected(), []
        for (_, day), expected in sorted(
            (item for item in sums.items() if item[0][0] == currency), key=lambda item: item[0][1]
        ):
            already = Sums.of(billed.get((tenant_id, currency, day)))
            of_day = limits.get((tenant_id, currency, day), Limits())
            listed.append(DayExpected(day, expected, already, _beyond(of_day, expected, already)))
            if whole.largest_of is None or expected.largest_minor > whole.largest_minor:
                whole.largest_of = expected.largest_of
            whole.count += expected.count
            whole.total_minor += expected.total_minor
            whole.largest_minor = max(whole.largest_minor, expected.largest_minor)
        found.currencies.append(
            CurrencyExpected(
                currency=currency,
                expected=whole,
                before=Sums.of(before.get(currency)),
                limits=standing.get(currency, Limits()),
                days=listed,
            )
        )


def _beyond(limits: Limits, expected: Expected, already: Sums) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = [*limits.beyond(already.plus(expected))]
    if limits.largest_minor is not None and expected.largest_minor > limits.largest_minor:
        found.append(
            {
                "limit": "largest_minor",
                "most": limits.largest_minor,
                "would_be": expected.largest_minor,
            }
        )
    return found
