"""One core for a simulation: its process and its connections' processes of the database.

They only ever wait for each other. On two cores each waiting ends with a wake-up of the other
core, which was a sixth of a seed's time.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import event

from subledger.platform.db import Database


@contextlib.contextmanager
def on_one_core() -> Iterator[None]:
    """This process stays on one core: that of its number among the run's workers, if it is one."""
    before = os.sched_getaffinity(0)
    cores = sorted(before)
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    number = int(worker) if worker.isdigit() else os.getpid()
    os.sched_setaffinity(0, {cores[number % len(cores)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def near(databases: Iterable[Database]) -> None:
    """What serves these databases' connections runs where this process does."""
    for each in databases:
        event.listen(each.engine.sync_engine, "connect", _follow)


def _follow(connection: Any, _record: object) -> None:
    # Not ours to move (the server is another user's, or on another machine): it stays elsewhere.
    with contextlib.suppress(PermissionError, ProcessLookupError):
        os.sched_setaffinity(connection.driver_connection.get_server_pid(), os.sched_getaffinity(0))
