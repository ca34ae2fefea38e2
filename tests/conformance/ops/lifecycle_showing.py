"""What an account was billed, under the keys that a case of a lifecycle expects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from subledger.core.local_days import add_local_days, local_date
from subledger.core.tax import TaxLine, compute
from subledger.core.timeline import Line
from tests.conformance.case import Answer, Case, Unsupported
from tests.conformance.ops.lifecycle_account import Account, Invoice
from tests.conformance.ops.lifecycle_reading import Given, instant, is_date, run_before


def finish(account: Account, given: Given, expect: Given) -> None:
    """The runs that the case looks at: one at its target, all up to the last date it shows, or as
    many as it has figures for."""
    if "target" in given:
        account.run(instant(given["target"], account.zone))
        return
    run_before(account, account.now or instant("1971-01-01", account.zone))
    shown = [each for each in dates(expect) if is_date(each)]
    if shown:
        last = instant(max(shown)[:10], account.zone)
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


def dates(expect: Given) -> Iterable[Any]:
    listed = expect.get("invoices")
    for each in listed if isinstance(listed, list) else ():
        yield from (each.get(key) for key in ("at", "date", "target"))
    yield from expect.get("invoice_dates", ())
    yield from (each[0] for each in expect.get("periods", ()))


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
        days = [str(each) for each in dates(self.expect) if is_date(each)]
        found = [each for each in self.invoices if not days or self.day(each.at) >= min(days)[:10]]
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
            "fee_minor": net(charges),
            "usage_minor": net_of(invoice.usage),
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
            return (
                told
                if day == shown and at >= instant(f"{day}T{time}", self.account.zone)
                else shown
            )
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
            "fee_minor": net(invoice.lines("charge")),
            "usage_minor": net_of(invoice.usage),
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


def net(lines: Iterable[Line]) -> int:
    return net_of([each.net_minor for each in lines])


def net_of(amounts: Sequence[int]) -> int:
    return compute([TaxLine(each, ()) for each in amounts]).net_minor if amounts else 0


def last(found: Billing) -> Invoice:
    return found.invoices[-1]


def _item(found: Billing) -> Any:
    (line,) = last(found).draft.lines
    return {"period": found.span(line), "amount_minor": line.net_minor}


def _quiet(found: Billing) -> Any:
    """The moments at which nothing was billed, of those named."""
    zone = found.account.zone
    return [
        told
        for told in found.expect["no_invoice_at"]
        if not any(
            found.day(each.at) == told if len(told) == 10 else each.at == instant(told, zone)
            for each in found.invoices
        )
    ]


SHOWN: Mapping[str, Callable[[Billing], Any]] = {
    "periods": Billing.periods,
    "items": Billing.items,
    "item": _item,
    "total_minor": lambda of: last(of).total_minor,
    "invoice": lambda of: None if len(of.invoices) < 2 else of.document(last(of)),
    "second_invoice": lambda of: None if len(of.invoices) < 2 else of.document(last(of)),
    "no_second_invoice": lambda of: len(of.invoices) == 1,
    "invoices": Billing.shown,
    "invoices_total_minor": lambda of: [each.total_minor for each in of.invoices],
    "invoices_minor": lambda of: [each.total_minor for each in of.invoices],
    "monthly_minor": lambda of: [each.total_minor for each in of.invoices],
    "invoice_dates": lambda of: [of.day(each.at) for each in of.invoices],
    "repair_minor": lambda of: net(of.credits),
    "new_period": lambda of: of.span(of.charges[-1]),
    "new_minor": lambda of: of.charges[-1].net_minor,
    "fees_minor": lambda of: [each.net_minor for each in of.charges],
    "credit_notes_minor": Billing.notes,
    "credit_note_minor": lambda of: of.notes()[-1],
    "credit_note": lambda of: None if not of.credits else net(of.credits),
    "first_invoice": lambda of: of.some("first_invoice", of.invoices[0]),
    "final_invoice": lambda of: of.some("final_invoice", last(of)),
    "no_invoice_at": _quiet,
    "fee_minor": lambda of: net(last(of).lines("charge")),
    "last_fee_minor": lambda of: net(last(of).lines("charge")),
    "last_invoice_total_minor": lambda of: last(of).total_minor,
    "split_arrears_minor": lambda of: [each.net_minor for each in last(of).arrears],
    "adjustment_invoice": lambda of: None if not of.credits else net(of.credits),
    "first_invoice_minor": lambda of: of.invoices[0].total_minor,
    "renewal_minor": lambda of: last(of).total_minor,
    "second_period_cut_to": lambda of: of.span(of.charges[1])[1],
    "proration": lambda of: bool(of.credits) and of.charges[-1].derivation["fraction"] != "1",
}


def answer(
    case: Case,
    account: Account,
    given: Given,
    ends: Mapping[str, datetime] | None = None,
    **more: Any,
) -> Answer:
    finish(account, given, case.expect)
    found = Billing(account, given, case.expect, ends or {})
    unknown = case.expect.keys() - SHOWN.keys() - more.keys()
    if unknown:
        raise Unsupported(f"nothing of ours answers {sorted(unknown)}")
    return {key: more[key] if key in more else SHOWN[key](found) for key in case.expect}
