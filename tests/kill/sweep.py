"""Kill the process by SIGKILL at every crash point, start it again, and look at the books.

``python -m tests.kill.sweep [--points a,b] [--hits 1,2] [--jobs 3] [--json]``. For each point and
hit that a whole life has: a fresh database, a process that dies there, another that lives the
scenario to its end within 60 s, then the invariants and the provider's journal: 0 double, 0 lost.
A point that is never hit fails the sweep, unless it is listed below with its reason.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import asyncpg
from sqlalchemy.engine import make_url

from subledger.hosts.assembly import Options, assemble
from subledger.platform import crashpoints, migrate
from subledger.platform.db import Database, story
from subledger.platform.eventlog.writer import append
from subledger.services.identity.usecases.create_tenants import TenantRequest, create_tenants
from tests.conftest import Server, start_server, stop_server
from tests.kill import scenario

QUIET_WITHIN_S = 60
SECRET = "sweep"
_OPEN = story("tests.open_for_kill")
TEMPLATE = "kill_template"

NEVER: dict[str, str] = {
    ".park.": "only poison is parked; tests/platform/test_eventlog.py kills around it",
    "billing.close_work_item": "nothing of the scenario opens a work item",
    "billing.turn_kill_switch": "operators' commands",
    "billing.roll_up": "days are summed once they are over",
    "gateway.": "reads health",
    "hosts.": "operators' commands",
    "identity.create_sandbox": "the scenario lives in one sandbox",
    "identity.revoke_api_key": "tests/identity",
    "payments.cancel": "tests/payments kills there",
    "payments.request_cancel": "tests/payments kills there",
    "payments.detach_method": "tests/payments kills there",
    "payments.give_up_waiting": "nobody has to wait that long here",
    "payments.find_customer": "customers are known in time",
    "tests.": "this harness",
    "webhooks.purge": "bodies are forgotten after 30 days",
    "_expire_keys": "keys are forgotten after 72 hours",
    "scheduler.expire_keys": "keys are forgotten after 72 hours",
    "demo.": "the demo's own",
    "smoke.": "not ours",
}
"""Places that this scenario does not pass, each with where else they are covered or why not."""


@dataclass
class Outcome:
    """What became of one kill."""

    point: str
    nth: int
    hit: bool
    exit: int
    seconds: float
    wrong: list[str]

    @property
    def good(self) -> bool:
        return not self.wrong


def excused(point: str) -> bool:
    return any(part in point for part in NEVER)


def points() -> list[str]:
    """Every crash point that the scenario has to reach."""
    assemble(Options(url_of=lambda name: "postgresql+asyncpg://nobody@localhost/none",
                     secret_key=SECRET))  # fmt: skip
    return [name for name in crashpoints.names() if not excused(name)]


async def prepare(server: Server) -> str:
    """A migrated template database with one sandbox tenant; its key."""
    admin = await asyncpg.connect(server.admin_url.replace("+asyncpg", ""))
    await admin.execute(f"CREATE DATABASE {TEMPLATE}")
    await admin.close()
    url = server.url(TEMPLATE)
    await migrate.migrate(url, secret_key=SECRET)
    database = Database(url=migrate.service_url(url, "identity", SECRET), append=append)
    live, sandbox = database.ids.new(), database.ids.new()
    async with database.transaction(_OPEN) as tx:
        opened = await create_tenants(
            tx,
            [TenantRequest(live, "k"), TenantRequest(sandbox, "k", live, scenario.START)],
        )
    await database.close()
    return opened[1].key


async def _clone(server: Server, name: str) -> str:
    admin = await asyncpg.connect(server.admin_url.replace("+asyncpg", ""))
    try:
        for _ in range(100):
            try:
                await admin.execute(f'CREATE DATABASE "{name}" TEMPLATE {TEMPLATE}')
                break
            except asyncpg.ObjectInUseError:
                await asyncio.sleep(0.1)
    finally:
        await admin.close()
    return server.url(name)


async def _drop(server: Server, name: str) -> None:
    admin = await asyncpg.connect(server.admin_url.replace("+asyncpg", ""))
    await admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    await admin.close()


def _hush() -> None:
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)


def _child(url: str, key: str, crash_at: str | None, said: str) -> None:
    """A whole process: services, loops, requests. Forked, so that imports are paid once."""
    os.environ.pop("CRASH_AT", None)
    if crash_at:
        os.environ["CRASH_AT"] = crash_at
    _hush()
    try:
        wrong = asyncio.run(scenario.live(url, SECRET, key))
        Path(said).write_text(json.dumps(wrong))
        os._exit(0)
    except BaseException as error:
        Path(said).write_text(json.dumps([f"{type(error).__name__}: {error}"[:1500]]))
        os._exit(3)


def _run(url: str, key: str, crash_at: str | None) -> tuple[int, list[str], float]:
    fork = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        said = str(Path(folder) / "said")
        began = time.monotonic()
        process = fork.Process(target=_child, args=(url, key, crash_at, said))
        process.start()
        process.join(QUIET_WITHIN_S)
        if process.is_alive():
            process.kill()
            process.join()
            return -1, [f"not quiet within {QUIET_WITHIN_S} s"], time.monotonic() - began
        took_s = time.monotonic() - began
        wrong = json.loads(Path(said).read_text()) if Path(said).exists() else []
        return process.exitcode or 0, wrong, took_s


def census(server: Server, key: str) -> dict[str, int]:
    """How often one whole life passes each point: what is passed once has no second hit."""
    url = asyncio.run(_clone(server, "kill_census"))
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "said"
        fork = multiprocessing.get_context("fork")
        process = fork.Process(target=_count, args=(url, key, str(said)))
        process.start()
        process.join(QUIET_WITHIN_S)
        assert process.exitcode == 0, "the scenario fails even if nobody dies"
        counted: dict[str, int] = json.loads(said.read_text())
    asyncio.run(_drop(server, "kill_census"))
    return counted


def _count(url: str, key: str, said: str) -> None:
    _hush()
    passed: Counter[str] = Counter()
    crashpoints.install(lambda point: passed.update([point.name]))
    wrong = asyncio.run(scenario.live(url, SECRET, key))
    Path(said).write_text(json.dumps(passed))
    os._exit(1 if wrong else 0)


def kill_once(server: Server, key: str, point: str, nth: int) -> Outcome:
    """Die at the nth passing of a point, live on in another process, judge."""
    name = f"kill_{os.getpid()}_{abs(hash((point, nth)))}"
    url = asyncio.run(_clone(server, name))
    try:
        code, wrong, _ = _run(url, key, f"{point}:{nth}")
        if code != -signal.SIGKILL:
            # It lived to its end: the point was not passed that often.
            return Outcome(point, nth, False, code, 0.0, wrong)
        code, wrong, took_s = _run(url, key, None)
        if code != 0 and not wrong:
            wrong = [f"the second process ended with {code}"]
        return Outcome(point, nth, True, code, round(took_s, 1), wrong)
    finally:
        asyncio.run(_drop(server, make_url(url).database or ""))


def sweep(wanted: list[str], hits: list[int], *, jobs: int) -> list[Outcome]:
    """All of it on a server of its own; a first hit that never happens is wrong."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o711)
    server = start_server(folder)
    try:
        key = asyncio.run(prepare(server))
        counted = census(server, key)
        kills = [
            (point, nth)
            for point in wanted
            for nth in hits
            if nth == 1 or counted.get(point, 0) > 1
        ]
        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(lambda each: _judged(kill_once(server, key, *each)), kills))
    finally:
        stop_server(server)


