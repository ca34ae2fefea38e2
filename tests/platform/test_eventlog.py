"""The event log: in the account's order, without a gap, each effect once, whatever happens."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from subledger.contracts.events import Event, Recorded
from subledger.platform.db import Database, Tx, story
from subledger.platform.eventlog.consumer import Consumer, Group, caused
from subledger.platform.eventlog.writer import partition_of
from subledger.platform.ids import Ids

NOW = datetime(2026, 3, 1, tzinfo=UTC)
NEW = Ids()
_WRITE = story("tests.eventlog_write")

_EFFECT = text(
    "INSERT INTO entitlements.effects (tenant_id, subject, event_id, number)"
    " VALUES (:tenant, :subject, :event, :number)"
)
_SCRATCH = text("INSERT INTO entitlements.scratch (note) VALUES (:note)")
_NEXT = text(
    "UPDATE entitlements.accounts SET n = n + 1 WHERE id = (SELECT id FROM entitlements.accounts"
    " WHERE id = :id FOR NO KEY UPDATE) RETURNING n"
)
_TABLES = """
CREATE TABLE entitlements.effects (effect bigserial, tenant_id uuid, subject uuid, event_id uuid,
    number bigint);
CREATE TABLE entitlements.scratch (note text);
CREATE TABLE entitlements.accounts (id uuid PRIMARY KEY, n bigint NOT NULL DEFAULT 0);
GRANT ALL ON entitlements.effects, entitlements.scratch, entitlements.accounts
    TO subledger_entitlements;
