"""The provider's HTTP interface: charges, pages, methods, journal, faults.

Plain ASGI: a charge is asked for thousands of times a second in process.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from uuid import UUID

import msgspec

from subledger.core import money
from subledger.core.errors import CoreError
from subledger.platform import ids
from subledger.platform.db import Database, Tx, story
from subledger.providers.sandbox import cards, store
from subledger.providers.sandbox.hosted import HostedPages
from subledger.providers.sandbox.journal import Asked, Journal, KeyReused, Told

MOST_BYTES = 64 * 1024
FAULTS = {"charge_no_reply", "charge_500", "webhook_never", "webhook_twice"}
_METHOD = story("sandbox.add_method")
_PAGE = story("sandbox.open_page")
_READ = story("sandbox.read")
_FAULT = story("sandbox.set_fault")
_PROVISION = story("sandbox.provision")

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Refused(Exception):
    """The request is refused: status and code."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


class SandboxApp:
    """The ASGI application. ``prefix`` is where it is mounted, for the pages' addresses."""

    def __init__(self, database: Database, *, secret_key: str, public_url: str) -> None:
        self._database = database
        self._secret = secret_key.encode()
        self._public_url = public_url.rstrip("/")
        self._journal = Journal(database)
        self._merchants: dict[str, UUID] = {}
        self._hosted = HostedPages(database, self._journal)

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
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        try:
            body = await _body(receive)
            if path.startswith("/pay/"):
                answer = await self._hosted.answer(
                    scope["method"], path[5:], scope.get("query_string", b""), headers, body
                )
                await _send(send, *answer)
                return
            tenant_id = await self._merchant(headers)
            status, data = await self._route(scope["method"], path, tenant_id, headers, body)
            if status == 0:
                return  # the answer is lost on its way
        except Refused as refused:
            status, data = refused.status, {"code": refused.code}
        except CoreError as error:
            status, data = 422, {"code": error.code, "detail": error.detail}
        except (msgspec.MsgspecError, KeyError, TypeError, ValueError):
            status, data = 400, {"code": "invalid_request"}
        await _send(send, status, {"content-type": "application/json"}, msgspec.json.encode(data))

    async def _merchant(self, headers: Mapping[str, str]) -> UUID:
        credential = headers.get("authorization", "").removeprefix("Bearer ")
        known = self._merchants.get(credential)
        if known is not None:
            return known
        digest = hashlib.sha256(credential.encode()).digest()
        async with self._database.transaction(_READ) as tx:
            tenant_id = await store.merchant_of(tx, digest)
        if tenant_id is None:
            raise Refused(401, "unauthorized")
        if len(self._merchants) > 10_000:
            self._merchants.clear()
        self._merchants[credential] = tenant_id
        return tenant_id

    async def _route(
        self, method: str, path: str, tenant_id: UUID, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Any]:
        if method == "POST":
            return await self._post(path, tenant_id, headers, msgspec.json.decode(body))
        if method == "GET" and path.startswith("/v1/attempts/"):
            return await self._attempt(tenant_id, path[len("/v1/attempts/") :])
        if method == "GET" and path == "/v1/journal/summary":
            return await self._summary(tenant_id)
        raise Refused(404, "not_found")

    async def _post(
        self, path: str, tenant_id: UUID, headers: Mapping[str, str], data: Any
    ) -> tuple[int, Any]:
        key = headers.get("idempotency-key", "")
        if path == "/v1/charges":
            return await self._charge(tenant_id, key, data)
        if path == "/v1/methods":
            return await self._add_method(tenant_id, key, data)
        if path == "/v1/pages":
            return await self._open_page(tenant_id, data)
        if path == "/v1/faults":
            return await self._set_fault(tenant_id, data)
        if path.startswith("/v1/pages/") and path.endswith("/expire"):
            return await self._expire(tenant_id, path[len("/v1/pages/") : -len("/expire")])
        raise Refused(404, "not_found")

    async def _charge(self, tenant_id: UUID, key: str, data: Mapping[str, Any]) -> tuple[int, Any]:
        if not 1 <= len(key) <= 255:
            raise Refused(400, "idempotency_key_missing")
        asked = Asked(
            tenant_id=tenant_id,
            key=key,
            attempt_id=str(data["attempt_id"]),
            token=str(data["token"]),
            amount_minor=_amount(data),
            currency=_currency(data),
        )
        try:
            told = await self._journal.charge(asked)
        except KeyReused:
            raise Refused(422, "idempotency_key_reused") from None
        if told.fault == "charge_no_reply":
            return 0, None
        if told.fault == "charge_500":
            return 500, {"code": "internal_error"}
        return 200, _charge_answer(told)

    async def _add_method(
        self, tenant_id: UUID, key: str, data: Mapping[str, Any]
    ) -> tuple[int, Any]:
        kind = str(data["kind"])
        if not cards.known(kind):
            raise Refused(422, "unknown_test_kind")
        brand, last_four = cards.face(kind)
        # The same request makes the same method.
        digest = hmac.new(self._secret, f"method:{tenant_id}:{key}".encode(), hashlib.sha256)
        method = {
            "tenant_id": tenant_id,
            "token": f"tok_{digest.hexdigest()[:32]}",
            "kind": kind,
            "brand": brand,
            "last_four": last_four,
            "tries": 0,
        }

        async def work(tx: Tx) -> None:
            await store.add_methods(tx, [method])

        await self._database.transact(_METHOD, work, tenants=[tenant_id])
        return 200, {"token": method["token"], "brand": brand, "last_four": last_four}

    async def _open_page(self, tenant_id: UUID, data: Mapping[str, Any]) -> tuple[int, Any]:
        return_url = str(data["return_url"])
        if not return_url.startswith(("http://", "https://")) or len(return_url) > 2000:
            raise Refused(422, "invalid_return_url")
        attempt_id = str(data["attempt_id"])
        token = self._page_token(tenant_id, attempt_id)

        async def work(tx: Tx) -> Any:
            row = {
                "tenant_id": tenant_id,
                "id": tx.ids.new(),
                "attempt_id": attempt_id,
                "token_hash": hashlib.sha256(token.encode()).digest(),
                "amount_minor": _amount(data),
                "currency": _currency(data),
                "description": str(data.get("description", ""))[:200],
                "return_url": return_url,
                "save": bool(data.get("save", True)),
                "locale": str(data.get("locale", "en"))[:10],
                "status": "open",
                "saved_token": None,
                "tries": 0,
                "created_at": await tx.now(tenant_id),
            }
            await store.add_pages(tx, [row])
            return await store.page_of_attempt(tx, tenant_id, attempt_id)

        page = await self._database.transact(_PAGE, work, tenants=[tenant_id])
        if (page.amount_minor, page.currency) != (_amount(data), _currency(data)):
            raise Refused(422, "idempotency_key_reused")
        return 200, await self._state(tenant_id, attempt_id)

    def _page_token(self, tenant_id: UUID, attempt_id: str) -> str:
        digest = hmac.new(self._secret, f"page:{tenant_id}:{attempt_id}".encode(), hashlib.sha256)
        return digest.hexdigest()

    async def _expire(self, tenant_id: UUID, page_text: str) -> tuple[int, Any]:
        try:
            page_id = ids.parse("page", page_text)
        except ids.InvalidId:
            raise Refused(404, "not_found") from None
        attempt_id = await self._hosted.expire(tenant_id, page_id)
        if attempt_id is None:
            raise Refused(404, "not_found")
        return 200, await self._state(tenant_id, attempt_id)

    async def _attempt(self, tenant_id: UUID, attempt_id: str) -> tuple[int, Any]:
        state = await self._state(tenant_id, attempt_id)
        if state is None:
            raise Refused(404, "not_found")
        return 200, state

    async def _state(self, tenant_id: UUID, attempt_id: str) -> Any:
        """An attempt as the provider sees it: a capture first, then its page, then a decline."""

        async def read(tx: Tx) -> Any:
            charges = await store.charges_of(tx, tenant_id, attempt_id)
            page = await store.page_of_attempt(tx, tenant_id, attempt_id)
            captured = next((row for row in charges if row.status == "succeeded"), None)
            if captured is not None:
                answer = _row_answer(captured)
                if page is not None and page.saved_token:
                    found = await store.methods(tx, [(tenant_id, page.saved_token)])
                    method = found[tenant_id, page.saved_token]
                    answer["method"] = {
                        "token": method.token,
                        "brand": method.brand,
                        "last_four": method.last_four,
                    }
                return answer
            if page is not None:
                return {
                    "id": ids.text("page", page.id),
                    "status": "requires_action" if page.status == "open" else page.status,
                    "url": f"{self._public_url}/pay/{self._page_token(tenant_id, attempt_id)}",
                }
            return _row_answer(charges[-1]) if charges else None

        return await self._database.transact(_READ, read, tenants=[tenant_id])

    async def _summary(self, tenant_id: UUID) -> tuple[int, Any]:
        async def read(tx: Tx) -> Any:
            return await store.summary(tx, tenant_id)

        rows = await self._database.transact(_READ, read, tenants=[tenant_id])
        return 200, {
            "captured_minor": {row.currency: row.captured_minor for row in rows},
            "captures": sum(row.captures for row in rows),
            "doubles": sum(row.doubles for row in rows),
        }

    async def _set_fault(self, tenant_id: UUID, data: Mapping[str, Any]) -> tuple[int, Any]:
        mode, remaining = str(data["mode"]), int(data["remaining"])
        if mode not in FAULTS or not 0 <= remaining <= 1_000_000:
            raise Refused(422, "unknown_fault")

        async def work(tx: Tx) -> None:
            await store.set_fault(tx, tenant_id, mode, remaining)

        await self._database.transact(_FAULT, work, tenants=[tenant_id])
        return 200, {"mode": mode, "remaining": remaining}


