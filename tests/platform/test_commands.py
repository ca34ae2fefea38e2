"""Commands go with the statement that needs them; a savepoint undoes its own part and no other."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from subledger.platform.db import Database, is_transient, story

_WRITE = story("tests.commands_write")
_READ = story("tests.commands_read", reads=True)
_INSERT = text("INSERT INTO identity.seen (tenant_id, n) VALUES (:tenant, :n)")
_SEEN = text("SELECT n FROM identity.seen ORDER BY n")
_BACKENDS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND usename = 'subledger_identity' AND state LIKE 'idle in transaction%'"
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


async def test_a_connection_that_is_lost_is_transient_and_replaced(table: Any) -> None:
    database, tenant, connection = table
    assert await seen(database, tenant) == []
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE usename = 'subledger_identity' AND datname = current_database()"
    )
    await asyncio.sleep(0.2)

    with pytest.raises(OperationalError) as lost:
        await seen(database, tenant)

    assert is_transient(lost.value)
    assert await seen(database, tenant) == []
    await connection.close()
