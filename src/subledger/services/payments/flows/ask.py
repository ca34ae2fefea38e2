"""Asking providers again: what is unknown, what a webhook hinted at, pages that are to close."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from sqlalchemy import Row

from subledger.platform import crashpoints
from subledger.platform.db import Database, Tx, story
from subledger.services.payments.flows.connect import Connecting, NoConnection
from subledger.services.payments.protocol import Absent, Finding, Lost
from subledger.services.payments.provider import Providers
from subledger.services.payments.store import intents
from subledger.services.payments.store.payments import Key
from subledger.services.payments.usecases import look
from subledger.services.payments.usecases.settle import Result, settle

_DUE = story("payments.ask_due")
_SCAN = story("payments.claim_questions")
_RECORD = story("payments.record_answers")
_AFTER_CALL = crashpoints.point("payments.fetch.after_call")

_log = structlog.get_logger()


class Asking:
    """The refetch executor's steps, and the same for one attempt that somebody waits for."""

    def __init__(
        self,
        *,
        database: Database,
        providers: Providers,
        connecting: Connecting,
        lease_s: float,
    ) -> None:
        self._database = database
        self._providers = providers
        self._connecting = connecting
        self._lease_s = lease_s

    async def ask_due(self, limit: int) -> int:
        """Turn due moments into intents."""
        async with self._database.transaction(_DUE) as tx:
            return await look.ask_due(tx, limit)

    async def answer(self, limit: int) -> int:
        """Work off intents: ask the provider, apply what it says."""
        async with self._database.transaction(_SCAN) as tx:
            keys = await intents.waiting(tx, lease_s=self._lease_s, limit=limit)
            if not keys:
                return 0
            await tx.use_tenants({tenant for tenant, _ in keys})
            rows = await intents.claim(tx, keys, lease_s=self._lease_s)
        return await self._answer_all(list(rows))

    async def drive(self, attempt: Key) -> None:
        """Work off the intent of one attempt now, unless another works on it."""
        async with self._database.transaction(_SCAN, tenants=[attempt[0]]) as tx:
            rows = await intents.claim(tx, [attempt], lease_s=self._lease_s)
        await self._answer_all(list(rows))

    async def _answer_all(self, rows: list[Row[Any]]) -> int:
        if not rows:
            return 0
        findings = await asyncio.gather(*(self._ask(row) for row in rows))
        _AFTER_CALL.hit()
        results = [
            Result((row.tenant_id, row.attempt_id), finding, action=row.action)
            for row, finding in zip(rows, findings, strict=True)
        ]

        async def record(tx: Tx) -> None:
            await settle(tx, results)
            await intents.done(tx, rows)

        await self._database.transact(_RECORD, record, tenants={row.tenant_id for row in rows})
        return len(rows)

    async def _ask(self, row: Row[Any]) -> Finding:
        try:
            connection_id = row.connection_id or await self._connecting.default(row.tenant_id)
        except NoConnection:
            return Absent()
        try:
            if row.action == "expire" and row.kind == "page" and row.provider_ref is not None:
                return await self._providers.close_page(
                    connection_id, row.tenant_id, row.provider_ref
                )
            return await self._providers.look(connection_id, row.tenant_id, row.attempt_id)
        except Exception as error:
            _log.exception("payments.question_broke", attempt_id=str(row.attempt_id))
            return Lost(type(error).__name__)
