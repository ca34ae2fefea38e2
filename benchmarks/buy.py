"""Purchases through HTTP, to paid and active: ``POST /v1/subscriptions``: ``--json``.

One process serves everything as ``subledger serve`` does (all services, their loops and the HTTP
server, each service under its own role) on a real PostgreSQL with fsync and synchronous_commit on
(the embedded one, or ``SUBLEDGER_DATABASE_URL``); the sandbox provider answers in that process
without delay. This process is the shops: keep-alive connections, one purchase under way on each,
every one by a new customer with a saved method, each with an idempotency key of its own.

An answer counts only if it is 201 and ``active``. A run counts only if afterwards each purchase
has one active subscription, one paid invoice, one capture in the provider's journal and its
access, all told once. The last line is JSON.
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
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from benchmarks import renewals_data
from benchmarks.access import SECRET_KEY, postgres
from benchmarks.access_client import Connection
from subledger.hosts.assembly import Options, assemble, encryption
from subledger.hosts.cli import asyncio_run
from subledger.hosts.serve import listening, serving
from subledger.platform import ids, migrate
from subledger.platform.ids import Ids
from subledger.platform.settings import Settings
from subledger.platform.telemetry import logs
from subledger.services.identity import credentials

CLIENTS = 192
WARM, PURCHASES = 200, 4_000
GIVE_UP_AFTER_S = 300

_COUNTS = {
    "active": "SELECT count(*) FROM billing.subscriptions WHERE tenant_id = $1"
    " AND status = 'active'",
    "paid": "SELECT count(*) FROM billing.invoices WHERE tenant_id = $1 AND status = 'paid'",
    "captures": "SELECT count(*) FROM sandbox.charges WHERE tenant_id = $1"
    " AND status = 'succeeded'",
    "captured": "SELECT count(DISTINCT attempt_id) FROM sandbox.charges WHERE tenant_id = $1"
    " AND status = 'succeeded'",
    "told": "SELECT count(*) FROM eventlog.events WHERE tenant_id = $1"
    " AND type = 'subscription.activated'",
    "granted": "SELECT count(*) FROM entitlements.grants WHERE tenant_id = $1",
}
_COMMITS = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
_EVENT_COMMITS = (
    "SELECT count(DISTINCT xmin::text), count(*) FROM eventlog.events WHERE tenant_id = $1"
)


class _Answer(msgspec.Struct):
    status: str


_ANSWER = msgspec.json.Decoder(_Answer)


async def serve(port: int) -> None:
    """The server's process: until it is told to end."""
    logs.configure(level="warning")
    admin_url, secret_key = os.environ["BENCH_URL"], os.environ["BENCH_SECRET"]
    assembly = assemble(
        Options(
            url_of=lambda name: migrate.service_url(admin_url, name, secret_key),
            secret_key=secret_key,
        )
    )
    with listening(Settings(port=port)) as listener:
        async with serving(assembly, listener) as failed:
            print("ready", flush=True)
            ended = asyncio.create_task(asyncio.to_thread(sys.stdin.readline))
            await asyncio.wait({ended, failed}, return_when=asyncio.FIRST_COMPLETED)
            used = resource.getrusage(resource.RUSAGE_SELF)
            print(used.ru_utime + used.ru_stime, flush=True)
    await assembly.close()


class Shops:
    """What is asked, and what each answer has to be."""

    def __init__(self, key: str, plan_id: UUID, accounts: Sequence[UUID]) -> None:
        self._plan = ids.text("plan", plan_id)
        self._key = key
        self._accounts = iter(accounts)
        self.took_s: list[float] = []
        self.wrong = 0

    def next(self) -> bytes | None:
        """The next purchase; None when everybody has bought."""
        account = next(self._accounts, None)
        if account is None:
            return None
        customer = ids.text("cus", account)
        body = json.dumps({"customer_id": customer, "plan_id": self._plan}).encode()
        head = (
            "POST /v1/subscriptions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
            f"authorization: Bearer {self._key}\r\nidempotency-key: {customer}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def judge(self, body: bytes, took_s: float) -> None:
        self.took_s.append(took_s)
        try:
            self.wrong += _ANSWER.decode(body).status != "active"
        except msgspec.MsgspecError:
            self.wrong += 1


class Buyer(Connection):
    """A connection to whom 201 is the right answer."""

    expected = b"HTTP/1.1 201"


async def buy(shops: Shops, port: int, clients: int) -> float:
    """Let everybody buy, ``clients`` at a time; returns how long it took."""
    loop = asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(Buyer, "127.0.0.1", port))[1] for _ in range(clients)
    ]
    over = [asyncio.Event() for _ in connections]
    started = time.monotonic()

    def drive(connection: Connection, done: asyncio.Event) -> None:
        sent_at = 0.0

        def ask() -> None:
            nonlocal sent_at
            request = shops.next()
            if request is None:
                done.set()
                return
            sent_at = time.monotonic()
            connection.ask(request)

        def answered(body: bytes) -> None:
            shops.judge(body, time.monotonic() - sent_at)
            ask()

        connection.answered = answered
        ask()

    for connection, done in zip(connections, over, strict=True):
        drive(connection, done)
    for done in over:
        await asyncio.wait_for(done.wait(), GIVE_UP_AFTER_S)
    took_s = time.monotonic() - started
    for connection in connections:
        connection.close()
    return took_s


