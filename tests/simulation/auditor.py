"""An auditor who knows nothing of the system: naive books from what is told in public.

It reads the events of each account, the documents and balances that the API shows, and the
provider's journal of captures; it knows what the shop sells and what was asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from subledger.hosts.invariants import violations
from tests.simulation import books, cover, plain, revenue, states, worth
from tests.simulation.month import Month
from tests.simulation.people import Person
from tests.simulation.told import Fact, Papers, captures, facts, held, papers, refunds

_UNDER_WAY = (
    "SELECT id::text, state FROM payments.attempts WHERE tenant_id = $1"
    " AND state NOT IN ('succeeded', 'failed', 'canceled', 'requires_action')"
    " UNION ALL SELECT id::text, 'a refund that is ' || state FROM payments.refunds"
    " WHERE tenant_id = $1 AND finished_at IS NULL"
)


@dataclass
class Served:
    """What the auditor learns of subscriptions while it looks at their payers."""

    now_at: datetime
    """The shop's clock, which stands."""
    balances: dict[str, list[dict[str, Any]]]
    """Of each customer by id, as the API shows them."""
    spans: dict[str, cover.Spans] = field(default_factory=dict)
    extended: Counter[str] = field(default_factory=Counter)
    """How many pauses moved the end of a period of them."""
    shared: set[str] = field(default_factory=set)
    """Subscriptions whose charges are all worth their days."""
    given_up: dict[tuple[str, str], datetime] = field(default_factory=dict)
    """See ``cover.given_up``."""


async def audit(month: Month) -> list[str]:
    """What is wrong; empty if the books are right."""
    admin, tenant_id = month.life.admin, month.tenant_id
    told, shown = await facts(admin, tenant_id), await papers(month)
    captured, sent_back = await captures(month), await refunds(month)
    wrong = [str(each) for each in await violations(month.life.assembly, tenants=[tenant_id])]
    wrong += [f"attempt {row[0]} is {row[1]}" for row in await admin.fetch(_UNDER_WAY, tenant_id)]
    wrong += books.receipts(told, captured)
    wrong += books.returned(told, sent_back)
    wrong += books.documents(told, shown)
    served = Served(await month.now(), await _balances(month))
    balances = (await month.get("/v1/ledger/trial-balance"))["currencies"]
    taken = sum(amount for _, amount in captured)
    wrong += await _booked(month, shown, served, balances, taken)
    paused = revenue.standstills(told.values())
    wrong += revenue.earned(shown, balances, served.now_at, paused)
    for who in month.people:
        account = told.get(month.subject(who), [])
        wrong += [f"{who.name}: {each}" for each in await _person(month, who, account, served)]
    return wrong + await _services(month, shown, served, paused)


async def _balances(month: Month) -> dict[str, list[dict[str, Any]]]:
    return {
        who.id: (await month.get(f"/v1/customers/{who.id}/balance"))["balances"]
        for who in month.people
    }


async def _services(
    month: Month, shown: Papers, served: Served, paused: Mapping[str, Sequence[revenue.Standstill]]
) -> list[str]:
    """What was billed, against what was served and what the shop sells."""
    sold = await _prices(month)
    codes = {
        price["id"]: cover.MAIN if price["timing"] == "advance" else cover.ASIDE
        for price in sold
        if price["timing"] != "once"
    }
    simple = {price["id"]: found for price in sold if (found := worth.price_of(price)) is not None}
    return [
        *cover.never_more_back_than_charged(shown),
        *cover.covered_once(shown, codes, served.extended, served.given_up),
        *cover.not_covered(shown, codes, served.spans, served.extended, paused),
        *worth.about_right(shown, simple, served.shared),
    ]


async def _prices(month: Month) -> list[dict[str, Any]]:
    """Those of every version of every plan."""
    return [
        price
        for plan in month.shelf.plans.values()
        for version in await month.get_all(f"/v1/plans/{plan}/versions")
        for price in version["prices"]
    ]


