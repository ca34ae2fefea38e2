"""Over the OpenAPI document: no id, wherever it is put, leads into another tenant.

The walk is generated: every operation × every parameter and body field that holds an id × a
foreign tenant's object and a deleted one. A route, a parameter or an id field that it does not
know how to walk fails it, so that nothing new is left out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from starlette.routing import Mount

from subledger.hosts.assembly import Assembly
from subledger.platform.db import story
from subledger.services.identity.usecases.delete_tenant import delete_tenant
from tests.stories.fingerprint import fingerprint
from tests.stories.shop import open_shop
from tests.walk.document import DELETED, FOREIGN, Case, Operation, cases, judge, operations, plain
from tests.walk.houses import NEVER_DELETED, House, furnish, leaks
from tests.walk.recipes import ACCESS, KNOWN

NOT_IN_THE_DOCUMENT = {
    "/openapi.json", "/docs", "/docs/problems", "/healthz", "/readyz", "/metrics",
    "/sandbox",
}  # fmt: skip
"""Served without a key: pages about no tenant, and addresses with a secret of their own."""
_DELETE = story("tests.walk_delete_tenant")


@pytest.fixture(scope="module")
async def houses(process: Assembly) -> AsyncIterator[tuple[House, House]]:
    """Ours and theirs."""
    ours, theirs = await furnish(process, "amselweg"), await furnish(process, "kanarienvogel")
    yield ours, theirs
    for each in (ours, theirs):
        await each.shop.api.aclose()


@pytest.fixture(scope="module")
async def walked(houses: tuple[House, House]) -> list[Operation]:
    return operations((await houses[0].shop.api.get("/openapi.json")).json())


async def _send(case: Case, house: House, **headers: str) -> httpx.Response:
    given = {} if case.body is None else {"json": case.body}
    return await house.shop.raw(
        case.operation.method.upper(), case.path, params=case.query, headers=headers, **given
    )


def test_every_route_is_walked(process: Assembly, walked: list[Operation]) -> None:
    named = {(each.method, each.path) for each in walked}
    assert named - KNOWN == set(), "give each new operation a recipe in recipes.py"
    assert KNOWN - named == set(), "these operations are gone"
    assert not [f"{each.name} {each.unknown}" for each in walked if each.unknown]
    app: Any = process.app
    while not hasattr(app, "routes"):
        app = app._app
    served = {_path(each) for each in _flat(app.routes)}
    assert served - {each.path for each in walked} == NOT_IN_THE_DOCUMENT
    assert {prefix for each in process.services for prefix in each.ahead} == {
        "/webhooks/", "/pay/",
    }  # fmt: skip


def _flat(routes: Any) -> Iterator[Any]:
    """Routes, those of included routers too."""
    for each in routes:
        inner = getattr(each, "original_router", None)
        if inner is not None:
            yield from _flat(inner.routes)
        else:
            yield each


def _path(route: Any) -> str:
    return str(route.path.rstrip("/") if isinstance(route, Mount) else route.path)


def test_every_kind_of_id_has_a_foreign_and_if_possible_a_deleted_object(
    houses: tuple[House, House], walked: list[Operation]
) -> None:
    prefixes = {
        prefix
        for each in walked
        for places in (each.path_ids, each.query_ids, each.body_ids)
        for prefix in places.values()
    }
    ours, theirs = houses
    assert prefixes == set(theirs.ids)
    assert prefixes - set(ours.deleted) - {"key"} == NEVER_DELETED


async def test_our_own_objects_are_found(
    houses: tuple[House, House], walked: list[Operation]
) -> None:
    """The walk's addresses are right: what refuses a foreign id is not a misspelt path."""
    ours, theirs = houses
    for operation in walked:
        if operation.method == "get":
            answer = await _send(plain(operation, ours), ours)
            assert answer.status_code == 200, f"{operation.name}: {answer.text}"
            assert leaks(theirs, answer.text) == []
            assert leaks(ours, answer.text) or operation.path in {
                "/v1/sandboxes", "/v1/clock", "/v1/dunning-policy", "/v1/ledger/trial-balance",
                "/v1/access/{customer}/{resource}", "/v1/invoice-settings", "/v1/dispute-policy",
                "/v1/refund-policy",
                "/v1/customers/{customer_id}/invoice-terms",
                "/v1/revenue-policy", "/v1/revenue",
                "/v1/discount-settings", "/v1/billing-forecast", "/v1/billing-limits",
                "/v1/kill-switches", "/v1/payment-settings", "/v1/payouts",
                "/v1/subscriptions/{subscription_id}/quantities",
                "/v1/customers/{customer_id}/prices",
            }, operation.name  # fmt: skip


