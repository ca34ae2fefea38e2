"""Where a subscription's cycle hangs: its columns, the core's anchor, and what was asked for.

``billing_anchor`` is kept as it was asked for (JSON text of ``BillingAnchor``), so that a cycle
that begins anew, by a change of interval or at a trial's end, is aligned as its buyer wanted.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from subledger.core import cycles
from subledger.core.calendar import Alignment, Anchor, Grid, Interval, MonthEnd, Origin, align
from subledger.core.cycles import Cycle
from subledger.core.errors import InvalidInterval
from subledger.platform.http.problems import Problem
from subledger.services.billing import problems

ANNIVERSARY = '{"kind": "anniversary"}'

NOT_BEGUN = frozenset({"pending", "trialing"})
"""Statuses in which nothing was billed yet: the first cycle lies ahead."""


def does_not_fit(refused: InvalidInterval, pointer: str = "/billing_anchor") -> Problem:
    """What is answered where an interval cannot be aligned as asked."""
    return Problem(problems.ANCHOR_DOES_NOT_FIT, pointer=pointer, detail=refused.detail)


def anchor_of(row: Mapping[str, Any]) -> Anchor:
    """The anchor of a subscription's present cycle."""
    wall = row["anchor_wall"]
    return Anchor(
        row["anchor_at"],
        row["timezone"],
        row["anchor_day"],
        None if wall is None else wall.astimezone(UTC).replace(tzinfo=None),
    )


def billed_from_at(row: Mapping[str, Any]) -> datetime:
    """Where a subscription's first period began or will begin: after its trial."""
    found: datetime = row["trial_end_at"] or row["started_at"]
    return found


def columns(anchor: Anchor) -> dict[str, Any]:
    """An anchor as a subscription's columns."""
    return {
        "anchor_at": anchor.at,
        "timezone": anchor.timezone,
        "anchor_day": anchor.day,
        # Kept as if it were UTC: no column is without a zone.
        "anchor_wall": None if anchor.wall is None else anchor.wall.replace(tzinfo=UTC),
    }


def alignment(asked: str) -> Alignment:
    """``billing_anchor`` as the core takes it."""
    given = msgspec.json.decode(asked)
    return Alignment(
        grid=Grid(given["kind"]),
        day=given.get("day"),
        month=given.get("month"),
        month_end=MonthEnd(given.get("month_end", MonthEnd.CLAMP)),
        origin=Origin(given.get("origin", Origin.PRECEDING)),
    )


def begun(start_at: datetime, timezone: str, interval: Interval, asked: str) -> dict[str, Any]:
    """The columns of a cycle that begins at ``start_at``, aligned as asked. Raises InvalidInterval
    where the interval cannot be aligned so."""
    anchor = align(start_at, timezone, interval, alignment(asked))
    return columns(anchor) | {"billing_anchor": asked, "cycle_started_at": start_at}


def cycle_of(row: Mapping[str, Any], interval: Interval) -> Cycle:
    """A subscription's present cycle, open-ended."""
    return Cycle(row["cycle_started_at"], anchor_of(row), interval)


def in_zone(row: Mapping[str, Any], interval: Interval, timezone: str) -> dict[str, Any]:
    """A subscription's columns once it is counted in another zone: the running period keeps its
    end, and from there on the same local days and hours are counted in the new zone
    (``cycles.change_zone``). A cycle of which nothing is billed yet is hung anew where it
    begins."""
    if row["status"] in NOT_BEGUN or row["period_number"] < 0:
        return dict(row) | begun(row["cycle_started_at"], timezone, interval, row["billing_anchor"])
    cycle = cycle_of(row, interval)
    running_at = max(row["current_period_start_at"], cycle.start_at)
    following = cycles.change_zone(cycle, running_at, timezone).following
    return (
        dict(row)
        | columns(following.anchor)
        | {
            "cycle_started_at": following.start_at,
            "first_period": "prorated",
            "period_number": -1,
            "dirty_from_period": None,
        }
    )
