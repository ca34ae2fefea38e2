"""What stories of the calendar share: plans of one price, buyers, what they are billed."""

from __future__ import annotations

PAID = ["invoice.finalized", "payment.succeeded", "invoice.paid"]
BOUGHT = ["subscription.created", *PAID, "subscription.activated", "entitlement.granted"]
RENEWED = ["subscriptions.renew_required", *PAID, "subscription.renewed", "entitlement.granted"]
TRIED = ["subscription.created", "subscription.trial_started", "entitlement.granted"]
CONVERTED = [
    "subscriptions.renew_required", "subscription.trial_ended", *PAID, "subscription.activated",
    "entitlement.granted",
]  # fmt: skip
LAPSED = ["subscriptions.renew_required", "subscription.canceled", "entitlement.revoked"]
ENDED = ["subscription.canceled", "entitlement.revoked"]


async def sold(shop, code="basic", *, amount=3100, unit="month", count=1, **more):
    """A plan of one price for each unit."""
    product = await shop.post(
        "/v1/products", {"code": code, "name": code.title(), "resources": ["film:a"]}
    )
    price = {"code": "base", "currency": "EUR", "model": "per_unit", "unit_amount": str(amount),
             "interval": {"unit": unit, "count": count}}  # fmt: skip
    body = {"code": code, "name": code.title(), "product_id": product["id"], "prices": [price]}
    return (await shop.post("/v1/plans", body | more))["id"]


async def ready(shop, *, timezone="Europe/Berlin", card=True, **plan):
    """A plan, and a customer with a card and nothing told yet."""
    made = await sold(shop, **plan)
    viewer = await shop.customer(timezone=timezone)
    if card:
        await shop.card(viewer)
    await shop.new_events(viewer)
    return made, viewer


async def lines(shop, viewer):
    invoice = await shop.last_invoice(viewer)
    whole = await shop.get(f"/v1/invoices/{invoice['id']}")
    return [
        (line["kind"], line["net_minor"], line["service_start_at"], line["service_end_at"])
        for line in whole["lines"]
    ]


async def period(shop, subscription):
    found = await shop.get(f"/v1/subscriptions/{subscription}")
    return found["current_period_start_at"], found["current_period_end_at"]


async def act(shop, subscription, verb, body, expect=200):
    return await shop.post(f"/v1/subscriptions/{subscription}/{verb}", body, expect=expect)
