"""One process for a module's stories, a fresh tenant for each story."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from subledger.hosts.assembly import Assembly, Options, assemble
from subledger.platform import migrate
from tests.stories.shop import Shop, open_shop


@pytest.fixture(scope="module")
async def process(module_database_url: str, secret_key: str) -> AsyncIterator[Assembly]:
    """All services behind boundaries that send every DTO through JSON and back."""
    assembly = assemble(
        Options(
            url_of=lambda name: migrate.service_url(module_database_url, name, secret_key),
            secret_key=secret_key,
            public_url="http://shop.test",
            pool_size=3,
            through_json=True,
        )
    )
    await assembly.memory.catch_up()
    yield assembly
    await assembly.close()


@pytest.fixture
async def shop(process: Assembly) -> AsyncIterator[Shop]:
    opened = await open_shop(process)
    yield opened
    await opened.api.aclose()
