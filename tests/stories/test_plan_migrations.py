"""A plan's price changes: who stays, who would pay what, and how many are moved, to the cent."""

from __future__ import annotations

import pytest

from tests.stories.migrations_world import (
    CHANGED,
    HALF,
    RENEWED,
    buyer,
    line,
    migrate,
    of_tenant,
    preview,
    price,
    results,
    total,
    version,
    version_of,
)

pytestmark = pytest.mark.long


# --- nobody is moved by default ------------------------------------------------------------------


async def test_a_new_version_moves_nobody_and_one_subscription_moves_by_its_own_change(shop):
    plan = await shop.plan(amounts={"EUR": 999})
    ada, first = await buyer(shop, "ada", plan)
    old = await version_of(shop, first)
    new = await version(shop, plan, price(1099))
    bob, second = await buyer(shop, "bob", plan)

    await shop.move_to("2026-03-01")
    assert [await version_of(shop, each) for each in (first, second)] == [
        old, new["plan_version_id"],
    ]  # fmt: skip
    assert await line(shop, ada) == (999, [999]), "it keeps its version and its price"
    assert await line(shop, bob) == (1099, [1099])

    await shop.post(
        f"/v1/subscriptions/{first}/change", {"plan_id": plan, "at": "period_end"}, expect=200
    )
    await shop.move_to("2026-04-01")
    assert await version_of(shop, first) == new["plan_version_id"]
    assert await line(shop, ada) == (1099, [1099])
    assert await of_tenant(shop) == []
    await shop.check()


# --- preview -------------------------------------------------------------------------------------


async def test_prices_that_are_only_thought_of_show_who_would_pay_what(shop):
    plan = await shop.plan(amounts={"EUR": 999, "USD": 1200, "JPY": 900})
    _, up = await buyer(shop, "up", plan, quantity="1")
    _, dollars = await buyer(shop, "dollars", plan, currency="USD")
    _, yen = await buyer(shop, "yen", plan, currency="JPY")
    _, waits = await buyer(shop, "waits", plan)
    other = await shop.plan("other", amounts={"EUR": 500})
    await shop.post(
        f"/v1/subscriptions/{waits}/change", {"plan_id": other, "at": "period_end"}, expect=200
    )
    _, leaves = await buyer(shop, "leaves", plan)
    await shop.post(f"/v1/subscriptions/{leaves}/cancel", {"when": "period_end"}, expect=200)
    _, gone = await buyer(shop, "gone", plan)
    await shop.post(f"/v1/subscriptions/{gone}/cancel", {"when": "now"}, expect=200)
    await shop.pump.quiet()

    found = await preview(shop, plan, prices=[price(1099), price(1100, "USD")])

    assert (found["to_version"], found["at"], found["subscriptions"], found["is_complete"]) == (
        None, "period_end", 5, True,
    )  # fmt: skip
    assert found["totals"] == [
        {"currency": "EUR", "subscriptions": 1, "up": 1, "down": 0, "same": 0,
         "difference_minor": 100, "mrr_before_minor": 999, "mrr_after_minor": 1099,
         "mrr_difference_minor": 100},
        {"currency": "USD", "subscriptions": 1, "up": 0, "down": 1, "same": 0,
         "difference_minor": -100, "mrr_before_minor": 1200, "mrr_after_minor": 1100,
         "mrr_difference_minor": -100},
    ]  # fmt: skip
    assert found["cannot_change"] == [
        {"code": "change_scheduled", "subscriptions": 1},
        {"code": "price_missing_for_currency", "subscriptions": 1},
        {"code": "subscription_ends", "subscriptions": 1},
    ]
    rows = {row["subscription_id"]: row for row in found["data"]}
    assert set(rows) == {up, dollars, yen, waits, leaves}, "who ended is not asked"
    assert {each: row["reason"] and row["reason"]["code"] for each, row in rows.items()} == {
        up: None, dollars: None, yen: "price_missing_for_currency", waits: "change_scheduled",
        leaves: "subscription_ends",
    }  # fmt: skip
    row = rows[up]
    assert (row["before_minor"], row["after_minor"], row["difference_minor"]) == (999, 1099, 100)
    assert (row["effective_at"], row["immediate_minor"], row["is_invoiced_at_once"]) == (
        "2026-02-28T10:00:00Z", 0, False,
    )  # fmt: skip
    assert (await shop.get(f"/v1/plans/{plan}"))["latest"]["version"] == 1, "nothing was saved"
    await shop.check()