GRANT ALL ON SEQUENCE entitlements.effects_effect_seq TO subledger_entitlements;
"""


class Broken(Exception):
    """What a handler says of data that it cannot take."""


@dataclass
class Probe:
    """A tenant whose accounts say numbers, and a group that writes down what it heard."""

    url: str
    database: Database
    tenant_id: UUID
    admin: Any
    poison: set[tuple[UUID, int]] = field(default_factory=set)

    async def say(self, account: UUID, *numbers: int, rolled_back: bool = False) -> None:
        async with self.database.transaction(_WRITE, tenants=[self.tenant_id]) as tx:
            tx.emit(self._event(account, n) for n in numbers)
            if rolled_back:
                raise Broken

    async def count_up(self, account: UUID, *, rolled_back: bool) -> None:
        """Write another row first, then lock the account, take its next number and say it."""
        try:
            async with self.database.transaction(_WRITE, tenants=[self.tenant_id]) as tx:
                await tx.run(_SCRATCH, note="first")
                number = (await tx.rows(_NEXT, id=account))[0].n
                await asyncio.sleep(0.001)
                tx.emit([self._event(account, number)])
                if rolled_back:
                    raise Broken
        except Broken:
            return

    def _event(self, account: UUID, number: int) -> Event:
        return Event(
            type="probe.said",
            tenant_id=self.tenant_id,
            subject=account,
            data={"n": number},
            occurred_at=NOW,
        )

    async def hear(self, tx: Tx, events: Sequence[Recorded]) -> None:
        for each in events:
            if (each.subject, each.data["n"]) in self.poison:
                raise Broken(f"cannot take {each.data['n']}")
            await tx.run(
                _EFFECT,
                tenant=each.tenant_id,
                subject=each.subject,
                event=each.id,
                number=each.data["n"],
            )
            tx.emit(
                [caused(each, type="probe.answered", data=each.data, occurred_at=each.occurred_at)]
            )

    def consumer(self, database: Database | None = None) -> Consumer:
        group = Group(name="probe", schema="entitlements", handlers={"probe.said": self.hear})
        return Consumer(database or self.database, group)

    async def drain(self, consumer: Consumer | None = None) -> None:
        worker = consumer or self.consumer()
        while await worker.step(50):
            pass

    async def fetch(self, query: str, *values: Any) -> list[Any]:
        connection = await self.admin(self.url)
        try:
            found: list[Any] = await connection.fetch(query, *values)
            return found
        finally:
            await connection.close()

    async def heard(self) -> dict[UUID, list[int]]:
        """Every effect, by account, in the order in which it was made."""
        found = defaultdict(list)
        for row in await self.fetch("SELECT * FROM entitlements.effects ORDER BY effect"):
            found[row["subject"]].append(row["number"])
        return dict(found)

    async def logged(self, kind: str) -> dict[UUID, list[int]]:
        """The numbers in the log, by account, in the order of positions."""
        found = defaultdict(list)
        for row in await self.fetch(
            "SELECT subject, (data ->> 'n')::int AS n FROM eventlog.events WHERE type = $1"
            " ORDER BY partition, position",
            kind,
        ):
            found[row["subject"]].append(row["n"])
        return dict(found)

    async def assert_no_gap(self) -> None:
        rows = await self.fetch(
            "SELECT h.partition, h.position, count(e.position) AS n, min(e.position) AS first,"
            " max(e.position) AS last FROM eventlog.heads h"
            " LEFT JOIN eventlog.events e USING (partition) GROUP BY 1, 2"
        )
        for row in rows:
            if row["position"]:
                assert (row["first"], row["last"]) == (1, row["position"])
            assert row["n"] == row["position"]


@pytest.fixture
async def probe(database_url: str, service_database: Any, make_tenant: Any, admin: Any) -> Probe:
    made = Probe(
        url=database_url,
        database=service_database(database_url, "entitlements", pool_size=14),
        tenant_id=await make_tenant(database_url),
        admin=admin,
    )
    connection = await admin(database_url)
    await connection.execute(_TABLES)
    await connection.close()
    return made


async def test_twelve_writers_keep_each_accounts_order_without_a_gap(probe: Probe) -> None:
    """12 writers write another row, then lock one of 40 accounts; 15 % roll back; two consumers
    read meanwhile."""
    accounts = [NEW.new() for _ in range(40)]
    connection = await probe.admin(probe.url)
    await connection.executemany(
        "INSERT INTO entitlements.accounts (id) VALUES ($1)", [(each,) for each in accounts]
    )
    await connection.close()
    writing = True

    async def write(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(60):
            await probe.count_up(chance.choice(accounts), rolled_back=chance.random() < 0.15)

    async def read() -> None:
        worker = probe.consumer()
        while writing or await worker.step(30):
            await worker.step(30)
            await asyncio.sleep(0.002)

    readers = [asyncio.create_task(read()) for _ in range(2)]
    await asyncio.gather(*(write(seed) for seed in range(12)))
    writing = False
    await asyncio.gather(*readers)
    await probe.drain()

    last = {row["id"]: row["n"] for row in await probe.fetch("SELECT * FROM entitlements.accounts")}
    expected = {each: list(range(1, n + 1)) for each, n in last.items() if n}
    assert 500 < sum(last.values()) < 12 * 60  # some rolled back
    assert await probe.logged("probe.said") == expected
    assert await probe.heard() == expected
    assert await probe.logged("probe.answered") == expected
    await probe.assert_no_gap()


async def test_workers_side_by_side_never_handle_one_event_twice(
    probe: Probe, service_database: Any
) -> None:
    accounts = [NEW.new() for _ in range(60)]
    for number in range(1, 6):
        for start in range(0, 60, 20):
            await asyncio.gather(
                *(probe.say(each, number) for each in accounts[start : start + 12])
            )
            await asyncio.gather(
                *(probe.say(each, number) for each in accounts[start + 12 : start + 20])
            )
    workers = [
        probe.consumer(service_database(probe.url, "entitlements", pool_size=1)) for _ in range(4)
    ]
    handled = [0, 0, 0, 0]

    async def run(index: int) -> None:
        idle = 0
        while idle < 20:
            moved = await workers[index].step(7)
            handled[index] += moved
            idle = 0 if moved else idle + 1
            await asyncio.sleep(0.001)

    await asyncio.gather(*(run(index) for index in range(4)))
    assert await probe.heard() == {each: [1, 2, 3, 4, 5] for each in accounts}
    assert sum(each > 0 for each in handled) >= 2, "the work was not shared"


async def test_a_rolled_back_transaction_says_nothing(probe: Probe) -> None:
    account = NEW.new()
    with pytest.raises(Broken):
        await probe.say(account, 1, rolled_back=True)
    await probe.say(account, 2)
    await probe.drain()
    assert await probe.heard() == {account: [2]}
    await probe.assert_no_gap()


async def test_a_worker_killed_between_any_two_statements_loses_and_doubles_nothing(
    probe: Probe, secret_key: str
) -> None:
    accounts = [NEW.new() for _ in range(60)]
    for each in accounts:
        await probe.say(each, 1, 2)
    script = Path(__file__).with_name("eventlog_kill_worker.py")
    ran = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(script), probe.database.url],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) > 25  # every place of a first step, and of the steps after it
    assert await probe.heard() == {each: [1, 2] for each in accounts}
    assert await probe.logged("probe.answered") == {each: [1, 2] for each in accounts}
    await probe.assert_no_gap()


async def test_a_poison_event_parks_its_subject_only_and_a_replay_drains_in_order(
    probe: Probe,
) -> None:
    accounts = [NEW.new() for _ in range(40)]
    sick = accounts[17]
    probe.poison = {(sick, 3)}
    for number in range(1, 6):
        for each in accounts:
            await probe.say(each, number)
    worker = probe.consumer()
    await probe.drain(worker)

    well = {each: [1, 2, 3, 4, 5] for each in accounts if each != sick}
    assert await probe.heard() == well | {sick: [1, 2]}
    await probe.say(sick, 6)
    await probe.say(accounts[0], 6)
    await probe.drain(worker)
    well[accounts[0]] = [1, 2, 3, 4, 5, 6]
    assert await probe.heard() == well | {sick: [1, 2]}
    blocked = await probe.fetch("SELECT subject, error FROM entitlements.blocked")
    assert [tuple(row) for row in blocked] == [(sick, "Broken: cannot take 3")]
    assert (await probe.fetch("SELECT count(*) AS n FROM entitlements.parked"))[0]["n"] == 4

    with pytest.raises(Broken):
        await worker.replay(tenant_id=probe.tenant_id, subject=sick)
    assert (await probe.heard())[sick] == [1, 2]

    probe.poison = set()
    assert await worker.replay(tenant_id=probe.tenant_id, subject=sick) == 4
    assert await worker.replay(tenant_id=probe.tenant_id, subject=sick) == 0
    await probe.say(sick, 7)
    await probe.drain(worker)
    assert await probe.heard() == well | {sick: [1, 2, 3, 4, 5, 6, 7]}
    assert await probe.logged("probe.answered") == await probe.heard()


async def test_a_replay_and_a_new_event_of_the_account_keep_their_order(probe: Probe) -> None:
    sick = NEW.new()
    probe.poison = {(sick, 1)}
    await probe.say(sick, 1, 2)
    worker = probe.consumer()
    await probe.drain(worker)
    probe.poison = set()
    for number in range(3, 9):
        await probe.say(sick, number)
        await asyncio.gather(
            worker.replay(tenant_id=probe.tenant_id, subject=sick), probe.consumer().step(50)
        )
    await worker.replay(tenant_id=probe.tenant_id, subject=sick)
    await probe.drain(worker)
    assert await probe.heard() == {sick: [1, 2, 3, 4, 5, 6, 7, 8]}


async def test_a_lock_that_is_not_had_in_time_parks_nothing(probe: Probe) -> None:
    account = NEW.new()
    connection = await probe.admin(probe.url)
    await connection.execute("INSERT INTO entitlements.accounts (id) VALUES ($1)", account)

    async def hear(tx: Tx, events: Sequence[Recorded]) -> None:
        await tx.run(text("SET LOCAL lock_timeout = '50ms'"))
        await tx.rows(_NEXT, id=account)
        await probe.hear(tx, events)

    worker = Consumer(
        probe.database, Group(name="probe", schema="entitlements", handlers={"probe.said": hear})
    )
    await probe.say(account, 1)
    async with connection.transaction():
        await connection.execute("SELECT FROM entitlements.accounts FOR UPDATE")
        with pytest.raises(DBAPIError):
            await worker.step(50)
    await connection.close()
    assert await probe.fetch("SELECT FROM entitlements.blocked") == []
    await probe.drain(worker)
    assert await probe.heard() == {account: [1]}


async def test_transactions_left_open_and_an_index_being_built_delay_nobody(
    probe: Probe, new_database: Any
) -> None:
    """A log that waited for a snapshot's horizon would stall here until the end."""
    elsewhere = await probe.admin(await new_database())
    here, building = await probe.admin(probe.url), await probe.admin(probe.url)
    await elsewhere.execute("CREATE TABLE left_open (n int)")
    async with elsewhere.transaction(), here.transaction():
        await elsewhere.execute("INSERT INTO left_open VALUES (1)")
        await here.execute("INSERT INTO entitlements.scratch VALUES ('open')")
        index = asyncio.create_task(
            building.execute("CREATE INDEX CONCURRENTLY ON entitlements.scratch (note)")
        )
        await asyncio.sleep(0.2)
        account, worker = NEW.new(), probe.consumer()
        await probe.drain(worker)
        slowest = 0.0
        for number in range(1, 21):
            started = time.monotonic()
            await probe.say(account, number)
            await probe.drain(worker)
            slowest = max(slowest, time.monotonic() - started)
            assert (await probe.heard())[account][-1] == number
        assert not index.done(), "the index did not wait: nothing was proved"
    await index
    for each in (elsewhere, here, building):
        await each.close()
    assert slowest < 2


