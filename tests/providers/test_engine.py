"""The engine against servers that misbehave: not executed, definite and unknown are told apart."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from subledger.providers import engine
from subledger.providers.engine import AsgiTransport, ConnectionCut, Gateway, HttpxTransport
from subledger.providers.port import (
    ChargeRequest,
    Connection,
    Declined,
    HttpRequest,
    HttpResponse,
    NotExecuted,
    NotFound,
    NotSent,
    Outcome,
    Succeeded,
    Unknown,
)
from subledger.providers.sandbox.adapter import SandboxAdapter

CONNECTION = Connection("conn_1", "sandbox", "sbk_1")
OTHER = Connection("conn_2", "sandbox", "sbk_2")
CHARGE = ChargeRequest("att_1", "tok_1", 100, "EUR")
PAID = b'{"id":"ch_1","status":"succeeded","code":"ok","amount_minor":100,"at":"2026-03-01"}'

Behave = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def misbehaving(behave: Behave) -> AsyncIterator[str]:
    """A server that reads a request's head and then does as it likes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            await behave(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    await server.wait_closed()


async def outcome_of(behave: Behave) -> Outcome:
    async with misbehaving(behave) as url:
        transport = HttpxTransport(url)
        try:
            return await Gateway(SandboxAdapter(), transport).charge_saved(CONNECTION, CHARGE)
        finally:
            await transport.close()


def answering(status: str, body: bytes, *headers: str) -> Behave:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers, "", ""]

    async def behave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write("\r\n".join(lines).encode() + body)
        await writer.drain()

    return behave


async def test_a_whole_answer_is_definite() -> None:
    assert await outcome_of(answering("200 OK", PAID)) == Succeeded("ch_1", 100, "2026-03-01")
    refused = answering("422 Unprocessable", b'{"code":"invalid_amount"}')
    assert await outcome_of(refused) == Declined("config", "invalid_amount")


async def test_nobody_listens_means_not_executed() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    transport = HttpxTransport(f"http://127.0.0.1:{port}")
    gateway = Gateway(SandboxAdapter(), transport)
    # However often: nothing ran, so nothing is unknown and the breaker stays closed.
    for _ in range(engine.OPENS_AFTER + 1):
        assert await gateway.charge_saved(CONNECTION, CHARGE) == NotExecuted("ConnectError")
    # Of what was sent before, that nobody listens now says nothing.
    assert await gateway.fetch(CONNECTION, "att_1") == Unknown("ConnectError")
    await transport.close()


async def test_an_address_that_is_none_is_not_executed() -> None:
    transport = HttpxTransport("ftp://127.0.0.1")
    answer = await Gateway(SandboxAdapter(), transport).charge_saved(CONNECTION, CHARGE)
    assert answer == NotExecuted("bad_address")
    await transport.close()


