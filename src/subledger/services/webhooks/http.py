"""Where providers' notifications arrive: verify, keep, acknowledge; nothing else.

No API key: the address holds an unguessable part, and the signature decides. Fails closed: what
is not verified leaves no trace but a count. Plain ASGI: a framework's routing and its reading of
parameters cost more than all that is done here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from cryptography.fernet import MultiFernet
from starlette.requests import ClientDisconnect

from subledger.platform import crashpoints
from subledger.platform.http.middleware import Receive, Scope, Send
from subledger.platform.http.problems import Problem
from subledger.providers.port import Adapter
from subledger.services.webhooks import problems
from subledger.services.webhooks.endpoints import Endpoints, Known
from subledger.services.webhooks.intake import Intake, Overloaded
from subledger.services.webhooks.usecases.receive import Arrival, readable

PREFIX = "/webhooks/"
ROUTE = "/webhooks/{provider}/{token}"
MOST_BYTES = 256 * 1024
_BEFORE_ACK = crashpoints.point("webhooks.receive.before_ack")


class Arrivals:
    """``POST /webhooks/{provider}/{token}``; signature times are judged by the wall clock."""

    def __init__(
        self,
        intake: Intake,
        *,
        endpoints: Endpoints,
        adapters: Mapping[str, Adapter],
        fernet: MultiFernet,
        clock_s: Callable[[], int] = lambda: int(time.time()),
    ) -> None:
        self._intake = intake
        self._endpoints = endpoints
        self._adapters = adapters
        self._fernet = fernet
        self._clock_s = clock_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["subledger.route"] = ROUTE
        if scope["method"] != "POST":
            raise Problem(
                "method_not_allowed", detail="Notifications are posted.", headers={"Allow": "POST"}
            )
        provider, _, token = scope["path"].removeprefix(PREFIX).partition("/")
        adapter = self._adapters.get(provider)
        if adapter is None or not 20 <= len(token) <= 100:
            raise _unknown()
        headers = {name.decode("latin-1"): v.decode("latin-1") for name, v in scope["headers"]}
        await self._take(adapter, token, headers, await _body(receive))
        _BEFORE_ACK.hit()
        answer = adapter.ack()
        told = [(name.lower().encode(), value.encode()) for name, value in answer.headers.items()]
        told.append((b"content-length", str(len(answer.body)).encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": told})
        await send({"type": "http.response.body", "body": answer.body})

    async def _take(
        self, adapter: Adapter, token: str, headers: Mapping[str, str], body: bytes
    ) -> None:
        """Keep what is verified. Raises the problems of what is not, and of what is unreadable."""
        endpoint, trust = await _trusted(
            self._endpoints,
            adapter,
            provider=adapter.name,
            token=token,
            body=body,
            headers=headers,
            now_s=self._clock_s(),
        )
        try:
            hints = readable(adapter.parse(body))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise Problem(
                problems.UNREADABLE, detail=f"This is no notification of {adapter.name}."
            ) from None
        arrival = Arrival(
            tenant_id=endpoint.tenant_id,
            endpoint_id=endpoint.id,
            connection_id=endpoint.connection_id,
            trust=trust,
            body_encrypted=self._fernet.encrypt(body),
            hints=hints,
        )
        try:
            await self._intake.take(arrival)
        except Overloaded:
            raise Problem(
                "service_unavailable",
                detail="Too many notifications wait.",
                headers={"Retry-After": "1"},
            ) from None


async def _body(receive: Receive) -> bytes:
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientDisconnect
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MOST_BYTES:
            raise Problem(
                problems.TOO_LARGE,
                detail="The body is larger than 256 KiB.",
                headers={"Connection": "close"},
            )
    return bytes(body)


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
