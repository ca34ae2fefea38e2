"""The real command in real processes: first start, signals, a taken port, death in the middle."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

_READY_WITHIN_S = 40


@dataclass
class Machine:
    """One installation: its environment, and the processes started in it."""

    environment: dict[str, str]
    port: int
    folder: Path
    started: list[asyncio.subprocess.Process] = field(default_factory=list)

    async def start(self, *arguments: str, **extra: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "subledger.hosts.cli", *arguments),
            env=self.environment | extra,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        self.started.append(process)
        return process

    async def serve(self, *arguments: str, **extra: str) -> tuple[asyncio.subprocess.Process, str]:
        """Start serving; returns when it says so, with what it said."""
        process = await self.start("serve", *arguments, **extra)
        return process, await _said(process, "Ctrl-C")

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        process = await self.start(*arguments)
        async with asyncio.timeout(_READY_WITHIN_S):
            out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    def keys(self) -> dict[str, str]:
        lines = (self.folder / "keys").read_text().splitlines()
        return dict(line.split() for line in lines)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}",
            headers={"Authorization": f"Bearer {self.keys()['sandbox']}"},
            timeout=20,
        )


async def _said(process: asyncio.subprocess.Process, word: str) -> str:
    assert process.stdout is not None
    said = ""
    async with asyncio.timeout(_READY_WITHIN_S):
        while word not in said:
            line = (await process.stdout.readline()).decode()
            assert line, f"it ended: {said} {await _errors(process)}"
            said += line
    return said


async def _errors(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    return (await process.stderr.read()).decode()[-2000:]


async def _end(process: asyncio.subprocess.Process, with_signal: signal.Signals) -> int:
    process.send_signal(with_signal)
    async with asyncio.timeout(15):
        await process.communicate()
    assert process.returncode is not None
    return process.returncode


@pytest.fixture
async def machine(database_url: str, secret_key: str, tmp_path: Path) -> AsyncIterator[Machine]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    made = Machine(
        environment=kept
        | {
            "SUBLEDGER_DATABASE_URL": database_url,
            "SUBLEDGER_SECRET_KEY": secret_key,
            "SUBLEDGER_DATA_DIR": str(tmp_path),
            "SUBLEDGER_PORT": str(port),
            "SUBLEDGER_POOL_SIZE": "3",
        },
        port=port,
        folder=tmp_path,
    )
    yield made
    for process in made.started:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def test_the_first_start_shows_keys_once_and_signals_end_it(machine: Machine) -> None:
    first, said = await machine.serve()
    keys = machine.keys()
    assert keys["live"] in said
    assert keys["sandbox"] in said
    assert stat.S_IMODE((machine.folder / "keys").stat().st_mode) == 0o600
    async with machine.client() as client:
        assert (await client.get("/v1/tenant")).json()["mode"] == "sandbox"
        assert (await client.get("/readyz")).status_code == 200

    code, _, error = await machine.run("serve")
    assert code == 1
    assert error.startswith(f"subledger: port {machine.port} on 127.0.0.1 is taken")
    assert len(error.splitlines()) == 1

    assert await _end(first, signal.SIGINT) == 0
    second, said = await machine.serve()
    assert "sk_live_" not in said
    assert machine.keys() == keys
    assert await _end(second, signal.SIGTERM) == 0


async def test_killed_in_the_middle_of_a_clock_move_it_goes_on(machine: Machine) -> None:
    # The mover's third iteration never commits, whatever it had decided.
    process, _ = await machine.serve(CRASH_AT="identity.move_clock.before_commit:3")
    async with machine.client() as client:
        now_at = datetime.fromisoformat((await client.get("/v1/clock")).json()["now_at"])
        await _buy(client)
        body = {"to_at": (now_at + timedelta(days=100)).isoformat()}
        move = await client.post("/v1/clock-moves", json=body)
        assert move.status_code == 202, move.text
    async with asyncio.timeout(30):
        await process.communicate()
    assert process.returncode == -signal.SIGKILL

    await machine.serve()
    async with machine.client() as client:
        done = await _finished(client, move.headers["Location"])

    assert (done["status"], done["steps"]) == ("done", 3)
    assert done["result"]["events"]["subscription.renewed"] == 3
    assert done["result"]["events"]["payment.succeeded"] == 3
    code, said, _ = await machine.run("invariants")
    assert (code, said.splitlines()[-1].endswith("0 violations.")) == (0, True)


async def test_serve_and_worker_share_the_work(machine: Machine) -> None:
    await machine.serve("identity", "billing", "webhooks", "entitlements")
    worker = await machine.start("worker", "payments", "scheduler", "sandbox")
    await _said(worker, "Ctrl-C")
    # Payment methods and subscriptions need routes of payments: they are served elsewhere.
    async with machine.client() as client:
        assert (await client.get("/v1/payments")).status_code == 404
        clock = (await client.get("/v1/clock")).json()
        move = await client.post("/v1/clock-moves", json={"to_at": clock["now_at"]})
        assert (await _finished(client, move.headers["Location"]))["status"] == "done"
    assert await _end(worker, signal.SIGTERM) == 0


async def test_tenants_by_hand(machine: Machine) -> None:
    code, said, _ = await machine.run("tenant", "create", "Cinema One")
    assert code == 0
    rows = [line.split() for line in said.splitlines()[:2]]
    assert [(mode, key[:8]) for mode, _, key in rows] == [
        ("live", "sk_live_"),
        ("sandbox", "sk_test_"),
    ]
    code, said, _ = await machine.run("tenant", "delete", rows[0][1])
    assert (code, said.count("ten_")) == (0, 2)
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


async def _buy(client: httpx.AsyncClient) -> None:
    async def post(path: str, body: dict[str, Any]) -> Any:
        answer = await client.post(path, json=body)
        assert answer.status_code < 300, answer.text
        return answer.json()

    product = await post("/v1/products", {"code": "basic", "name": "Basic", "resources": ["a"]})
    price = {
        "code": "monthly",
        "currency": "EUR",
        "model": "flat",
        "amount_minor": 999,
        "interval": {"unit": "month", "count": 1},
    }
    plan = await post(
        "/v1/plans",
        {"code": "basic", "name": "Basic", "product_id": product["id"], "prices": [price]},
    )
    customer = await post(
        "/v1/customers",
        {
            "external_id": "viewer-1",
            "name": "Ada",
            "email": "ada@example.com",
            "currency": "EUR",
            "timezone": "Europe/Berlin",
            "locale": "en",
        },
    )
    method = await post(
        "/v1/payment-methods", {"customer_id": customer["id"], "test_kind": "visa_ok"}
    )
    wanted = {"customer_id": customer["id"], "plan_id": plan["id"]}
    bought = await post("/v1/subscriptions", wanted | {"payment_method_id": method["id"]})
    assert bought["status"] == "active"


async def _finished(client: httpx.AsyncClient, location: str) -> Any:
    async with asyncio.timeout(60):
        while True:
            move = (await client.get(location)).json()
            if move["status"] != "moving":
                return move
            await asyncio.sleep(0.1)
