"""The OpenAPI document of a gateway: security, problems, idempotency keys, examples."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from subledger.platform.http import problems
from subledger.platform.http.replay import HEADER as REPLAYED

JSON = "application/json"
METHODS = ("get", "post", "put", "patch", "delete")
_ANYTHING_ELSE = {
    "description": "Any other error",
    "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_KEY_HEADER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    "description": "Repeats of the request with this key have one effect and one answer for 72 h.",
    "example": "5f0c7c1e-0d0a-4a0e-9d53-7c3f2f0d9b1a",
}
_REPLAYED_HEADER = {
    "description": "true when the answer repeats that of an earlier request with the same key.",
    "schema": {"type": "string", "enum": ["true"]},
}


def openapi(api: FastAPI, extra: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The document of all routes. ``extra`` holds the operations of plain ASGI routes by path."""
    document = get_openapi(
        title=api.title,
        version=api.version,
        description=api.description,
        routes=api.routes,
        servers=[{"url": "/", "description": "This server"}],
    )
    for path, operation in extra.items():
        document["paths"].setdefault(path, {})["get"] = deepcopy(dict(operation))
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas["Problem"] = dict(problems.SCHEMA)
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    components["securitySchemes"] = {
        "apiKey": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key: sk_live_… of a live tenant, sk_test_… of a sandbox.",
        }
    }
    document["security"] = [{"apiKey": []}]
    tags: set[str] = set()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if method in METHODS:
                _complete(operation, path=path, method=method, schemas=schemas)
                tags.update(operation.get("tags") or ["Other"])
    document["tags"] = [{"name": tag} for tag in sorted(tags)]
    return document


def _complete(
    operation: dict[str, Any], *, path: str, method: str, schemas: Mapping[str, Any]
) -> None:
    responses = operation.setdefault("responses", {})
    if JSON in responses.get("422", {}).get("content", {}):
        responses["422"] = {"description": "", "content": {}}
    if "422" in responses:
        _offer(responses, "invalid_request")
    if path.startswith("/v1/"):
        _offer(responses, "unauthorized")
        responses["default"] = _ANYTHING_ELSE
    if "requestBody" in operation:
        for code in ("invalid_json", "body_too_large", "unsupported_media_type"):
            _offer(responses, code)
    if method == "post" and path.startswith("/v1/"):
        operation.setdefault("parameters", []).append(_KEY_HEADER)
        for code in ("invalid_idempotency_key", "idempotency_in_progress"):
            _offer(responses, code)
        _offer(responses, "idempotency_key_reused")
        for status, response in responses.items():
            if status.startswith("2"):
                response.setdefault("headers", {})[REPLAYED] = _REPLAYED_HEADER
    operation["responses"] = dict(sorted(responses.items()))
    for content in _contents(operation):
        if "example" not in content and "examples" not in content:
            content["example"] = example(content.get("schema", {}), schemas)


def _offer(responses: dict[str, Any], code: str) -> None:
    """Add a problem to those that an operation says it may answer with."""
    kind = next(each for each in problems.kinds() if each.code == code)
    told = problems.problems(code)[kind.status]
    known = responses.setdefault(str(kind.status), {"description": "", "content": {}})
    known["description"] = known["description"] or told["description"]
    content = known.setdefault("content", {}).setdefault(problems.MEDIA_TYPE, {})
    content.setdefault("schema", {"$ref": "#/components/schemas/Problem"})
    content.setdefault("examples", {}).update(told["content"][problems.MEDIA_TYPE]["examples"])


def _contents(operation: Mapping[str, Any]) -> list[dict[str, Any]]:
    holders = [operation.get("requestBody", {}), *operation.get("responses", {}).values()]
    return [each["content"][JSON] for each in holders if JSON in each.get("content", {})]


def example(schema: Mapping[str, Any], schemas: Mapping[str, Any], depth: int = 0) -> Any:
    """An example of a schema: its own, or one made of its parts' (at most 8 levels deep)."""
    if depth > 8:
        return None
    if "$ref" in schema:
        return example(schemas[schema["$ref"].rpartition("/")[2]], schemas, depth + 1)
    for key in ("example", "default", "const"):
        if schema.get(key) is not None:
            return schema[key]
    for key in ("examples", "enum"):
        if schema.get(key):
            return schema[key][0]
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return example(schema[choice][0], schemas, depth + 1)
    return _of_type(schema, schemas, depth)


def _of_type(schema: Mapping[str, Any], schemas: Mapping[str, Any], depth: int) -> Any:
    kind = schema.get("type")
    if kind == "object":
        parts = schema.get("properties", {})
        return {name: example(each, schemas, depth + 1) for name, each in parts.items()}
    if kind == "array":
        return [example(schema.get("items", {}), schemas, depth + 1)]
    if kind == "string":
        return "2026-03-01T00:00:00Z" if schema.get("format") == "date-time" else "text"
    return {"integer": schema.get("minimum", 1), "number": 1, "boolean": False}.get(kind or "")
