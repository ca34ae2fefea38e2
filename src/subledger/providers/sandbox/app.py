"""The provider's ASGI application: who asks, and which module answers.

Plain ASGI: a charge is asked for thousands of times a second in process.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

import msgspec

from subledger.core.errors import CoreError
from subledger.platform.db import Database, Tx, story
from subledger.providers.port import NotSent
from subledger.providers.sandbox import store
from subledger.providers.sandbox.hosted import HostedPages
from subledger.providers.sandbox.http import wire
from subledger.providers.sandbox.http.authorizations import Authorizations
from subledger.providers.sandbox.http.charges import Charges
from subledger.providers.sandbox.http.controls import Controls
from subledger.providers.sandbox.http.disputes import Disputes
from subledger.providers.sandbox.http.methods import Methods
from subledger.providers.sandbox.http.pages import Pages
from subledger.providers.sandbox.http.refunds import Refunds
from subledger.providers.sandbox.http.settlements import Settlements
from subledger.providers.sandbox.http.setups import Setups
from subledger.providers.sandbox.http.spoil import Spoiled, Spoiling
from subledger.providers.sandbox.http.wire import Refused, Request, Routes, Send
from subledger.providers.sandbox.secure import Addresses, Challenges
from subledger.providers.sandbox.setups import SetupPages

_FIND = story("sandbox.find_merchant", reads=True)
_PROVISION = story("sandbox.provision")
_MOST_KNOWN = 10_000
NOT_SENT = "subledger.not_sent"
"""The scope's extension of a caller in this process, to whom a refused connection can be shown."""


class SandboxApp:
    """The ASGI application, reached from outside at ``public_url``."""

    def __init__(self, database: Database, *, secret_key: str, public_url: str) -> None:
        self._database = database
        self._secret = secret_key.encode()
        addresses = Addresses(secret=self._secret, public_url=public_url.rstrip("/"))
        self._merchants: dict[str, UUID] = {}
        self._hosted = HostedPages(database, addresses)
        self._challenges = Challenges(database, addresses)
        setups = SetupPages(database, addresses)
        self._pages: dict[str, HostedPages | Challenges | SetupPages] = {
            "/setup/": setups,
            "/pay/": self._hosted,
            "/secure/": self._challenges,
        }
        self._spoiling = Spoiling(database)
        charges = Charges(
            database,
            addresses=addresses,
            challenges=self._challenges,
            tell_first=self._tell_first,
        )
        pages = Pages(database, hosted=self._hosted, charges=charges, addresses=addresses)
        self._routes = Routes(
            [
                *charges.routes(),
                *pages.routes(),
                *Authorizations(database).routes(),
                *Refunds(database).routes(),
                *Disputes(database).routes(),
                *Setups(database, pages=setups, addresses=addresses).routes(),
                *Methods(database, secret=self._secret).routes(),
                *Controls(database, spoiling=self._spoiling).routes(),
                *Settlements(database).routes(),
            ]
        )
        self.tell_now: Callable[[], Awaitable[None]] | None = None
        """Delivers the webhooks that are due, set by whoever runs their steps."""

    async def _tell_first(self) -> None:
        if self.tell_now is not None:
            await self.tell_now()

    # --- provisioning (the operator's side, not HTTP) --------------------------------------------

    def credentials(self, tenant_id: UUID) -> tuple[str, str]:
        """API key and webhook secret of a tenant's merchant account, derived from the secret."""
        return self._derive("key", tenant_id, "sbk_"), self._derive("hook", tenant_id, "whsec_")

    def _derive(self, what: str, tenant_id: UUID, prefix: str) -> str:
        digest = hmac.new(self._secret, f"sandbox:{what}:{tenant_id}".encode(), hashlib.sha256)
        return prefix + digest.hexdigest()

    async def provision(self, tenant_id: UUID, webhook_path: str) -> tuple[str, str]:
        """Open a merchant account (again: only its webhook path changes); returns credentials."""
        key, secret = self.credentials(tenant_id)

        async def work(tx: Tx) -> None:
            row = {
                "tenant_id": tenant_id,
                "key_hash": hashlib.sha256(key.encode()).digest(),
                "webhook_path": webhook_path,
                "created_at": await tx.now(tenant_id),
            }
            await store.add_merchants(tx, [row])

        await self._database.transact(_PROVISION, work, tenants=[tenant_id])
        return key, secret

    # --- ASGI ------------------------------------------------------------------------------------

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        extra: dict[str, str] = {}
        try:
            body = await wire.read_body(receive)
            pages = self._pages.get(path[: path.find("/", 1) + 1])
            if pages is not None:
                await _show(pages, path, scope, body, send)
                return
            status, data = await self._for_merchant(path, scope, body)
        except Spoiled as spoiled:
            if spoiled.not_sent and NOT_SENT in scope.get("extensions", {}):
                raise NotSent("ConnectError") from None
            status, data = spoiled.status, {"code": spoiled.code}
            extra = spoiled.headers
        except Refused as refused:
            status, data = refused.status, {"code": refused.code}
        except CoreError as error:
            status, data = 422, {"code": error.code, "detail": error.detail}
        except (msgspec.MsgspecError, KeyError, TypeError, ValueError):
            status, data = 400, {"code": "invalid_request"}
        if status == wire.CUT:
            await wire.cut(send, data if isinstance(data, bytes) else b"")
            return
        if isinstance(data, bytes):
            await wire.answer(send, status, {"content-type": "text/html"}, data)
            return
        headers = {"content-type": "application/json"} | extra
        await wire.answer(send, status, headers, msgspec.json.encode(data))

    async def _for_merchant(self, path: str, scope: Any, body: bytes) -> wire.Answer:
        headers = _headers(scope)
        tenant_id = await self._merchant(headers)
        route, name = self._routes.find(scope["method"], path)
        query = scope.get("query_string", b"").decode("latin-1")
        request = Request(
            tenant_id=tenant_id,
            query=parse_qs(query, max_num_fields=10),
            headers=headers,
            data=_object(body) if scope["method"] == "POST" else None,
            name=name,
        )
        return await self._spoiling.handle(route, request)

    async def _merchant(self, headers: Mapping[str, str]) -> UUID:
        credential = headers.get("authorization", "").removeprefix("Bearer ")
        known = self._merchants.get(credential)
        if known is not None:
            return known
        digest = hashlib.sha256(credential.encode()).digest()
        async with self._database.transaction(_FIND) as tx:
            tenant_id = await store.merchant_of(tx, digest)
        if tenant_id is None:
            raise Refused(401, "unauthorized")
        if len(self._merchants) > _MOST_KNOWN:
            self._merchants.clear()
        self._merchants[credential] = tenant_id
        return tenant_id


async def _show(
    pages: HostedPages | Challenges | SetupPages, path: str, scope: Any, body: bytes, send: Send
) -> None:
    """What a payer gets to see."""
    token = path[path.find("/", 1) + 1 :]
    query = scope.get("query_string", b"")
    address = str((scope.get("client") or ("",))[0])
    shown = await pages.answer(
        scope["method"], token, query, _headers(scope), body, address=address
    )
    if shown[0] == wire.CUT:
        await wire.cut(send)
    else:
        await wire.answer(send, *shown)


def _headers(scope: Any) -> dict[str, str]:
    return {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}


def _object(body: bytes) -> dict[str, Any]:
    return msgspec.json.decode(body, type=dict[str, Any])
