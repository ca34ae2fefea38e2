"""Installations of real processes: started, asked and ended as a person would."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

KEPT = ("PATH", "HOME", "PYTHONPATH")
"""Variables that the processes get from ours."""
_READY_WITHIN_S = 40


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


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
        return process, await said(process, "Ctrl-C")

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
        """Speaks to the API with the sandbox tenant's key."""
        return httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}",
            headers={"Authorization": f"Bearer {self.keys()['sandbox']}"},
            timeout=20,
        )


async def said(process: asyncio.subprocess.Process, word: str) -> str:
    """What the process says until it says ``word``."""
    assert process.stdout is not None
    told = ""
    async with asyncio.timeout(_READY_WITHIN_S):
        while word not in told:
            line = (await process.stdout.readline()).decode()
            assert line, f"it ended: {told} {await errors(process)}"
            told += line
    return told


async def errors(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    return (await process.stderr.read()).decode()[-2000:]


async def end(process: asyncio.subprocess.Process, with_signal: signal.Signals) -> int:
    process.send_signal(with_signal)
    async with asyncio.timeout(15):
        await process.communicate()
    assert process.returncode is not None
    return process.returncode


async def buy(client: httpx.AsyncClient) -> None:
    """A customer with a saved card subscribes for 9.99 a month, and has paid."""
    plan = await offer(client)
    bought = await subscribe(client, plan, "viewer-1")
    assert bought["status"] == "active"


async def post(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> Any:
    answer = await client.post(path, json=body)
    assert answer.status_code < 300, answer.text
    return answer.json()


async def offer(client: httpx.AsyncClient) -> str:
    """A plan for 9.99 a month; its id."""

    product = await post(
        client, "/v1/products", {"code": "basic", "name": "Basic", "resources": ["a"]}
    )
    price = {
        "code": "monthly",
        "currency": "EUR",
        "model": "flat",
        "amount_minor": 999,
        "interval": {"unit": "month", "count": 1},
    }
    plan = await post(
        client,
        "/v1/plans",
        {"code": "basic", "name": "Basic", "product_id": product["id"], "prices": [price]},
    )
    return str(plan["id"])


async def subscribe(client: httpx.AsyncClient, plan: str, name: str) -> Any:
    """A new customer with a saved card subscribes; the answer."""
    customer = await post(
        client,
        "/v1/customers",
        {
            "external_id": name,
            "name": "Ada",
            "email": "ada@example.com",
            "currency": "EUR",
            "timezone": "Europe/Berlin",
            "locale": "en",
        },
    )
    method = await post(
        client, "/v1/payment-methods", {"customer_id": customer["id"], "test_kind": "visa_ok"}
    )
    wanted = {"customer_id": customer["id"], "plan_id": plan}
    return await post(client, "/v1/subscriptions", wanted | {"payment_method_id": method["id"]})


async def finished(client: httpx.AsyncClient, location: str) -> Any:
    async with asyncio.timeout(60):
        while True:
            move = (await client.get(location)).json()
            if move["status"] != "moving":
                return move
            await asyncio.sleep(0.1)
