"""Periods that pauses have made longer (``core.extension``), as billing keeps them.

While such a period runs, a subscription keeps the grid in which it was billed (``anchor_at``,
``period_number``), ``current_period_end_at`` says where it really ends, and ``is_extended`` that
the next cycle hangs there. Whoever bills the period anew does so in paid time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Row

from subledger.core.calendar import Interval
from subledger.core.extension import Extension, Pause
from subledger.core.timeline import Draft
from subledger.platform.db import Tx
from subledger.services.billing.store import pauses
from subledger.services.billing.usecases.anchors import begun
from subledger.services.billing.usecases.timelines import History, Stage, mode_of

PAUSED = "paused"


async def extension(tx: Tx, row: Row[Any]) -> Extension:
    """How pauses have moved the end of a subscription's present period; one that runs too."""
    found = []
    if row.is_extended or row.status == PAUSED:
        found = list(
            await pauses.extending(
                tx,
                (row.tenant_id, row.id),
                anchor_at=row.anchor_at,
                period_number=row.period_number,
            )
        )
    return Extension(
        end_at=found[0].period_end_at if found else row.current_period_end_at,
        timezone=row.timezone,
        proration=mode_of(row._asdict()),
        pauses=tuple(Pause(each.from_at, each.resumed_at) for each in found),
    )


def in_paid_time(values: Mapping[str, Any], within: Extension) -> dict[str, Any]:
    """A subscription's columns, with what bounds its charges in paid time."""
    until_at = values["charged_until_at"]
    return {**values, "charged_until_at": None if until_at is None else within.paid(until_at)}


def history_in_paid_time(known: History, within: Extension) -> History:
    """Stages and billed lines in paid time; of two stages that a pause puts on one moment the
    later holds."""
    if not within.pauses:
        return known
    stages: dict[Any, Stage] = {}
    for each in known.stages:
        moment = within.paid(each.from_at)
        stages[moment] = replace(each, from_at=moment)
    return replace(known, stages=list(stages.values()), billed=within.paid_lines(known.billed))


def next_cycle(values: Mapping[str, Any], interval: Interval, timezone: str) -> dict[str, Any]:
    """The columns from which the period after an extended one is billed: the cycle ended with it,
    and another begins where it really ends, aligned as its buyer wanted. Raises InvalidInterval
    where it cannot be."""
    begun_at = values["current_period_end_at"]
    return {
        **values,
        **begun(begun_at, timezone, interval, values["billing_anchor"]),
        "first_period": "prorated",
        "period_number": -1,
        "is_extended": False,
        "dirty_from_period": None,
    }


def billed_by(row: Row[Any], draft: Draft) -> dict[str, Any]:
    """The columns that the run of a ``draft`` inside a period changes."""
    through = row.current_period_end_at if draft.period is None else draft.period.end_at
    return {"last_run_number": row.last_run_number + 1, "billed_through_at": through}
