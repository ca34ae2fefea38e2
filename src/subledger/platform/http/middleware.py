"""What every request passes before a route sees it: an id, a limit, strict JSON, a log line.

Plain ASGI, so that the hot routes pay microseconds for it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from uuid import UUID

import structlog

from subledger.platform.http.problems import MEDIA_TYPE, Problem
from subledger.platform.ids import Ids
from subledger.platform.telemetry import metrics

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MOST_BYTES = 1024 * 1024
DEEPEST = 64
REQUEST_TIMEOUT_S = 60

_log = structlog.get_logger()


class Front:
    """Gives each request its id and time limit, answers problems, logs and counts."""

    def __init__(self, app: App, ids: Ids) -> None:
        self._app = app
        self._ids = ids

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _given_id(scope) or self._ids.new()
        scope["subledger.request_id"] = request_id
        started = time.perf_counter()
        status = 500
        begun = False

        async def answer(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
                message.setdefault("headers", [])
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", str(request_id).encode()),
                ]
            await send(message)

        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                await self._app(scope, await _strict_body(scope, receive), answer)
        except Problem as problem:
            await send_problem(answer, problem, request_id)
        except TimeoutError:
            if begun:
                raise
            limit = f"The request took more than {REQUEST_TIMEOUT_S} s."
            await send_problem(answer, Problem("timeout", detail=limit), request_id)
        except Exception as error:
            _log.error("request.failed", request_id=str(request_id), exc_info=error)
            if begun:
                raise
            what = "The error is in the log under the request id."
            await send_problem(answer, Problem("internal_error", detail=what), request_id)
        finally:
            _record(scope, status, time.perf_counter() - started, request_id)


def _record(scope: Scope, status: int, took_s: float, request_id: UUID) -> None:
    route = getattr(scope.get("route"), "path", None) or scope.get("subledger.route", "unmatched")
    metrics.requests.labels(scope["method"], route, str(status)).inc()
    metrics.request_seconds.labels(route).observe(took_s)
    _log.info(
        "request",
        method=scope["method"],
        route=route,
        status=status,
        duration_ms=round(took_s * 1000, 2),
        request_id=str(request_id),
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


async def _strict_body(scope: Scope, receive: Receive) -> Receive:
    """Read a JSON body whole, within the limit, and refuse what two readers could read two ways.

    Raises body_too_large, unsupported_media_type, invalid_json. Webhooks and pages (outside
    ``/v1``) keep their raw bytes.
    """
    if scope["method"] not in {"POST", "PUT", "PATCH"} or not scope["path"].startswith("/v1/"):
        return receive
    headers = dict(scope["headers"])
    declared = headers.get(b"content-length", b"0")
    if not declared.isdigit() or int(declared) > MOST_BYTES:
        raise _too_large()
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return receive
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MOST_BYTES:
            raise _too_large()
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


def _too_large() -> Problem:
    # The rest of the body stays unread, so the connection cannot be used again.
    return Problem(
        "body_too_large",
        detail=f"The body is over {MOST_BYTES} bytes.",
        headers={"Connection": "close"},
    )


def check_json(body: bytes) -> None:
    """Raise invalid_json for broken UTF-8 or JSON, duplicate keys, NaN, Infinity, NUL characters,
    and nesting of more than 64 levels."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refused(f"Byte {error.start} is not UTF-8.") from None
    depth = deepest = 0
    quoted = escaped = False
    for letter in text:
        if quoted:
            if escaped:
                escaped = False
            elif letter == "\\":
                escaped = True
            elif letter == '"':
                quoted = False
        elif letter == '"':
            quoted = True
        elif letter in "[{":
            depth += 1
            deepest = max(deepest, depth)
            if deepest > DEEPEST:
                raise _refused(f"It is nested more than {DEEPEST} levels deep.")
        elif letter in "]}":
            depth -= 1
    if "\\u0000" in text or "\0" in text:
        raise _refused("It holds a NUL character.")
    try:
        json.loads(text, object_pairs_hook=_unique, parse_constant=_constant, parse_int=_digits)
    except json.JSONDecodeError as error:
        raise _refused(f"{error.msg} at line {error.lineno}, column {error.colno}.") from None


def _digits(text: str) -> int:
    if len(text) > 60:
        raise _refused("A number has more than 60 digits.")
    return int(text)


def _constant(name: str) -> float:
    raise _refused(f"{name} is not JSON.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _refused(f"The key {twice[:80]!r} stands twice in one object.")
    return found


def _refused(detail: str) -> Problem:
    return Problem("invalid_json", detail=detail, pointer="")
