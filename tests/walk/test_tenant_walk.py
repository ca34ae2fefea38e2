"""Over the OpenAPI document: no id, wherever it is put, leads into another tenant.

The walk is generated: every operation × every parameter and body field that holds an id × a
foreign tenant's object and a deleted one. A route, a parameter or an id field that it does not
know how to walk fails it, so that nothing new is left out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from starlette.routing import Mount

from subledger.hosts.assembly import Assembly
from subledger.platform.db import story
from subledger.services.identity.usecases.delete_tenant import delete_tenant
from tests.stories.fingerprint import fingerprint
from tests.stories.shop import open_shop
from tests.walk.houses import NEVER_DELETED, House, furnish, leaks

METHODS = ("get", "post", "put", "patch", "delete")
ACCESS = "/v1/access/{customer}/{resource}"
NOT_IN_THE_DOCUMENT = {
    "/openapi.json", "/docs", "/docs/problems", "/healthz", "/readyz", "/metrics",
    "/webhooks/{provider}/{token}", "/sandbox",
}  # fmt: skip
"""Served without a key: pages about no tenant, and addresses with a secret of their own."""
NO_IDS = {"limit", "cursor", "status", "outcome", "from", "to", "until", "format", "locale"}
_DELETE = story("tests.walk_delete_tenant")
_FOREIGN, _DELETED = "foreign", "deleted"

_PRICE = {
    "code": "walk", "currency": "EUR", "model": "flat", "amount_minor": 100,
    "interval": {"unit": "month", "count": 1},
}  # fmt: skip
BODIES: dict[tuple[str, str], Any] = {
    ("post", "/v1/sandboxes"): {"name": "Walk", "clock_at": "2026-03-01T00:00:00Z"},
    ("post", "/v1/api-keys"): {"name": "Walk", "role": "read"},
    ("post", "/v1/clock-moves"): {"to_at": "2026-02-02T00:00:01Z"},
    ("post", "/v1/customers"): {
        "name": "Walk", "email": "walk@example.com", "currency": "EUR", "timezone": "UTC",
        "tax_rate_ids": ["{txr}"],
    },
    ("patch", "/v1/customers/{customer_id}"): {
        "name": "Walked over", "tax_rate_ids": ["{txr}"],
    },
    ("post", "/v1/products"): {"code": "walk", "name": "Walk", "resources": ["walk"]},
    ("patch", "/v1/products/{product_id}"): {"name": "Walked over"},
    ("post", "/v1/plans"): {
        "code": "walk", "name": "Walk", "product_id": "{prod}", "prices": [_PRICE],
    },
    ("post", "/v1/plans/{plan_id}/versions"): {"prices": [_PRICE]},
    ("post", "/v1/plans/{plan_id}/preview-change"): {"to_plan_id": "{plan}", "prices": [_PRICE]},
    ("post", "/v1/plan-migrations"): {"plan_id": "{plan}", "to_plan_id": "{plan}"},
    ("post", "/v1/discounts"): {
        "code": "walk", "name": "Walk", "percent": "5", "duration": "once",
    },
    ("put", "/v1/discount-settings"): {
        "order": "percent_first", "exclusive": "best", "split": "each",
    },
    ("post", "/v1/promotion-codes"): {
        "code": "walk", "discount_id": "{disc}", "customer_id": "{cus}", "plan_ids": ["{plan}"],
    },
    ("post", "/v1/promotion-codes/bulk"): {
        "n": 2, "discount_id": "{disc}", "customer_id": "{cus}", "plan_ids": ["{plan}"],
    },
    ("post", "/v1/promotion-codes/check"): {
        "code": "walk", "customer_id": "{cus}", "plan_id": "{plan}",
    },
    ("post", "/v1/subscriptions/{subscription_id}/discounts"): {"discount_id": "{disc}"},
    ("post", "/v1/customers/{customer_id}/discounts"): {"discount_id": "{disc}"},
    ("post", "/v1/subscriptions"): {
        "customer_id": "{cus}", "beneficiary_id": "{cus}", "plan_id": "{plan}",
        "discount_ids": ["{disc}"], "payment_method_id": "{pm}",
    },
    ("post", "/v1/subscriptions/preview"): {
        "customer_id": "{cus}", "beneficiary_id": "{cus}", "plan_id": "{plan}",
        "discount_ids": ["{disc}"], "payment_method_id": "{pm}",
    },
    ("post", "/v1/subscriptions/{subscription_id}/change-anchor"): {
        "billing_anchor": {"kind": "calendar"},
    },
    ("post", "/v1/subscriptions/{subscription_id}/cancel"): {"when": "period_end"},
    ("post", "/v1/subscriptions/{subscription_id}/pause"): {"at": "now", "credit": "extend"},
    ("post", "/v1/subscriptions/{subscription_id}/preview-pause"): {"at": "now", "credit": "none"},
    ("post", "/v1/subscriptions/{subscription_id}/resume"): {"at": "now"},
    ("post", "/v1/subscriptions/{subscription_id}/preview-resume"): {"at": "now"},
    ("post", "/v1/subscriptions/{subscription_id}/reactivate"): {"version": "newest"},
    ("post", "/v1/subscriptions/{subscription_id}/change"): {"plan_id": "{plan}", "quantity": "2"},
    ("post", "/v1/subscriptions/{subscription_id}/preview-change"): {
        "plan_id": "{plan}", "quantity": "2",
    },
    ("post", "/v1/invoices/{invoice_id}/void"): {"reason": "walk"},
    ("post", "/v1/invoices/{invoice_id}/reissue"): {"reason": "walk"},
    ("post", "/v1/credit-notes"): {"invoice_id": "{inv}", "reason": "other"},
    ("post", "/v1/credit-notes/preview"): {"invoice_id": "{inv}", "reason": "other"},
    ("post", "/v1/credit-notes/{credit_note_id}/void"): {"reason": "walk"},
    ("post", "/v1/adjustments"): {
        "customer_id": "{cus}", "direction": "credit", "amount_minor": 5, "currency": "EUR",
        "reason": "walk",
    },
    ("post", "/v1/work-items/{work_item_id}/close"): {"reason": "walk"},
    ("post", "/v1/payment-methods"): {"customer_id": "{cus}", "test_kind": "visa_ok"},
    ("post", "/v1/payments"): {"invoice_id": "{inv}", "payment_method_id": "{pm}"},
    ("put", "/v1/invoice-settings"): {"draft_s": 0},
    ("put", "/v1/subscriptions/{subscription_id}/quantities"): {
        "price_id": "{price}", "quantity": "1",
    },
    ("post", "/v1/subscriptions/{subscription_id}/charges"): {"price_id": "{price}"},
    ("put", "/v1/customers/{customer_id}/prices/{price_id}"): {
        "model": "flat", "amount_minor": 999,
    },
    ("put", "/v1/customers/{customer_id}/invoice-terms"): {"net_days": 0},
    ("put", "/v1/dunning-policy"): {
        "delays_s": [86400], "final_action": "cancel", "hard_decline_stops": True,
    },
    ("put", "/v1/billing-limits"): {
        "limits": [{"currency": "EUR", "total_minor": 1}], "reason": "walk",
    },
    ("post", "/v1/billing-parks/{park_id}/release"): {"reason": "walk"},
    ("put", "/v1/kill-switches/{job}"): {"on": False, "reason": "walk"},
    ("post", "/v1/subscriptions/{subscription_id}/release"): {"reason": "walk"},
    ("put", "/v1/tax-settings"): {"country": "US", "region": "NY"},
    ("post", "/v1/tax-rates"): {
        "code": "walk", "name": "Walk", "percent": "5", "country": "FR",
    },
    ("post", "/v1/tax-rules"): {"tax_rate_id": "{txr}"},
    ("post", "/v1/tax-rules/{tax_rule_id}/end"): {"until_on": "2026-12-31"},
    ("post", "/v1/tax-preview"): {
        "customer_id": "{cus}", "lines": [{"amount_minor": 100, "product_id": "{prod}"}],
    },
    ("put", "/v1/revenue-policy"): {"mode": "day", "timezone": "UTC"},
}  # fmt: skip
"""A body for each operation that takes one; ``{prefix}`` stands for our own object."""
QUERIES: dict[str, Any] = {
    "/v1/revenue-schedule": {"invoice_id": "{inv}"},
    "/v1/revenue": {"from": "2026-01", "to": "2026-12"},
}
"""What a GET has to be asked for."""
BARE = {
    "get": {
        "/v1/tenant", "/v1/sandboxes", "/v1/api-keys", "/v1/api-keys/{api_key_id}", "/v1/clock",
        "/v1/clock-moves", "/v1/clock-moves/{clock_move_id}", "/v1/customers",
        "/v1/customers/{customer_id}", "/v1/customers/{customer_id}/balance",
        "/v1/customers/{customer_id}/statement", "/v1/products", "/v1/products/{product_id}",
        "/v1/plans", "/v1/plans/{plan_id}", "/v1/plans/{plan_id}/versions", "/v1/discounts",
        "/v1/discounts/{discount_id}", "/v1/discount-settings", "/v1/promotion-codes",
        "/v1/promotion-codes/{promotion_code_id}",
        "/v1/promotion-codes/{promotion_code_id}/redemptions",
        "/v1/subscriptions/{subscription_id}/discounts", "/v1/customers/{customer_id}/discounts",
        "/v1/subscriptions", "/v1/subscriptions/{subscription_id}",
        "/v1/subscriptions/{subscription_id}/upcoming-invoice", "/v1/invoices",
        "/v1/invoices/{invoice_id}", "/v1/invoices/{invoice_id}/explain",
        "/v1/ledger/trial-balance", "/v1/work-items", "/v1/work-items/{work_item_id}",
        "/v1/events", "/v1/payment-methods", "/v1/payment-methods/{method_id}", "/v1/payments",
        "/v1/payments/{payment_id}", "/v1/dunning-policy", ACCESS, "/v1/billing-forecast",
        "/v1/billing-limits", "/v1/billing-parks", "/v1/billing-parks/{park_id}",
        "/v1/kill-switches", "/v1/billing-guard-changes", "/v1/invoice-settings",
        "/v1/subscriptions/{subscription_id}/quantities", "/v1/customers/{customer_id}/prices",
        "/v1/revenue-policy", "/v1/revenue-schedule", "/v1/revenue",
        "/v1/customers/{customer_id}/invoice-terms", "/v1/tax-settings",
        "/v1/tax-rates", "/v1/tax-rates/{tax_rate_id}", "/v1/tax-rules",
        "/v1/tax-rules/{tax_rule_id}",
        "/v1/plan-migrations", "/v1/plan-migrations/{migration_id}",
        "/v1/plan-migrations/{migration_id}/results", "/v1/credit-notes",
        "/v1/credit-notes/{credit_note_id}", "/v1/credit-notes/{credit_note_id}/explain",
        "/v1/adjustments", "/v1/adjustments/{adjustment_id}",
    },
    "post": {
        "/v1/subscriptions/{subscription_id}/undo-cancel",
        "/v1/subscriptions/{subscription_id}/undo-change",
        "/v1/subscriptions/{subscription_id}/undo-pause",
        "/v1/invoices/{invoice_id}/finalize",
        "/v1/payment-methods/{method_id}/default", "/v1/payments/{payment_id}/cancel",
        "/v1/plan-migrations/{migration_id}/pause", "/v1/plan-migrations/{migration_id}/resume",
        "/v1/plan-migrations/{migration_id}/cancel",
        "/v1/discounts/{discount_id}/archive",
        "/v1/promotion-codes/{promotion_code_id}/deactivate",
    },
    "delete": {
        "/v1/api-keys/{api_key_id}", "/v1/customers/{customer_id}",
        "/v1/payment-methods/{method_id}",
        "/v1/subscriptions/{subscription_id}/discounts/{discount_id}",
        "/v1/customers/{customer_id}/discounts/{discount_id}",
    },
}  # fmt: skip
"""Operations without a body."""
KNOWN = {*BODIES, *((method, path) for method, paths in BARE.items() for path in paths)}


@dataclass(frozen=True)
class Operation:
    """One operation of the document, with where it takes ids: place → TypeID prefix."""

    method: str
    path: str
    path_ids: Mapping[str, str]
    query_ids: Mapping[str, str]
    body_ids: Mapping[tuple[str, ...], str]
    texts: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.method.upper()} {self.path}"


@dataclass
class Case:
    """One request of the walk: which place holds whose id."""

    operation: Operation
    where: str
    whose: str
    path: str
    query: dict[str, str]
    body: Any


# --- reading the document -----------------------------------------------------------------------


def operations(document: Mapping[str, Any]) -> list[Operation]:
    schemas = document["components"]["schemas"]
    return [
        _operation(method, path, given, schemas)
        for path, of_path in document["paths"].items()
        for method, given in of_path.items()
        if method in METHODS
    ]


def _operation(
    method: str, path: str, given: Mapping[str, Any], schemas: Mapping[str, Any]
) -> Operation:
    path_ids, query_ids, texts, unknown = dict[str, str](), dict[str, str](), [], []
    for each in given.get("parameters", ()):
        if each["in"] == "header":
            continue
        found = {prefix for _, prefix in _ids(each["schema"], schemas)}
        if found:
            (path_ids if each["in"] == "path" else query_ids)[each["name"]] = found.pop()
        elif each["name"] in {"code", "external_id", "customer", "resource", "job"}:
            texts.append(each["name"])
        elif each["name"] not in NO_IDS:
            unknown.append(each["name"])
    content = given.get("requestBody", {}).get("content", {})
    schema = content.get("application/json", {}).get("schema", {})
    return Operation(
        method, path, path_ids, query_ids, dict(_ids(schema, schemas)), tuple(texts),
        tuple(unknown),
    )  # fmt: skip


def _ids(
    schema: Mapping[str, Any], schemas: Mapping[str, Any], at: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Places of a schema that hold a TypeID, nested ones too: ``(place, prefix)``."""
    if len(at) > 12:
        return
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    pattern = schema.get("pattern", "")
    if pattern.endswith("_[0-7][0-9a-hjkmnp-tv-z]{25}$"):
        yield at, pattern[1:].partition("_")[0]
    for choice in ("anyOf", "oneOf", "allOf"):
        for each in schema.get(choice, ()):
            yield from _ids(each, schemas, at)
    for name, each in schema.get("properties", {}).items():
        yield from _ids(each, schemas, (*at, name))
    for inner in ("items", "additionalProperties"):
        if isinstance(schema.get(inner), Mapping):
            yield from _ids(schema[inner], schemas, (*at, "0"))


