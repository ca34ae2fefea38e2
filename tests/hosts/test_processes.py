"""The real command in real processes: first start, signals, a taken port, death in the middle."""

from __future__ import annotations

import asyncio
import signal
import stat
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.hosts.machines import Machine, buy, end, finished, said


async def test_the_first_start_shows_keys_once_and_signals_end_it(machine: Machine) -> None:
    first, told = await machine.serve()
    keys = machine.keys()
    assert keys["live"] in told
    assert keys["sandbox"] in told
    assert stat.S_IMODE((machine.folder / "keys").stat().st_mode) == 0o600
    async with machine.client() as client:
        assert (await client.get("/v1/tenant")).json()["mode"] == "sandbox"
        assert (await client.get("/readyz")).status_code == 200

    code, _, error = await machine.run("serve")
    assert code == 1
    assert error.startswith(f"subledger: port {machine.port} on 127.0.0.1 is taken")
    assert len(error.splitlines()) == 1

    assert await end(first, signal.SIGINT) == 0
    second, told = await machine.serve()
    assert "sk_live_" not in told
    assert machine.keys() == keys
    assert await end(second, signal.SIGTERM) == 0


@pytest.mark.long
async def test_killed_in_the_middle_of_a_clock_move_it_goes_on(machine: Machine) -> None:
    # The second renewal's moment is opened and never committed. The shop is quiet then: a death
    # during a charge leaves it unknown, to be asked about at a moment more (the sweep sees to it).
    process, _ = await machine.serve(CRASH_AT="identity.move_clock.after_open:2")
    async with machine.client() as client:
        now_at = datetime.fromisoformat((await client.get("/v1/clock")).json()["now_at"])
        await buy(client)
        body = {"to_at": (now_at + timedelta(days=100)).isoformat()}
        move = await client.post("/v1/clock-moves", json=body)
        assert move.status_code == 202, move.text
    async with asyncio.timeout(30):
        await process.communicate()
    assert process.returncode == -signal.SIGKILL

    await machine.serve()
    async with machine.client() as client:
        done = await finished(client, move.headers["Location"])

    assert (done["status"], done["steps"]) == ("done", 3)
    assert done["result"]["events"]["subscription.renewed"] == 3
    assert done["result"]["events"]["payment.succeeded"] == 3
    code, told, _ = await machine.run("invariants")
    assert (code, told.splitlines()[-1].endswith("0 violations.")) == (0, True)


async def test_serve_and_worker_share_the_work(machine: Machine) -> None:
    await machine.serve("identity", "billing", "webhooks", "entitlements")
    worker = await machine.start("worker", "payments", "scheduler", "sandbox")
    await said(worker, "Ctrl-C")
    # Payment methods and subscriptions need routes of payments: they are served elsewhere.
    async with machine.client() as client:
        assert (await client.get("/v1/payments")).status_code == 404
        clock = (await client.get("/v1/clock")).json()
        move = await client.post("/v1/clock-moves", json={"to_at": clock["now_at"]})
        assert (await finished(client, move.headers["Location"]))["status"] == "done"
    assert await end(worker, signal.SIGTERM) == 0


@pytest.mark.long
async def test_tenants_by_hand(machine: Machine) -> None:
    code, told, _ = await machine.run("tenant", "create", "Cinema One")
    assert code == 0
    rows = [line.split() for line in told.splitlines()[:2]]
    assert [(mode, key[:8]) for mode, _, key in rows] == [
        ("live", "sk_live_"),
        ("sandbox", "sk_test_"),
    ]
    code, told, _ = await machine.run("tenant", "delete", rows[0][1])
    assert (code, told.count("ten_")) == (0, 2)
    code, _, error = await machine.run("tenant", "delete", rows[0][1])
    assert (code, error) == (1, "subledger: There is no such tenant.\n")


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({"SUBLEDGER_PORT": "none"}, "SUBLEDGER_PORT"),
        ({"SUBLEDGER_SECRET_KEY": ""}, "SUBLEDGER_SECRET_KEY"),
        ({"SUBLEDGER_DATABASE_URL": "mysql://x/y"}, "SUBLEDGER_DATABASE_URL"),
        ({"SUBLEDGER_DATABASE_URL": "postgresql://127.0.0.1:1/none"}, "subledger: "),
        ({"CRASH_AT": "nowhere:1"}, "CRASH_AT names no crash point"),
    ],
)
async def test_what_is_wrong_is_said_without_a_traceback(
    machine: Machine, changed: dict[str, Any], wanted: str
) -> None:
    machine.environment |= changed

    code, _, error = await machine.run("serve")

    assert code == 1
    assert wanted in error
    assert "Traceback" not in error
