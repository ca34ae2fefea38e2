"""Every answer has an id and every error is a problem, whoever raised it."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import httpx
import pytest
import structlog
from shelf import Ring, Shelf, open_shelf

from subledger.contracts.keys import Principal
from subledger.hosts.gateway import build_app
from subledger.platform.db import Database
from subledger.platform.eventlog.writer import append
from subledger.platform.http.callers import CACHED_S
from subledger.platform.http.middleware import Front
from subledger.platform.ids import Ids
from subledger.platform.service import Service
from subledger.platform.telemetry import metrics

MEMBERS = {"type", "title", "status", "detail", "code", "fix", "request_id"}


def _is_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    problem: dict[str, Any] = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert set(problem) >= MEMBERS
    assert problem["type"] == f"/docs/problems#{code}"
    assert problem["request_id"] == answer.headers["x-request-id"]
    return problem


async def test_who_is_calling_has_to_be_known(shelf: Shelf) -> None:
    for header in ({}, {"authorization": "Basic x"}, {"authorization": "Bearer "}):
        answer = await shelf.ask("GET", "/v1/books", key=None, headers=header)
        _is_problem(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
    _is_problem(await shelf.ask("GET", "/v1/books", key="unknown"), 401, "unauthorized")


async def test_a_reader_cannot_write_and_is_told_before_its_input_is_judged(shelf: Shelf) -> None:
    answer = await shelf.ask("POST", "/v1/books", key="read", json={"surprise": 1})

    _is_problem(answer, 403, "forbidden")
    assert (await shelf.ask("GET", "/v1/books", key="read")).status_code == 200


async def test_another_tenants_book_does_not_exist(shelf: Shelf) -> None:
    book = (await shelf.put("Solaris", idempotency_key="k")).json()

    assert (await shelf.ask("GET", f"/v1/books/{book['id']}")).json() == book
    foreign = await shelf.ask("GET", f"/v1/books/{book['id']}", key="other")
    _is_problem(foreign, 404, "not_found")
    assert "Solaris" not in foreign.text


async def test_other_methods(shelf: Shelf) -> None:
    for method in ("DELETE", "PUT", "OPTIONS", "PROPFIND"):
        answer = await shelf.ask(method, "/v1/books")
        _is_problem(answer, 405, "method_not_allowed")
        assert answer.headers["allow"]
    assert (await shelf.ask("HEAD", "/v1/books")).status_code == 405


async def test_an_unforeseen_error_tells_nothing_of_itself(shelf: Shelf) -> None:
    with structlog.testing.capture_logs() as logged:
        answer = await shelf.put("broken", idempotency_key="k")

    problem = _is_problem(answer, 500, "internal_error")
    assert "secret" not in json.dumps(problem)
    failed = next(each for each in logged if each["event"] == "request.failed")
    assert str(failed["exc_info"]) == "the secret text of an error"
    assert await shelf.titles() == []


async def test_what_the_core_refuses(shelf: Shelf) -> None:
    refused = _is_problem(await shelf.put("core", idempotency_key="k"), 422, "invalid_request")
    assert (refused["pointer"], refused["fix"], refused["reason"]) == (
        "/price_minor",
        "Use another.",
        "invalid_price",
    )
    _is_problem(await shelf.put("ended", idempotency_key="k"), 409, "conflict")


async def test_a_request_that_takes_too_long(shelf: Shelf) -> None:
    patient = Front(shelf.app, Ids(), timeout_s=0.1)
    transport = httpx.ASGITransport(app=patient)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        headers = {"authorization": "Bearer sk_live_read"}
        answer = await client.get("/v1/books/wait/3", headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (504, "timeout")


@pytest.mark.parametrize(
    ("prefer", "wait_s"),
    [
        (None, 10),
        ("wait=3", 3),
        ("respond-async, wait=0", 0),
        ("wait=9999999", 30),
        ("wait=-1", 10),
        ("wait=x", 10),
    ],
)
async def test_how_long_a_caller_waits(shelf: Shelf, prefer: str | None, wait_s: float) -> None:
    headers = {} if prefer is None else {"prefer": prefer}
    answer = await shelf.ask("GET", "/v1/books/wait/0", headers=headers)

    assert answer.json() == {"wait_s": wait_s}


async def test_request_ids_are_kept_if_they_are_uuids(shelf: Shelf) -> None:
    mine = "01890a5d-ac96-774b-bcce-b302099a8057"
    kept = await shelf.ask("GET", "/healthz", key=None, headers={"x-request-id": mine})
    made = await shelf.ask("GET", "/healthz", key=None, headers={"x-request-id": "x'\"<y>"})

    assert kept.headers["x-request-id"] == mine
    assert UUID(made.headers["x-request-id"]).version == 7


async def test_pages_follow_each_other(shelf: Shelf) -> None:
    put = [(await shelf.put(f"{n}", idempotency_key=f"k{n}")).json() for n in range(5)]
    seen: list[dict[str, str]] = []
    cursor, rounds = "", 0
    while True:
        page = (await shelf.ask("GET", f"/v1/books?limit=2{cursor}")).json()
        seen += page["data"]
        rounds += 1
        assert page["has_more"] == (page["next_cursor"] is not None)
        if not page["has_more"]:
            break
        cursor = f"&cursor={page['next_cursor']}"

    assert (seen, rounds) == (put, 3)


async def test_a_key_is_asked_for_once_a_second(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        await shelf.ask("GET", "/v1/books")
    assert shelf.ring.asked == 1

    del shelf.ring.principals["sk_live_admin"]
    import time

    later = time.monotonic() + CACHED_S + 0.01
    monkeypatch.setattr(time, "monotonic", lambda: later)

    assert (await shelf.ask("GET", "/v1/books")).status_code == 401


async def test_other_tokens_go_to_their_verifier(shelf: Shelf) -> None:
    class Tokens:
        async def principal(self, token: str) -> Principal | None:
            known = Principal(shelf.tenant_id, "user-1", "read", "live")
            return known if token == "eyJ.user.token" else None

    ring = Ring()
    app = build_app([], key_ring=ring, tokens=Tokens())
    keeper = app._app.state.doorkeeper  # type: ignore[attr-defined]  # the seam under test

    assert (await keeper.admit("Bearer eyJ.user.token")).id == "user-1"
    assert ring.asked == 0


async def test_logs_and_metrics_know_the_route_and_the_tenant(shelf: Shelf) -> None:
    labels = {"method": "GET", "route": "/v1/books/{book_id}", "status": "422"}
    before = metrics.registry.get_sample_value("subledger_requests_total", labels) or 0
    with structlog.testing.capture_logs() as logged:
        await shelf.ask("GET", "/v1/books/book_01h455vb4pex5vsknk084sn02q?secret=1")
        await shelf.ask("GET", "/nowhere/at/all")
        await shelf.ask("GET", "/healthz")

    lines = [each for each in logged if each["event"] == "request"]
    assert [(each["route"], each["status"]) for each in lines] == [
        ("/v1/books/{book_id}", 422),
        ("unmatched", 404),
        ("/healthz", 200),
    ]
    assert [each["tenant"] for each in lines] == [str(shelf.tenant_id), "", ""]
    assert "secret" not in str(lines)
    assert metrics.registry.get_sample_value("subledger_requests_total", labels) == before + 1
    exposed = (await shelf.ask("GET", "/metrics", key=None)).text
    assert 'route="/v1/books/{book_id}"' in exposed
    assert "subledger_requests_in_flight 1.0" in exposed


async def test_ready_means_a_real_answer_of_this_releases_schema(
    shelf: Shelf, admin: Any, database_url: str, service_database: Any, make_tenant: Any
) -> None:
    assert (await shelf.ask("GET", "/readyz", key=None)).json() == {"status": "ready"}

    async with open_shelf(
        url=database_url,
        service_database=service_database,
        make_tenant=make_tenant,
        admin=admin,
    ) as behind:
        connection = await admin(database_url)
        await connection.execute("UPDATE identity.schema_version SET version_num = 'older'")
        await connection.close()
        answer = await behind.ask("GET", "/readyz", key=None)
    problem = _is_problem(answer, 503, "service_unavailable")
    assert problem["broken"] == {"identity": "migrations"}


async def test_a_database_that_is_away_is_no_unforeseen_error(shelf: Shelf) -> None:
    gone = Database(url="postgresql+asyncpg://nobody:x@127.0.0.1:1/none", append=append)
    working = shelf.database.engine
    shelf.database.engine = gone.engine
    try:
        answer = await shelf.ask("GET", "/v1/books")
        ready = await shelf.ask("GET", "/readyz", key=None)
    finally:
        shelf.database.engine = working
        await gone.close()

    _is_problem(answer, 503, "service_unavailable")
    assert answer.headers["retry-after"] == "1"
    assert _is_problem(ready, 503, "service_unavailable")["broken"] == {"identity": "unreachable"}
    assert (await shelf.ask("GET", "/healthz", key=None)).json() == {"status": "alive"}


async def test_mounted_and_plain_applications_share_the_front(shelf: Shelf) -> None:
    async def plain(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    service = Service(name="identity", database=shelf.database)
    app = build_app(
        [service],
        key_ring=shelf.ring,
        mounts={"/sandbox": plain},
        plain_routes={"/v1/quick/{name}": (plain, {"operationId": "quick", "responses": {}})},
    )
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        with structlog.testing.capture_logs() as logged:
            assert (await client.post("/sandbox/pages/1", content=b"raw")).status_code == 204
            big = await client.post("/sandbox/pages/1", content=b"x" * 2_000_000)
            assert (await client.get("/v1/quick/one")).status_code == 204
            document = (await client.get("/openapi.json")).json()

    _is_problem(big, 413, "body_too_large")
    routes = [each["route"] for each in logged if each["event"] == "request"]
    assert routes == ["/sandbox", "unmatched", "/v1/quick/{name}", "/openapi.json"]
    assert "/v1/quick/{name}" in document["paths"]
