"""The guard against mass mistakes: what goes beyond the tenant's limits parks (ARCHITECTURE 9.7).

A wrong price is one row in the catalogue and ten thousand invoices tomorrow. So a renewal of more
than the largest invoice parks its subscription, and a batch with which the day would go beyond
its total, count or average parks the tenant's whole job: nothing of it is billed, nothing is lost,
and a person decides. A day is a UTC day of the tenant's clock. Of two batches at once one waits
for the other's sums.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.events import Event, Recorded
from subledger.core.errors import CoreError
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import problems
from subledger.services.billing.store import guard as store
from subledger.services.billing.store import holds, subscriptions
from subledger.services.billing.store.guard import Day
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.usecases import work_items
from subledger.services.billing.usecases.documents import Bill
from subledger.services.billing.usecases.totals import invoice_total

WORK_ITEM = "billing_guard"
_BY_THE_GUARD = "billing guard"


class LimitExceeded(CoreError):
    """An invoice above the tenant's limit."""

    code = "billing_limit_exceeded"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a day's invoices of one currency may come to; None is no limit (minor units)."""

    largest_minor: int | None = None
    total_minor: int | None = None
    average_minor: int | None = None
    count: int | None = None

    @classmethod
    def of(cls, row: Row[Any]) -> Limits:
        return cls(row.largest_minor, row.total_minor, row.average_minor, row.invoice_count)

    def told(self) -> dict[str, int | None]:
        """In the public form."""
        return {
            "largest_minor": self.largest_minor,
            "total_minor": self.total_minor,
            "average_minor": self.average_minor,
            "count": self.count,
        }

    def beyond(self, sums: Sums) -> list[dict[str, Any]]:
        """Which of the day's limits the sums go beyond, each with what it allows and what would
        be. The average is compared exactly and told rounded down."""
        found = []
        if self.total_minor is not None and sums.total_minor > self.total_minor:
            found.append(("total_minor", self.total_minor, sums.total_minor))
        if self.count is not None and sums.count > self.count:
            found.append(("count", self.count, sums.count))
        if self.average_minor is not None and sums.total_minor > self.average_minor * sums.count:
            found.append(("average_minor", self.average_minor, sums.average_minor))
        return [{"limit": name, "most": most, "would_be": is_} for name, most, is_ in found]


@dataclass(slots=True)
class Sums:
    """Invoices taken together: how many, how much (minor units), and the largest."""

    count: int = 0
    total_minor: int = 0
    largest_minor: int = 0

    @classmethod
    def of(cls, row: Row[Any] | None) -> Sums:
        if row is None:
            return cls()
        return cls(int(row.invoice_count), int(row.total_minor), int(row.largest_minor))

    @property
    def average_minor(self) -> int:
        """Rounded down."""
        return self.total_minor // self.count if self.count else 0

    def add(self, total_minor: int) -> None:
        self.count += 1
        self.total_minor += total_minor
        self.largest_minor = max(self.largest_minor, total_minor)

    def plus(self, other: Sums) -> Sums:
        return Sums(
            self.count + other.count,
            self.total_minor + other.total_minor,
            max(self.largest_minor, other.largest_minor),
        )

    def told(self) -> dict[str, int]:
        return {
            "count": self.count,
            "total_minor": self.total_minor,
            "average_minor": self.average_minor,
            "largest_minor": self.largest_minor,
        }


async def limits_of(tx: Tx, rows: Iterable[Row[Any]], days: Iterable[date]) -> dict[Day, Limits]:
    """The limits (rows of ``store.limits``) on days; what was raised for a day stands on it."""
    standing = {(row.tenant_id, row.currency): Limits.of(row) for row in rows}
    if not standing:
        return {}
    wanted = sorted(set(days))
    raised = await store.raised(tx, {tenant for tenant, _ in standing}, wanted)
    found = {
        (tenant, currency, day): each
        for (tenant, currency), each in standing.items()
        for day in wanted
    }
    return found | {key: Limits.of(row) for key, row in raised.items() if key in found}


# --- one invoice --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Asked:
    """An invoice that a person asks for."""

    day: Day
    total_minor: int


