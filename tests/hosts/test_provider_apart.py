"""The sandbox provider in a process of its own, which dies in the middle of a charge."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from subledger.hosts.assembly import SERVICES
from tests.hosts.machines import Machine, finished, free_port, offer, post, subscribe


@pytest.mark.long
async def test_a_charge_whose_provider_died_is_unknown_then_true(machine: Machine) -> None:
    port = free_port()
    machine.environment["SUBLEDGER_SANDBOX_URL"] = f"http://127.0.0.1:{port}/sandbox"
    at = ("sandbox", "--port", str(port))
    # It takes the second customer's money and never answers.
    provider, _ = await machine.serve(*at, CRASH_AT="sandbox.charge.after_commit:2")
    await machine.serve(*(name for name in SERVICES if name != "sandbox"))
    async with machine.client() as client:
        plan = await offer(client)
        first = await subscribe(client, plan, "viewer-1")
        second = await subscribe(client, plan, "viewer-2")
        async with asyncio.timeout(15):
            await provider.communicate()
        (lost,) = await _payments(client, second["customer_id"])
        waiting = await _card_without_provider(client)
        await machine.serve(*at)
        await _pass(client, timedelta(minutes=10))
        (found,) = await _payments(client, second["customer_id"])
        (saved,) = await _methods(client, waiting["customer_id"])
        bought = (await client.get(f"/v1/subscriptions/{second['id']}")).json()

    assert (first["status"], second["status"]) == ("active", "incomplete")
    assert lost["status"] == "unknown"
    assert (waiting["status"], saved["status"]) == ("attaching", "active")
    assert (found["id"], found["status"]) == (lost["id"], "succeeded")
    assert bought["status"] == "active"
    code, told, _ = await machine.run("invariants")
    assert (code, told.splitlines()[-1].endswith("0 violations.")) == (0, True)


async def _card_without_provider(client: httpx.AsyncClient) -> Any:
    """Nothing can be saved at a provider that is away: the method waits for it."""
    body = {
        "external_id": "viewer-3",
        "name": "Cy",
        "email": "cy@example.com",
        "currency": "EUR",
        "timezone": "Europe/Berlin",
    }
    customer = await post(client, "/v1/customers", body)
    wanted = {"customer_id": customer["id"], "test_kind": "visa_ok"}
    return await post(client, "/v1/payment-methods", wanted)


async def _methods(client: httpx.AsyncClient, customer_id: str) -> list[dict[str, Any]]:
    answer = await client.get("/v1/payment-methods", params={"customer_id": customer_id})
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


async def _payments(client: httpx.AsyncClient, customer_id: str) -> list[dict[str, Any]]:
    answer = await client.get("/v1/payments", params={"customer_id": customer_id})
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


async def _pass(client: httpx.AsyncClient, time: timedelta) -> None:
    now_at = datetime.fromisoformat((await client.get("/v1/clock")).json()["now_at"])
    move = await client.post("/v1/clock-moves", json={"to_at": (now_at + time).isoformat()})
    assert (await finished(client, move.headers["Location"]))["status"] == "done"
