"""Credit notes, applied credit and grants of other systems, in the core's words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from subledger.core import credits
from subledger.core.calendar import (
    Alignment,
    Grid,
    Interval,
    Period,
    Unit,
    align,
    boundary,
    index_at,
)
from subledger.core.calendar import period as calendar_period
from subledger.core.credit_notes import (
    CreditNote,
    Earlier,
    Invoice,
    InvoiceLine,
    NoteLine,
    OpenOf,
    Request,
    State,
    credit_note,
    open_minor,
    rest,
    unused,
)
from subledger.core.credits import Kind
from subledger.core.discounts import Discount, Duration
from subledger.core.discounts import Kind as DiscountKind
from subledger.core.discounts import apply as discount
from subledger.core.errors import InvalidCredit
from subledger.core.money import round_half_up
from subledger.core.settlement import Paid, Unpaid
from tests.conformance.case import Answer, Case, Operation
from tests.conformance.ops import credits_applied
from tests.conformance.ops.credits_common import (
    NOW,
    SOME_MINOR,
    currency_of,
    goes,
    instant,
    rate_of,
    source,
    stored,
    unused_of,
)

_DAY = Interval(Unit.DAY)
_CALENDAR = Alignment(Grid.CALENDAR)


def _asked(wanted: Any, answer: Mapping[str, Any]) -> Any:
    """Of an answer only the keys that are asked for."""
    return {key: answer[key] for key in wanted if key in answer}


def _figures(note: CreditNote | NoteLine) -> dict[str, Any]:
    """Meteroid shows what a note lowers as negative figures, Lago the note's own."""
    return {
        "item_minor": note.gross_minor,
        "net_minor": note.net_minor,
        "tax_minor": note.tax_minor,
        "total_minor": note.total_minor,
    }


def _lowered(note: CreditNote | NoteLine) -> dict[str, Any]:
    return {
        "subtotal_minor": -note.gross_minor,
        "discount_minor": -note.discount_minor,
        "tax_minor": -note.tax_minor,
        "total_minor": -note.total_minor,
    }


def _shown(case: Case, note: CreditNote | NoteLine) -> dict[str, Any]:
    return _lowered(note) if case.source == "meteroid" else _figures(note)


# --- credit notes -------------------------------------------------------------------------------


def _for_unused(case: Case) -> Answer:
    given = case.given
    invoice = Invoice(currency_of(given), stored([given["plan"]["amount_minor"]], [0], given))
    gross = unused(invoice.lines[0], Fraction(given["unused_fraction"]))
    return _figures(credit_note(invoice, [Request("0", gross)]))


def _sequence(case: Case) -> Answer:
    given = case.given
    gross = given.get("lines_minor") or given["fees_minor"]
    lines = stored(gross, _coupon(given, gross), given)
    total = sum(each.total_minor for each in lines)
    paid = given.get("invoice_paid")
    invoice = Invoice(
        currency_of(given), lines, "paid" if paid else "open", paid_minor=total if paid else 0
    )
    notes: list[CreditNote] = []
    for wanted in given["notes"]:
        requests = (
            [Request(str(n), lines[n].gross_minor) for n in wanted]
            if "lines_minor" in given
            else _from_the_first(invoice, notes, wanted)
        )
        notes.append(credit_note(invoice, requests, earlier=notes))
    shown = {
        "subtotal_minor": sum(gross),
        "discount_minor": sum(each.discount_minor for each in lines),
        "tax_minor": sum(each.tax_minor for each in lines),
        "total_minor": total,
    }
    expect = case.expect
    answer: dict[str, Any] = {
        "invoice": _asked(expect.get("invoice", ()), shown),
        "notes": [
            _asked(wanted, {**_shown(case, note), **goes(note)})
            for wanted, note in zip(expect["notes"], notes, strict=True)
        ],
    }
    if "third_note_on_same_line" in expect:
        first = notes[0].lines[0]
        again = _refused(invoice, [Request(first.line_id, first.gross_minor)], notes)
        if again is not None and again.left_minor == 0:
            answer["third_note_on_same_line"] = "rejected: already fully credited"
    return answer


def _coupon(given: Mapping[str, Any], gross: Sequence[int]) -> Sequence[int]:
    coupon = given.get("coupon")
    if coupon is None:
        return [0] * len(gross)
    percent = coupon["type"] == "percent"
    made = Discount(
        id="coupon",
        kind=DiscountKind.PERCENT if percent else DiscountKind.FIXED,
        percent=Decimal(coupon["value"]) if percent else None,
        amount_minor=None if percent else coupon["value"],
        currency=None if percent else currency_of(given),
        duration=Duration.ONCE,
        periods=None,
    )
    return discount([made], gross, currency=currency_of(given)).by_line_minor


