"""When a subscription begins: its start, its trial, the first cycle, and what is due at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal, TypeVar

from subledger.core.calendar import Interval, utc
from subledger.core.cycles import Trial, trial_end
from subledger.core.errors import CoreError
from subledger.core.local_days import add_local_months
from subledger.platform.http.problems import Problem
from subledger.services.billing import facts, problems
from subledger.services.billing.terms import PlanTerms
from subledger.services.billing.usecases import anchors, taxes

T = TypeVar("T")
MOST_MONTHS_BACK = 24
MOST_MONTHS_AHEAD = 60
MOST_PERIODS = 50
"""Periods that a backdated start may bill at once."""


@dataclass(frozen=True, slots=True)
class Start:
    """How a buyer wants a subscription to begin. None: now, and the trial that the plan gives.

    ``trial_days`` 0 refuses a trial; ``trial_until`` is the first local date that is paid.
    ``billing_anchor`` is JSON text of ``BillingAnchor``; ``first_period`` says what a stub costs.
    """

    billing_anchor: str
    first_period: Literal["prorated", "full", "free"]
    trial_days: int | None
    trial_until: date | None
    trial_end_behavior: Literal["invoice", "cancel"]
    start_at: datetime | None


@dataclass(frozen=True, slots=True)
class Opening:
    """The first moments of a subscription. ``waits`` is the status in which nothing is billed yet,
    or None if its first period is due. ``columns`` are those of its row."""

    waits: Literal["pending", "trialing"] | None
    bills_from_at: datetime
    columns: dict[str, Any]


def opening(
    start: Start, terms: PlanTerms, *, at: datetime, timezone: str, interval: Interval
) -> Opening:
    """Raises Problem: start_out_of_range; invalid_request for a trial's end that lies before its
    start and an anchor that does not fit the interval."""
    start_at = at if start.start_at is None else utc(start.start_at)
    if start_at != at:
        refused("/start_at", lambda: _check_start(start_at, at, timezone))
    trial_end_at = refused("/trial_until", lambda: _trial_end(start, terms, start_at, timezone))
    bills_from_at = trial_end_at or start_at
    cycle = refused(
        "/billing_anchor",
        lambda: anchors.begun(bills_from_at, timezone, interval, start.billing_anchor),
    )
    waits: Literal["pending", "trialing"] | None = None
    if bills_from_at > at:
        waits = "pending" if start_at > at else "trialing"
    return Opening(
        waits,
        bills_from_at,
        cycle
        | {
            "started_at": start_at,
            "trial_end_at": trial_end_at,
            "trial_end_behavior": start.trial_end_behavior,
            "first_period": start.first_period,
        },
    )


def _check_start(start_at: datetime, at: datetime, timezone: str) -> None:
    earliest = add_local_months(at, -MOST_MONTHS_BACK, timezone)
    latest = add_local_months(at, MOST_MONTHS_AHEAD, timezone)
    if not earliest <= start_at <= latest:
        raise Problem(
            problems.START_OUT_OF_RANGE,
            pointer="/start_at",
            detail=f"A start lies between {facts.moment(earliest)} and {facts.moment(latest)}.",
        )


def _trial_end(
    start: Start, terms: PlanTerms, start_at: datetime, timezone: str
) -> datetime | None:
    if start.trial_until is not None:
        return trial_end(start_at, timezone, Trial(until=start.trial_until))
    days = terms.trial_days if start.trial_days is None else start.trial_days
    return trial_end(start_at, timezone, Trial(days=days)) if days else None


def refused(pointer: str, do: Callable[[], T]) -> T:
    """What ``do`` gives; what the core refuses is a problem of the body at ``pointer``."""
    try:
        return do()
    except CoreError as error:
        told = taxes.problem(error)
        if told is not None:
            raise told from error
        raise Problem(
            "invalid_request", detail=error.detail, pointer=pointer, fix=error.fix
        ) from error
