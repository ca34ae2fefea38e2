"""Notifications: signed ones are kept once and told, everything else leaves no trace."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from cryptography.fernet import Fernet, MultiFernet

from subledger.contracts.calls import Call
from subledger.contracts.endpoints import EndpointRequest
from subledger.hosts.gateway import build_app
from subledger.platform import ids
from subledger.platform.service import Service
from subledger.providers.port import Hint
from subledger.providers.sandbox.adapter import SIGNATURE, SandboxAdapter, sign
from subledger.services.webhooks import intake, wiring
from subledger.services.webhooks.intake import Intake
from subledger.services.webhooks.usecases.receive import Arrival

SECRET = "whsec_of_the_connection"


class NoKeys:
    async def principal(self, credential: str) -> None:
        return None


class Door:
    """One tenant's endpoint behind the real gateway."""

    def __init__(
        self,
        *,
        admin: asyncpg.Connection[Any],
        service: Service,
        tenant: UUID,
        connection: UUID,
        path: str,
        http: httpx.AsyncClient,
    ) -> None:
        self.admin, self.service, self.tenant = admin, service, tenant
        self.connection, self.path, self.http = connection, path, http

    async def post(
        self, body: bytes, *, secret: str = SECRET, age_s: int = 0, path: str | None = None
    ) -> httpx.Response:
        header = sign(body, secret, int(time.time()) - age_s)
        return await self.http.post(
            path or self.path,
            content=body,
            headers={SIGNATURE: header, "content-type": "application/json"},
        )

    async def told(self) -> list[dict[str, Any]]:
        rows = await self.admin.fetch(
            "SELECT data::text FROM eventlog.events WHERE tenant_id = $1 AND"
            " type = 'webhook.received' ORDER BY position",
            self.tenant,
        )
        return [json.loads(row["data"]) for row in rows]

    async def kept(self) -> list[bytes]:
        rows = await self.admin.fetch(
            "SELECT body_encrypted FROM webhooks.received WHERE tenant_id = $1", self.tenant
        )
        return [row["body_encrypted"] for row in rows]


FERNET = MultiFernet([Fernet(Fernet.generate_key())])


@pytest.fixture
async def door(module_database_url: str, service_database: Any, admin: Any) -> AsyncIterator[Door]:
    connection = await admin(module_database_url)
    tenant, live, conn = uuid4(), uuid4(), uuid4()
    await connection.execute(
        "INSERT INTO identity.tenants VALUES ($1, 'shop', 'sandbox', $2, now(), NULL)",
        *(tenant, live),
    )
    await connection.execute(
        "INSERT INTO identity.clocks (tenant_id, mode, now_at)"
        " VALUES ($1, 'sandbox', '2026-03-01T00:00:00Z')",
        tenant,
    )
    service = wiring.build(
        database=service_database(module_database_url, "webhooks"),
        adapters={"sandbox": SandboxAdapter()},
        fernet=FERNET,
    )
    endpoints: Any = service.attributes["endpoints"]
    opened = await endpoints.register(Call(tenant), EndpointRequest(conn, "sandbox", SECRET))
    http = httpx.AsyncClient(
        transport=httpx.ASGITransport(app=build_app([service], key_ring=NoKeys())),
        base_url="http://gateway.test",
    )
    yield Door(
        admin=connection,
        service=service,
        tenant=tenant,
        connection=conn,
        path=opened.path,
        http=http,
    )
    await connection.close()


def body_of(event: str, attempt: str = "att_x") -> bytes:
    return json.dumps(
        {"id": event, "type": "charge.succeeded", "data": {"attempt_id": attempt}}
    ).encode()


async def test_a_signed_notification_is_kept_encrypted_and_told_once(door: Door) -> None:
    body = body_of("cb_1")
    answers = await asyncio.gather(*(door.post(body) for _ in range(20)))

    assert {answer.status_code for answer in answers} == {200}
    assert answers[0].json() == {"received": True}
    (told,) = await door.told()
    assert told["connection_id"] == ids.text("conn", door.connection)
    assert told["hints"] == [
        {"kind": "charge.succeeded", "attempt_id": "att_x", "provider_ref": None}
    ]
    (kept,) = await door.kept()
    assert b"att_x" not in kept
    assert FERNET.decrypt(kept) == body


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"secret": "another"}, 401),
        ({"age_s": 600}, 401),
        ({"age_s": -600}, 401),
        ({"path": "/webhooks/sandbox/" + "x" * 43}, 404),
        ({"path": "/webhooks/stripe/" + "x" * 43}, 404),
        ({"path": "/webhooks/sandbox/short"}, 404),
    ],
)
async def test_what_is_not_verified_leaves_no_trace(
    door: Door, change: dict[str, Any], status: int
) -> None:
    answer = await door.post(body_of("cb_2"), **change)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert await door.told() == []
    assert await door.kept() == []


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"{}", b'{"id": 1}', b"\xff\xfe", b'{"id": "x", "data": {}', b"nonsense"),
        *(b'{"id": "", "data": {}}', b'{"id": "\\u0000", "data": {}}', b"[" * 100_000),
        *(b'{"id": "\\ud800", "data": {}}', b'{"id": "\xff", "data": {}}', body_of("x")[:-9]),
    ],
)
async def test_signed_nonsense_is_refused_clearly(door: Door, body: bytes) -> None:
    answer = await door.post(body)
    assert answer.status_code == 400, answer.text
    assert await door.kept() == []


