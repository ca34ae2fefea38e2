"""Asking providers for the disputes of attempts: claim, ask, record.

A hint, a due moment or money found late leaves an intent (``dispute_looks``); any process works it
off, and what a dead one had claimed is claimed again after the lease.
"""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Row

from subledger.platform import crashpoints, ids
from subledger.platform.db import Database, Tx, story
from subledger.platform.service import Step
from subledger.providers import port
from subledger.services.payments.disputing import Found
from subledger.services.payments.provider import Providers
from subledger.services.payments.store import looks
from subledger.services.payments.usecases import disputes

_CLAIM = story("payments.dispute_claim")
_RECORD = story("payments.dispute_record")
_ASKED = crashpoints.point("payments.dispute.after_call")

_log = structlog.get_logger()


class Disputing:
    """The step that looks for disputes."""

    def __init__(
        self, *, database: Database, providers: Providers, lease_s: float, call_s: float
    ) -> None:
        """``call_s`` bounds one question (wall clock); ``lease_s`` is how long a claimed one may
        take before its caller counts as vanished."""
        self._database = database
        self._providers = providers
        self._lease_s = lease_s
        self._call_s = call_s

    def steps(self) -> list[Step]:
        """What workers run."""
        types = frozenset({looks.DISPUTES.work})
        return [Step("payments.dispute_look", self.look, limit=100, types=types)]

    async def look(self, limit: int) -> int:
        """Ask providers for the disputes of attempts, and take over what they list."""
        async with self._database.transaction(_CLAIM) as tx:
            keys = await looks.DISPUTES.waiting(tx, lease_s=self._lease_s, limit=limit)
            if not keys:
                return 0
            tx.use_tenants({tenant for tenant, _ in keys})
            rows = list(await looks.DISPUTES.claim(tx, keys, lease_s=self._lease_s))
        if not rows:
            return 0
        lists = await asyncio.gather(*(self._list(row) for row in rows))
        _ASKED.hit()

        async def record(tx: Tx) -> None:
            await disputes.take_list(tx, list(zip(rows, lists, strict=True)))
            await looks.DISPUTES.looked(tx, rows)

        await self._database.transact(_RECORD, record, tenants={row.tenant_id for row in rows})
        return len(rows)

    async def _list(self, row: Row[Any]) -> list[Found] | None:
        if row.connection_id is None:
            return None
        try:
            return await self._ask(row.tenant_id, row.connection_id, row.attempt_id)
        except Exception:
            _log.exception("payments.dispute_look_broke", attempt_id=str(row.attempt_id))
            return None

    async def _ask(
        self, tenant_id: UUID, connection_id: UUID, attempt_id: UUID
    ) -> list[Found] | None:
        """All disputes that the provider knows; None if it does not say."""
        gateway, connection = await self._providers.gateway_of(tenant_id, connection_id)
        if gateway.adapter.capabilities.disputes == "none":
            return []
        try:
            async with asyncio.timeout(self._call_s):
                answer = await gateway.disputes(connection, ids.text("att", attempt_id))
        except TimeoutError:
            return None
        if isinstance(answer, port.Unknown):
            return None
        return [
            Found(
                provider_ref=each.provider_ref,
                amount_minor=each.amount_minor,
                currency=each.currency,
                reason=each.reason,
                state=each.status,
                evidence_due_at=each.evidence_due_at,
                fee_minor=each.fee_minor,
            )
            for each in answer.listed
        ]
