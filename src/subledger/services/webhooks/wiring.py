"""Webhooks, built from its dependencies."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from cryptography.fernet import MultiFernet

from subledger.platform.db import Database, story
from subledger.platform.service import Service, Step
from subledger.providers.port import Adapter
from subledger.services.webhooks import store
from subledger.services.webhooks.endpoints import Endpoints
from subledger.services.webhooks.http import router

_PURGE = story("webhooks.purge")


def build(
    *,
    database: Database,
    adapters: Mapping[str, Adapter],
    fernet: MultiFernet,
    clock_s: Callable[[], int] = lambda: int(time.time()),
) -> Service:
    """The service. ``attributes["endpoints"]`` answers payments (``contracts.endpoints``).

    ``adapters`` are by provider name; ``fernet`` encrypts bodies, tokens and secrets at rest.
    """
    endpoints = Endpoints(database, fernet)

    async def purge(limit: int) -> int:
        """Forget bodies after 30 days."""
        async with database.transaction(_PURGE) as tx:
            return await store.purge(tx, limit)

    return Service(
        name="webhooks",
        database=database,
        routers=[
            router(database, endpoints=endpoints, adapters=adapters, fernet=fernet, clock_s=clock_s)
        ],
        steps=[Step("webhooks.purge", purge, limit=1000, pause_s=600)],
        attributes={"endpoints": endpoints},
    )
