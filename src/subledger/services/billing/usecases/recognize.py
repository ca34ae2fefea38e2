"""Schedules of what was billed: opened with the invoice, reversed with it, reduced by a credit.

Net is posted to deferred revenue when an invoice is finalized and becomes revenue as the service
is delivered: evenly over the service period of its line (IFRS 15.B18, ASC 606-10-55-184; Stripe
Revenue Recognition and Chargebee RevRec do so by days). ``release`` moves it day by day; what
happens to one invoice is here. The accounts and the invoices are locked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row

from subledger.core import ledger as books
from subledger.core.calendar import Period
from subledger.core.local_days import local_date, local_midnight, next_day_of_month
from subledger.core.recognition import (
    CreditSplit,
    Mode,
    credit_split,
    over_minor,
    span,
    unit_at,
    unit_start,
)
from subledger.platform.db import Tx
from subledger.services.billing import ledger
from subledger.services.billing.store import recognition
from subledger.services.billing.store.subscriptions import Key

RECOGNIZED = "recognized"
DEFAULT_MODE, DEFAULT_TIMEZONE = Mode.DAY, "UTC"
MOMENT = timedelta(microseconds=1)
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Policy:
    """One version of a tenant's way to recognize; its counted lines are released through
    ``through_unit`` (all units before it are over)."""

    tenant_id: UUID
    version: int
    mode: Mode
    timezone: str
    through_unit: int

    @classmethod
    def of(cls, row: Row[Any]) -> Policy:
        return cls(row.tenant_id, row.version, Mode(row.mode), row.timezone, row.through_unit)

    def unit(self, at: datetime) -> int:
        return unit_at(at, mode=self.mode, timezone=self.timezone)

    def start(self, unit: int) -> datetime:
        return unit_start(unit, mode=self.mode, timezone=self.timezone)

    def span(self, period: Period) -> tuple[int, int]:
        return span(period, mode=self.mode, timezone=self.timezone)

    def billed_from(self, at: datetime) -> int:
        """The first unit by whose start a line billed at ``at`` is recognized: by day the next."""
        return self.unit(at) + (self.mode is Mode.DAY)

    def day_end(self, at: datetime) -> datetime:
        """Where the local day of ``at`` ends."""
        return local_midnight(local_date(at, self.timezone) + timedelta(days=1), self.timezone)

    def columns(self, at: datetime) -> dict[str, Any]:
        """The row's columns when all that is over by ``at`` is released. By second the next
        release is due in an hour: the ledger needs no transfer for each second."""
        unit = self.unit(at)
        through_at, next_at = at, min(at + _HOUR, self.day_end(at))
        if self.mode is Mode.DAY:
            through_at, next_at = self.start(unit), self.start(unit + 1)
        return {
            "tenant_id": self.tenant_id,
            "version": self.version,
            "through_unit": unit,
            "through_at": through_at,
            "next_at": next_at,
        }


@dataclass(frozen=True, slots=True)
class Credit:
    """What a credit note takes off one invoice line (net, minor units, above zero)."""

    tenant_id: UUID
    account_id: UUID
    invoice_id: UUID
    n: int
    credited_minor: int


# --- opening ------------------------------------------------------------------------------------


async def open_schedules(
    tx: Tx, lines: Sequence[Row[Any] | Mapping[str, Any]], *, at: Mapping[Key, datetime]
) -> None:
    """Write a schedule for each invoice line (a row of ``invoice_lines``), in the transaction that
    posts its net; ``at``: when each invoice ``(tenant_id, invoice_id)`` is finalized.

    A line of zero has none. A charge without duration is delivered within the day it falls on.
    """
    rows = [each if isinstance(each, Mapping) else dict(each._mapping) for each in lines]
    given = [line for line in rows if line["net_minor"]]
    policies = await _current(tx, {line["tenant_id"]: at[_invoice(line)] for line in given})
    await recognition.insert_schedules(
        tx, [_opened(line, policies[line["tenant_id"]], at[_invoice(line)]) for line in given]
    )


def _invoice(line: Mapping[str, Any]) -> Key:
    return line["tenant_id"], line["invoice_id"]


async def _current(tx: Tx, tenants: Mapping[UUID, datetime]) -> dict[UUID, Policy]:
    """Each tenant's policy; the default one from now on where there is none."""
    if not tenants:
        return {}
    found = await recognition.current_policies(tx, tenants)
    missing = [each for each in tenants if each not in found]
    if missing:
        await recognition.insert_policies(
            tx,
            [
                new_policy(each, 1, DEFAULT_MODE, DEFAULT_TIMEZONE, at=tenants[each])
                for each in missing
            ],
        )
        found |= await recognition.current_policies(tx, missing)
    return {tenant: Policy.of(row) for tenant, row in found.items()}


def new_policy(
    tenant_id: UUID, version: int, mode: Mode, timezone: str, *, at: datetime
) -> dict[str, Any]:
    """The row of a version that begins now: everything before is over."""
    policy = Policy(tenant_id, version, mode, timezone, through_unit=0)
    return policy.columns(at) | {"mode": mode.value, "timezone": timezone, "created_at": at}


