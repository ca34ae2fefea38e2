"""What would be billed, before it is; and what the guard's routes refuse."""

from __future__ import annotations

import pytest

from tests.stories.guarding import (
    DUE,
    forecast,
    limit,
    one,
    parks,
    put,
    release,
    switch,
    two,
    version,
)

pytestmark = pytest.mark.long

__all__ = ["two"]

NOTHING = {"count": 0, "total_minor": 0, "average_minor": 0, "largest_minor": 0}


async def test_the_forecast_is_what_is_billed_later(two):
    shop, plan, [(ada, first), (_, second)] = two
    await limit(shop, total_minor=5000, largest_minor=9000)
    await version(shop, plan, 9990)
    for subscription in (first, second):
        await shop.post(
            f"/v1/subscriptions/{subscription}/change",
            {"plan_id": plan, "at": "period_end"},
            expect=200,
        )
    await shop.move_to("2026-02-27T12:00:00")
    before = await shop.new_events(ada)

    seen = await forecast(shop)

    assert seen["until_at"] == "2026-02-28T12:00:00Z"
    assert (seen["subscriptions"], seen["computed_subscriptions"]) == (2, 2)
    assert (seen["is_estimate"], seen["refused_subscriptions"], seen["changes_left_out"]) == (
        False, 0, 0,
    )  # fmt: skip
    [euro] = seen["currencies"]
    assert (euro["count"], euro["total_minor"], euro["average_minor"]) == (2, 19980, 9990)
    assert euro["largest_minor"] == 9990
    assert euro["largest_subscription_id"] in {first, second}
    assert euro["before"] == NOTHING
    [day] = euro["days"]
    assert day["day"] == "2026-02-28"
    assert day["billed"] == NOTHING
    assert day["beyond"] == [
        {"limit": "total_minor", "most": 5000, "would_be": 19980},
        {"limit": "largest_minor", "most": 9000, "would_be": 9990},
    ]
    assert await shop.new_events(ada) == [], "a forecast leaves no trace"
    assert before != []
    await limit(shop)
    await shop.move_to("2026-02-28T12:00:00")
    assert await shop.captured() == {"EUR": 2 * 999 + 2 * 9990}
    later = await forecast(shop, "2026-04-30T11:00:00Z")
    [euro] = later["currencies"]
    assert euro["before"] == {
        "count": 4, "total_minor": 2 * 999 + 2 * 9990, "average_minor": 5494,
        "largest_minor": 9990,
    }  # fmt: skip
    assert [(day["day"], day["count"], day["total_minor"]) for day in euro["days"]] == [
        ("2026-03-31", 2, 19980), ("2026-04-30", 2, 19980),
    ]  # fmt: skip
    await shop.move_to("2026-04-30T11:00:00")
    assert await shop.captured() == {"EUR": 2 * 999 + 6 * 9990}
    await shop.check()


async def test_the_forecast_counts_discounts_cancellations_and_changes_that_wait(shop):
    plan = await shop.plan()
    off = await shop.post(
        "/v1/discounts",
        {"code": "half", "name": "Half", "percent": "50", "duration": "periods", "periods": 2},
    )
    ada = await shop.customer("ada")
    await shop.card(ada)
    bought = await shop.subscribe(ada, plan, discount_ids=[off["id"]])
    leaving = await shop.subscribe(ada, plan)
    await shop.post(f"/v1/subscriptions/{leaving['id']}/cancel", {"when": "period_end"}, expect=200)
    yearly = await shop.plan("yearly", amounts={"EUR": 9900}, unit="year")
    changing = await shop.subscribe(ada, plan)
    await shop.post(
        f"/v1/subscriptions/{changing['id']}/change",
        {"plan_id": yearly, "at": "period_end"},
        expect=200,
    )
    seen = await forecast(shop, "2026-03-31T09:00:00Z")
    [euro] = seen["currencies"]
    assert [(day["day"], day["count"], day["total_minor"]) for day in euro["days"]] == [
        ("2026-02-28", 2, 499 + 9900), ("2026-03-31", 1, 999),
    ]  # fmt: skip
    assert euro["days"][0]["largest_subscription_id"] == changing["id"]
    spent = (await shop.captured())["EUR"]
    await shop.move_to("2026-03-31T09:00:00")
    assert (await shop.captured())["EUR"] - spent == euro["total_minor"]
    assert bought["id"] != leaving["id"]
    await shop.check()


