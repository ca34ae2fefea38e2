"""The engine against servers that misbehave: not executed, definite and unknown are told apart."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from subledger.providers import engine, limits
from subledger.providers.engine import AsgiTransport, ConnectionCut, Gateway
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
from subledger.providers.transport import HttpxTransport

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
    for _ in range(limits.OPENS_AFTER + 1):
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


def held_back(outcome: Outcome) -> str | None:
    """Why a call was not made, if it was not."""
    return outcome.reason if isinstance(outcome, NotExecuted) else None


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
    monkeypatch.setattr(engine, "OPEN_FOR_S", 20.0)
    provider, now_s = Scripted(ConnectionResetError()), [0.0]
    gateway = Gateway(SandboxAdapter(), provider, now_s=lambda: now_s[0])
    for _ in range(limits.OPENS_AFTER):
        assert isinstance(await gateway.charge_saved(CONNECTION, CHARGE), Unknown)
    assert held_back(await gateway.charge_saved(CONNECTION, CHARGE)) == "circuit_open"
    assert provider.sent == limits.OPENS_AFTER
    # Questions are asked all the same: they alone make the unknown known.
    assert isinstance(await gateway.fetch(CONNECTION, "att_1"), Unknown)
    assert isinstance(await gateway.charge_saved(OTHER, CHARGE), Unknown)

    provider.answer = HttpResponse(200, {}, PAID)
    now_s[0] = 19.9
    assert held_back(await gateway.charge_saved(CONNECTION, CHARGE)) == "circuit_open"
    now_s[0] = 20.0
    assert isinstance(await gateway.charge_saved(CONNECTION, CHARGE), Succeeded)


async def test_those_who_wait_for_a_slot_do_not_follow_into_the_same_trouble() -> None:
    provider = Scripted(ConnectionResetError())
    adapter = SandboxAdapter()
    gateway = Gateway(adapter, provider)
    n = adapter.capabilities.max_parallel * 3
    answers = await asyncio.gather(*(gateway.charge_saved(CONNECTION, CHARGE) for _ in range(n)))
    assert provider.most == adapter.capabilities.max_parallel
    assert provider.sent < 2 * adapter.capabilities.max_parallel
    assert [held_back(each) for each in answers].count("circuit_open") == n - provider.sent


async def test_a_success_in_between_keeps_the_breaker_closed() -> None:
    provider = Scripted(ConnectionResetError())
    gateway = Gateway(SandboxAdapter(), provider)
    for n in range(3 * limits.OPENS_AFTER):
        lost = n % limits.OPENS_AFTER != 0
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


# --- rate limits and probes ----------------------------------------------------------------------


class Slow(SandboxAdapter):
    """A provider that takes 20 calls a second, two at once, one in flight."""

    capabilities = replace(SandboxAdapter.capabilities, rate_per_s=20.0, burst=2, max_parallel=1)


async def test_too_many_means_not_executed_and_the_provider_is_left_alone() -> None:
    provider = Scripted(HttpResponse(429, {"Retry-After": "60"}, b"<h1>Slow down</h1>"))
    gateway = Gateway(SandboxAdapter(), provider)
    told = await gateway.charge_saved(CONNECTION, CHARGE)
    assert told == NotExecuted("rate_limited", retry_after_s=60.0)

    provider.answer = HttpResponse(200, {}, PAID)
    waits = await gateway.charge_saved(CONNECTION, CHARGE)
    assert isinstance(waits, NotExecuted)
    assert waits.reason == "rate_limited"
    assert 59 < (waits.retry_after_s or 0) <= 60
    assert await gateway.fetch(CONNECTION, "att_1") == Unknown("rate_limited")
    assert provider.sent == 1
    # Another connection is another customer of the provider.
    assert isinstance(await gateway.charge_saved(OTHER, CHARGE), Succeeded)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("", engine.RETRY_AFTER_S),
        ("soon", engine.RETRY_AFTER_S),
        ("-3", engine.RETRY_AFTER_S),
        ("99999999999999999999", engine.MOST_RETRY_AFTER_S),
        ("Sun, 01 Mar 2026 12:00:30 GMT", 30.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        ("Sun, 01 Mar 2099 12:00:00 GMT", engine.MOST_RETRY_AFTER_S),
    ],
)
def test_when_to_come_back(header: str, seconds: float) -> None:
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert engine.retry_after_s({"Retry-After": header} if header else {}, now) == seconds


async def test_calls_keep_the_providers_pace_and_its_places() -> None:
    provider = Scripted(HttpResponse(200, {}, PAID))
    gateway = Gateway(Slow(), provider)
    began = time.monotonic()
    answers = await asyncio.gather(*(gateway.charge_saved(CONNECTION, CHARGE) for _ in range(5)))
    assert all(isinstance(each, Succeeded) for each in answers)
    # Two at once, three more 50 ms apart; one in flight.
    assert time.monotonic() - began >= 0.14
    assert (provider.sent, provider.most) == (5, 1)


async def test_who_would_wait_too_long_is_told_so_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "MOST_WAIT_S", 0.01)
    provider = Scripted(HttpResponse(200, {}, PAID))
    gateway = Gateway(Slow(), provider)
    answers = [await gateway.charge_saved(CONNECTION, CHARGE) for _ in range(3)]
    assert [held_back(each) for each in answers] == [None, None, "rate_limited"]
    assert provider.sent == 2


async def test_after_a_while_one_call_tries_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "OPEN_FOR_S", 20.0)
    provider, now_s = Scripted(ConnectionResetError()), [0.0]
    gateway = Gateway(SandboxAdapter(), provider, now_s=lambda: now_s[0])
    for _ in range(limits.OPENS_AFTER):
        await gateway.charge_saved(CONNECTION, CHARGE)
    assert gateway.is_troubled(CONNECTION.id)

    for answer, after in ((ConnectionResetError(), True), (HttpResponse(200, {}, PAID), False)):
        now_s[0] += 20.0
        provider.answer, sent = answer, provider.sent
        answers = await asyncio.gather(*(gateway.charge_saved(CONNECTION, CHARGE) for _ in "abc"))
        assert provider.sent == sent + 1
        assert [held_back(each) for each in answers].count("circuit_open") == 2
        assert gateway.is_troubled(CONNECTION.id) is after


async def test_a_provider_slower_than_our_patience_opens_the_breaker() -> None:
    class Asleep:
        async def send(self, request: HttpRequest) -> HttpResponse:
            await asyncio.sleep(60)
            raise AssertionError

    gateway = Gateway(SandboxAdapter(), Asleep())
    for _ in range(limits.OPENS_AFTER):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await gateway.charge_saved(CONNECTION, CHARGE)
    assert gateway.is_troubled(CONNECTION.id)


async def test_lanes_of_idle_connections_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "MOST_LANES", 3)
    gateway = Gateway(SandboxAdapter(), Scripted(HttpResponse(200, {}, PAID)))
    for n in range(10):
        await gateway.charge_saved(Connection(f"conn_{n}", "sandbox", "sbk"), CHARGE)
    assert len(gateway._lanes) == 3


def test_nothing_secret_shows_in_what_is_printed() -> None:
    secret = "sbk_do_not_print"
    connection = Connection("conn_1", "sandbox", secret, secret, {"api_key": secret})
    request = HttpRequest("GET", "/x", {"authorization": secret}, secret.encode())
    answer = HttpResponse(200, {"set-cookie": secret}, secret.encode())
    assert secret not in f"{connection!r} {request!r} {answer!r} {CHARGE!r}"
