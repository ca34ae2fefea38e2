"""Work that waits behind a stop: due rows that are set aside, and kill switches of other services.

A stopped tenant's rows are moved from ``<schema>.due`` to ``<schema>.held_due`` when they are
claimed, and back, the earliest first, once no source keeps the stop. Whoever sets aside shares the
row of the stop until the transaction ends, so that the step which brings back, and then forgets
the stop, finds all of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from uuid import UUID

from sqlalchemy import Table

from subledger.contracts.events import Recorded
from subledger.platform.db import DUE_READER, Tx, sql
from subledger.platform.due import DueQueue

_ROW = "tenant_id, kind, id, account_id, due_at, rank, number"
_KEYS = (
    "unnest(CAST(:tenants AS uuid[]), CAST(:kinds AS text[]), CAST(:ids AS uuid[]))"
    " AS w(tenant_id, kind, id)"
)


class HeldQueue(DueQueue):
    """Due rows, some of them held: what is not due any more is not held either."""

    def __init__(self, table: Table) -> None:
        super().__init__(table)
        schema = self.schema
        self._set_aside = sql(
            f"""
            WITH gone AS (
                DELETE FROM {schema}.due AS d USING {_KEYS}
                WHERE d.tenant_id = w.tenant_id AND d.kind = w.kind AND d.id = w.id RETURNING d.*
            )
            INSERT INTO {schema}.held_due ({_ROW})
            SELECT {_ROW} FROM gone ORDER BY tenant_id, kind, id
            ON CONFLICT (tenant_id, kind, id) DO UPDATE SET account_id = excluded.account_id,
                due_at = excluded.due_at, rank = excluded.rank, number = excluded.number
            """
        )
        # What became due anew meanwhile stands; only rows that nobody else can be inserting are
        # waited for.
        self._bring_back = sql(
            f"""
            WITH first AS (
                SELECT h.tenant_id, h.kind, h.id FROM {schema}.held_due h
                WHERE h.tenant_id = :tenant
                ORDER BY h.due_at, h.rank, h.number LIMIT :limit FOR UPDATE
            ), gone AS (
                DELETE FROM {schema}.held_due AS h USING first f
                WHERE h.tenant_id = f.tenant_id AND h.kind = f.kind AND h.id = f.id RETURNING h.*
            ), back AS (
                INSERT INTO {schema}.due ({_ROW}) SELECT {_ROW} FROM gone g WHERE NOT EXISTS (
                    SELECT FROM {schema}.due d
                    WHERE d.tenant_id = g.tenant_id AND d.kind = g.kind AND d.id = g.id)
                ORDER BY tenant_id, kind, id ON CONFLICT (tenant_id, kind, id) DO NOTHING
            )
            SELECT count(*) AS moved FROM gone
            """
        )
        self._drop_held = sql(
            f"DELETE FROM {schema}.held_due AS h USING {_KEYS}"
            " WHERE h.tenant_id = w.tenant_id AND h.kind = w.kind AND h.id = w.id"
        )

    async def drop(self, tx: Tx, keys: Iterable[tuple[UUID, str, UUID]]) -> None:
        """As ``DueQueue.drop``, held rows too, also those that are being set aside or brought back:
        each delete waits for them, and the next one finds them where they went."""
        given = list(keys)
        if not given:
            return
        await super().drop(tx, given)
        await tx.run(self._drop_held, **_split(given))
        await super().drop(tx, given)

    async def set_aside(self, tx: Tx, keys: Iterable[tuple[UUID, str, UUID]]) -> None:
        """Move due rows ``(tenant_id, kind, id)`` to the held ones; the rows that stop their
        tenants must be shared."""
        given = list(keys)
        if given:
            await tx.run(self._set_aside, **_split(given))

    async def bring_back(self, tx: Tx, tenant_id: UUID, limit: int) -> int:
        """Make a tenant's held rows due again, the earliest first, at most ``limit``; how many."""
        moved = int((await tx.rows(self._bring_back, tenant=tenant_id, limit=limit))[0].moved)
        if moved:
            tx.wrote = True
            tx.work.add(self.work)
        return moved


class Switch:
    """A kill switch that billing announces (``kill_switch.changed``), as a service that obeys it
    knows it: ``<schema>.holds`` has a row for each source, and a source that let go stays as
    ``is_on = false`` until ``bring_back(tx, tenant_id, limit)`` has less than ``limit`` to do."""

    def __init__(
        self, schema: str, job: str, bring_back: Callable[[Tx, UUID, int], Awaitable[int]]
    ) -> None:
        self.job = job
        self.work = f"{schema}.holds"
        """The kind of work that a switch which was let go is."""
        self._bring_back = bring_back
        self._set = sql(
            f"INSERT INTO {schema}.holds (tenant_id, source, is_on)"
            " VALUES (:tenant, :source, :on)"
            " ON CONFLICT (tenant_id, source) DO UPDATE SET is_on = excluded.is_on"
        )
        self._let_go = sql(
            f"SELECT DISTINCT h.tenant_id FROM {schema}.holds h WHERE NOT h.is_on AND NOT EXISTS ("
            f" SELECT FROM {schema}.holds o WHERE o.tenant_id = h.tenant_id AND o.is_on)"
            " ORDER BY h.tenant_id LIMIT :limit"
        )
        self._lock = sql(
            f"SELECT source, is_on FROM {schema}.holds WHERE tenant_id = :tenant"
            " ORDER BY source FOR UPDATE"
        )
        self._forget = sql(f"DELETE FROM {schema}.holds WHERE tenant_id = :tenant AND NOT is_on")

    async def hear(self, tx: Tx, given: Sequence[Recorded]) -> None:
        """Remember how the switch stands; each tenant's events come in their order."""
        for event in given:
            if event.data["job"] == self.job:
                await tx.run(
                    self._set,
                    tenant=event.tenant_id,
                    source=event.data["source"],
                    on=event.data["on"],
                )
                tx.work.add(self.work)

    async def let_go(self, tx: Tx, limit: int) -> int:
        """Bring back what had to wait of tenants whose switch no source keeps any more: at most
        ``limit`` tenants, and ``limit`` pieces of work of each. How many rows that changed."""
        async with tx.reading_as(DUE_READER):
            tenants = [row.tenant_id for row in await tx.rows(self._let_go, limit=limit)]
        if not tenants:
            return 0
        tx.use_tenants(tenants)
        return sum([await self._take_back(tx, tenant, limit) for tenant in tenants])

    async def _take_back(self, tx: Tx, tenant_id: UUID, limit: int) -> int:
        rows = await tx.rows(self._lock, tenant=tenant_id)
        if not rows or any(row.is_on for row in rows):
            return 0
        moved = await self._bring_back(tx, tenant_id, limit)
        if moved < limit:
            moved += await tx.run(self._forget, tenant=tenant_id)
        return moved


def _split(keys: Sequence[tuple[UUID, str, UUID]]) -> dict[str, list[object]]:
    return {
        "tenants": [tenant for tenant, _, _ in keys],
        "kinds": [kind for _, kind, _ in keys],
        "ids": [each for _, _, each in keys],
    }
