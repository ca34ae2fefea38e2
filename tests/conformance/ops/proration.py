"""Cases of proration: dates become instants in UTC, sources become modes.

Lago's periods are named by their last day, and its events by the day on which they happen; here
they become the midnight after it and noon of that day. What the notes of a case alone tell (the
dates of Lago's scenarios) is read from there.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from subledger.core import discounts
from subledger.core.calendar import (
    Alignment,
    Anchor,
    Grid,
    Interval,
    Period,
    Unit,
    align,
    boundary,
    parse_zone,
    period,
)
from subledger.core.discounts import Discount, Duration, Kind
from subledger.core.errors import InvalidSequence
from subledger.core.money import round_half_up
from subledger.core.pricing import PerUnit, price
from subledger.core.proration import (
    BY_DAY,
    BY_MONTH_OF_30,
    BY_SECOND,
    ByTime,
    Denominator,
    Mode,
    Part,
    PartKind,
    charged_until,
    cycles,
    fraction,
    local_days,
    overlap,
    parts,
    prorate,
)
from subledger.core.proration_changes import (
    Billed,
    Change,
    Target,
    cap_credit,
    change_lines,
)
from tests.conformance.case import Answer, Case, Unsupported
from tests.conformance.ops.proration_told import inclusive, told_dates

_DAY = timedelta(days=1)
_NOON = timedelta(hours=12)
_UNITS = {"thirty_days": (Unit.DAY, 30)}
_LAST_DAY_CHARGED = ByTime(last_day_charged=True)


def _at(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _interval(plan: Mapping[str, Any]) -> Interval:
    name = plan.get("interval", "month")
    try:
        unit, count = _UNITS[name] if name in _UNITS else (Unit(name), 1)
    except ValueError:
        raise Unsupported(f"no interval {name}") from None
    return Interval(unit, count * plan.get("interval_count", 1))


def _mode(case: Case) -> ByTime:
    """The source's convention. A case marked as a quirk runs by ours."""
    if "QUIRK" in case.notes:
        return BY_DAY
    if case.given.get("fixed_days_in_month", 30) != 30:
        raise Unsupported("months of 30 days only")
    by = (BY_MONTH_OF_30 if "fixed_days_in_month" in case.given else BY_DAY).by
    denominator = {
        "killbill": Denominator.COUNTED_BACK,
        "stripe": Denominator.IMAGINED,
    }.get(case.source, Denominator.GRID)
    return ByTime(by, denominator=denominator)


def _scaled(case: Case, mode: ByTime) -> ByTime:
    scale = 9 if case.source == "killbill" else None
    return ByTime(mode.by, denominator=mode.denominator, scale=scale)


def _anchor(start_at: datetime, day: int) -> Anchor:
    """On the anchor day of the start's month."""
    found = min(day, monthrange(start_at.year, start_at.month)[1])
    return Anchor(start_at.replace(day=found), "UTC", day)


def _run(case: Case, target_at: datetime) -> tuple[Part, ...]:
    given = case.given
    plan = given.get("plan", {})
    start_at = _at(given["start"])
    return parts(
        start_at,
        _at(given["end"]) if given.get("end") else None,
        anchor=_anchor(start_at, given.get("anchor_day", start_at.day)),
        interval=_interval(plan),
        horizon_at=target_at,
        mode=_mode(case),
        in_arrears=plan.get("billed") == "arrears",
    )


def _cycles(case: Case) -> Answer:
    if "error" in case.expect:
        try:
            _run(case, _at(case.given.get("target", case.given["start"])))
        except InvalidSequence as refusal:
            return {"error": refusal.code}
        return {}
    return {"by_target": [_row(case, wanted) for wanted in case.expect["by_target"]]}


def _row(case: Case, wanted: Mapping[str, Any]) -> dict[str, Any]:
    run = _run(case, _at(wanted["target"]))
    shown = {
        "target": wanted["target"],
        "cycles": cycles(run),
        "items": [[*_dates(each.period), each.fraction] for each in run],
    }
    return {key: shown[key] for key in wanted}


def _dates(covered: Period) -> tuple[str, str]:
    return covered.start_at.date().isoformat(), covered.end_at.date().isoformat()


