"""The API reference: the OpenAPI document, and pages rendered from it without any outside asset."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from subledger.platform.http import problems

_JSON = "application/json"
_METHODS = ("get", "post", "put", "patch", "delete")


def openapi(api: FastAPI, extra: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The OpenAPI document of all routes: security, problems, idempotency keys, examples.

    ``extra`` holds the operations of plain ASGI routes by path.
    """
    document = get_openapi(
        title=api.title, version=api.version, description=api.description, routes=api.routes
    )
    for path, operation in extra.items():
        document["paths"].setdefault(path, {})["get"] = dict(operation)
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
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if method in _METHODS:
                _complete(operation, path=path, method=method, schemas=schemas)
    return document


def _complete(
    operation: dict[str, Any], *, path: str, method: str, schemas: Mapping[str, Any]
) -> None:
    responses = operation.setdefault("responses", {})
    if "422" in responses:
        responses["422"] = _problem("invalid_request")
    if path.startswith("/v1/"):
        responses.setdefault("401", _problem("unauthorized"))
    if method == "post" and path.startswith("/v1/"):
        operation.setdefault("parameters", []).append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "schema": {"type": "string", "minLength": 1, "maxLength": 255},
                "description": "Repeats of the request with this key have one effect. Kept 72 h.",
                "example": "5f0c7c1e-0d0a-4a0e-9d53-7c3f2f0d9b1a",
            }
        )
        operation["responses"].setdefault("409", _problem("idempotency_in_progress"))
    for content in _contents(operation):
        if "example" not in content and "examples" not in content:
            content["example"] = example(content.get("schema", {}), schemas)


def _problem(code: str) -> dict[str, Any]:
    responses = problems.problems(code)
    status = next(kind.status for kind in problems.kinds() if kind.code == code)
    return responses[status]


def _contents(operation: Mapping[str, Any]) -> list[dict[str, Any]]:
    holders = [operation.get("requestBody", {}), *operation.get("responses", {}).values()]
    return [each["content"][_JSON] for each in holders if _JSON in each.get("content", {})]


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


_STYLE = """
:root{color-scheme:light dark;--line:#d8dee6;--soft:#f5f7fa;--ink:#1b2430;--mute:#5b6776;
--on:#0b6bcb}
@media(prefers-color-scheme:dark){:root{--line:#2f3945;--soft:#171d25;--ink:#e6ebf1;--mute:#97a3b3;
--on:#6db3ff}body{background:#0f141a}}
*{box-sizing:border-box}body{margin:0;font:15px/1.5 system-ui,sans-serif;color:var(--ink)}
.page{display:grid;grid-template-columns:270px minmax(0,1fr);max-width:1240px;margin:auto}
nav{position:sticky;top:0;height:100vh;overflow:auto;padding:24px 16px;border-right:1px solid
var(--line);font-size:13px}nav h2{font-size:12px;text-transform:uppercase;color:var(--mute);
margin:18px 0 4px}nav a{display:block;color:inherit;text-decoration:none;padding:2px 0}
nav a:hover{color:var(--on)}main{padding:24px 36px 80px;min-width:0}h1{margin:0 0 4px}
section{border-top:1px solid var(--line);padding:22px 0}h3{margin:0 0 6px;font-size:17px}
code,pre{font:13px/1.45 ui-monospace,monospace}pre{background:var(--soft);border:1px solid
var(--line);border-radius:6px;padding:12px;overflow:auto;margin:8px 0}
.m{font:600 12px ui-monospace,monospace;color:var(--on);text-transform:uppercase}
table{border-collapse:collapse;width:100%;font-size:14px}td,th{text-align:left;padding:5px 10px 5px
0;border-bottom:1px solid var(--line);vertical-align:top}.q{color:var(--mute)}
@media(max-width:800px){.page{display:block}nav{position:static;height:auto;border:0}}
"""


