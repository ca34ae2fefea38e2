"""Naive books of a customer: each event moves money once, in the order in which it was told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from tests.simulation.told import Fact, Papers

MOVED = ("subtotal", "discount", "tax", "tax_included", "total", "credited", "credit_applied")


@dataclass
class Books:
    """What a customer owes us (above zero), invoice by invoice and altogether."""

    balance_minor: int = 0
    open_minor: Counter[str] = field(default_factory=Counter)
    lost_minor: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    _came_back: set[str] = field(default_factory=set)

    def move(self, fact: Fact) -> None:
        data, invoice = fact.data, str(fact.data.get("invoice_id"))
        match fact.kind:
            case "payment.succeeded":
                self.balance_minor -= data["amount_minor"]
            case "credit_note.issued":
                self._note(invoice, data, 1)
            case "credit_note.voided":
                self._note(invoice, data, -1)
            case "refund.created" if data["to"] == "method":
                self.balance_minor += data["amount_minor"]
            case "refund.succeeded" if self._left_by_itself(data):
                self.balance_minor += data["amount_minor"]
            case "refund.failed":
                self._came_back.add(data["refund_id"])
                self.balance_minor -= data["amount_minor"]
            case "adjustment.made":
                given = data["direction"] == "credit"
                self.balance_minor += -data["amount_minor"] if given else data["amount_minor"]
            case _:
                self._invoice(fact.kind, invoice, data)
        if self.open_minor[invoice] < 0:
            self.wrong.append(f"{invoice} owes {self.open_minor[invoice]} after {fact.kind}")

    def _invoice(self, kind: str, invoice: str, data: Mapping[str, Any]) -> None:
        match kind:
            case "invoice.finalized":
                self.balance_minor += data["total_minor"] - data["credited_minor"]
                self.open_minor[invoice] += data["total_minor"] - data["credit_applied_minor"]
            case "invoice.voided":
                self.balance_minor -= data["total_minor"] - data["credited_minor"]
                self.open_minor[invoice] = 0
            case "invoice.uncollectible":
                self.balance_minor -= self.open_minor[invoice]
                self.lost_minor[invoice], self.open_minor[invoice] = self.open_minor[invoice], 0
            case "invoice.partially_paid":
                self.open_minor[invoice] -= data["amount_minor"]
                if self.open_minor[invoice] != data["open_minor"]:
                    self.wrong.append(f"{invoice} owes {self.open_minor[invoice]}, told {data}")
            case "invoice.paid":
                self.balance_minor += self.lost_minor.pop(invoice, 0)
                self.open_minor[invoice] = 0

    def _left_by_itself(self, data: Mapping[str, Any]) -> bool:
        """Money that went back without being granted, or although it was said not to."""
        return data["origin"] == "outside" or data["refund_id"] in self._came_back

    def _note(self, invoice: str, data: Mapping[str, Any], sign: int) -> None:
        self.balance_minor -= sign * data["total_minor"]
        if self.lost_minor[invoice]:
            return
        self.open_minor[invoice] -= sign * data["offset_minor"]


def parts_paid(papers: Papers) -> int:
    """Of invoices that are still to be paid, or were written off, what was paid in money."""
    return sum(
        each["paid_minor"] - each["credit_applied_minor"] - each["offset_minor"]
        for each in papers.invoices
        if each["status"] in {"open", "uncollectible"}
    )


def kept(account: Sequence[Fact]) -> Books:
    """The books of an account."""
    books = Books()
    for fact in account:
        books.move(fact)
    return books


def compare(books: Books, balance: Mapping[str, Any]) -> list[str]:
    """With the balance that the API tells."""
    wrong = list(books.wrong)
    if books.balance_minor != balance["balance_minor"]:
        wrong.append(f"the events make {books.balance_minor}, the balance is {balance}")
    owed = sum(books.open_minor.values())
    if owed != balance["receivable_minor"]:
        wrong.append(f"the events leave {owed} open, the balance is {balance}")
    return wrong


def documents(told: Mapping[UUID, Sequence[Fact]], papers: Papers) -> list[str]:
    """Each document is the sum of its lines, and as it was told when it was made."""
    wrong = []
    for each in papers.invoices:
        wrong += [f"invoice {each['number'] or each['id']}: {what}" for what in _sums(each)]
    for each in papers.notes:
        lines = each["lines"]
        for name in ("gross", "discount", "net", "tax", "total"):
            if each[f"{name}_minor"] != sum(line[f"{name}_minor"] for line in lines):
                wrong.append(f"credit note {each['number']}: {name} is not that of its lines")
    shown = {each["id"]: each for each in papers.invoices}
    for fact in (each for account in told.values() for each in account):
        if fact.kind != "invoice.finalized":
            continue
        invoice = shown.pop(fact.data["invoice_id"], None)
        if invoice is None:
            wrong.append(f"{fact.data['invoice_id']} is finalized twice, or is not there")
            continue
        differing = [name for name in MOVED if _differs(fact.data, invoice, name)]
        if differing:
            wrong.append(f"invoice {invoice['number']}: {differing} are not as they were told")
    never = [each for each in shown.values() if each["status"] not in {"draft", "skipped"}]
    return wrong + [f"invoice {each['number']} was never told" for each in never]


def _differs(told: Mapping[str, Any], shown: Mapping[str, Any], name: str) -> bool:
    return bool(told[f"{name}_minor"] != shown[f"{name}_minor"])


def _sums(invoice: Mapping[str, Any]) -> list[str]:
    lines = invoice["lines"]

    def of(name: str) -> int:
        return sum(int(line[f"{name}_minor"]) for line in lines)

    wrong = []
    for total, name in (("subtotal", "gross"), ("discount", "discount"), ("tax", "tax")):
        if invoice[f"{total}_minor"] != of(name):
            wrong.append(f"{total} {invoice[f'{total}_minor']}, lines {of(name)}")
    if invoice["total_minor"] - invoice["credited_minor"] != of("net") + of("tax"):
        wrong.append(f"total {invoice['total_minor']}, lines {of('net') + of('tax')}")
    rates = [] if invoice["tax"] is None else invoice["tax"]["rates"]
    if invoice["tax"] is not None and sum(each["tax_minor"] for each in rates) != of("tax"):
        wrong.append(f"tax by rate {rates}, lines {of('tax')}")
    return wrong


def receipts(told: Mapping[UUID, Sequence[Fact]], captured: Sequence[tuple[str, int]]) -> list[str]:
    """Every capture has one receipt of the same amount, and every receipt a capture."""
    taken = Counter(captured)
    received = Counter(
        (each.data["attempt_id"], each.amount_minor)
        for account in told.values()
        for each in account
        if each.kind == "payment.succeeded"
    )
    wrong = [f"captured without a receipt: {each}" for each in (taken - received)]
    wrong += [f"a receipt without a capture: {each}" for each in (received - taken)]
    twice = [attempt for attempt, n in Counter(each for each, _ in captured).items() if n > 1]
    return wrong + [f"captured twice: {each}" for each in twice]


def returned(told: Mapping[UUID, Sequence[Fact]], sent: Sequence[tuple[str, int]]) -> list[str]:
    """Every refund in the provider's journal was told once with its amount, and no other."""
    given = Counter(sent)
    heard = Counter(
        (each.data["attempt_id"], each.amount_minor)
        for account in told.values()
        for each in account
        if each.kind == "refund.succeeded" and each.data["to"] == "method"
    )
    wrong = [f"went back without being told: {each}" for each in (given - heard)]
    return wrong + [f"told, and did not go back: {each}" for each in (heard - given)]
