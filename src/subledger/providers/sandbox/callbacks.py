"""Webhooks to merchants: owed in the transaction of the fact, signed, repeated until answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import structlog
from sqlalchemy import Row

from subledger.core.states import DUE_RANK
from subledger.platform import crashpoints, ids
from subledger.platform.db import Database, Tx, assert_no_transaction, story
from subledger.platform.due import Due
from subledger.providers.port import HttpRequest, Transport
from subledger.providers.sandbox import faults, store
from subledger.providers.sandbox.adapter import SIGNATURE, sign

MOST_TRIES = 10
MOST_NOW = 50
SEND_S, ROUND_S = 5.0, 10.0
"""Limits of one delivery and of one round of them: well within a claim's lease."""
_DUE = story("sandbox.callbacks_due")
_CLAIM = story("sandbox.claim_callbacks")
_RESULT = story("sandbox.record_callbacks")
_SENT = crashpoints.point("sandbox.callback.after_send")
_log = structlog.get_logger()
DueAct = Callable[[Tx, Sequence[Due]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Owed:
    """A webhook that a merchant is to get: what happened, with ids only."""

    tenant_id: UUID
    kind: str
    about: UUID
    data: Mapping[str, str]
    due_at: datetime


async def owe(tx: Tx, owed: Sequence[Owed]) -> None:
    """Write down webhooks, each due at its moment of the tenant's clock."""
    if not owed:
        return
    wanted: dict[UUID, int] = {}
    for each in owed:
        wanted[each.tenant_id] = wanted.get(each.tenant_id, 0) + 1
    spoiled = await store.take_faults(tx, wanted, modes=faults.at("webhook"))
    rows, due = [], []
    for each in owed:
        spent = spoiled.get(each.tenant_id)
        fault = spent.pop() if spent else ""
        callback = tx.ids.new()
        data = each.data
        if fault == "webhook_foreign":
            data = {name: _another(text, tx.ids.new()) for name, text in each.data.items()}
        body = {"id": ids.text("cb", callback), "type": each.kind, "data": data}
        due_at = each.due_at + faults.DELAYS.get(fault, timedelta())
        # A repeated delivery is the same notification: the same body and id once more.
        for _ in range(faults.DELIVERIES.get(fault, 1)):
            row_id = tx.ids.new()
            rows.append(
                {
                    "tenant_id": each.tenant_id,
                    "id": row_id,
                    "body": msgspec.json.encode(body).decode(),
                    "state": "waiting",
                    "tries": 0,
                    "created_at": due_at,
                    "signature": faults.SIGNATURES.get(fault, "right"),
                }
            )
            due.append(_due(each.tenant_id, row_id, each.about, due_at, tries=0))
    await store.add_callbacks(tx, rows)
    await store.due.put(tx, due)


async def tell_of_page(tx: Tx, page: Any, kind: str) -> None:
    """Owe the merchant a webhook about a page, due now by the tenant's clock."""
    data = {"attempt_id": page.attempt_id, "page_id": ids.text("page", page.id)}
    at = await tx.now(page.tenant_id)
    await owe(tx, [Owed(page.tenant_id, kind, page.id, data, at)])


def _another(text: str, other: UUID) -> str:
    """The name of an object of the same kind that is none of this merchant's."""
    prefix, _, rest = text.rpartition("_")
    return ids.text(prefix, other) if prefix and len(rest) > 20 else f"{text}-foreign"


def _due(tenant_id: UUID, row_id: UUID, about: UUID, due_at: datetime, *, tries: int) -> Due:
    return Due(
        tenant_id=tenant_id,
        kind=store.CALLBACK,
        id=row_id,
        account_id=about,
        rank=DUE_RANK[store.CALLBACK],
        number=tries,
        due_at=due_at,
    )


class Callbacks:
    """Signed webhooks to merchants, repeated until answered with 2xx, at most ten times.

    ``credentials`` knows a tenant's webhook secret; ``clock_s`` is the wall clock, for signatures.
    """

    def __init__(
        self,
        database: Database,
        credentials: Callable[[UUID], tuple[str, str]],
        transport: Transport,
        clock_s: Callable[[], int] = lambda: int(time.time()),
        *,
        others: Mapping[str, DueAct] | None = None,
    ) -> None:
        """``others`` act on what becomes due beside callbacks, by kind."""
        self._database = database
        self._credentials = credentials
        self._transport = transport
        self._clock_s = clock_s
        self._others = others or {}

    async def become_due(self, limit: int) -> int:
        """Callbacks whose moment has come (the tenant's clock) become ready to be sent."""
        async with self._database.transaction(_DUE) as tx:
            rows = await store.due.claim(tx, limit)
            ready = [
                {"tenant_id": row.tenant_id, "id": row.id, "state": "ready", "tries": row.number}
                for row in rows
                if row.kind == store.CALLBACK
            ]
            await store.set_callbacks(tx, ready)
            await store.due.drop(tx, ((row.tenant_id, row.kind, row.id) for row in rows))
            for kind, act in self._others.items():
                await act(tx, [row for row in rows if row.kind == kind])
            return len(rows)

    async def tell_now(self) -> None:
        """Deliver what is due, once."""
        await self.become_due(MOST_NOW)
        await self.deliver(MOST_NOW)

    async def deliver(self, limit: int) -> int:
        """Send what is ready, one after another; a failure is due again later, by the tenant's
        clock. What a slow merchant leaves no time for goes back without counting a try."""
        async with self._database.transaction(_CLAIM) as tx:
            rows = await store.claim_callbacks(tx, min(limit, 50))
            paths = await store.webhook_paths(tx, {row.tenant_id for row in rows}) if rows else {}
        if not rows:
            return 0
        until = time.monotonic() + ROUND_S
        results: list[tuple[Row[Any], bool | None]] = []
        for row in rows:
            sent = time.monotonic() < until
            results.append((row, await self._send(row, paths[row.tenant_id]) if sent else None))
        _SENT.hit()

        async def record(tx: Tx) -> None:
            await _record(tx, results)

        await self._database.transact(_RESULT, record, tenants={row.tenant_id for row in rows})
        return len(results)

    async def _send(self, row: Row[Any], path: str) -> bool:
        assert_no_transaction("a webhook")
        body = row.body.encode()
        _, secret = self._credentials(row.tenant_id)
        headers = {"content-type": "application/json"}
        spoiled = row.signature if row.tries == 1 else "right"
        if spoiled != "none":
            key = secret if spoiled == "right" else "not the secret"
            headers[SIGNATURE] = sign(body, key, self._clock_s())
        try:
            async with asyncio.timeout(SEND_S):
                answer = await self._transport.send(HttpRequest("POST", path, headers, body))
        except Exception as error:
            _log.warning("sandbox.callback_failed", error=type(error).__name__)
            return False
        return 200 <= answer.status < 300


async def _record(tx: Tx, results: Sequence[tuple[Row[Any], bool | None]]) -> None:
    clocks = await tx.clocks({row.tenant_id for row, _ in results})
    states, again = [], []
    for row, delivered in results:
        state, tries = "delivered", row.tries
        if delivered is None:
            state, tries = "ready", row.tries - 1
        elif not delivered:
            state = "waiting" if row.tries < MOST_TRIES else "given_up"
        states.append({"tenant_id": row.tenant_id, "id": row.id, "state": state, "tries": tries})
        if state == "waiting":
            # 1, 8, 27 … minutes: the last of ten tries is a day and a half after the first.
            at = clocks[row.tenant_id] + timedelta(minutes=row.tries**3)
            again.append(_due(row.tenant_id, row.id, row.id, at, tries=row.tries))
    await store.set_callbacks(tx, states)
    await store.due.put(tx, again)
