"""Plain histories, recounted by days from price and quantity alone.

Of customers who only bought one plan, changed its quantity and ended it, and in a shop that changed
nothing, an auditor can say what they had to pay without looking at a line.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Sequence
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from zoneinfo import ZoneInfo

from tests.simulation.people import Person
from tests.simulation.selling import PRICES_MINOR
from tests.simulation.told import Fact

PLAIN = frozenset(
    {
        *("buy plain", "card", "pay card", "pay page", "undo cancel", "void"),
        *("change quantity now, now", "time"),
    }
)
ENDED = frozenset({"subscription.canceled", "invoice.voided", "invoice.uncollectible"})


def is_plain(who: Person, asked_of_all: set[str]) -> bool:
    """Whether nothing but plain things were asked for."""
    others = (who.asked | asked_of_all) - PLAIN
    return len(who.subscriptions) == 1 and all(each.startswith("cancel ") for each in others)


def recounted(who: Person, account: Sequence[Fact], end_at: datetime) -> list[str]:
    """Naive: a period begins, its price is due once, and for an active subscription it is paid."""
    begun = [each.at for each in account if each.kind == "subscription.created"]
    if not begun:
        return []
    if any("quantity" in each.data.get("changed", ()) for each in account):
        return _changed(who, account, end_at)
    ended = [each.at for each in account if each.kind == "subscription.canceled"]
    price, until = PRICES_MINOR[who.plan], ended[0] if ended else end_at
    periods = sum(1 for start in starts(begun[0], who) if start <= until)
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
    last = [each.kind for each in account if each.kind.startswith("subscription.")][-1]
    if last in {"subscription.activated", "subscription.renewed"}:
        if billed != periods:
            wrong.append(f"runs, but has {billed} invoices for {periods} periods")
        voided = sum(1 for each in account if each.kind == "invoice.voided")
        if taken != (periods - voided) * price:
            wrong.append(f"runs, but took {taken} for {periods} periods of {price}")
    return wrong


def _changed(who: Person, account: Sequence[Fact], end_at: datetime) -> list[str]:
    """Naive: each day of a period costs its share of the price times the quantity of that day, the
    day of a change being the new quantity's. Every line rounds once."""
    finalized = [each for each in account if each.kind == "invoice.finalized"]
    due = sum(each.amount_minor - each.data["credit_applied_minor"] for each in finalized)
    taken = sum(each.amount_minor for each in account if each.kind == "payment.succeeded")
    if taken > due:
        return [f"took {taken} of {due} due"]
    if any(each.kind in ENDED for each in account):
        return []
    zone = ZoneInfo(who.timezone)
    begun_at = next(each.at for each in account if each.kind == "subscription.created")
    quantities = [
        (each.at.astimezone(zone).date(), Fraction(each.data["quantity"]))
        for each in account
        if each.kind == "subscription.created" or "quantity" in each.data.get("changed", ())
    ]
    expected = Fraction(0)
    for start, following in pairwise(starts(begun_at, who)):
        days = (following.date() - start.date()).days
        for n in range(days if start <= end_at else 0):
            day = start.date() + timedelta(days=n)
            quantity = [many for since, many in quantities if since <= day][-1]
            expected += PRICES_MINOR[who.plan] * quantity / days
    billed = sum(each.amount_minor - each.data["credited_minor"] for each in finalized)
    if abs(billed - expected) > 2 * len(quantities):
        return [f"billed {billed}, by days {float(expected)}"]
    return []


def starts(begun_at: datetime, who: Person) -> list[datetime]:
    """Of the periods, in the person's own time."""
    local = begun_at.astimezone(ZoneInfo(who.timezone))
    if who.plan == "week":
        return [local + timedelta(days=7 * n) for n in range(40)]
    months = [divmod(local.month - 1 + n, 12) for n in range(10)]
    return [
        local.replace(
            year=local.year + year,
            month=month + 1,
            day=min(local.day, monthrange(local.year + year, month + 1)[1]),
        )
        for year, month in months
    ]
