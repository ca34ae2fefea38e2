"""Periodic work: announce what is due, keep the event log's segments ahead of its writers."""

from __future__ import annotations

from subledger.platform.db import Database, story
from subledger.platform.eventlog.tables import SEGMENT
from subledger.platform.http.idempotency import Keys
from subledger.platform.service import Step
from subledger.services.scheduler.holds import switch
from subledger.services.scheduler.store import collections as store
from subledger.services.scheduler.usecases.announce import announce

_ANNOUNCE = story("scheduler.announce")
_LET_GO = story("scheduler.let_go_holds")
_SEGMENTS = story("scheduler.create_segments")
_EXPIRE = story("scheduler.expire_keys")


def announcing(database: Database) -> Step:
    """Due retries and last steps of dunning."""

    async def run(limit: int) -> int:
        async with database.transaction(_ANNOUNCE) as tx:
            return await announce(tx, limit)

    return Step("scheduler.announce", run, types=frozenset({store.due.work}))


def letting_go(database: Database) -> Step:
    """Dunning that a kill switch had stopped."""

    async def run(limit: int) -> int:
        async with database.transaction(_LET_GO) as tx:
            return await switch.let_go(tx, limit)

    return Step("scheduler.let_go_holds", run, types=frozenset({switch.work}))


def segments(database: Database) -> Step:
    """Segments of the event log, created ahead (once a minute)."""

    async def run(limit: int) -> int:
        async with database.transaction(_SEGMENTS) as tx:
            return await store.create_segments(tx, SEGMENT)

    return Step("scheduler.create_segments", run, pause_s=60)


def expiring(schema: str, database: Database, keys: Keys) -> Step:
    """Old idempotency keys of the service that owns ``database`` (every ten minutes)."""

    async def run(limit: int) -> int:
        async with database.transaction(_EXPIRE) as tx:
            tenants = await store.all_tenants(tx)
            tx.use_tenants(tenants)
            return await keys.expire(tx, tenants, limit) if tenants else 0

    return Step(f"{schema}.expire_keys", run, pause_s=600)
