"""What stories of plan migrations share."""

from __future__ import annotations

HALF = "2026-02-14T10:00:00"
"""Fourteen of the twenty-eight days from 31 January, 11:00 in Berlin."""
RENEWED = [
    "subscriptions.renew_required", "invoice.finalized", "payment.succeeded", "invoice.paid",
    "subscription.renewed", "entitlement.granted",
]  # fmt: skip
CHANGED = ["subscription.changed", "invoice.finalized", "payment.succeeded", "invoice.paid"]


def price(amount, currency="EUR", unit="month", count=1, code="base"):
    return {"code": code, "currency": currency, "model": "flat", "amount_minor": amount,
            "interval": {"unit": unit, "count": count}}  # fmt: skip


async def version(shop, plan, *prices):
    return (await shop.post(f"/v1/plans/{plan}/versions", {"prices": list(prices)}))["latest"]


async def buyer(shop, name, plan, *, currency="EUR", **more):
    customer = await shop.customer(name, currency=currency)
    await shop.card(customer)
    bought = await shop.subscribe(customer, plan, **more)
    await shop.new_events(customer)
    return customer, bought["id"]


async def preview(shop, plan, expect=200, limit=100, **body):
    return await shop.post(f"/v1/plans/{plan}/preview-change?limit={limit}", body, expect=expect)


async def migrate(shop, plan, expect=201, **body):
    return await shop.post("/v1/plan-migrations", {"plan_id": plan, **body}, expect=expect)


async def results(shop, migration, **query):
    page = await shop.get(f"/v1/plan-migrations/{migration}/results", limit=100, **query)
    return {
        row["subscription_id"]: (row["outcome"], row["reason"] and row["reason"]["code"])
        for row in page["data"]
    }


async def of_tenant(shop):
    """The facts of migrations, which belong to no account."""
    found, cursor = [], {}
    while True:
        page = await shop.get("/v1/events", limit=100, **cursor)
        found += [row for row in page["data"] if row["type"].startswith("plan_migration.")]
        if not page["has_more"]:
            return [row["type"] for row in found]
        cursor = {"cursor": page["next_cursor"]}


async def version_of(shop, subscription):
    return (await shop.get(f"/v1/subscriptions/{subscription}"))["plan_version_id"]


async def line(shop, customer):
    invoice = await shop.last_invoice(customer)
    whole = await shop.get(f"/v1/invoices/{invoice['id']}")
    return whole["total_minor"], [each["net_minor"] for each in whole["lines"]]


def step_of(shop):
    [step] = [each for each in shop.assembly.steps if each.name == "billing.migrate_plans"]
    return step


def total(found):
    [only] = found["totals"]
    return only
