"""Kill the process by SIGKILL at every crash point, start it again, and look at the books.

``python -m tests.kill.sweep [--points a,b | all] [--hits 1,2] [--postgres up,restarted]
[--clusters 4] [--write FILE] [--json]``. For each point of money in (``SUBJECTS``) and hit that a
whole life has: a fresh database, a process that dies there, PostgreSQL left up or stopped at once
and recovered, another process that lives the scenario to its end within 60 s, then the invariants
and the provider's journal: 0 double, 0 lost. Clusters work side by side, each with a server of its
own. A point that is never hit fails the sweep, unless it is listed below with its reason.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

import asyncpg
from sqlalchemy.engine import make_url

from subledger.hosts.assembly import Options, assemble
from subledger.platform import crashpoints, migrate
from subledger.platform.db import Database, story
from subledger.platform.eventlog.writer import append
from subledger.services.identity.usecases.create_tenants import TenantRequest, create_tenants
from tests.kill import process, scenario
from tests.postgres import Server, plan_once, restart_server, start_server, stop_server

T = TypeVar("T")
Cluster = tuple[Server, str]
"""A server of the sweep's own, and the key of the tenant in its template."""
QUIET_WITHIN_S = 60
CLUSTERS = 4
POSTGRES = ("up", "restarted")
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
    "payments.reseal_connections": "an operator's command; tests/payments kills there",
    "payments.ask_for_payer": "tests/payments kills there",
    "payments.put_settings": "tests/payments kills there",
    "payments.create_link": "tests/payments kills there",
    "payments.open_link": "tests/payments kills there",
    "payments.revoke_link": "tests/payments kills there",
    "payments.record_offline": "tests/payments kills there",
    "payments.reverse_offline": "tests/payments kills there",
    "webhooks.reseal_endpoints": "an operator's command; tests/payments kills there",
    "webhooks.replay": "tests/payments kills there",
    "payments.give_up_waiting": "nobody has to wait that long here",
    "payments.find_customer": "customers are known in time",
    "payments.reconcile_daily": "a switch; tests/stories/test_reconciliation.py",
    "payments.repair": "tests/stories/test_reconciliation_crashes.py kills there",
    "payments.measure_states": "reads only",
    "billing.read_books": "reads only",
    "sandbox.set_terms": "tests/stories/test_reconciliation.py",
    "sandbox.spend_silence": "a fault that the scenario does not set",
    "payments.refund_give_up": "nobody has to wait that long here; tests/stories kills there",
    "tests.": "this harness",
    "webhooks.purge": "bodies are forgotten after 30 days",
    "_expire_keys": "keys are forgotten after 72 hours",
    "scheduler.expire_keys": "keys are forgotten after 72 hours",
    "demo.": "the demo's own",
    "smoke.": "not ours",
}
"""Places that this scenario does not pass, each with where else they are covered or why not."""


SUBJECTS: dict[str, tuple[str, ...]] = {
    "charge": ("payments.charge.", "payments.claim_charges", "payments.record_results",
               "payments.request_payment", "payments.request_top_up", "sandbox.charge"),
    "capture": ("payments.capture", "payments.claim_captures", "payments.record_captures",
                "payments.request_capture", "sandbox.authorize", "sandbox.capture",
                "sandbox.void"),
    "refund": ("payments.refund", "billing.grant_refunds", "sandbox.refund"),
    "hosted page": ("payments.checkout", "payments.claim_pages", "payments.assign_connection",
                    "payments.request_cancel", "sandbox.open_page", "sandbox.try_page",
                    "sandbox.expire_page"),
    "webhook": ("webhooks.receive", "payments.consume", "sandbox.callback",
                "sandbox.claim_callbacks", "sandbox.record_callbacks"),
    "reservation": ("billing.reserve_collections", "billing.consume", "payments.reserve.",
                    "payments.record_reservations"),
    "reconcile": ("payments.ask_due", "payments.claim_questions", "payments.fetch",
                  "payments.record_answers", "payments.reconcile", "payments.let_go_holds"),
    "dispute": ("payments.dispute", "sandbox.open_dispute", "sandbox.close_dispute"),
}  # fmt: skip
"""Where money comes in: beginnings of names. What the scenario passes there is swept by default."""


@dataclass
class Outcome:
    """What became of one kill."""

    point: str
    nth: int
    postgres: str
    hit: bool
    exit: int
    seconds: float
    wrong: list[str]

    @property
    def good(self) -> bool:
        return not self.wrong


def excused(point: str) -> bool:
    return any(part in point for part in NEVER)


def subject(point: str) -> str | None:
    """What of money in a point belongs to."""
    return next((name for name, starts in SUBJECTS.items() if point.startswith(starts)), None)


