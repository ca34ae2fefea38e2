"""What was recognized and what will be: of a line by month, of the tenant by month; the policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.core.calendar import Period
from subledger.core.local_days import local_midnight, next_day_of_month
from subledger.core.recognition import Mode, by_month
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import problems
from subledger.services.billing.store import reads, recognition
from subledger.services.billing.store.recognition import Span
from subledger.services.billing.usecases.recognize import (
    DEFAULT_MODE,
    DEFAULT_TIMEZONE,
    Policy,
    new_policy,
)

MOST_MONTHS = 60
MOST_VERSIONS = 100
_FIRST_YEAR, _LAST_YEAR = 1970, 2198


@dataclass(frozen=True, slots=True)
class MonthShare:
    """One month (``2026-03``) of a line or of a currency, minor units."""

    month: str
    recognized_minor: int
    to_come_minor: int


@dataclass(frozen=True, slots=True)
class LineSchedule:
    """One invoice line: what stands of its net, and when that is or was recognized."""

    row: Row[Any]
    months: Sequence[MonthShare]


@dataclass(frozen=True, slots=True)
class Revenue:
    """The months asked for, by currency, in the zone whose months they are."""

    timezone: str
    currencies: dict[str, Sequence[MonthShare]]


# --- the policy ---------------------------------------------------------------------------------


async def policy(tx: Tx, tenant_id: UUID) -> tuple[Mode, str]:
    """How the tenant recognizes what it bills from now on: mode and time zone."""
    row = (await recognition.current_policies(tx, [tenant_id])).get(tenant_id)
    return (DEFAULT_MODE, DEFAULT_TIMEZONE) if row is None else (Mode(row.mode), row.timezone)


async def set_policy(tx: Tx, *, tenant_id: UUID, mode: Mode, timezone: str) -> None:
    """Recognize what is finalized from now on so; what was billed before keeps its schedule.

    Raises revenue_policy_changed_often after a hundred changes.
    """
    while True:
        row = (await recognition.current_policies(tx, [tenant_id])).get(tenant_id)
        if row is not None and (row.mode, row.timezone) == (mode.value, timezone):
            return
        version = 1 if row is None else row.version + 1
        if version > MOST_VERSIONS:
            raise Problem(
                problems.REVENUE_POLICY_CHANGED_OFTEN,
                detail=f"The policy was changed {MOST_VERSIONS - 1} times.",
            )
        at = await tx.now(tenant_id)
        # Nothing is written where another was first: then look again.
        await recognition.insert_policies(
            tx, [new_policy(tenant_id, version, mode, timezone, at=at)]
        )


# --- the schedule of an invoice -----------------------------------------------------------------


async def revenue_schedule(tx: Tx, *, tenant_id: UUID, invoice_id: UUID) -> list[LineSchedule]:
    """The schedules of an invoice's lines; a line of zero has none. Raises not_found.

    A month's part counts by when the service is delivered, also where it was billed afterwards.
    """
    key = (tenant_id, invoice_id)
    if key not in await reads.invoices(tx, [key]):
        raise Problem("not_found", detail="There is no such invoice.")
    return [
        LineSchedule(row, _line_months(row))
        for row in await recognition.schedules(tx, tenant_id, invoice_id)
    ]


def _line_months(row: Row[Any]) -> list[MonthShare]:
    """The months of a line's net, and how far into them the releases have come."""
    if row.net_minor == 0:
        return []
    period = Period(row.service_start_at, row.service_end_at)
    left = row.released_minor
    found = []
    # Of a pause that runs nobody knows the end: shown as if the service went on at once.
    known = row.paused_units[: len(row.paused_units) // 2 * 2]
    months = by_month(
        row.net_minor,
        period,
        mode=Mode(row.mode),
        timezone=row.timezone,
        pauses=list(zip(known[::2], known[1::2], strict=True)),
    )
    for each in months:
        recognized = (
            min(left, each.amount_minor) if row.net_minor > 0 else max(left, each.amount_minor)
        )
        left -= recognized
        found.append(MonthShare(each.month, recognized, each.amount_minor - recognized))
    return found


# --- revenue by month ---------------------------------------------------------------------------


async def revenue(tx: Tx, *, tenant_id: UUID, from_month: date, to_month: date) -> Revenue:
    """What each month from ``from_month`` to ``to_month`` (their first days; both included) has
    recognized by the ledger, and what is still to come by the schedules, by currency.

    Wants one snapshot (REPEATABLE READ). Raises invalid_request for more than 60 months, for a
    span that ends before it begins, and for years outside 1970 to 2198.
    """
    months = _months(from_month, to_month)
    versions = await recognition.all_policies(tx, tenant_id)
    timezone = versions[-1].timezone if versions else DEFAULT_TIMEZONE
    bounds = [
        (local_midnight(each, timezone), local_midnight(_following(each), timezone))
        for each in months
    ]
    recognized: dict[tuple[str, int], int] = {}
    for row in await recognition.revenue(tx, tenant_id, bounds):
        recognized[row.currency, row.n] = row.amount_minor
    to_come: dict[tuple[str, int], int] = {}
    for version in versions:
        for currency, n, amount in await _to_come(tx, Policy.of(version), bounds):
            to_come[currency, n] = to_come.get((currency, n), 0) + amount
    return Revenue(
        timezone=timezone,
        currencies={
            currency: [
                MonthShare(
                    month.strftime("%Y-%m"),
                    recognized.get((currency, n), 0),
                    to_come.get((currency, n), 0),
                )
                for n, month in enumerate(months, start=1)
            ]
            for currency in sorted({currency for currency, _ in (*recognized, *to_come)})
        },
    )


async def _to_come(
    tx: Tx, policy: Policy, bounds: Sequence[tuple[datetime, datetime]]
) -> list[tuple[str, int, int]]:
    """``(currency, n, amount)`` of the bounds, counted from 1, that are not over yet."""
    spans, numbers = [], []
    for n, (from_at, to_at) in enumerate(bounds, start=1):
        after = max(policy.unit(from_at), policy.through_unit)
        if policy.unit(to_at) > after:
            key = (policy.tenant_id, policy.version)
            spans.append(Span(key, after, policy.unit(to_at)))
            numbers.append(n)
    if not spans:
        return []
    rows = await recognition.to_come(tx, spans, through=policy.through_unit)
    return [(row.currency, numbers[row.n - 1], row.amount_minor) for row in rows]


def _months(first: date, last: date) -> list[date]:
    if first > last or not (first.year >= _FIRST_YEAR and last.year <= _LAST_YEAR):
        raise Problem(
            "invalid_request",
            pointer="/query/to",
            detail="The months end before they begin, or lie too far away.",
            fix=f"Give a `to` that is not before `from`, both from {_FIRST_YEAR}-01 to"
            f" {_LAST_YEAR}-12.",
        )
    found = [first]
    while found[-1] < last:
        if len(found) == MOST_MONTHS:
            raise Problem(
                "invalid_request",
                pointer="/query/to",
                detail=f"There are more than {MOST_MONTHS} months from `from` to `to`.",
                fix="Ask for them in parts.",
            )
        found.append(_following(found[-1]))
    return found


def _following(month: date) -> date:
    return next_day_of_month(month + timedelta(days=1), 1)
