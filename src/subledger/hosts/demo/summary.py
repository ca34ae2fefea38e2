"""What the demo shows in the end: the figures as data, and as a page in the terminal."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Table

from subledger.core.money import format_minor
from subledger.hosts.demo import script
from subledger.hosts.demo.business import Cinema
from subledger.hosts.demo.troubles import Seen


@dataclass(slots=True)
class Figures:
    """The summary as data (amounts in minor units, by currency).

    ``revenue_minor`` is what paid invoices say: a refund does not change the invoice (a credit
    note stands beside it), and neither does a dispute. ``provider_captured_minor`` is what the
    provider captured less what it gave back, so it is the revenue less ``refunded_minor``; what
    banks took back for good is ``disputes_lost_minor``. ``doubles`` are captures beyond one per
    attempt in the provider's journal. Of ``outage_payments`` invoices that were to be paid while
    the provider was dead, charges for ``outage_waited`` reached nobody at first,
    ``outage_unknown`` got no answer, and ``outage_recovered`` were paid two days later.
    """

    customers: int = 0
    subscriptions: int = 0
    invoices: int = 0
    payments_succeeded: int = 0
    payments_failed: int = 0
    recovered: int = 0
    revenue_minor: dict[str, int] = field(default_factory=dict)
    provider_captured_minor: dict[str, int] = field(default_factory=dict)
    trial_balance_minor: dict[str, int] = field(default_factory=dict)
    mrr_minor: dict[str, dict[str, int]] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    invariant_violations: int = 0
    doubles: int = 0
    secure_payments: int = 0
    refunded_minor: dict[str, int] = field(default_factory=dict)
    disputes_lost_minor: dict[str, int] = field(default_factory=dict)
    dispute_fees_minor: dict[str, int] = field(default_factory=dict)
    outage_payments: int = 0
    outage_waited: int = 0
    outage_unknown: int = 0
    outage_recovered: int = 0
    events: int = 0
    seconds: float = 0.0
    first_paid_invoice_s: float = 0.0

    def data(self) -> dict[str, Any]:
        return asdict(self)


async def collect(cinema: Cinema) -> Figures:
    """Read the business's figures over the API."""
    figures = Figures()
    async for _ in cinema.every("/v1/customers"):
        figures.customers += 1
    statuses: Counter[str] = Counter()
    async for row in cinema.every("/v1/subscriptions"):
        statuses[row["status"]] += 1
    figures.statuses = dict(sorted(statuses.items()))
    figures.subscriptions = sum(statuses.values())
    mrr: dict[str, Counter[str]] = defaultdict(Counter)
    revenue: Counter[str] = Counter()
    async for row in cinema.every("/v1/invoices"):
        figures.invoices += 1
        if row["status"] == "paid":
            revenue[row["currency"]] += row["total_minor"]
        if row["status"] != "void":
            mrr[_month(row["finalized_at"])][row["currency"]] += row["total_minor"]
    figures.revenue_minor = dict(sorted(revenue.items()))
    figures.mrr_minor = {month: dict(sorted(mrr[month].items())) for month in sorted(mrr)}
    outcomes: dict[str, set[str]] = defaultdict(set)
    refunded: Counter[str] = Counter()
    async for row in cinema.every("/v1/payments"):
        if row["status"] == "succeeded":
            figures.payments_succeeded += 1
        elif row["status"] == "failed":
            figures.payments_failed += 1
        if row["refunded_minor"]:
            refunded[row["currency"]] += row["refunded_minor"]
        if row["invoice_id"]:
            outcomes[row["invoice_id"]].add(row["status"])
    figures.recovered = sum({"failed", "succeeded"} <= each for each in outcomes.values())
    figures.refunded_minor = dict(refunded)
    async for row in cinema.every("/v1/disputes", status="lost"):
        lost, fees = figures.disputes_lost_minor, figures.dispute_fees_minor
        lost[row["currency"]] = lost.get(row["currency"], 0) + row["amount_minor"]
        fees[row["currency"]] = fees.get(row["currency"], 0) + row["fee_minor"]
    balance = await cinema.get("/v1/ledger/trial-balance")
    figures.trial_balance_minor = _trial_balance(balance)
    return figures


