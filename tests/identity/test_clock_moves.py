"""A sandbox tenant's clock moves moment by moment, each settled before the next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from reminders import RANKS, Reminders, install

from subledger.platform.db import Database, story
from subledger.platform.due import Due
from subledger.platform.http.problems import Problem
from subledger.platform.ids import Ids
from subledger.services.identity import store
from subledger.services.identity.clock.mover import ClockMover
from subledger.services.identity.usecases.start_move import start_move

START = datetime(2026, 3, 1, tzinfo=UTC)
_ids = Ids()
_TEST = story("tests.clock_moves")


def day(number: int, hour: int = 0) -> datetime:
    return START + timedelta(days=number, hours=hour)


@dataclass
class House:
    """One sandbox tenant, the reminders service, and the mover."""

    url: str
    tenant_id: UUID
    identity: Database
    reminders: Reminders
    mover: ClockMover
    new_database: Callable[[str], Database]

    async def move(self, to_at: datetime) -> UUID:
        move_id = _ids.new()
        async with self.identity.transaction(_TEST, tenants=[self.tenant_id]) as tx:
            await start_move(tx, tenant_id=self.tenant_id, move_id=move_id, to_at=to_at)
        return move_id

    async def read(self, move_id: UUID) -> Any:
        async with self.identity.transaction(_TEST, tenants=[self.tenant_id]) as tx:
            return (await store.moves(tx, self.tenant_id, [move_id]))[0]

    async def clock(self) -> datetime:
        async with self.identity.transaction(_TEST, tenants=[self.tenant_id]) as tx:
            return await tx.now(self.tenant_id)

    async def settle(self, *, rounds: int = 2_000) -> int:
        """Run all steps, mover last, until none has anything to do; how often the mover moved."""
        steps, moved = self.reminders.service().all_steps(), 0
        for _ in range(rounds):
            done = [await step.run(step.limit) for step in steps]
            progress = await self.mover.step(10)
            moved += progress
            if not any(done) and not progress:
                return moved
        raise AssertionError("never quiet")

    def due(self, kind: str, account: UUID, at: datetime, number: int = 1) -> Due:
        return Due(self.tenant_id, kind, _ids.new(), account, at, RANKS[kind], number)


@pytest.fixture
async def house(database_url: str, service_database: Any, make_tenant: Any) -> House:
    await install(database_url)
    tenant_id = await make_tenant(database_url, now_at=START)
    identity = service_database(database_url, "identity")
    reminders = Reminders(service_database(database_url, "scheduler"), [tenant_id])

    def new(service: str) -> Database:
        return service_database(database_url, service)

    return House(
        url=database_url,
        tenant_id=tenant_id,
        identity=identity,
        reminders=reminders,
        mover=ClockMover(identity, [reminders.service()]),
        new_database=new,
    )


EventsOf = Callable[..., Awaitable[list[tuple[str, dict[str, Any]]]]]


async def test_each_moment_is_settled_before_the_next(house: House, events_of: EventsOf) -> None:
    ada = _ids.new()
    await house.reminders.put(
        house.due("second", ada, day(5)),
        house.due("first", ada, day(5), number=2),
        house.due("first", ada, day(5), number=1),
        house.due("first", ada, day(2)),
    )
    move = await house.move(day(10))

    await house.settle()

    row = await house.read(move)
    assert (row.status, row.steps, row.reached_at) == ("done", 4, day(10))
    assert await house.clock() == day(10)
    events = await events_of(house.url, house.tenant_id, ada)
    assert [
        (kind, data.get("kind"), data.get("number"), data.get("due_at")) for kind, data in events
    ] == [
        ("reminder.required", "first", 1, day(2).isoformat()),
        ("reminder.sent", None, None, None),
        ("reminder.required", "first", 1, day(5).isoformat()),
        ("reminder.sent", None, None, None),
        ("reminder.required", "first", 2, day(5).isoformat()),
        ("reminder.sent", None, None, None),
        ("reminder.required", "second", 1, day(5).isoformat()),
        ("reminder.sent", None, None, None),
    ]
    assert msgspec.json.decode(row.result) == {
        "events": {"reminder.required": 4, "reminder.sent": 4},
        "blocked": [],
        "waits": [{"what": "reminders: a person", "count": 1}],
        "keeps_moving": [],
    }


async def test_what_comes_due_on_the_way_is_met_on_the_way(
    house: House, events_of: EventsOf
) -> None:
    ada = _ids.new()
    house.reminders.until = day(90)
    await house.reminders.put(house.due("first", ada, day(0)))

    await house.move(day(90))
    await house.settle()

    events = await events_of(house.url, house.tenant_id, ada)
    moments = [data["due_at"] for kind, data in events if kind == "reminder.required"]
    assert moments == [day(n).isoformat() for n in (0, 30, 60, 90)]


async def test_the_clock_waits_for_due_rows_events_and_intents(house: House) -> None:
    ada = _ids.new()
    await house.reminders.put(house.due("first", ada, day(1)), house.due("first", ada, day(2)))
    announce = house.reminders.service().steps[0]
    consume = house.reminders.service().all_steps()[0]
    send = house.reminders.service().steps[1]
    await house.move(day(3))

    async def stuck() -> list[str]:
        for _ in range(3):
            assert await house.mover.step(10) == 0
        return [each.what for each in await house.mover.waiting_for(house.tenant_id)]

    assert await house.mover.step(10) == 1
    assert await house.clock() == day(1)
    assert await stuck() == ["due: first of reminders"]
    assert await announce.run(10) == 1
    assert await stuck() == [
        "reminder.required for reminders.reminders",
        "due: first of reminders",
    ]
    assert await consume.run(10) > 0
    assert await stuck() == ["reminders: intents"]
    assert await send.run(10) == 1
    assert await house.mover.step(10) == 1
    assert await house.clock() == day(2)


async def test_another_tenants_work_holds_no_clock(house: House, make_tenant: Any) -> None:
    other = await make_tenant(house.url, now_at=START)
    await house.reminders.put(Due(other, "first", _ids.new(), _ids.new(), START, 1, 1))
    await house.reminders.service().steps[0].run(10)  # its event stays unread

    move = await house.move(day(1))

    assert await house.mover.step(10) == 1
    assert (await house.read(move)).status == "done"


async def test_refusals_change_nothing(house: House, make_tenant: Any) -> None:
    async def refused(to_at: datetime) -> str:
        with pytest.raises(Problem) as caught:
            await house.move(to_at)
        return caught.value.code

    assert await refused(day(-1)) == "clock_backwards"
    assert await refused(day(366 * 21)) == "clock_too_far"
    await house.move(day(1))
    assert await refused(day(2)) == "clock_is_moving"
    assert await house.clock() == START
    live = await make_tenant(house.url)
    house.tenant_id = live
    assert await refused(datetime(2040, 1, 1, tzinfo=UTC)) == "clock_is_live"


async def test_of_moves_started_at_once_one_starts(house: House) -> None:
    outcomes = await asyncio.gather(
        *(house.move(day(n)) for n in range(1, 9)), return_exceptions=True
    )

    started = [each for each in outcomes if isinstance(each, UUID)]
    refused = [each.code for each in outcomes if isinstance(each, Problem)]
    assert len(started) == 1
    assert refused == ["clock_is_moving"] * 7


async def test_a_killed_mover_is_followed_by_another(house: House, events_of: EventsOf) -> None:
    ada = _ids.new()
    await house.reminders.put(*(house.due("first", ada, day(n)) for n in range(1, 6)))
    await house.move(day(6))
    steps = house.reminders.service().all_steps()

    for _ in range(60):
        # Nothing survives an iteration: each has a new mover.
        mover = ClockMover(house.identity, [house.reminders.service()])
        await mover.step(10)
        for step in steps:
            await step.run(step.limit)

    assert await house.clock() == day(6)
    events = await events_of(house.url, house.tenant_id, ada)
    assert [data["due_at"] for kind, data in events if kind == "reminder.required"] == [
        day(n).isoformat() for n in range(1, 6)
    ]


async def test_concurrent_movers_open_each_moment_once(house: House) -> None:
    accounts = [_ids.new() for _ in range(3)]
    await house.reminders.put(
        *(house.due("first", each, day(n)) for n in range(1, 9) for each in accounts)
    )
    move = await house.move(day(20))
    movers = [
        ClockMover(house.new_database("identity"), [house.reminders.service()]) for _ in range(4)
    ]
    steps = house.reminders.service().all_steps()

    async def forever(run: Callable[[int], Awaitable[int]]) -> None:
        while (await house.read(move)).status == "moving":
            await run(500)

    async with asyncio.timeout(60):
        await asyncio.gather(
            *(forever(each.step) for each in movers), *(forever(each.run) for each in steps)
        )

    row = await house.read(move)
    assert (row.status, row.steps) == ("done", 8)
    assert msgspec.json.decode(row.result)["events"] == {
        "reminder.required": 24,
        "reminder.sent": 24,
    }


@pytest.mark.long
async def test_one_and_four_workers_make_the_same_events(
    house: House, events_of: EventsOf, make_tenant: Any
) -> None:
    async def run(workers: int) -> list[list[tuple[str, dict[str, Any]]]]:
        tenant = await make_tenant(house.url, now_at=START)
        house.tenant_id = tenant
        house.reminders.tenants = [tenant]
        house.reminders.until = day(100)
        accounts = [_ids.new() for _ in range(10)]
        # From the first day on: what is due at the clock's own start is open before the move,
        # all of it at once, and how its follow-ups interleave is up to the workers.
        await house.reminders.put(
            *(
                house.due(kind, account, day(1 + n % 4, hour=n % 3), number=n)
                for n, account in enumerate(accounts)
                for kind in ("first", "second")
            )
        )
        move = await house.move(day(100))

        async def work() -> None:
            mover = ClockMover(house.new_database("identity"), [house.reminders.service()])
            reminders = Reminders(
                house.new_database("scheduler"), [tenant], until=house.reminders.until
            )
            steps = reminders.service().all_steps()
            while (await house.read(move)).status == "moving":
                for each in steps:
                    await each.run(3)
                await mover.step(10)

        async with asyncio.timeout(60):
            await asyncio.gather(*(work() for _ in range(workers)))
        found = []
        for account in accounts:
            events = await events_of(house.url, tenant, account)
            found.append([(kind, data | {"id": None}) for kind, data in events])
        return found

    one, four = await run(1), await run(4)

    assert sum(len(each) for each in one) == 160
    assert one == four


async def test_a_blocked_account_holds_no_clock_and_is_named(house: House) -> None:
    ada, bob = _ids.new(), _ids.new()
    house.reminders.poisoned.add(ada)
    await house.reminders.put(
        house.due("first", ada, day(1)),
        house.due("second", ada, day(2)),
        house.due("first", bob, day(3)),
    )
    move = await house.move(day(10))

    await house.settle()

    row = await house.read(move)
    result = msgspec.json.decode(row.result)
    assert (row.status, result["events"]["reminder.sent"]) == ("done", 1)
    assert [each["group"] for each in result["blocked"]] == ["reminders.reminders"]
    assert [each["subject"][:4] for each in result["blocked"]] == ["cus_"]


async def test_what_keeps_coming_due_at_one_moment_is_stopped_and_named(house: House) -> None:
    ada = _ids.new()
    house.mover = ClockMover(house.identity, [house.reminders.service()], most_at_one_moment=20)
    await house.reminders.put(house.due("endless", ada, day(1)))
    move = await house.move(day(10))

    await house.settle()

    row = await house.read(move)
    assert (row.status, row.steps, row.reached_at) == ("stopped", 20, day(1))
    assert await house.clock() == day(1)
    (named,) = msgspec.json.decode(row.result)["keeps_moving"]
    assert named.startswith("due again and again: endless of reminders (account cus_")


async def test_what_is_open_again_at_once_is_stopped_and_named(house: House) -> None:
    ada = _ids.new()
    house.reminders.stubborn = True
    house.mover = ClockMover(
        house.identity,
        [house.reminders.service()],
        most_at_one_moment=20,
        look_for_restless_s=0.0,
    )
    await house.reminders.put(house.due("endless", ada, day(1)))
    move = await house.move(day(10))

    steps = house.reminders.service().all_steps()
    for _ in range(100):
        for each in steps:
            await each.run(10)
        await house.mover.step(10)

    row = await house.read(move)
    assert (row.status, row.reached_at) == ("stopped", day(1))
    named = msgspec.json.decode(row.result)["keeps_moving"]
    assert any("× reminder.required of account cus_" in each for each in named)
