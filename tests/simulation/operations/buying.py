"""Operations: a subscription is bought, in every way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.simulation.operations.kinds import moment, operation

if TYPE_CHECKING:
    from tests.simulation.month import Month
    from tests.simulation.people import Person

MOST_SUBSCRIPTIONS = 3
WAYS = (
    *("plain",) * 5,
    *("trial", "future", "backdated", "promo", "quantity", "anchored", "discount", "second"),
)
WEEK_ANCHORS = ({"kind": "day", "day": 3}, {"kind": "start_day"}, {"kind": "calendar"})
MONTH_ANCHORS = (
    *({"kind": "day", "day": day} for day in (1, 15, 31)),
    *({"kind": "start_day"}, {"kind": "calendar"}),
)


async def buy(month: Month, who: Person) -> None:
    """The first one by the person's taste; others are added to it."""
    draw = month.draw
    if len(who.subscriptions) >= MOST_SUBSCRIPTIONS or month.waits("buy", who):
        return month.nothing("buy")
    plan, how = who.plan, draw.choice(WAYS)
    if how != "plain" or who.subscriptions:
        plan = draw.choice(sorted(month.shelf.plans))
    body = {"customer_id": who.id, "plan_id": month.shelf.plans[plan]}
    body |= await _terms(month, how, plan)
    if who.wants_page or not who.cards:
        body |= {"collection": "page", "return_url": "http://sim.test/thanks"}
    await month.ask("buy", who, "/v1/subscriptions", body, how=how)


async def _terms(month: Month, how: str, plan: str) -> dict[str, Any]:
    draw, shelf = month.draw, month.shelf
    found: dict[str, Any] = {}
    match how:
        case "trial":
            behavior = draw.choice(("invoice", "cancel"))
            found = {"trial_days": draw.randrange(1, 12), "trial_end_behavior": behavior}
        case "future":
            found = {"start_at": await moment(month, 1, 240)}
        case "backdated":
            found = {"start_at": await moment(month, -600, -1)}
        case "promo":
            found = {"promotion_codes": [draw.choice(shelf.codes)]}
        case "quantity":
            found = {"quantity": draw.choice(("2", "5", "0.5"))}
        case "anchored":
            anchor = draw.choice(WEEK_ANCHORS if plan == "week" else MONTH_ANCHORS)
            first = draw.choice(("prorated", "full", "free"))
            found = {"billing_anchor": anchor, "first_period": first}
        case "discount":
            found = {"discount_ids": [shelf.discounts[draw.choice(sorted(shelf.discounts))]]}
        case "second":
            found = {"proration": "second", "quantity": "2"}
    return found


OPERATIONS = (
    operation(
        "buy", 12, buy, "payment_declined", "start_out_of_range", "promotion_code_refused",
        "payment_method_required",
    ),
)  # fmt: skip
