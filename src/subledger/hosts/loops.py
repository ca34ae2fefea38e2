"""The loops: a task or two per step. Sleeps, back-off, signals live in the hosts and nowhere else.

A step is run again at once while it finds work. Idle, it waits for a commit that concerns it, or
for a pause that grows from 100 ms to its ``pause_s``. (From 20 ms the same clock move took half
as many idle tries again; commits of this process wake a loop at once anyhow.) A failure is logged
and counted, and the step is tried again later: transient ones soon, others with more patience.
Nothing is parked here.
"""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import structlog

from subledger.platform.db import Database, Listener, Wakeup, is_transient, sql, story
from subledger.platform.service import Step
from subledger.platform.telemetry import metrics

FIRST_PAUSE_S = 0.1
FIRST_VAIN_S, MOST_VAIN_S = 0.004, 0.25
"""A step that was woken in vain looks again no sooner than this after its last look, doubled each
time: under load most commits do not concern most steps, and looking is not free."""
HURRIED_PAUSE_S = 0.02
FIRST_WATCH_S, BUSY_WATCH_S, IDLE_WATCH_S = 0.02, 0.05, 0.25
STOP_WITHIN_S = 10.0
_TRANSIENT_S, _MOST_TRANSIENT_S = 0.1, 5.0
_FAILED_S, _MOST_FAILED_S = 1.0, 30.0
_COLLECT_AFTER = (50_000, 20, 50)
_HOUSEKEEPING_S = 1.0
"""A step with a longer pause than this is not woken by commits."""

_WATCH = story("hosts.watch_heads", reads=True)
_HEADS = sql("SELECT CAST(sum(position) AS bigint) AS total FROM eventlog.heads")
_log = structlog.get_logger()


class Loops:
    """Runs steps until ``stop``. ``watched`` is where the log's heads tell about commits of other
    processes."""

    def __init__(
        self, steps: Sequence[Step], *, wakeup: Wakeup, watched: Database | None = None
    ) -> None:
        self._crew = _Crew()
        self._steps = steps
        self._wakeup = wakeup
        self._watched = watched
        self._tasks: dict[asyncio.Task[None], _Loop | None] = {}

    def start(self) -> None:
        """Start a task per step, or as many as the step asks for.

        What the process has loaded so far is taken out of the garbage collector's sight, and it
        looks less often: batches of thousands of small objects made it a seventh of the work.
        """
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_COLLECT_AFTER)
        for step in self._steps:
            for _ in range(step.tasks):
                loop = _Loop(step, self._wakeup, self._crew)
                self._tasks[asyncio.create_task(loop.run(), name=step.name)] = loop
        if self._watched is not None:
            watching = _watch(self._watched, self._wakeup)
            self._tasks[asyncio.create_task(watching, name="hosts.watch_heads")] = None

    async def stop(self, *, within_s: float = STOP_WITHIN_S) -> bool:
        """Let every step that is at work finish its run, cut off what is not done in time.

        Returns whether all finished. What is cut off is rolled back, and done again later.
        """
        if not self._tasks:
            return True
        for task, loop in self._tasks.items():
            if loop is None or loop.end():
                task.cancel()
        _, late = await asyncio.wait(self._tasks, timeout=within_s)
        for task in late:
            _log.warning("step.cut_off", step=task.get_name())
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        return not late

    async def failed(self) -> BaseException:
        """Wait until a loop ends by itself, which none should; returns why."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(iter(done)).exception() or RuntimeError("a loop ended")


def ear(step: Step, wakeup: Wakeup) -> Listener:
    """What hears the commits that may have made work for a step."""
    services = {"identity"} if step.by_clock or step.types is None else set()
    if step.types is None:
        services.add(step.name.partition(".")[0])
    return wakeup.listener(services=services, types=step.types or (), hears_all=step.hears_all)


class _Crew:
    """How many steps of this process are at work now."""

    def __init__(self) -> None:
        self._working = 0
        self._rests = asyncio.Event()
        self._rests.set()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """A step's run."""
        self._working += 1
        self._rests.clear()
        try:
            yield
        finally:
            self._working -= 1
            if not self._working:
                self._rests.set()

    async def rests(self, *, within_s: float) -> None:
        """Wait until nobody is at work, at most so long (seconds, wall clock). Who was woken at
        the same time begins first."""
        await asyncio.sleep(0)
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._working:  # who found work goes on at once
                    await self._rests.wait()


