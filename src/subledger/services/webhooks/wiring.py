"""Webhooks, built from its dependencies."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from cryptography.fernet import MultiFernet

from subledger.contracts.hints import Hints
from subledger.platform.db import Database, story
from subledger.platform.service import Service, Step
from subledger.providers.port import Adapter
from subledger.services.webhooks import log, store
from subledger.services.webhooks.endpoints import Endpoints
from subledger.services.webhooks.http import PREFIX, Arrivals
from subledger.services.webhooks.intake import Intake

_PURGE = story("webhooks.purge")


def build(
    *,
    database: Database,
    adapters: Mapping[str, Adapter],
    fernet: MultiFernet,
    hints: Hints | None = None,
    clock_s: Callable[[], int] = lambda: int(time.time()),
) -> Service:
    """The service. Attributes: ``endpoints`` answers payments (``contracts.endpoints``),
    ``reseal`` encrypts what is kept of a tenant's endpoints anew.

    ``adapters`` are by provider name; ``fernet`` encrypts bodies, tokens and secrets at rest;
    ``hints`` knows which notifications still wait for what they speak of.
    """
    endpoints = Endpoints(database, fernet)

    async def purge(limit: int) -> int:
        """Forget bodies after 30 days."""
        async with database.transaction(_PURGE) as tx:
            return await store.purge(tx, limit)

    return Service(
        name="webhooks",
        database=database,
        routers=[log.router(database, fernet=fernet, adapters=adapters, hints=hints)],
        ahead={
            PREFIX: Arrivals(
                Intake(database),
                endpoints=endpoints,
                adapters=adapters,
                fernet=fernet,
                clock_s=clock_s,
            )
        },
        steps=[Step("webhooks.purge", purge, limit=1000, pause_s=600)],
        attributes={"endpoints": endpoints, "reseal": endpoints.reseal},
    )
