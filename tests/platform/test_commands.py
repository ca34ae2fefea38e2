"""Commands go with the statement that needs them; a savepoint undoes its own part and no other."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DataError, IntegrityError, OperationalError

from subledger.platform.db import Database, Tx, is_transient, story

_WRITE = story("tests.commands_write")
_READ = story("tests.commands_read", reads=True)
_INSERT = text("INSERT INTO identity.seen (tenant_id, n) VALUES (:tenant, :n)")
_SEEN = text("SELECT n FROM identity.seen ORDER BY n")
_BACKENDS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND usename = 'subledger_identity' AND state LIKE 'idle in transaction%'"
)
_END_THEM = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE usename = 'subledger_identity' AND datname = current_database()"
)


class Stop(Exception):
    pass


@pytest.fixture
async def table(
    service_database: Any, database_url: str, make_tenant: Any, admin: Any
) -> tuple[Database, UUID, Any]:
    """Identity's database with one connection, a tenant, and an administrator's connection."""
    connection = await admin(database_url)
    await connection.execute(
        "CREATE TABLE identity.seen (tenant_id uuid, n bigint UNIQUE);"
        "ALTER TABLE identity.seen ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY own ON identity.seen USING"
        " (tenant_id = ANY (string_to_array(current_setting('app.tenants', true), ',')::uuid[]));"
        "GRANT SELECT, INSERT ON identity.seen TO subledger_identity"
    )
    database = service_database(database_url, "identity", pool_size=1)
    return database, await make_tenant(database_url), connection


async def seen(database: Database, tenant: UUID) -> list[int]:
    async with database.transaction(_READ, tenants=[tenant]) as tx:
        return [row.n for row in await tx.rows(_SEEN)]


async def test_savepoints_inside_each_other(table: Any) -> None:
    database, tenant, connection = table
    async with database.transaction(_WRITE, tenants=[tenant]) as tx:
        await tx.run(_INSERT, tenant=tenant, n=1)
        async with tx.savepoint():
            await tx.run(_INSERT, tenant=tenant, n=2)
            with suppress(Stop):
                async with tx.savepoint():
                    await tx.run(_INSERT, tenant=tenant, n=3)
                    raise Stop
            await tx.run(_INSERT, tenant=tenant, n=4)
        with suppress(Stop):
            async with tx.savepoint():
                async with tx.savepoint():
                    await tx.run(_INSERT, tenant=tenant, n=5)
                raise Stop
        async with tx.savepoint():
            pass
        with suppress(Stop):
            async with tx.savepoint():
                raise Stop

    assert await seen(database, tenant) == [1, 2, 4]
    await connection.close()


async def test_a_statement_that_fails_inside_a_savepoint_leaves_the_rest(table: Any) -> None:
    database, tenant, connection = table
    async with database.transaction(_WRITE, tenants=[tenant]) as tx:
        await tx.run(_INSERT, tenant=tenant, n=1)
        with pytest.raises(Exception, match="duplicate key"):
            async with tx.savepoint():
                await tx.run(_INSERT, tenant=tenant, n=1)
        await tx.run(_INSERT, tenant=tenant, n=2)

    assert await seen(database, tenant) == [1, 2]
    await connection.close()


async def test_without_a_statement_nothing_is_sent_and_what_fails_is_rolled_back(
    table: Any, make_tenant: Any, database_url: str
) -> None:
    database, tenant, connection = table
    other = await make_tenant(database_url)
    async with database.transaction(_READ, tenants=[tenant]):
        pass
    with suppress(Stop):
        async with database.transaction(_WRITE, tenants=[tenant]) as tx:
            await tx.run(_INSERT, tenant=tenant, n=1)
            raise Stop

    assert await seen(database, tenant) == []
    async with database.transaction(_WRITE, tenants=[tenant]) as tx:
        await tx.run(_INSERT, tenant=tenant, n=1)
        tx.use_tenants([other])
        assert await tx.rows(_SEEN) == []
    assert await seen(database, tenant) == [1]
    assert await connection.fetchval(_BACKENDS) == 0
    await connection.close()


async def test_canceled_in_the_middle_the_connection_is_clean_or_gone(table: Any) -> None:
    database, tenant, connection = table

    async def slow() -> None:
        async with database.transaction(_WRITE, tenants=[tenant]) as tx:
            await tx.run(_INSERT, tenant=tenant, n=1)
            await tx.rows(text("SELECT pg_sleep(20)"))

    task = asyncio.create_task(slow())
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await seen(database, tenant) == []
    await connection.close()


async def test_a_connection_that_is_lost_at_work_is_transient_and_replaced(table: Any) -> None:
    database, tenant, connection = table

    async def cut_off() -> None:
        async with database.transaction(_WRITE, tenants=[tenant]) as tx:
            await tx.run(_INSERT, tenant=tenant, n=1)
            await connection.execute(_END_THEM)
            await tx.run(_INSERT, tenant=tenant, n=2)

    with pytest.raises(OperationalError) as lost:
        await cut_off()

    assert is_transient(lost.value)
    assert await seen(database, tenant) == []
    await connection.close()


async def test_connections_that_the_server_ended_while_idle_are_replaced(table: Any) -> None:
    """It was started anew: nobody has to fail first."""
    database, tenant, connection = table
    assert await seen(database, tenant) == []
    await connection.execute(_END_THEM)
    await asyncio.sleep(0.2)

    assert await seen(database, tenant) == []
    await connection.close()


async def test_values_that_cannot_be_are_nobodys_trouble_but_the_callers(table: Any) -> None:
    database, tenant, connection = table

    async def insert(*values: Any) -> None:
        async with database.transaction(_WRITE, tenants=[tenant]) as tx:
            for n in values:
                await tx.run(_INSERT, tenant=tenant, n=n)

    for values, kind in (((1, "many"), DataError), ((1, 1), IntegrityError)):
        with pytest.raises(kind) as refused:
            await insert(*values)
        assert not is_transient(refused.value)
        assert "(n)=(1)" not in str(refused.value)
    assert await connection.fetchval(_BACKENDS) == 0
    await connection.close()


async def test_a_table_that_is_altered_under_a_prepared_statement(table: Any) -> None:
    """The first try fails as PostgreSQL has it; said again, the statement is prepared anew."""
    database, tenant, connection = table

    async def all_seen(tx: Tx) -> list[Any]:
        return [row.n for row in await tx.rows(_SEEN)]

    async with database.transaction(_WRITE, tenants=[tenant]) as tx:
        await tx.run(_INSERT, tenant=tenant, n=1)
    before = await database.transact(_READ, all_seen, tenants=[tenant])
    await connection.execute("ALTER TABLE identity.seen ALTER COLUMN n TYPE text")
    after = await database.transact(_READ, all_seen, tenants=[tenant])

    assert (before, after) == ([1], ["1"])
    await connection.close()
