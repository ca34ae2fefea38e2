"""``python -m tests.simulation --seeds N --from FIRST [--size night] [--postgres URL]``: seeds,
each judged.

Without ``--postgres`` (an administrator's URL) it starts a PostgreSQL of its own.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import asyncpg
import uvloop

from subledger.platform.settings import asyncpg_url
from subledger.platform.telemetry import logs
from tests.postgres import SECRET_KEY, Server, migrated, start_server, stop_server
from tests.simulation import operations, placement
from tests.simulation.month import NIGHT, QUARTER, SHORT, Size
from tests.simulation.run import Simulation

SIZES = {"short": SHORT, "quarter": QUARTER, "night": NIGHT}


async def run(server: Server, seeds: range, size: Size, *, told: bool = False) -> int:
    """Live the seeds in a database of their own; how many failed."""
    name = f"simulation_{time.time_ns()}"
    try:
        with placement.on_one_core():
            return await _live(await migrated(server, name), seeds, size, told=told)
    finally:
        admin = await asyncpg.connect(server.admin_url.replace("+asyncpg", ""))
        await admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        await admin.close()


async def _live(url: str, seeds: range, size: Size, *, told: bool) -> int:
    failed, picks, cuts, began = 0, 0, 0, time.monotonic()
    deaths: Counter[str] = Counter()
    outcomes: Counter[tuple[str, str]] = Counter()
    simulation = Simulation(url=url, secret_key=SECRET_KEY)
    await simulation.open()
    for seed in seeds:
        try:
            lived = await simulation.lives(seed, size)
        except Exception:
            failed += 1
            print(f"seed {seed} FAILED\n{traceback.format_exc()}", flush=True)
            continue
        picks += len(lived.trace)
        deaths.update(lived.deaths)
        cuts += len(lived.cuts)
        outcomes.update(lived.outcomes)
    await simulation.close()
    if told:
        print(*operations.table(outcomes), sep="\n")
        print(f"never done: {operations.never_done(outcomes) or 'nothing'}")
    print(
        f"{len(seeds)} seeds from {seeds.start}: {failed} failed; {picks} picks,"
        f" {deaths.total()} deaths at {len(deaths)} places, {cuts} cuts,"
        f" {time.monotonic() - began:.0f} s ({time.process_time():.0f} s of processor)"
    )
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description="Seeded shops on a real PostgreSQL.")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--from", type=int, default=1, dest="first")
    parser.add_argument("--postgres", help="an administrator's URL; else a server of its own")
    parser.add_argument("--size", choices=SIZES, default="night")
    parser.add_argument(
        "--outcomes", action="store_true", help="how often each operation was answered how"
    )
    asked = parser.parse_args()
    logs.configure(level="error")
    size = SIZES[asked.size]
    seeds = range(asked.first, asked.first + asked.seeds)
    if asked.postgres:
        given = Server(admin_url=asyncpg_url(asked.postgres), binaries=None)
        return 1 if uvloop.run(run(given, seeds, size, told=asked.outcomes)) else 0
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o711)
    server = start_server(folder)
    try:
        return 1 if uvloop.run(run(server, seeds, size, told=asked.outcomes)) else 0
    finally:
        stop_server(server)


if __name__ == "__main__":
    sys.exit(main())
