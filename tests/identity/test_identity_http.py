"""Tenants, keys, sandboxes and clock moves through HTTP, with identity's own key ring."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from subledger.hosts.gateway import build_app
from subledger.platform.db import Database, story
from subledger.platform.ids import Ids
from subledger.services.identity import wiring
from subledger.services.identity.clock.mover import ClockMover
from subledger.services.identity.usecases.create_tenants import (
    Opened,
    TenantRequest,
    create_tenants,
)
from subledger.services.identity.usecases.delete_tenant import delete_tenant

_TEST = story("tests.identity_http")
Ask = Callable[..., Awaitable[httpx.Response]]


@dataclass
class Door:
    """The running application, and a live tenant's first key."""

    client: httpx.AsyncClient
    database: Database
    url: str
    live: Opened
    mover: ClockMover

    async def ask(self, key: str, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key}", **options.pop("headers", {})}
        return await self.client.request(method, path, headers=headers, **options)

    async def reopen(self) -> None:
        """A gateway that remembers no answer, as it is a second later."""
        service = wiring.build(database=self.database)
        app = build_app([service], key_ring=service.attributes["key_ring"])  # type: ignore[arg-type]  # attributes are objects by name
        await self.client.aclose()
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://test"
        )


@pytest.fixture
async def door(database_url: str, service_database: Any) -> AsyncIterator[Door]:
    database: Database = service_database(database_url, "identity")
    service = wiring.build(database=database)
    ring, mover = service.attributes["key_ring"], service.attributes["mover"]
    assert isinstance(mover, ClockMover)
    transport = httpx.ASGITransport(app=build_app([service], key_ring=ring))  # type: ignore[arg-type]  # attributes are objects by name
    async with database.transaction(_TEST) as tx:
        (live,) = await create_tenants(
            tx, [TenantRequest(tenant_id=Ids().new(), name="Cinema One")]
        )
    client = httpx.AsyncClient(transport=transport, base_url="http://test")
    opened = Door(client=client, database=database, url=database_url, live=live, mover=mover)
    yield opened
    await opened.client.aclose()


async def test_a_key_leads_to_its_tenant(door: Door) -> None:
    answer = await door.ask(door.live.key, "GET", "/v1/tenant")

    assert answer.status_code == 200, answer.text
    tenant = answer.json()
    assert (tenant["name"], tenant["mode"], tenant["live_tenant_id"]) == (
        "Cinema One",
        "live",
        None,
    )


