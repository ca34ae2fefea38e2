"""Cases of the calendar, translated.

Dates stand for local midnights, ``end_inclusive`` is the day before a half-open end. Kill Bill and
Meteroid count an anchor day from the start's own month, flexprice a calendar of several units from
the unit that contains the start; an anchor of flexprice gives the day and hour, the running
period's start the phase.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from subledger.core.calendar import (
    Alignment,
    Anchor,
    Grid,
    Interval,
    Origin,
    Period,
    Unit,
    align,
    anchor_on,
    boundary,
    index_at,
    parse_zone,
    period,
)
from subledger.core.cycles import (
    Billed,
    Cycle,
    Stretch,
    Trial,
    billed_through,
    boundary_from,
    change_zone,
    cycle,
    due_periods,
    elapsed_cycles,
    first_period,
    next_boundary,
    period_containing,
    period_to_bill,
    periods,
    stretch,
    trial_end,
    whole_periods_between,
)
from subledger.core.errors import CoreError
from subledger.core.local_days import (
    add_local_days,
    day_in_month,
    day_of_month,
    local_date,
    local_day_start,
    local_days_between,
    local_hour_start,
    local_midnight,
    next_day_of_month,
)
from tests.conformance.case import Answer, Case, Operation

Given = Mapping[str, Any]
_DAY = timedelta(days=1)
_REFUSALS = {("invalid_interval", "/count"): "interval_count must be a positive integer"}


# Reading ------------------------------------------------------------------------------------------


def _zone(given: Given) -> str:
    """The zone's name; a fixed offset of whole hours has one whose sign is turned round."""
    name = str(given.get("timezone", "UTC"))
    if name[0] in "+-" and name.endswith(":00"):
        return f"Etc/GMT{'-' if name[0] == '+' else '+'}{int(name[1:3])}"
    return name


def _at(text: str, timezone: str) -> datetime:
    """An instant, a local time, or a date's local midnight."""
    if len(text) == 10:
        return local_midnight(date.fromisoformat(text), timezone)
    found = datetime.fromisoformat(text)
    return found if found.tzinfo is not None else anchor_on(found, timezone).at


def _interval(plan: Given) -> Interval:
    count = plan.get("interval_count", 1)
    if plan["interval"] == "thirty_days":
        return Interval(Unit.DAY, 30 * count)
    return Interval(Unit(plan["interval"]), count)


def _billed(given: Given) -> Billed:
    return Billed(given["plan"].get("billed", "advance"))


def _alignment(given: Given, interval: Interval) -> Alignment:
    if given.get("alignment") == "calendar":
        return Alignment(Grid.CALENDAR, origin=Origin.OWN_UNIT)
    if "anchor_day" in given and interval.unit.months:
        return Alignment(Grid.DAY, given["anchor_day"], origin=Origin.OWN_UNIT)
    return Alignment()


def _start(given: Given) -> datetime:
    """When the cycle starts, under whichever name."""
    zone = _zone(given)
    for key in ("start", "start_utc", "instant", "started_at", "start_local", "start_date"):
        if key in given:
            return _at(given[key], zone)
    return _at(given["anchor"], zone)


def _cycle(given: Given, start_at: datetime | None = None) -> Cycle:
    """On the grid of ``anchor`` if one is given besides the start, else aligned as said."""
    zone, interval = _zone(given), _interval(given["plan"])
    start_at = _start(given) if start_at is None else start_at
    end = given.get("end") or given.get("end_utc") or given.get("subscription_end")
    end_at = _at(end, zone) if end else None
    alignment = _alignment(given, interval)
    if alignment.grid is Grid.ANNIVERSARY and "anchor" in given:
        return Cycle(start_at, Anchor(_at(given["anchor"], zone), zone), interval, end_at)
    return cycle(start_at, zone, interval, alignment, end_at)


def _day_cycle(given: Given) -> Cycle:
    """Lago's: whole local days, whatever the hour of the start."""
    zone, interval = _zone(given), _interval(given["plan"])
    alignment = _alignment(given, interval)
    if alignment.grid is Grid.ANNIVERSARY:
        alignment = Alignment(Grid.START_DAY)
    hung_at = _at(given.get("anchor") or given["start"], zone)
    return Cycle(_start(given), align(hung_at, zone, interval, alignment), interval)


# Writing ------------------------------------------------------------------------------------------