def _from_the_first(
    invoice: Invoice, notes: Sequence[CreditNote], wanted: Sequence[int]
) -> list[Request]:
    """Lago's notes name amounts: each is taken from the first line that has it left."""
    room = list(rest(invoice, notes))
    requests = []
    for amount in wanted:
        found = next(each for each in room if each.gross_minor >= amount)
        room.remove(found)
        requests.append(Request(found.line_id, amount))
    return requests


def _refused(
    invoice: Invoice, requests: Sequence[Request], earlier: Sequence[CreditNote], **choice: Any
) -> InvalidCredit | None:
    try:
        credit_note(invoice, requests, earlier=earlier, **choice)
    except InvalidCredit as refusal:
        return refusal
    return None


def _partial(case: Case) -> Answer:
    given = case.given
    lines = tuple(
        InvoiceLine(
            str(n),
            fee["amount_minor"],
            fee.get("coupon_minor", 0),
            round_half_up((fee["amount_minor"] - fee.get("coupon_minor", 0)) * rate_of(fee)),
        )
        for n, fee in enumerate(given["fees"], 1)
    )
    invoice = Invoice(currency_of(given), lines)
    credit = given["credit"]
    note = credit_note(invoice, [Request(str(credit["fee"]), credit["amount_minor"])])
    return {**_figures(note), "coupon_adjustment_minor": note.discount_minor}


_STATES = {"unpaid": "open", "open": "open", "paid": "paid", "voided": "void", "void": "void"}

_ON_TERMINATION: dict[str, tuple[Unpaid, Paid]] = {
    "credit": (Unpaid.CREDIT, Paid.CREDIT),
    "refund": (Unpaid.CREDIT, Paid.REFUND),
    "offset": (Unpaid.OFFSET, Paid.REFUND),
}


def _on_termination(case: Case) -> Answer:
    """Lago's: the termination day is used up except on an upgrade, earlier notes count, and each
    fee has its own share of what was paid."""
    given = case.given
    none = {"credit_note": None}
    mode = given.get("on_termination", "credit")
    if mode == "skip":
        return none
    line, whole, zone = _terminated_line(given)
    if line is None:
        return none
    invoice = Invoice(
        currency=currency_of(given),
        lines=(line, InvoiceLine("other", _other_fee(given, line))),
        paid_minor=given.get("paid_minor", 0),
    )
    earlier = []
    if prior := given.get("prior_credit_item_minor"):
        earlier.append(credit_note(invoice, [Request("fee", prior)], unpaid=Unpaid.CREDIT))
    if given.get("invoice_state") in _STATES:
        invoice = replace(invoice, state=_STATES[given["invoice_state"]])
    ends_at = _end_of_use(given, zone)
    gross = unused(line, unused_of(whole, ends_at, zone), earlier=earlier, counting=Earlier.COUNT)
    if gross == 0:
        return none
    unpaid, paid = _ON_TERMINATION[mode]
    requests = [Request("fee", gross)]
    if invoice.state == "void" and _refused(invoice, requests, earlier):
        return none
    note = credit_note(
        invoice, requests, earlier=earlier, unpaid=unpaid, paid=paid, open_of=OpenOf.LINES
    )
    return {**_figures(note), **goes(note)}


def _other_fee(given: Mapping[str, Any], line: InvoiceLine) -> int:
    """The total of the invoice's other fee: an equal one where more was paid than this one's."""
    if "invoice_total_minor" in given:
        return max(int(given["invoice_total_minor"]) - line.total_minor, 0)
    before_coupon = line.gross_minor + round_half_up(line.gross_minor * rate_of(given))
    return before_coupon if given.get("paid_minor", 0) > line.total_minor else 0


