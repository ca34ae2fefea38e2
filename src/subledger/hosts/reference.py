"""The API reference as HTML pages, rendered from the OpenAPI document without any outside asset.

``python -m subledger.hosts.reference`` prints ``docs/problems.md``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from subledger.hosts.openapi import JSON, METHODS, example
from subledger.platform.http import problems

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
nav a:hover,main a{color:var(--on)}main{padding:24px 36px 80px;min-width:0}h1{margin:0 0 4px}
section{border-top:1px solid var(--line);padding:22px 0}h3{margin:0 0 6px;font-size:17px}
code,pre{font:13px/1.45 ui-monospace,monospace}pre{background:var(--soft);border:1px solid
var(--line);border-radius:6px;padding:12px;overflow:auto;margin:8px 0}
.k{font-size:13px;color:var(--mute);margin:12px 0 0}details{margin:6px 0}summary{cursor:pointer;
color:var(--mute);font-size:13px}
.m{font:600 12px ui-monospace,monospace;color:var(--on);text-transform:uppercase}
table{border-collapse:collapse;width:100%;font-size:14px}td,th{text-align:left;padding:5px 10px 5px
0;border-bottom:1px solid var(--line);vertical-align:top}.q{color:var(--mute)}
@media(max-width:800px){.page{display:block}nav{position:static;height:auto;border:0}}
"""


_INTRO = """<h1>{title} API</h1><p>{about}</p>
<p>Every request carries <code>Authorization: Bearer sk_…</code>. Amounts are integers of minor
units; moments are RFC 3339 in UTC. Every POST takes an <code>Idempotency-Key</code>; every answer
has an <code>X-Request-Id</code>. Errors are <a href='/docs/problems'>problems</a>. The same as
data: <a href='/openapi.json'>openapi.json</a>. The examples expect <code>$SUBLEDGER</code> (the
address of this server) and <code>$KEY</code> in your shell.</p>"""


def page(document: Mapping[str, Any]) -> str:
    """The reference as one HTML page: each operation with its fields, examples and curl line."""
    groups: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if method in METHODS:
                tag = (operation.get("tags") or ["Other"])[0]
                groups.setdefault(tag, []).append((method, path, operation))
    schemas = document["components"]["schemas"]
    menu, body = [], []
    for tag in [each["name"] for each in document["tags"]]:
        menu.append(f"<h2>{escape(tag)}</h2>")
        for method, path, operation in groups[tag]:
            anchor = escape(operation["operationId"])
            menu.append(f'<a href="#{anchor}">{escape(operation.get("summary", path))}</a>')
            body.append(_section(anchor, method, path, operation, schemas))
    about = document["info"]
    intro = _INTRO.format(title=escape(about["title"]), about=escape(about["description"]))
    return _html("API reference", f"<nav>{''.join(menu)}</nav><main>{intro}{''.join(body)}</main>")


def _section(
    anchor: str,
    method: str,
    path: str,
    operation: Mapping[str, Any],
    schemas: Mapping[str, Any],
) -> str:
    parts = [
        f'<section id="{anchor}"><h3>{escape(operation.get("summary", path))}</h3>'
        f'<p><span class="m">{method}</span> <code>{escape(path)}</code></p>'
    ]
    if operation.get("description"):
        parts.append(f"<p>{_prose(operation['description'])}</p>")
    parameters = operation.get("parameters", [])
    rows = [
        _row(each["name"], each["in"], each.get("required", False), each.get("description", ""))
        for each in parameters
    ]
    if rows:
        parts.append(f"<table>{''.join(rows)}</table>")
    content = operation.get("requestBody", {}).get("content", {}).get(JSON, {})
    fields = "".join(_row(*field) for field in _fields(content.get("schema", {}), schemas))
    if fields:
        parts.append(f"<p class='k'>Body</p><table>{fields}</table>")
    parts.append(f"<pre>{escape(_curl(method, path, parameters, content.get('example')))}</pre>")
    responses = operation.get("responses", {})
    parts += [_answer(status, each) for status, each in responses.items() if status[0] in "23"]
    parts.append(_errors(responses))
    return "".join(parts) + "</section>"


def _row(name: str, kind: str, required: bool, about: str) -> str:
    note = ", required" if required else ""
    return (
        f"<tr><td><code>{escape(name)}</code></td><td class='q'>{escape(kind)}{note}</td>"
        f"<td>{_prose(about)}</td></tr>"
    )