def _cycles_at_boundaries(case: Case) -> Answer:
    start_at = _at(case.given["start"])
    anchor = _anchor(start_at, case.given["anchor_day"])
    rows = []
    for n in range(1, len(case.expect["cycles"]) + 1):
        at = boundary(anchor, _interval(case.given["plan"]), n)
        rows.append(
            {
                "boundary": at.date().isoformat(),
                "day_before": cycles(_run(case, at - _DAY)),
                "on": cycles(_run(case, at)),
                "day_after": cycles(_run(case, at + _DAY)),
            }
        )
    return {"cycles": rows}


def _stub(case: Case, mode: Mode) -> Part:
    """The one part from start to end, which is a boundary unless the anchor day is given."""
    start_at, end_at = _at(case.given["start"]), _at(case.given["end"])
    anchor = Anchor(end_at, "UTC", case.given.get("anchor_day"))
    found = parts(
        start_at,
        end_at,
        anchor=anchor,
        interval=_interval(case.given["plan"]),
        horizon_at=start_at,
        mode=mode,
    )
    return found[0]


def _factor(case: Case) -> Answer:
    mode = _mode(case)
    exact = _stub(case, mode).fraction
    wanted = case.expect.get("decimal", "")
    answer = {"fraction": exact, "factor": _stub(case, _scaled(case, mode)).fraction}
    if wanted:
        scale = len(wanted.partition(".")[2])
        answer["decimal"] = _stub(
            case, ByTime(mode.by, denominator=mode.denominator, scale=scale)
        ).fraction
    return answer


def _prorated_amount(case: Case) -> Answer:
    mode = _mode(case)
    amount = case.given["plan"]["amount_minor"]
    signed = -amount if case.given.get("kind") == "credit" else amount
    scaled = _stub(case, _scaled(case, mode)).fraction
    return {
        "amount_minor": prorate(signed, scaled).amount_minor,
        "fraction": _stub(case, mode).fraction,
    }


def _prorated_fee(case: Case) -> Answer:
    plan = case.given["plan"]
    known = _lago_dates(case)
    if known is None and (told := re.search(r"(\d+) of (\d+) days", case.notes)):
        share = Fraction(int(told[1]), int(told[2]))  # only the count of days is known
    elif known is None:
        raise Unsupported("the case does not tell its dates")
    else:
        share = fraction(*known, _LAST_DAY_CHARGED, "UTC")
    fee = prorate(plan["amount_minor"], share)
    return {
        "amount_minor": fee.amount_minor,
        "fraction": share,
        "precise_minor": _decimals(fee.exact, like=case.expect.get("precise_minor", "")),
    }


def _decimals(exact: Fraction, *, like: str) -> str:
    """As many decimals as the source prints."""
    places = len(like.partition(".")[2])
    return str(Decimal(round_half_up(exact * 10**places)).scaleb(-places))


def _lago_dates(case: Case) -> tuple[Period, Period] | None:
    given = case.given
    if "period" in given:
        whole = inclusive(*map(date.fromisoformat, given["period"]))
    elif given.get("alignment") == "calendar" and "start" in given:
        interval = _interval(given["plan"])
        grid = align(_at(given["start"]), "UTC", interval, Alignment(Grid.CALENDAR))
        whole = period(grid, interval, 0)
    else:
        return told_dates(case.notes)
    start_at = _at(given["start"]) if "start" in given else whole.start_at
    used = Period(start_at + _trial(given["plan"]), whole.end_at)
    for event in given.get("events", ()):
        if event["type"] == "terminate":
            until = charged_until(_at(event["at"]) + _NOON, whole, _LAST_DAY_CHARGED, "UTC")
            used = Period(used.start_at, until)
    return overlap(used, whole), whole


def _trial(plan: Mapping[str, Any]) -> timedelta:
    """Days from the start: a number, or the rest of a trial after days gone by ("… + 3")."""
    days = str(plan.get("trial_days", 0)).rpartition("+")[2]
    return timedelta(days=int(days))


