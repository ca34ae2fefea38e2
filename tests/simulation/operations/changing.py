"""Operations: plan, quantity, version and anchor of a subscription change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.simulation.operations.buying import MONTH_ANCHORS, WEEK_ANCHORS
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

WHEN = ("now", "now", "now", "period end", "at a date", "backdated")
SETTLE = ("auto", "now", "next_invoice")
REFUSALS = (ENDED, NOT_ACTIVE, PAUSED, STILL_OPEN, "change_out_of_range")


async def change_quantity(month: Month, who: Person) -> None:
    draw = month.draw
    when = draw.choice(WHEN)
    body = {"quantity": draw.choice(("1", "2", "3", "2.5"))} | await _when(month, when)
    await _change(month, who, "change quantity", body, when)


async def change_plan(month: Month, who: Person) -> None:
    """Another plan, or the newest version of the one it has."""
    draw = month.draw
    when, name = draw.choice(WHEN), draw.choice(sorted(month.shelf.plans))
    body = {"plan_id": month.shelf.plans[name]} | await _when(month, when)
    if draw.random() < 0.2:
        body["quantity"] = draw.choice(("1", "2"))
    await _change(month, who, "change plan", body, when)


async def _when(month: Month, when: str) -> dict[str, Any]:
    match when:
        case "period end":
            return {"at": "period_end"}
        case "at a date":
            return {"at": await moment(month, 1, 400)}
        case "backdated":
            return {"at": await moment(month, -60, 0)}
    return {}


async def _change(month: Month, who: Person, what: str, body: Any, when: str) -> None:
    settle = month.draw.choice(SETTLE)
    await act(month, who, what, "change", body | {"settle": settle}, how=f"{when}, {settle}")


def _waits(subscription: Any) -> bool:
    return subscription["scheduled_change"] is not None


async def undo_change(month: Month, who: Person) -> None:
    await act(month, who, "undo change", "undo-change", fit=_waits)


async def change_anchor(month: Month, who: Person) -> None:
    draw = month.draw
    anchor = draw.choice((*WEEK_ANCHORS, *MONTH_ANCHORS, {"kind": "anniversary"}))
    when = draw.choice(("now", "period_end", "next_grid_day"))
    body = {"billing_anchor": anchor, "when": when}
    await act(month, who, "change anchor", "change-anchor", body, how=when)


OPERATIONS = (
    operation("change quantity", 8, change_quantity, *REFUSALS, "nothing_to_change"),
    operation(
        "change plan", 6, change_plan, *REFUSALS, "nothing_to_change",
        "billing_anchor_does_not_fit",
    ),
    operation("undo change", 5, undo_change, ENDED, "change_not_scheduled"),
    operation("change anchor", 3, change_anchor, *REFUSALS, "billing_anchor_does_not_fit"),
)  # fmt: skip
