"""The loops that run steps: woken by commits, patient after failures, ended in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from subledger.hosts.loops import Loops, back_off_s, ear
from subledger.platform.db import Wakeup
from subledger.platform.service import Step


async def _until(holds: Callable[[], bool], within_s: float = 3.0) -> float:
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < within_s, "it never came"
        await asyncio.sleep(0.005)
    return time.monotonic() - started


def _counting(results: list[int]) -> tuple[list[int], Callable[[int], Awaitable[int]]]:
    runs: list[int] = []

    async def run(limit: int) -> int:
        runs.append(limit)
        return results.pop(0) if results else 0

    return runs, run


async def test_a_step_runs_at_once_while_it_finds_work() -> None:
    runs, run = _counting([5, 5, 5, 5])
    loops = Loops([Step("tests.work", run, limit=7, pause_s=0.9)], wakeup=Wakeup())

    loops.start()
    took_s = await _until(lambda: len(runs) >= 5)
    await loops.stop()

    assert runs[:5] == [7] * 5
    assert took_s < 0.1


async def test_a_commit_wakes_those_whom_it_concerns() -> None:
    wakeup = Wakeup()
    names = ("own.step", "other.step", "other.consume", "other.mover")
    counted = {name: _counting([]) for name in names}
    loops = Loops(
        [
            Step("own.step", counted["own.step"][1], pause_s=0.9),
            Step("other.step", counted["other.step"][1], pause_s=0.9),
            Step(
                "other.consume",
                counted["other.consume"][1],
                pause_s=0.9,
                types=frozenset({"invoice.paid"}),
            ),
            Step("other.mover", counted["other.mover"][1], pause_s=0.9, hears_all=True),
        ],
        wakeup=wakeup,
    )
    loops.start()
    # Let the pauses grow, so that a run that follows soon was woken.
    await asyncio.sleep(0.6)
    before = {name: len(runs) for name, (runs, _) in counted.items()}

    wakeup.wake("own", {"invoice.paid"})
    await asyncio.sleep(0.03)
    woken = {name for name, (runs, _) in counted.items() if len(runs) > before[name]}
    await loops.stop()

    assert woken == {"own.step", "other.consume", "other.mover"}


async def test_work_wakes_who_does_it_and_a_clock_whoever_waits_for_a_moment() -> None:
    wakeup = Wakeup()
    charge = Step("payments.charge", _counting([])[1], types=frozenset({"payments.ready"}))
    due = Step("payments.ask", _counting([])[1], types=frozenset({"payments.due"}))
    release = Step("billing.release", _counting([])[1], types=frozenset(), by_clock=True)
    alone = Step("payments.give_up", _counting([])[1], types=frozenset())
    ears = {each.name: ear(each, wakeup) for each in (charge, due, release, alone)}

    def heard() -> set[str]:
        found = {name for name, each in ears.items() if each.has_heard}
        for each in ears.values():
            each.forget()
        return found

    wakeup.wake("payments", {"payments.ready", "payment.failed"})
    assert heard() == {"payments.charge"}
    wakeup.wake("payments", {"payments.due"})
    assert heard() == {"payments.ask"}
    wakeup.wake("identity", {"payments.due"})
    assert heard() == {"payments.ask", "billing.release"}
    wakeup.wake("identity", {"billing.due"})
    assert heard() == {"billing.release"}
    wakeup.wake("payments", set())
    assert heard() == set()
    wakeup.wake()
    assert heard() == set(ears), "another process tells nothing of what it did"


async def test_a_commit_during_the_run_is_not_lost() -> None:
    wakeup, runs = Wakeup(), 0

    async def run(limit: int) -> int:
        nonlocal runs
        runs += 1
        if runs == 1:
            wakeup.wake("tests")
        return 0

    loops = Loops([Step("tests.work", run, pause_s=0.9)], wakeup=wakeup)
    loops.start()
    took_s = await _until(lambda: runs == 2)
    await loops.stop()

    assert took_s < 0.08


async def test_a_failing_step_is_tried_again_and_holds_up_nobody() -> None:
    failures = 0

    async def fail(limit: int) -> int:
        nonlocal failures
        failures += 1
        raise ConnectionError("the database is away")

    runs, run = _counting([])
    loops = Loops(
        [Step("tests.fail", fail), Step("tests.work", run, pause_s=0.05)], wakeup=Wakeup()
    )
    loops.start()
    await asyncio.sleep(0.5)
    clean = await loops.stop()

    assert clean
    assert 2 <= failures <= 6
    assert len(runs) > 5


@pytest.mark.parametrize(("transient", "first_s", "most_s"), [(True, 0.1, 5.0), (False, 1.0, 30.0)])
def test_patience_grows_and_is_bounded(transient: bool, first_s: float, most_s: float) -> None:
    for failures in (1, 2, 5, 50, 5000):
        whole_s = min(first_s * 2.0 ** min(failures - 1, 20), most_s)
        for _ in range(20):
            assert whole_s / 2 <= back_off_s(failures, transient=transient) <= whole_s


async def test_stopping_lets_a_run_finish_and_cuts_off_what_does_not() -> None:
    finished: list[str] = []

    def slow(name: str, s: float) -> Step:
        async def run(limit: int) -> int:
            await asyncio.sleep(s)
            finished.append(name)
            return 1

        return Step(name, run)

    loops = Loops([slow("tests.short", 0.2), slow("tests.long", 30)], wakeup=Wakeup())
    loops.start()
    await asyncio.sleep(0.05)
    started = time.monotonic()
    clean = await loops.stop(within_s=0.5)

    assert not clean
    assert finished == ["tests.short"]
    assert time.monotonic() - started < 1.0


async def test_commits_of_another_process_are_noticed(
    database_url: str, service_database: Any, make_tenant: Any, emit: Any
) -> None:
    from datetime import UTC, datetime

    from subledger.contracts.events import Event

    here, there = Wakeup(), Wakeup()
    runs, run = _counting([])
    watched = service_database(database_url, "identity", wakeup=here)
    loops = Loops([Step("tests.work", run, pause_s=0.9)], wakeup=here, watched=watched)
    tenant_id = await make_tenant(database_url)
    loops.start()
    await asyncio.sleep(0.6)
    before = len(runs)

    event = Event("tests.happened", tenant_id, tenant_id, {}, datetime.now(UTC))
    await emit(service_database(database_url, "billing", wakeup=there), event)
    took_s = await _until(lambda: len(runs) > before)
    await loops.stop()

    assert took_s < 0.5