def _prose(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _fields(
    schema: Mapping[str, Any], schemas: Mapping[str, Any], before: str = "", depth: int = 0
) -> Iterator[tuple[str, str, bool, str]]:
    """Name, type, whether required, and description of a body's fields, nested ones dotted."""
    schema = _resolved(schema, schemas)
    for name, given in schema.get("properties", {}).items():
        field = _resolved(given, schemas)
        about = given.get("description") or field.get("description", "")
        yield f"{before}{name}", _type(field, schemas), name in schema.get("required", []), about
        if depth < 3:
            inner = _resolved(field.get("items", field), schemas)
            mark = "[]." if "items" in field else "."
            yield from _fields(inner, schemas, f"{before}{name}{mark}", depth + 1)


def _resolved(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    if len(choices) == 1:
        schema = choices[0]
    if "$ref" in schema:
        found: Mapping[str, Any] = schemas[schema["$ref"].rpartition("/")[2]]
        return found
    return schema


def _type(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(json.dumps(each) for each in schema["enum"])
    if "const" in schema:
        return json.dumps(schema["const"])
    if "anyOf" in schema:
        return " or ".join(_type(_resolved(each, schemas), schemas) for each in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type(_resolved(schema.get('items', {}), schemas), schemas)}"
    return str(schema.get("format") or schema.get("type", "any"))


def _answer(status: str, response: Mapping[str, Any]) -> str:
    text = response.get("description", "").replace("Successful Response", "")
    content = response.get("content", {}).get(JSON, {})
    if content.get("example") is None:
        return f"<p class='k'>Answers {status} {_prose(text)}</p>"
    shown = json.dumps(content["example"], indent=2, ensure_ascii=False)
    return f"<p class='k'>Answers {status} {_prose(text)}</p><pre>{escape(shown)}</pre>"


def _errors(responses: Mapping[str, Mapping[str, Any]]) -> str:
    told = []
    for status, response in responses.items():
        codes = response.get("content", {}).get(problems.MEDIA_TYPE, {}).get("examples", {})
        links = [f"<a href='/docs/problems#{code}'><code>{code}</code></a>" for code in codes]
        if links:
            told.append(f"{status} {', '.join(sorted(links))}")
    return f"<p class='k'>Refuses with {'; '.join(told)}</p>" if told else ""


def _curl(method: str, path: str, parameters: list[Mapping[str, Any]], body: Any) -> str:
    for each in parameters:
        if each["in"] == "path":
            value = each.get("example") or example(each.get("schema", {}), {})
            path = path.replace(f"{{{each['name']}}}", str(value))
    verb = "" if method == "get" else f"-X {method.upper()} "
    lines = [f'curl {verb}"$SUBLEDGER{path}"', '-H "Authorization: Bearer $KEY"']
    if method == "post":
        lines.append('-H "Idempotency-Key: $(date +%s%N)"')
    if body is not None:
        shown = json.dumps(body, ensure_ascii=False).replace("'", "'\\''")
        lines += ["-H 'Content-Type: application/json'", f"-d '{shown}'"]
    return " \\\n  ".join(lines)


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


_PROBLEMS = """# Problems

Every error of the API is an RFC 9457 document (`application/problem+json`):

| member | what it holds |
|---|---|
| `type` | `/docs/problems#<code>`, this list on a running server |
| `title`, `status` | the same for every problem with this code |
| `detail` | what is wrong this time |
| `code` | stable; decide by it |
| `fix` | the way out |
| `pointer` | a JSON pointer to what is to blame in the body, or below `/query` in the address |
| `errors` | all findings, each with `pointer` and `detail`, if the input has several |
| `reason` | the rule of the calculation that refused, with `invalid_request` and `conflict` |
| `request_id` | the answer's `X-Request-Id`; it finds the request in the log |

What was refused changed nothing, except `payment_declined`: there the refusal itself is kept.

<!-- Written by `python -m subledger.hosts.reference`; a test compares it with the code. -->

| code | status | title | way out |
|---|---|---|---|
"""


def problems_markdown() -> str:
    """``docs/problems.md``: every code that the modules imported so far declare."""
    rows = [
        f"| `{each.code}` | {each.status} | {each.title} | {each.fix.replace('|', chr(92) + '|')} |"
        for each in problems.kinds()
    ]
    return _PROBLEMS + "\n".join(rows) + "\n"


def _html(title: str, body: str) -> str:
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport'"
        f" content='width=device-width,initial-scale=1'><title>{escape(title)} · Subledger</title>"
        f"<style>{_STYLE}</style><div class='page'>{body}</div></html>"
    )


if __name__ == "__main__":
    import subledger.hosts.assembly  # noqa: F401  # every service declares its problems at import

    print(problems_markdown(), end="")
