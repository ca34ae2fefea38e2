"""One world per module: a fresh migrated database, real services, tenants of their own per test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from subledger.platform.db import Wakeup
from tests.payments.world import World


@pytest.fixture(scope="module")
async def world(
    module_database_url: str, service_database: Any, admin: Any
) -> AsyncIterator[World]:
    wakeup = Wakeup()
    names = ("payments", "webhooks", "sandbox", "billing", "identity")
    databases = {name: service_database(module_database_url, name, wakeup=wakeup) for name in names}
    connection = await admin(module_database_url)
    yield World(connection, databases)
    await connection.close()


@pytest.fixture(autouse=True)
async def invariants(world: World) -> AsyncIterator[None]:
    """After every story, what must hold holds."""
    yield
    world.post.times = 1
    assert await world.violations() == []
