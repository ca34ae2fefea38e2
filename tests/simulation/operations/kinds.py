"""What an operation is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simulation.month import Month
    from tests.simulation.people import Person

Do = Callable[["Month", "Person"], Awaitable[None]]
ENDED = "subscription_ended"
PAUSED = "subscription_paused"
NOT_ACTIVE = "subscription_not_active"
STILL_OPEN = "invoice_still_open"
RESERVED = "invoice_reserved"


@dataclass(frozen=True)
class Operation:
    """Something that a person or the shop may do. It is drawn as often as its weight says, and may
    be refused with these codes and no others."""

    what: str
    weight: int
    do: Do
    refusals: frozenset[str] = frozenset()
    is_shops: bool = False
    """It changes things for everybody: a steady shop does not do it."""


def operation(what: str, weight: int, do: Do, *refusals: str, is_shops: bool = False) -> Operation:
    return Operation(what, weight, do, frozenset(refusals), is_shops)


async def moment(month: Month, first_h: int, last_h: int) -> str:
    """So many hours from the tenant's now, before it where negative."""
    away = timedelta(hours=month.draw.randrange(first_h, last_h))
    return (await month.now() + away).isoformat()


async def act(
    month: Month, who: Person, what: str, path: str, body: Any = None, *, how: str = ""
) -> None:
    """Ask for something of one of the person's subscriptions; the last one most often."""
    if not who.subscriptions:
        return month.nothing(what)
    newest = month.draw.random() < 0.6
    chosen = who.subscriptions[-1] if newest else month.draw.choice(who.subscriptions)
    await month.ask(what, who, f"/v1/subscriptions/{chosen}/{path}", body, how=how)