def _judged(each: Outcome) -> Outcome:
    """Its line of the table, at once: point, hit, exit, seconds, the journal's verdict."""
    if not each.hit and each.nth == 1:
        each.wrong.append("never hit")
    verdict = "0 double, 0 lost" if each.good else "; ".join(each.wrong)
    hit = f"hit {each.nth}" if each.hit else f"no hit {each.nth}"
    print(
        f"{each.point:<46} {hit:<9} exit {each.exit:<4} {each.seconds:>5} s  {verdict}", flush=True
    )
    return each


def show(found: list[Outcome]) -> None:
    """The last line of the table."""
    killed = sum(each.hit for each in found)
    bad = sum(not each.good for each in found)
    print(f"{killed} kills at {len({e.point for e in found})} points, {bad} failed")


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill the process at every crash point.")
    parser.add_argument("--points", help="comma-separated; default: all")
    parser.add_argument("--hits", default="1,2")
    parser.add_argument("--jobs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    wanted = asked.points.split(",") if asked.points else points()
    found = sweep(wanted, [int(each) for each in asked.hits.split(",")], jobs=asked.jobs)
    show(found)
    if asked.json:
        print(json.dumps([asdict(each) for each in found]))
    return 0 if all(each.good for each in found) else 1


if __name__ == "__main__":
    sys.exit(main())
