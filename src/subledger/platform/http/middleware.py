"""What every request passes before a route sees it: an id, a limit, strict JSON, a log line.

Plain ASGI, so that the hot routes pay microseconds for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.exc import TimeoutError as PoolIsEmpty
from starlette.requests import ClientDisconnect

from subledger.platform.db import is_transient
from subledger.platform.http.problems import MEDIA_TYPE, Problem
from subledger.platform.http.strict_json import check_json
from subledger.platform.ids import Ids
from subledger.platform.telemetry import metrics

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MOST_BYTES = 1024 * 1024
REQUEST_TIMEOUT_S = 60.0
_CLIENT_GONE = 499
"""The status in log and metrics when nobody waits for the answer any more (nginx's number)."""
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE", *_WITH_BODY})

_log = structlog.get_logger()


class Front:
    """Gives each request its id and time limit, answers what was raised, logs and counts."""

    def __init__(self, app: App, ids: Ids, *, timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        self._app = app
        self._ids = ids
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _given_id(scope) or self._ids.new()
        request_text = str(request_id)
        scope["subledger.request_id"] = request_id
        started = time.perf_counter()
        status, begun = _CLIENT_GONE, False

        async def answer(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
                named = (b"x-request-id", request_text.encode())
                message["headers"] = [*message.get("headers", ()), named]
            await send(message)

        bound = structlog.contextvars.bind_contextvars(request_id=request_text, tenant="")
        metrics.in_flight.inc()
        limit = asyncio.timeout(self._timeout_s)
        try:
            async with limit:
                _check_address(scope)
                await self._app(scope, await _checked(scope, receive), answer)
        except ClientDisconnect:
            pass
        except Exception as error:
            if begun:
                # Half of an answer is out; the server cuts the connection.
                _log.error("request.cut", exc_info=error)
                raise
            await send_problem(answer, self._problem(error, late=limit.expired()), request_id)
        finally:
            metrics.in_flight.dec()
            _record(scope, status, time.perf_counter() - started)
            structlog.contextvars.reset_contextvars(**bound)

    def _problem(self, error: Exception, *, late: bool) -> Problem:
        """What the caller is told. Nothing of an unforeseen error's text leaves the process."""
        if isinstance(error, Problem):
            return error
        if late and isinstance(error, TimeoutError):
            _log.warning("request.late")
            limit = f"The request took more than {self._timeout_s:g} s."
            return Problem("timeout", detail=limit)
        if isinstance(error, PoolIsEmpty) or is_transient(error):
            _log.warning("request.unavailable", exc_info=error)
            what = "A database that this needs does not answer."
            return Problem("service_unavailable", detail=what, headers={"Retry-After": "1"})
        _log.error("request.failed", exc_info=error)
        return Problem("internal_error", detail="The error is in the log under the request id.")


def _record(scope: Scope, status: int, took_s: float) -> None:
    route = scope.get("subledger.route") or getattr(scope.get("route"), "path", "unmatched")
    # A made-up method must not make up a time series.
    method = scope["method"] if scope["method"] in _METHODS else "other"
    metrics.requests.labels(method, route, str(status)).inc()
    metrics.request_seconds.labels(route).observe(took_s)
    _log.info(
        "request",
        method=method,
        route=route,
        status=status,
        duration_ms=round(took_s * 1000, 2),
        tenant=str(scope.get("subledger.tenant", "")),
    )


def _given_id(scope: Scope) -> UUID | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            try:
                return UUID(value.decode("ascii"))
            except ValueError:
                return None
    return None


async def send_problem(send: Send, problem: Problem, request_id: UUID | None) -> None:
    """Answer with a problem document."""
    body = problem.body(None if request_id is None else str(request_id))
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        *((name.lower().encode(), value.encode()) for name, value in problem.headers.items()),
    ]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _check_address(scope: Scope) -> None:
    """A NUL in path or query would reach PostgreSQL as a text that it cannot hold."""
    if "\0" in scope["path"] or b"%00" in scope.get("query_string", b""):
        raise Problem("invalid_request", detail="The address holds a NUL character.")


async def _checked(scope: Scope, receive: Receive) -> Receive:
    """The body within its limit; below ``/v1`` read whole and checked as JSON first.

    Raises body_too_large, unsupported_media_type, invalid_json. Webhooks and pages keep their raw
    bytes: signatures are made over those.
    """
    if scope["method"] not in _WITH_BODY:
        return receive
    headers = dict(scope["headers"])
    declared = headers.get(b"content-length", b"0")
    if not declared.isdigit() or len(declared) > 18 or int(declared) > MOST_BYTES:
        raise _too_large()
    if not scope["path"].startswith("/v1/"):
        return _limited(receive)
    body = await _whole(receive)
    if body:
        kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        if kind != b"application/json":
            raise Problem(
                "unsupported_media_type",
                detail=f"The Content-Type is {kind.decode('latin-1')[:80] or 'missing'}.",
            )
        check_json(body)
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _whole(receive: Receive) -> bytes:
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientDisconnect
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MOST_BYTES:
            raise _too_large()
    return bytes(body)


def _limited(receive: Receive) -> Receive:
    size = 0

    async def counted() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > MOST_BYTES:
            raise _too_large()
        return message

    return counted


def _too_large() -> Problem:
    # The rest of the body stays unread, so the connection cannot be used again.
    return Problem(
        "body_too_large",
        detail=f"The body is over {MOST_BYTES} bytes.",
        headers={"Connection": "close"},
    )
