"""Naive cover: the lines of all documents that stand, laid over time, subscription by subscription.

A charge pays for its time once more, a credit once less. Nobody pays twice for a moment, or is
given one back that nobody charged; and what a subscription was served, it was billed for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

from tests.simulation.revenue import Standstill
from tests.simulation.told import Fact, Line, Papers

ONE_DAY = timedelta(days=1)
"""A day on which one period ends and another begins belongs to one of them, whatever the hour."""
MAIN, ASIDE = "main", "support"
Spans = list[tuple[datetime, datetime]]


def times(lines: Sequence[Line]) -> list[tuple[datetime, datetime, int]]:
    """How often each moment is paid for."""
    steps: dict[datetime, int] = {}
    for each in lines:
        sign = 1 if each.kind != "credit" else -1
        steps[each.start_at] = steps.get(each.start_at, 0) + sign
        steps[each.end_at] = steps.get(each.end_at, 0) - sign
    found, depth = [], 0
    for start, end in pairwise([*sorted(steps), None]):
        depth += steps[start]
        if end is not None:
            found.append((start, end, depth))
    return found


def given_up(account: Sequence[Fact]) -> dict[tuple[str, str], datetime]:
    """What a refund or a dispute ended was settled by it, however much went back; what dunning
    ended and wrote off nobody paid. By subscription and invoice from before, the moment from which
    on its time is nobody's and may be sold again."""
    billed: dict[str, set[str]] = {}
    written_off: set[str] = set()
    found: dict[tuple[str, str], datetime] = {}
    for each in account:
        if each.kind in {"invoice.drafted", "invoice.finalized"}:
            for subscription in each.data["subscription_ids"]:
                billed.setdefault(subscription, set()).add(each.data["invoice_id"])
        elif each.kind == "invoice.uncollectible":
            written_off.add(each.data["invoice_id"])
        elif each.kind == "invoice.paid" and each.data["invoice_id"] in written_off:
            found = {key: at for key, at in found.items() if key[1] != each.data["invoice_id"]}
        elif each.kind == "subscription.canceled":
            subscription, reason = each.data["subscription_id"], each.data["reason"]
            known = billed.get(subscription, set())
            settled = {"refund": known, "dispute": known, "dunning": known & written_off}
            for invoice in settled.get(reason, ()):
                found.setdefault((subscription, invoice), each.at)
    return found


def _cut(line: Line, until: Mapping[tuple[str, str], datetime]) -> Line:
    at = until.get((line.subscription_id, line.invoice_id), line.end_at)
    return replace(line, end_at=max(line.start_at, min(line.end_at, at)))


def covered_once(
    papers: Papers,
    codes: Mapping[str, str],
    extended: Mapping[str, int],
    given_up: Mapping[tuple[str, str], datetime],
) -> list[str]:
    """``codes`` says of each price that is paid for time what it is: only one price of a kind is
    paid at a time. What a pause ``extended`` is given back at another time than the document of
    its charge says."""
    wrong = []
    for (subscription, code), lines in _by_kind(papers, codes).items():
        if subscription in extended:
            continue
        standing = [
            _cut(each, given_up) for each in lines if each.status != "void" and each.gross_minor
        ]
        # What a note gave back whole may be charged again, or still be taken back by a line.
        kept = [each for each in standing if each.gross_minor != each.noted_gross_minor]
        for start, end, depth in times(kept):
            if depth > 1 and end - start >= ONE_DAY:
                wrong.append(f"{subscription}: {code} is paid {depth} times from {start} to {end}")
        for start, end, depth in times(standing):
            if depth < 0 and end - start >= ONE_DAY:
                wrong.append(f"{subscription}: {code} is paid {depth} times from {start} to {end}")
    return wrong


def _by_kind(papers: Papers, codes: Mapping[str, str]) -> dict[tuple[str, str], list[Line]]:
    found: dict[tuple[str, str], list[Line]] = {}
    for each in papers.lines:
        code = codes.get(each.price_id)
        if code is not None:
            found.setdefault((each.subscription_id, code), []).append(each)
    return found


def not_covered(
    papers: Papers,
    codes: Mapping[str, str],
    served: Mapping[str, Spans],
    extended: Mapping[str, int],
    paused: Mapping[str, Sequence[Standstill]],
) -> list[str]:
    """Moments that were ``served`` and are on no document, drafts and voided charges included. A
    pause that ``extended`` a period moves what its document says: then the lengths have to do, as
    documents have them or, where one made after it was ``paused`` reaches over it, without it."""
    wrong = []
    by_kind = _by_kind(papers, codes)
    for subscription, spans in served.items():
        lines = [
            each
            for each in by_kind.get((subscription, MAIN), [])
            if each.status != "void" or each.kind != "credit"
        ]
        paid = [(start, end) for start, end, depth in times(lines) if depth > 0]
        if subscription in extended:
            known = max(_length(paid), _time_of(lines, paused.get(subscription, ())))
            left = _length(spans) - known
            if left > ONE_DAY * (extended[subscription] + 1):
                wrong.append(f"{subscription}: nobody billed {left}")
            continue
        for start, end in spans:
            if (left_at := _first_gap(start, paid)) + ONE_DAY <= end:
                span = f"{left_at.isoformat()} to {end.isoformat()}"
                wrong.append(f"{subscription}: nobody billed {span}")
    return wrong


def _time_of(lines: Sequence[Line], paused: Sequence[Standstill]) -> timedelta:
    """What is charged less what is given back, each less the pauses that it was known to span."""
    total = timedelta()
    for each in lines:
        time = each.end_at - each.start_at
        for begin, end in paused:
            if end is not None and each.billed_at is not None and begin < each.billed_at:
                time -= max(timedelta(), min(end, each.end_at) - max(begin, each.start_at))
        total += time if each.kind != "credit" else -time
    return total


def _length(spans: Spans) -> timedelta:
    return sum((end - start for start, end in spans), timedelta())


def _first_gap(at: datetime, paid: Spans) -> datetime:
    """Up to where it is paid for from ``at`` on."""
    for start, end in paid:
        if start - ONE_DAY < at < end:
            at = end
    return at


def never_more_back_than_charged(papers: Papers) -> list[str]:
    """By document, by price of a subscription, and by subscription."""
    wrong = []
    sums: dict[tuple[str, str], list[int]] = {}
    for each in papers.lines:
        if each.noted_net_minor > max(each.net_minor, 0) or each.noted_tax_minor > max(
            each.tax_minor, 0
        ):
            wrong.append(f"{each.invoice_id}: more is noted than the line has: {each}")
        if each.status == "void":
            continue
        amounts = (
            each.gross_minor - each.noted_gross_minor,
            each.net_minor - each.noted_net_minor,
            each.tax_minor - each.noted_tax_minor,
        )
        for key in ((each.subscription_id, each.price_id), (each.subscription_id, "all")):
            known = sums.setdefault(key, [0, 0, 0])
            sums[key] = [before + more for before, more in zip(known, amounts, strict=True)]
    for (subscription, price), left in sums.items():
        if min(left) < 0:
            wrong.append(f"{subscription}: of {price} gross, net, tax {left} are left")
    return wrong
