"""When a reconciliation begins: every day, when a payout is told of, and when a person asks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from subledger.core.states import DUE_RANK
from subledger.platform.db import Tx
from subledger.platform.due import Due
from subledger.platform.http.problems import Problem
from subledger.services.payments.store import intents
from subledger.services.payments.store import reconciliations as store
from subledger.services.payments.store.payments import Key
from subledger.services.payments.usecases.reconcile import MARGIN

OVERLAP: Final = timedelta(days=1)
"""A run lists the day before once more: what a provider lists late is found a day late."""
LONGEST: Final = timedelta(days=400)


async def begin(
    tx: Tx,
    connection: Key,
    *,
    origin: str,
    run_id: UUID,
    since: datetime | None = None,
    until: datetime | None = None,
) -> None:
    """Begin a run: from where the last one ended (less the overlap; the first from the connection's
    beginning) until now, where nothing else is asked for.

    Raises Problem not_found, and invalid_request for a time that is empty, or too long.
    """
    row = (await store.lock_connections(tx, [connection])).get(connection)
    if row is None:
        raise Problem("not_found", detail="There is no such connection.")
    # What happens at this very moment belongs to it.
    now = await tx.now(connection[0]) + timedelta(microseconds=1)
    end = now if until is None else min(until, now)
    if since is None:
        last = await store.newest_done(tx, connection)
        known = row.created_at if last is None else last.until_at
        since = max(min(known, end) - OVERLAP, end - LONGEST)
    if not timedelta(0) < end - since <= LONGEST:
        raise Problem(
            "invalid_request",
            detail=f"A run covers a time of up to {LONGEST.days} days that has begun.",
            pointer="/since",
        )
    await store.insert_run(
        tx, connection, run_id=run_id, origin=origin, since=since, until=end, now=now
    )


async def set_daily(tx: Tx, connection: Key, *, daily: bool) -> None:
    """Whether a connection is compared every day, an hour after midnight (UTC).

    Raises Problem not_found.
    """
    if connection not in await store.lock_connections(tx, [connection]):
        raise Problem("not_found", detail="There is no such connection.")
    if not await store.set_daily(tx, connection, daily=daily):
        return
    if daily:
        await intents.due.put(tx, [_next_day(connection, await tx.now(connection[0]))])
    else:
        await intents.due.drop(tx, [(connection[0], store.DUE, connection[1])])


async def reach_days(tx: Tx, rows: Sequence[Due]) -> None:
    """The day of each connection is over: begin its run, and set the next moment."""
    keys = [(row.tenant_id, row.id) for row in rows]
    known = await store.lock_connections(tx, keys)
    clocks = await tx.clocks({tenant for tenant, _ in known})
    for row in rows:
        connection = known.get((row.tenant_id, row.id))
        if connection is None or not connection.reconciles_daily:
            continue
        await begin(
            tx,
            (row.tenant_id, row.id),
            origin="daily",
            run_id=tx.ids.new(),
            until=row.due_at - MARGIN,
        )
        await intents.due.put(tx, [_next_day((row.tenant_id, row.id), clocks[row.tenant_id])])


async def hear_payouts(tx: Tx, connections: Iterable[Key]) -> None:
    """The provider says that it paid out: see what it was."""
    for connection in sorted(set(connections)):
        if connection not in await store.lock_connections(tx, [connection]):
            continue
        if not await store.is_begun(tx, connection, until=await tx.now(connection[0])):
            await begin(tx, connection, origin="payout", run_id=tx.ids.new())


def _next_day(connection: Key, now: datetime) -> Due:
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return Due(
        tenant_id=connection[0],
        kind=store.DUE,
        id=connection[1],
        account_id=connection[1],
        due_at=midnight + timedelta(days=1) + MARGIN,
        rank=DUE_RANK[store.DUE],
    )
