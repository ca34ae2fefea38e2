"""Cases of proration: dates become instants in UTC, sources become modes.

Lago's periods are named by their last day, and its events by the day on which they happen; here
they become the midnight after it and noon of that day. What the notes of a case alone tell (the
dates of Lago's scenarios) is read from there.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from subledger.core.calendar import (
    Alignment,
    Anchor,
    Grid,
    Period,
    align,
    boundary,
    index_at,
    parse_zone,
    period,
)
from subledger.core.errors import InvalidSequence
from subledger.core.invoicing import draft
from subledger.core.money import round_half_up
from subledger.core.proration import (
    BY_DAY,
    BY_MONTH_OF_30,
    BY_SECOND,
    ByTime,
    Denominator,
    fraction,
    local_days,
    prorate,
    share,
)
from subledger.core.timeline import Line, Timing
from tests.conformance.case import Answer, Case, Unsupported
from tests.conformance.ops import proration_changes as changes
from tests.conformance.ops.proration_engine import (
    DAY,
    at,
    cycle_of,
    flat,
    fraction_of,
    interval_of,
    known,
)
from tests.conformance.ops.proration_told import inclusive, told_dates

_NOON = timedelta(hours=12)
_LAST_DAY_CHARGED = ByTime(last_day_charged=True)
_MOST_PERIODS = 1_200
_TO_THE_SECOND = {"polar", "stripe"}


def _mode(case: Case) -> ByTime:
    """The source's convention. A case marked as a quirk runs by ours."""
    if "QUIRK" in case.notes:
        return BY_DAY
    if case.given.get("fixed_days_in_month", 30) != 30:
        raise Unsupported("months of 30 days only")
    if case.source in _TO_THE_SECOND:
        by = BY_SECOND.by
    else:
        by = (BY_MONTH_OF_30 if "fixed_days_in_month" in case.given else BY_DAY).by
    denominator = {
        "killbill": Denominator.COUNTED_BACK,
        "stripe": Denominator.IMAGINED,
    }.get(case.source, Denominator.GRID)
    return ByTime(by, denominator=denominator)


def _scaled(case: Case, mode: ByTime) -> ByTime:
    return replace(mode, scale=9 if case.source == "killbill" else None)


def _anchor(start_at: datetime, day: int) -> Anchor:
    """On the anchor day of the start's month."""
    found = min(day, monthrange(start_at.year, start_at.month)[1])
    return Anchor(start_at.replace(day=found), "UTC", day)


def _run(case: Case, target_at: datetime) -> Sequence[Line]:
    given = case.given
    plan = given.get("plan", {})
    start_at = at(given["start"])
    timing = Timing.ARREARS if plan.get("billed") == "arrears" else Timing.ADVANCE
    cycle = _anchor(start_at, given.get("anchor_day", start_at.day)), interval_of(plan)
    its = known(
        cycle,
        (start_at, (flat("plan", plan.get("amount_minor", 0), timing=timing),)),
        mode=_mode(case),
        ended_at=at(given["end"]) if given.get("end") else None,
    )
    first = index_at(*cycle, start_at)
    return draft(its, first_period=first, horizon_at=target_at, most_periods=_MOST_PERIODS).lines


def _cycles(case: Case) -> Answer:
    if "error" in case.expect:
        return _refused(case)
    return {"by_target": [_row(case, wanted) for wanted in case.expect["by_target"]]}


def _refused(case: Case) -> Answer:
    """The dates in their order: the start is before the end and before the target."""
    start_at = at(case.given["start"])
    for name in ("end", "target"):
        if told := case.given.get(name):
            used = Period(start_at, at(told))
            try:
                share(used, used, BY_DAY, "UTC")
            except InvalidSequence as refusal:
                return {"error": refusal.code}
    return {}


def _cycles_of(run: Sequence[Line]) -> Fraction:
    return sum(map(fraction_of, run), Fraction(0))


def _row(case: Case, wanted: Mapping[str, Any]) -> dict[str, Any]:
    run = _run(case, at(wanted["target"]))
    shown = {
        "target": wanted["target"],
        "cycles": _cycles_of(run),
        "items": [[*_dates(each), fraction_of(each)] for each in run],
    }
    return {key: shown[key] for key in wanted}


def _dates(line: Line) -> tuple[str, str]:
    return line.service_start_at.date().isoformat(), line.service_end_at.date().isoformat()


def _cycles_at_boundaries(case: Case) -> Answer:
    start_at = at(case.given["start"])
    anchor = _anchor(start_at, case.given["anchor_day"])
    rows = []
    for n in range(1, len(case.expect["cycles"]) + 1):
        moment = boundary(anchor, interval_of(case.given["plan"]), n)
        rows.append(
            {
                "boundary": moment.date().isoformat(),
                "day_before": _cycles_of(_run(case, moment - DAY)),
                "on": _cycles_of(_run(case, moment)),
                "day_after": _cycles_of(_run(case, moment + DAY)),
            }
        )
    return {"cycles": rows}


def _stub(case: Case, mode: ByTime) -> Line:
    """The one part from start to end, which is a boundary unless the anchor day is given. What is
    given back is billed first, and then ended where it starts."""
    start_at, end_at = at(case.given["start"]), at(case.given["end"])
    cycle = Anchor(end_at, "UTC", case.given.get("anchor_day")), interval_of(case.given["plan"])
    items = (flat("plan", case.given["plan"].get("amount_minor", 0)),)
    first = index_at(*cycle, start_at)
    its = known(cycle, (start_at, items), mode=mode, ended_at=end_at)
    billed = draft(its, first_period=first, horizon_at=start_at).lines
    if case.given.get("kind") != "credit":
        return billed[0]
    ended = known(cycle, (start_at, ()), mode=mode, ended_at=end_at)
    return draft(ended, first_period=first, horizon_at=start_at, billed=billed).lines[0]


