"""Charges of saved methods at the sandbox provider, 300 ms away, through real HTTP: ``--json``.

The provider is a process of its own: its application under uvicorn on a local port, every answer
held back for 300 ms. This process is a worker: all of payments' steps in their loops, under
payments' own role, on a real PostgreSQL with fsync and synchronous_commit on (the embedded one, or
``SUBLEDGER_DATABASE_URL``). What is measured begins with attempts that are ready, each with its
payment, and ends when every one is recorded and told (``payment.succeeded``): claimed, called,
recorded in groups, as in production; at most 300 calls are under way, as the adapter says.

A run counts only if by the provider's journal each attempt was captured exactly once, and if what
was captured is what was recorded and told. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast
from uuid import UUID

import asyncpg
import uvicorn

from benchmarks import renewals_data
from benchmarks.access import SECRET_KEY, postgres
from subledger.hosts import keys
from subledger.hosts.assembly import encryption
from subledger.hosts.cli import asyncio_run
from subledger.hosts.loops import Loops
from subledger.platform import ids, migrate
from subledger.platform.db import Database, Wakeup
from subledger.platform.eventlog.writer import append
from subledger.platform.http.middleware import App, Receive, Scope, Send
from subledger.platform.ids import Ids
from subledger.platform.service import Service
from subledger.platform.telemetry import logs
from subledger.providers.engine import Gateway
from subledger.providers.port import HttpRequest, HttpResponse
from subledger.providers.sandbox import wiring as sandbox_wiring
from subledger.providers.sandbox.adapter import SandboxAdapter
from subledger.providers.sandbox.app import SandboxApp
from subledger.providers.transport import HttpxTransport
from subledger.services.payments import wiring as payments_wiring

LATENCY_S = 0.3
GIVE_UP_AFTER_S = 300

_JOURNAL = {
    "captured": "SELECT count(DISTINCT attempt_id) FROM sandbox.charges"
    " WHERE tenant_id = $1 AND status = 'succeeded'",
    "doubles": "SELECT count(*) - count(DISTINCT attempt_id) FROM sandbox.charges"
    " WHERE tenant_id = $1 AND status = 'succeeded'",
    "recorded": "SELECT count(*) FROM payments.attempts WHERE tenant_id = $1"
    " AND state = 'succeeded'",
    "told": "SELECT count(DISTINCT data->>'attempt_id') FROM eventlog.events WHERE tenant_id = $1"
    " AND type = 'payment.succeeded'",
    "commits": "SELECT count(DISTINCT xmin::text) FROM eventlog.events WHERE tenant_id = $1"
    " AND type = 'payment.succeeded'",
}


class Nowhere:
    """The provider's own webhooks: a charge that is decided at once sends none."""

    async def send(self, request: HttpRequest) -> HttpResponse:
        raise AssertionError("nothing is to be notified")


class Far:
    """The provider at a distance, and how many calls were with it at once at most."""

    def __init__(self, app: App, latency_s: float) -> None:
        self._app = app
        self._latency_s = latency_s
        self._now = self.most = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/most":
            body = str(self.most).encode()
            headers = [(b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})
            return
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            await asyncio.sleep(self._latency_s)
            await self._app(scope, receive, send)
        finally:
            self._now -= 1


def _sandbox(database: Database) -> SandboxApp:
    service = sandbox_wiring.build(
        database=database,
        secret_key=os.environ.get("BENCH_SECRET", SECRET_KEY),
        public_url="http://127.0.0.1/",
        transport=Nowhere(),
    )
    return cast(SandboxApp, service.attributes["app"])