async def test_now_shows_what_the_rest_of_the_period_costs_and_that_is_what_it_costs(shop):
    plan = await shop.plan(amounts={"EUR": 1000})
    ada, subscription = await buyer(shop, "ada", plan, quantity="1")
    bob, second = await buyer(shop, "bob", plan)
    await version(shop, plan, price(2000))
    await shop.move_to(HALF)

    found = await preview(shop, plan, at="now")
    for row in found["data"]:
        assert (row["before_minor"], row["after_minor"], row["immediate_minor"]) == (
            1000, 2000, 500,
        )  # fmt: skip
        assert row["is_invoiced_at_once"]
        assert not row["restarts_period"]
    later = await preview(shop, plan, at="now", settle="next_invoice")
    assert [row["is_invoiced_at_once"] for row in later["data"]] == [False, False]
    assert await shop.new_events(ada) == [], "a preview leaves no trace"

    started = await migrate(shop, plan, at="now", note="Prices of spring")
    assert (started["status"], started["progress"]["found"], started["note"]) == (
        "running", 2, "Prices of spring",
    )  # fmt: skip
    for customer, each in ((ada, subscription), (bob, second)):
        assert await shop.new_events(customer) == CHANGED
        assert await line(shop, customer) == (500, [-500, 1000])
        assert await version_of(shop, each) == started["to_plan_version_id"]
    done = await shop.get(f"/v1/plan-migrations/{started['id']}")
    assert (done["status"], done["to_version"], done["progress"]) == (
        "finished", 2,
        {"found": 2, "is_listed": True, "pending": 0, "changed": 2, "scheduled": 0,
         "skipped": 0, "failed": 0},
    )  # fmt: skip
    assert total(done) == {
        "currency": "EUR", "subscriptions": 2, "up": 2, "down": 0, "same": 0,
        "difference_minor": 2000, "mrr_before_minor": 2000, "mrr_after_minor": 4000,
        "mrr_difference_minor": 2000, "immediate_minor": 1000,
    }  # fmt: skip
    assert await of_tenant(shop) == ["plan_migration.started", "plan_migration.finished"]
    assert await shop.captured() == {"EUR": 2 * 1000 + 2 * 500}
    await shop.move_to("2026-03-01")
    assert await shop.new_events(ada) == RENEWED
    assert await line(shop, ada) == (2000, [2000])
    await shop.check()


async def test_mrr_of_other_intervals_is_a_fraction_until_the_end(shop):
    """Yearly 100.00 counts 8.33…: three of them 25.00, and 3.00 a week 13.00."""
    plan = await shop.plan(amounts={"EUR": 10000}, unit="year")
    bought = [await buyer(shop, f"y{n}", plan) for n in range(3)]
    found = await preview(shop, plan, prices=[price(300, unit="week")])
    assert total(found) == {
        "currency": "EUR", "subscriptions": 3, "up": 3, "down": 0, "same": 0,
        "difference_minor": 0, "mrr_before_minor": 2500, "mrr_after_minor": 3900,
        "mrr_difference_minor": 1400,
    }  # fmt: skip
    assert {row["subscription_id"] for row in found["data"]} == {each for _, each in bought}
    for row in found["data"]:
        assert row["difference_minor"] is None, "a year and a week are not the same period"
        assert (row["before_interval"], row["after_interval"]) == (
            {"unit": "year", "count": 1}, {"unit": "week", "count": 1},
        )  # fmt: skip
    one = total(await preview(shop, plan, prices=[price(10001, unit="year")]))
    assert (one["difference_minor"], one["mrr_before_minor"], one["mrr_after_minor"]) == (
        3, 2500, 2500,
    )  # fmt: skip
    assert (one["up"], one["mrr_difference_minor"]) == (3, 0), "a quarter of a cent a month"
    both = await preview(shop, plan, prices=[price(500), price(4000, unit="year", code="care")])
    row = both["data"][0]
    assert (row["after_minor"], row["after_interval"]) == (10000, {"unit": "month", "count": 12})
    assert row["difference_minor"] == 0, "a year is twelve months"
    assert total(both)["same"] == 3
    monthly = total(await preview(shop, plan, at="now", prices=[price(1000)]))
    assert (monthly["up"], monthly["mrr_after_minor"]) == (3, 3000)
    assert (await preview(shop, plan, at="now", prices=[price(1000)]))["data"][0]["restarts_period"]
    await shop.check()