async def test_dumped_and_restored_each_undelivered_event_is_delivered_once(
    probe: Probe, pg_server: Any, fresh_server: Any, service_database: Any
) -> None:
    """Into a fresh server, whose transaction ids have not come nearly as far."""
    if pg_server.binaries is None:
        pytest.skip("no pg_dump beside the given server (SUBLEDGER_TEST_PG_BIN)")
    accounts = [NEW.new() for _ in range(30)]
    for each in accounts:
        await probe.say(each, 1, 2, 3)
    await probe.consumer().step(20)
    before = await probe.heard()
    assert 0 < sum(map(len, before.values())) < 90

    async def run(tool: str, *arguments: str, complains: bool = False) -> None:
        done = await asyncio.to_thread(
            subprocess.run,
            [str(Path(pg_server.binaries) / tool), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=os.environ | {"PGOPTIONS": "-c client_min_messages=error"},
        )
        assert complains or done.returncode == 0, done.stderr

    restored = fresh_server()
    folder = Path(restored.data).parent
    source = probe.url.replace("+asyncpg", "")
    target = restored.url("restored").replace("+asyncpg", "")
    server = restored.admin_url.replace("+asyncpg", "")
    await run(
        "pg_dumpall",
        "--roles-only",
        "--no-role-passwords",
        "-d",
        source,
        "-f",
        f"{folder}/roles.sql",
    )
    await run("pg_dump", "-Fc", "-f", f"{folder}/dump", source)
    connection = await probe.admin(restored.admin_url)
    await connection.execute("CREATE DATABASE restored")
    await connection.close()
    # It complains that the role postgres exists, and of nothing else.
    await run("psql", "-q", "-d", server, "-f", f"{folder}/roles.sql", complains=True)
    await run("pg_restore", "--exit-on-error", "-d", target, f"{folder}/dump")
    copy = Probe(
        url=restored.url("restored"),
        database=await restored_database(probe, restored, service_database),
        tenant_id=probe.tenant_id,
        admin=probe.admin,
    )
    assert await copy.heard() == before

    for each in accounts[:10]:
        await copy.say(each, 4)
    newcomer = NEW.new()
    await copy.say(newcomer, 1)
    await copy.drain()
    assert await copy.heard() == (
        {each: [1, 2, 3] for each in accounts}
        | {each: [1, 2, 3, 4] for each in accounts[:10]}
        | {newcomer: [1]}
    )
    await copy.assert_no_gap()


async def restored_database(probe: Probe, restored: Any, service_database: Any) -> Database:
    """Passwords do not travel with a dump here: set the service's own anew."""
    made: Database = service_database(restored.url("restored"), "entitlements")
    connection = await probe.admin(restored.admin_url)
    password = made.engine.url.password
    await connection.execute(f"ALTER ROLE subledger_entitlements PASSWORD '{password}'")
    await connection.close()
    return made


def test_the_partition_of_a_subject_is_fixed_for_ever() -> None:
    """Stored data depends on it: these figures must never change."""
    assert [partition_of(UUID(int=n)) for n in range(8)] == [5, 11, 8, 6, 8, 10, 12, 10]
