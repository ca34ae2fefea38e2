"""Tending saved methods: given up at the provider, and taken over as the provider changed them."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from sqlalchemy import Row

from subledger.platform import crashpoints
from subledger.platform.db import Database, Tx, story
from subledger.platform.service import Step
from subledger.services.payments.method_calls import MethodCalls
from subledger.services.payments.protocol import Lost
from subledger.services.payments.store import method_tasks
from subledger.services.payments.usecases.method_tasks import Answer, take_answers

_CLAIM = story("payments.claim_method_tasks")
_RECORD = story("payments.record_method_tasks")
_AFTER_CALL = crashpoints.point("payments.method_task.after_call")

_log = structlog.get_logger()


class Tending:
    """Works off intents about methods; both questions may be asked twice without harm."""

    def __init__(self, *, database: Database, calls: MethodCalls, lease_s: float) -> None:
        self._database = database
        self._calls = calls
        self._lease_s = lease_s

    def steps(self) -> list[Step]:
        """What workers run."""
        work = frozenset({method_tasks.TASKS})
        return [Step("payments.tend_methods", self.tend, limit=100, types=work)]

    async def tend(self, limit: int) -> int:
        """Detach at providers and ask them, what nobody works on."""
        async with self._database.transaction(_CLAIM) as tx:
            tasks = await method_tasks.ready(tx, limit)
            if not tasks:
                return 0
            tx.use_tenants({tenant for tenant, _, _ in tasks})
            rows = list(await method_tasks.claim(tx, tasks, lease_s=self._lease_s))
        if not rows:
            return 0
        answers = await asyncio.gather(*(self._ask(row) for row in rows))
        _AFTER_CALL.hit()

        async def record(tx: Tx) -> None:
            await take_answers(tx, list(zip(rows, answers, strict=True)))

        await self._database.transact(_RECORD, record, tenants={row.tenant_id for row in rows})
        return len(rows)

    async def _ask(self, row: Row[Any]) -> Answer:
        calls, account = self._calls, (row.tenant_id, row.connection_id)
        try:
            if row.action == "detach":
                return await calls.detach(*account, row.token)
            if row.action == "setup":
                return await calls.start_setup(*account, row.method_id, row.return_url)
            if row.status == "attaching":
                expire = row.action == "expire"
                return await calls.look_at_setup(*account, row.provider_ref, expire=expire)
            return await calls.look(*account, row.token)
        except Exception as error:
            _log.exception("payments.method_task_broke", method_id=str(row.method_id))
            return Lost(type(error).__name__)
