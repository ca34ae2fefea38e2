"""A consumer that dies by SIGKILL before its nth statement; run by test_eventlog.py.

usage: eventlog_kill_worker.py SERVICE_URL: for n = 1, 2, … forks a worker that is killed before
its nth statement, commit, or return from commit, until one lives to see the log's end. Prints how
many were killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import text

from subledger.contracts.events import Recorded
from subledger.platform import crashpoints
from subledger.platform.db import Database, Tx
from subledger.platform.driver import Driver
from subledger.platform.eventlog.consumer import Consumer, Group, caused
from subledger.platform.eventlog.writer import append

BATCH = 3


async def handle(tx: Tx, events: Sequence[Recorded]) -> None:
    for each in events:
        await tx.run(
            text(
                "INSERT INTO entitlements.effects (tenant_id, subject, event_id, number)"
                " VALUES (:tenant, :subject, :event, :number)"
            ),
            tenant=each.tenant_id,
            subject=each.subject,
            event=each.id,
            number=each.data["n"],
        )
        tx.emit([caused(each, type="probe.answered", data=each.data, occurred_at=each.occurred_at)])


async def work(url: str, dies_at: int) -> None:
    passed = 0

    def count() -> None:
        nonlocal passed
        passed += 1
        if passed == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)

    database = Database(url=url, append=append, pool_size=1)
    for name in ("execute", "rows", "run"):
        _before(name, count)
    crashpoints.install(lambda point: count() if point.name.endswith("after_commit") else None)
    consumer = Consumer(
        database, Group(name="killed", schema="entitlements", handlers={"probe.said": handle})
    )
    while await consumer.step(BATCH):
        pass
    await database.close()


def _before(name: str, count: Callable[[], None]) -> None:
    said = getattr(Driver, name)

    async def counted(self: Driver, *given: Any) -> Any:
        count()
        return await said(self, *given)

    setattr(Driver, name, counted)


def main(url: str) -> int:
    killed = 0
    while True:
        child = os.fork()
        if child == 0:
            asyncio.run(work(url, killed + 1))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status == 0:
            print(killed)
            return 0
        if os.WTERMSIG(status) != signal.SIGKILL:
            return 1
        killed += 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