def _amount(data: Mapping[str, Any]) -> int:
    amount = data["amount_minor"]
    if type(amount) is not int or amount <= 0:
        raise Refused(422, "invalid_amount")
    return money.check_amount(amount)


def _currency(data: Mapping[str, Any]) -> str:
    currency = str(data["currency"])
    money.exponent(currency)
    return currency


def _charge_answer(told: Told) -> dict[str, Any]:
    return {
        "id": told.charge_id,
        "status": told.status,
        "code": told.code,
        "amount_minor": told.amount_minor,
        "at": told.at,
    }


def _row_answer(row: Any) -> dict[str, Any]:
    return {
        "id": ids.text("ch", row.id),
        "status": row.status,
        "code": row.code,
        "amount_minor": row.amount_minor,
        "at": row.at.isoformat(),
    }


async def _body(receive: Any) -> bytes:
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise Refused(400, "disconnected")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        more = message.get("more_body", False)
        if size > MOST_BYTES:
            raise Refused(413, "body_too_large")
    return b"".join(parts)


async def _send(send: Send, status: int, headers: Mapping[str, str], body: bytes) -> None:
    listed = [(name.encode(), value.encode()) for name, value in headers.items()]
    listed.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": listed})
    await send({"type": "http.response.body", "body": body})