def _change_time(given: Mapping[str, Any]) -> tuple[Period, datetime]:
    """The period and the moment of the change; "n/d of it remain" is n days of d."""
    if "remaining_fraction" in given:
        remain, of = map(int, given["remaining_fraction"].split("/"))
        start_at = datetime(2025, 1, 1, tzinfo=UTC)
        return Period(start_at, start_at + of * _DAY), start_at + (of - remain) * _DAY
    told = given["period"]
    if "first_day" in told:
        whole = inclusive(
            date.fromisoformat(told["first_day"]), date.fromisoformat(told["last_day"])
        )
    else:
        whole = Period(_at(told["start"]), _at(told["end"]))
    return whole, _at(given["change_date"] if "change_date" in given else given["at"])


def _plan_change_lines(case: Case) -> Answer:
    whole, at = _change_time(case.given)
    billed, new = [], []
    for place, line in enumerate(case.given["lines"]):
        amount = line["full_amount_minor"]
        measured = _measured(line, whole, at)
        if amount < 0:
            billed.append(Billed(str(place), measured, -amount))
        else:
            new.append(Target(str(place), measured, amount, end_at=whole.end_at))
    change = change_lines(at, billed, new, timezone="UTC")
    return {
        "line_amounts_minor": [
            each.net_minor for each in sorted(change.lines, key=lambda line: int(line.price_id))
        ],
        "net_minor": change.net_minor,
        "invoice_total_minor": change.net_minor,
        "amount_due_minor": change.due_minor,
        "credited_to_balance_minor": change.to_balance_minor,
    }


def _measured(line: Mapping[str, Any], whole: Period, at: datetime) -> Period:
    """What a line's full amount is for."""
    if line.get("type") == "one_time":
        return Period(at, whole.end_at)
    if "interval" in line:
        return period(Anchor(whole.start_at, "UTC"), _interval(line), 0)
    return whole


def _product_change(case: Case) -> Answer:
    given = case.given
    whole, at = _change_time(given)
    charged = Period(at, at + _DAY) if given.get("reset") else whole  # a new period, in full
    old, new = given["old_minor"], given["new_minor"]
    change = change_lines(
        at,
        (Billed("old", whole, old, _taken(given.get("old_discount"), old)),),
        (Target("new", charged, new, _taken(given.get("new_discount"), new)),),
        mode=BY_SECOND,
        timezone="UTC",
    )
    return _entry(change)


def _entry(change: Change) -> dict[str, Any]:
    by_kind = {each.kind: each.net_minor for each in change.lines}
    credit = by_kind.get("credit")
    return {
        "credit_minor": None if credit is None else -credit,
        "debit_minor": by_kind.get("charge"),
    }


def _product_changes(case: Case) -> Answer:
    told = case.given["period"]
    whole = Period(_at(told["start"]), _at(told["end"]))
    standing: Sequence[Billed] = (Billed("0", whole, case.given["start_price_minor"]),)
    entries, lines = [], []
    for each in case.given["changes"]:
        change = change_lines(
            _at(each["at"]),
            [billed for billed in standing if billed.period.end_at == whole.end_at],
            (Target("new", whole, each["new_minor"]),),
            mode=BY_SECOND,
            timezone="UTC",
        )
        standing = change.standing
        entries.append(_entry(change))
        lines += change.lines
    return {"entries": entries, "net_minor": Change(tuple(lines), ()).net_minor}


def _taken(told: Mapping[str, Any] | None, amount_minor: int) -> int:
    """What a discount takes off a whole period's price."""
    if told is None:
        return 0
    percent = told["type"] == "percent"
    discount = Discount(
        id="told",
        kind=Kind.PERCENT if percent else Kind.FIXED,
        percent=Decimal(told["value"]) if percent else None,
        amount_minor=None if percent else told["value"],
        currency="USD",
        duration=Duration.FOREVER,
        periods=None,
    )
    return discounts.apply([discount], [amount_minor], currency="USD").by_line_minor[0]


def _quantity_change(case: Case) -> Answer:
    given = case.given
    whole, at = _change_time(given)
    old, new = (
        _units(given["unit_minor"], given[each]) for each in ("old_quantity", "new_quantity")
    )
    now = given.get("discount_now")
    paid_with = None if now and now.get("applied_after_payment") else now
    change = change_lines(
        at,
        (Billed("seats", whole, old, _taken(paid_with, old)),),
        (Target("seats", whole, new, _taken(now, new)),),
        mode=BY_SECOND,
        timezone="UTC",
    )
    by_kind = {each.kind: each.net_minor for each in change.lines}
    return {
        "credit_minor": by_kind["credit"],
        "debit_minor": by_kind["charge"],
        "net_minor": change.net_minor,
    }


