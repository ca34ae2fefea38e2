"""Due subscriptions through the whole chain: scheduler, invoice, charge, paid, renewed, access.

``python -m benchmarks.renewals --subscriptions 50000 --json``: on the embedded PostgreSQL with
fsync and synchronous_commit on, every service under its own role with row-level security, the
sandbox provider in process with its journal. In the same run a floor: the same rows written
set-based without any of our code. A run counts only if every subscription was invoiced, captured
once, paid, renewed, told and given access. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

from benchmarks import renewals_data, renewals_floor
from subledger.hosts.assembly import Options, assemble, encryption
from subledger.hosts.cli import asyncio_run
from subledger.hosts.loops import Loops
from subledger.platform import migrate, postgres
from subledger.platform.ids import Ids
from subledger.platform.telemetry import logs

GIVE_UP_AFTER_S = 300


async def one_run(admin_url: str, secret_key: str, subscriptions: int) -> tuple[float, float]:
    """``(renewals/s, floor rows' renewals/s)`` of one run on a fresh tenant."""
    assembly = assemble(
        Options(
            url_of=lambda name: migrate.service_url(admin_url, name, secret_key),
            secret_key=secret_key,
        )
    )
    admin = await asyncpg.connect(admin_url.replace("+asyncpg", ""))
    tenant_id = Ids().new()
    try:
        await renewals_data.prepare(
            admin, subscriptions=subscriptions, credentials=assembly.sandbox.credentials(tenant_id),
            tenant_id=tenant_id, fernet=encryption(secret_key, ()),
        )  # fmt: skip
        await _settle(admin)
        await assembly.memory.catch_up()
        loops = Loops(
            assembly.steps, wakeup=assembly.wakeup, watched=assembly.databases["identity"]
        )
        loops.start()
        try:
            began = time.perf_counter()
            await admin.execute(
                "UPDATE identity.clocks SET now_at = $2 WHERE tenant_id = $1",
                tenant_id,
                renewals_data.DUE,
            )
            await _until_done(admin, tenant_id, subscriptions)
            took_s = time.perf_counter() - began
        finally:
            await loops.stop()
        await _verify(admin, tenant_id, subscriptions)
        floor_s = await renewals_floor.write(admin, tenant_id, subscriptions)
        return subscriptions / took_s, subscriptions / floor_s
    finally:
        await admin.close()
        await assembly.close()


async def _settle(admin: Any) -> None:
    """What autovacuum would have done by the time that subscriptions come due."""
    await admin.execute("VACUUM ANALYZE")
    await admin.execute("CHECKPOINT")


async def _until_done(admin: Any, tenant_id: UUID, subscriptions: int) -> None:
    deadline = time.perf_counter() + GIVE_UP_AFTER_S
    while time.perf_counter() < deadline:
        granted = await admin.fetchval(
            "SELECT count(*) FROM entitlements.grants WHERE tenant_id = $1", tenant_id
        )
        if granted >= subscriptions:
            return
        await asyncio.sleep(0.2)
    raise AssertionError(f"only {granted} of {subscriptions} after {GIVE_UP_AFTER_S} s")


async def _verify(admin: Any, tenant_id: UUID, subscriptions: int) -> None:
    for what, query in renewals_data.AFTERWARDS.items():
        found = await admin.fetchval(query, tenant_id)
        assert found == subscriptions, f"{what}: {found}, not {subscriptions}"


async def measure(subscriptions: int, runs: int, say: Callable[[str], None]) -> dict[str, Any]:
    """All sizes; the published figure is the given size's median."""
    sizes = sorted({10_000, subscriptions}) if subscriptions >= 10_000 else [subscriptions]
    by_size: dict[str, dict[str, float]] = {}
    for size in sizes:
        rates, floors = [], []
        for run in range(runs):
            rate, floor = await _on_fresh_server(
                lambda url, key, size=size: one_run(url, key, size)
            )
            say(f"{size} subscriptions, run {run + 1}: {rate:,.0f}/s, floor {floor:,.0f}/s")
            rates.append(rate)
            floors.append(floor)
        by_size[str(size)] = {
            "renewals_per_s": round(statistics.median(rates), 1),
            "floor_per_s": round(statistics.median(floors), 1),
        }
    chosen = by_size[str(subscriptions)]
    return {
        "renewals_per_s": chosen["renewals_per_s"],
        "floor_per_s": chosen["floor_per_s"],
        "share_of_floor": round(chosen["renewals_per_s"] / chosen["floor_per_s"], 3),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "by_size": by_size,
    }


async def _on_fresh_server(
    work: Callable[[str, str], Awaitable[tuple[float, float]]],
) -> tuple[float, float]:
    """A fresh embedded server for each run, so that no run pays for the rows of another."""
    with tempfile.TemporaryDirectory(prefix="subledger-bench-", ignore_cleanup_errors=True) as top:
        Path(top).chmod(0o755)  # noqa: ASYNC240  # once, before anything is measured
        async with await postgres.start(Path(top) / "data") as server:
            await migrate.migrate(server.admin_url, secret_key=server.secret_key)
            return await work(server.admin_url, server.secret_key)


def main() -> int:
    parser = argparse.ArgumentParser(description="Renewals per second through the whole chain.")
    parser.add_argument("--subscriptions", type=int, default=50_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="only the JSON on standard output")
    asked = parser.parse_args()
    logs.configure(level="error")
    out = sys.stderr if asked.json else sys.stdout

    def say(line: str) -> None:
        print(line, file=out, flush=True)

    async def run() -> int:
        print(json.dumps(await measure(asked.subscriptions, asked.runs, say)), flush=True)
        return 0

    return asyncio_run(run())


if __name__ == "__main__":
    sys.exit(main())
