"""Cases of a change within a period: another plan, other seats, other discounts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

from subledger.core.amounts import Amounts
from subledger.core.calendar import Anchor, Interval, Period
from subledger.core.invoicing import draft
from subledger.core.timeline import Item, Line, Timing
from tests.conformance.case import Answer, Case
from tests.conformance.ops.proration_engine import (
    CREDIT_BY_DAY,
    CREDIT_BY_SECOND,
    DAY,
    Items,
    at,
    by_kind,
    change,
    cycle_of,
    flat,
    interval_of,
    known,
    net_minor,
    off_of,
    seats,
)
from tests.conformance.ops.proration_told import inclusive

_SOME_YEAR = 2025


def _change_time(given: Mapping[str, Any]) -> tuple[Period, datetime]:
    """The period and the moment of the change; "n/d of it remain" is n days of d."""
    if "remaining_fraction" in given:
        remain, of = map(int, given["remaining_fraction"].split("/"))
        start_at = datetime(2025, 1, 1, tzinfo=UTC)
        return Period(start_at, start_at + of * DAY), start_at + (of - remain) * DAY
    told = given["period"]
    if "first_day" in told:
        whole = inclusive(
            date.fromisoformat(told["first_day"]), date.fromisoformat(told["last_day"])
        )
    else:
        whole = Period(at(told["start"]), at(told["end"]))
    return whole, at(given["change_date"] if "change_date" in given else given["at"])


def plan_change_lines(case: Case) -> Answer:
    """Negative amounts are what was billed, the others what is billed from the change on."""
    whole, when = _change_time(case.given)
    told = list(enumerate(case.given["lines"]))
    others = [each for each in told if "interval" in each[1]]
    here = [each for each in told if "interval" not in each[1]]
    old = tuple(_item(n, line) for n, line in here if line["full_amount_minor"] < 0)
    new = tuple(_item(n, line) for n, line in here if line["full_amount_minor"] >= 0)
    lines = change(whole, when, old, new, mode=CREDIT_BY_DAY)
    for n, line in others:
        lines += _of_another_interval(_item(n, line), interval_of(line), whole, when)
    lines = [each for each in lines if each.gross_minor]
    net = net_minor(lines)
    return {
        "line_amounts_minor": [
            each.net_minor for each in sorted(lines, key=lambda line: int(line.price_id))
        ],
        "net_minor": net,
        "invoice_total_minor": net,
        "amount_due_minor": max(net, 0),
        "credited_to_balance_minor": max(-net, 0),
    }


def _item(place: int, line: Mapping[str, Any]) -> Item:
    timing = Timing.ONCE if line.get("type") == "one_time" else Timing.ADVANCE
    return flat(str(place), abs(line["full_amount_minor"]), timing=timing)


def _of_another_interval(
    item: Item, interval: Interval, whole: Period, when: datetime
) -> Sequence[Line]:
    """Measured against its own interval, charged to the end of the period."""
    cycle = Anchor(whole.start_at, "UTC"), interval
    its = known(cycle, (when, (item,)), mode=CREDIT_BY_DAY, ended_at=whole.end_at)
    return draft(its, first_period=0, horizon_at=when).lines


def _entry(lines: Sequence[Line]) -> dict[str, Any]:
    found = by_kind(lines)
    credit = found.get("credit")
    return {
        "credit_minor": None if credit is None else -credit,
        "debit_minor": found.get("charge"),
    }


def product_change(case: Case) -> Answer:
    given = case.given
    whole, when = _change_time(given)
    old, new = (flat("old", given["old_minor"]),), (flat("new", given["new_minor"]),)
    off = off_of(given.get("old_discount")), off_of(given.get("new_discount"))
    if not given.get("reset"):
        return _entry(change(whole, when, old, new, mode=CREDIT_BY_SECOND, off=off))
    ended = change(whole, when, old, (), mode=CREDIT_BY_SECOND, off=(off[0], off[0]))
    cycle = cycle_of(Period(when, when + DAY))  # a new period, in full
    begun = known(cycle, (when, new), mode=CREDIT_BY_SECOND, off=off[1])
    return _entry([*ended, *draft(begun, first_period=0, horizon_at=when).lines])


def product_changes(case: Case) -> Answer:
    told = case.given["period"]
    whole = Period(at(told["start"]), at(told["end"]))
    phases: list[tuple[datetime, Items]] = [
        (whole.start_at, (flat("0", case.given["start_price_minor"]),))
    ]
    billed: list[Line] = []
    entries: list[Sequence[Line]] = []
    for n, each in enumerate([{"at": told["start"]}, *case.given["changes"]]):
        if n:
            phases.append((at(each["at"]), (flat(str(n), each["new_minor"]),)))
        its = known(cycle_of(whole), *phases, mode=CREDIT_BY_SECOND)
        found = draft(its, first_period=0, horizon_at=at(each["at"]), billed=billed).lines
        entries.append(found)
        billed += found
    changes = entries[1:]
    return {
        "entries": [_entry(each) for each in changes],
        "net_minor": net_minor(line for each in changes for line in each),
    }


def quantity_change(case: Case) -> Answer:
    given = case.given
    whole, when = _change_time(given)
    old, new = (
        (seats("seats", given["unit_minor"], given[each]),)
        for each in ("old_quantity", "new_quantity")
    )
    now = given.get("discount_now")
    paid_with = None if now and now.get("applied_after_payment") else now
    lines = change(
        whole, when, old, new, mode=CREDIT_BY_SECOND, off=(off_of(paid_with), off_of(now))
    )
    found = by_kind(lines)
    return {
        "credit_minor": found.get("credit", 0),
        "debit_minor": found.get("charge", 0),
        "net_minor": net_minor(lines),
    }


def seat_change(case: Case) -> Answer:
    """Only the seats that come or go are charged or given back."""
    given = case.given
    whole, when = _change_time(given)
    price, before, after = given["seat_price_minor"], given["old_seats"], given["new_seats"]
    kept = seats("kept", price, min(before, after))
    moved = (seats("moved", price, abs(after - before)),)
    old, new = ((), moved) if after > before else (moved, ())
    lines = change(whole, when, (kept, *old), (kept, *new), mode=CREDIT_BY_SECOND)
    following = given.get("pending_product_change", given)["seat_price_minor"]
    pending = known(
        cycle_of(whole),
        (whole.start_at, (kept,)),
        (whole.end_at, (seats("kept", following, after),)),
        mode=CREDIT_BY_SECOND,
    )
    return {
        "amount_minor": net_minor(lines),
        "next_cycle_minor": draft(pending, first_period=1, horizon_at=whole.end_at).total_minor,
    }


def next_invoice_after_change(case: Case) -> Answer:
    """Days are told without a year; "(half)" says that half of the period is left, whatever days
    it has."""
    given = case.given
    if "(half)" in given["change"]:
        whole, when = _change_time({"remaining_fraction": "15/30"})
    else:
        paid, when, following = (
            at(f"{_SOME_YEAR}-{given[each]}") for each in ("paid_on", "change", "next")
        )
        whole = Period(paid, following)
    lines = change(
        whole,
        when,
        (flat("old", given["old_minor"]),),
        (flat("new", given["new_minor"]),),
        mode=CREDIT_BY_SECOND,
        periods=2,
    )
    return {"next_invoice_minor": net_minor(lines)}


def credit_cap(case: Case) -> Answer:
    """As many units as minor units were paid, of which as many are given up; what was credited
    before stands on a credit note."""
    given = case.given
    paid, wanted = given["originally_paid_minor"], given["potential_credit_minor"]
    credited = given["already_credited_minor"]
    whole, _ = _change_time({"remaining_fraction": "1/30"})

    def units(quantity: int, billed: Sequence[Line]) -> Sequence[Line]:
        its = known(
            cycle_of(whole), (whole.start_at, (seats("unit", 1, quantity),)), mode=CREDIT_BY_DAY
        )
        return draft(its, first_period=0, horizon_at=whole.start_at, billed=billed).lines

    noted = Amounts(gross_minor=credited, net_minor=credited)
    first = [replace(each, noted=noted) for each in units(paid, ())]
    return {"credit_minor": -net_minor(units(max(paid - wanted, 0), first))}
