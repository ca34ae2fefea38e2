"""One process for the walk's two tenants."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from subledger.hosts.assembly import Assembly, Options, assemble
from subledger.platform import migrate


@pytest.fixture(scope="module")
async def process(module_database_url: str, secret_key: str) -> AsyncIterator[Assembly]:
    assembly = assemble(
        Options(
            url_of=lambda name: migrate.service_url(module_database_url, name, secret_key),
            secret_key=secret_key,
            public_url="http://shop.test",
            pool_size=3,
        )
    )
    await assembly.memory.catch_up()
    yield assembly
    await assembly.close()
