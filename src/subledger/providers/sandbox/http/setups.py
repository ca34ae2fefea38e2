"""Saving a method without a charge: opened, looked up and closed by the merchant."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from subledger.platform import ids
from subledger.platform.db import Database, Tx, story
from subledger.providers.sandbox import setups_store, store
from subledger.providers.sandbox.http import wire
from subledger.providers.sandbox.http.methods import shown
from subledger.providers.sandbox.http.wire import Answer, Refused, Request, Route
from subledger.providers.sandbox.secure import Addresses
from subledger.providers.sandbox.setups import SetupPages

_OPEN = story("sandbox.open_setup")
_READ = story("sandbox.read_setup", reads=True)


class Setups:
    def __init__(self, database: Database, *, pages: SetupPages, addresses: Addresses) -> None:
        self._database = database
        self._pages = pages
        self._addresses = addresses

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/v1/setups", self.open),
            Route("GET", "/v1/setups/{}", self.read),
            Route("POST", "/v1/setups/{}/expire", self.expire),
        ]

    async def open(self, request: Request) -> Answer:
        """Open the page of a setup, once; the same one with another way back is refused."""
        tenant_id, back = request.tenant_id, wire.return_url(request.data)
        name = wire.key(request.data["setup_id"])

        async def work(tx: Tx) -> Any:
            row = {
                "tenant_id": tenant_id,
                "id": tx.ids.new(),
                "setup_id": name,
                "secret_hash": self._addresses.hash_of("setup", tenant_id, name),
                "return_url": back,
                "state": "open",
                "saved_token": None,
                "tries": 0,
                "created_at": await tx.now(tenant_id),
            }
            return await setups_store.add(tx, row)

        row = await self._database.transact(_OPEN, work, tenants=[tenant_id])
        if row.return_url != back:
            raise Refused(422, "idempotency_key_reused")
        return await self._state(tenant_id, row.id)

    async def read(self, request: Request) -> Answer:
        return await self._state(request.tenant_id, wire.parsed_id("st", request.name))

    async def expire(self, request: Request) -> Answer:
        setup_id = wire.parsed_id("st", request.name)
        if not await self._pages.expire(request.tenant_id, setup_id):
            raise Refused(404, "not_found")
        return await self._state(request.tenant_id, setup_id)

    async def _state(self, tenant_id: UUID, setup_id: UUID) -> Answer:
        async def read(tx: Tx) -> dict[str, Any] | None:
            row = await setups_store.of_id(tx, tenant_id, setup_id)
            if row is None:
                return None
            method = None
            if row.saved_token is not None:
                key = (tenant_id, row.saved_token)
                method = shown((await store.methods(tx, [key]))[key])
            return {
                "id": ids.text("st", row.id),
                "status": "requires_action" if row.state == "open" else row.state,
                "url": self._addresses.of("setup", tenant_id, row.setup_id),
                "method": method,
            }

        answer = await self._database.transact(_READ, read, tenants=[tenant_id])
        if answer is None:
            raise Refused(404, "not_found")
        return 200, answer
