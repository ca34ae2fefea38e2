"""A payer who came back, or only looks: what is true now, asking the provider where it says more.

The question is an intent first, so that a process which stops in the middle leaves it to another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from uuid import UUID

import structlog

from subledger.platform.db import Database, Tx, story
from subledger.services.payments.flows.ask import Asking
from subledger.services.payments.flows.pay import Seen, Waiting
from subledger.services.payments.store.payments import Key
from subledger.services.payments.usecases import look

_ASK = story("payments.ask_for_payer")
PATIENCE_S = 2.5
"""How long a page waits for the provider before it shows what we know; it looks again anyway."""

_log = structlog.get_logger()


class Returning:
    """Looks for payers; a slow provider holds up nobody longer than ``PATIENCE_S``."""

    def __init__(self, *, database: Database, asking: Asking, waiting: Waiting) -> None:
        self._database = database
        self._asking = asking
        self._waiting = waiting
        self._running: set[asyncio.Task[None]] = set()

    async def look(
        self, tenant_id: UUID, payment_id: UUID, *, params: Mapping[str, str]
    ) -> Seen | None:
        """The payment as it is once the provider was asked; None if there is none."""
        seen = await self._waiting.payment(tenant_id, payment_id)
        if seen is None or seen.payment.status not in {"requires_action", "unknown"}:
            return seen
        attempt = (tenant_id, seen.attempts[-1].id)

        async def ask(tx: Tx) -> bool:
            return await look.ask_for_payer(tx, attempt)

        if not await self._database.transact(_ASK, ask, tenants=[tenant_id]):
            return seen
        # Not ended with the request: the provider may act on a call that was sent.
        task = asyncio.create_task(self._drive(attempt, params))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        await asyncio.wait({task}, timeout=PATIENCE_S)
        return await self._waiting.payment(tenant_id, payment_id)

    async def _drive(self, attempt: Key, params: Mapping[str, str]) -> None:
        try:
            await self._asking.drive(attempt, params=params)
        except Exception:
            _log.exception("payments.look_broke", attempt_id=str(attempt[1]))
