"""Intake of providers' notifications through real HTTP: durable, verified, deduplicated.

``python -m benchmarks.webhooks --json``: one uvicorn worker with the gateway and webhooks' service
under its own role, on a real PostgreSQL with fsync and synchronous_commit on (the embedded one, or
``SUBLEDGER_DATABASE_URL``). This process is the provider: keep-alive connections, one notification
under way on each, every one signed; each 20th was sent before, each 50th is forged. A run counts
only if each was answered rightly, and if what is kept and told afterwards is exactly what was
acknowledged, once each. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import socket
import sys
import time
from typing import Any

import asyncpg
import uvicorn
from cryptography.fernet import Fernet, MultiFernet

from benchmarks.access import SECRET_KEY, postgres
from benchmarks.access_client import Connection
from subledger.contracts.calls import Call
from subledger.contracts.endpoints import EndpointRequest
from subledger.hosts.gateway import build_app
from subledger.platform import migrate
from subledger.platform.db import Database
from subledger.platform.eventlog.writer import append
from subledger.platform.ids import Ids
from subledger.platform.service import Service
from subledger.platform.telemetry import logs
from subledger.providers.sandbox.adapter import SIGNATURE, SandboxAdapter, sign
from subledger.services.webhooks import wiring

CONNECTIONS = 64
WARM_S, LASTS_S = 1.0, 8.0
REPEATED, FORGED = 20, 50
ACKNOWLEDGED = b'{"received":true}'


class NoKeys:
    """Nobody has an API key: providers need none."""

    async def principal(self, credential: str) -> None:
        return None


def service_of(url: str, key: str) -> Service:
    """Webhooks as production builds it."""
    return wiring.build(
        database=Database(url=url, append=append),
        adapters={"sandbox": SandboxAdapter()},
        fernet=MultiFernet([Fernet(key)]),
    )


async def serve(port: int) -> None:
    """The worker: until it is told to end."""
    logs.configure(level="warning")
    service = service_of(os.environ["BENCH_URL"], os.environ["BENCH_KEY"])
    config = uvicorn.Config(
        build_app([service], key_ring=NoKeys()),
        port=port,
        log_level="warning",
        access_log=False,
        http="httptools",
        lifespan="off",
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  # uvicorn offers nothing to wait for
        await asyncio.sleep(0.01)
    print("ready", flush=True)
    await serving
    await service.database.close()


class Provider:
    """What is sent, and what each answer has to be."""

    def __init__(self, path: str, secret: str) -> None:
        self._path = path
        self._secret = secret
        self._number = 0
        self.acknowledged = 0
        self.distinct = set[int]()
        self.wrong = 0
        self.took_s: list[float] = []

    def next(self) -> tuple[bytes, int | None]:
        """A request, and the notification's number (None: forged, so it must be refused)."""
        self._number += 1
        number, forged = self._number, self._number % FORGED == 0
        if number % REPEATED == 0:
            number = max(1, number - 7 * REPEATED - 1)
        about = {"attempt_id": f"att_{number:026d}", "charge_id": f"ch_{number:026d}"}
        data = {"id": f"cb_{number}", "type": "charge.succeeded", "data": about}
        body = json.dumps(data).encode()
        header = sign(body, "of somebody else" if forged else self._secret, int(time.time()))
        head = (
            f"POST {self._path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{SIGNATURE}: {header}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body, None if forged else number

    def judge(self, number: int | None, body: bytes, took_s: float) -> None:
        self.took_s.append(took_s)
        if (body == ACKNOWLEDGED) != (number is not None):
            self.wrong += 1
        elif number is not None:
            self.acknowledged += 1
            self.distinct.add(number)


async def send(provider: Provider, port: int, lasts_s: float) -> float:
    """Keep every connection busy for ``lasts_s``; returns how long it took."""
    loop = asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(Connection, "127.0.0.1", port))[1] for _ in range(CONNECTIONS)
    ]
    started = time.monotonic()
    stopped = [asyncio.Event() for _ in connections]

    def drive(connection: Connection, over: asyncio.Event) -> None:
        request, number = provider.next()
        sent_at = time.monotonic()

        def answered(body: bytes) -> None:
            nonlocal request, number, sent_at
            now = time.monotonic()
            provider.judge(number, body, now - sent_at)
            if now - started > lasts_s:
                over.set()
                return
            request, number = provider.next()
            sent_at = time.monotonic()
            connection.ask(request)

        connection.answered = answered
        connection.ask(request)

    for connection, over in zip(connections, stopped, strict=True):
        drive(connection, over)
    for over in stopped:
        await asyncio.wait_for(over.wait(), lasts_s + 30)
    took_s = time.monotonic() - started
    for connection in connections:
        connection.close()
    return took_s