def _factor(case: Case) -> Answer:
    mode = _mode(case)
    answer = {
        "fraction": fraction_of(_stub(case, mode)),
        "factor": fraction_of(_stub(case, _scaled(case, mode))),
    }
    if wanted := case.expect.get("decimal", ""):
        scale = len(wanted.partition(".")[2])
        answer["decimal"] = fraction_of(_stub(case, replace(mode, scale=scale)))
    return answer


def _prorated_amount(case: Case) -> Answer:
    mode = _mode(case)
    charged = Case(case.id, {**case.given, "kind": "charge"}, case.expect, case.notes)
    return {
        "amount_minor": _stub(case, _scaled(case, mode)).net_minor,
        "fraction": fraction_of(_stub(charged, mode)),
    }


def _prorated_fee(case: Case) -> Answer:
    dates = _lago_dates(case)
    if dates is None and (told := re.search(r"(\d+) of (\d+) days", case.notes)):
        start_at = datetime(2022, 1, 1, tzinfo=UTC)  # only the count of days is known
        used, of = (Period(start_at, start_at + int(each) * DAY) for each in told.groups())
    elif dates is None:
        raise Unsupported("the case does not tell its dates")
    else:
        used, of = dates
    plan = case.given["plan"]
    timing = Timing.ARREARS if plan.get("billed") == "arrears" else Timing.ADVANCE
    its = known(
        cycle_of(of),
        (used.start_at, (flat("plan", plan["amount_minor"], timing=timing),)),
        mode=_LAST_DAY_CHARGED,
        ended_at=used.end_at,
    )
    lines = draft(its, first_period=0, horizon_at=of.end_at).lines
    return {
        "amount_minor": sum(each.net_minor for each in lines),
        "fraction": _cycles_of(lines),
        "precise_minor": _decimals(
            sum((Fraction(each.derivation["exact"]) for each in lines), Fraction(0)),
            like=case.expect.get("precise_minor", ""),
        ),
    }


def _decimals(exact: Fraction, *, like: str) -> str:
    """As many decimals as the source prints."""
    places = len(like.partition(".")[2])
    return str(Decimal(round_half_up(exact * 10**places)).scaleb(-places))


def _lago_dates(case: Case) -> tuple[Period, Period] | None:
    """The time of use and the period. Who terminates does so at noon."""
    given = case.given
    if "period" in given:
        whole = inclusive(*map(date.fromisoformat, given["period"]))
    elif given.get("alignment") == "calendar" and "start" in given:
        interval = interval_of(given["plan"])
        grid = align(at(given["start"]), "UTC", interval, Alignment(Grid.CALENDAR))
        whole = period(grid, interval, 0)
    else:
        return told_dates(case.notes)
    start_at = at(given["start"]) if "start" in given else whole.start_at
    begins, ends = start_at + _trial(given["plan"]), whole.end_at
    for event in given.get("events", ()):
        if event["type"] == "terminate":
            ends = at(event["at"]) + _NOON
    return Period(begins, max(begins, ends)), whole


def _trial(plan: Mapping[str, Any]) -> timedelta:
    """Days from the start: a number, or the rest of a trial after days gone by ("… + 3")."""
    days = str(plan.get("trial_days", 0)).rpartition("+")[2]
    return timedelta(days=int(days))


def _local_days_between(case: Case) -> Answer:
    given = case.given
    zone = given["timezone"]
    start_at, end_at = (
        datetime.fromisoformat(given[each]).replace(tzinfo=parse_zone(zone)).astimezone(UTC)
        for each in ("start_local", "end_local")
    )
    return {"days": local_days(start_at, end_at, zone)}


def _prorated_amount_seconds(case: Case) -> Answer:
    """A period that ends at 23:59:59 is none of ours: its share and its rounding alone."""
    given = case.given
    whole = Period(at(given["period"]["start"]), at(given["period"]["end"]))
    part = Period(at(given["start"]), at(given["end"]) if "end" in given else whole.end_at)
    found = fraction(part, whole, BY_SECOND, "UTC")
    return {
        "amount_minor": prorate(given["plan"]["amount_minor"], found).amount_minor,
        "fraction": found,
    }


def _first_period_factor(case: Case) -> Answer:
    first = _run(case, at(case.given["start"]))[0]
    start, end = _dates(first)
    return {
        "period": {"start": start, "end": end},
        "fraction": fraction_of(first) if "proration" in first.derivation else None,
    }


def _factor_after_last_anchor(case: Case) -> Answer:
    """The part from an anchor on, measured against the period that begins there."""
    last = at(case.given["last_anchor"])
    whole = period(Anchor(last, "UTC"), interval_of(case.given["plan"]), 0)
    part = Period(last, at(case.given["end"]))
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
    "plan_change_lines": changes.plan_change_lines,
    "product_change": changes.product_change,
    "product_changes": changes.product_changes,
    "quantity_change": changes.quantity_change,
    "seat_change": changes.seat_change,
    "next_invoice_after_change": changes.next_invoice_after_change,
    "credit_cap": changes.credit_cap,
    "local_days_between": _local_days_between,
    "rule": _rule,
}