async def test_discounts_count_on_both_sides_as_long_as_they_hold(shop):
    plan = await shop.plan(amounts={"EUR": 1000})
    off = [
        (await shop.post("/v1/discounts", {"code": code, "name": code, "percent": "50", **more}))[
            "id"
        ]
        for code, more in (
            ("once", {"duration": "once"}), ("ever", {"duration": "forever"}),
        )
    ]  # fmt: skip
    _, once = await buyer(shop, "once", plan, discount_ids=[off[0]])
    _, ever = await buyer(shop, "ever", plan, discount_ids=[off[1]])
    found = await preview(shop, plan, prices=[price(2000)])
    assert {row["subscription_id"]: (row["before_minor"], row["after_minor"])
            for row in found["data"]} == {once: (1000, 2000), ever: (500, 1000)}  # fmt: skip
    assert (total(found)["mrr_before_minor"], total(found)["mrr_after_minor"]) == (1500, 3000)
    upcoming = await shop.get(f"/v1/subscriptions/{ever}/upcoming-invoice")
    assert upcoming["total_minor"] == 500, "the renewal says the same"


async def test_one_discount_taken_from_one_goes_on_for_another(shop):
    """Alike but for the end of a discount: never one computation for both."""
    plan = await shop.plan(amounts={"EUR": 1000})
    off = await shop.post(
        "/v1/discounts", {"code": "off", "name": "Off", "percent": "50", "duration": "forever"}
    )
    _, stays = await buyer(shop, "stays", plan, discount_ids=[off["id"]])
    _, ends = await buyer(shop, "ends", plan, discount_ids=[off["id"]])
    taken = await shop.raw("DELETE", f"/v1/subscriptions/{ends}/discounts/{off['id']}")
    assert taken.status_code < 300, taken.text
    found = await preview(shop, plan, prices=[price(2000)])
    assert {row["subscription_id"]: (row["before_minor"], row["after_minor"])
            for row in found["data"]} == {ends: (1000, 2000), stays: (500, 1000)}  # fmt: skip
    assert (total(found)["mrr_before_minor"], total(found)["mrr_after_minor"]) == (1500, 3000)


async def test_a_trial_moves_when_it_is_over_and_costs_nothing_before(shop):
    plan = await shop.plan(amounts={"EUR": 1000})
    ada, subscription = await buyer(
        shop, "ada", plan, trial_days=14, billing_anchor={"kind": "calendar"}
    )
    assert await shop.status(subscription) == "trialing"
    found = await preview(shop, plan, prices=[price(2000)])
    row = found["data"][0]
    assert (row["reason"], row["before_minor"], row["after_minor"]) == (None, 1000, 2000)
    weekly = await preview(shop, plan, prices=[price(300, unit="week")])
    assert weekly["data"][0]["after_minor"] == 300
    await version(shop, plan, price(2000))
    started = await migrate(shop, plan)
    await shop.pump.quiet()
    assert await results(shop, started["id"]) == {subscription: ("scheduled", None)}
    await shop.move_to("2026-03-02")
    assert await version_of(shop, subscription) == started["to_plan_version_id"]
    assert await line(shop, ada) == (2000, [2000]), "March, a calendar month"
    await shop.check()


