"""``GET /v1/access/{customer}/{resource}``: a plain ASGI route, answered from memory.

It shares authentication and problems with the FastAPI application and is listed in its OpenAPI
(``ROUTE``, ``OPERATION``); FastAPI's own path would cost several times the answer. ``ahead_of``
puts it before a whole application. Single checks are counted, not logged one by one.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from urllib.parse import quote, unquote_to_bytes
from uuid import UUID

import structlog

from subledger.contracts.keys import KeyRing, Principal
from subledger.platform.db import is_transient
from subledger.platform.http.callers import Doorkeeper
from subledger.platform.http.middleware import App, Receive, Scope, Send
from subledger.platform.http.problems import Problem, problems
from subledger.platform.ids import Ids
from subledger.platform.telemetry import metrics
from subledger.services.entitlements.memory import Memory

ROUTE = "/v1/access/{customer}/{resource}"
_PREFIX = "/v1/access/"
_PREFIX_LENGTH = len(_PREFIX)
_JSON = (b"content-type", b"application/json")

_ASK_WITHIN_S = 1.0
_MOST_KNOWN = 10_000

_log = structlog.get_logger()


class WhenStale(StrEnum):
    """What is answered when the event log could not be read for ``max_stale_s``: everyone may,
    no one may, or the problem ``service_unavailable``."""

    ALLOW = "allow"
    DENY = "deny"
    PROBLEM = "problem"


_STALE = {
    WhenStale.ALLOW: b'{"allowed":true,"reason":"stale","valid_until":null}',
    WhenStale.DENY: b'{"allowed":false,"reason":"stale","valid_until":null}',
}
_NOT_ALLOWED = {
    reason: f'{{"allowed":false,"reason":"{reason}","valid_until":null}}'.encode()
    for reason in ("unknown_customer", "no_entitlement")
}


class _EnduringRing:
    """A key ring that outlives its database: while it cannot be asked, a caller whom it knew
    within the last ``endures_s`` is still known. Its no is never remembered."""

    def __init__(self, ring: KeyRing, *, endures_s: float) -> None:
        self._ring = ring
        self._endures_s = endures_s
        self._known: OrderedDict[str, tuple[float, Principal]] = OrderedDict()

    async def principal(self, credential: str) -> Principal | None:
        try:
            async with asyncio.timeout(_ASK_WITHIN_S):
                found = await self._ring.principal(credential)
        except Exception as error:
            if not is_transient(error):
                raise
            asked_at, known = self._known.get(credential, (float("-inf"), None))
            if known is None or time.monotonic() - asked_at > self._endures_s:
                raise Problem(
                    "service_unavailable",
                    detail="Nobody can say whose key this is.",
                    headers={"Retry-After": "1"},
                ) from error
            return known
        if found is None:
            self._known.pop(credential, None)
            return None
        self._known[credential] = (time.monotonic(), found)
        self._known.move_to_end(credential)
        while len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        return found


class AccessRoute:
    """The ASGI application of the route. Raises Problem, which whoever stands before it answers."""

    def __init__(
        self,
        memory: Memory,
        key_ring: KeyRing,
        *,
        max_stale_s: float,
        when_stale: WhenStale,
    ) -> None:
        self._memory = memory
        self._keeper = Doorkeeper(_EnduringRing(key_ring, endures_s=max_stale_s))
        self._max_stale_s = max_stale_s
        self._when_stale = when_stale

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        authorization = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value.decode("latin-1")
                break
        principal = self.remembered(authorization) or await self.admit(authorization)
        body = self.body(scope, principal)
        headers = [_JSON, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def remembered(self, authorization: str | None) -> Principal | None:
        """The caller, if this was answered within the last second."""
        return None if authorization is None else self._keeper.remembered(authorization)

    async def admit(self, authorization: str | None) -> Principal:
        """The caller. Raises ``unauthorized``, or ``service_unavailable`` if nobody can say."""
        return await self._keeper.admit(authorization)

    def body(self, scope: Scope, principal: Principal) -> bytes:
        """The answer to this request of the caller. Raises Problem."""
        if scope["method"] != "GET":
            raise Problem(
                "method_not_allowed",
                detail=f"{scope['method']} is not possible here.",
                headers={"Allow": "GET"},
            )
        scope["subledger.tenant"] = principal.tenant_id
        customer, resource = _named(scope)
        return self._answer(principal.tenant_id, customer, resource)

    def _answer(self, tenant_id: UUID, customer: str, resource: str) -> bytes:
        age_s = self._memory.age_s()
        if age_s > self._max_stale_s:
            if self._when_stale is WhenStale.PROBLEM:
                raise Problem(
                    "service_unavailable",
                    detail=f"Access was last known {age_s:.0f} s ago.",
                    headers={"Retry-After": "1"},
                )
            return _STALE[self._when_stale]
        answer = self._memory.check(tenant_id, customer, resource)
        if answer.valid_until is None:
            return _NOT_ALLOWED[answer.reason]
        until = datetime.fromtimestamp(answer.valid_until, UTC).isoformat()[:-6]
        allowed = "true" if answer.allowed else "false"
        return (
            f'{{"allowed":{allowed},"reason":"{answer.reason}","valid_until":"{until}Z"}}'.encode()
        )


def _named(scope: Scope) -> tuple[str, str]:
    """Customer and resource as the path names them; an encoded slash belongs to its name."""
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    parts = raw[_PREFIX_LENGTH:].split(b"/")
    if len(parts) != 2 or not parts[0] or not parts[1]:
        raise Problem("not_found", detail=f"The path is {ROUTE}; encode a slash in a name as %2F.")
    try:
        if b"%" in raw:
            parts = [unquote_to_bytes(part) for part in parts]
        return parts[0].decode(), parts[1].decode()
    except UnicodeDecodeError:
        raise Problem("not_found", detail="The path is not UTF-8.") from None


class _Ahead:
    """Sends access checks to their route at once, and everything else to the application."""

    def __init__(self, app: App, access: AccessRoute, ids: Ids) -> None:
        self._app = app
        self._access = access
        self._ids = ids
        self._answered = metrics.requests.labels("GET", ROUTE, "200")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(_PREFIX):
            await self._app(scope, receive, send)
            return
        authorization = given = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value.decode("latin-1")
            elif name == b"x-request-id":
                given = value
        request_id = str(_given_id(given) or self._ids.new())
        try:
            access = self._access
            principal = access.remembered(authorization) or await access.admit(authorization)
            body = access.body(scope, principal)
        except Problem as problem:
            await _refuse(scope, send, problem, request_id)
            return
        except Exception as error:
            _log.error("request.failed", request_id=request_id, exc_info=error)
            detail = "The error is in the log under the request id."
            await _refuse(scope, send, Problem("internal_error", detail=detail), request_id)
            return
        self._answered.inc()
        headers = [
            _JSON,
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", request_id.encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def _refuse(scope: Scope, send: Send, problem: Problem, request_id: str) -> None:
    body = problem.body(request_id)
    headers = {
        "Content-Type": "application/problem+json",
        "Content-Length": str(len(body)),
        "X-Request-Id": request_id,
        **problem.headers,
    }
    metrics.requests.labels(scope["method"], ROUTE, str(problem.status)).inc()
    _log.info(
        "request",
        method=scope["method"],
        route=ROUTE,
        status=problem.status,
        code=problem.code,
        request_id=request_id,
        tenant=str(scope.get("subledger.tenant", "")),
    )
    listed = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": listed})
    await send({"type": "http.response.body", "body": body})


def _given_id(value: bytes | None) -> UUID | None:
    if value is None:
        return None
    try:
        return UUID(value.decode("ascii"))
    except ValueError:
        return None


def access_route(
    memory: Memory, key_ring: KeyRing, *, max_stale_s: float, when_stale: WhenStale | str
) -> AccessRoute:
    """The route over ``memory``, for callers that ``key_ring`` knows.

    ``max_stale_s`` seconds without having read the event log to its end, ``when_stale`` answers.
    """
    return AccessRoute(memory, key_ring, max_stale_s=max_stale_s, when_stale=WhenStale(when_stale))


def ahead_of(app: App, access: AccessRoute, *, ids: Ids | None = None) -> App:
    """``app`` with access checks answered before anything of it runs."""
    ahead: App = _Ahead(app, access, ids or Ids())
    return ahead


def _parameter(name: str, description: str, example: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": {"type": "string", "minLength": 1},
        "example": example,
    }


_REASONS = ["active", "grace", "expired", "no_entitlement", "unknown_customer", "stale"]

OPERATION: Mapping[str, Any] = {
    "operationId": "check_access",
    "tags": ["Access"],
    "summary": "Check access",
    "description": "Whether the customer may use the resource now, answered from memory within a"
    " second of every change. `valid_until` is when the answer may change by time alone: the paid"
    " period's end, and after it, while the renewal is on its way, the end of three days' leeway;"
    " in grace its exact end; when expired, the end that has passed. Nothing tells another"
    " tenant's customer from an unknown one.",
    "parameters": [
        _parameter("customer", "Our id or your own (URL-encoded).", "viewer-17"),
        _parameter("resource", "A resource of your products (URL-encoded).", "film-603"),
    ],
    "responses": {
        "200": {
            "description": "The answer, also for customers who are not known.",
            "headers": {
                "X-Request-Id": {"schema": {"type": "string"}, "description": "Names the request."}
            },
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "title": "Access",
                        "additionalProperties": False,
                        "required": ["allowed", "reason", "valid_until"],
                        "properties": {
                            "allowed": {"type": "boolean"},
                            "reason": {"type": "string", "enum": _REASONS},
                            "valid_until": {
                                "anyOf": [
                                    {"type": "string", "format": "date-time"},
                                    {"type": "null"},
                                ]
                            },
                        },
                    },
                    "example": {
                        "allowed": True,
                        "reason": "active",
                        "valid_until": "2026-04-01T00:00:00Z",
                    },
                }
            },
        },
        **{
            str(status): answer
            for status, answer in problems("not_found", "service_unavailable").items()
        },
    },
}
"""Its description for the OpenAPI document."""