async def serve(port: int, latency_s: float) -> None:
    """The provider's process: until it is told to end."""
    logs.configure(level="warning")
    database = Database(url=os.environ["BENCH_URL"], append=append)
    config = uvicorn.Config(
        Far(_sandbox(database), latency_s),
        port=port,
        log_level="warning",
        access_log=False,
        http="httptools",
        lifespan="off",
        timeout_keep_alive=75,
        backlog=2048,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  # uvicorn offers nothing to wait for
        await asyncio.sleep(0.01)
    print("ready", flush=True)
    await serving
    await database.close()


@asynccontextmanager
async def provider(url: str, latency_s: float) -> AsyncIterator[int]:
    """The port of a provider in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.charges", "--serve", str(port)),
        *("--latency-ms", str(latency_s * 1000)),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"BENCH_URL": url, "BENCH_SECRET": SECRET_KEY},
    )
    assert process.stdout is not None
    try:
        await asyncio.wait_for(process.stdout.readline(), 60)
        yield port
    finally:
        process.terminate()
        await process.wait()


def worker(url: str, transport: HttpxTransport, sandbox: SandboxApp, wakeup: Wakeup) -> Service:
    """Payments as production builds it, without neighbours: ready attempts ask nobody."""
    adapter = SandboxAdapter()
    return payments_wiring.build(
        database=Database(url=url, append=append, wakeup=wakeup),
        collections=cast(Any, None),
        endpoints=cast(Any, None),
        refunds=cast(Any, None),
        gateways={adapter.name: Gateway(adapter, transport)},
        accounts=sandbox,
        books=cast(Any, None),
        fernet=encryption(SECRET_KEY, ()),
        page_secret=keys.page_secret(SECRET_KEY),
        public_url="http://127.0.0.1/",
    )


async def measure(charges: int, latency_s: float, say: Callable[[str], None]) -> dict[str, Any]:
    async with postgres() as admin_url:
        urls = {n: migrate.service_url(admin_url, n, SECRET_KEY) for n in ("payments", "sandbox")}
        admin = await asyncpg.connect(admin_url.replace("+asyncpg", ""))
        tenant_id = Ids().new()
        own = Database(url=urls["sandbox"], append=append)
        sandbox = _sandbox(own)
        await renewals_data.prepare(
            admin, subscriptions=charges, credentials=sandbox.credentials(tenant_id),
            tenant_id=tenant_id, fernet=encryption(SECRET_KEY, ()),
            start=renewals_data.READY_ATTEMPTS,
        )  # fmt: skip
        await admin.execute("VACUUM ANALYZE")
        await admin.execute("CHECKPOINT")
        say(f"{charges} attempts are ready; the provider is {latency_s * 1000:.0f} ms away")
        async with provider(urls["sandbox"], latency_s) as port:
            transport = HttpxTransport(f"http://127.0.0.1:{port}")
            took_s, used_s = await _run(admin, tenant_id, charges, urls["payments"], transport, own)
            most = int((await transport.send(HttpRequest("GET", "/most", {}))).body)
            await transport.close()
        found = {name: await admin.fetchval(sql, tenant_id) for name, sql in _JOURNAL.items()}
        took_ms = await _took_ms(admin, tenant_id)
        settings = {n: await admin.fetchval(f"SHOW {n}") for n in ("fsync", "synchronous_commit")}
        await admin.close()
        await own.close()
    return {
        "charges_per_s": round(charges / took_s, 1),
        "p50_ms": round(took_ms[len(took_ms) // 2], 1),
        "p99_ms": round(took_ms[int(len(took_ms) * 0.99)], 1),
        "charges": charges,
        "doubles": found["doubles"],
        "lost": charges - min(found["captured"], found["recorded"], found["told"]),
        "most_at_once": most,
        "recorded_per_commit": round(charges / max(found["commits"], 1), 1),
        "worker_ms_per_charge": round(used_s / charges * 1000, 2),
        "latency_ms": round(latency_s * 1000),
        **settings,
    }


async def _run(
    admin: asyncpg.Connection[Any],
    tenant_id: UUID,
    charges: int,
    url: str,
    transport: HttpxTransport,
    own: Database,
) -> tuple[float, float]:
    """Start the worker and wait until every attempt is recorded: wall time and this process's."""
    wakeup = Wakeup()
    service = worker(url, transport, _sandbox(own), wakeup)
    loops = Loops(service.all_steps(), wakeup=wakeup)
    began, used = time.perf_counter(), _used_s()
    loops.start()
    try:
        while time.perf_counter() < began + GIVE_UP_AFTER_S:
            # What is unknown is asked about by the tenant's clock, which stands still here.
            is_open = await admin.fetchval(
                "SELECT EXISTS (SELECT FROM payments.attempts WHERE tenant_id = $1"
                " AND state IN ('ready', 'in_flight'))",
                tenant_id,
            )
            if not is_open:
                return time.perf_counter() - began, _used_s() - used
            await asyncio.sleep(0.05)
        states = await admin.fetch(
            "SELECT state, count(*) FROM payments.attempts WHERE tenant_id = $1 GROUP BY 1",
            tenant_id,
        )
        raise AssertionError(f"of {charges} after {GIVE_UP_AFTER_S} s: {dict(states)}")
    finally:
        await loops.stop()
        await service.database.close()


def _used_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def _took_ms(admin: asyncpg.Connection[Any], tenant_id: UUID) -> list[float]:
    """How long each charge took, ascending: from its claim until its fact was written."""
    claimed = await admin.fetch(
        "SELECT id, claimed_at FROM payments.attempts WHERE tenant_id = $1", tenant_id
    )
    told = dict(
        await admin.fetch(
            "SELECT data->>'attempt_id', recorded_at FROM eventlog.events"
            " WHERE tenant_id = $1 AND type = 'payment.succeeded'",
            tenant_id,
        )
    )
    both = [(row["claimed_at"], told.get(ids.text("att", row["id"]))) for row in claimed]
    return sorted((end - start).total_seconds() * 1000 for start, end in both if end is not None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="only the JSON on standard output")
    parser.add_argument("--charges", type=int, default=10_000)
    parser.add_argument("--latency-ms", type=float, default=LATENCY_S * 1000)
    parser.add_argument("--serve", type=int, metavar="PORT", help=argparse.SUPPRESS)
    given = parser.parse_args()
    logs.configure(level="warning")
    out = sys.stderr if given.json else sys.stdout

    def say(line: str) -> None:
        print(line, file=out, flush=True)

    async def run() -> int:
        if given.serve is not None:
            await serve(given.serve, given.latency_ms / 1000)
            return 0
        result = await measure(given.charges, given.latency_ms / 1000, say)
        print(json.dumps(result), flush=True)
        return 1 if result["doubles"] or result["lost"] else 0

    return asyncio_run(run())


if __name__ == "__main__":
    raise SystemExit(main())
