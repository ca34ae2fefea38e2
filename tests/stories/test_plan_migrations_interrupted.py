"""Migrations that are stopped, fail half-way, are asked for twice or wrongly: nothing is lost."""

from __future__ import annotations

import pytest

from subledger.platform import crashpoints
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
    step_of,
    version,
    version_of,
)

pytestmark = pytest.mark.long


# --- interrupted ---------------------------------------------------------------------------------


@pytest.fixture
async def seven(shop):
    """Seven subscriptions at 10.00 on a plan whose second version costs 12.00; half a period on."""
    plan = await shop.plan(amounts={"EUR": 1000})
    bought = [await buyer(shop, f"c{n}", plan) for n in range(7)]
    await version(shop, plan, price(1200))
    await shop.move_to(HALF)
    for customer, _ in bought:
        await shop.new_events(customer)
    return shop, plan, bought


async def start_only(shop, plan):
    """Start it, and let no step run meanwhile."""
    answer = await shop.api.post("/v1/plan-migrations", json={"plan_id": plan, "at": "now"})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


async def progress(shop, migration):
    """Asked while no step runs."""
    found = (await shop.api.get(f"/v1/plan-migrations/{migration}")).json()
    return found["status"], found["progress"]["changed"], found["progress"]["pending"]


async def turn(shop, migration, way):
    return await shop.api.post(f"/v1/plan-migrations/{migration}/{way}")


async def assert_each_once(shop, bought, migration):
    await shop.pump.quiet()
    assert await progress(shop, migration) == ("finished", 7, 0)
    for customer, _ in bought:
        assert await shop.new_events(customer) == CHANGED
        assert await line(shop, customer) == (100, [-500, 600])
    assert await shop.captured() == {"EUR": 7 * 1000 + 7 * 100}
    await shop.check()


async def test_stopped_between_batches_it_goes_on_where_it_was(seven):
    shop, plan, bought = seven
    migration, step = await start_only(shop, plan), step_of(shop)
    assert await step.run(3) == 3
    assert await progress(shop, migration) == ("running", 3, 4)
    assert await step.run(2) == 2
    assert await progress(shop, migration) == ("running", 5, 2)
    await assert_each_once(shop, bought, migration)
    assert await step.run(3) == 0


@pytest.mark.parametrize("place", ["before_commit", "after_commit"])
async def test_a_process_that_dies_in_a_batch_loses_nothing_and_repeats_nothing(seven, place):
    shop, plan, bought = seven
    migration, step = await start_only(shop, plan), step_of(shop)
    deaths = []

    def die(point):
        if point.name == f"billing.migrate_plans.{place}" and point.hits in {2, 3}:
            deaths.append(point.hits)
            raise crashpoints.Crashed(point.name)

    crashpoints.install(die)
    try:
        assert await step.run(3) == 3
        for _ in range(2):
            with pytest.raises(crashpoints.Crashed):
                await step.run(3)
    finally:
        crashpoints.install(None)
    assert deaths == [2, 3]
    changed = {"before_commit": 3, "after_commit": 7}[place]
    assert await progress(shop, migration) == ("running", changed, 7 - changed)
    await assert_each_once(shop, bought, migration)


async def test_one_that_fails_inside_is_undone_alone(seven, monkeypatch):
    """A fault in the middle of one change leaves no phase, invoice or fact of it behind."""
    from subledger.services.billing.store import subscriptions

    shop, plan, bought = seven
    migration, (victim, subscription) = await start_only(shop, plan), bought[3]
    real = subscriptions.change_subscriptions

    async def breaks(tx, rows):
        from subledger.platform import ids

        if ids.text("sub", rows[0]["id"]) == subscription:
            raise RuntimeError("a fault of ours")
        await real(tx, rows)

    monkeypatch.setattr(subscriptions, "change_subscriptions", breaks)
    await shop.pump.quiet()
    monkeypatch.undo()

    found = await results(shop, migration)
    assert found.pop(subscription) == ("failed", "internal_error")
    assert set(found.values()) == {("changed", None)}
    assert await shop.new_events(victim) == []
    assert (await shop.last_invoice(victim))["total_minor"] == 1000
    await shop.check()
    again = await start_only(shop, plan)
    await shop.pump.quiet()
    assert await results(shop, again) == {subscription: ("changed", None)}
    assert await shop.new_events(victim) == CHANGED
    await shop.check()