# --- making the cases ---------------------------------------------------------------------------


def _filled(value: Any, own: Mapping[str, str]) -> Any:
    if isinstance(value, str) and value.startswith("{"):
        return own[value[1:-1]]
    if isinstance(value, list):
        return [_filled(each, own) for each in value]
    if isinstance(value, dict):
        return {name: _filled(each, own) for name, each in value.items()}
    return value


def _plain(operation: Operation, house: House) -> Case:
    """The operation with our own objects everywhere."""
    path = operation.path
    for name, prefix in operation.path_ids.items():
        path = path.replace(f"{{{name}}}", house.ids[prefix])
    for name in operation.texts:
        path = path.replace(f"{{{name}}}", house.texts[name])
    body = BODIES.get((operation.method, operation.path))
    query = _filled(QUERIES.get(operation.path, {}), house.ids)
    return Case(operation, "", "own", path, query, _filled(deepcopy(body), house.ids))


def _put(body: Any, place: tuple[str, ...], value: str) -> None:
    for step in place[:-1]:
        body = body[int(step)] if isinstance(body, list) else body[step]
    last = place[-1]
    assert isinstance(body, list) or last in body, f"the recipe leaves out {place}"
    body[int(last) if isinstance(body, list) else last] = value


def cases(operation: Operation, ours: House, theirs: House) -> Iterator[Case]:
    """Every place × whose object stands there."""
    foreign = ((_FOREIGN, known) for known in (theirs.ids, *theirs.others))
    for whose, known in (*foreign, (_DELETED, ours.deleted)):
        for name, prefix in operation.path_ids.items():
            if prefix in known:
                case = _plain(operation, ours)
                case.path = case.path.replace(ours.ids[prefix], known[prefix])
                case.where, case.whose = f"path {name}", whose
                yield case
        for name, prefix in operation.query_ids.items():
            if prefix in known:
                case = _plain(operation, ours)
                case.where, case.whose, case.query = f"query {name}", whose, {name: known[prefix]}
                yield case
        for place, prefix in operation.body_ids.items():
            if prefix in known:
                case = _plain(operation, ours)
                _put(case.body, place, known[prefix])
                case.where, case.whose = f"body {'/'.join(place)}", whose
                yield case


