"""Access checks through HTTP against a bare ASGI answer on the same server: ``--json``.

Three processes: one uvicorn worker (the gateway with access checks ahead of it, its memory fed by
the log's tail), a load generator (``access_client.py``, keep-alive, no pipelining), and this one,
which revokes 5 % of 100,000 customers during the run by real events (``subscription.canceled``,
through the entitlements' consumer) and waits for nobody. Every answer is checked.

Customers and their grants are laid down in the tables before; PostgreSQL is the embedded one, or
``SUBLEDGER_DATABASE_URL`` (an administrator's URL; a database of its own is made and dropped).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import mmap
import os
import secrets
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import make_url

from benchmarks.access_client import COMMITTED, ROUND, SLOT, Round
from subledger.contracts.events import SUBSCRIPTION_CANCELED, Event
from subledger.platform import ids, migrate
from subledger.platform.db import Database, connect, story
from subledger.platform.eventlog.consumer import Consumer
from subledger.platform.eventlog.writer import append
from subledger.services.entitlements.consumers import GROUP
from subledger.services.identity import credentials

SECRET_KEY = secrets.token_hex(16)
REVOKED_SHARE = 20  # one customer in twenty
TOGETHER = 25
ROUNDS = 3
FLOOR_S, CHECKS_S = 2.0, 5.0
CONNECTIONS = 32
UNTIL = (datetime.now(UTC) + timedelta(days=20)).replace(microsecond=0)
RESOURCES = [f"film-{n}" for n in range(50)]
_REVOKE = story("benchmarks.revoke")

_CUSTOMERS = text(
    "INSERT INTO entitlements.customers (tenant_id, id, external_id, changed_at)"
    " SELECT :tenant, c.id, 'viewer-' || (CAST(:first AS bigint) + c.n - 1), clock_timestamp()"
    " FROM unnest(CAST(:ids AS uuid[])) WITH ORDINALITY AS c(id, n)"
)
_GRANTS = text(
    "INSERT INTO entitlements.grants (tenant_id, subscription_id, customer_id, product_id, state,"
    " valid_until_at, changed_at) SELECT :tenant, s.id, s.customer, :product, 'active', :until,"
    " clock_timestamp()"
    " FROM unnest(CAST(:subscriptions AS uuid[]), CAST(:ids AS uuid[])) AS s(id, customer)"
)


class Shop:
    """The tenant of the run: its customers, one subscription each, and its key."""

    def __init__(self, customers: int) -> None:
        new = ids.Ids().new
        self.tenant_id, self.product_id = new(), new()
        self.customers = [new() for _ in range(customers)]
        self.subscriptions = [new() for _ in range(customers)]
        self.key = credentials.create("live")

    async def lay_down(self, admin_url: str) -> None:
        engine = connect(admin_url, pool_size=1)
        async with engine.begin() as connection:
            tenant = {"tenant": self.tenant_id}
            for statement, values in (
                (
                    "INSERT INTO identity.tenants (tenant_id, name, mode, created_at)"
                    " VALUES (:tenant, 'Benchmark', 'live', clock_timestamp())",
                    {},
                ),
                ("INSERT INTO identity.clocks (tenant_id, mode) VALUES (:tenant, 'live')", {}),
                (
                    "INSERT INTO identity.api_keys (tenant_id, id, key_hash, last_four, role,"
                    " name, created_at) VALUES (:tenant, gen_random_uuid(), :hash, :four, 'read',"
                    " 'benchmark', clock_timestamp())",
                    {"hash": self.key.digest, "four": self.key.last_four},
                ),
                (
                    "INSERT INTO entitlements.products (tenant_id, id, resources)"
                    " VALUES (:tenant, :product, CAST(:resources AS text[]))",
                    {"product": self.product_id, "resources": RESOURCES},
                ),
            ):
                await connection.execute(text(statement), tenant | values)
            for start in range(0, len(self.customers), 10_000):
                page = slice(start, start + 10_000)
                values = tenant | {"ids": self.customers[page]}
                await connection.execute(_CUSTOMERS, values | {"first": start})
                await connection.execute(
                    _GRANTS,
                    values
                    | {
                        "subscriptions": self.subscriptions[page],
                        "product": self.product_id,
                        "until": UNTIL,
                    },
                )
        async with engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(text("VACUUM ANALYZE entitlements.customers"))
            await connection.execute(text("VACUUM ANALYZE entitlements.grants"))
        await engine.dispose()

    def canceled(self, index: int) -> Event:
        customer = ids.text("cus", self.customers[index])
        return Event(
            type=SUBSCRIPTION_CANCELED,
            tenant_id=self.tenant_id,
            subject=self.customers[index],
            data={
                "subscription_id": ids.text("sub", self.subscriptions[index]),
                "customer_id": customer,
                "beneficiary_id": customer,
                "product_id": ids.text("prod", self.product_id),
                "current_period_end_at": UNTIL.isoformat(),
                "reason": "requested",
            },
            occurred_at=datetime.now(UTC),
        )


@asynccontextmanager
async def postgres() -> AsyncIterator[str]:
    """The administrator's URL of a fresh migrated database."""
    given = os.environ.get("SUBLEDGER_DATABASE_URL")
    if given is None:
        from subledger.platform import postgres as embedded

        with tempfile.TemporaryDirectory(prefix="subledger-bench-") as folder:
            os.chmod(folder, 0o711)  # as root, the server's own user has to pass
            async with await embedded.start(Path(folder) / "data") as server:
                await migrate.migrate(server.admin_url, secret_key=SECRET_KEY)
                yield server.admin_url
        return
    name = f"bench_access_{os.getpid()}"
    url = make_url(given.replace("postgresql://", "postgresql+asyncpg://"))
    engine = connect(url.render_as_string(False), pool_size=1)
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text(f"CREATE DATABASE {name}"))
        try:
            fresh = url.set(database=name).render_as_string(False)
            await migrate.migrate(fresh, secret_key=SECRET_KEY)
            yield fresh
        finally:
            await connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    await engine.dispose()


