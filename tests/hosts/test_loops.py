"""The loops that run steps: woken by commits, patient after failures, ended in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from subledger.contracts.events import Event
from subledger.hosts import loops as hosts_loops
from subledger.hosts.loops import Loops, back_off_s, ear
from subledger.platform.db import Wakeup
from subledger.platform.service import Step


async def _until(holds: Callable[[], bool], within_s: float = 10.0) -> None:
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < within_s, "it never came"
        await asyncio.sleep(0.005)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> float:
    """Steps that nobody wakes rest for so many seconds: longer than any story here lasts."""
    monkeypatch.setattr(hosts_loops, "FIRST_PAUSE_S", 60.0)
    monkeypatch.setattr(hosts_loops, "_HOUSEKEEPING_S", 60.0)
    return 60.0


def _counting(results: list[int]) -> tuple[list[int], Callable[[int], Awaitable[int]]]:
    runs: list[int] = []

    async def run(limit: int) -> int:
        runs.append(limit)
        return results.pop(0) if results else 0

    return runs, run


async def test_a_step_runs_at_once_while_it_finds_work(patient: float) -> None:
    runs, run = _counting([5, 5, 5, 5])
    loops = Loops([Step("tests.work", run, limit=7, pause_s=patient)], wakeup=Wakeup())

    loops.start()
    await _until(lambda: len(runs) == 5)
    await asyncio.sleep(0.05)
    await loops.stop()

    assert runs == [7] * 5, "once more than it found work"


async def test_a_commit_wakes_those_whom_it_concerns(patient: float) -> None:
    wakeup = Wakeup()
    names = ("own.step", "other.step", "other.consume", "other.mover")
    counted = {name: _counting([]) for name in names}
    loops = Loops(
        [
            Step("own.step", counted["own.step"][1], pause_s=patient),
            Step("other.step", counted["other.step"][1], pause_s=patient),
            Step(
                "other.consume",
                counted["other.consume"][1],
                pause_s=patient,
                types=frozenset({"invoice.paid"}),
            ),
            Step("other.mover", counted["other.mover"][1], pause_s=patient, hears_all=True),
        ],
        wakeup=wakeup,
    )
    loops.start()
    await _until(lambda: all(runs for runs, _ in counted.values()))

    wakeup.wake("own", {"invoice.paid"})
    concerned = {"own.step", "other.consume", "other.mover"}
    await _until(lambda: all(len(counted[name][0]) == 2 for name in concerned))
    await asyncio.sleep(0.05)
    await loops.stop()

    assert {name: len(runs) for name, (runs, _) in counted.items()} == {
        "own.step": 2, "other.step": 1, "other.consume": 2, "other.mover": 2,
    }  # fmt: skip


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


async def test_a_commit_during_the_run_is_not_lost(patient: float) -> None:
    wakeup, runs = Wakeup(), 0

    async def run(limit: int) -> int:
        nonlocal runs
        runs += 1
        if runs == 1:
            wakeup.wake("tests")
        return 0

    loops = Loops([Step("tests.work", run, pause_s=patient)], wakeup=wakeup)
    loops.start()
    await _until(lambda: runs == 2)
    await loops.stop()


async def test_a_failing_step_is_tried_again_and_holds_up_nobody() -> None:
    failed_at: list[float] = []

    async def fail(limit: int) -> int:
        failed_at.append(time.monotonic())
        raise ConnectionError("the database is away")

    runs, run = _counting([])
    loops = Loops(
        [Step("tests.fail", fail), Step("tests.work", run, pause_s=0.05)], wakeup=Wakeup()
    )
    loops.start()
    await _until(lambda: len(failed_at) >= 3 and len(runs) > 5)
    clean = await loops.stop()

    assert clean
    assert all(later - sooner >= 0.05 for sooner, later in pairwise(failed_at))


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

    loops = Loops([slow("tests.short", 0.1), slow("tests.long", 600)], wakeup=Wakeup())
    loops.start()
    await asyncio.sleep(0.05)
    async with asyncio.timeout(60):
        clean = await loops.stop(within_s=1.0)

    assert not clean
    assert finished == ["tests.short"]


async def test_commits_of_another_process_are_noticed(
    patient: float, database_url: str, service_database: Any, make_tenant: Any, emit: Any
) -> None:
    here, there = Wakeup(), Wakeup()
    runs, run = _counting([])
    watched = service_database(database_url, "identity", wakeup=here)
    loops = Loops([Step("tests.work", run, pause_s=patient)], wakeup=here, watched=watched)
    tenant_id = await make_tenant(database_url)
    loops.start()
    await _until(lambda: len(runs) == 1)

    other = service_database(database_url, "billing", wakeup=there)
    for _ in range(20):  # the first may be there before the watcher has looked where the log ends
        await emit(other, Event("tests.happened", tenant_id, tenant_id, {}, datetime.now(UTC)))
        await asyncio.sleep(0.5)
        if len(runs) > 1:
            break
    await loops.stop()

    assert len(runs) > 1