def _units(unit_minor: int, quantity: int) -> int:
    return round_half_up(price(PerUnit(Decimal(unit_minor)), Decimal(quantity)).amount)


def _seat_change(case: Case) -> Answer:
    """Only the seats that come or go are charged or given back."""
    given = case.given
    whole, at = _change_time(given)
    more = given["new_seats"] - given["old_seats"]
    amount = _units(given["seat_price_minor"], abs(more))
    change = change_lines(
        at,
        (Billed("seats", whole, amount),) if more < 0 else (),
        (Target("seats", whole, amount),) if more > 0 else (),
        mode=BY_SECOND,
        timezone="UTC",
    )
    following = given.get("pending_product_change", given)["seat_price_minor"]
    return {
        "amount_minor": change.net_minor,
        "next_cycle_minor": _units(following, given["new_seats"]),
    }


def _next_invoice_after_change(case: Case) -> Answer:
    if "(half)" not in case.given["change"]:
        raise Unsupported("which part of the period remains is not told")
    whole, at = _change_time({"remaining_fraction": "1/2"})
    following = Period(whole.end_at, whole.end_at + _DAY)
    change = change_lines(
        at,
        (Billed("old", whole, case.given["old_minor"]),),
        (
            Target("new", whole, case.given["new_minor"]),
            Target("new", following, case.given["new_minor"]),
        ),
        mode=BY_SECOND,
        timezone="UTC",
    )
    return {"next_invoice_minor": change.net_minor}


def _credit_cap(case: Case) -> Answer:
    given = case.given
    return {
        "credit_minor": cap_credit(
            given["potential_credit_minor"],
            paid_minor=given["originally_paid_minor"],
            credited_minor=given["already_credited_minor"],
        )
    }


def _local_days_between(case: Case) -> Answer:
    given = case.given
    zone = given["timezone"]
    start_at, end_at = (
        datetime.fromisoformat(given[each]).replace(tzinfo=parse_zone(zone)).astimezone(UTC)
        for each in ("start_local", "end_local")
    )
    return {"days": local_days(start_at, end_at, zone)}


def _prorated_amount_seconds(case: Case) -> Answer:
    given = case.given
    whole = Period(_at(given["period"]["start"]), _at(given["period"]["end"]))
    part = Period(_at(given["start"]), _at(given["end"]) if "end" in given else whole.end_at)
    share = fraction(part, whole, BY_SECOND, "UTC")
    return {
        "amount_minor": prorate(given["plan"]["amount_minor"], share).amount_minor,
        "fraction": share,
    }


def _first_period_factor(case: Case) -> Answer:
    first = _run(case, _at(case.given["start"]))[0]
    start, end = _dates(first.period)
    return {
        "period": {"start": start, "end": end},
        "fraction": None if first.kind is PartKind.WHOLE else first.fraction,
    }


def _factor_after_last_anchor(case: Case) -> Answer:
    """The part from an anchor on, measured against the period that begins there."""
    last = _at(case.given["last_anchor"])
    whole = period(Anchor(last, "UTC"), _interval(case.given["plan"]), 0)
    part = Period(last, _at(case.given["end"]))
    return {"factor": fraction(part, whole, ByTime(scale=9), "UTC")}


def _rule(case: Case) -> Answer:
    raise Unsupported("a rule without figures")


OPERATIONS = {
    "cycles": _cycles,
    "cycles_at_boundaries": _cycles_at_boundaries,
    "factor": _factor,
    "factor_after_last_anchor": _factor_after_last_anchor,
    "first_period_factor": _first_period_factor,
    "prorated_amount": _prorated_amount,
    "prorated_amount_seconds": _prorated_amount_seconds,
    "prorated_fee": _prorated_fee,
    "plan_change_lines": _plan_change_lines,
    "product_change": _product_change,
    "product_changes": _product_changes,
    "quantity_change": _quantity_change,
    "seat_change": _seat_change,
    "next_invoice_after_change": _next_invoice_after_change,
    "credit_cap": _credit_cap,
    "local_days_between": _local_days_between,
    "rule": _rule,
}
