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
Fit = Callable[[Any], bool]
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


def runs(subscription: Any) -> bool:
    return subscription["status"] in {"active", "past_due"}


async def act(
    month: Month, who: Person, what: str, path: str, body: Any = None, *, how: str = "",
    fit: Fit = runs,
) -> None:  # fmt: skip
    """Ask for something of a subscription: mostly of one that is ``fit`` for it, whosever, now and
    then of any of the person's."""
    chosen = who.subscriptions
    if month.draw.random() < 0.85:
        found = await month.get_all("/v1/subscriptions")
        fitting = sorted((each["id"], each["customer_id"]) for each in found if fit(each))
        if not fitting:
            return month.nothing(what)
        subscription, payer = month.draw.choice(fitting)
        who, chosen = month.person(payer), [subscription]
    if not chosen:
        return month.nothing(what)
    path = f"/v1/subscriptions/{month.draw.choice(chosen)}/{path}"
    await month.ask(what, who, path, body, how=how)


async def drawn_invoice(month: Month, *statuses: str) -> tuple[Person, str] | None:
    """One of the invoices that are so, and whose it is."""
    found = await month.get_all("/v1/invoices")
    fit = sorted((each["id"], each["customer_id"]) for each in found if each["status"] in statuses)
    if not fit:
        return None
    invoice, payer = month.draw.choice(fit)
    return month.person(payer), invoice