async def refuse_large_bills(tx: Tx, bills: Iterable[Bill], *, pointer: str) -> None:
    """``refuse_large`` for several bills: raises for the first that is too large."""
    asked = [
        _Asked(
            (each.subscription["tenant_id"], each.draft.currency, store.day_of(each.at)),
            each.draft.total_minor,
        )
        for each in bills
    ]
    await _refuse_large(tx, asked, pointer)


async def refuse_large(
    tx: Tx,
    *,
    tenant_id: UUID,
    at: datetime,
    currency: str,
    total_minor: int,
    pointer: str | None = None,
) -> None:
    """Raise billing_limit_exceeded for an invoice above the tenant's largest.

    For what a person asks for (a purchase, a change): it counts in the day's sums, but only its
    own size can refuse it.
    """
    await _refuse_large(tx, [_Asked((tenant_id, currency, store.day_of(at)), total_minor)], pointer)


async def _refuse_large(tx: Tx, asked: Iterable[_Asked], pointer: str | None) -> None:
    asked = [each for each in asked if each.total_minor > 0]
    if not asked:
        return
    rows = await store.limits(tx, sorted({each.day[0] for each in asked}))
    found = await limits_of(tx, rows, {each.day[2] for each in asked})
    for each in asked:
        limits = found.get(each.day)
        if limits is None or limits.largest_minor is None:
            continue
        if each.total_minor > limits.largest_minor:
            raise _too_large_a_bill(each, limits.largest_minor, pointer)


def _too_large_a_bill(asked: _Asked, most_minor: int, pointer: str | None) -> Problem:
    _, currency, _ = asked.day
    return Problem(
        problems.BILLING_LIMIT_EXCEEDED,
        pointer=pointer,
        detail=f"The invoice of {asked.total_minor} {currency} (minor units) is above the largest"
        f" allowed, {most_minor}.",
        limit="largest_minor",
        most_minor=most_minor,
        would_be_minor=asked.total_minor,
        currency=currency,
    )


# --- a batch of renewals ------------------------------------------------------------------------


async def not_held(tx: Tx, job: str, due: Sequence[Recorded]) -> list[Recorded]:
    """The commands of a batch whose tenants' job is not stopped; what is due of the others is set
    aside until the hold is let go, and becomes due again then."""
    on = {
        tenant
        for tenant, is_on in (await holds.holds(tx, job, {e.tenant_id for e in due})).items()
        if is_on
    }
    if not on:
        return list(due)
    await _set_aside(tx, [each for each in due if each.tenant_id in on])
    return [each for each in due if each.tenant_id not in on]


async def _set_aside(tx: Tx, due: Iterable[Recorded]) -> None:
    await subscriptions.due.set_aside(
        tx,
        [
            (e.tenant_id, subscriptions.RENEWAL, ids.parse("sub", e.data["subscription_id"]))
            for e in due
        ],
    )


@dataclass(frozen=True, slots=True)
class Judged:
    """A batch after the limits: the subscriptions that may be billed, which single runs may not
    (with the reason), and the tenants whose job is stopped: nothing of theirs may be billed or
    parked."""

    allowed: frozenset[Key]
    too_large: Sequence[tuple[Key, LimitExceeded]]
    stopped: frozenset[UUID]


async def judge(tx: Tx, bills: Sequence[Bill], due: Sequence[Recorded]) -> Judged:
    """Hold a batch of renewals against the limits of its tenants, and park what goes beyond.

    Tenants without limits cost one read. The limits are locked until the transaction ends, and
    holds are read again behind that lock: who waited for a batch that parked its tenant's job
    finds it parked. ``due`` are the commands of the batch, which are set aside with a stopped job.
    """
    rows = await store.lock_limits(tx, {each.subscription["tenant_id"] for each in bills})
    if not rows:
        return Judged(frozenset(map(key_of, bills)), (), frozenset())
    limited = {row.tenant_id for row in rows}
    held = await holds.holds(tx, holds.RENEWALS, limited)
    stopped = {tenant for tenant, is_on in held.items() if is_on}
    limits = await limits_of(tx, rows, {store.day_of(each.at) for each in bills})
    large = await _too_large(tx, bills, limits)
    kept = [each for each in bills if key_of(each) not in large]
    for tenant, numbers in (await _beyond(tx, kept, limits)).items():
        if tenant not in stopped:
            await _park_job(tx, tenant, numbers)
            stopped.add(tenant)
    await _set_aside(tx, [each for each in due if each.tenant_id in stopped])
    return Judged(
        allowed=frozenset(key for key in map(key_of, kept) if key[0] not in stopped),
        too_large=[(key, why) for key, why in large.items() if key[0] not in stopped],
        stopped=frozenset(stopped),
    )