async def test_a_preview_comes_in_pages_with_the_sums_on_each(shop):
    plan = await shop.plan(amounts={"EUR": 1000})
    bought = sorted([(await buyer(shop, f"c{n}", plan))[1] for n in range(5)])
    await version(shop, plan, price(900))
    seen, cursor = [], ""
    while True:
        found = await shop.post(f"/v1/plans/{plan}/preview-change?limit=2{cursor}", {}, expect=200)
        seen.append([row["subscription_id"] for row in found["data"]])
        assert (total(found)["down"], total(found)["mrr_difference_minor"]) == (5, -500)
        if not found["has_more"]:
            break
        cursor = f"&cursor={found['next_cursor']}"
    assert [len(each) for each in seen] == [2, 2, 1]
    assert sorted(each for one in seen for each in one) == bought
    only = await preview(shop, plan, from_version=2, prices=[price(1)])
    assert (only["subscriptions"], only["data"], only["totals"]) == (0, [], [])


# --- migration -----------------------------------------------------------------------------------


async def test_at_the_periods_end_each_is_moved_when_its_paid_period_is_over(shop):
    plan = await shop.plan(amounts={"EUR": 1000})
    ada, first = await buyer(shop, "ada", plan)
    new = await version(shop, plan, price(1500))

    started = await migrate(shop, plan)
    assert await shop.new_events(ada) == ["subscription.changed"]
    assert await results(shop, started["id"]) == {first: ("scheduled", None)}
    scheduled = (await shop.get(f"/v1/subscriptions/{first}"))["scheduled_change"]
    assert scheduled["effective_at"] == "2026-02-28T10:00:00Z"
    newer = await version(shop, plan, price(9000))
    assert newer["version"] == 3

    await shop.move_to("2026-03-01")

    assert await shop.new_events(ada) == [
        "subscriptions.change_required", "subscription.changed", *RENEWED,
    ]  # fmt: skip
    assert await version_of(shop, first) == new["plan_version_id"], "as previewed, not the newest"
    assert await line(shop, ada) == (1500, [1500])
    done = await shop.get(f"/v1/plan-migrations/{started['id']}")
    assert (total(done)["mrr_difference_minor"], total(done)["immediate_minor"]) == (500, 0)
    await shop.check()


async def test_what_people_decided_is_not_overwritten(shop):
    plan = await shop.plan(amounts={"EUR": 1000, "JPY": 900})
    other = await shop.plan("other", amounts={"EUR": 300})
    await shop.post(f"/v1/plans/{other}/versions", {"prices": [price(400)]})
    bought = {
        name: (await buyer(shop, name, plan))[1] for name in ("moved", "waits", "left", "quits")
    }
    _, bought["yen"] = await buyer(shop, "yen", plan, currency="JPY")
    unpaid = await shop.customer("unpaid")
    bought["unpaid"] = (
        await shop.post(
            "/v1/subscriptions",
            {"customer_id": unpaid, "plan_id": plan, "collection": "page",
             "return_url": "http://shop.test/x"},
        )
    )["id"]  # fmt: skip
    await shop.pump.quiet()
    new = await version(shop, plan, price(1100))
    await shop.post(
        f"/v1/subscriptions/{bought['waits']}/change", {"plan_id": other, "at": "period_end"},
        expect=200,
    )  # fmt: skip

    answer = await shop.api.post("/v1/plan-migrations", json={"plan_id": plan, "at": "now"})
    started = answer.json()
    assert (started["status"], started["progress"]["pending"]) == ("running", 6)
    # Meanwhile, before any batch was worked on:
    for name, path, body in (
        ("left", "change", {"plan_id": other}), ("quits", "cancel", {"when": "now"}),
    ):  # fmt: skip
        answer = await shop.api.post(f"/v1/subscriptions/{bought[name]}/{path}", json=body)
        assert answer.status_code == 200, answer.text
    await shop.pump.quiet()

    found = await results(shop, started["id"])
    assert {name: found[each] for name, each in bought.items()} == {
        "moved": ("changed", None),
        "waits": ("skipped", "change_scheduled"),
        "left": ("skipped", "version_left"),
        "quits": ("skipped", "subscription_ended"),
        "yen": ("failed", "price_missing_for_currency"),
        "unpaid": ("skipped", "subscription_not_active"),
    }
    assert set(await results(shop, started["id"], outcome="skipped")) == {
        bought[each] for each in ("waits", "left", "quits", "unpaid")
    }
    assert await version_of(shop, bought["moved"]) == new["plan_version_id"]
    waiting = await shop.get(f"/v1/subscriptions/{bought['waits']}")
    assert waiting["scheduled_change"]["plan_id"] == other
    done = await shop.get(f"/v1/plan-migrations/{started['id']}")
    assert done["progress"] == {
        "found": 6, "is_listed": True, "pending": 0, "changed": 1, "scheduled": 0, "skipped": 4,
        "failed": 1,
    }  # fmt: skip
    assert [each["currency"] for each in done["totals"]] == ["EUR"]
    assert total(done)["subscriptions"] == 1
    await shop.check()