async def test_the_forecast_knows_what_is_held_and_what_the_day_has_billed(two):
    shop, _, _ = two
    await limit(shop, count=2)
    await switch(shop, "renewals", True)
    await shop.move_to(DUE)
    eve = await shop.customer("eve")
    await shop.card(eve)
    await shop.subscribe(eve, shop.plans["basic"])
    [euro] = (await forecast(shop))["currencies"]
    [day] = euro["days"]
    assert (day["day"], day["count"], day["billed"]["count"]) == ("2026-02-28", 2, 1)
    assert day["beyond"] == [{"limit": "count", "most": 2, "would_be": 3}]
    await switch(shop, "renewals", False)
    await shop.pump.quiet()
    assert [each["status"] for each in await parks(shop)] == ["parked"]
    await shop.check()


async def test_the_forecast_holds_what_begins_and_names_what_it_leaves_out(shop):
    plan = await shop.plan()
    ada = await shop.customer("ada")
    await shop.card(ada)
    await shop.subscribe(ada, plan, start_at="2026-02-10T10:00:00Z")
    await shop.subscribe(ada, plan, trial_days=14)
    await shop.subscribe(ada, plan, start_at="2026-02-10T10:00:00Z", trial_days=90)
    leaving = await shop.subscribe(ada, plan)
    path = f"/v1/subscriptions/{leaving['id']}"
    await shop.post(f"{path}/cancel", {"at": "2026-02-20T10:00:00Z"}, expect=200)
    resting = await shop.subscribe(ada, plan)
    path = f"/v1/subscriptions/{resting['id']}"
    await shop.post(f"{path}/pause", {"at": "2026-02-16T10:00:00Z", "credit": "none"}, expect=200)
    page = {"collection": "page", "return_url": "http://shop.test/x"}
    await shop.post("/v1/subscriptions", {"customer_id": ada, "plan_id": plan, **page})

    seen = await forecast(shop, "2026-02-25T00:00:00Z")

    [euro] = seen["currencies"]
    assert [(day["day"], day["count"], day["total_minor"]) for day in euro["days"]] == [
        ("2026-02-10", 1, 999), ("2026-02-14", 1, 999),
    ]  # fmt: skip
    assert (seen["subscriptions"], seen["first_invoices"]) == (3, 2)
    assert {each["what"]: each["count"] for each in seen["left_out"]} == {
        "purchases": None, "usage": None, "unpaid_purchases": 1, "parked": 0, "endings": 1,
        "pauses": 1, "changes": 0,
    }  # fmt: skip
    spent = (await shop.captured())["EUR"]
    await shop.move_to("2026-02-15")
    assert (await shop.captured())["EUR"] - spent == euro["total_minor"]
    await shop.check()


# --- wrong input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (one(total_minor=-1), "/limits/0/total_minor"),
        (one(total_minor=1.5), "/limits/0/total_minor"),
        (one(count="3"), "/limits/0/count"),
        (one(currency="XXQ"), "/limits/0/currency"),
        ({"limits": [{"currency": "EUR"}, {"currency": "EUR"}], "reason": "x"}, "/limits"),
        ({"limits": []}, "/reason"),
        ({"limits": [], "reason": "  "}, "/reason"),
        ({"limits": [], "reason": "x" * 501}, "/reason"),
        ({"limits": [], "reason": "x", "more": 1}, "/more"),
    ],
)  # fmt: skip
async def test_limits_that_cannot_be_are_refused(shop, body, pointer):
    refused = await put(shop, "/v1/billing-limits", body, 422)
    assert (refused["code"], refused["pointer"]) == ("invalid_request", pointer)
    assert (await shop.get("/v1/billing-limits")) == {"limits": []}
    assert (await shop.get("/v1/billing-guard-changes"))["data"] == []


async def test_wrong_moments_jobs_parks_and_keys_are_refused(shop):
    for until in ("2026-01-31T09:59:59Z", "2027-03-08T10:00:00Z", "tomorrow"):
        assert (await forecast(shop, until, 422))["pointer"] == "/query/until"
    for job in ("refunds", "everything"):
        refused = await put(shop, f"/v1/kill-switches/{job}", {"on": True, "reason": "x"}, 404)
        assert refused["code"] == "not_found"
    refused = await put(shop, "/v1/kill-switches/renewals", {"on": "yes", "reason": "x"}, 422)
    assert refused["pointer"] == "/on"
    nobody = "park_01h455vb4pex5vsknk084sn02q"
    assert (await release(shop, nobody, 404))["code"] == "not_found"
    key = {"Idempotency-Key": "limits"}
    body = {"limits": [{"currency": "JPY", "total_minor": 5}], "reason": "x"}
    first = await put(shop, "/v1/billing-limits", body, **key)
    await put(shop, "/v1/billing-limits", {"limits": [], "reason": "y"})
    assert await put(shop, "/v1/billing-limits", body, **key) != first, "it says how it is now"
    other = await put(shop, "/v1/billing-limits", body | {"reason": "z"}, 422, **key)
    assert other["code"] == "idempotency_key_reused"
    assert len((await shop.get("/v1/billing-guard-changes"))["data"]) == 2