async def revoke(
    shop: Shop, database: Database, shared: mmap.mmap, order: list[int], *, lasts_s: float
) -> None:
    """Cancel the subscriptions of ``order``, a few at a time, evenly over ``lasts_s``, and run the
    consumer that turns each into its revocation."""
    consumer = Consumer(database, GROUP)
    started = time.monotonic()
    for place in range(0, len(order), TOGETHER):
        ahead_s = started + lasts_s * place / len(order) - time.monotonic()
        if ahead_s > 0:
            await asyncio.sleep(ahead_s)
        some = order[place : place + TOGETHER]
        _note(shared, some, 0)
        async with database.transaction(_REVOKE, tenants=[shop.tenant_id]) as tx:
            tx.emit(shop.canceled(index) for index in some)
        _note(shared, some, COMMITTED)
        struct.pack_into("q", shared, SLOT * len(shop.customers), some[0])
        await consumer.step(500)
    while await consumer.step(500):
        pass


def _note(shared: mmap.mmap, some: list[int], offset: int) -> None:
    for index in some:
        struct.pack_into("d", shared, SLOT * index + offset, time.monotonic())


async def run_rounds(
    shop: Shop, database: Database, port: int, folder: Path
) -> tuple[list[Round], list[Round], int]:
    """Floor and checks in turns, while customers are revoked all the time."""
    path = folder / "revoked"
    path.write_bytes(bytes(SLOT * len(shop.customers) + 8))
    (folder / "customers").write_text("\n".join(ids.text("cus", each) for each in shop.customers))
    revoked = list(range(0, len(shop.customers), REVOKED_SHARE))
    with path.open("r+b") as file:
        shared = mmap.mmap(file.fileno(), 0)
    client = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "benchmarks.access_client", str(port), str(folder), shop.key.text),
        *(UNTIL.strftime("%Y-%m-%dT%H:%M:%SZ"), str(CONNECTIONS)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert client.stdin is not None
    assert client.stdout is not None

    async def play(kind: str, lasts_s: float) -> Round:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(f"{kind} {lasts_s}\n".encode())
        return ROUND.decode(await client.stdout.readline())

    floors, checks = [], []
    await play("floor", 0.5)
    await play("checks", 0.5)
    revoking = asyncio.create_task(
        revoke(shop, database, shared, revoked, lasts_s=ROUNDS * (FLOOR_S + CHECKS_S) - 1)
    )
    for _ in range(ROUNDS):
        floors.append(await play("floor", FLOOR_S))
        checks.append(await play("checks", CHECKS_S))
    await revoking
    client.stdin.close()
    await client.wait()
    return floors, checks, len(revoked)


async def measure(customers: int) -> dict[str, Any]:
    async with postgres() as admin_url:
        shop = Shop(customers)
        await shop.lay_down(admin_url)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        server = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.access_server", str(port)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ
            | {
                f"BENCH_{name.upper()}_URL": migrate.service_url(admin_url, name, SECRET_KEY)
                for name in ("identity", "entitlements")
            },
        )
        assert server.stdout is not None
        database = Database(
            url=migrate.service_url(admin_url, "entitlements", SECRET_KEY), append=append
        )
        try:
            line = await asyncio.wait_for(server.stdout.readline(), 60)
            loaded = json.loads(line)
            with tempfile.TemporaryDirectory() as folder:
                floors, checks, revoked = await run_rounds(shop, database, port, Path(folder))
        finally:
            server.terminate()
            await server.wait()
            await database.close()
    floor = statistics.median(each.per_s for each in floors)
    rate = statistics.median(each.per_s for each in checks)
    heard = sorted(each for played in checks for each in played.heard_after_s)
    return {
        "checks_per_s": round(rate),
        "floor_per_s": round(floor),
        "share_of_floor": round(rate / floor, 3),
        "checked": sum(each.answers for each in checks),
        "wrong": sum(each.wrong for each in checks + floors),
        "customers": loaded["customers"],
        "revoked": revoked,
        "revocations_watched": len(heard),
        "revoked_p50_s": round(statistics.median(heard), 3) if heard else None,
        "revoked_p99_s": round(heard[int(len(heard) * 0.99)], 3) if heard else None,
        "revoked_seen": sum(each.revoked_seen for each in checks),
        "snapshot_s": loaded["snapshot_s"],
        "memory_mb": loaded["memory_mb"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print only the last line of JSON")
    parser.add_argument("--customers", type=int, default=100_000)
    given = parser.parse_args()
    result = asyncio.run(measure(given.customers))
    if not given.json:
        for name, value in result.items():
            print(f"{name:>22}  {value}")
    print(json.dumps(result))
    return 1 if result["wrong"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