async def _prepare(
    admin: asyncpg.Connection[Any], admin_url: str, people: int
) -> tuple[str, renewals_data.Prepared]:
    """The shop with its key, its plan and its customers."""
    assembly = assemble(
        Options(
            url_of=lambda name: migrate.service_url(admin_url, name, SECRET_KEY),
            secret_key=SECRET_KEY,
        )
    )
    tenant_id, key = Ids().new(), credentials.create("sandbox")
    prepared = await renewals_data.prepare(
        admin, subscriptions=people, credentials=assembly.sandbox.credentials(tenant_id),
        tenant_id=tenant_id, fernet=encryption(SECRET_KEY, ()), start=(),
    )  # fmt: skip
    await assembly.close()
    await admin.execute(
        "INSERT INTO identity.api_keys (tenant_id, id, key_hash, last_four, role, name,"
        " created_at) VALUES ($1, gen_random_uuid(), $2, $3, 'admin', 'benchmark', now())",
        *(tenant_id, key.digest, key.last_four),
    )
    await admin.execute("VACUUM ANALYZE")
    await admin.execute("CHECKPOINT")
    return key.text, prepared


async def measure(purchases: int, clients: int, say: Callable[[str], None]) -> dict[str, Any]:
    async with postgres() as admin_url:
        admin = await asyncpg.connect(admin_url.replace("+asyncpg", ""))
        warm = min(WARM, purchases)
        key, prepared = await _prepare(admin, admin_url, warm + purchases)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        server = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.buy", "--serve", str(port)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | {"BENCH_URL": admin_url, "BENCH_SECRET": SECRET_KEY},
        )
        assert server.stdout is not None
        assert server.stdin is not None
        try:
            await asyncio.wait_for(server.stdout.readline(), 60)
            first = Shops(key, prepared.plan_id, prepared.accounts[:warm])
            await buy(first, port, clients)
            say(f"{purchases} customers buy, {clients} at a time")
            commits = await admin.fetchval(_COMMITS)
            shops = Shops(key, prepared.plan_id, prepared.accounts[warm:])
            took_s = await buy(shops, port, clients)
            await _until_granted(admin, prepared.tenant_id, warm + purchases)
            server.stdin.write(b"end\n")
            used_s = float(await asyncio.wait_for(server.stdout.readline(), 60))
            await asyncio.wait_for(server.wait(), 60)
        finally:
            if server.returncode is None:
                server.kill()
            await server.wait()
        commits = await admin.fetchval(_COMMITS) - commits
        found = {n: await admin.fetchval(sql, prepared.tenant_id) for n, sql in _COUNTS.items()}
        writes, events = await admin.fetchrow(_EVENT_COMMITS, prepared.tenant_id)
        settings = {n: await admin.fetchval(f"SHOW {n}") for n in ("fsync", "synchronous_commit")}
        await admin.close()
    took = sorted(shops.took_s)
    everybody = warm + purchases
    return {
        "subscriptions_per_s": round(purchases / took_s, 1),
        "p50_ms": round(took[len(took) // 2] * 1000, 1),
        "p99_ms": round(took[int(len(took) * 0.99)] * 1000, 1),
        "purchases": purchases,
        "clients": clients,
        "wrong": first.wrong + shops.wrong + sum(abs(n - everybody) for n in found.values()),
        "transactions_per_purchase": round(commits / purchases, 2),
        "writes_per_purchase": round(writes / everybody, 2),
        "events_per_purchase": round(events / everybody, 2),
        "server_ms_per_purchase": round(used_s / everybody * 1000, 2),
        **settings,
    }


async def _until_granted(admin: asyncpg.Connection[Any], tenant_id: UUID, wanted: int) -> None:
    """Access follows a purchase within a moment."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if await admin.fetchval(_COUNTS["granted"], tenant_id) >= wanted:
            return
        await asyncio.sleep(0.05)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="only the JSON on standard output")
    parser.add_argument("--purchases", type=int, default=PURCHASES)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--serve", type=int, metavar="PORT", help=argparse.SUPPRESS)
    given = parser.parse_args()
    logs.configure(level="error")
    out = sys.stderr if given.json else sys.stdout

    def say(line: str) -> None:
        print(line, file=out, flush=True)

    async def run() -> int:
        if given.serve is not None:
            await serve(given.serve)
            return 0
        result = await measure(given.purchases, given.clients, say)
        print(json.dumps(result), flush=True)
        return 1 if result["wrong"] else 0

    return asyncio_run(run())


if __name__ == "__main__":
    raise SystemExit(main())