async def cut_at_once(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    return


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    linger = b"\1\0\0\0\0\0\0\0"
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


async def half(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n" + PAID)
    await writer.drain()


@pytest.mark.parametrize(
    "behave",
    [
        cut_at_once,
        reset,
        half,
        answering("200 OK", b"<!doctype html><h1>hello</h1>"),
        answering("200 OK", b""),
        answering("200 OK", b"[1,2]"),
        answering("200 OK", b'{"status":"succeeded"}'),
        answering("200 OK", b'{"id":"x","status":"on_the_moon"}'),
        answering("200 OK", b"\xff\xfe{}"),
        answering("200 OK", b"[" * 10_000),
        answering("500 Oops", b'{"code":"internal_error"}'),
        answering("502 Bad Gateway", b"<h1>Bad gateway</h1>"),
        answering("429 Slow down", b"{}"),
        answering("302 Found", PAID, "location: /elsewhere"),
        answering("200 OK", b" " * (engine.MOST_ANSWER_BYTES + 1)),
    ],
)
async def test_whatever_goes_wrong_after_the_first_byte_is_unknown(behave: Behave) -> None:
    assert isinstance(await outcome_of(behave), Unknown)


async def test_a_redirect_is_not_followed() -> None:
    asked = 0

    async def elsewhere(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        writer.write(b"HTTP/1.1 307 Go\r\nlocation: /x\r\ncontent-length: 2\r\n\r\n{}")
        await writer.drain()

    assert await outcome_of(elsewhere) == Unknown("status 307")
    assert asked == 1


async def test_an_answer_that_drips_ends_at_the_total_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "TOTAL_S", 0.3)

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n")
        for _n in range(100):
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)

    assert await outcome_of(drip) == Unknown("TimeoutError")


# --- one transport by hand ----------------------------------------------------------------------


class Scripted:
    """A transport whose answers are given; it counts what was sent and how many at once."""

    def __init__(self, answer: HttpResponse | Exception) -> None:
        self.answer = answer
        self.sent = 0
        self.now = self.most = 0

    async def send(self, request: HttpRequest) -> HttpResponse:
        self.sent += 1
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.001)
        self.now -= 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_the_breaker_opens_after_repeated_unknowns_for_that_connection_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "OPEN_FOR_S", 0.2)
    provider = Scripted(ConnectionResetError())
    gateway = Gateway(SandboxAdapter(), provider)
    for _ in range(engine.OPENS_AFTER):
        assert isinstance(await gateway.charge_saved(CONNECTION, CHARGE), Unknown)
    assert await gateway.charge_saved(CONNECTION, CHARGE) == NotExecuted("circuit_open")
    assert provider.sent == engine.OPENS_AFTER
    # Questions are asked all the same: they alone make the unknown known.
    assert isinstance(await gateway.fetch(CONNECTION, "att_1"), Unknown)
    assert isinstance(await gateway.charge_saved(OTHER, CHARGE), Unknown)

    provider.answer = HttpResponse(200, {}, PAID)
    await asyncio.sleep(0.25)
    assert isinstance(await gateway.charge_saved(CONNECTION, CHARGE), Succeeded)


async def test_those_who_wait_for_a_slot_do_not_follow_into_the_same_trouble() -> None:
    provider = Scripted(ConnectionResetError())
    adapter = SandboxAdapter()
    gateway = Gateway(adapter, provider)
    n = adapter.capabilities.max_parallel * 3
    answers = await asyncio.gather(*(gateway.charge_saved(CONNECTION, CHARGE) for _ in range(n)))
    assert provider.most == adapter.capabilities.max_parallel
    assert provider.sent < 2 * adapter.capabilities.max_parallel
    assert answers.count(NotExecuted("circuit_open")) == n - provider.sent


async def test_a_success_in_between_keeps_the_breaker_closed() -> None:
    provider = Scripted(ConnectionResetError())
    gateway = Gateway(SandboxAdapter(), provider)
    for n in range(3 * engine.OPENS_AFTER):
        lost = n % engine.OPENS_AFTER != 0
        provider.answer = ConnectionResetError() if lost else HttpResponse(200, {}, PAID)
        expected = Unknown if lost else Succeeded
        assert isinstance(await gateway.charge_saved(CONNECTION, CHARGE), expected)


async def test_not_sent_is_not_executed_and_a_404_is_not_found() -> None:
    gateway = Gateway(SandboxAdapter(), Scripted(NotSent("no route")))
    assert await gateway.charge_saved(CONNECTION, CHARGE) == NotExecuted("no route")
    gateway = Gateway(SandboxAdapter(), Scripted(HttpResponse(404, {}, b'{"code":"not_found"}')))
    assert await gateway.fetch(CONNECTION, "att_1") == NotFound()


@pytest.mark.parametrize("messages", [0, 1, 2])
async def test_an_application_that_stops_half_way_is_a_cut_connection(messages: int) -> None:
    said = [
        {"type": "http.response.start", "status": 200, "headers": []},
        {"type": "http.response.body", "body": PAID, "more_body": True},
    ]

    async def app(scope: object, receive: object, send: Callable[..., Awaitable[None]]) -> None:
        for message in said[:messages]:
            await send(message)

    with pytest.raises(ConnectionCut):
        await AsgiTransport(app).send(HttpRequest("GET", "/x?a=b", {}))


async def test_an_answer_in_parts_is_one_answer_in_process() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (scope["path"], scope["query_string"]) == ("/x", b"a=b&c")
        assert (await receive())["body"] == b"hello"
        headers = [(b"x-one", b"1")]
        await send({"type": "http.response.start", "status": 201, "headers": headers})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})

    answer = await AsgiTransport(app).send(HttpRequest("PUT", "/x?a=b&c", {}, b"hello"))
    assert answer == HttpResponse(201, {"x-one": "1"}, b"ab")
