"""Who is calling: the key, the tenant, the request; read once, the same for every route."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from contextvars import Context
from dataclasses import dataclass
from typing import Annotated, Protocol
from uuid import UUID

import structlog
from fastapi import Depends, Request

from subledger.contracts.keys import KeyRing, Principal
from subledger.platform.http.known_query import check_query
from subledger.platform.http.problems import Problem

KEY_PREFIXES = ("sk_live_", "sk_test_")
CACHED_S = 1.0
"""How long a key's answer is kept: a revoked key works at most this much longer."""
_MOST_CACHED = 10_000
_MOST_CREDENTIAL = 4_096
_DEFAULT_WAIT_S, _MOST_WAIT_S = 10.0, 30.0


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated request. ``wait_s`` is how long it is willing to wait for its facts
    (``Prefer: wait=n``, seconds, at most 30)."""

    principal: Principal
    tenant_id: UUID
    request_id: UUID
    idempotency_key: str | None
    wait_s: float
    path: str


class TokenVerifier(Protocol):
    """Whoever can read bearer tokens that are not API keys (of users, staff, services)."""

    async def principal(self, token: str) -> Principal | None:
        """Who presents this token; None if it is not valid (any more)."""
        ...


class Doorkeeper:
    """Authentication shared by FastAPI routes and plain ASGI routes; answers are kept a second.

    Credentials that begin like an API key go to the ring; with a ``tokens`` verifier all others
    go there, else the ring refuses them too.
    """

    def __init__(self, ring: KeyRing, tokens: TokenVerifier | None = None) -> None:
        self._ring = ring
        self._tokens = tokens
        self._known: OrderedDict[str, tuple[float, Principal | None]] = OrderedDict()
        self._asking: dict[str, asyncio.Task[Principal | None]] = {}

    def remembered(self, authorization: str) -> Principal | None:
        """The principal if it was asked for within the last second; no I/O."""
        kept = self._known.get(authorization)
        if kept is not None and kept[0] > time.monotonic():
            return kept[1]
        return None

    async def admit(self, authorization: str | None) -> Principal:
        """The principal behind an Authorization header. Raises the problem ``unauthorized``."""
        if authorization is None:
            raise unauthorized("The Authorization header is missing.")
        kept = self._known.get(authorization)
        if kept is not None and kept[0] > time.monotonic():
            principal = kept[1]
        else:
            # Those who come while one asks wait for the same answer.
            asking = self._asking.get(authorization)
            if asking is None:
                asking = asyncio.create_task(self._ask(authorization), context=Context())
                self._asking[authorization] = asking
                asking.add_done_callback(lambda _: self._asking.pop(authorization, None))
            principal = await asyncio.shield(asking)
        if principal is None:
            raise unauthorized("The API key is unknown or revoked.")
        return principal

    async def _ask(self, authorization: str) -> Principal | None:
        scheme, _, credential = authorization.partition(" ")
        if scheme.lower() != "bearer" or not 0 < len(credential) <= _MOST_CREDENTIAL:
            raise unauthorized("The Authorization header is not Bearer with an API key.")
        if self._tokens is None or credential.startswith(KEY_PREFIXES):
            principal = await self._ring.principal(credential)
        else:
            principal = await self._tokens.principal(credential)
        self._known[authorization] = (time.monotonic() + CACHED_S, principal)
        self._known.move_to_end(authorization)
        while len(self._known) > _MOST_CACHED:
            self._known.popitem(last=False)
        return principal


def unauthorized(detail: str) -> Problem:
    return Problem("unauthorized", detail=detail, headers={"WWW-Authenticate": "Bearer"})


def idempotency_key(value: str | None) -> str | None:
    """The header's value, checked. Raises the problem ``invalid_idempotency_key``."""
    if value is None:
        return None
    key = value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
    if not 1 <= len(key) <= 255 or not all(32 < ord(letter) < 127 for letter in key):
        raise Problem(
            "invalid_idempotency_key",
            detail=f"The Idempotency-Key header has {len(value)} characters.",
        )
    return key


def _wait_s(prefer: str | None) -> float:
    for part in (prefer or "").replace(";", ",").split(","):
        name, _, value = part.strip().partition("=")
        if name.lower() == "wait" and value.isascii() and value.isdigit():
            return min(float(value[:4]), _MOST_WAIT_S)
    return _DEFAULT_WAIT_S


async def _read(request: Request) -> Caller:
    keeper: Doorkeeper = request.app.state.doorkeeper
    principal = await keeper.admit(request.headers.get("authorization"))
    request.scope["subledger.tenant"] = principal.tenant_id
    structlog.contextvars.bind_contextvars(tenant=str(principal.tenant_id))
    check_query(request)
    return Caller(
        principal=principal,
        tenant_id=principal.tenant_id,
        request_id=request.scope["subledger.request_id"],
        idempotency_key=idempotency_key(request.headers.get("idempotency-key")),
        wait_s=_wait_s(request.headers.get("prefer")),
        path=request.url.path,
    )


async def _admin(caller: Annotated[Caller, Depends(_read)]) -> Caller:
    if caller.principal.role != "admin":
        raise Problem("forbidden", detail=f"The key's role is {caller.principal.role}.")
    return caller


CallerRead = Annotated[Caller, Depends(_read)]
CallerAdmin = Annotated[Caller, Depends(_admin)]
