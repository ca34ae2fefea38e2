"""``python -m tests.simulation --seeds N --from FIRST``: seeds one after the other, each judged."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

import asyncpg

from subledger.platform import migrate
from subledger.platform.telemetry import logs
from tests.conftest import start_server, stop_server
from tests.simulation.world import simulate

SECRET = "simulation"


async def run(admin_url: str, url: str, seeds: range) -> int:
    admin = await asyncpg.connect(admin_url.replace("+asyncpg", ""))
    await admin.execute("CREATE DATABASE simulation")
    await admin.close()
    await migrate.migrate(url, secret_key=SECRET)
    failed = crashes = steps = 0
    began = time.monotonic()
    for seed in seeds:
        try:
            world = await simulate(seed, url=url, secret_key=SECRET)
        except AssertionError as error:
            failed += 1
            print(f"FAILED {error}", flush=True)
            continue
        crashes += world.crashes
        steps += len(world.trace)
        await world.close()
    took_s = time.monotonic() - began
    print(
        f"{len(seeds)} seeds from {seeds.start}: {failed} failed; {steps} picks, {crashes} crashes,"
        f" {took_s:.0f} s"
    )
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Seeded months on a real PostgreSQL.")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--from", type=int, default=1, dest="first")
    asked = parser.parse_args()
    logs.configure(level="error")
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o711)
    server = start_server(folder)
    try:
        seeds = range(asked.first, asked.first + asked.seeds)
        return asyncio.run(run(server.admin_url, server.url("simulation"), seeds))
    finally:
        stop_server(server)


if __name__ == "__main__":
    sys.exit(main())
