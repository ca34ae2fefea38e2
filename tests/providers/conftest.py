"""One provider per module, in this process and behind a real server at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.providers.bank import Bank, Merchant, served


@pytest.fixture(scope="module")
async def bank(module_database_url: str, service_database: Any, admin: Any) -> AsyncIterator[Bank]:
    database = service_database(module_database_url, "sandbox")
    connection = await admin(module_database_url)
    async with served(lambda url: Bank(connection, database, url)) as made:
        yield made
        await made.over_http.close()
    await connection.close()


@pytest.fixture
async def merchant(bank: Bank) -> Merchant:
    """A merchant of its own for each test, in process."""
    return await bank.merchant()