class _Loop:
    """One step's loop."""

    def __init__(self, step: Step, wakeup: Wakeup, crew: _Crew) -> None:
        self._crew = crew
        self._step = step
        self._wakeup = wakeup
        self._ending = False
        self._working = False
        self._in_vain = 0

    def end(self) -> bool:
        """Ask it to end after the run under way; True if there is none (it may be cancelled)."""
        self._ending = True
        return not self._working

    async def run(self) -> None:
        step = self._step
        listener = ear(step, self._wakeup)
        pause_s, failures = FIRST_PAUSE_S, 0
        try:
            while not self._ending:
                listener.forget()
                done, error = await self._once()
                failures = 0 if error is None else failures + 1
                if self._ending or done:
                    pause_s, self._in_vain = FIRST_PAUSE_S, 0
                elif error is not None:
                    await asyncio.sleep(back_off_s(failures, transient=is_transient(error)))
                else:
                    pause_s = await self._rest(listener, pause_s)
        finally:
            self._wakeup.dismiss(listener)

    async def _rest(self, listener: Listener, pause_s: float) -> float:
        """Wait for a commit or ``pause_s``; returns the next pause."""
        step = self._step
        if step.pause_s > _HOUSEKEEPING_S:
            await asyncio.sleep(step.pause_s)
            return pause_s
        hurried = step.hurry is not None and step.hurry()
        longest_s = HURRIED_PAUSE_S if hurried else step.pause_s
        looked_at = time.monotonic()
        if await listener.wait(min(pause_s, longest_s)):
            self._in_vain += 1
            if hurried:
                # It is held up by what others have to do: while they are at it, looking is vain.
                left_s = looked_at + HURRIED_PAUSE_S - time.monotonic()
                await self._crew.rests(within_s=max(0.0, left_s))
            else:
                not_before_s = min(FIRST_VAIN_S * 2.0 ** min(self._in_vain - 1, 10), MOST_VAIN_S)
                await asyncio.sleep(max(0.0, looked_at + not_before_s - time.monotonic()))
            return longest_s
        self._in_vain = 0
        return min(pause_s * 4, longest_s)

    async def _once(self) -> tuple[int, Exception | None]:
        step, started = self._step, time.perf_counter()
        self._working = True
        try:
            with self._crew.at_work():
                done = await step.run(step.limit)
        except Exception as error:
            metrics.step_runs.labels(step.name, "failed").inc()
            if is_transient(error):
                _log.warning("step.transient_failure", step=step.name, error=_line(error))
            else:
                _log.error("step.failed", step=step.name, exc_info=error)
            return 0, error
        finally:
            self._working = False
        metrics.step_runs.labels(step.name, "done" if done else "idle").inc()
        if done:
            metrics.step_seconds.labels(step.name).observe(time.perf_counter() - started)
        return done, None


def back_off_s(failures: int, *, transient: bool) -> float:
    """Seconds to wait after so many failures in a row: doubled each time, bounded, with jitter
    (half to whole), so that loops that failed together do not come back together."""
    first_s, most_s = (
        (_TRANSIENT_S, _MOST_TRANSIENT_S) if transient else (_FAILED_S, _MOST_FAILED_S)
    )
    whole_s: float = min(first_s * 2.0 ** min(failures - 1, 20), most_s)
    return whole_s * random.uniform(0.5, 1.0)


async def _watch(database: Database, wakeup: Wakeup) -> None:
    """One query per process, 20 to 50 ms apart while the log grows, up to 250 ms while it rests:
    wakes every loop when others have appended."""
    seen: tuple[int, int] | None = None
    pause_s, failures = FIRST_WATCH_S, 0
    while True:
        await asyncio.sleep(pause_s)
        try:
            async with database.transaction(_WATCH) as tx:
                total = (await tx.rows(_HEADS))[0].total
        except Exception as error:
            failures += 1
            if failures == 1:
                _log.warning("watch.failed", error=_line(error))
            pause_s = back_off_s(failures, transient=is_transient(error))
            continue
        failures = 0
        now = (total, total - wakeup.appended)
        if seen is not None and now[1] != seen[1]:
            wakeup.wake()
        if seen is not None and now[0] != seen[0]:
            pause_s = BUSY_WATCH_S if pause_s >= BUSY_WATCH_S else FIRST_WATCH_S
        else:
            pause_s = min(max(pause_s, FIRST_WATCH_S) * 1.5, IDLE_WATCH_S)
        seen = now


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]
