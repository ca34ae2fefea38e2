"""The engine: sends what an adapter built, and decides between definite and unknown.

A connection that could not be opened means not executed; anything that goes wrong after the first
byte left is unknown; a 5xx, HTML where JSON belongs or a status that nobody knows is unknown too.
Nothing is repeated here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import httpx
import msgspec
import structlog

from subledger.platform.db import assert_no_transaction
from subledger.platform.http.middleware import App
from subledger.platform.telemetry import metrics
from subledger.platform.telemetry.logs import PROVIDER_RESPONSE, masked
from subledger.providers.port import (
    Adapter,
    ChargeRequest,
    CheckoutRequest,
    Connection,
    HttpRequest,
    HttpResponse,
    NotExecuted,
    NotSent,
    Outcome,
    SavedMethod,
    Snapshot,
    Transport,
    Unknown,
)

Read = TypeVar("Read")
CONNECT_S, TOTAL_S = 5.0, 30.0
OPENS_AFTER, OPEN_FOR_S = 5, 30.0
MOST_ANSWER_BYTES = 1024 * 1024

_log = structlog.get_logger()


class AnswerTooLarge(Exception):
    """The provider answered more than anybody means to read."""


class ConnectionCut(Exception):
    """The other side went away without a whole answer."""


class HttpxTransport:
    """Real HTTP: no redirect is followed; connections, times and answers are bounded.

    Raises NotSent only where no byte of the request can have left.
    """

    def __init__(self, base_url: str, *, most_connections: int = 300) -> None:
        self._client = httpx.AsyncClient(
            base_url=base_url,
            timeout=httpx.Timeout(TOTAL_S, connect=CONNECT_S, pool=CONNECT_S),
            limits=httpx.Limits(
                max_connections=most_connections, max_keepalive_connections=most_connections
            ),
            follow_redirects=False,
        )

    async def send(self, request: HttpRequest) -> HttpResponse:
        body = bytearray()
        try:
            async with self._client.stream(
                request.method, request.path, headers=dict(request.headers), content=request.body
            ) as answer:
                async for part in answer.aiter_bytes():
                    body += part
                    if len(body) > MOST_ANSWER_BYTES:
                        raise AnswerTooLarge
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise NotSent(type(error).__name__) from error
        except httpx.UnsupportedProtocol as error:
            raise NotSent("bad_address") from error
        return HttpResponse(answer.status_code, dict(answer.headers), bytes(body))

    async def close(self) -> None:
        await self._client.aclose()


class AsgiTransport:
    """The provider's application in this process, called without a socket in between."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def send(self, request: HttpRequest) -> HttpResponse:
        path, _, query = request.path.partition("?")
        scope = {
            "type": "http",
            "method": request.method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(k.lower().encode(), v.encode()) for k, v in request.headers.items()],
            "root_path": "",
            "scheme": "http",
            "http_version": "1.1",
            "server": ("127.0.0.1", 0),
            "client": ("127.0.0.1", 0),
        }
        status, complete = 0, False
        headers: dict[str, str] = {}
        parts: list[bytes] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": request.body, "more_body": False}

        async def send(message: Any) -> None:
            nonlocal status, complete
            if message["type"] == "http.response.start":
                status = message["status"]
                headers.update({k.decode(): v.decode() for k, v in message.get("headers", ())})
            elif message["type"] == "http.response.body":
                parts.append(message.get("body", b""))
                complete = not message.get("more_body", False)

        await self._app(scope, receive, send)
        if not complete:
            raise ConnectionCut
        return HttpResponse(status, headers, b"".join(parts))


class _Breaker:
    """Opens after repeated unknowns, so that a provider in trouble is left alone for a while."""

    def __init__(self) -> None:
        self.failures = 0
        self.open_until = 0.0

    def is_open(self) -> bool:
        return time.monotonic() < self.open_until

    def note(self, outcome: object) -> None:
        if isinstance(outcome, NotExecuted):
            return  # the provider was not reached: says nothing of how it answers
        self.failures = self.failures + 1 if isinstance(outcome, Unknown) else 0
        if self.failures >= OPENS_AFTER:
            self.failures = 0
            self.open_until = time.monotonic() + OPEN_FOR_S


