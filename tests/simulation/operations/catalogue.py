"""Operations: the catalogue, customers and taxes change on the way."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tests.simulation.operations.kinds import ENDED, act, operation
from tests.simulation.selling import PRICES_MINOR, ZONES, prices

if TYPE_CHECKING:
    from tests.simulation.month import Month
    from tests.simulation.people import Person


async def new_version(month: Month, _: Person) -> None:
    name = month.draw.choice(sorted(month.shelf.plans))
    amount = PRICES_MINOR.get(name, 1_200) + month.draw.choice((-100, 50, 200))
    path = f"/v1/plans/{month.shelf.plans[name]}/versions"
    await month.ask("new version", None, path, {"prices": prices(name, amount)}, how=name)


async def migrate(month: Month, who: Person) -> None:
    """All of a plan to its newest version, or to another plan."""
    draw, plans = month.draw, month.shelf.plans
    name = draw.choice(sorted(plans))
    body = {
        "plan_id": plans[name],
        "at": draw.choice(("now", "period_end")),
        "settle": draw.choice(("auto", "now", "next_invoice")),
    }
    to = draw.choice(("version", "version", "plan"))
    if to == "plan":
        body["to_plan_id"] = plans[draw.choice(sorted(plans.keys() - {name}))]
    await month.ask("migrate", None, "/v1/plan-migrations", body, how=f"{to}, {body['at']}")
    if draw.random() < 0.8:
        await steer_migration(month, who)


async def steer_migration(month: Month, _: Person) -> None:
    """One that runs or is paused is paused, resumed or canceled."""
    found = await month.get_all("/v1/plan-migrations")
    mine = sorted(each["id"] for each in found if each["status"] in {"running", "paused"})
    if not mine:
        return month.nothing("steer migration")
    pausing = all(each["status"] == "running" for each in found if each["id"] in mine)
    how = month.draw.choice(("pause", "cancel") if pausing else ("resume", "cancel"))
    path = f"/v1/plan-migrations/{month.draw.choice(mine)}/{how}"
    await month.ask("steer migration", None, path, None, how=how)


async def move_house(month: Month, who: Person) -> None:
    """Another time zone; where there are taxes, now and then another country."""
    body: dict[str, Any] = {"timezone": month.draw.choice(ZONES)}
    how = "zone"
    if month.shelf.is_taxed and month.draw.random() < 0.3:
        how, body = "country", {"country": month.draw.choice(("DE", "US"))}
    path = f"/v1/customers/{who.id}"
    await month.ask("move house", who, path, body, how=how, method="PATCH")


async def change_tax_rule(month: Month, _: Person) -> None:
    """From a day on the rate is another: the rule ends there, and the next one begins."""
    shelf, draw = month.shelf, month.draw
    if not shelf.is_taxed or month.waits("end tax rule") or month.waits("change tax rule"):
        return month.nothing("change tax rule")
    rule = await month.get(f"/v1/tax-rules/{shelf.rule_id}")
    day = (await month.now()).date() + timedelta(days=draw.randrange(1, 6))
    if rule["from_on"] is not None and rule["from_on"] >= day.isoformat():
        return month.nothing("change tax rule")
    until_on = day.isoformat()
    rate = {
        "code": f"vat-at-{len(month.trace)}", "name": "VAT", "country": "DE",
        "percent": draw.choice(shelf.percents),
    }  # fmt: skip
    path = f"/v1/tax-rules/{shelf.rule_id}/end"
    await month.ask("end tax rule", None, path, {"until_on": until_on})
    body = {"rate": rate, "from_on": until_on}
    await month.ask("change tax rule", None, "/v1/tax-rules", body)


async def give_discount(month: Month, who: Person) -> None:
    """To a subscription, by its id or by a code; or to a person, for everything."""
    draw, discounts = month.draw, month.shelf.discounts
    how = draw.choice(("direct", "code", "personal"))
    discount = discounts[draw.choice(sorted(discounts))]
    if how == "personal":
        path = f"/v1/customers/{who.id}/discounts"
        body = {"discount_id": discount}
        return await month.ask("give discount", who, path, body, how=how)
    body = {"discount_id": discount}
    if how == "code":
        body = {"promotion_code": draw.choice(month.shelf.codes)}
    await act(month, who, "give discount", "discounts", body, how=how)


async def take_discount(month: Month, _: Person) -> None:
    """Away again, from a subscription or from a person."""
    draw = month.draw
    how = draw.choice(("direct", "personal"))
    found = [
        (each, f"/v1/customers/{each.id}", one) for each in month.people for one in each.discounts
    ]
    if how == "direct":
        found = [
            (month.person(each["customer_id"]), f"/v1/subscriptions/{each['id']}", one)
            for each in await month.get_all("/v1/subscriptions")
            for one in each["discount_ids"]
        ]
    if not found:
        return month.nothing("take discount")
    who, whose, discount = draw.choice(sorted(found, key=lambda each: each[1:]))
    path = f"{whose}/discounts/{discount}"
    await month.ask("take discount", who, path, None, how=how, method="DELETE")


OPERATIONS = (
    operation("new version", 3, new_version, is_shops=True),
    operation(
        "migrate", 6, migrate, "nothing_to_change", "plan_migration_open", is_shops=True
    ),
    operation("steer migration", 3, steer_migration, "plan_migration_status", is_shops=True),
    operation("move house", 3, move_house),
    operation("change tax rule", 4, change_tax_rule, is_shops=True),
    operation("end tax rule", 0, change_tax_rule, is_shops=True),
    operation(
        "give discount", 5, give_discount, ENDED, "discount_not_applicable",
        "promotion_code_refused", "too_many_subscriptions",
    ),
    operation("take discount", 5, take_discount, ENDED, "not_found"),
)  # fmt: skip