async def test_pause_resume_and_cancel_leave_alone_what_is_not_done(seven):
    shop, plan, bought = seven
    migration, step = await start_only(shop, plan), step_of(shop)
    assert await step.run(2) == 2
    assert (await turn(shop, migration, "pause")).json()["status"] == "paused"
    assert await step.run(2) == 0
    assert await progress(shop, migration) == ("paused", 2, 5)
    again = await turn(shop, migration, "pause")
    assert (again.status_code, again.json()["code"]) == (409, "plan_migration_status")
    move = await shop.move_to("2026-02-15")
    assert [each["what"] for each in move["result"]["waits"]] == [
        "billing's migrations: plan migrations paused"
    ]
    assert await progress(shop, migration) == ("paused", 2, 5), "time passes beside it"

    assert (await turn(shop, migration, "resume")).json()["status"] == "running"
    assert await step.run(1) == 1
    assert (await turn(shop, migration, "cancel")).json()["status"] == "canceled"
    await shop.pump.quiet()
    assert await progress(shop, migration) == ("canceled", 3, 4)
    for way in ("pause", "resume", "cancel"):
        answer = await turn(shop, migration, way)
        assert (answer.status_code, answer.json()["code"]) == (409, "plan_migration_status")
    assert sorted((await results(shop, migration)).values(), key=str) == [
        *[("changed", None)] * 3, *[("pending", None)] * 4,
    ]  # fmt: skip
    assert await of_tenant(shop) == [
        f"plan_migration.{each}" for each in ("started", "paused", "resumed", "canceled")
    ]
    told = [await shop.new_events(customer) for customer, _ in bought]
    assert sorted(told) == [*[[]] * 4, *[CHANGED] * 3]
    await shop.check()


async def test_a_clock_waits_for_a_migration_that_runs(seven):
    """What was started on 14 February is done on 14 February, before March is billed."""
    shop, plan, bought = seven
    migration = await start_only(shop, plan)
    await shop.move_to("2026-03-01")
    assert (await progress(shop, migration))[:2] == ("finished", 7)
    done = await shop.get(f"/v1/plan-migrations/{migration}")
    assert done["ended_at"] == "2026-02-14T10:00:00Z"
    for customer, _ in bought:
        assert await shop.new_events(customer) == [*CHANGED, *RENEWED]
        assert await line(shop, customer) == (1200, [1200])
    await shop.check()


async def test_thousands_are_listed_in_parts(shop, monkeypatch):
    from subledger.services.billing.usecases import migrate_plans

    monkeypatch.setattr(migrate_plans, "LISTED_AT_ONCE", 2)
    plan = await shop.plan(amounts={"EUR": 1000})
    bought = [await buyer(shop, f"c{n}", plan) for n in range(5)]
    await version(shop, plan, price(1200))
    answer = await shop.api.post("/v1/plan-migrations", json={"plan_id": plan, "at": "now"})
    begun = answer.json()["progress"]
    assert (begun["found"], begun["is_listed"]) == (2, False)
    await shop.pump.quiet()
    done = await shop.get(f"/v1/plan-migrations/{answer.json()['id']}")
    assert (done["status"], done["progress"]["found"], done["progress"]["changed"]) == (
        "finished", 5, 5,
    )  # fmt: skip
    assert await results(shop, done["id"]) == {each: ("changed", None) for _, each in bought}
    await shop.check()


# --- wrong inputs --------------------------------------------------------------------------------


