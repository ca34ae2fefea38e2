"""What really leaves over HTTP: whole requests, one after another on a connection, no memory."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from subledger.providers.port import HttpRequest
from subledger.providers.transport import HttpxTransport

ASK = HttpRequest("GET", "/charges?after=1", {"authorization": "Bearer k"})
PAY = HttpRequest("POST", "/charges", {"idempotency-key": "att_1"}, b'{"amount_minor":100}')


class Listener:
    """A server that writes down what it hears, and answers each with a cookie and a redirect."""

    def __init__(self) -> None:
        self.url = ""
        self.connections = 0
        self.heard: list[tuple[str, dict[str, str], bytes]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *lines = head.strip().split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines)
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                self.heard.append((first, headers, body))
                answer = gzip.compress(b'{"code":"moved"}')
                writer.write(
                    b"HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\nset-cookie: a=b\r\n"
                    b"content-encoding: gzip\r\n"
                    + f"content-length: {len(answer)}\r\n\r\n".encode()
                    + answer
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    listener = Listener()
    server = await asyncio.start_server(listener.serve, "127.0.0.1", 0)
    listener.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield listener
    server.close()


async def test_each_request_stands_for_itself() -> None:
    async with listening() as provider:
        transport = HttpxTransport(provider.url + "/v1/")
        answers = [await transport.send(request) for request in (PAY, ASK)]
        await transport.close()

    assert [(each.status, each.body) for each in answers] == [(302, b'{"code":"moved"}')] * 2
    assert [(first, body) for first, _, body in provider.heard] == [
        ("POST /v1/charges HTTP/1.1", PAY.body),
        ("GET /v1/charges?after=1 HTTP/1.1", b""),
    ]
    paid, asked = (headers for _, headers, _ in provider.heard)
    assert (paid["idempotency-key"], paid["content-length"]) == ("att_1", "20")
    assert (asked["authorization"], asked.get("cookie")) == ("bearer k", None)
    assert "idempotency-key" not in asked
    assert provider.connections == 1


async def test_calls_at_once_have_connections_of_their_own() -> None:
    async with listening() as provider:
        transport = HttpxTransport(provider.url, most_connections=3)
        answers = await asyncio.gather(*(transport.send(PAY) for _ in range(12)))
        await transport.close()
    assert {each.status for each in answers} == {302}
    assert (len(provider.heard), provider.connections) == (12, 3)


async def test_the_environments_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening() as proxy, listening() as provider:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        for url in ("http://provider.invalid/v1", provider.url):
            transport = HttpxTransport(url)
            assert (await transport.send(ASK)).status == 302
            await transport.close()
    assert [first for first, _, _ in proxy.heard] == [
        "GET http://provider.invalid/v1/charges?after=1 HTTP/1.1"
    ]
    assert [first for first, _, _ in provider.heard] == ["GET /charges?after=1 HTTP/1.1"]
