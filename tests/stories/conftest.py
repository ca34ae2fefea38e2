"""One process for a module's stories, a fresh tenant for each story."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from subledger.hosts.assembly import SERVICES, Assembly, Options, assemble
from subledger.platform import migrate
from tests.postgres import Server, by_tcp
from tests.servers import pgbouncer
from tests.stories.recognizing import subscriber
from tests.stories.shop import Shop, open_shop, seats_plan


@pytest.fixture(scope="session")
def front_port(pg_server: Server, secret_key: str) -> Iterator[int | None]:
    """The port of a PgBouncer with one connection per service, where the lane asks for it."""
    if not os.environ.get("SUBLEDGER_TEST_PGBOUNCER"):
        yield None
        return
    users = {migrate.role_of(name): migrate.password_of(name, secret_key) for name in SERVICES}
    with pgbouncer(pg_server, users, pool_size=1) as port:
        yield port


@pytest.fixture(scope="session")
def options(shared_database_url: str, secret_key: str, front_port: int | None) -> Options:
    """All services behind boundaries that send every DTO through JSON and back."""
    return options_on(shared_database_url, secret_key, front_port)


def options_on(database_url: str, secret_key: str, front_port: int | None) -> Options:
    """The same on any database."""

    def url_of(name: str) -> str:
        url = migrate.service_url(database_url, name, secret_key)
        return by_tcp(url, port=front_port) if front_port else url

    return Options(
        url_of=url_of,
        secret_key=secret_key,
        public_url="http://shop.test",
        pool_size=3,
        through_json=True,
    )


@pytest.fixture(scope="session")
async def process(options: Options) -> AsyncIterator[Assembly]:
    """A process of all services, whose steps run when a story pumps them. All stories of a worker
    share it, each in a tenant of its own."""
    assembly = assemble(options)
    await assembly.memory.catch_up()
    yield assembly
    await assembly.close()


@pytest.fixture
async def shop(process: Assembly) -> AsyncIterator[Shop]:
    opened = await open_shop(process)
    yield opened
    await opened.api.aclose()


@pytest.fixture
async def seats(shop: Shop) -> tuple[Shop, str, str]:
    """A shop, a customer with a card, and two seats at 10.00 a month (28 days from 31 January),
    bought and quiet."""
    plan, viewer = await seats_plan(shop), await shop.customer()
    await shop.card(viewer)
    bought = await shop.subscribe(viewer, plan, quantity="2")
    await shop.new_events(viewer)
    return shop, viewer, str(bought["id"])


@pytest.fixture
async def march(shop: Shop) -> tuple[Shop, str, str]:
    """31.00 for the 31 days from 1 March, 10:00, to 1 April, 10:00."""
    await shop.move_to("2026-03-01T10:00:00")
    viewer, subscription = await subscriber(shop)
    return shop, viewer, subscription
