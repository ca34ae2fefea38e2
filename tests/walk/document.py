"""The walk's cases, out of the OpenAPI document, and how their answers are judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import httpx

from tests.walk.houses import House, leaks
from tests.walk.recipes import BODIES, QUERIES

METHODS = ("get", "post", "put", "patch", "delete")
NO_IDS = {
    "limit", "cursor", "status", "outcome", "from", "to", "until", "format", "locale", "kind",
    "trust", "amount_minor", "created_from", "created_until",
}  # fmt: skip
FOREIGN, DELETED = "foreign", "deleted"


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


def plain(operation: Operation, house: House) -> Case:
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
    foreign = ((FOREIGN, known) for known in (theirs.ids, *theirs.others))
    for whose, known in (*foreign, (DELETED, ours.deleted)):
        for name, prefix in operation.path_ids.items():
            if prefix in known:
                case = plain(operation, ours)
                case.path = case.path.replace(ours.ids[prefix], known[prefix])
                case.where, case.whose = f"path {name}", whose
                yield case
        for name, prefix in operation.query_ids.items():
            if prefix in known:
                case = plain(operation, ours)
                case.where, case.whose, case.query = f"query {name}", whose, {name: known[prefix]}
                yield case
        for place, prefix in operation.body_ids.items():
            if prefix in known:
                case = plain(operation, ours)
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
    if case.whose == DELETED and case.operation.path.startswith("/v1/payment-methods/{"):
        # Detached methods stay readable, as their payments do; they cannot be used.
        allowed |= case.operation.method == "get" and told.get("status") == "detached"
        allowed |= case.operation.path.endswith("/mandate") and status == 200  # proof outlives it
        # Detaching once more changes nothing.
        allowed |= case.operation.method == "delete" and status == 204
        allowed |= told.get("code") == "payment_method_not_active"
    if case.whose == DELETED and case.where == "body payment_method_id":
        allowed |= told.get("code") == "payment_method_not_active"
    if case.operation.path in {"/v1/payments", "/v1/payment-links"} and case.where in {
        "query invoice_id", "query connection_id",
    }:  # fmt: skip
        # Payments cannot tell an unknown invoice from an unpaid one: an empty list.
        allowed |= status == 200 and told["data"] == []
    if not allowed:
        found.append(f"it answers {status} {answer.text[:300]}")
    return [f"{case.operation.name}: {case.where} {case.whose}: {each}" for each in found]
