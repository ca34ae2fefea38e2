"""All that a seed may have people and the shop do, with weights; each outcome is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tests.simulation.asking import OK
from tests.simulation.operations import (
    buying,
    catalogue,
    changing,
    documents,
    ending,
    giving_back,
    pausing,
    paying,
)

if TYPE_CHECKING:
    from tests.simulation.month import Month
    from tests.simulation.people import Request

ALL = {
    each.what: each
    for module in (buying, catalogue, changing, documents, ending, giving_back, paying, pausing)
    for each in module.OPERATIONS
}
BETWEEN_RULES = frozenset({"tax_rate_missing"})
"""The process may die after one tax rule was ended and before the next one began."""
UNASKED = frozenset({"fault", "refund outside", "dispute"})
"""No request of the API: it has no outcome."""


async def something(month: Month) -> None:
    """What the seed draws, for whom it draws. Raises Died."""
    who = month.draw.choice(month.people)
    if not who.cards and month.draw.random() < 0.3:
        return await ALL["card"].do(month, who)
    if not who.subscriptions and month.draw.random() < 0.6:
        return await ALL["buy"].do(month, who)
    if "drafts" in month.asked and month.draw.random() < 0.15:
        return await ALL["finalize"].do(month, who)
    authorized = any(name.endswith("in two stages") for each in month.people for name in each.asked)
    if authorized and month.draw.random() < 0.1:
        return await ALL["capture"].do(month, who)
    fit = [each for each in ALL.values() if not (each.is_shops and month.shelf.is_steady)]
    [chosen] = month.draw.choices(fit, weights=[each.weight for each in fit])
    await chosen.do(month, who)


def check_refusal(request: Request, code: str) -> None:
    """Raises AssertionError for a refusal that the operation does not list."""
    if code != OK and code not in ALL[request.what].refusals | BETWEEN_RULES:
        raise AssertionError(f"{request.name} was refused: {code}; {request.path} {request.body}")


def never_done(outcomes: Counter[tuple[str, str]]) -> list[str]:
    """Operations that never succeeded."""
    done = {name for (name, code), n in outcomes.items() if code == OK and n}
    return sorted(
        what for what in ALL.keys() - UNASKED if not any(_is(name, what) for name in done)
    )


def _is(name: str, what: str) -> bool:
    return name == what or name.startswith(f"{what} ")


def table(outcomes: Counter[tuple[str, str]]) -> Iterable[str]:
    """Each operation's outcomes in a line."""
    by_name: dict[str, list[str]] = {}
    for (name, code), n in sorted(outcomes.items()):
        by_name.setdefault(name, []).append(f"{code} {n}")
    return (f"{name}: {', '.join(found)}" for name, found in by_name.items())