# --- judging an answer --------------------------------------------------------------------------


def judge(case: Case, answer: httpx.Response, theirs: House) -> list[str]:
    """What is wrong with the answer."""
    shown = leaks(theirs, answer.text, str(answer.headers))
    found = [f"it shows {each}" for each in shown]
    status, place = answer.status_code, case.where.partition(" ")[0]
    told = answer.json() if answer.content else {}
    allowed = status in {403, 404}
    if place == "body":
        allowed |= status == 422 and told.get("code") == "unknown_reference"
    if case.whose == _DELETED and case.operation.path.startswith("/v1/payment-methods/{"):
        # Detached methods stay readable, as their payments do; they cannot be used.
        allowed |= case.operation.method == "get" and told.get("status") == "detached"
        # Detaching once more changes nothing.
        allowed |= case.operation.method == "delete" and status == 204
        allowed |= told.get("code") == "payment_method_not_active"
    if case.whose == _DELETED and case.where == "body payment_method_id":
        allowed |= told.get("code") == "payment_method_not_active"
    if case.operation.path == "/v1/payments" and case.where == "query invoice_id":
        # Payments cannot tell an unknown invoice from an unpaid one: an empty list.
        allowed |= status == 200 and told["data"] == []
    if not allowed:
        found.append(f"it answers {status} {answer.text[:300]}")
    return [f"{case.operation.name}: {case.where} {case.whose}: {each}" for each in found]


