"""Intents to ask a provider about attempts: one table for each kind of question.

An intent that is claimed may be asked for again: its number moves on, so that the claim's end does
not remove it. A claim that is not ended within its lease (seconds, wall clock) is anybody's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Row

from subledger.platform.bulk import by_keys
from subledger.platform.db import DUE_READER, Tx, sql
from subledger.services.payments.store.payments import Key, split

_FREE = (
    "(r.claimed_at IS NULL"
    " OR r.claimed_at < statement_timestamp() - make_interval(secs => :lease_s))"
)


class Looks:
    """One kind of question, kept in ``table``; its name is the kind of work that it makes.

    Where a question may teach nothing and is then asked again, ``counts_tries``: how often it
    taught nothing before is kept with it.
    """

    def __init__(self, table: str, *, counts_tries: bool = False) -> None:
        self.work = table
        self._counts_tries = counts_tries
        tries = ", tries" if counts_tries else ""
        given = ", CAST(:tries AS smallint[])" if counts_tries else ""
        self._ask = sql(
            f"""
            INSERT INTO {table} AS r (tenant_id, attempt_id, asked{tries}, requested_at)
            SELECT tenant_id, id, 1{tries}, clock_timestamp()
            FROM unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[]){given})
                AS w(tenant_id, id{tries}) ORDER BY tenant_id, id
            ON CONFLICT (tenant_id, attempt_id) DO UPDATE SET asked = r.asked + 1
            """
        )
        self._waiting = sql(
            f"SELECT r.tenant_id, r.attempt_id AS id FROM {table} r WHERE {_FREE}"
            " ORDER BY r.claimed_at NULLS FIRST, r.requested_at LIMIT :limit"
        )
        of_look = ", l.tries" if counts_tries else ""
        self._claim = sql(
            f"""
            WITH locked AS (
                SELECT r.tenant_id, r.attempt_id, r.asked{tries}
                {by_keys(f"{table} r", tenant_id="tenants", attempt_id="ids")}
                WHERE {_FREE} FOR NO KEY UPDATE OF r SKIP LOCKED
            ), claimed AS (
                UPDATE {table} AS r SET claimed_at = clock_timestamp()
                FROM locked l WHERE r.tenant_id = l.tenant_id AND r.attempt_id = l.attempt_id
            )
            SELECT l.tenant_id, l.attempt_id, l.asked{of_look}, a.payment_id, a.state,
                   p.connection_id
            FROM locked l
            JOIN payments.attempts a ON a.tenant_id = l.tenant_id AND a.id = l.attempt_id
            JOIN payments.payments p ON p.tenant_id = a.tenant_id AND p.id = a.payment_id
            """
        )
        self._done = sql(
            f"DELETE FROM {table} AS r USING unnest(CAST(:tenants AS uuid[]),"
            " CAST(:ids AS uuid[]), CAST(:asked AS bigint[])) AS w(tenant_id, attempt_id, asked)"
            " WHERE r.tenant_id = w.tenant_id AND r.attempt_id = w.attempt_id"
            " AND r.asked = w.asked"
        )
        self._release = sql(
            f"UPDATE {table} AS r SET claimed_at = NULL"
            " FROM unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[])) AS w(tenant_id, id)"
            " WHERE r.tenant_id = w.tenant_id AND r.attempt_id = w.id"
        )

    async def ask(
        self, tx: Tx, attempts: Iterable[Key], tries: Mapping[Key, int] | None = None
    ) -> None:
        """Intend to ask about attempts; ``tries`` are 0 where they are not given."""
        keys = split(attempts)
        if not keys["ids"]:
            return
        given: dict[str, list[int]] = {}
        if self._counts_tries:
            pairs = zip(keys["tenants"], keys["ids"], strict=True)
            given = {"tries": [(tries or {}).get(pair, 0) for pair in pairs]}
        tx.work.add(self.work)
        await tx.run(self._ask, **keys, **given)

    async def waiting(self, tx: Tx, *, lease_s: float, limit: int) -> list[Key]:
        """Attempts of all tenants with an intent that nobody works on."""
        async with tx.reading_as(DUE_READER):
            rows = await tx.rows(self._waiting, lease_s=lease_s, limit=limit)
        return [(row.tenant_id, row.id) for row in rows]

    async def claim(self, tx: Tx, keys: Iterable[Key], *, lease_s: float) -> Sequence[Row[Any]]:
        """Claim intents and return what the questions need; skips what another holds."""
        return await tx.rows(self._claim, lease_s=lease_s, **split(keys))

    async def looked(self, tx: Tx, claimed: Iterable[Row[Any]]) -> None:
        """Remove answered intents; one that was asked again meanwhile is released instead."""
        rows = sorted(claimed, key=lambda row: (row.tenant_id, row.attempt_id))
        removed = await tx.run(
            self._done,
            tenants=[row.tenant_id for row in rows],
            ids=[row.attempt_id for row in rows],
            asked=[row.asked for row in rows],
        )
        if removed < len(rows):
            tx.work.add(self.work)
            keys = split((row.tenant_id, row.attempt_id) for row in rows)
            await tx.run(self._release, **keys)


REFUNDS = Looks("payments.refund_looks")
DISPUTES = Looks("payments.dispute_looks", counts_tries=True)
