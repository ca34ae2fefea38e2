"""Asking providers again: what is unknown, what a webhook hinted at, pages that are to close."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Row

from subledger.platform import crashpoints
from subledger.platform.db import Database, Tx, story
from subledger.providers.hearing import hearing
from subledger.services.payments.flows.connect import Connecting, NoConnection
from subledger.services.payments.flows.until import until
from subledger.services.payments.protocol import Absent, Finding, Lost
from subledger.services.payments.provider import Providers
from subledger.services.payments.provider_steps import Steps
from subledger.services.payments.store import intents
from subledger.services.payments.store.payments import Key
from subledger.services.payments.usecases import look
from subledger.services.payments.usecases.settle import Result, settle

_DUE = story("payments.ask_due")
_SCAN = story("payments.claim_questions")
_READ = story("payments.read_question", reads=True)
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
        self._steps = Steps(providers)
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
            tx.use_tenants({tenant for tenant, _ in keys})
            rows = await intents.claim(tx, keys, lease_s=self._lease_s)
            asked_at = await tx.clocks({row.tenant_id for row in rows})
        return await self._answer_all(list(rows), asked_at)

    async def answered(self, attempt: Key, *, wait_s: float) -> bool:
        """Work off the intent of one attempt, or wait for who was quicker, at most ``wait_s``;
        whether it is worked off."""
        await self.drive(attempt)

        async def look() -> bool | None:
            async with self._database.transaction(_READ, tenants=[attempt[0]]) as tx:
                return None if await intents.is_asked(tx, attempt) else True

        return await until(self._database.wakeup, look, wait_s) is not None

    async def drive(self, attempt: Key, *, params: Mapping[str, str] | None = None) -> None:
        """Work off the intent of one attempt now, unless another works on it. ``params`` are what
        its payer brought back from the provider's page."""
        async with self._database.transaction(_SCAN, tenants=[attempt[0]]) as tx:
            rows = await intents.claim(tx, [attempt], lease_s=self._lease_s)
            asked_at = await tx.clocks({row.tenant_id for row in rows})
        await self._answer_all(list(rows), asked_at, params=params)

    async def _answer_all(
        self,
        rows: list[Row[Any]],
        asked_at: Mapping[UUID, datetime],
        *,
        params: Mapping[str, str] | None = None,
    ) -> int:
        if not rows:
            return 0
        results = await asyncio.gather(
            *(self._result(row, asked_at[row.tenant_id], params) for row in rows)
        )
        _AFTER_CALL.hit()

        async def record(tx: Tx) -> None:
            await settle(tx, results)
            await intents.done(tx, rows)

        await self._database.transact(_RECORD, record, tenants={row.tenant_id for row in rows})
        return len(rows)

    async def _result(
        self, row: Row[Any], asked_at: datetime, params: Mapping[str, str] | None
    ) -> Result:
        with hearing() as answers:
            finding = await self._ask(row, params)
        attempt = (row.tenant_id, row.attempt_id)
        return Result(attempt, finding, action=row.action, asked_at=asked_at, answers=answers)

    async def _ask(self, row: Row[Any], params: Mapping[str, str] | None) -> Finding:
        try:
            connection_id = row.connection_id or await self._connecting.default(row.tenant_id)
        except NoConnection:
            return Absent()
        try:
            if row.action == "expire" and row.provider_ref is not None:
                return await self._providers.stop_waiting(
                    connection_id, row.tenant_id, row.provider_ref
                )
            if params is not None and row.kind == "page":
                return await self._steps.complete(
                    connection_id, row.tenant_id, row.attempt_id, row.provider_ref, params
                )
            return await self._providers.look(connection_id, row.tenant_id, row.attempt_id)
        except Exception as error:
            _log.exception("payments.question_broke", attempt_id=str(row.attempt_id))
            return Lost(type(error).__name__)