_INTRO = """<h1>{title} API</h1><p>{about}</p>
<p>Every request carries <code>Authorization: Bearer sk_…</code>. Amounts are integers of minor
units; moments are RFC 3339 in UTC. Every POST takes an <code>Idempotency-Key</code>. Errors are
<a href='/docs/problems'>problems</a>. The same as data:
<a href='/openapi.json'>openapi.json</a>.</p>"""


def page(document: Mapping[str, Any]) -> str:
    """The reference as one HTML page: navigation, parameters, examples, a curl line each."""
    groups: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if method in _METHODS:
                tag = (operation.get("tags") or ["other"])[0]
                groups.setdefault(tag, []).append((method, path, operation))
    menu, body = [], []
    for tag in sorted(groups):
        menu.append(f"<h2>{escape(tag)}</h2>")
        for method, path, operation in groups[tag]:
            anchor = f"{method}{path}".replace("/", "-").replace("{", "").replace("}", "")
            summary = escape(operation.get("summary", path))
            menu.append(f'<a href="#{anchor}">{summary}</a>')
            body.append(_section(anchor, method, path, operation))
    about = document["info"]
    intro = _INTRO.format(title=escape(about["title"]), about=escape(about["description"]))
    return _html("API reference", f"<nav>{''.join(menu)}</nav><main>{intro}{''.join(body)}</main>")


def _section(anchor: str, method: str, path: str, operation: Mapping[str, Any]) -> str:
    parts = [
        f'<section id="{anchor}"><h3>{escape(operation.get("summary", path))}</h3>'
        f'<p><span class="m">{method}</span> <code>{escape(path)}</code></p>'
    ]
    if operation.get("description"):
        parts.append(f"<p>{escape(operation['description'])}</p>")
    rows = [
        f"<tr><td><code>{escape(each['name'])}</code></td><td class='q'>{each['in']}"
        f"{', required' if each.get('required') else ''}</td>"
        f"<td>{escape(each.get('description', ''))}</td></tr>"
        for each in operation.get("parameters", [])
    ]
    if rows:
        parts.append(f"<table>{''.join(rows)}</table>")
    request = operation.get("requestBody", {}).get("content", {}).get(_JSON, {}).get("example")
    parts.append(f"<pre>{escape(_curl(method, path, request))}</pre>")
    for status, response in operation.get("responses", {}).items():
        content = response.get("content", {})
        text = escape(response.get("description", ""))
        parts.append(f"<p class='q'>{escape(str(status))} {text}</p>")
        if _JSON in content and content[_JSON].get("example") is not None:
            shown = json.dumps(content[_JSON]["example"], indent=2, ensure_ascii=False)
            parts.append(f"<pre>{escape(shown)}</pre>")
    return "".join(parts) + "</section>"


def _curl(method: str, path: str, body: Any) -> str:
    line = f"curl -X {method.upper()} $SUBLEDGER{path} -H 'Authorization: Bearer $KEY'"
    if body is None:
        return line
    shown = json.dumps(body, ensure_ascii=False)
    return f"{line} \\\n  -H 'Content-Type: application/json' \\\n  -d '{shown}'"


def problems_page() -> str:
    """Every problem code, with its way out."""
    rows = "".join(
        f'<tr id="{each.code}"><td><code>{each.code}</code></td><td>{each.status}</td>'
        f"<td>{escape(each.title)}</td><td>{escape(each.fix)}</td></tr>"
        for each in problems.kinds()
    )
    return _html(
        "Problems",
        "<nav><a href='/docs'>API reference</a></nav><main><h1>Problems</h1><p>Errors are RFC 9457"
        " documents with these codes.</p><table><tr><th>code</th><th>status</th><th>title</th>"
        f"<th>way out</th></tr>{rows}</table></main>",
    )


def _html(title: str, body: str) -> str:
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport'"
        f" content='width=device-width,initial-scale=1'><title>{escape(title)} · Subledger</title>"
        f"<style>{_STYLE}</style><div class='page'>{body}</div></html>"
    )