# --- the walk -----------------------------------------------------------------------------------


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
    assert named - KNOWN == set(), "give each new operation a recipe above"
    assert KNOWN - named == set(), "these operations are gone"
    assert not [f"{each.name} {each.unknown}" for each in walked if each.unknown]
    app: Any = process.app
    while not hasattr(app, "routes"):
        app = app._app
    served = {_path(each) for each in _flat(app.routes)}
    assert served - {each.path for each in walked} == NOT_IN_THE_DOCUMENT


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
            answer = await _send(_plain(operation, ours), ours)
            assert answer.status_code == 200, f"{operation.name}: {answer.text}"
            assert leaks(theirs, answer.text) == []
            assert leaks(ours, answer.text) or operation.path in {
                "/v1/sandboxes", "/v1/clock", "/v1/dunning-policy", "/v1/ledger/trial-balance",
                "/v1/access/{customer}/{resource}", "/v1/invoice-settings",
                "/v1/customers/{customer_id}/invoice-terms",
                "/v1/revenue-policy", "/v1/revenue",
                "/v1/discount-settings", "/v1/billing-forecast", "/v1/billing-limits",
                "/v1/kill-switches",
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
        case = _plain(operation, ours)
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


@pytest.mark.parametrize("whose", [_FOREIGN, _DELETED])
async def test_nobody_else_has_access(houses: tuple[House, House], whose: str) -> None:
    ours, theirs = houses
    foreign = [theirs.ids["cus"], theirs.texts["customer"]]
    deleted = [ours.deleted["cus"], f"{ours.word}-gone"]
    for customer in foreign if whose == _FOREIGN else deleted:
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
        case = _plain(operation, ours)
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
        answer = await _send(_plain(operation, ours), ours, authorization=f"Bearer {reader['key']}")
        asks = "preview" in operation.path or operation.path.endswith("/check")
        reads = operation.method == "get" or asks
        # A preview of what is not possible now says so.
        expected = {200, 409} if asks else {200} if reads else {403}
        assert answer.status_code in expected, f"{operation.name}: {answer.text}"