async def test_another_plan_with_another_interval_and_credit_for_what_is_unused(shop):
    basic = await shop.plan("basic", amounts={"EUR": 1000})
    yearly = await shop.plan("yearly", amounts={"EUR": 9000}, unit="year", resources=("film:z",))
    ada, subscription = await buyer(shop, "ada", basic)
    await shop.move_to(HALF)
    found = await preview(shop, basic, to_plan_id=yearly, at="now")
    assert found["data"][0]["immediate_minor"] == 9000 - 500
    assert total(found)["mrr_difference_minor"] == 750 - 1000

    started = await migrate(shop, basic, to_plan_id=yearly, at="now")

    assert sorted(await shop.new_events(ada)) == sorted(
        [*CHANGED, "entitlement.granted", "entitlement.revoked"]
    )
    assert await line(shop, ada) == (8500, [-500, 9000])
    assert (await shop.access(ada, "film:z"))["allowed"]
    moved = await shop.get(f"/v1/subscriptions/{subscription}")
    assert (moved["plan_id"], moved["current_period_end_at"]) == (yearly, "2027-02-14T10:00:00Z")
    done = await shop.get(f"/v1/plan-migrations/{started['id']}")
    assert (total(done)["down"], total(done)["difference_minor"]) == (1, 0)
    assert total(done)["immediate_minor"] == 8500
    await shop.check()


async def test_what_the_bank_has_not_paid_is_refused_alone_and_can_be_tried_again(shop):
    """Credit is given for what was paid: who still owes an invoice stays, the others move."""
    plan = await shop.plan(amounts={"EUR": 1000})
    _, pays = await buyer(shop, "pays", plan)
    poor, owes = await buyer(shop, "poor", plan)
    await shop.card(poor, "insufficient_funds:2")
    await shop.move_to("2026-03-01")
    assert await shop.status(owes) == "past_due"
    await version(shop, plan, price(500))
    found = await preview(shop, plan, at="now", settle="now")
    assert {row["subscription_id"]: row["reason"] and row["reason"]["code"]
            for row in found["data"]} == {pays: None, owes: "invoice_still_open"}  # fmt: skip

    started = await migrate(shop, plan, at="now", settle="now")
    await shop.pump.quiet()
    assert await results(shop, started["id"]) == {
        pays: ("changed", None), owes: ("failed", "invoice_still_open"),
    }  # fmt: skip
    await shop.check()
    await shop.move_to("2026-03-20")
    assert await shop.status(owes) == "active"
    again = await migrate(shop, plan, at="now", settle="now")
    await shop.pump.quiet()
    assert await results(shop, again["id"]) == {owes: ("changed", None)}
    await shop.check()