async def test_what_cannot_be_migrated_is_refused_and_nothing_happens(shop):
    plan = await shop.plan(amounts={"EUR": 1000})
    yen = await shop.plan("yen", amounts={"JPY": 900})
    ada, _ = await buyer(shop, "ada", plan)
    nobody = "plan_01h455vb4pex5vsknk084sn02q"
    for body, code, pointer in (
        ({"plan_id": nobody}, "unknown_reference", "/plan_id"),
        ({"plan_id": plan, "to_plan_id": nobody}, "unknown_reference", "/to_plan_id"),
        ({"plan_id": plan, "from_version": 7}, "unknown_reference", "/from_version"),
        ({"plan_id": plan, "to_version": 7}, "unknown_reference", "/to_version"),
        ({"plan_id": plan}, "nothing_to_change", None),
        ({"plan_id": plan, "from_version": 1, "to_version": 1}, "nothing_to_change", None),
        ({"plan_id": plan, "to_plan_id": yen}, "price_missing_for_currency", "/to_plan_id"),
        ({"plan_id": plan, "at": "tomorrow"}, "invalid_request", "/at"),
        ({"plan_id": plan, "from_version": 0}, "invalid_request", "/from_version"),
        ({"plan_id": plan, "note": "x" * 501}, "invalid_request", "/note"),
        ({}, "invalid_request", "/plan_id"),
    ):  # fmt: skip
        answer = await shop.post("/v1/plan-migrations", body, expect=422)
        assert (answer["code"], answer.get("pointer")) == (code, pointer), body
    for body, code in (
        ({}, "nothing_to_change"),
        ({"to_version": 1, "prices": [price(1)]}, "invalid_request"),
        ({"prices": [price(1), price(2)]}, "duplicate_price"),
        ({"prices": [price(1), price(2, unit="week", code="b")]}, "mixed_intervals"),
        ({"prices": []}, "invalid_request"),
    ):
        assert (await preview(shop, plan, expect=422, **body))["code"] == code, body
    assert (await preview(shop, nobody, expect=404))["code"] == "not_found"
    missing = "mig_01h455vb4pex5vsknk084sn02q"
    assert (await shop.get(f"/v1/plan-migrations/{missing}", expect=404))["code"] == "not_found"
    await shop.post(f"/v1/plan-migrations/{missing}/cancel", expect=404)
    assert (await shop.get("/v1/plan-migrations"))["data"] == []
    assert await shop.new_events(ada) == []
    assert await of_tenant(shop) == []
    await shop.check()


async def test_one_migration_at_a_time_touches_a_plan(shop):
    plan = await shop.plan(amounts={"EUR": 1000})
    other = await shop.plan("other", amounts={"EUR": 2000})
    await buyer(shop, "ada", plan)
    await version(shop, plan, price(1100))
    started = await start_only(shop, plan)
    for body in ({"plan_id": plan}, {"plan_id": plan, "to_plan_id": other},
                 {"plan_id": other, "to_plan_id": plan}):  # fmt: skip
        answer = await shop.api.post("/v1/plan-migrations", json=body)
        assert (answer.status_code, answer.json()["code"]) == (409, "plan_migration_open")
        assert started in answer.json()["detail"]
    await shop.pump.quiet()
    second = await migrate(shop, plan, to_plan_id=other)
    listed = await shop.get("/v1/plan-migrations", limit=1)
    assert (listed["data"][0]["id"], listed["has_more"]) == (second["id"], True)
    rest = await shop.get("/v1/plan-migrations", limit=1, cursor=listed["next_cursor"])
    assert [each["id"] for each in rest["data"]] == [started]
    await shop.check()


async def test_the_same_request_twice_is_one_migration(shop):
    plan = await shop.plan(amounts={"EUR": 1000})
    ada, _ = await buyer(shop, "ada", plan)
    await version(shop, plan, price(1100))
    first = await shop.post("/v1/plan-migrations", {"plan_id": plan}, Idempotency_Key="spring")
    again = await shop.post("/v1/plan-migrations", {"plan_id": plan}, Idempotency_Key="spring")
    assert again["id"] == first["id"]
    assert await shop.new_events(ada) == ["subscription.changed"]
    assert await of_tenant(shop) == ["plan_migration.started", "plan_migration.finished"]
    await shop.check()


async def test_it_can_go_back_to_an_earlier_version(shop):
    plan = await shop.plan(amounts={"EUR": 1000})
    ada, subscription = await buyer(shop, "ada", plan)
    old = await version_of(shop, subscription)
    await version(shop, plan, price(1100))
    await migrate(shop, plan, at="now", settle="next_invoice")
    await shop.pump.quiet()
    back = await migrate(shop, plan, at="now", from_version=2, to_version=1, settle="next_invoice")
    await shop.pump.quiet()
    assert await results(shop, back["id"]) == {subscription: ("changed", None)}
    assert await version_of(shop, subscription) == old
    assert await shop.new_events(ada) == ["subscription.changed"] * 2
    await shop.move_to("2026-03-01")
    assert await line(shop, ada) == (1000, [1000]), "there and back at one moment costs nothing"
    await shop.check()
