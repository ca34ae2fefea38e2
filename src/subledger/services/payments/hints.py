"""Payments' answer to ``contracts.hints``: notifications that still wait for their object."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from subledger.contracts.calls import Call
from subledger.contracts.hints import WaitingHint
from subledger.platform.db import Database, Tx, story
from subledger.services.payments.store import intents

_READ = story("payments.read_hints", reads=True)


class Hints:
    """Reads only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def waiting_hints(self, call: Call, webhook_ids: Sequence[UUID]) -> Sequence[WaitingHint]:
        """Those of the notifications that wait."""

        async def read(tx: Tx) -> list[WaitingHint]:
            rows = await intents.waiting_hints(tx, ((call.tenant_id, each) for each in webhook_ids))
            return [
                WaitingHint(webhook_id=row.webhook_id, looks=row.tries, next_look_at=row.due_at)
                for row in rows
            ]

        return await self._database.transact(_READ, read, tenants=[call.tenant_id])
