"""One process of all services: refused under a mighty role, true through JSON."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from sqlalchemy.engine import make_url

from subledger.hosts import invariants
from subledger.hosts.assembly import (
    SERVICES,
    Assembly,
    Options,
    UnsafeRole,
    assemble,
    refuse_unsafe_roles,
)
from subledger.hosts.loops import Loops
from subledger.hosts.problems import HostProblem
from subledger.platform import migrate
from subledger.platform.db import story
from subledger.services.identity.usecases.create_tenants import TenantRequest, create_tenants

_TEST = story("tests.assembly")


def _options(url: str, secret_key: str, **changed: Any) -> Options:
    return Options(
        url_of=lambda name: migrate.service_url(url, name, secret_key),
        secret_key=secret_key,
        pool_size=3,
        **changed,
    )


@pytest.fixture
async def house(database_url: str, secret_key: str) -> AsyncIterator[Assembly]:
    """All services at work, every question between them sent through JSON."""
    assembly = assemble(_options(database_url, secret_key, through_json=True))
    await assembly.memory.catch_up()
    loops = Loops(assembly.steps, wakeup=assembly.wakeup, watched=assembly.databases["identity"])
    loops.start()
    yield assembly
    assert await loops.stop()
    await assembly.close()


async def test_the_services_roles_are_accepted(database_url: str, secret_key: str) -> None:
    await refuse_unsafe_roles(_options(database_url, secret_key).url_of)


@pytest.mark.parametrize("power", ["SUPERUSER", "BYPASSRLS", "IN ROLE subledger_owner NOINHERIT"])
async def test_a_mighty_role_is_refused(
    database_url: str, secret_key: str, admin: Any, power: str
) -> None:
    connection = await admin(database_url)
    name = f"mighty_{power.split(maxsplit=1)[0].lower()}"
    await connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'mighty' {power}")
    mighty = make_url(database_url).set(username=name, password="mighty")
    good = _options(database_url, secret_key).url_of

    def url_of(service: str) -> str:
        return mighty.render_as_string(False) if service == "payments" else good(service)

    try:
        with pytest.raises(UnsafeRole, match=name):
            await refuse_unsafe_roles(url_of)
    finally:
        await connection.execute(f"DROP ROLE {name}")
        await connection.close()


def test_an_unknown_service_is_named() -> None:
    with pytest.raises(HostProblem, match="no service bills"):
        assemble(
            Options(url_of=lambda _: "postgresql+asyncpg://x/y", secret_key="x", only=["bills"])
        )


async def test_a_process_runs_what_it_was_asked_to_run(database_url: str, secret_key: str) -> None:
    assembly = assemble(_options(database_url, secret_key, only=["billing", "identity"]))

    assert [each.name for each in assembly.running] == ["identity", "billing"]
    assert {each.name.partition(".")[0] for each in assembly.steps} == {"identity", "billing"}
    assert len(assembly.services) == len(SERVICES)
    transport = httpx.ASGITransport(app=assembly.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    await assembly.close()
    assert "/v1/customers" in paths
    assert "/v1/payments" not in paths


async def test_buying_and_three_months_through_json(house: Assembly) -> None:
    start, tenant = datetime(2026, 1, 10, 12, tzinfo=UTC), house.databases["identity"].ids.new()
    async with house.databases["identity"].transaction(_TEST) as tx:
        requests = [
            TenantRequest(tenant_id=house.databases["identity"].ids.new(), name="Cinema One"),
            TenantRequest(tenant, "Rehearsal", house.databases["identity"].ids.new(), start),
        ]
        _, sandbox = await create_tenants(tx, requests)
    transport = httpx.ASGITransport(app=house.app)
    async with httpx.AsyncClient(
        transport=transport,
        base_url="http://test",
        headers={"Authorization": f"Bearer {sandbox.key}"},
        timeout=30,
    ) as client:
        bought = await _buy(client)
        assert bought["status"] == "active"

        # A move to where the clock stands waits for what the purchase still has to do.
        settle = await client.post("/v1/clock-moves", json={"to_at": "2026-01-10T12:00:00Z"})
        assert (await _finished(client, settle.headers["Location"]))["steps"] == 0

        move = await client.post("/v1/clock-moves", json={"to_at": "2026-04-10T12:00:00Z"})
        assert move.status_code == 202, move.text
        done = await _finished(client, move.headers["Location"])

        assert (done["status"], done["steps"]) == ("done", 3)
        assert done["result"] == {
            "events": {
                "entitlement.granted": 3,
                "invoice.finalized": 3,
                "invoice.paid": 3,
                "payment.succeeded": 3,
                "subscription.renewed": 3,
                "subscriptions.renew_required": 3,
            },
            "blocked": [],
            "waits": [],
            "keeps_moving": [],
        }
        customer = bought["customer_id"]
        access = await client.get(f"/v1/access/{customer}/film-1")
        assert access.json()["allowed"] is True
    assert await invariants.violations(house) == []


async def _buy(client: httpx.AsyncClient) -> Any:
    async def post(path: str, body: dict[str, Any]) -> Any:
        answer = await client.post(path, json=body)
        assert answer.status_code < 300, answer.text
        return answer.json()

    product = await post(
        "/v1/products", {"code": "basic", "name": "Basic", "resources": ["film-1"]}
    )
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
    return await post(
        "/v1/subscriptions",
        {
            "customer_id": customer["id"],
            "plan_id": plan["id"],
            "payment_method_id": method["id"],
        },
    )


async def _finished(client: httpx.AsyncClient, location: str) -> Any:
    async with asyncio.timeout(60):
        while True:
            move = (await client.get(location)).json()
            if move["status"] != "moving":
                return move
            await asyncio.sleep(0.05)
