"""The account itself: who asks, what the journal says, what is to go wrong."""

from __future__ import annotations

from typing import Any

from subledger.platform import ids
from subledger.platform.db import Database, Tx, story
from subledger.providers.sandbox import disputes_store, faults, store
from subledger.providers.sandbox.http.spoil import Spoiling
from subledger.providers.sandbox.http.wire import Answer, Refused, Request, Route

_READ = story("sandbox.read", reads=True)
_FAULT = story("sandbox.set_fault")


class Controls:
    """``spoiling`` is told of settings, so that they act at once in this process."""

    def __init__(self, database: Database, *, spoiling: Spoiling) -> None:
        self._database = database
        self._spoiling = spoiling

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/v1/account", self.account),
            Route("GET", "/v1/journal/summary", self.summary, is_control=True),
            Route("POST", "/v1/faults", self.set_fault, is_control=True),
            Route("GET", "/v1/faults", self.faults, is_control=True),
        ]

    async def account(self, request: Request) -> Answer:
        return 200, {"id": ids.text("mer", request.tenant_id)}

    async def summary(self, request: Request) -> Answer:
        async def read(tx: Tx) -> Any:
            tenant_id = request.tenant_id
            return (
                await store.summary(tx, tenant_id),
                await store.refunded(tx, tenant_id),
                await disputes_store.taken(tx, tenant_id),
            )

        rows, back, disputed = await self._database.transact(
            _READ, read, tenants=[request.tenant_id]
        )
        kept = {row.currency: row.captured_minor - back.get(row.currency, 0) for row in rows}
        return 200, {
            "disputed_minor": {row.currency: row.disputed_minor for row in disputed},
            "dispute_fees_minor": {row.currency: row.fees_minor for row in disputed},
            "captured_minor": {currency: amount for currency, amount in kept.items() if amount},
            "captures": sum(row.captures for row in rows),
            "doubles": sum(row.doubles for row in rows),
        }

    async def set_fault(self, request: Request) -> Answer:
        mode, remaining = str(request.data["mode"]), int(request.data["remaining"])
        if mode not in faults.ALL or not 0 <= remaining <= 1_000_000:
            raise Refused(422, "unknown_fault")

        async def work(tx: Tx) -> None:
            await store.set_fault(tx, request.tenant_id, mode, remaining)

        await self._database.transact(_FAULT, work, tenants=[request.tenant_id])
        self._spoiling.forget(request.tenant_id)
        return 200, {"mode": mode, "remaining": remaining}

    async def faults(self, request: Request) -> Answer:
        """Every mode that there is, and how often it is still to act."""

        async def read(tx: Tx) -> dict[str, int]:
            return await store.faults_left(tx, request.tenant_id)

        left = await self._database.transact(_READ, read, tenants=[request.tenant_id])
        return 200, {
            "data": [
                {
                    "id": each.number,
                    "mode": each.name,
                    "at": each.place,
                    "does": each.does,
                    "remaining": left.get(each.name, 0),
                }
                for each in faults.MODES
            ]
        }