async def test_no_id_leads_into_another_tenant(
    houses: tuple[House, House], walked: list[Operation], admin: Any, module_database_url: str
) -> None:
    ours, theirs = houses
    await theirs.shop.pump.quiet()
    connection = await admin(module_database_url)
    try:
        before = await fingerprint(connection, theirs.shop.tenant_id)
        wrong, walked_cases = list[str](), 0
        for operation in walked:
            for case in cases(operation, ours, theirs):
                wrong += judge(case, await _send(case, ours, Prefer="wait=2"), theirs)
                walked_cases += 1
        await theirs.shop.pump.quiet()
        assert not wrong, "\n".join(wrong)
        assert walked_cases >= 60
        after = await fingerprint(connection, theirs.shop.tenant_id)
        assert {name for name in after if after[name] != before[name]} == set()
    finally:
        await connection.close()


async def test_lists_texts_and_cursors_show_nothing_foreign(
    houses: tuple[House, House], walked: list[Operation]
) -> None:
    ours, theirs = houses
    for operation in walked:
        if operation.method != "get":
            continue
        case = plain(operation, ours)
        for name in operation.texts:
            if operation.path != ACCESS:
                answer = await ours.shop.raw("GET", case.path, params={name: theirs.texts[name]})
                assert answer.json()["data"] == [], operation.name
                assert leaks(theirs, answer.text) == []
        if "{" not in operation.path:
            listed = await theirs.shop.raw("GET", case.path, params={"limit": 1})
            cursor = listed.json().get("next_cursor")
            for query in ({"limit": 100}, {"limit": 1, "cursor": cursor or "WyJ4Il0"}):
                answer = await ours.shop.raw("GET", case.path, params=query)
                assert answer.status_code in {200, 409, 422}, answer.text
                assert leaks(theirs, answer.text) == [], operation.name


@pytest.mark.parametrize("whose", [FOREIGN, DELETED])
async def test_nobody_else_has_access(houses: tuple[House, House], whose: str) -> None:
    ours, theirs = houses
    foreign = [theirs.ids["cus"], theirs.texts["customer"]]
    deleted = [ours.deleted["cus"], f"{ours.word}-gone"]
    for customer in foreign if whose == FOREIGN else deleted:
        for resource in (theirs.texts["resource"], ours.texts["resource"]):
            answer = await ours.shop.raw("GET", f"/v1/access/{customer}/{resource}")
            assert answer.status_code == 200
            assert answer.json() == {
                "allowed": False, "reason": "unknown_customer", "valid_until": None,
            }  # fmt: skip
            assert leaks(theirs, answer.text, str(answer.headers)) == []
    unsold = await ours.shop.raw("GET", f"/v1/access/{ours.ids['cus']}/{theirs.texts['resource']}")
    assert (unsold.json()["allowed"], leaks(theirs, unsold.text)) == (False, [])


async def test_without_a_key_that_holds_every_door_is_shut(
    process: Assembly, houses: tuple[House, House], walked: list[Operation]
) -> None:
    """No key, no Bearer, an unknown, a revoked key, and that of a deleted tenant: 401."""
    ours, theirs = houses
    keys = await _dead_keys(process, ours)
    credentials = [None, "Basic eDp5", "Bearer", "Bearer sk_test_nobody", *keys]
    wrong = []
    for operation in walked:
        case = plain(operation, ours)
        for each in credentials:
            headers = {"authorization": each or ""}
            answer = await _send(case, ours, **headers)
            code = answer.json().get("code")
            if (answer.status_code, code) != (401, "unauthorized"):
                wrong.append(f"{operation.name} {each}: {answer.status_code} {code}")
            if leaks(ours, answer.text) or leaks(theirs, answer.text):
                wrong.append(f"{operation.name} {each}: shows {answer.text}")
    assert wrong == []


async def _dead_keys(process: Assembly, ours: House) -> list[str]:
    revoked = await ours.shop.post("/v1/api-keys", {"name": "gone", "role": "admin"})
    assert (await ours.shop.raw("DELETE", f"/v1/api-keys/{revoked['id']}")).status_code == 204
    gone = await open_shop(process)
    database = process.databases["identity"]
    async with database.transaction(_DELETE) as tx:
        await delete_tenant(tx, gone.tenant_id)
    await gone.api.aclose()
    return [f"Bearer {revoked['key']}", f"Bearer {gone.key}"]


async def test_a_key_that_may_read_writes_nothing(
    houses: tuple[House, House], walked: list[Operation]
) -> None:
    ours, _ = houses
    reader = await ours.shop.post("/v1/api-keys", {"name": "reader", "role": "read"})
    for operation in walked:
        answer = await _send(plain(operation, ours), ours, authorization=f"Bearer {reader['key']}")
        asks = "preview" in operation.path or operation.path == "/v1/promotion-codes/check"
        reads = operation.method == "get" or asks
        # A preview of what is not possible now says so.
        if operation.path.endswith("/mandate"):  # personal data: for admins
            reads = False
        expected = {200, 409} if asks else {200} if reads else {403}
        assert answer.status_code in expected, f"{operation.name}: {answer.text}"
