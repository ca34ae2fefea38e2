"""What stories of the guard share."""

from __future__ import annotations

import pytest

from tests.stories.shop import Shop

PARKED_JOB = ["billing_run.parked", "work_item.opened"]
RENEWED = [
    "subscriptions.renew_required", "invoice.finalized", "payment.succeeded", "invoice.paid",
    "subscription.renewed", "entitlement.granted",
]  # fmt: skip
DUE = "2026-02-28T10:00:00"
"""When what was bought on 31 January, 11:00 in Berlin, is due."""


async def put(shop: Shop, path, body, expect=200, **headers):
    answer = await shop.raw("PUT", path, json=body, headers=headers)
    assert answer.status_code == expect, answer.text
    return answer.json()


async def limit(shop, expect=200, **limits):
    body = {"limits": [{"currency": "EUR", **limits}], "reason": "twice a usual day"}
    return await put(shop, "/v1/billing-limits", body, expect)


async def switch(shop, job, on, **more):
    return await put(shop, f"/v1/kill-switches/{job}", {"on": on, "reason": "looks wrong"}, **more)


async def tenant_events(shop):
    """The types of events that are no customer's, since the tenant began."""
    page = await shop.get("/v1/events", limit=100)
    found = list(page["data"])
    while page["has_more"]:
        page = await shop.get("/v1/events", limit=100, cursor=page["next_cursor"])
        found += page["data"]
    wanted = ("billing_", "kill_switch", "work_item")
    return [each for each in found if each["type"].startswith(wanted)]


async def release(shop, park, expect=200, **more):
    return await shop.post(
        f"/v1/billing-parks/{park}/release", {"reason": "looked at it", **more}, expect=expect
    )


async def parks(shop):
    return (await shop.get("/v1/billing-parks"))["data"]


@pytest.fixture
async def two(shop):
    """A shop and two viewers, each with a card and a subscription of 9.99 a month, quiet."""
    plan = await shop.plan()
    viewers = []
    for name in ("ada", "bob"):
        viewer = await shop.customer(name)
        await shop.card(viewer)
        bought = await shop.subscribe(viewer, plan)
        await shop.new_events(viewer)
        viewers.append((viewer, bought["id"]))
    return shop, plan, viewers


async def version(shop, plan, amount):
    body = {"prices": [{"code": "base", "currency": "EUR", "model": "flat", "amount_minor": amount,
                        "interval": {"unit": "month", "count": 1}}]}  # fmt: skip
    await shop.post(f"/v1/plans/{plan}/versions", body)


async def forecast(shop, until=None, expect=200):
    query = {} if until is None else {"until": until}
    return await shop.get("/v1/billing-forecast", expect=expect, **query)


def one(**limit):
    """A body of one currency's limits."""
    return {"limits": [{"currency": "EUR", **limit}], "reason": "x"}
