"""The process that is killed, and the one that lives on: services, loops and requests in one.

Each is forked from a server that has imported everything and has no threads: forked from the
sweep itself, which drives its clusters from threads, a process may find a lock held for ever.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import uvloop

from subledger.platform import crashpoints
from tests.kill import scenario

WATCHED_AFTER_S = 45.0
"""Then a process that still lives writes down what its tasks wait for."""
_FORKING = multiprocessing.get_context("forkserver")
_FORKING.set_forkserver_preload([__name__])


def start(target: Callable[..., None], *given: str | Path | None) -> ForkServerProcess:
    """Begin ``target`` in a process of its own; the imports were paid once."""
    begun = _FORKING.Process(target=target, args=given)
    begun.start()
    return begun


def live(url: str, secret: str, key: str, crash_at: str | None, said: Path) -> None:
    """The whole scenario; what is wrong afterwards goes to the file ``said``. Ends with 0, with 3
    after an error, or by SIGKILL at ``crash_at`` (``point:n``)."""
    os.environ.pop("CRASH_AT", None)
    if crash_at:
        os.environ["CRASH_AT"] = crash_at
    _hush()
    stack = os.open(_stack(said), os.O_WRONLY | os.O_CREAT)  # open until the process ends
    faulthandler.register(signal.SIGUSR1, file=stack, all_threads=True)
    try:
        wrong = uvloop.run(_watched(url, secret, key, said))
        said.write_text(json.dumps(wrong))
        os._exit(0)
    except BaseException as error:
        said.write_text(json.dumps([f"{type(error).__name__}: {error}"[:1500]]))
        os._exit(3)


def count(url: str, secret: str, key: str, said: Path) -> None:
    """A whole life in which nobody dies: how often it passes each point goes to ``said``."""
    _hush()
    passed: Counter[str] = Counter()
    crashpoints.install(lambda point: passed.update([point.name]))
    wrong = uvloop.run(scenario.live(url, secret, key))
    said.write_text(json.dumps(passed))
    os._exit(1 if wrong else 0)


def where(pid: int, said: Path) -> str:
    """Where a process that is not quiet is: what its tasks wait for, or its threads' frames if its
    loop does not turn any more."""
    if _tasks(said).exists():
        return _tasks(said).read_text()
    if not _stack(said).exists():
        return "it never began"
    os.kill(pid, signal.SIGUSR1)
    time.sleep(0.5)
    return " < ".join(_stack(said).read_text().split("\n")[:40])


async def _watched(url: str, secret: str, key: str, said: Path) -> list[str]:
    living = asyncio.ensure_future(scenario.live(url, secret, key))
    await asyncio.wait([living], timeout=WATCHED_AFTER_S)
    if not living.done():
        waiting = (_waits(each) for each in asyncio.all_tasks() if not each.done())
        _tasks(said).write_text("; ".join(sorted(waiting)))
    return await living


def _waits(task: asyncio.Task[object]) -> str:
    """A task's name, and its coroutines from the outside in, each by function and line."""
    frames, waits = [], task.get_coro()
    while waits is not None and len(frames) < 30:
        frame = getattr(waits, "cr_frame", None)
        if frame is not None:
            frames.append(f"{frame.f_code.co_qualname}:{frame.f_lineno}")
        waits = getattr(waits, "cr_await", None)
    return f"{task.get_name()}: {' > '.join(frames)}"


def _stack(said: Path) -> Path:
    return said.with_suffix(".stack")


def _tasks(said: Path) -> Path:
    return said.with_suffix(".tasks")


def _hush() -> None:
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