async def test_odd_ids_do_not_break_the_log(door: Door) -> None:
    body = json.dumps({"id": "cb_3", "type": "x", "data": {"attempt_id": 7, "page_id": []}})
    assert (await door.post(body.encode())).status_code == 200
    (told,) = await door.told()
    assert told["hints"] == [{"kind": "x", "attempt_id": None, "provider_ref": None}]


async def test_an_oversized_body_is_refused(door: Door) -> None:
    answer = await door.post(b'{"id": "' + b"x" * (256 * 1024) + b'"}')
    assert (answer.status_code, answer.json()["code"]) == (413, "webhook_too_large")


async def test_notifications_are_posted(door: Door) -> None:
    for method in ("GET", "PUT", "DELETE"):
        answer = await door.http.request(method, door.path)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        assert answer.json()["code"] == "method_not_allowed"


async def test_an_unsigned_notification_is_refused(door: Door) -> None:
    answer = await door.http.post(door.path, content=body_of("cb_4"))
    assert (answer.status_code, answer.json()["code"]) == (401, "webhook_rejected")


async def test_registering_again_keeps_the_path_and_takes_the_new_secret(door: Door) -> None:
    assert (await door.post(body_of("cb_5"))).status_code == 200
    endpoints: Any = door.service.attributes["endpoints"]
    again = await endpoints.register(
        Call(door.tenant), EndpointRequest(door.connection, "sandbox", "rotated")
    )

    assert again.path == door.path
    assert (await door.post(body_of("cb_6"), secret="rotated")).status_code == 200
    assert (await door.post(body_of("cb_7"), secret=SECRET)).status_code == 401


async def test_a_caller_that_was_overtaken_changes_nothing(door: Door) -> None:
    endpoints: Any = door.service.attributes["endpoints"]

    async def told(secret: str, *, number: int, revision: int) -> str:
        given = EndpointRequest(door.connection, "sandbox", secret, number, revision)
        return str((await endpoints.register(Call(door.tenant), given)).path)

    moved = await told("newest", number=2, revision=3)
    assert moved != door.path
    assert await told("older", number=1, revision=2) == moved
    assert (await door.post(body_of("cb_1"), secret="newest", path=moved)).status_code == 200
    assert (await door.post(body_of("cb_2"), secret="older", path=moved)).status_code == 401
    assert (await door.post(body_of("cb_3"), secret="newest")).status_code == 404


async def test_bodies_are_forgotten_after_thirty_days(door: Door) -> None:
    await door.post(body_of("cb_8"))
    await door.post(body_of("cb_9"))
    await door.admin.execute(
        "UPDATE webhooks.received SET received_at = received_at - $2::interval"
        " WHERE tenant_id = $1 AND dedupe_key = 'cb_8'",
        *(door.tenant, timedelta(days=31)),
    )
    purge = door.service.steps[0]
    assert await purge.run(100) == 1
    assert len(await door.kept()) == 1


# --- commits that are shared ---------------------------------------------------------------------


async def test_two_hundred_at_once_are_all_kept_in_a_few_commits(door: Door) -> None:
    before = await _commits(door)
    answers = await asyncio.gather(*(door.post(body_of(f"cb_{n}")) for n in range(200)))

    assert {answer.status_code for answer in answers} == {200}
    assert len(await door.told()) == len(await door.kept()) == 200
    assert await _commits(door) - before <= 20


async def _commits(door: Door) -> int:
    """How many transactions have written what was received."""
    count: int = await door.admin.fetchval(
        "SELECT count(DISTINCT xmin::text) FROM webhooks.received WHERE tenant_id = $1", door.tenant
    )
    return count


def arrival(door: Door, endpoint: UUID, event: str) -> Arrival:
    return Arrival(
        tenant_id=door.tenant,
        endpoint_id=endpoint,
        connection_id=door.connection,
        trust="strong",
        body_encrypted=b"x",
        hints=[Hint(dedupe_key=event, kind="x", attempt_id=None, provider_ref=None)],
    )


async def test_one_that_the_database_refuses_fails_alone(door: Door) -> None:
    endpoint = await door.admin.fetchval(
        "SELECT id FROM webhooks.endpoints WHERE tenant_id = $1", door.tenant
    )
    taking = Intake(door.service.database)
    given = [arrival(door, endpoint, f"cb_{n}") for n in range(8)]
    given[5] = arrival(door, UUID(int=5), "cb_5")  # of no endpoint
    answers = await asyncio.gather(*map(taking.take, given), return_exceptions=True)

    assert [type(each).__name__ for each in answers] == [
        "IntegrityError" if n == 5 else "NoneType" for n in range(8)
    ]
    assert len(await door.told()) == 7


async def test_a_caller_that_hangs_up_takes_nobody_with_it(door: Door) -> None:
    endpoint = await door.admin.fetchval(
        "SELECT id FROM webhooks.endpoints WHERE tenant_id = $1", door.tenant
    )
    taking = Intake(door.service.database)
    tasks = [asyncio.create_task(taking.take(arrival(door, endpoint, f"cb_{n}"))) for n in range(6)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each).__name__ for each in answers] == ["CancelledError", *["NoneType"] * 5]
    assert len(await door.told()) == 6


async def test_more_than_can_be_taken_on_is_sent_away(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "MOST_WAITING", 3)
    answers = await asyncio.gather(*(door.post(body_of(f"cb_{n}")) for n in range(30)))
    statuses = {answer.status_code for answer in answers}
    assert statuses == {200, 503}
    assert len(await door.told()) == sum(each.status_code == 200 for each in answers)
