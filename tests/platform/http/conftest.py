"""A shelf of its own for every test; its tenants are fresh, its database is the module's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import structlog
from shelf import Shelf, open_shelf


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Tracebacks with every local variable, structlog's default, take seconds to draw."""
    with structlog.testing.capture_logs():
        yield


@pytest.fixture
async def shelf(
    module_database_url: str, service_database: Any, make_tenant: Any, admin: Any
) -> AsyncIterator[Shelf]:
    async with open_shelf(
        url=module_database_url,
        service_database=service_database,
        make_tenant=make_tenant,
        admin=admin,
    ) as opened:
        yield opened
