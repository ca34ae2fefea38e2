"""What the interface's modules share: a request, its routes, and the strict reading of fields."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from subledger.core import money
from subledger.platform import ids
from subledger.platform.db import Database, Tx, story
from subledger.providers.sandbox import store

MOST_BYTES = 64 * 1024
_SILENT = story("sandbox.spend_silence")
_KEY = re.compile(r"[A-Za-z0-9._-]{1,200}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
HTML = b"<!doctype html><title>502</title><h1>Bad gateway</h1>"
CUT = 0
"""In place of a status: the connection ends without an answer."""

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Refused(Exception):
    """The request is refused: status and code."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a merchant. ``data`` is its JSON (None for a GET), ``name`` what stands in
    the place of the route's ``{}``."""

    tenant_id: UUID
    query: Mapping[str, Sequence[str]]
    headers: Mapping[str, str]
    data: Any
    name: str = ""

    @property
    def key(self) -> str:
        """The idempotency key, empty if there is none."""
        return self.headers.get("idempotency-key", "")

    def asked(self, field: str) -> str:
        """The first value of a query field, empty if it was not given."""
        return next(iter(self.query.get(field, ())), "")


Answer = tuple[int, Any]
Handler = Callable[[Request], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    """``path`` is exact, or has one ``{}`` that takes one part of a path."""

    method: str
    path: str
    handler: Handler
    is_control: bool = False
    """It steers the sandbox itself: no fault ever acts on it."""


class Routes:
    """Finds who answers a request."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._exact = {(each.method, each.path): each for each in routes}
        self._named: list[tuple[str, str, Route]] = []
        for each in routes:
            before, named, after = each.path.partition("{}")
            if named:
                self._named.append((before, after, each))

    def find(self, method: str, path: str) -> tuple[Route, str]:
        """The route and what ``{}`` stands for. Raises Refused (404)."""
        route = self._exact.get((method, path))
        if route is not None:
            return route, ""
        for before, after, named in self._named:
            name = path[len(before) : len(path) - len(after)]
            fits = path.startswith(before) and path.endswith(after) and "/" not in name
            if named.method == method and fits and name:
                return named, name
        raise Refused(404, "not_found")


def amount(data: Mapping[str, Any]) -> int:
    """``amount_minor``: a positive number. Raises Refused (422) and MoneyError."""
    given = data["amount_minor"]
    if type(given) is not int or given <= 0:
        raise Refused(422, "invalid_amount")
    return money.check_amount(given)


def currency(data: Mapping[str, Any]) -> str:
    """``currency``: one that exists."""
    given = str(data["currency"])
    money.exponent(given)
    return given


def key(value: Any) -> str:
    """A short text of letters, digits, dot, dash, underscore: keys, tokens, ids of attempts.

    Strict, because charges of many merchants share a transaction: one bad text would fail all.
    """
    if not isinstance(value, str) or _KEY.fullmatch(value) is None:
        raise Refused(400, "invalid_key")
    return value


def attempt_of(data: Mapping[str, Any]) -> str:
    """The attempt's id, given by itself or in the metadata."""
    return key(data["attempt_id"] if "attempt_id" in data else data["metadata"]["attempt_id"])


def subject(data: Mapping[str, Any]) -> dict[str, str | None]:
    """What a charge or page is for, as the merchant's metadata says."""
    metadata = data.get("metadata") or {}
    named = {name: metadata.get(name) for name in ("customer_id", "invoice_id")}
    return {name: None if value is None else key(value) for name, value in named.items()}


def parsed_id(prefix: str, value: str) -> UUID:
    """An id of ours. Raises Refused (404)."""
    try:
        return ids.parse(prefix, value)
    except ids.InvalidId:
        raise Refused(404, "not_found") from None


def return_url(data: Mapping[str, Any]) -> str:
    """``return_url``: an absolute address of http or https. Raises Refused (422)."""
    value = data["return_url"]
    if not isinstance(value, str) or len(value) > 2000 or _CONTROL.search(value):
        raise Refused(422, "invalid_return_url")
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise Refused(422, "invalid_return_url")
    return value


def line(value: Any, most: int) -> str:
    """A text of one line, cut to ``most`` characters."""
    return _CONTROL.sub(" ", str(value))[:most]


async def is_silent(database: Database, tenant_id: UUID, mode: str) -> bool:
    """Spend one of the fault that lets this question go without an answer, if any is left."""

    async def spend(tx: Tx) -> bool:
        return bool(await store.take_faults(tx, {tenant_id: 1}, modes=[mode]))

    return await database.transact(_SILENT, spend, tenants=[tenant_id])


async def read_body(receive: Any) -> bytes:
    """The whole body. Raises Refused (400, 413)."""
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise Refused(400, "disconnected")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        more = message.get("more_body", False)
        if size > MOST_BYTES:
            raise Refused(413, "body_too_large")
    return b"".join(parts)


async def cut(send: Send, body: bytes = b"") -> None:
    """Begin an answer and never end it: the server then closes the connection. Of ``body`` the
    first half is sent."""
    headers = [(b"content-length", str(max(len(body), 2)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if body:
        half = body[: len(body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})


async def answer(send: Send, status: int, headers: Mapping[str, str], body: bytes) -> None:
    listed = [(name.encode(), value.encode()) for name, value in headers.items()]
    listed.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": listed})
    await send({"type": "http.response.body", "body": body})