async def measure(lasts_s: float) -> dict[str, Any]:
    async with postgres() as admin_url:
        url, key = migrate.service_url(admin_url, "webhooks", SECRET_KEY), Fernet.generate_key()
        admin = await asyncpg.connect(admin_url.replace("+asyncpg", ""))
        settings = {n: await admin.fetchval(f"SHOW {n}") for n in ("fsync", "synchronous_commit")}
        tenant, secret = Ids().new(), secrets.token_hex(16)
        await admin.execute(
            "INSERT INTO identity.tenants (tenant_id, name, mode, created_at)"
            " VALUES ($1, 'Benchmark', 'live', clock_timestamp())",
            tenant,
        )
        await admin.execute(
            "INSERT INTO identity.clocks (tenant_id, mode) VALUES ($1, 'live')", tenant
        )
        service = service_of(url, key.decode())
        endpoints: Any = service.attributes["endpoints"]
        opened = await endpoints.register(
            Call(tenant), EndpointRequest(Ids().new(), "sandbox", secret)
        )
        await service.database.close()
        provider = Provider(opened.path, secret)
        took_s = await _run(provider, url, key, lasts_s)
        kept = await admin.fetchval("SELECT count(*) FROM webhooks.received")
        told = await admin.fetchval(
            "SELECT count(DISTINCT data->>'webhook_id') FROM eventlog.events"
            " WHERE type = 'webhook.received'"
        )
        commits = await admin.fetchval("SELECT count(DISTINCT xmin::text) FROM webhooks.received")
        await admin.close()
    took = sorted(provider.took_s)
    return {
        "webhooks_per_s": round(len(took) / took_s),
        "p50_ms": round(took[len(took) // 2] * 1000, 1),
        "p99_ms": round(took[int(len(took) * 0.99)] * 1000, 1),
        "answered": len(took),
        "acknowledged": provider.acknowledged,
        "distinct": len(provider.distinct),
        "kept": kept,
        "told": told,
        "wrong": provider.wrong,
        "per_commit": round(kept / max(commits, 1), 1),
        **settings,
    }


async def _run(provider: Provider, url: str, key: bytes, lasts_s: float) -> float:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.webhooks", "--serve", str(port)),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"BENCH_URL": url, "BENCH_KEY": key.decode()},
    )
    assert worker.stdout is not None
    try:
        await asyncio.wait_for(worker.stdout.readline(), 60)
        await send(provider, port, WARM_S)
        provider.took_s.clear()
        return await send(provider, port, lasts_s)
    finally:
        worker.terminate()
        await worker.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print only the last line of JSON")
    parser.add_argument("--seconds", type=float, default=LASTS_S)
    parser.add_argument("--serve", type=int, metavar="PORT", help=argparse.SUPPRESS)
    given = parser.parse_args()
    import uvloop

    if given.serve is not None:
        uvloop.run(serve(given.serve))
        return 0
    result = uvloop.run(measure(given.seconds))
    if not given.json:
        for name, value in result.items():
            print(f"{name:>22}  {value}")
    print(json.dumps(result))
    exact = result["kept"] == result["told"] == result["distinct"]
    return 0 if exact and not result["wrong"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
