"""The platform behind PgBouncer in transaction mode, with one server connection for everybody."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from subledger.platform import migrate
from subledger.platform.db import Database, Tx, sql, story
from subledger.platform.eventlog.writer import append
from tests.postgres import NoServer, by_tcp
from tests.servers import pgbouncer

_READ = story("tests.read_behind_a_pooler")
_SEEN = sql("SELECT tenant_id FROM identity.tenants")
_PREPARED = sql(
    "SELECT generic_plans + custom_plans AS runs FROM pg_prepared_statements"
    " WHERE statement = :statement"
)


@pytest.fixture
async def behind(pg_server, database_url, secret_key):
    """Identity's database, through PgBouncer with a pool of 1."""
    role = migrate.role_of("identity")
    password = migrate.password_of("identity", secret_key)
    try:
        with pgbouncer(pg_server, {role: password}, pool_size=1) as port:
            url = migrate.service_url(database_url, "identity", secret_key)
            database = Database(url=by_tcp(url, port=port), append=append, pool_size=10)
            yield database
            await database.close()
    except NoServer as reason:
        pytest.skip(str(reason))


async def test_tenants_that_share_one_connection_see_only_themselves(
    behind: Database, database_url, make_tenant
):
    tenants = [await make_tenant(database_url) for _ in range(3)]

    async def seen(tenant: UUID) -> set[UUID]:
        async with behind.transaction(_READ, tenants={tenant}) as tx:
            return {row.tenant_id for row in await tx.rows(_SEEN)}

    answers = await asyncio.gather(*(seen(tenants[n % 3]) for n in range(90)))

    assert answers == [{tenants[n % 3]} for n in range(90)]
    async with behind.transaction(_READ, tenants=set()) as tx:
        assert await tx.rows(_SEEN) == []


async def test_a_statement_is_prepared_once_and_nothing_is_kept_behind_a_pooler(
    behind: Database, service_database: Any, database_url: str, make_tenant: Any
) -> None:
    tenant = await make_tenant(database_url)
    direct = service_database(database_url, "identity", pool_size=1)

    async def prepared(database: Database) -> list[tuple[int]]:
        for _ in range(7):
            async with database.transaction(_READ, tenants={tenant}) as tx:
                assert [row.tenant_id for row in await tx.rows(_SEEN)] == [tenant]
        async with database.transaction(_READ, tenants={tenant}) as tx:
            return [tuple(row) for row in await tx.rows(_PREPARED, statement=_SEEN.text)]

    assert await prepared(direct) == [(7,)]
    assert await prepared(behind) == []


async def test_a_table_may_grow_under_a_prepared_statement(
    service_database: Any, database_url: str, make_tenant: Any, admin: Any
) -> None:
    """A migration runs while processes of the version before go on."""
    tenant = await make_tenant(database_url)
    database = service_database(database_url, "identity", pool_size=1)
    connection = await admin(database_url)

    async def rows(tx: Tx) -> Any:
        return await tx.rows(_SEEN)

    before = await database.transact(_READ, rows, tenants={tenant})
    await connection.execute(
        "ALTER TABLE identity.tenants ADD COLUMN first bigint NOT NULL DEFAULT 0;"
        "ALTER TABLE identity.tenants ALTER COLUMN name TYPE varchar"
    )
    after = await database.transact(_READ, rows, tenants={tenant})
    await connection.close()

    assert [tuple(row) for row in before] == [tuple(row) for row in after] == [(tenant,)]
