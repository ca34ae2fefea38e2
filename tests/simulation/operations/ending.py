"""Operations: subscriptions end, are kept, and live again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.simulation.operations.kinds import ENDED, RESERVED, STILL_OPEN, act, moment, operation

if TYPE_CHECKING:
    from tests.simulation.month import Month
    from tests.simulation.people import Person


async def cancel(month: Month, who: Person) -> None:
    draw = month.draw
    when, credit = draw.choice(("now", "now", "period_end", "date")), draw.random() < 0.5
    body: dict[str, Any] = {"credit_unused": credit, "reason": draw.choice((None, "unused"))}
    body |= {"at": await moment(month, 1, 400)} if when == "date" else {"when": when}
    how = f"{when}, {'with' if credit else 'without'} credit"
    await act(month, who, "cancel", "cancel", body, how=how)


def _waits(subscription: Any) -> bool:
    return subscription["cancel_at"] is not None and not _has_ended(subscription)


def _has_ended(subscription: Any) -> bool:
    return subscription["ended_at"] is not None


async def undo_cancel(month: Month, who: Person) -> None:
    await act(month, who, "undo cancel", "undo-cancel", fit=_waits)


async def reactivate(month: Month, who: Person) -> None:
    how = month.draw.choice(("same", "newest"))
    body = {"version": how}
    if who.wants_page or not who.cards:
        body |= {"collection": "page", "return_url": "http://sim.test/thanks"}
    await act(month, who, "reactivate", "reactivate", body, how=how, fit=_has_ended)


OPERATIONS = (
    operation("cancel", 9, cancel, ENDED, RESERVED, STILL_OPEN),
    operation("undo cancel", 3, undo_cancel, ENDED, "cancellation_not_scheduled"),
    operation(
        "reactivate", 9, reactivate, "subscription_not_ended", STILL_OPEN, "payment_declined",
        "billing_anchor_does_not_fit",
    ),
)  # fmt: skip