@pytest.mark.parametrize(
    "credential", ["", "sk_live_", "sk_live_" + "a" * 43, "sk_test_" + "é" * 43, "nonsense"]
)
async def test_other_credentials_lead_nowhere(door: Door, credential: str) -> None:
    headers = {b"authorization": b"Bearer " + credential.encode()}
    answer = await door.client.get("/v1/tenant", headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


async def test_a_key_whose_prefix_lies_about_the_mode_leads_nowhere(door: Door) -> None:
    lying = door.live.key.replace("sk_live_", "sk_test_")

    assert (await door.ask(lying, "GET", "/v1/tenant")).status_code == 401


async def test_a_key_is_shown_once_and_its_text_is_kept_nowhere(
    door: Door, admin: Any, events_of: Any
) -> None:
    body = {"name": "Reports", "role": "read"}
    named = {"Idempotency-Key": "key-1"}
    first = await door.ask(door.live.key, "POST", "/v1/api-keys", json=body, headers=named)
    again = await door.ask(door.live.key, "POST", "/v1/api-keys", json=body, headers=named)

    assert (first.status_code, again.status_code) == (201, 201)
    created = first.json()
    assert created["key"].startswith("sk_live_")
    assert created["key"].endswith(created["last_four"])
    assert again.json() == created | {"key": None}
    assert again.headers["Idempotent-Replayed"] == "true"
    connection = await admin(door.url)
    dump = str(
        await connection.fetch(
            "SELECT k::text, e::text FROM identity.api_keys k, eventlog.events e"
        )
    )
    await connection.close()
    assert created["key"] not in dump
    assert created["key"].encode().hex() not in dump
    events = await events_of(door.url, door.live.tenant_id)
    assert [kind for kind, _ in events] == ["api_key.created", "api_key.created"]
    assert {"api_key_id": created["id"], "role": "read"} in [data for _, data in events]

    reader = created["key"]
    assert (await door.ask(reader, "GET", "/v1/api-keys")).status_code == 200
    refused = await door.ask(reader, "POST", "/v1/api-keys", json=body)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")


async def test_a_revoked_key_is_refused_and_the_last_admin_key_stays(door: Door) -> None:
    body = {"name": "Second", "role": "admin"}
    second = (await door.ask(door.live.key, "POST", "/v1/api-keys", json=body)).json()
    listed = (await door.ask(door.live.key, "GET", "/v1/api-keys")).json()["data"]
    assert [each["name"] for each in listed] == ["First key", "Second"]
    first_id = listed[0]["id"]

    answer = await door.ask(second["key"], "DELETE", f"/v1/api-keys/{first_id}")
    repeated = await door.ask(second["key"], "DELETE", f"/v1/api-keys/{first_id}")
    last = await door.ask(second["key"], "DELETE", f"/v1/api-keys/{second['id']}")

    assert (answer.status_code, repeated.status_code) == (204, 204)
    assert (last.status_code, last.json()["code"]) == (409, "last_admin_key")
    shown = (await door.ask(second["key"], "GET", f"/v1/api-keys/{first_id}")).json()
    assert shown["revoked_at"] is not None
    await door.reopen()
    assert (await door.ask(door.live.key, "GET", "/v1/tenant")).status_code == 401
    assert (await door.ask(second["key"], "GET", "/v1/tenant")).status_code == 200


async def test_a_sandbox_is_a_tenant_of_its_own_with_its_own_clock(door: Door) -> None:
    body = {"name": "Rehearsal", "clock_at": "2026-03-01T00:00:00+01:00"}
    named = {"Idempotency-Key": "sandbox-1"}
    first = await door.ask(door.live.key, "POST", "/v1/sandboxes", json=body, headers=named)
    again = await door.ask(door.live.key, "POST", "/v1/sandboxes", json=body, headers=named)
    assert first.status_code == 201, first.text
    sandbox = first.json()
    assert again.json() == sandbox | {"key": None}
    key = sandbox["key"]

    clock = (await door.ask(key, "GET", "/v1/clock")).json()
    assert clock == {"mode": "sandbox", "now_at": "2026-02-28T23:00:00Z", "clock_move_id": None}
    listed = (await door.ask(door.live.key, "GET", "/v1/sandboxes")).json()["data"]
    assert [each["id"] for each in listed] == [sandbox["id"]]
    nested = await door.ask(key, "POST", "/v1/sandboxes", json=body)
    assert (nested.status_code, nested.json()["code"]) == (409, "sandbox_needs_live_key")
    keys = (await door.ask(key, "GET", "/v1/api-keys")).json()["data"]
    theirs = await door.ask(door.live.key, "GET", f"/v1/api-keys/{keys[0]['id']}")
    assert theirs.status_code == 404


async def test_a_clock_move_is_followed_at_its_location(door: Door) -> None:
    body = {"name": "Rehearsal", "clock_at": "2026-03-01T00:00:00Z"}
    key = (await door.ask(door.live.key, "POST", "/v1/sandboxes", json=body)).json()["key"]

    live = await door.ask(
        door.live.key, "POST", "/v1/clock-moves", json={"to_at": "2036-01-01T00:00:00Z"}
    )
    back = await door.ask(key, "POST", "/v1/clock-moves", json={"to_at": "2026-02-01T00:00:00Z"})
    move = await door.ask(key, "POST", "/v1/clock-moves", json={"to_at": "2026-04-01T00:00:00Z"})
    second = await door.ask(key, "POST", "/v1/clock-moves", json={"to_at": "2026-05-01T00:00:00Z"})

    assert (live.status_code, live.json()["code"]) == (409, "clock_is_live")
    assert (back.status_code, back.json()["code"]) == (422, "clock_backwards")
    assert back.json()["pointer"] == "/to_at"
    assert (move.status_code, move.json()["status"]) == (202, "moving")
    assert (second.status_code, second.json()["code"]) == (409, "clock_is_moving")
    assert second.json()["clock_move_id"] == move.json()["id"]
    location = move.headers["Location"]
    assert location == f"/v1/clock-moves/{move.json()['id']}"
    clock = (await door.ask(key, "GET", "/v1/clock")).json()
    assert clock["clock_move_id"] == move.json()["id"]

    assert await door.mover.step(10) == 1

    done = (await door.ask(key, "GET", location)).json()
    assert (done["status"], done["reached_at"], done["steps"]) == (
        "done",
        "2026-04-01T00:00:00Z",
        0,
    )
    assert (await door.ask(key, "GET", "/v1/clock-moves")).json()["data"] == [done]
    assert (await door.ask(door.live.key, "GET", location)).status_code == 404


async def test_a_deleted_tenant_is_gone_with_its_sandboxes(door: Door) -> None:
    body = {"name": "Rehearsal", "clock_at": "2026-03-01T00:00:00Z"}
    key = (await door.ask(door.live.key, "POST", "/v1/sandboxes", json=body)).json()["key"]

    async with door.database.transaction(_TEST) as tx:
        assert len(await delete_tenant(tx, door.live.tenant_id)) == 2

    await door.reopen()
    for each in (door.live.key, key):
        for path in ("/v1/tenant", "/v1/clock", "/v1/api-keys"):
            assert (await door.ask(each, "GET", path)).status_code == 401


@pytest.mark.parametrize(
    "body",
    [
        {"to_at": "2026-04-01"},
        {"to_at": "tomorrow"},
        {"to_at": "2026-04-01T00:00:00Z", "speed": 2},
        {},
    ],
)
async def test_bad_moves_are_refused(door: Door, body: dict[str, Any]) -> None:
    answer = await door.ask(door.live.key, "POST", "/v1/clock-moves", json=body)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
