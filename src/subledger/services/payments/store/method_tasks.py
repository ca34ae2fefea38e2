"""Intents about a saved method: to give it up at its provider, to ask how it is now; to open the
page on which it is saved, and to close that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.bulk import by_keys
from subledger.platform.db import DUE_READER, Tx, sql
from subledger.services.payments.store.payments import Key, split

Action = Literal["detach", "look", "setup", "expire"]
Task = tuple[UUID, UUID, str]
"""``(tenant_id, method_id, action)``"""
TASKS = "payments.method_tasks"
"""The kind of work that such an intent is."""
OF_METHOD = "method."
"""The kinds of hints that speak of a saved method begin so."""

_WANTED = "unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[])) AS w(tenant_id, id)"
_TASKS = (
    "unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[]), CAST(:actions AS text[]))"
    " AS w(tenant_id, method_id, action)"
)
# Asked again while it is claimed: the number moves on, so that the claim's end does not remove it.
_ASK = sql(
    f"""
    INSERT INTO payments.method_tasks AS t (tenant_id, method_id, action, asked, tries, ready_at)
    SELECT tenant_id, id, :action, 1, 0, clock_timestamp() FROM {_WANTED} ORDER BY tenant_id, id
    ON CONFLICT (tenant_id, method_id, action) DO UPDATE SET asked = t.asked + 1, tries = 0
    """
)
_READY = sql(
    "SELECT t.tenant_id, t.method_id, t.action FROM payments.method_tasks t"
    " WHERE t.ready_at <= statement_timestamp() ORDER BY t.ready_at LIMIT :limit"
)
_CLAIM = sql(
    f"""
    WITH locked AS (
        SELECT t.tenant_id, t.method_id, t.action, t.asked, t.tries FROM {_TASKS}
        JOIN payments.method_tasks t USING (tenant_id, method_id, action)
        WHERE t.ready_at <= statement_timestamp()
        ORDER BY t.tenant_id, t.method_id, t.action FOR NO KEY UPDATE OF t SKIP LOCKED
    ), claimed AS (
        UPDATE payments.method_tasks AS t
        SET ready_at = clock_timestamp() + make_interval(secs => :lease_s)
        FROM locked l WHERE t.tenant_id = l.tenant_id AND t.method_id = l.method_id
          AND t.action = l.action
    )
    SELECT l.*, m.connection_id, m.token, m.customer_id, m.status, m.provider_ref, m.return_url
    FROM locked l
    JOIN payments.methods m ON m.tenant_id = l.tenant_id AND m.id = l.method_id
    """
)
_DONE = sql(
    "DELETE FROM payments.method_tasks AS t USING unnest(CAST(:tenants AS uuid[]),"
    " CAST(:ids AS uuid[]), CAST(:actions AS text[]), CAST(:asked AS bigint[]))"
    " AS w(tenant_id, method_id, action, asked)"
    " WHERE t.tenant_id = w.tenant_id AND t.method_id = w.method_id AND t.action = w.action"
    " AND t.asked = w.asked"
)
_RELEASE = sql(
    f"UPDATE payments.method_tasks AS t SET ready_at = clock_timestamp() FROM {_TASKS}"
    " WHERE t.tenant_id = w.tenant_id AND t.method_id = w.method_id AND t.action = w.action"
)
_AGAIN = sql(
    "UPDATE payments.method_tasks AS t SET tries = w.tries,"
    " ready_at = clock_timestamp() + make_interval(secs => w.wait_s)"
    " FROM unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[]), CAST(:actions AS text[]),"
    " CAST(:tries AS smallint[]), CAST(:waits AS integer[]))"
    " AS w(tenant_id, method_id, action, tries, wait_s)"
    " WHERE t.tenant_id = w.tenant_id AND t.method_id = w.method_id AND t.action = w.action"
)
_BY_REF = sql(
    "SELECT m.tenant_id, m.id, m.provider_ref"
    f" {by_keys('payments.methods m', tenant_id='tenants', provider_ref='refs text')}"
)


async def ask(tx: Tx, methods: Iterable[Key], action: Action) -> None:
    """Intend to give methods up at their provider (``detach``), to ask about them (``look``), to
    open the pages on which they are saved (``setup``), or to close those (``expire``)."""
    keys = split(methods)
    if keys["ids"]:
        tx.work.add(TASKS)
        await tx.run(_ASK, action=action, **keys)


async def by_ref(tx: Tx, refs: Iterable[tuple[UUID, str]]) -> dict[tuple[UUID, str], UUID]:
    """The method behind each ``(tenant_id, provider's name)`` that is known."""
    wanted = sorted(set(refs))
    if not wanted:
        return {}
    rows = await tx.rows(
        _BY_REF, tenants=[tenant for tenant, _ in wanted], refs=[ref for _, ref in wanted]
    )
    return {(row.tenant_id, row.provider_ref): row.id for row in rows}


async def ready(tx: Tx, limit: int) -> list[Task]:
    """Intents of all tenants that may be worked on now."""
    async with tx.reading_as(DUE_READER):
        rows = await tx.rows(_READY, limit=limit)
    return [(row.tenant_id, row.method_id, row.action) for row in rows]


def _split(tasks: Iterable[Task]) -> dict[str, list[Any]]:
    ordered = sorted(set(tasks))
    return {
        "tenants": [tenant for tenant, _, _ in ordered],
        "ids": [method for _, method, _ in ordered],
        "actions": [action for _, _, action in ordered],
    }


async def claim(tx: Tx, tasks: Iterable[Task], *, lease_s: float) -> Sequence[Row[Any]]:
    """Take intents for ``lease_s`` (wall clock) with their methods; skips what another holds."""
    return await tx.rows(_CLAIM, lease_s=lease_s, **_split(tasks))


async def done(tx: Tx, claimed: Iterable[Row[Any]]) -> None:
    """Remove intents; one that was asked again meanwhile is released instead."""
    rows = sorted(claimed, key=_task)
    if not rows:
        return
    keys = _split(map(_task, rows))
    if await tx.run(_DONE, asked=[row.asked for row in rows], **keys) < len(rows):
        tx.work.add(TASKS)
        await tx.run(_RELEASE, **keys)


async def again(tx: Tx, waits: Sequence[tuple[Row[Any], int, int]]) -> None:
    """Try again: ``(claimed, tries until now, seconds to wait by the wall clock)``."""
    ordered = sorted(waits, key=lambda each: _task(each[0]))
    if ordered:
        await tx.run(
            _AGAIN,
            tries=[tries for _, tries, _ in ordered],
            waits=[wait_s for _, _, wait_s in ordered],
            **_split(_task(row) for row, _, _ in ordered),
        )


def _task(row: Row[Any]) -> Task:
    return (row.tenant_id, row.method_id, row.action)
