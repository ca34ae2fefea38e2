"""Capturing and voiding what is authorized.

The intent is a row. Whoever claims it asks the provider first how the authorization stands, and
captures only what is still open there: a caller that vanished after its call, or whose reply was
lost, is never followed by a second capture made blindly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Row

from subledger.platform import crashpoints, ids
from subledger.platform.db import Database, Tx, story
from subledger.platform.service import Step
from subledger.providers import port
from subledger.providers.hearing import hearing
from subledger.services.payments import wishes
from subledger.services.payments.protocol import Authorized, Finding, Lost
from subledger.services.payments.provider import Providers
from subledger.services.payments.store import authorizations as store
from subledger.services.payments.store.payments import Key
from subledger.services.payments.usecases import capture
from subledger.services.payments.usecases.settle import Result

_CLAIM = story("payments.claim_captures")
_RECORD = story("payments.record_captures")
_BEFORE_CALL = crashpoints.point("payments.capture.before_call")
_AFTER_CALL = crashpoints.point("payments.capture.after_call")

_log = structlog.get_logger()


class Capturing:
    """The step of captures and voids, and the same for one that somebody waits for."""

    def __init__(self, *, database: Database, providers: Providers, lease_s: float) -> None:
        """``lease_s``: how long a claim may take before its caller counts as vanished; it is
        longer than the two calls that one makes."""
        self._database = database
        self._providers = providers
        self._lease_s = lease_s

    def steps(self) -> list[Step]:
        """What workers run."""
        return [
            # Also by time: what was claimed by a caller that vanished is made ready by no commit.
            Step(
                "payments.capture",
                self.capture,
                limit=100,
                types=frozenset({store.WANTED}),
            ),
            Step("payments.capture_again", self.capture, limit=100, pause_s=1, types=frozenset()),
        ]

    async def capture(self, limit: int) -> int:
        """Capture and void what is wanted."""
        async with self._database.transaction(_CLAIM) as tx:
            keys = await store.wanted(tx, lease_s=self._lease_s, limit=limit)
            if not keys:
                return 0
            tx.use_tenants({tenant for tenant, _ in keys})
            rows = await store.claim(tx, keys, lease_s=self._lease_s)
            asked_at = await tx.clocks({row.tenant_id for row in rows})
        return await self._work_off(rows, asked_at)

    async def drive(self, attempt: Key) -> None:
        """Work off what is wanted of one attempt now, unless another works on it."""
        async with self._database.transaction(_CLAIM, tenants=[attempt[0]]) as tx:
            rows = await store.claim(tx, [attempt], lease_s=self._lease_s)
            asked_at = await tx.clocks({row.tenant_id for row in rows})
        await self._work_off(rows, asked_at)

    async def _work_off(self, rows: Sequence[Row[Any]], asked_at: Mapping[UUID, datetime]) -> int:
        if not rows:
            return 0
        results = await asyncio.gather(*(self._result(row, asked_at) for row in rows))
        _AFTER_CALL.hit()

        async def work(tx: Tx) -> None:
            await capture.record(tx, results)

        await self._database.transact(_RECORD, work, tenants={row.tenant_id for row in rows})
        return len(rows)

    async def _result(self, row: Row[Any], asked_at: Mapping[UUID, datetime]) -> Result:
        with hearing() as answers:
            try:
                finding = await self._ask(row)
            except Exception as error:
                # Whatever broke, the request may have left: unknown, never failed.
                _log.exception("payments.capture_broke", attempt_id=str(row.attempt_id))
                finding = Lost(type(error).__name__)
        return Result(
            (row.tenant_id, row.attempt_id),
            finding,
            action=row.wish,
            asked_at=asked_at[row.tenant_id],
            answers=answers,
        )

    async def _ask(self, row: Row[Any]) -> Finding:
        standing = await self._providers.look(row.connection_id, row.tenant_id, row.attempt_id)
        if not isinstance(standing, Authorized):
            return standing
        gateway, connection = await self._providers.gateway_of(row.tenant_id, row.connection_id)
        ref = standing.provider_ref or row.provider_ref
        _BEFORE_CALL.hit()
        if row.wish == wishes.VOID:
            return await self._providers.find(gateway.cancel(connection, ref))
        request = port.CaptureRequest(
            attempt_id=ids.text("att", row.attempt_id),
            provider_ref=ref,
            amount_minor=row.capture_minor,
            currency=row.currency,
        )
        return await self._providers.find(gateway.capture(connection, request))
