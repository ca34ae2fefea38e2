"""The load generator of the access benchmark: keep-alive, one request at a time per connection.

Reads rounds (``floor 2.0``, ``checks 5.0``) from standard input and answers each with a line of
JSON. The moments at which customers were revoked come through a shared file: two doubles for each
customer, on the clock that all processes of a machine share (asked, committed; 0 = not yet), and
behind them the customer revoked last.
"""

from __future__ import annotations

import asyncio
import mmap
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import msgspec

SLOT, COMMITTED = 16, 8
MUST_BE_HEARD_S = 1.0
_NO = b'{"allowed":false,"reason":"%s","valid_until":null}'
UNKNOWN, NOTHING = _NO % b"unknown_customer", _NO % b"no_entitlement"


class Round(msgspec.Struct):
    """What one round saw. ``wrong`` are answers that no order of events can explain; a revocation
    not heard a second after its commit counts as wrong."""

    per_s: float
    answers: int
    wrong: int
    revoked_seen: int
    heard_after_s: list[float]


ROUND = msgspec.json.Decoder(Round)


class Load:
    """All requests, made ahead, and what each must be answered."""

    def __init__(self, folder: Path, key: str, until: str) -> None:
        self.customers = (folder / "customers").read_text().split("\n")
        with (folder / "revoked").open("rb") as file:
            self.moments = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._tail = f" HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {key}\r\n\r\n"
        self.allowed = b'{"allowed":true,"reason":"active","valid_until":"%s"}' % until.encode()
        self.requests = [self.request(index) for index in range(len(self.customers))]
        self.floor = b"GET /floor" + self._tail.encode()
        self.wrong = self.answers = self.revoked_seen = 0
        self.heard: list[float] = []

    def request(self, index: int, *, plain: bool = False) -> bytes:
        """Mostly an entitled film, by our id or the shop's; some others, some strangers."""
        customer = self.customers[index] if index % 2 else f"viewer-{index}"
        film = f"film-{index % 50}"
        if not plain and index % 10 == 7:
            film = "film-of-nobody"
        if not plain and index % 10 == 9:
            customer = f"stranger-{index}"
        return f"GET /v1/access/{customer}/{film}{self._tail}".encode()

    def judge(self, index: int, body: bytes, sent_at: float) -> None:
        """Count an answer; a wrong one if neither before nor after its revocation explains it."""
        self.answers += 1
        if index % 10 in (7, 9):
            self.wrong += body != (NOTHING if index % 10 == 7 else UNKNOWN)
            return
        asked, committed = struct.unpack_from("dd", self.moments, SLOT * index)
        if not asked:
            self.wrong += body != self.allowed
        elif body == NOTHING:
            self.revoked_seen += 1
        elif body != self.allowed or (committed and sent_at > committed + MUST_BE_HEARD_S):
            self.wrong += 1


class Connection(asyncio.Protocol):
    """One keep-alive connection: ``ask`` sends, ``answered(body)`` is called with the body, empty
    for any other status than ``expected``."""

    expected = b"HTTP/1.1 200"

    def __init__(self) -> None:
        self._buffer = b""
        self.answered: Callable[[bytes], None] = lambda body: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        opened = cast(asyncio.Transport, transport)  # uvloop's transports are of no such class
        self.ask = opened.write
        self.close = opened.close

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        end = data.find(b"\r\n\r\n")
        if end >= 0:
            at = data.find(b"content-length: ") + 16
            length = int(data[at : data.find(b"\r", at)])
            if len(data) >= end + 4 + length:
                self._buffer = b""
                ok = data.startswith(self.expected)
                self.answered(data[end + 4 :] if ok else b"")
                return
        self._buffer = data


async def play(load: Load, connections: list[Connection], kind: str, lasts_s: float) -> Round:
    """Keep every connection busy for ``lasts_s``; the last one watches revocations."""
    load.wrong = load.answers = load.revoked_seen = 0
    load.heard = []
    count = len(load.requests)
    stopped = [asyncio.Event() for _ in connections]
    started = time.monotonic()
    ends = started + lasts_s

    def drive(number: int, connection: Connection) -> None:
        # A stride that shares no factor with the count meets every customer in turn.
        index = number * 7919 % count
        sent_at = 0.0

        def answered(body: bytes) -> None:
            nonlocal index, sent_at
            if kind == "floor":
                load.answers += 1
                load.wrong += len(body) != len(load.allowed)
                now, request = time.monotonic(), load.floor
            else:
                load.judge(index, body, sent_at)
                index = (index + 7919 * 31 + 2) % count
                now, request = time.monotonic(), load.requests[index]
            sent_at = now
            if now < ends:
                connection.ask(request)
            else:
                stopped[number].set()

        connection.answered = answered
        sent_at = time.monotonic()
        connection.ask(load.floor if kind == "floor" else load.requests[index])

    busy = connections if kind == "floor" else connections[:-1]
    for number, connection in enumerate(busy):
        drive(number, connection)
    if kind != "floor":
        await watch(load, connections[-1], ends)
        stopped[-1].set()
    for each in stopped:
        await each.wait()
    took_s = time.monotonic() - started
    return Round(
        per_s=load.answers / took_s,
        answers=load.answers,
        wrong=load.wrong,
        revoked_seen=load.revoked_seen,
        heard_after_s=load.heard,
    )


async def watch(load: Load, connection: Connection, ends: float) -> None:
    """Follow revocations: the one committed last is asked for until it is heard."""
    loop = asyncio.get_running_loop()
    newest = SLOT * len(load.customers)
    before = struct.unpack_from("q", load.moments, newest)[0]
    while time.monotonic() < ends:
        index = struct.unpack_from("q", load.moments, newest)[0]
        if index == before:
            await asyncio.sleep(0.005)
            continue
        before = index
        committed = struct.unpack_from("d", load.moments, SLOT * index + COMMITTED)[0]
        while True:
            body: asyncio.Future[bytes] = loop.create_future()
            connection.answered = body.set_result
            connection.ask(load.request(index, plain=True))
            if await body == NOTHING:
                load.heard.append(time.monotonic() - committed)
                break
            if time.monotonic() > committed + 10:
                load.wrong += 1
                break
            await asyncio.sleep(0.002)


async def main(port: int, folder: Path, key: str, until: str, count: int) -> None:
    load = Load(folder, key, until)
    loop = asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(Connection, "127.0.0.1", port))[1] for _ in range(count)
    ]
    while line := await asyncio.to_thread(sys.stdin.readline):
        kind, lasts_s = line.split()
        result = await play(load, connections, kind, float(lasts_s))
        print(msgspec.json.encode(result).decode(), flush=True)
    for each in connections:
        each.close()


if __name__ == "__main__":
    import uvloop

    uvloop.run(
        main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5]))
    )