def money_points() -> list[str]:
    """The points at which money could be lost or taken twice."""
    return [point for point in points() if subject(point) is not None]


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
    await plan_once(server.url(name))
    return server.url(name)


async def _drop(server: Server, name: str) -> None:
    admin = await asyncpg.connect(server.admin_url.replace("+asyncpg", ""))
    await admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    await admin.close()


def _run(url: str, key: str, crash_at: str | None) -> tuple[int, list[str], float]:
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "said"
        began = time.monotonic()
        dying = process.start(process.live, url, SECRET, key, crash_at, said)
        dying.join(QUIET_WITHIN_S)
        if dying.is_alive():
            where = process.where(dying.pid or 0, said)
            dying.kill()
            dying.join()
            wrong = [f"not quiet within {QUIET_WITHIN_S} s; {where}"]
            return -1, wrong, time.monotonic() - began
        took_s = time.monotonic() - began
        wrong = json.loads(said.read_text()) if said.exists() else []
        return dying.exitcode or 0, wrong, took_s


def census(server: Server, key: str) -> dict[str, int]:
    """How often one whole life passes each point: what is passed once has no second hit."""
    url = asyncio.run(_clone(server, "kill_census"))
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "said"
        counting = process.start(process.count, url, SECRET, key, said)
        counting.join(QUIET_WITHIN_S)
        assert counting.exitcode == 0, "the scenario fails even if nobody dies"
        counted: dict[str, int] = json.loads(said.read_text())
    asyncio.run(_drop(server, "kill_census"))
    return counted


def kill_once(server: Server, key: str, point: str, nth: int, postgres: str) -> Outcome:
    """Die at the nth passing of a point, live on in another process, judge. With ``restarted``
    the server dies too; it must be nobody else's."""
    name = f"kill_{os.getpid()}_{abs(hash((point, nth, postgres)))}"
    url = asyncio.run(_clone(server, name))
    try:
        code, wrong, _ = _run(url, key, f"{point}:{nth}")
        if code != -signal.SIGKILL:
            # It lived to its end: the point was not passed that often.
            return Outcome(point, nth, postgres, False, code, 0.0, wrong)
        if postgres == "restarted":
            restart_server(server)
        code, wrong, took_s = _run(url, key, None)
        if code != 0 and not wrong:
            wrong = [f"the second process ended with {code}"]
        return Outcome(point, nth, postgres, True, code, round(took_s, 1), wrong)
    finally:
        asyncio.run(_drop(server, make_url(url).database or ""))


def kill_in_a_row(server: Server, key: str, row: Sequence[str]) -> list[Outcome]:
    """Die at the first passing of each of these points, one process after the other on one
    database, then live on and judge: each kill is judged by what all of them left. A point that a
    process does not pass any more after those before it has a database of its own."""
    url = asyncio.run(_clone(server, f"kill_{os.getpid()}_{abs(hash(tuple(row)))}"))
    killed: list[str] = []
    code, wrong, took_s = 0, list[str](), 0.0
    try:
        for point in row:
            code, wrong, took_s = _run(url, key, f"{point}:1")
            if code != -signal.SIGKILL:
                break  # it lived to the end of the story
            killed.append(point)
        else:
            code, wrong, took_s = _run(url, key, None)
            if code != 0 and not wrong:
                wrong = [f"the last process ended with {code}"]
    finally:
        asyncio.run(_drop(server, make_url(url).database or ""))
    if wrong:
        wrong = [f"killed at {', '.join(killed)}: {each}" for each in wrong]
    found = [Outcome(each, 1, "up", True, code, round(took_s, 1), list(wrong)) for each in killed]
    rest = [each for each in row if each not in killed]
    return found + [kill_once(server, key, each, 1, "up") for each in rest]


def _cluster() -> Cluster:
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o711)
    server = start_server(folder)
    return server, asyncio.run(prepare(server))


def sweep(
    wanted: list[str],
    hits: list[int],
    *,
    postgres: Sequence[str] = ("up",),
    clusters: int = CLUSTERS,
) -> list[Outcome]:
    """All of it, on servers of its own; a first hit that never happens is wrong."""
    with _clusters(clusters) as mine:
        counted = census(*mine[0]) if max(hits) > 1 else {}
        kills = [
            (point, nth, mode)
            for point in wanted
            for nth in hits
            for mode in postgres
            if nth == 1 or counted.get(point, 0) > 1
        ]

        def once(server: Server, key: str, what: tuple[str, int, str]) -> list[Outcome]:
            return [kill_once(server, key, *what)]

        return _side_by_side(mine, once, kills)


