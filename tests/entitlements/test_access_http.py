"""The access route: who asks, how things are named, and what a stale memory answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx
import pytest

from subledger.contracts.events import Event
from subledger.contracts.keys import Principal
from subledger.hosts.gateway import build_app
from subledger.platform import ids
from subledger.services.entitlements import http, wiring
from subledger.services.entitlements.memory import Memory

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
NEW = ids.Ids()
ANSWER_KEYS = {"allowed", "reason", "valid_until"}


@dataclass
class Ring:
    """The boundary: which key is whose."""

    keys: dict[str, UUID]
    is_away: bool = False

    async def principal(self, credential: str) -> Principal | None:
        if self.is_away:
            raise ConnectionRefusedError
        tenant_id = self.keys.get(credential)
        if tenant_id is None:
            return None
        return Principal(tenant_id=tenant_id, id=credential, role="read", mode="sandbox")


class Seconds:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class House:
    customer: UUID
    seconds: Seconds
    ring: Ring
    apps: dict[str, Any]

    async def get(
        self,
        path: str,
        *,
        key: str | None = "sk_test_one",
        when: str = "problem",
        method: str = "GET",
        **headers: str,
    ) -> httpx.Response:
        if key is not None:
            headers["authorization"] = f"Bearer {key}"
        transport = httpx.ASGITransport(app=self.apps[when])
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, headers=headers)


@pytest.fixture
async def house(database_url: str, service_database: Any, make_tenant: Any, emit: Any) -> House:
    database = service_database(database_url, "entitlements")
    service = wiring.build(database=database)
    tenant_id = await make_tenant(database_url, now_at=START)
    other = await make_tenant(database_url, now_at=START)
    customer, product = NEW.new(), NEW.new()

    def said(kind: str, subject: UUID, **data: Any) -> Event:
        return Event(type=kind, tenant_id=tenant_id, subject=subject, data=data, occurred_at=START)

    await emit(
        database,
        said(
            "product.created",
            tenant_id,
            product_id=ids.text("prod", product),
            resources=["film/1", "фильм 2"],
        ),
        said(
            "customer.created",
            customer,
            customer_id=ids.text("cus", customer),
            external_id="viewer/7 ü",
        ),
        said(
            "subscription.activated",
            customer,
            subscription_id=ids.text("sub", NEW.new()),
            beneficiary_id=ids.text("cus", customer),
            product_id=ids.text("prod", product),
            current_period_end_at=(START + timedelta(days=31)).isoformat(),
        ),
    )
    while await service.consumers[0].step(500):
        pass
    seconds = Seconds()
    memory = Memory(database, monotonic=seconds)
    await memory.catch_up()
    ring = Ring({"sk_test_one": tenant_id, "sk_test_other": other})
    apps = {}
    for when in http.WhenStale:
        access = http.access_route(memory, ring, max_stale_s=30, when_stale=when)
        app = build_app(
            [service], key_ring=ring, plain_routes={http.ROUTE: (access, http.OPERATION)}
        )
        apps[str(when)] = http.ahead_of(app, access)
    return House(customer=customer, seconds=seconds, ring=ring, apps=apps)


async def test_both_ids_and_encoded_names_are_understood(house: House) -> None:
    for customer in (ids.text("cus", house.customer), quote("viewer/7 ü", safe="")):
        for resource in (quote("film/1", safe=""), quote("фильм 2", safe="")):
            answer = await house.get(f"/v1/access/{customer}/{resource}")
            assert answer.status_code == 200
            assert answer.json() == {
                "allowed": True,
                "reason": "active",
                "valid_until": "2026-04-01T12:00:00Z",
            }
            assert UUID(answer.headers["x-request-id"])


@pytest.mark.parametrize(
    ("path", "reason"),
    [("nobody/film%2F1", "unknown_customer"), ("viewer%2F7%20%C3%BC/film-1", "no_entitlement")],
)
async def test_a_no_is_an_answer(house: House, path: str, reason: str) -> None:
    answer = await house.get(f"/v1/access/{path}")
    assert answer.status_code == 200
    assert answer.json() == {"allowed": False, "reason": reason, "valid_until": None}


async def test_another_tenants_key_learns_nothing(house: House) -> None:
    path = f"/v1/access/{ids.text('cus', house.customer)}/film%2F1"
    answer = await house.get(path, key="sk_test_other")
    assert answer.json() == {"allowed": False, "reason": "unknown_customer", "valid_until": None}


@pytest.mark.parametrize(
    ("path", "method", "key", "status", "code"),
    [
        ("a/b", "GET", None, 401, "unauthorized"),
        ("a/b", "GET", "sk_test_wrong", 401, "unauthorized"),
        ("a/b", "POST", "sk_test_one", 405, "method_not_allowed"),
        ("a", "GET", "sk_test_one", 404, "not_found"),
        ("a/b/c", "GET", "sk_test_one", 404, "not_found"),
        ("a/", "GET", "sk_test_one", 404, "not_found"),
        ("%FF/b", "GET", "sk_test_one", 404, "not_found"),
    ],
)
async def test_refusals_are_problems(
    house: House, path: str, method: str, key: str | None, status: int, code: str
) -> None:
    request_id = "01890a5d-ac96-774b-bcce-b302099a8057"
    answer = await house.get(
        f"/v1/access/{path}", key=key, method=method, **{"x-request-id": request_id}
    )
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == request_id
    problem = answer.json()
    assert (problem["code"], problem["status"]) == (code, status)
    assert problem["request_id"] == request_id
    assert problem["fix"]


async def test_a_stale_memory_answers_by_policy(house: House) -> None:
    path = f"/v1/access/{ids.text('cus', house.customer)}/film%2F1"
    house.seconds.now = 30
    assert (await house.get(path)).json()["reason"] == "active"

    house.seconds.now = 31
    stale = await house.get(path)
    assert (stale.status_code, stale.json()["code"]) == (503, "service_unavailable")
    assert stale.headers["retry-after"] == "1"
    for when, allowed in (("allow", True), ("deny", False)):
        answer = await house.get(path, when=when)
        assert answer.json() == {"allowed": allowed, "reason": "stale", "valid_until": None}


async def test_it_goes_on_answering_while_the_database_is_away(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("subledger.platform.http.callers.CACHED_S", 0)
    path = f"/v1/access/{ids.text('cus', house.customer)}/film%2F1"
    assert (await house.get(path)).json()["allowed"]
    house.ring.is_away = True
    assert (await house.get(path)).json()["allowed"]
    stranger = await house.get(path, key="sk_test_other")
    assert (stranger.status_code, stranger.json()["code"]) == (503, "service_unavailable")


async def test_it_is_listed_in_the_openapi_document_and_hides_nothing_else(house: House) -> None:
    document = (await house.get("/openapi.json", key=None)).json()
    listed = document["paths"][http.ROUTE]["get"]
    assert (
        set(listed["responses"]["200"]["content"]["application/json"]["schema"]["properties"])
        == ANSWER_KEYS
    )
    assert {"200", "401", "404", "503"} <= set(listed["responses"])
    assert (await house.get("/healthz", key=None)).status_code == 200