def _opened(line: Mapping[str, Any], policy: Policy, at: datetime) -> dict[str, Any]:
    start_at = line["service_start_at"]
    end_at = max(line["service_end_at"], start_at + MOMENT)
    first, behind = policy.span(Period(start_at, end_at))
    billed_from = policy.billed_from(at)
    return {
        "tenant_id": line["tenant_id"],
        "invoice_id": line["invoice_id"],
        "n": line["n"],
        "policy": policy.version,
        "currency": line["currency"],
        "net_minor": line["net_minor"],
        "service_start_at": start_at,
        "service_end_at": end_at,
        "start_unit": first,
        "end_unit": behind,
        "from_unit": billed_from,
        "last_unit": max(behind, billed_from),
        "is_late": first < policy.unit(at),
    }


# --- one line, in memory ------------------------------------------------------------------------


@dataclass(slots=True)
class Line:
    """A schedule that is held and locked, and what of it the ledger has released. Its units are
    those of a service without pauses: each pause that is over has moved both of them."""

    row: Mapping[str, Any]
    policy: Policy
    net_minor: int
    start_unit: int
    end_unit: int
    ends_at: datetime
    paused_units: list[int]
    """From and until, one after the other: of a pause that runs only from."""
    released_minor: int

    @classmethod
    def of(cls, row: Row[Any], policy: Policy) -> Line:
        line = cls(
            row=dict(row._mapping),
            policy=policy,
            net_minor=row.net_minor,
            start_unit=row.start_unit,
            end_unit=row.end_unit,
            ends_at=row.service_end_at,
            paused_units=list(row.paused_units),
            released_minor=0,
        )
        if row.is_counted:
            line.released_minor = line.billed_and_recognized(policy.through_unit)
        return line

    @property
    def is_paused(self) -> bool:
        return len(self.paused_units) % 2 == 1

    def recognized(self, unit: int) -> int:
        """What of the net is delivered where ``unit`` begins."""
        if self.is_paused:
            return self.released_minor
        return over_minor(self.net_minor, (self.start_unit, self.end_unit), unit)

    def billed_and_recognized(self, unit: int) -> int:
        """As ``recognized``, from the unit on of which it is known; the store sums the same."""
        known = unit >= self.row["from_unit"] and not self.is_paused
        return self.recognized(unit) if known else int(self.row["base_minor"])

    def catch_up(self, until_unit: int) -> list[tuple[datetime, int]]:
        """What the months that are over by ``until_unit`` still have to release, each at its end:
        the books do not depend on when the releases ran."""
        found = []
        for cut in _month_starts(self.policy, until_unit):
            change = self.billed_and_recognized(cut) - self.released_minor
            if change:
                found.append((self.policy.start(cut) - MOMENT, change))
            self.released_minor += change
        return found

    def columns(self, base_minor: int, *, from_unit: int) -> dict[str, Any]:
        """The row's columns from ``from_unit`` on; up to there ``base_minor`` is released."""
        return {
            **self.row,
            "net_minor": self.net_minor,
            "service_end_at": self.ends_at,
            "start_unit": self.start_unit,
            "end_unit": self.end_unit,
            "from_unit": from_unit,
            "last_unit": max(self.end_unit, from_unit),
            "base_minor": base_minor,
            "is_counted": True,
            "paused_units": msgspec.json.encode(self.paused_units).decode(),
            "is_paused": self.is_paused,
        }


def _month_starts(policy: Policy, until_unit: int) -> Iterable[int]:
    """The local months that begin after the units released, up to ``until_unit``."""
    day = local_date(policy.start(policy.through_unit), policy.timezone)
    while True:
        day = next_day_of_month(day + timedelta(days=1), 1)
        unit = policy.unit(local_midnight(day, policy.timezone))
        if unit > until_unit:
            return
        yield unit


async def lines_of(tx: Tx, invoices: Iterable[Key]) -> dict[tuple[UUID, UUID, int], Line]:
    """Hold the policies of invoices (their accounts are locked) and lock their schedules."""
    keys = list(dict.fromkeys(invoices))
    held = await recognition.hold_policies(tx, (tenant for tenant, _ in keys))
    return {
        (row.tenant_id, row.invoice_id, row.n): Line.of(
            row, Policy.of(held[row.tenant_id, row.policy])
        )
        for row in await recognition.lock_schedules(tx, keys)
    }


def posting(line: Line, account_id: UUID, at: datetime, amount_minor: int) -> ledger.Posting:
    """A release of one line."""
    return ledger.Posting(
        tenant_id=line.policy.tenant_id,
        account_id=account_id,
        invoice_id=line.row["invoice_id"],
        kind=RECOGNIZED,
        occurred_at=at,
        transfers=books.recognized(amount_minor=amount_minor, currency=line.row["currency"]),
    )


# --- an invoice that is voided ------------------------------------------------------------------


