"""Saved methods: test methods made by name, looked up, detached; what their bank does to them."""

from __future__ import annotations

import hashlib
import hmac
from datetime import date
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row

from subledger.platform.db import Database, Tx, story
from subledger.providers.sandbox import cards, methods_store, store
from subledger.providers.sandbox.callbacks import Owed, owe
from subledger.providers.sandbox.http import wire
from subledger.providers.sandbox.http.wire import Answer, Refused, Request, Route

_METHOD = story("sandbox.add_method")
_CHANGE = story("sandbox.change_method")
_READ = story("sandbox.read_method", reads=True)


def named(token: str) -> str:
    """The name of a method in notifications, which is no token: nothing can be charged by it."""
    return f"mth_{hashlib.sha256(token.encode()).hexdigest()[:32]}"


def shown(row: Row[Any]) -> dict[str, Any]:
    """A method as the interface says it."""
    return {
        "id": named(row.token),
        "token": row.token,
        "brand": row.brand,
        "last_four": row.last_four,
        "expires_on": None if row.expires_on is None else row.expires_on.isoformat(),
        "mandate": None if row.mandate is None else msgspec.json.decode(row.mandate),
    }


class Methods:
    """``secret`` makes the tokens unguessable."""

    def __init__(self, database: Database, *, secret: bytes) -> None:
        self._database = database
        self._secret = secret

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/v1/methods", self.add),
            Route("GET", "/v1/methods/{}", self.read),
            Route("POST", "/v1/methods/{}/detach", self.detach),
            Route("POST", "/v1/methods/{}/update", self.update, is_control=True),
            Route("POST", "/v1/methods/{}/cancel", self.cancel, is_control=True),
        ]

    def _token(self, tenant_id: UUID, name: str) -> str:
        digest = hmac.new(self._secret, f"method:{tenant_id}:{name}".encode(), hashlib.sha256)
        return f"tok_{digest.hexdigest()[:32]}"

    async def add(self, request: Request) -> Answer:
        tenant_id, kind = request.tenant_id, str(request.data["kind"])
        if not cards.known(kind):
            raise Refused(422, "unknown_test_kind")
        # The same request makes the same method; one without a key always makes a new one.
        name = wire.key(request.key) if request.key else str(self._database.ids.new())
        token = self._token(tenant_id, name)

        async def work(tx: Tx) -> Row[Any]:
            await store.add_methods(tx, [methods_store.made(tenant_id, token, kind)])
            return (await store.methods(tx, [(tenant_id, token)]))[tenant_id, token]

        row = await self._database.transact(_METHOD, work, tenants=[tenant_id])
        if row.kind != kind:
            raise Refused(422, "idempotency_key_reused")
        return 200, shown(row)

    async def read(self, request: Request) -> Answer:
        """The method as it is now: what replaced it, if something did. 404 once it is detached."""
        tenant_id, token = request.tenant_id, wire.key(request.name)

        async def work(tx: Tx) -> Row[Any] | None:
            row = (await store.methods(tx, [(tenant_id, token)])).get((tenant_id, token))
            if row is not None and row.replaced_by is not None:
                key = (tenant_id, row.replaced_by)
                row = (await store.methods(tx, [key])).get(key)
            return row

        row = await self._database.transact(_READ, work, tenants=[tenant_id])
        if row is None or row.detached_at is not None:
            raise Refused(404, "not_found")
        return 200, shown(row)

    async def detach(self, request: Request) -> Answer:
        """The merchant gives a method up: it is never charged again. Twice is no error."""
        row = await self._change(request, wire.key(request.name), tells=None, detached=True)
        return 200, {"token": row.token, "status": "detached"}

    async def update(self, request: Request) -> Answer:
        """The card's bank sends a new one: other digits or expiry, another token if ``replace``.
        Named by its token or by the key under which the merchant made it."""
        data = request.data
        given = data.get("expires_on")
        changed: dict[str, Any] = {}
        if given is not None:
            changed["expires_on"] = date.fromisoformat(given)
        if data.get("last_four") is not None:
            changed["last_four"] = wire.line(data["last_four"], 4)
        row = await self._change(
            request,
            self._named(request),
            tells="method.updated",
            replace=bool(data.get("replace")),
            **changed,
        )
        return 200, {"id": named(row.token)}

    async def cancel(self, request: Request) -> Answer:
        """The payer cancels the agreement at the bank. Named as for ``update``."""
        row = await self._change(
            request, self._named(request), tells="method.detached", detached=True
        )
        return 200, {"id": named(row.token)}

    def _named(self, request: Request) -> str:
        name = wire.key(request.name)
        return name if name.startswith("tok_") else self._token(request.tenant_id, name)

    async def _change(
        self,
        request: Request,
        token: str,
        *,
        tells: str | None,
        detached: bool = False,
        replace: bool = False,
        **changed: Any,
    ) -> Row[Any]:
        tenant_id = request.tenant_id

        async def work(tx: Tx) -> Row[Any]:
            row = await methods_store.lock(tx, tenant_id, token)
            if row is None:
                raise Refused(404, "not_found")
            now = await tx.now(tenant_id)
            if detached:
                changed["detached_at"] = row.detached_at or now
                await methods_store.detach_replaced(tx, tenant_id, token, now)
            if replace:
                new = self._token(tenant_id, f"{token}:{tx.ids.new()}")
                made = methods_store.made(tenant_id, new, row.kind) | {"mandate": row.mandate}
                made |= changed
                await store.add_methods(tx, [made])
                changed["replaced_by"] = new
            await methods_store.change(tx, row, **changed)
            if tells is not None:
                about = UUID(bytes=hashlib.sha256(token.encode()).digest()[:16])
                data = {"method_id": named(token)}
                await owe(tx, [Owed(tenant_id, tells, about, data, now)])
            return row

        return await self._database.transact(_CHANGE, work, tenants=[tenant_id])
