"""The stories' process: all services behind boundaries, on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from subledger.hosts.assembly import Assembly, assemble
from tests.postgres import plan_once
from tests.stories.conftest import options_on


@pytest.fixture(scope="module")
async def process(module_database_url: str, secret_key: str) -> AsyncIterator[Assembly]:
    """One of its own: what is compared is counted over its whole database."""
    await plan_once(module_database_url)
    assembly = assemble(options_on(module_database_url, secret_key, None))
    await assembly.memory.catch_up()
    yield assembly
    await assembly.close()
