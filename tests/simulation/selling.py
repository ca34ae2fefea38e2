"""What a simulated shop sells, to whom, and which taxes it knows."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from subledger.platform.db import story
from subledger.services.identity.usecases.create_tenants import TenantRequest, create_tenants
from tests.simulation.people import Person

if TYPE_CHECKING:
    from tests.simulation.month import Month

MONTHLY, WEEKLY = {"unit": "month", "count": 1}, {"unit": "week", "count": 1}
PRICES_MINOR = {"week": 300, "month": 999}
"""Of the plans that have one price for a unit and nothing else."""
ZONES = ("UTC", "UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu")
_LONG = 1_000
"""Turns: until all that was said is heard."""
_OPEN = story("tests.open_simulation")


@dataclass
class Shelf:
    """The catalogue by name, as the shop remembers it."""

    plans: dict[str, str] = field(default_factory=dict)
    gift: str = ""
    """A price that is charged once."""
    discounts: dict[str, str] = field(default_factory=dict)
    codes: tuple[str, ...] = ("SPRING", "FIRST", "TWICE")
    is_taxed: bool = False
    is_steady: bool = False
    """The shop itself changes nothing, so that plain customers can be recounted."""
    rule_id: str = ""
    """The rule that taxes German customers."""
    percents: tuple[str, ...] = ("19", "16", "21", "7.5")


def _price(code: str, model: str, interval: Any, **more: Any) -> dict[str, Any]:
    return {"code": code, "currency": "EUR", "model": model, "interval": interval, **more}


def prices(plan: str, amount: int) -> list[dict[str, Any]]:
    """The prices of a plan's version, about so dear."""
    if plan == "week":
        return [_price("base", "per_unit", WEEKLY, unit_amount=str(amount))]
    if plan == "month":
        return [_price("base", "per_unit", MONTHLY, unit_amount=str(amount))]
    tiers = [
        {"up_to": "2", "unit_amount": str(amount)},
        {"up_to": None, "unit_amount": str(amount // 2)},
    ]
    return [
        _price("seats", "graduated", MONTHLY, tiers=tiers, tax_inclusive=True),
        _price("support", "flat", MONTHLY, amount_minor=250, timing="arrears"),
        _price("gift", "flat", MONTHLY, amount_minor=150, timing="once"),
    ]


async def open_shop(month: Month, start_at: datetime) -> None:
    """An empty tenant, what it sells, and its customers."""
    database = month.life.assembly.databases["identity"]
    live, month.tenant_id = database.ids.new(), database.ids.new()
    async with database.transaction(_OPEN) as tx:
        opened = await create_tenants(
            tx, [TenantRequest(live, "L"), TenantRequest(month.tenant_id, "S", live, start_at)]
        )
    month.key = opened[1].key
    month.shelf.is_taxed = month.draw.random() < 0.4
    month.shelf.is_steady = not month.shelf.is_taxed and month.draw.random() < 0.4
    await _plans(month)
    await _discounts(month)
    if month.shelf.is_taxed:
        await _taxes(month)
    await _people(month)
    await month.life.busy(_LONG)
    await _regulars(month)


async def _plans(month: Month) -> None:
    shelf = month.shelf
    product = await month.must("/v1/products", code="p", name="P", resources=["film:a"])
    for name, amount in (*PRICES_MINOR.items(), ("pro", 1200)):
        plan = await month.must(
            "/v1/plans", code=name, name=name, product_id=product["id"], prices=prices(name, amount)
        )
        shelf.plans[name] = plan["id"]
    shelf.gift = next(each["id"] for each in plan["latest"]["prices"] if each["code"] == "gift")


async def _discounts(month: Month) -> None:
    shelf = month.shelf
    for code, given in (
        ("tenth", {"percent": "10", "duration": "forever"}),
        ("half", {"percent": "50", "duration": "periods", "periods": 2}),
        ("less", {"amount_minor": 200, "currency": "EUR", "duration": "once"}),
    ):
        made = await month.must("/v1/discounts", code=code, name=code, **given)
        shelf.discounts[code] = made["id"]
    for code, discount, limits in (
        ("SPRING", "half", {"most_redemptions": 2}),
        ("FIRST", "less", {"first_purchase_only": True}),
        ("TWICE", "tenth", {"most_per_customer": 2}),
    ):
        given = {"code": code, "discount_id": shelf.discounts[discount], **limits}
        await month.must("/v1/promotion-codes", **given)


async def _taxes(month: Month) -> None:
    await month.must("/v1/tax-settings", method="PUT", expect=200, country="DE")
    rate = {"code": "vat-0", "name": "VAT", "percent": month.shelf.percents[0], "country": "DE"}
    month.shelf.rule_id = (await month.must("/v1/tax-rules", rate=rate))["id"]


async def _people(month: Month) -> None:
    draw = month.draw
    month.people = [
        Person(f"c{n}", draw.choice(month.size.plans), draw.random() < 0.4, draw.choice(ZONES))
        for n in range(month.size.people)
    ]
    for each in month.people:
        where = {"country": "DE"} if month.shelf.is_taxed else {}
        made = await month.must(
            "/v1/customers", external_id=each.name, name=each.name, currency="EUR",
            email=f"{each.name}@example.com", timezone=each.timezone, **where,
        )  # fmt: skip
        each.id = made["id"]


async def _regulars(month: Month) -> None:
    """Most have a card that works and a subscription before anything is drawn; some pay on terms,
    and some shops let renewals wait as drafts."""
    if not month.shelf.is_steady and month.draw.random() < 0.4:
        month.asked.add("drafts")
        await month.must("/v1/invoice-settings", method="PUT", expect=200, draft_s=604_800)
    for each in month.people:
        if month.draw.random() < month.size.of_regulars:
            made = await month.must("/v1/payment-methods", customer_id=each.id, test_kind="visa_ok")
            each.cards.append(made["id"])
        if month.draw.random() < 0.3:
            each.asked.add("terms")
            path = f"/v1/customers/{each.id}/invoice-terms"
            await month.must(path, method="PUT", expect=200, net_days=5)
    await month.life.busy(_LONG)
    for each in month.people:
        if each.cards and month.draw.random() < month.size.of_regulars:
            plan = month.shelf.plans[each.plan]
            bought = await month.must("/v1/subscriptions", customer_id=each.id, plan_id=plan)
            each.subscriptions.append(bought["id"])
    await month.life.quiet()