def sweep_in_rows(wanted: Sequence[str], *, of: int, clusters: int = CLUSTERS) -> list[Outcome]:
    """Each point's first hit, ``of`` so many in one database's life: a row's points lie far apart
    in the story, each process comes further than the one before it."""
    with _clusters(clusters) as mine:
        order = list(census(*mine[0]))
        known = [each for each in order if each in wanted]
        known += [each for each in wanted if each not in order]
        rows = -(-len(known) // of)
        return _side_by_side(mine, kill_in_a_row, [known[n::rows] for n in range(rows)])


@contextmanager
def _clusters(n: int) -> Iterator[list[Cluster]]:
    mine = [_cluster() for _ in range(n)]
    try:
        yield mine
    finally:
        for server, _ in mine:
            stop_server(server)


def _side_by_side(
    mine: Sequence[Cluster], kill: Callable[[Server, str, T], list[Outcome]], given: Sequence[T]
) -> list[Outcome]:
    idle: SimpleQueue[Cluster] = SimpleQueue()
    for each in mine:
        idle.put(each)

    def one(what: T) -> list[Outcome]:
        server, key = idle.get()
        try:
            return [_judged(each) for each in kill(server, key, what)]
        finally:
            idle.put((server, key))

    with ThreadPoolExecutor(len(mine)) as pool:
        return [outcome for found in pool.map(one, given) for outcome in found]


def _judged(each: Outcome) -> Outcome:
    """Its line of the table, at once: point, hit, exit, seconds, the journal's verdict."""
    if not each.hit and each.nth == 1:
        each.wrong.append("never hit")
    verdict = "0 double, 0 lost" if each.good else "; ".join(each.wrong)
    hit = f"hit {each.nth}" if each.hit else f"no hit {each.nth}"
    print(
        f"{each.point:<46} {hit:<9} {each.postgres:<9} exit {each.exit:<4} {each.seconds:>5} s "
        f" {verdict}",
        flush=True,
    )
    return each


def show(found: list[Outcome]) -> None:
    """The last line of the table."""
    killed = sum(each.hit for each in found)
    bad = sum(not each.good for each in found)
    print(f"{killed} kills at {len({e.point for e in found})} points, {bad} failed")


def table(found: list[Outcome], seconds: float) -> str:
    """The sweep as a page: a row for each point, a column for each way to die there."""
    ways = sorted({(each.postgres, each.nth) for each in found}, key=lambda way: (way[1], way[0]))
    by_point: dict[str, dict[tuple[str, int], Outcome]] = {}
    for each in found:
        by_point.setdefault(each.point, {})[each.postgres, each.nth] = each
    killed, bad = sum(each.hit for each in found), sum(not each.good for each in found)
    head = [f"hit {nth}, PostgreSQL {mode}" for mode, nth in ways]
    lines = [
        "# The sweep", "",
        "Written by `make sweep`: the process is killed at each point, another lives on; the time"
        " is what that one needed for the whole scenario until nothing was left to do. Every cell"
        " was judged by the invariants and by the sandbox provider's journal; a dash is a point"
        " that a life passes once.", "",
        f"{killed} kills at {len(by_point)} points, {bad} failed, 0 double charges and 0 lost"
        f"{' in the others' if bad else ''}; {seconds:.0f} s in all.", "",
        f"| point | of | {' | '.join(head)} |", f"|---|---|{'---|' * len(ways)}",
    ]  # fmt: skip
    for point, outcomes in by_point.items():
        cells = [_cell(outcomes.get(way)) for way in ways]
        lines.append(f"| `{point}` | {subject(point) or 'other'} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(each: Outcome | None) -> str:
    if each is None or (not each.hit and each.good):
        return "–"
    return f"{each.seconds} s" if each.good else f"**{'; '.join(each.wrong)[:200]}**"


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill the process at every crash point.")
    parser.add_argument("--points", help="comma-separated, or all; default: those of money in")
    parser.add_argument("--hits", default="1,2")
    parser.add_argument("--postgres", default=",".join(POSTGRES))
    parser.add_argument("--clusters", type=int, default=CLUSTERS)
    parser.add_argument("--write", type=Path, help="write the table here")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    wanted = points() if asked.points == "all" else money_points()
    if asked.points and asked.points != "all":
        wanted = asked.points.split(",")
    began = time.monotonic()
    found = sweep(
        wanted,
        [int(each) for each in asked.hits.split(",")],
        postgres=asked.postgres.split(","),
        clusters=asked.clusters,
    )
    show(found)
    if asked.write:
        asked.write.write_text(table(found, time.monotonic() - began))
    if asked.json:
        print(json.dumps([asdict(each) for each in found]))
    return 0 if all(each.good for each in found) else 1


if __name__ == "__main__":
    sys.exit(main())