class Gateway:
    """What payments calls: one adapter over one transport, for any number of connections."""

    def __init__(self, adapter: Adapter, transport: Transport, *, breaks: bool = True) -> None:
        self.adapter = adapter
        self._transport = transport
        self._breaks = breaks
        self._breakers: dict[str, _Breaker] = {}
        self._slots: dict[str, asyncio.Semaphore] = {}

    async def charge_saved(self, connection: Connection, request: ChargeRequest) -> Outcome:
        """Charge a saved method once for this attempt."""
        return await self._call(
            connection,
            "charge",
            self.adapter.build_charge(connection, request),
            self.adapter.read_charge,
        )

    async def start_checkout(self, connection: Connection, request: CheckoutRequest) -> Outcome:
        """Open a hosted page for this attempt."""
        return await self._call(
            connection,
            "checkout",
            self.adapter.build_checkout(connection, request),
            self.adapter.read_checkout,
        )

    async def expire(self, connection: Connection, provider_ref: str) -> Outcome:
        """Close a hosted page: Canceled, or Succeeded if it was paid before."""
        return await self._call(
            connection,
            "expire",
            self.adapter.build_expire(connection, provider_ref),
            self.adapter.read_expire,
        )

    async def fetch(self, connection: Connection, attempt_id: str) -> Snapshot:
        """The attempt's state at the provider. Asks even while the breaker is open."""
        answer = await self._call(
            connection,
            "fetch",
            self.adapter.build_fetch(connection, attempt_id),
            self.adapter.read_fetch,
            guarded=False,
        )
        return Unknown(answer.reason) if isinstance(answer, NotExecuted) else answer

    async def attach_test_method(
        self, connection: Connection, kind: str, idempotency_key: str
    ) -> SavedMethod | NotExecuted | Unknown | None:
        """A saved test method of the sandbox; None if it knows no such kind."""
        return await self._call(
            connection,
            "test_method",
            self.adapter.build_test_method(connection, kind, idempotency_key),
            self.adapter.read_test_method,
        )

    async def _call(
        self,
        connection: Connection,
        operation: str,
        request: HttpRequest,
        read: Callable[[int, Mapping[str, Any]], Read],
        *,
        guarded: bool = True,
    ) -> Read | NotExecuted | Unknown:
        assert_no_transaction(f"provider call {operation}")
        breaker = self._breakers.setdefault(connection.id, _Breaker())
        slots = self._slots.setdefault(
            connection.id, asyncio.Semaphore(self.adapter.capabilities.max_parallel)
        )
        async with slots:
            # Asked once a slot is free: those who waited must not follow into the same trouble.
            if guarded and self._breaks and breaker.is_open():
                return NotExecuted("circuit_open")
            outcome = await self._send(operation, request, read)
        name = type(outcome).__name__ if outcome is not None else "None"
        breaker.note(outcome)
        metrics.provider_calls.labels(self.adapter.name, operation, name).inc()
        return outcome

    async def _send(
        self, operation: str, request: HttpRequest, read: Callable[[int, Mapping[str, Any]], Read]
    ) -> Read | NotExecuted | Unknown:
        call = {"provider": self.adapter.name, "operation": operation}
        try:
            async with asyncio.timeout(TOTAL_S):
                answer = await self._transport.send(request)
        except NotSent as error:
            _log.warning(PROVIDER_RESPONSE, **call, not_sent=str(error))
            return NotExecuted(str(error))
        except Exception as error:
            _log.warning(PROVIDER_RESPONSE, **call, lost=type(error).__name__)
            return Unknown(type(error).__name__)
        if answer.status >= 500 or len(answer.body) > MOST_ANSWER_BYTES:
            _log.warning(PROVIDER_RESPONSE, **call, status=answer.status, size=len(answer.body))
            return Unknown(f"status {answer.status}")
        try:
            data = msgspec.json.decode(answer.body, type=dict[str, Any])
            level = logging.DEBUG if answer.status < 400 else logging.WARNING
            if _log.is_enabled_for(level):  # masking costs more than reading the answer
                _log.log(level, PROVIDER_RESPONSE, **call, status=answer.status, body=masked(data))
            return read(answer.status, data)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            reason = type(error).__name__
            _log.warning(PROVIDER_RESPONSE, **call, status=answer.status, unreadable=reason)
            return Unknown(f"unreadable answer, status {answer.status}")
