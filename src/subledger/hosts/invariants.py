"""Every service's invariants over every tenant, in bounded batches."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text

from subledger.hosts.assembly import Assembly
from subledger.platform import ids
from subledger.platform.db import story
from subledger.services.identity import store

TENANTS_AT_ONCE = 200
_LIST = story("hosts.list_tenants")
_CHECK = story("hosts.check_invariants")


@dataclass(frozen=True, slots=True)
class Violation:
    """A row that an invariant's query should not have returned."""

    service: str
    invariant: str
    tenant_id: UUID
    detail: str

    def __str__(self) -> str:
        tenant = ids.text("ten", self.tenant_id)
        return f"{self.service}: {self.invariant}: {tenant}: {self.detail}"


async def violations(assembly: Assembly, *, tenants: list[UUID] | None = None) -> list[Violation]:
    """What is wrong now, of all tenants or of those given; empty is right.

    Each service's queries run as its own role in one transaction, each query on what is committed
    as it begins: what changes meanwhile cannot show as a violation inside one service.
    """
    found: list[Violation] = []
    if tenants is not None:
        return await _of(assembly, tenants)
    async for batch in every_tenant(assembly):
        found += await _of(assembly, batch)
    return found


async def every_tenant(assembly: Assembly) -> AsyncIterator[list[UUID]]:
    """All tenants, a page at a time."""
    after = store.FIRST
    while True:
        async with assembly.databases["identity"].transaction(_LIST) as tx:
            batch = await store.all_tenants(tx, after=after, limit=TENANTS_AT_ONCE)
        if not batch:
            return
        yield batch
        after = batch[-1]


async def _of(assembly: Assembly, tenants: list[UUID]) -> list[Violation]:
    found: list[Violation] = []
    for service in assembly.running:
        async with service.database.transaction(_CHECK, tenants=tenants) as tx:
            for invariant in service.invariants:
                found += [
                    Violation(service.name, invariant.name, row.tenant_id, row.detail)
                    for row in await tx.rows(text(invariant.query))
                ]
    return found