async def reverse(
    tx: Tx, rows: Sequence[Row[Any]], *, at: Mapping[Key, datetime]
) -> dict[Key, tuple[books.Transfer, ...]]:
    """Close the schedules of invoices (locked) that are voided. Returns by invoice the transfers
    that take back what was released, to be posted with the void: finalization's exact reversal
    then leaves nothing in deferred revenue or revenue. ``at``: each account's moment."""
    accounts = {(row.tenant_id, row.id): row.account_id for row in rows}
    if not accounts:
        return {}
    postings, saved = [], []
    taken: dict[Key, tuple[books.Transfer, ...]] = {}
    for (tenant, invoice, _), line in (await lines_of(tx, accounts)).items():
        account = accounts[tenant, invoice]
        unit = max(line.policy.unit(at[tenant, account]), line.policy.through_unit)
        for moment, amount in line.catch_up(unit):
            postings.append(posting(line, account, moment, amount))
        back = books.recognized(amount_minor=-line.released_minor, currency=line.row["currency"])
        taken[tenant, invoice] = taken.get((tenant, invoice), ()) + back
        line.net_minor = 0
        saved.append(line.columns(0, from_unit=unit + 1))
    await recognition.save_schedules(tx, saved)
    await ledger.post(tx, postings)
    return taken


# --- a credit note ------------------------------------------------------------------------------


async def split_credits(
    tx: Tx, credits: Sequence[Credit], *, at: Mapping[Key, datetime]
) -> list[CreditSplit]:
    """Split credited nets between deferred revenue and revenue, and go on with what is left.

    First each line is released through its present day (or second), so that the split is that of
    what the ledger really holds; the note then posts ``deferred_minor`` and ``revenue_minor``
    (``core.ledger.credit_note``), and from the next day on what is left of the line is recognized.
    Two credits of one line are taken one after the other. ``at``: each account's moment.

    Raises InvalidRecognition if more is credited than stands of a line.
    """
    lines = await lines_of(tx, ((each.tenant_id, each.invoice_id) for each in credits))
    postings: list[ledger.Posting] = []
    saved: dict[tuple[UUID, UUID, int], dict[str, Any]] = {}
    found = []
    for each in credits:
        key = (each.tenant_id, each.invoice_id, each.n)
        moment = at[each.tenant_id, each.account_id]
        if key not in lines and each.credited_minor == 0:
            found.append(CreditSplit(0, 0, {"kind": "credit_split", "credited_minor": 0}))
            continue
        line = lines[key]
        unit = max(line.policy.unit(moment), line.policy.through_unit)
        over = released(line, unit, moment, months=key not in saved)
        split = _split(line, each, unit)
        postings += [posting(line, each.account_id, *one) for one in over]
        saved[key] = line.columns(line.released_minor, from_unit=unit + 1)
        found.append(split)
    await recognition.save_schedules(tx, list(saved.values()))
    await ledger.post(tx, postings)
    return found


def released(line: Line, unit: int, at: datetime, *, months: bool) -> list[tuple[datetime, int]]:
    """Everything that is over where ``unit`` begins."""
    released = line.catch_up(unit) if months else []
    released.append((at, line.recognized(unit) - line.released_minor))
    line.released_minor = line.recognized(unit)
    return released


def _split(line: Line, credit: Credit, unit: int) -> CreditSplit:
    """Take the credit off the line; ``released_minor`` is then what stays recognized."""
    policy = line.policy
    split = credit_split(
        line.net_minor,
        credit.credited_minor,
        Period(policy.start(line.start_unit), policy.start(line.end_unit)),
        policy.start(line.paused_units[-1] if line.is_paused else unit),
        mode=policy.mode,
        timezone=policy.timezone,
    )
    line.net_minor -= credit.credited_minor
    line.released_minor -= split.revenue_minor
    return split


async def restore_credits(
    tx: Tx,
    credits: Sequence[Credit],
    splits: Sequence[CreditSplit],
    *,
    at: Mapping[Key, datetime],
) -> None:
    """A credit note is voided: its postings are reversed by the caller, and what it took off each
    line is recognized again."""
    lines = await lines_of(tx, ((each.tenant_id, each.invoice_id) for each in credits))
    postings: list[ledger.Posting] = []
    saved: dict[tuple[UUID, UUID, int], dict[str, Any]] = {}
    for each, split in zip(credits, splits, strict=True):
        key = (each.tenant_id, each.invoice_id, each.n)
        moment = at[each.tenant_id, each.account_id]
        if key not in lines:
            continue
        line = lines[key]
        unit = max(line.policy.unit(moment), line.policy.through_unit)
        over = released(line, unit, moment, months=key not in saved)
        line.net_minor += each.credited_minor
        line.released_minor += split.revenue_minor
        postings += [posting(line, each.account_id, *one) for one in over]
        saved[key] = line.columns(line.released_minor, from_unit=unit + 1)
    await recognition.save_schedules(tx, list(saved.values()))
    await ledger.post(tx, postings)
