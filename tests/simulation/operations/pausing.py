"""Operations: subscriptions pause and go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.simulation.operations.kinds import (
    ENDED,
    NOT_ACTIVE,
    PAUSED,
    STILL_OPEN,
    act,
    moment,
    operation,
)

if TYPE_CHECKING:
    from tests.simulation.month import Month
    from tests.simulation.people import Person


async def pause(month: Month, who: Person) -> None:
    draw = month.draw
    when = draw.choice(("now", "now", "period_end", "date"))
    credit = draw.choice(("none", "credit", "extend"))
    at = await moment(month, 1, 300) if when == "date" else when
    body = {"at": at, "credit": credit}
    if draw.random() < 0.3:
        body["resume_at"] = await moment(month, 24, 500)
    await act(month, who, "pause", "pause", body, how=f"{when}, {credit}")


def _waits(subscription: Any) -> bool:
    return subscription["pause"] is not None and not _is_paused(subscription)


def _is_paused(subscription: Any) -> bool:
    return bool(subscription["status"] == "paused")


async def undo_pause(month: Month, who: Person) -> None:
    await act(month, who, "undo pause", "undo-pause", fit=_waits)


async def resume(month: Month, who: Person) -> None:
    how = month.draw.choice(("now", "now", "date"))
    at = await moment(month, 1, 200) if how == "date" else how
    await act(month, who, "resume", "resume", {"at": at}, how=how, fit=_is_paused)


OPERATIONS = (
    operation(
        "pause", 7, pause, ENDED, NOT_ACTIVE, PAUSED, STILL_OPEN, "pause_out_of_range",
        "renewal_under_way",
    ),
    operation("undo pause", 6, undo_pause, ENDED, "pause_not_scheduled"),
    operation("resume", 6, resume, ENDED, "subscription_not_paused", "pause_out_of_range"),
)  # fmt: skip
