"""The provider's HTTP interface: charges, pages, methods, journal, faults.

Plain ASGI: a charge is asked for thousands of times a second in process.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import msgspec

from subledger.core import money
from subledger.core.errors import CoreError
from subledger.platform import ids
from subledger.platform.db import Database, Tx, story
from subledger.providers.sandbox import cards, faults, store
from subledger.providers.sandbox.hosted import HostedPages
from subledger.providers.sandbox.journal import Asked, Journal, KeyReused, told

MOST_BYTES = 64 * 1024
_KEY = re.compile(r"[A-Za-z0-9._-]{1,200}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HTML = b"<!doctype html><title>502</title><h1>Bad gateway</h1>"
CUT = 0
"""In place of a status: the connection ends without an answer."""
_METHOD = story("sandbox.add_method")
_PAGE = story("sandbox.open_page")
_READ = story("sandbox.read", reads=True)
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
        self._hosted = HostedPages(database)

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
            query = scope.get("query_string", b"").decode("latin-1")
            status, data = await self._route(
                scope["method"], path, tenant_id=tenant_id, query=query, headers=headers, body=body
            )
            if status == CUT:
                await _cut(send)
                return
        except Refused as refused:
            status, data = refused.status, {"code": refused.code}
        except CoreError as error:
            status, data = 422, {"code": error.code, "detail": error.detail}
        except (msgspec.MsgspecError, KeyError, TypeError, ValueError):
            status, data = 400, {"code": "invalid_request"}
        if isinstance(data, bytes):
            await _send(send, status, {"content-type": "text/html"}, data)
            return
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
        self,
        method: str,
        path: str,
        *,
        tenant_id: UUID,
        query: str,
        headers: Mapping[str, str],
        body: bytes,
    ) -> tuple[int, Any]:
        if method == "POST":
            return await self._post(path, tenant_id, headers, msgspec.json.decode(body))
        if method == "GET" and path.startswith("/v1/attempts/"):
            return await self._attempt(tenant_id, _key(path[len("/v1/attempts/") :]))
        if method == "GET" and path == "/v1/charges":
            found = parse_qs(query, max_num_fields=10).get("idempotency_key", [""])
            return await self._charge_of(tenant_id, key=_key(found[0]))
        if method == "GET" and path.startswith("/v1/charges/"):
            charge_id = _id("ch", path[len("/v1/charges/") :])
            return await self._charge_of(tenant_id, charge_id=charge_id)
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
        asked = Asked(
            tenant_id=tenant_id,
            key=_key(key),
            attempt_id=_key(_attempt_of(data)),
            token=_key(data["token"]),
            amount_minor=_amount(data),
            currency=_currency(data),
        )
        try:
            charged = await self._journal.charge(asked)
        except KeyReused:
            raise Refused(422, "idempotency_key_reused") from None
        answer = charged.answer()
        match charged.fault:
            case None:
                return 200, answer
            case "charge_500":
                return 500, {"code": "internal_error"}
            case "charge_html":
                return 200, _HTML
            case "charge_unknown_status":
                return 200, answer | {"status": "in_review"}
            case _:
                return CUT, None

    async def _charge_of(
        self, tenant_id: UUID, *, key: str | None = None, charge_id: UUID | None = None
    ) -> tuple[int, Any]:
        async def read(tx: Tx) -> Any:
            if charge_id is not None:
                row = await store.charge_of_id(tx, tenant_id, charge_id)
            else:
                found = await store.charges_by_key(tx, [(tenant_id, key or "")])
                row = found.get((tenant_id, key or ""))
            return None if row is None else told(row, await tx.now(tenant_id)).answer()

        answer = await self._database.transact(_READ, read, tenants=[tenant_id])
        if answer is None:
            raise Refused(404, "not_found")
        return 200, answer

    async def _add_method(
        self, tenant_id: UUID, key: str, data: Mapping[str, Any]
    ) -> tuple[int, Any]:
        kind = str(data["kind"])
        if not cards.known(kind):
            raise Refused(422, "unknown_test_kind")
        brand, last_four = cards.face(kind)
        # The same request makes the same method; one without a key always makes a new one.
        name = _key(key) if key else str(self._database.ids.new())
        digest = hmac.new(self._secret, f"method:{tenant_id}:{name}".encode(), hashlib.sha256)
        method: dict[str, Any] = {
            "tenant_id": tenant_id,
            "token": f"tok_{digest.hexdigest()[:32]}",
            "kind": kind,
            "brand": brand,
            "last_four": last_four,
            "tries": 0,
        }

        async def work(tx: Tx) -> str:
            await store.add_methods(tx, [method])
            found = await store.methods(tx, [(tenant_id, method["token"])])
            return str(found[tenant_id, method["token"]].kind)

        if await self._database.transact(_METHOD, work, tenants=[tenant_id]) != kind:
            raise Refused(422, "idempotency_key_reused")
        return 200, {"token": method["token"], "brand": brand, "last_four": last_four}

    async def _open_page(self, tenant_id: UUID, data: Mapping[str, Any]) -> tuple[int, Any]:
        return_url = _return_url(data)
        attempt_id = _key(data["attempt_id"])
        token = self._page_token(tenant_id, attempt_id)

        async def work(tx: Tx) -> Any:
            row = {
                "tenant_id": tenant_id,
                "id": tx.ids.new(),
                "attempt_id": attempt_id,
                "token_hash": hashlib.sha256(token.encode()).digest(),
                "amount_minor": _amount(data),
                "currency": _currency(data),
                "description": _CONTROL.sub(" ", str(data.get("description", "")))[:200],
                "return_url": return_url,
                "save": bool(data.get("save", True)),
                "locale": _CONTROL.sub("", str(data.get("locale", "en")))[:10],
                "status": "open",
                "saved_token": None,
                "tries": 0,
                "created_at": await tx.now(tenant_id),
            }
            await store.add_pages(tx, [row])
            return await store.page_of_attempt(tx, tenant_id, attempt_id)

        page = await self._database.transact(_PAGE, work, tenants=[tenant_id])
        given = (page.amount_minor, page.currency, page.return_url)
        if given != (_amount(data), _currency(data), return_url):
            raise Refused(422, "idempotency_key_reused")
        return 200, await self._state(tenant_id, attempt_id)

    def _page_token(self, tenant_id: UUID, attempt_id: str) -> str:
        digest = hmac.new(self._secret, f"page:{tenant_id}:{attempt_id}".encode(), hashlib.sha256)
        return digest.hexdigest()

    async def _expire(self, tenant_id: UUID, page_text: str) -> tuple[int, Any]:
        attempt_id = await self._hosted.expire(tenant_id, _id("page", page_text))
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
            now = await tx.now(tenant_id)
            known = [told(row, now) for row in charges]
            captured = next((each for each in known if each.status == "succeeded"), None)
            if captured is not None:
                answer = captured.answer()
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
            return known[-1].answer() if known else None

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
        if mode not in faults.ALL or not 0 <= remaining <= 1_000_000:
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


def _key(value: Any) -> str:
    """A short text of letters, digits, dot, dash, underscore: keys, tokens, ids of attempts.

    Strict, because charges of many merchants share a transaction: one bad text would fail all.
    """
    if not isinstance(value, str) or _KEY.fullmatch(value) is None:
        raise Refused(400, "invalid_key")
    return value


def _attempt_of(data: Mapping[str, Any]) -> Any:
    """The attempt's id, given by itself or in the metadata."""
    return data["attempt_id"] if "attempt_id" in data else data["metadata"]["attempt_id"]


def _id(prefix: str, value: str) -> UUID:
    try:
        return ids.parse(prefix, value)
    except ids.InvalidId:
        raise Refused(404, "not_found") from None


def _return_url(data: Mapping[str, Any]) -> str:
    value = data["return_url"]
    if not isinstance(value, str) or len(value) > 2000 or _CONTROL.search(value):
        raise Refused(422, "invalid_return_url")
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise Refused(422, "invalid_return_url")
    return value


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


async def _cut(send: Send) -> None:
    """Begin an answer and never end it: the server then closes the connection."""
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _send(send: Send, status: int, headers: Mapping[str, str], body: bytes) -> None:
    listed = [(name.encode(), value.encode()) for name, value in headers.items()]
    listed.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": listed})
    await send({"type": "http.response.body", "body": body})