async def _person(month: Month, who: Person, account: Sequence[Fact], served: Served) -> list[str]:
    [balance] = served.balances[who.id]
    wrong = books.compare(books.kept(account), balance)
    wrong += await _statement(month, who, balance)
    wrong += _in_order(account)
    if plain.is_plain(who, month.asked) and not month.shelf.is_taxed:
        wrong += plain.recounted(who, account, month.end_at)
    served.extended.update(
        each.data["subscription_id"]
        for each in account
        if each.kind == "subscription.paused" and each.data["credit"] == "extend"
    )
    served.given_up |= cover.given_up(account)
    lives = states.replayed(account, month.end_at, may_wait="switch on" in month.asked)
    shown = await month.get_all("/v1/subscriptions", customer_id=who.id)
    if {each["id"] for each in shown} != set(lives):
        wrong.append(f"subscriptions {[each['id'] for each in shown]}, told {list(lives)}")
    for each in shown:
        life = lives.get(each["id"], states.Replayed())
        wrong += [f"{each['id']}: {what}" for what in life.wrong]
        if life.status != each["status"]:
            wrong.append(f"{each['id']} is {each['status']}, by its events {life.status}")
        if each["parked_reason"] is None:
            served.spans[each["id"]] = life.spans
        if "buy anchored" not in who.asked and not _ever_paused(account, each["id"]):
            served.shared.add(each["id"])
    return wrong + _access(month, who, account, served.now_at)


def _ever_paused(account: Sequence[Fact], subscription: str) -> bool:
    return any(
        each.kind == "subscription.paused" and each.data["subscription_id"] == subscription
        for each in account
    )


async def _statement(month: Month, who: Person, balance: Mapping[str, Any]) -> list[str]:
    """From nothing, entry by entry, to the balance."""
    shown = await month.get(f"/v1/customers/{who.id}/statement", limit=100)
    moved = sum(each["debit_minor"] - each["credit_minor"] for each in shown["entries"])
    if shown["has_more"] or moved == balance["balance_minor"]:
        return []
    return [f"the statement's entries make {moved}, the balance is {balance}"]


def _access(month: Month, who: Person, account: Sequence[Fact], now_at: datetime) -> list[str]:
    """The last fact of each subscription says whether it gives access, and until when."""
    answer = month.life.assembly.memory.check(month.tenant_id, who.id, "film:a")
    last = {
        each.data["subscription_id"]: each
        for each in account
        if each.kind.startswith("entitlement.")
    }
    granted = [each for each in last.values() if each.kind == "entitlement.granted"]
    runs = [
        each for each in granted if datetime.fromisoformat(each.data["valid_until_at"]) > now_at
    ]
    if (answer.allowed and not granted) or (runs and not answer.allowed):
        return [f"access says {answer}, the last facts are {list(last.values())}"]
    return []


def _in_order(account: Sequence[Fact]) -> list[str]:
    moments = [each.at for each in account]
    return [] if moments == sorted(moments) else ["events go back in time"]


async def _booked(
    month: Month,
    shown: Papers,
    served: Served,
    currencies: Sequence[Mapping[str, Any]],
    captured: int,
) -> list[str]:
    """What was captured is what paid invoices, whole or in part, plus what waits unapplied; what is
    on the books of the provider, of revenue and of tax is what documents and the journal say."""
    paid = sum(
        each["total_minor"] - each["credit_applied_minor"] - each["offset_minor"]
        for each in shown.invoices
        if each["status"] == "paid"
    )
    paid += books.parts_paid(shown)
    unapplied = sum(
        each["unapplied_minor"] for balances in served.balances.values() for each in balances
    )
    wrong = []
    refunded = any(what.startswith("refund") for what, _ in month.outcomes)
    if captured != paid + unapplied and not refunded:
        wrong.append(f"captured {captured}, paid {paid}, unapplied {unapplied}")
    wrong += [f"trial balance: {each}" for each in currencies if each["balance_minor"]]
    for head, amount in (
        ("provider_clearing:", await held(month)), ("tax_payable", -_tax(shown)),
    ):  # fmt: skip
        booked = sum(
            account["balance_minor"]
            for each in currencies
            for account in each["accounts"]
            if account["account"].startswith(head)
        )
        if booked != amount:
            wrong.append(f"{head} holds {booked}, expected {amount}")
    return wrong


def _tax(shown: Papers) -> int:
    """Owed to the tax office: that of all documents that stand."""
    return sum(
        each.tax_minor - each.noted_tax_minor
        for each in shown.lines
        if each.status not in revenue.NEVER
    )
