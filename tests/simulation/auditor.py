"""An auditor who knows nothing of the system: naive books from the public facts and the journal.

It reads two things with an administrator's eyes: the events of each account, and the provider's
journal of captures; and it knows what each plan costs and how often.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from subledger.hosts.invariants import violations
from subledger.platform import ids
from tests.simulation.month import Month

PRICES_MINOR = {"week": 300, "month": 999}
_EVENTS = (
    "SELECT subject, type, occurred_at, data FROM eventlog.events WHERE tenant_id = $1"
    " ORDER BY partition, position"
)
_CAPTURES = (
    "SELECT attempt_id, amount_minor FROM sandbox.charges WHERE tenant_id = $1"
    " AND status = 'succeeded' ORDER BY at, id"
)
_LINES = (
    "SELECT l.net_minor, l.service_start_at, l.service_end_at FROM billing.invoice_lines l"
    " JOIN billing.invoices i ON i.tenant_id = l.tenant_id AND i.id = l.invoice_id"
    " WHERE l.tenant_id = $1 AND i.status NOT IN ('draft', 'void')"
)
_UNDER_WAY = (
    "SELECT id::text, state FROM payments.attempts WHERE tenant_id = $1"
    " AND state NOT IN ('succeeded', 'failed', 'canceled', 'requires_action')"
)


@dataclass(frozen=True)
class Fact:
    """One event of an account."""

    kind: str
    at: datetime
    data: dict[str, Any]

    @property
    def amount_minor(self) -> int:
        amount = self.data.get("amount_minor", self.data.get("total_minor"))
        return 0 if amount is None else int(amount)


async def facts(
    admin: asyncpg.Connection[asyncpg.Record], tenant_id: UUID
) -> dict[UUID, list[Fact]]:
    """Every account's events in its own order."""
    found: dict[UUID, list[Fact]] = {}
    for row in await admin.fetch(_EVENTS, tenant_id):
        data = msgspec.json.decode(row["data"])
        found.setdefault(row["subject"], []).append(Fact(row["type"], row["occurred_at"], data))
    return found


async def audit(month: Month) -> list[str]:
    """What is wrong; empty if the books are right."""
    admin, tenant_id = month.life.admin, month.tenant_id
    told = await facts(admin, tenant_id)
    captures = [(row[0], row[1]) for row in await admin.fetch(_CAPTURES, tenant_id)]
    wrong = [str(each) for each in await violations(month.life.assembly, tenants=[tenant_id])]
    wrong += [f"attempt {row[0]} is {row[1]}" for row in await admin.fetch(_UNDER_WAY, tenant_id)]
    wrong += _receipts(told, captures)
    wrong += await _booked(month, sum(amount for _, amount in captures))
    for who in month.people:
        account = told.get(month.subject(who), [])
        wrong += [f"{who.name}: {each}" for each in _account(account, who.plan, month.end_at)]
        wrong += _in_order(who.name, account)
        answer = month.life.assembly.memory.check(tenant_id, who.id, "film:a")
        last = _last(account, "entitlement.")
        if answer.allowed != (last == "entitlement.granted"):
            wrong.append(f"{who.name}: access says {answer}, the last fact is {last}")
    return wrong


def _receipts(told: dict[UUID, list[Fact]], captures: list[tuple[str, int]]) -> list[str]:
    """Every capture has one receipt of the same amount, and every receipt a capture."""
    taken = Counter(captures)
    received = Counter(
        (each.data["attempt_id"], each.amount_minor)
        for account in told.values()
        for each in account
        if each.kind == "payment.succeeded"
    )
    wrong = [f"captured without a receipt: {each}" for each in (taken - received)]
    wrong += [f"a receipt without a capture: {each}" for each in (received - taken)]
    twice = [attempt for attempt, n in Counter(each for each, _ in captures).items() if n > 1]
    return wrong + [f"captured twice: {each}" for each in twice]


async def _booked(month: Month, captured: int) -> list[str]:
    """What was captured is what invoices paid plus what waits unapplied."""
    page = await month.api_get("/v1/invoices", limit=100)
    assert not page["has_more"]
    paid = sum(
        row["total_minor"] - row["credit_applied_minor"]
        for row in page["data"]
        if row["status"] == "paid"
    )
    unapplied = 0
    for who in month.people:
        balance = await month.api_get(f"/v1/customers/{who.id}/balance")
        unapplied += sum(each["unapplied_minor"] for each in balance["balances"])
    wrong = []
    if captured != paid + unapplied:
        wrong.append(f"captured {captured}, paid {paid}, unapplied {unapplied}")
    balances = (await month.api_get("/v1/ledger/trial-balance"))["currencies"]
    wrong += [f"trial balance: {each}" for each in balances if each["balance_minor"]]
    cleared = -captured + sum(
        account["balance_minor"]
        for each in balances
        for account in each["accounts"]
        if account["account"].startswith("provider_clearing:")
    )
    if cleared:
        wrong.append(f"clearing differs from the journal by {cleared}")
    return wrong + await _earned(month, balances)