def key_of(each: Bill) -> Key:
    """The subscription that a bill is of."""
    return (each.subscription["tenant_id"], each.subscription["id"])


def _day(each: Bill) -> Day:
    return (each.subscription["tenant_id"], each.draft.currency, store.day_of(each.at))


async def _too_large(
    tx: Tx, bills: Sequence[Bill], limits: Mapping[Day, Limits]
) -> dict[Key, LimitExceeded]:
    """Runs above the largest invoice, unless a person has let this run bill so much."""
    found = {}
    for each in bills:
        limit = limits.get(_day(each), Limits()).largest_minor
        if limit is not None and each.draft.total_minor > limit:
            found[key_of(each)] = (each, limit)
    if not found:
        return {}
    allowed = await store.released_runs(tx, found)
    return {
        key: LimitExceeded(
            f"the invoice of {each.draft.total_minor} {each.draft.currency} (minor units) is above"
            f" the largest allowed, {limit}"
        )
        for key, (each, limit) in found.items()
        if each.draft.total_minor > allowed.get((*key, each.run_number), -1)
    }


async def _beyond(
    tx: Tx, bills: Sequence[Bill], limits: Mapping[Day, Limits]
) -> dict[UUID, list[dict[str, Any]]]:
    """The tenants whose day would go beyond a limit with this batch, and by which figures."""
    batch: dict[Day, Sums] = {}
    for each in bills:
        if _day(each) in limits and each.draft.lines:
            batch.setdefault(_day(each), Sums()).add(invoice_total(each.draft.total_minor))
    before = await store.billed(tx, batch) if batch else {}
    found: dict[UUID, list[dict[str, Any]]] = {}
    for key, sums in sorted(batch.items()):
        tenant, currency, day = key
        already = Sums.of(before.get(key))
        beyond = limits[key].beyond(already.plus(sums))
        if beyond:
            found.setdefault(tenant, []).append(
                {
                    "day": day.isoformat(),
                    "currency": currency,
                    "beyond": beyond,
                    "billed": already.told(),
                    "batch": sums.told(),
                }
            )
    return found


async def _park_job(tx: Tx, tenant_id: UUID, numbers: list[dict[str, Any]]) -> None:
    """Stop a tenant's renewals, once: a park, a work item, an event."""
    at = await tx.now(tenant_id)
    first = numbers[0]
    reason = (
        f"{first['day']} {first['currency']}: {first['beyond'][0]['limit']} would be"
        f" {first['beyond'][0]['would_be']}, {first['beyond'][0]['most']} is the most"
    )
    await holds.turn_on(
        tx, tenant_id, holds.RENEWALS, holds.PARK, reason=reason, by=_BY_THE_GUARD, at=at
    )
    park_id = tx.ids.new()
    data = {
        "park_id": ids.text("park", park_id),
        "job": holds.RENEWALS,
        "reason": reason,
        "numbers": numbers,
    }
    tx.emit(
        [
            Event(
                type=events.BILLING_RUN_PARKED,
                tenant_id=tenant_id,
                subject=tenant_id,
                data=data,
                occurred_at=at,
            )
        ]
    )
    item = await work_items.open_item(
        tx, tenant_id=tenant_id, account_id=None, kind=WORK_ITEM, data=data, at=at, cause=None
    )
    await store.insert_parks(
        tx,
        [
            {
                "tenant_id": tenant_id,
                "id": park_id,
                "job": holds.RENEWALS,
                "reason": reason,
                "numbers": msgspec.json.encode(numbers).decode(),
                "work_item_id": item,
                "since_at": at,
            }
        ],
    )
