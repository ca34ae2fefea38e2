"""Hosted pages: opened and closed by the merchant (``hosted`` is what the payer sees)."""

from __future__ import annotations

import hashlib
from typing import Any
from uuid import UUID

from subledger.platform.db import Database, Tx, story
from subledger.providers.sandbox import settlements_store, store
from subledger.providers.sandbox.hosted import HostedPages
from subledger.providers.sandbox.http import wire
from subledger.providers.sandbox.http.charges import Charges
from subledger.providers.sandbox.http.wire import Answer, Refused, Request, Route
from subledger.providers.sandbox.secure import Addresses

_PAGE = story("sandbox.open_page")
_STATE = story("sandbox.read_attempt", reads=True)


class Pages:
    def __init__(
        self,
        database: Database,
        *,
        hosted: HostedPages,
        charges: Charges,
        addresses: Addresses,
    ) -> None:
        self._database = database
        self._hosted = hosted
        self._charges = charges
        self._addresses = addresses

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/v1/pages", self.open),
            Route("POST", "/v1/pages/{}/expire", self.expire),
        ]

    async def open(self, request: Request) -> Answer:
        """Open the page of an attempt, once; the same page with other terms is refused."""
        data, tenant_id = request.data, request.tenant_id
        back = wire.return_url(data)
        attempt_id = wire.key(data["attempt_id"])
        amount_minor, currency = wire.amount(data), wire.currency(data)
        capture = data.get("capture") is not False
        token = self._addresses.token("page", tenant_id, attempt_id)
        about = wire.subject(data)

        async def work(tx: Tx) -> Any:
            row = {
                "tenant_id": tenant_id,
                "id": tx.ids.new(),
                "attempt_id": attempt_id,
                "token_hash": hashlib.sha256(token.encode()).digest(),
                "amount_minor": amount_minor,
                "currency": currency,
                "description": wire.line(data.get("description", ""), 200),
                "return_url": back,
                "save": bool(data.get("save", True)),
                "locale": wire.line(data.get("locale", "en"), 10),
                "status": "open",
                "saved_token": None,
                "tries": 0,
                "created_at": await tx.now(tenant_id),
                "capture": capture,
            }
            await store.add_pages(tx, [row])
            await settlements_store.add_subject(tx, tenant_id, attempt_id, **about)
            return await store.page_of_attempt(tx, tenant_id, attempt_id)

        page = await self._database.transact(_PAGE, work, tenants=[tenant_id])
        terms = (page.amount_minor, page.currency, page.return_url, page.capture)
        if terms != (amount_minor, currency, back, capture):
            raise Refused(422, "idempotency_key_reused")
        return await self._state(tenant_id, attempt_id)

    async def expire(self, request: Request) -> Answer:
        page_id = wire.parsed_id("page", request.name)
        attempt_id = await self._hosted.expire(request.tenant_id, page_id)
        if attempt_id is None:
            raise Refused(404, "not_found")
        return await self._state(request.tenant_id, attempt_id)

    async def _state(self, tenant_id: UUID, attempt_id: str) -> Answer:
        async def read(tx: Tx) -> Any:
            return await self._charges.state(tx, tenant_id, attempt_id)

        return 200, await self._database.transact(_STATE, read, tenants=[tenant_id])