def _utc(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _local(at: datetime, timezone: str) -> str:
    return at.astimezone(parse_zone(timezone)).strftime("%Y-%m-%dT%H:%M:%S")


def _date(at: datetime, given: Given) -> str:
    return local_date(at, _zone(given)).isoformat()


def _inclusive(end_at: datetime, given: Given) -> str:
    """The last day of what ends on a local midnight."""
    return (local_date(end_at, _zone(given)) - _DAY).isoformat()


def _pair(each: Period, given: Given) -> list[str]:
    return [_date(each.start_at, given), _date(each.end_at, given)]


def _inclusive_pair(each: Period, given: Given) -> list[str]:
    return [_date(each.start_at, given), _inclusive(each.end_at, given)]


def _named(found: Stretch, given: Given, *, instants: bool) -> dict[str, str]:
    served = found.served
    if instants:
        return {"start": _utc(served.start_at), "end": _utc(served.end_at)}
    return {"start": _date(served.start_at, given), "end": _date(served.end_at, given)}


# Periods ------------------------------------------------------------------------------------------


def _billed_period(case: Case) -> Answer:
    given = case.given
    billed = given["plan"].get("billed", "advance")
    # A bill of the period that runs (a termination, current usage) is a bill in advance of it.
    kind = Billed.ARREARS if billed == "arrears" else Billed.ADVANCE
    at = _at(given["billing_run_at"], _zone(given))
    found = period_to_bill(_day_cycle(given), at, kind).grid
    return {
        "period_start": _date(found.start_at, given),
        "period_start_utc": _utc(found.start_at),
        "period_end_inclusive": _inclusive(found.end_at, given),
        "period_end_exclusive_utc": _utc(found.end_at),
    }


def _days_in_billed_period(case: Case) -> Answer:
    given = case.given
    at = _at(given["billing_run_at"], _zone(given))
    return {"days": period_to_bill(_day_cycle(given), at, _billed(given)).grid_days}


def _period_containing(case: Case) -> Answer:
    given, of = case.given, _cycle(case.given)
    at = _at(given["at"], _zone(given)) if "at" in given else of.start_at
    instants = any("T" in str(given.get(key, "")) for key in ("anchor", "start"))
    if "start" in given:
        found = period_containing(of, at)
    else:  # a grid without a start reaches back before its anchor
        found = stretch(of.anchor, of.interval, index_at(of.anchor, of.interval, at))
    return {"period": _named(found, given, instants=instants)}


def _first_period(case: Case) -> Answer:
    return {"period": _named(first_period(_cycle(case.given)), case.given, instants=False)}


def _periods_to_target(case: Case) -> Answer:
    given = case.given
    found = due_periods(_cycle(given), _at(given["target"], _zone(given)), _billed(given))
    return {"periods": [_pair(each, given) for each in found]}


def _billed_through(case: Case) -> Answer:
    given, of = case.given, _cycle(case.given)
    at = _at(given["target"], _zone(given))
    reached = billed_through(of, at, _billed(given))
    following = next_boundary(of.anchor, of.interval, at)
    return {
        "billed_through": None if reached is None else _date(reached, given),
        "next_billing_date": _date(following, given),
    }


def _elapsed_cycles(case: Case) -> Answer:
    given = case.given
    return {"count": elapsed_cycles(_cycle(given), _at(given["target"], _zone(given)))}


def _whole_periods_between(case: Case) -> Answer:
    given, zone = case.given, _zone(case.given)
    start_at, end_at = _at(given["start"], zone), _at(given["end"], zone)
    return {"count": whole_periods_between(start_at, end_at, zone, _interval(given["plan"]))}


def _advance_n_periods(case: Case) -> Answer:
    of = _cycle(case.given)
    return {"date": _date(boundary(of.anchor, of.interval, case.given["n"]), case.given)}


# The next boundary --------------------------------------------------------------------------------


def _next_boundary(case: Case) -> Answer:
    given, zone = case.given, _zone(case.given)
    try:
        interval = _interval(given["plan"])
        here = given.get("current_period_start_local") or given["current_period_start"]
        start_at = _at(here, zone)
        hung = given.get("anchor_local") or given.get("anchor")
        alignment = _alignment(given, interval)
        if alignment.grid is Grid.CALENDAR or hung is None:
            of = cycle(start_at, zone, interval, alignment)
        else:
            of = _hung(given, start_at, interval, datetime.fromisoformat(hung))
        end = given.get("subscription_end")
        of = Cycle(of.start_at, of.anchor, interval, _at(end, zone) if end else None)
        found = first_period(of).served.end_at
    except CoreError as refusal:
        text = _REFUSALS.get((refusal.code, refusal.pointer))
        if text is None or "error" not in case.expect:
            raise
        return {"error": text}
    local = _local(found, zone)
    return {
        "next_boundary": local[:10],
        "next_boundary_local": local,
        "next_boundary_utc": _utc(found),
    }


def _hung(given: Given, start_at: datetime, interval: Interval, anchor: datetime) -> Cycle:
    """flexprice: the anchor's day and hour, counted from the running period's own unit."""
    months = interval.unit.months
    alignment = Alignment(
        Grid.DAY,
        day=anchor.day if months else anchor.isoweekday(),
        month=anchor.month if interval.unit is Unit.YEAR else None,
        time_of_day=anchor.time(),
    )
    return cycle(start_at, _zone(given), interval, alignment)


def _align_to_grid(case: Case) -> Answer:
    given, zone = case.given, _zone(case.given)
    anchor = Anchor(_at(given["original_start"], zone), zone)
    found = boundary_from(anchor, _interval(given["plan"]), _at(given["proposed"], zone))
    return {"date": _date(found, given)}


def _first_anchor_date(case: Case) -> Answer:
    of = _cycle(case.given)
    found = boundary_from(of.anchor, of.interval, of.start_at)
    return {"first_anchor_date": _date(found, case.given)}


# Anchor days and local days -----------------------------------------------------------------------


def _align_to_anchor_day(case: Case) -> Answer:
    proposed, day = date.fromisoformat(case.given["proposed"]), case.given["anchor_day"]
    same_month = day_in_month(proposed, day).isoformat()
    return {
        "date": same_month,
        "date_same_month": same_month,
        "next_date": next_day_of_month(proposed, day).isoformat(),
    }


def _new_anchor_day(case: Case) -> Answer:
    today = date.fromisoformat(case.given["today"])
    return {"effective": next_day_of_month(today, case.given["new_anchor_day"]).isoformat()}


def _anchor_day_from_instant(case: Case) -> Answer:
    at = _at(case.given["instant"], "UTC")
    return {"anchor_day": day_of_month(at, _zone(case.given))}


def _local_start_date(case: Case) -> Answer:
    return {"local_date": _date(_at(case.given["instant"], "UTC"), case.given)}


def _floor(function: Any) -> Operation:
    def answer(case: Case) -> Answer:
        return {"utc": _utc(function(_at(case.given["instant"], "UTC"), _zone(case.given)))}

    return answer


_CALENDAR_UNITS = [each for each in Unit if each is not Unit.DAY]


def _start_of(unit: Unit) -> Any:
    """Where a cycle aligned to the calendar has its boundary."""
    return lambda at, zone: align(at, zone, Interval(unit), Alignment(Grid.CALENDAR)).at


def _advance_local_days(case: Case) -> Answer:
    given = case.given
    found = add_local_days(_at(given["start_utc"], "UTC"), given["days"], _zone(given))
    return {"end_utc": _utc(found)}


def _local_days_between(case: Case) -> Answer:
    given, zone = case.given, _zone(case.given)
    start, end = (given.get(f"{key}_utc") or given[key] for key in ("start", "end"))
    return {"days": local_days_between(_at(start, zone), _at(end, zone), zone)}


def _trial_end_then_period(case: Case) -> Answer:
    given, zone = case.given, _zone(case.given)
    ends_at = trial_end(_start(given), zone, Trial(given["trial_days"]))
    paid = first_period(_cycle(given, ends_at)).served
    return {"trial_end": _date(ends_at, given), "first_paid_period": _pair(paid, given)}


def _usage_period_after_timezone_change(case: Case) -> Answer:
    given = case.given
    # The source ends inclusively, a second before its half-open end.
    ends_at = _at(given["previous_usage_period_end"], "UTC") + timedelta(seconds=1)
    anchor, interval = Anchor(ends_at, given["old_timezone"]), _interval(given["plan"])
    of = Cycle(period(anchor, interval, -1).start_at, anchor, interval)
    found = change_zone(of, ends_at - _DAY, given["new_timezone"])
    return {"usage_period_start_utc": _utc(found.first.served.start_at)}


# Sequences ----------------------------------------------------------------------------------------


def _sequence_utc(case: Case) -> Answer:
    of = _cycle(case.given)
    if of.end_at is None:
        found = _first(of, len(case.expect["boundaries_utc"]) - 1)
    else:
        found = periods(of, of.start_at, of.end_at)
    moments = [of.start_at, *(each.end_at for each in found)]
    return {"boundaries_utc": [_utc(each) for each in moments], "period_count": len(found)}


def _first(of: Cycle, count: int) -> list[Period]:
    """As many periods as the case shows."""
    found = [first_period(of).served]
    while len(found) < count:
        found.append(period_containing(of, found[-1].end_at).served)
    return found[:count]


def _sequence(case: Case) -> Answer:
    given, expect = case.given, case.expect
    if case.source == "lago":
        return _lago_sequence(given, expect)
    start_at, answer = _start(given), {}
    if "trial_days" in given:
        start_at = trial_end(start_at, _zone(given), Trial(given["trial_days"]))
        answer["trial_end"] = _date(start_at, given)
    if "account_reference_local_time" in given:
        of = _reference_time_cycle(given)
    else:
        of = _cycle(given, start_at)
    shown = ("periods", "boundaries", "bill_dates", "charged_through")
    count = max([given.get("count", 1)] + [len(expect[key]) for key in shown if key in expect])
    found = _first(of, count)
    starts = [_date(each.start_at, given) for each in found]
    days = {day_of_month(each.start_at, _zone(given)) for each in found}
    weekdays = {f"{local_date(each.start_at, _zone(given)):%A}".lower() for each in found}
    return answer | {
        "start_local_date": starts[0],
        "periods": [_pair(each, given) for each in found],
        "boundaries": starts,
        "bill_dates": starts,
        "charged_through": [_date(each.end_at, given) for each in found],
        "first_period_prorated": first_period(of).is_stub,
        "day_of_month": min(days) if len(days) == 1 else None,
        "every_period_starts_on_day": min(days) if len(days) == 1 else None,
        "weekday": min(weekdays) if len(weekdays) == 1 else None,
    }


def _reference_time_cycle(given: Given) -> Cycle:
    wall = datetime.fromisoformat(f"{given['start_date']}T{given['account_reference_local_time']}")
    anchor = anchor_on(wall, _zone(given))
    return Cycle(anchor.at, anchor, _interval(given["plan"]))


def _lago_sequence(given: Given, expect: Given) -> Answer:
    of = _day_cycle(given)
    billed = _billed(given)
    found = _first(of, len(expect.get("invoices", [1])))
    answer: dict[str, Any] = {
        "invoices": [
            _lago_invoice(given, found, n, billed, expect["invoices"][n])
            for n in range(len(expect.get("invoices", [])))
        ],
        "fee_period": _inclusive_pair(found[0], given),
    }
    if "no_invoice_on" in expect:  # the days asked about
        runs = {_date(each.end_at, given) for each in found}
        answer["no_invoice_on"] = [day for day in expect["no_invoice_on"] if day not in runs]
    if "usage_billed" in given["plan"]:
        usage = Cycle(of.start_at, of.anchor, Interval(Unit(given["plan"]["usage_billed"])))
        year = periods(usage, found[0].start_at, found[0].end_at)
        shown = [_inclusive_pair(each, given) for each in year]
        answer["usage_periods"] = shown[: len(expect["usage_periods"])]
        answer["last_usage_period_in_year"] = shown[-1]
    return answer


def _lago_invoice(
    given: Given, found: list[Period], n: int, billed: Billed, shown: Given
) -> dict[str, Any]:
    each = found[n]
    start, end = _inclusive_pair(each, given)
    answer = {
        "run_at": _date(each.end_at if billed is Billed.ARREARS else each.start_at, given),
        "period": {"start": start, "end_inclusive": end},
        "usage_start": _utc(each.start_at),
        "usage_period": _inclusive_pair(found[n - 1], given) if n else None,
    }
    return {key: answer[key] for key in shown}


OPERATIONS: dict[str, Operation] = {
    "billed_period": _billed_period,
    "days_in_billed_period": _days_in_billed_period,
    "period_containing": _period_containing,
    "first_period": _first_period,
    "periods_to_target": _periods_to_target,
    "boundary_count": _periods_to_target,
    "billed_through": _billed_through,
    "elapsed_cycles": _elapsed_cycles,
    "whole_periods_between": _whole_periods_between,
    "advance_n_periods": _advance_n_periods,
    "next_boundary": _next_boundary,
    "align_to_grid": _align_to_grid,
    "first_anchor_date": _first_anchor_date,
    "align_to_anchor_day": _align_to_anchor_day,
    "effective_date_of_new_anchor_day": _new_anchor_day,
    "anchor_day_from_instant": _anchor_day_from_instant,
    "local_start_date": _local_start_date,
    "local_day_start": _floor(local_day_start),
    "local_hour_start": _floor(local_hour_start),
    **{f"local_{each.value}_start": _floor(_start_of(each)) for each in _CALENDAR_UNITS},
    "advance_local_days": _advance_local_days,
    "local_days_between": _local_days_between,
    "trial_end_then_period": _trial_end_then_period,
    "usage_period_after_timezone_change": _usage_period_after_timezone_change,
    "sequence": _sequence,
    "sequence_utc": _sequence_utc,
}