def _month(moment: str) -> str:
    """The demo's month (30 days) in which a moment lies, 1 to 6."""
    passed = datetime.fromisoformat(moment) - script.START
    return str(min(passed // timedelta(days=30) + 1, script.MONTHS))


def _trial_balance(answer: Any) -> dict[str, int]:
    """Debits less credits by currency; zero if the books balance."""
    return {each["currency"]: each["balance_minor"] for each in answer["currencies"]}


def show(
    console: Console,
    figures: Figures,
    *,
    explained: str,
    statement: Any,
    seen: Seen,
    urls: dict[str, str],
) -> None:
    """The summary for a person."""
    console.rule("[bold]Six months of an online cinema")
    table = Table(show_header=False, box=None, padding=(0, 2))
    total = figures.payments_succeeded + figures.payments_failed
    for name, value in (
        ("customers", str(figures.customers)),
        ("subscriptions", ", ".join(f"{n} {status}" for status, n in figures.statuses.items())),
        ("invoices", str(figures.invoices)),
        ("payments", f"{figures.payments_succeeded} succeeded of {total}"
         f" ({100 * figures.payments_succeeded // max(total, 1)} %)"),
        ("recovered by retries", f"{figures.recovered} invoices"),
        ("events", str(figures.events)),
        ("invariant violations", str(figures.invariant_violations)),
        ("first paid invoice", f"{figures.first_paid_invoice_s:.1f} s after the start"),
        ("whole demo", f"{figures.seconds:.1f} s"),
    ):  # fmt: skip
        table.add_row(name, value)
    console.print(table)

    money = Table(title="Money by currency", title_justify="left")
    for name in (
        "currency", "revenue", "refunded", "kept by the provider", "trial balance"
    ):  # fmt: skip
        money.add_column(name, justify="left" if name == "currency" else "right")
    for currency in figures.revenue_minor:
        money.add_row(
            currency,
            format_minor(figures.revenue_minor[currency], currency),
            format_minor(figures.refunded_minor.get(currency, 0), currency),
            format_minor(figures.provider_captured_minor.get(currency, 0), currency),
            format_minor(figures.trial_balance_minor.get(currency, 0), currency),
        )
    console.print(money)
    _draw_mrr(console, figures)

    console.rule("One invoice, explained")
    console.print(explained, highlight=False)
    console.rule("One statement")
    _draw_statement(console, statement["entries"])
    for balance in statement["closing"]:
        console.print(f"  closing balance {_money(balance, 'balance_minor')}")
    _draw_troubles(console, seen)
    console.rule("Look around")
    for name, url in urls.items():
        console.print(f"  {name:<16}{url}", highlight=False)


def _draw_mrr(console: Console, figures: Figures) -> None:
    """Billed per month, a bar each, relative to the currency's best month."""
    chart = Table(title="Monthly recurring revenue", title_justify="left")
    currencies = sorted({c for month in figures.mrr_minor.values() for c in month})
    chart.add_column("month")
    for currency in currencies:
        chart.add_column(currency)
    best = {
        currency: max(month.get(currency, 0) for month in figures.mrr_minor.values())
        for currency in currencies
    }
    for month, amounts in figures.mrr_minor.items():
        cells = []
        for currency in currencies:
            amount = amounts.get(currency, 0)
            bar = "█" * max(1, 8 * amount // max(best[currency], 1)) if amount else ""
            cells.append(f"{bar:<8} {format_minor(amount, currency)}")
        chart.add_row(month, *cells)
    console.print(chart)


def _draw_statement(console: Console, entries: list[Any]) -> None:
    table = Table(box=None, padding=(0, 2))
    for name in ("moment", "what", "invoice", "debit", "credit", "balance"):
        table.add_column(
            name, justify="right" if name in {"debit", "credit", "balance"} else "left"
        )
    for entry in entries:
        currency = entry["currency"]
        table.add_row(
            entry["occurred_at"][:16].replace("T", " "),
            entry["kind"],
            entry["invoice_number"] or "",
            format_minor(entry["debit_minor"], currency) if entry["debit_minor"] else "",
            format_minor(entry["credit_minor"], currency) if entry["credit_minor"] else "",
            format_minor(entry["balance_minor"], currency),
        )
    console.print(table)


def _money(row: Any, name: str, currency: str | None = None) -> str:
    currency = currency or row["currency"]
    return f"{format_minor(row[name], currency)} {currency}"


def _draw_troubles(console: Console, seen: Seen) -> None:
    """What went wrong, and how it ended: a heading and a few lines each."""
    say = partial(console.print, highlight=False)
    console.rule("A payer whose bank asks (3-D Secure)")
    for when, (waiting, done) in zip(
        ("on the hosted page", "at the renewal"), seen.secure, strict=True
    ):
        say(
            f"  {when:<20}{_money(done, 'amount_minor')}: {waiting['status']}, then confirmed:"
            f" {done['status']}"
        )
    console.rule("A refund, seen before")
    preview, refund = seen.preview, seen.refund
    for name, what in (
        ("refundable_minor", "the most that can go back"),
        ("unused_minor", "not used of the period"),
        ("amount_minor", "would go back"),
        ("tax_minor", "of it tax"),
        ("fees_kept_minor", "fees that the provider keeps"),
    ):
        say(
            f"  {'preview' if name == 'refundable_minor' else '':<20}{_money(preview, name)} {what}"
        )
    say(f"  {'refund':<20}{_money(refund, 'amount_minor')}: {refund['status']}")
    say("  the end of the customer's statement")
    _draw_statement(console, seen.statement[-3:])
    console.rule("A dispute, lost")
    dispute = seen.dispute
    say(
        f"  the bank took {_money(dispute, 'amount_minor')} ({dispute['reason']}), the"
        f" provider a fee of {_money(dispute, 'fee_minor')}"
    )
    for when, look in zip(("opened", "lost"), seen.looks, strict=True):
        amounts = ", ".join(
            f"{name} {format_minor(amount, dispute['currency'])}"
            for name, amount in look.books.items()
            if amount
        )
        say(f"  {when:<10}books: {amounts}")
        say(f"  {'':<10}subscription: {look.status}; access: {look.access['reason']}")
    console.rule("A provider that was dead for a day")
    say(f"  to be charged       {seen.due} renewals")
    say(f"  waited              {seen.waited}: connections refused, nobody was reached")
    say(f"  unknown             {seen.unknown}: taken, perhaps; no answer to that or to questions")
    say(f"  paid afterwards     {seen.recovered}")
    say(f"  taken twice         {seen.journal['doubles']}, by the provider's journal")
