"""Real HTTP to a provider: bounded connections, times and answers."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.request import getproxies, proxy_bypass

import httpx

from subledger.providers.port import HttpRequest, HttpResponse, NotSent

CONNECT_S, TOTAL_S = 5.0, 30.0
MOST_ANSWER_BYTES = 1024 * 1024
KEPT_IDLE_S = 5.0
"""An unused connection is closed after this; most servers keep theirs longer."""

_TIMEOUT = httpx.Timeout(TOTAL_S, connect=CONNECT_S, pool=CONNECT_S).as_dict()
_HEADERS = {"accept": "*/*", "accept-encoding": "gzip, deflate", "user-agent": "Subledger"}

if importlib.util.find_spec("sniffio") is None:
    # httpcore tries to import it four times a call, and what is missing is searched for along the
    # whole path each time (a quarter of a call's cost). This says that it is missing.
    sys.modules["sniffio"] = None  # type: ignore[assignment]  # as the import system defines it


class AnswerTooLarge(Exception):
    """The provider answered more than anybody means to read."""


class HttpxTransport:
    """Real HTTP: no redirect is followed and no cookie kept; connections, times and answers are
    bounded. A proxy that the environment names (``HTTPS_PROXY``, ``NO_PROXY``) is used.

    Raises NotSent only where no byte of the request can have left.

    Each connection has a transport of its own: a shared pool looks at every connection that it has
    for every idle one, at both ends of each request, which with 300 of them took 17 ms a call.
    httpx's client around it (cookies, redirects, authentication, joined addresses: nothing that a
    provider's call wants) was a third of what a call costs here.
    """

    def __init__(self, base_url: str, *, most_connections: int = 300) -> None:
        self._base_url = base_url.rstrip("/")
        self._places = asyncio.Semaphore(most_connections)
        self._idle: deque[tuple[httpx.AsyncHTTPTransport, float]] = deque()
        """The one used last at the right end, each with the moment at which it was put there."""
        self._trust = httpx.create_ssl_context()
        self._proxy = _proxy_for(base_url)

    async def send(self, request: HttpRequest) -> HttpResponse:
        body = bytearray()
        try:
            sent = httpx.Request(
                request.method,
                self._base_url + request.path,
                headers={**_HEADERS, **request.headers},
                content=request.body,
                extensions={"timeout": _TIMEOUT},
            )
            async with self._connection() as connection:
                answer = await connection.handle_async_request(sent)
                try:
                    async for part in answer.aiter_bytes():
                        body += part
                        if len(body) > MOST_ANSWER_BYTES:
                            raise AnswerTooLarge
                finally:
                    await answer.aclose()
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise NotSent(type(error).__name__) from error
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise NotSent("bad_address") from error
        return HttpResponse(answer.status_code, dict(answer.headers), bytes(body))

    async def close(self) -> None:
        while self._idle:
            connection, _ = self._idle.pop()
            await connection.aclose()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[httpx.AsyncHTTPTransport]:
        """The connection used last that is free, or a new one. Raises NotSent if all are busy for
        too long."""
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._places.acquire()
        except TimeoutError:
            raise NotSent("PoolTimeout") from None
        try:
            connection = self._idle.pop()[0] if self._idle else self._new()
            try:
                yield connection
            finally:
                self._idle.append((connection, time.monotonic()))
        finally:
            self._places.release()
        if self._idle and self._idle[0][1] < time.monotonic() - KEPT_IDLE_S:
            old, _ = self._idle.popleft()
            await old.aclose()

    def _new(self) -> httpx.AsyncHTTPTransport:
        return httpx.AsyncHTTPTransport(
            verify=self._trust,
            limits=httpx.Limits(
                max_connections=1, max_keepalive_connections=1, keepalive_expiry=KEPT_IDLE_S
            ),
            proxy=self._proxy,
        )


def _proxy_for(base_url: str) -> str | None:
    """The proxy that the environment names for this address, if any."""
    scheme, _, rest = base_url.partition("://")
    host = rest.partition("/")[0]
    return None if proxy_bypass(host) else getproxies().get(scheme)
