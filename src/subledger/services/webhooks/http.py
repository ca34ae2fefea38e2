"""Where providers' notifications arrive: verify, keep, acknowledge; nothing else.

No API key: the address holds an unguessable part, and the signature decides. Fails closed: what
is not verified leaves no trace but a count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from cryptography.fernet import MultiFernet
from fastapi import APIRouter, Request, Response

from subledger.platform import crashpoints
from subledger.platform.db import Database, Tx, story
from subledger.platform.http.problems import Problem
from subledger.providers.port import Adapter
from subledger.services.webhooks import problems
from subledger.services.webhooks.endpoints import Endpoints, Known
from subledger.services.webhooks.usecases.receive import receive

MOST_BYTES = 256 * 1024
_RECEIVE = story("webhooks.receive")
_BEFORE_ACK = crashpoints.point("webhooks.receive.before_ack")


def router(
    database: Database,
    *,
    endpoints: Endpoints,
    adapters: Mapping[str, Adapter],
    fernet: MultiFernet,
    clock_s: Callable[[], int] = lambda: int(time.time()),
) -> APIRouter:
    """``POST /webhooks/{provider}/{token}``; signature times are judged by the wall clock."""
    routes = APIRouter()

    @routes.post("/webhooks/{provider}/{token}", include_in_schema=False)
    async def take(provider: str, token: str, request: Request) -> Response:
        adapter = adapters.get(provider)
        if adapter is None or not 20 <= len(token) <= 100:
            raise _unknown()
        body = await _body(request)
        headers = {name.lower(): value for name, value in request.headers.items()}
        endpoint, trust = await _trusted(
            endpoints,
            adapter,
            provider=provider,
            token=token,
            body=body,
            headers=headers,
            now_s=clock_s(),
        )
        try:
            hints = adapter.parse(body)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise Problem(
                problems.UNREADABLE, detail=f"This is no notification of {provider}."
            ) from None

        async def work(tx: Tx) -> int:
            return await receive(
                tx,
                tenant_id=endpoint.tenant_id,
                endpoint_id=endpoint.id,
                connection_id=endpoint.connection_id,
                trust=trust,
                body_encrypted=fernet.encrypt(body),
                hints=hints,
            )

        await database.transact(_RECEIVE, work, tenants=[endpoint.tenant_id])
        _BEFORE_ACK.hit()
        answer = adapter.ack()
        return Response(answer.body, status_code=answer.status, headers=dict(answer.headers))

    return routes


async def _body(request: Request) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MOST_BYTES:
            raise Problem(problems.TOO_LARGE, detail="The body is larger than 256 KiB.")
        parts.append(part)
    return b"".join(parts)


async def _trusted(
    endpoints: Endpoints,
    adapter: Adapter,
    *,
    provider: str,
    token: str,
    body: bytes,
    headers: Mapping[str, str],
    now_s: int,
) -> tuple[Known, str]:
    """The endpoint and how far the notification is trusted. Raises for unknown and unsigned.

    A remembered secret may have been replaced meanwhile: what it rejects is judged again.
    """
    for known in (endpoints.remembered(token), None):
        endpoint = known or await endpoints.find(token)
        if endpoint is None or endpoint.provider != provider:
            raise _unknown()
        trust = adapter.verify(headers, body, endpoint.secret, now_s)
        if trust != "rejected":
            return endpoint, trust
        if known is None:
            break
    raise Problem(problems.REJECTED, detail="The signature does not fit body, secret and time.")


def _unknown() -> Problem:
    return Problem("not_found", detail="There is no such endpoint.")