async def _earned(month: Month, balances: list[dict[str, Any]]) -> list[str]:
    """Naive: of each line of an invoice that stands the days that are over are revenue (by UTC),
    the rest is deferred."""
    rows = await month.life.admin.fetch(_LINES, month.tenant_id)
    today = datetime.fromisoformat((await month.api_get("/v1/clock"))["now_at"]).date()
    revenue = 0
    for row in rows:
        start, end = row["service_start_at"].date(), row["service_end_at"].date()
        over = min(max((today - start).days, 0), (end - start).days)
        exact = Fraction(abs(row["net_minor"]) * over, (end - start).days)
        rounded = int(exact + Fraction(1, 2))
        revenue += rounded if row["net_minor"] > 0 else -rounded
    expected = {"revenue": revenue, "deferred_revenue": sum(r["net_minor"] for r in rows) - revenue}
    booked = {
        account["account"]: -account["balance_minor"]
        for each in balances
        for account in each["accounts"]
    }
    return [
        f"{name}: booked {booked.get(name, 0)}, by days {amount}"
        for name, amount in expected.items()
        if booked.get(name, 0) != amount
    ]


def _account(account: list[Fact], plan: str, end_at: datetime) -> list[str]:
    """Naive: a period begins, its price is due once, and for an active subscription it is paid."""
    begun = [each.at for each in account if each.kind == "subscription.created"]
    if not begun:
        return []
    ended = [each.at for each in account if each.kind == "subscription.canceled"]
    if any("quantity" in each.data.get("changed", ()) for each in account):
        return _changed_account(account, plan, end_at)
    price = PRICES_MINOR[plan]
    until = ended[0] if ended else end_at
    periods = sum(1 for start in _starts(begun[0], plan) if start <= until)
    taken = sum(each.amount_minor for each in account if each.kind == "payment.succeeded")
    billed = sum(
        each.kind == "invoice.finalized" and each.data["reason"] != "subscription_end"
        for each in account
    )
    wrong = []
    if len(begun) > 1:
        wrong.append(f"bought {len(begun)} times")
    if billed > periods:
        wrong.append(f"{billed} invoices for {periods} periods")
    if taken > billed * price:
        wrong.append(f"took {taken} for {billed} invoices of {price}")
    last = _last(account, "subscription.")
    if last in {"subscription.activated", "subscription.renewed"}:
        if billed != periods:
            wrong.append(f"runs, but has {billed} invoices for {periods} periods")
        voided = sum(1 for each in account if each.kind == "invoice.voided")
        if taken != (periods - voided) * price:
            wrong.append(f"runs, but took {taken} for {periods} periods of {price}")
    return wrong


def _changed_account(account: list[Fact], plan: str, end_at: datetime) -> list[str]:
    """Naive: each day of a period costs its share of the price times the quantity of that day, the
    day of a change being the new quantity's. Every line rounds once."""
    finalized = [each for each in account if each.kind == "invoice.finalized"]
    due = sum(each.amount_minor - each.data["credit_applied_minor"] for each in finalized)
    taken = sum(each.amount_minor for each in account if each.kind == "payment.succeeded")
    if taken > due:
        return [f"took {taken} of {due} due"]
    ended = {"subscription.canceled", "invoice.voided", "invoice.uncollectible"}
    if any(each.kind in ended for each in account):
        return []
    begun_at = next(each.at for each in account if each.kind == "subscription.created")
    quantities = [
        (each.at.date(), int(each.data["quantity"]))
        for each in account
        if each.kind == "subscription.created" or "quantity" in each.data.get("changed", ())
    ]
    expected = Fraction(0)
    for start, following in pairwise(_starts(begun_at, plan)):
        days = (following.date() - start.date()).days
        for n in range(days if start <= end_at else 0):
            day = start.date() + timedelta(days=n)
            quantity = [many for since, many in quantities if since <= day][-1]
            expected += Fraction(PRICES_MINOR[plan] * quantity, days)
    billed = sum(each.amount_minor - each.data["credited_minor"] for each in finalized)
    if abs(billed - expected) > len(quantities):
        return [f"billed {billed}, by days {float(expected)}"]
    return []


def _starts(begun_at: datetime, plan: str) -> list[datetime]:
    if plan == "week":
        return [begun_at + timedelta(days=7 * n) for n in range(12)]
    # The simulation begins before the 28th, so a month's end never matters.
    months = [divmod(begun_at.month - 1 + n, 12) for n in range(4)]
    return [begun_at.replace(year=begun_at.year + y, month=m + 1) for y, m in months]


def _in_order(name: str, account: list[Fact]) -> list[str]:
    moments = [each.at for each in account]
    return [] if moments == sorted(moments) else [f"{name}: events go back in time"]


def _last(account: list[Fact], head: str) -> str | None:
    return next((each.kind for each in reversed(account) if each.kind.startswith(head)), None)


def diary(told: dict[UUID, list[Fact]]) -> dict[str, list[tuple[str, str, int]]]:
    """Every account's events with moments and amounts, to compare runs."""
    return {
        ids.text("cus", subject): [(x.kind, x.at.isoformat(), x.amount_minor) for x in account]
        for subject, account in told.items()
    }
