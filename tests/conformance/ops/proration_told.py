"""Dates that a case of proration tells in words."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

from subledger.core.calendar import (
    Anchor,
    Interval,
    Period,
    Unit,
    period,
)

_DAY = timedelta(days=1)


def inclusive(first: date, last: date) -> Period:
    end = last + _DAY
    return Period(
        datetime(first.year, first.month, first.day, tzinfo=UTC),
        datetime(end.year, end.month, end.day, tzinfo=UTC),
    )


_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_MONTH = f"({'|'.join(_MONTHS)})[a-z]*"
_RANGE = re.compile(
    rf"\b(\d\d?)(?: {_MONTH})?(?: (\d{{4}}))?(?: - |-| to )(\d\d?) {_MONTH}(?: (\d{{4}}))?"
)


def told_dates(notes: str) -> tuple[Period, Period] | None:
    """The days charged and, as second range, the period; else the calendar month around them, or
    the year that ends with them."""
    year = re.search(r"\b(20\d\d)\b", notes)
    ranges = [_range(each, int(year[1]) if year else 2023) for each in _RANGE.finditer(notes)]
    if not ranges:
        return None
    part = ranges[0]
    if len(ranges) > 1:
        return part, ranges[1]
    if "yearly" in notes:
        whole = period(Anchor(part.end_at, "UTC"), Interval(Unit.YEAR), -1)
    else:
        first = Anchor(part.start_at.replace(day=1), "UTC")
        whole = period(first, Interval(Unit.MONTH), 0)
    return part, whole


def _range(found: re.Match[str], year: int) -> Period:
    day, month, first_year, last_day, last_month, last_year = found.groups()
    last = date(int(last_year or year), _MONTHS.index(last_month) + 1, int(last_day))
    first = date(last.year, _MONTHS.index(month or last_month) + 1, int(day))
    if first_year or first > last:
        first = first.replace(year=int(first_year or last.year - 1))
    return inclusive(first, last)
