"""Faults of a whole request: refused connections, too many requests, slow answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from uuid import UUID

from subledger.platform.db import Database, Tx, story
from subledger.providers.sandbox import faults, store
from subledger.providers.sandbox.http.wire import Answer, Request, Route

_LOOK = story("sandbox.look_for_faults", reads=True)
_TAKE = story("sandbox.take_fault")
KNOWN_S = 2.0
"""How long a process believes that a merchant has no such faults: no request asks for nothing."""
_MOST_KNOWN = 10_000


class Spoiled(Exception):
    """Nothing is done, and the request is answered like this. ``not_sent``: as if the connection
    had been refused."""

    def __init__(
        self, *, status: int = 0, code: str = "", not_sent: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(code)
        self.status = status
        self.code = code
        self.not_sent = not_sent
        self.headers = dict(headers or {})


class Spoiling:
    """Answers requests by their routes, spoiled as the merchant's settings say."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._free_until: dict[UUID, float] = {}

    def forget(self, tenant_id: UUID) -> None:
        """The merchant's settings were changed."""
        self._free_until.pop(tenant_id, None)

    async def handle(self, route: Route, request: Request) -> Answer:
        """The route's answer. Raises Spoiled where nothing is to be done."""
        fault = None if route.is_control else await self._take(request.tenant_id)
        if fault == faults.REFUSED:
            raise Spoiled(not_sent=True)
        if fault == faults.TOO_MANY:
            after = {"retry-after": str(faults.RETRY_AFTER_S)}
            raise Spoiled(status=429, code="too_many_requests", headers=after)
        answer = await route.handler(request)
        if fault == faults.SLOW:
            await asyncio.sleep(faults.SLOW_S)
        return answer

    async def _take(self, tenant_id: UUID) -> str | None:
        now_s = time.monotonic()
        if self._free_until.get(tenant_id, 0.0) > now_s:
            return None
        modes = faults.at("request")

        async def look(tx: Tx) -> bool:
            return any(mode in modes for mode in await store.faults_left(tx, tenant_id))

        async def take(tx: Tx) -> str | None:
            taken = await store.take_faults(tx, {tenant_id: 1}, modes=modes)
            return next(iter(taken.get(tenant_id, ())), None)

        if await self._database.transact(_LOOK, look, tenants=[tenant_id]):
            return await self._database.transact(_TAKE, take, tenants=[tenant_id])
        if len(self._free_until) > _MOST_KNOWN:
            self._free_until.clear()
        self._free_until[tenant_id] = now_s + KNOWN_S
        return None