def _terminated_line(given: Mapping[str, Any]) -> tuple[InvoiceLine | None, Period, str]:
    """The fee as it was charged (none if the trial covered it), the time it was charged for, and
    the zone."""
    zone = given.get("timezone", "UTC")
    plan = given["plan"]
    interval = Interval(Unit(plan["interval"]), plan.get("interval_count", 1))
    at = _moment(given)
    if given["alignment"] == "calendar":
        anchor = align(at, zone, interval, _CALENDAR)
    else:
        anchor = align(instant(given["anchor"]), zone, _DAY, _CALENDAR)
    place = index_at(anchor, interval, at)
    whole = calendar_period(anchor, interval, place)
    full = InvoiceLine("fee", given.get("fee_minor", plan["amount_minor"]))
    gross = full.gross_minor
    if days := given.get("trial_days"):
        # Where a case leaves the start out, Lago's was a period earlier: "Trial to 17 October".
        started = given.get("started_at")
        start_at = instant(started) if started else boundary(anchor, interval, place - 1)
        trial_ends_at = boundary(align(start_at, zone, _DAY, _CALENDAR), _DAY, days)
        if trial_ends_at >= whole.end_at:
            return None, whole, zone
        gross = unused(full, unused_of(whole, trial_ends_at, zone))
        whole = Period(max(whole.start_at, trial_ends_at), whole.end_at)
    coupon = given.get("invoice_coupon_minor", 0)
    tax = round_half_up((gross - coupon) * rate_of(given))
    return InvoiceLine("fee", gross, coupon, tax), whole, zone


def _moment(given: Mapping[str, Any]) -> datetime:
    """The termination; a ``note`` may name another instant than the file's common one."""
    named = re.match(r"terminated (\S+Z)", given.get("note", ""))
    return instant(named[1] if named else given["terminated_at"])


def _end_of_use(given: Mapping[str, Any], zone: str) -> datetime:
    today = align(_moment(given), zone, _DAY, _CALENDAR)
    return boundary(today, _DAY, 0 if given.get("reason") == "upgrade" else 1)


_MODES: dict[str | None, dict[str, Any]] = {
    None: {},
    "refund": {"unpaid": Unpaid.REFUSE, "paid": Paid.REFUND},
    "credit_to_balance": {"unpaid": Unpaid.REFUSE},
    "debt_cancellation": {"paid": Paid.REFUSE},
}


def _credit_note(case: Case) -> Answer:
    given = case.given
    gross = given.get("lines_minor") or [given.get("invoice_total_minor", SOME_MINOR)]
    lines = stored(gross, _coupon(given, gross), given)
    total = sum(each.total_minor for each in lines)
    is_paid = given.get("invoice_state") == "paid"
    invoice = Invoice(
        currency_of(given),
        lines,
        _STATES.get(given.get("invoice_state", "open"), "draft"),
        paid_minor=given.get("paid_minor", total if is_paid else 0),
        credit_applied_minor=given.get("paid_from_balance_minor", 0),
    )
    asked = given.get("credit")
    requests: Sequence[Request] = rest(invoice)
    if asked:
        requests = [
            Request(str(each["line"]), each.get("amount_minor", gross[each["line"]]))
            for each in asked
        ]
    choice = _MODES[given.get("mode")]
    if _refused(invoice, requests, (), **choice):
        return {"error": "rejected"}
    note = credit_note(invoice, requests, **choice)
    given_credit = source("note", note.settlement.credit_minor, Kind.CREDIT_NOTE)
    return {
        **_shown(case, note),
        **goes(note),
        "lines": [
            _asked(wanted, _shown(case, line))
            for wanted, line in zip(case.expect.get("lines", ()), note.lines, strict=False)
        ],
        "amount_due_after_minor": open_minor(invoice, [note]),
        "on": _effective(invoice, note),
        "balance_after_minor": credits.balance([given_credit], "EUR", NOW).total_minor,
    }


def _effective(invoice: Invoice, note: CreditNote) -> str:
    """When a note takes something off what is due."""
    draft_note = replace(note, state=State.DRAFT)
    in_draft = open_minor(invoice, [draft_note]) < open_minor(invoice)
    return "its draft" if in_draft else "finalisation of the note, not its draft"


def _concurrent(case: Case) -> Answer:
    """Two at once come one after the other: the account is locked."""
    same = case.given["same_line"]
    invoice = Invoice("EUR", stored([SOME_MINOR, SOME_MINOR], [0, 0], {}))
    notes: list[CreditNote] = []
    failed = 0
    for name in ("0", "0" if same else "1"):
        if _refused(invoice, [Request(name, SOME_MINOR)], notes):
            failed += 1
        else:
            notes.append(credit_note(invoice, [Request(name, SOME_MINOR)], earlier=notes))
    return {"succeed": len(notes), "fail": failed}


OPERATIONS: dict[str, Operation] = {
    "credit_note_for_unused": _for_unused,
    "credit_notes_sequence": _sequence,
    "credit_note_partial": _partial,
    "credit_note_on_termination": _on_termination,
    "credit_note": _credit_note,
    "concurrent_credit_notes": _concurrent,
    **credits_applied.OPERATIONS,
}
