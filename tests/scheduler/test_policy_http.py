"""The dunning policy through HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import pytest

from subledger.contracts.calls import Call
from subledger.contracts.keys import Principal
from subledger.hosts.gateway import build_app
from subledger.services.scheduler import wiring

UNSAID = {
    "delays_by_class_s": {},
    "since": "failure_before",
    "max_retries": None,
    "max_span_s": None,
    "final_at": "at_once",
    "preferred": {"hour": None, "weekdays": [], "month_days": []},
    "fallback_after": [],
    "downgrade_to_plan_id": None,
}
DEFAULT = {
    "delays_s": [86400, 259200, 432000, 604800],
    "final_action": "cancel",
    "hard_decline_stops": True,
    **UNSAID,
}
OWN = {"delays_s": [3600], "final_action": "uncollectible", "hard_decline_stops": False}


class Others:
    """The boundary: billing and payments, which know nothing here."""

    async def unknown_plans(self, _: Call, plan_ids: Sequence[UUID]) -> Sequence[UUID]:
        return plan_ids

    async def unknown_products(self, _: Call, product_ids: Sequence[UUID]) -> Sequence[UUID]:
        return product_ids


@dataclass
class Ring:
    """The boundary: which key is whose."""

    keys: dict[str, tuple[UUID, str]]

    async def principal(self, credential: str) -> Principal | None:
        if credential not in self.keys:
            return None
        tenant_id, role = self.keys[credential]
        return Principal(tenant_id=tenant_id, id=credential, role=role, mode="live")


@pytest.fixture
async def client(
    database_url: str, service_database: Any, make_tenant: Any
) -> AsyncIterator[httpx.AsyncClient]:
    tenant_id, other = await make_tenant(database_url), await make_tenant(database_url)
    ring = Ring(
        {"admin": (tenant_id, "admin"), "read": (tenant_id, "read"), "other": (other, "admin")}
    )
    others: Any = Others()
    service = wiring.build(
        database=service_database(database_url, "scheduler"), catalogues=others, checkouts=others
    )
    transport = httpx.ASGITransport(app=build_app([service], key_ring=ring))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as opened:
        yield opened


def _as(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def test_a_tenant_sets_its_own_policy_and_nobody_elses(client: httpx.AsyncClient) -> None:
    path = "/v1/dunning-policy"
    assert (await client.get(path, headers=_as("read"))).json() == DEFAULT

    answer = await client.put(path, headers=_as("admin"), json=OWN)
    assert (answer.status_code, answer.json()) == (200, OWN | UNSAID)
    assert (await client.get(path, headers=_as("read"))).json() == OWN | UNSAID
    assert (await client.get(path, headers=_as("other"))).json() == DEFAULT


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"delays_s": [0]}, "/delays_s/0"),
        ({"delays_s": [90 * 86400 + 1]}, "/delays_s/0"),
        ({"delays_s": [3600] * 21}, "/delays_s"),
        ({"delays_s": [True]}, "/delays_s/0"),
        ({"delays_s": ["3600"]}, "/delays_s/0"),
        ({"delays_s": [1.5]}, "/delays_s/0"),
        ({"final_action": "sue"}, "/final_action"),
        ({"hard_decline_stops": "yes"}, "/hard_decline_stops"),
        ({"hurry": 1}, "/hurry"),
        ({"delays_by_class_s": {"soft": [0]}}, "/delays_by_class_s/soft/0"),
        ({"max_span_s": 0}, "/max_span_s"),
        ({"preferred": {"hour": 24}}, "/preferred/hour"),
        ({"final_action": "downgrade"}, "/downgrade_to_plan_id"),
    ],
)
async def test_what_is_no_policy_is_refused_and_nothing_changes(
    client: httpx.AsyncClient, change: dict[str, Any], pointer: str
) -> None:
    path = "/v1/dunning-policy"
    answer = await client.put(path, headers=_as("admin"), json=DEFAULT | change)
    assert (answer.status_code, answer.json()["pointer"]) == (422, pointer)
    assert (await client.get(path, headers=_as("admin"))).json() == DEFAULT


async def test_a_reading_key_may_not_set_it(client: httpx.AsyncClient) -> None:
    answer = await client.put("/v1/dunning-policy", headers=_as("read"), json=OWN)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
