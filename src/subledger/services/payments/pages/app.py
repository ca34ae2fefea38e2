"""Payers' pages: no login, an unguessable address, the truth about a payment.

Plain ASGI below ``/pay/``. A page never decides anything: it reads, asks the provider where our
state is not final (a few seconds apart, however many look), and shows what is known then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID

import msgspec
from starlette.requests import ClientDisconnect

from subledger.platform.db import Database, Tx, story
from subledger.platform.http import texts
from subledger.platform.http.middleware import Receive, Scope, Send
from subledger.platform.http.problems import Problem
from subledger.services.payments.addresses import PREFIX, STATUS, Addresses
from subledger.services.payments.flows.link import Linking
from subledger.services.payments.flows.returned import Returning
from subledger.services.payments.pages import link, render, status
from subledger.services.payments.pages.render import Told
from subledger.services.payments.usecases.returns import Returns

MOST_FIELDS, MOST_FORM_BYTES = 20, 16 * 1024
_OURS = frozenset({"lang", "n"})
_READ = story("payments.read_return", reads=True)
_NOBODY = Told("There is no such page", "Check the address, or ask the shop for a new one.", "bad")


@dataclass(frozen=True, slots=True)
class _Visit:
    """One request, and how it wants to be answered."""

    scope: Scope
    send: Send
    language: str
    wants_json: bool

    async def answer(self, code: int, told: Told, data: Mapping[str, Any] | None = None) -> None:
        if self.wants_json:
            kind, body = "application/json", msgspec.json.encode(data or {"status": "not_found"})
        else:
            looks = _pairs(self.scope["query_string"]).get("n", "0")
            count = int(looks[:4]) if looks.isascii() and looks.isdigit() else 0
            kind = "text/html; charset=utf-8"
            body = render.page(told, self.language, looks=count)
        await self._send(code, {"content-type": kind}, body)

    async def go_to(self, address: str) -> None:
        """On to another page, by a GET."""
        await self._send(303, {"location": address}, b"")

    async def _send(self, code: int, more: Mapping[str, str], body: bytes) -> None:
        headers = {**more, "content-length": str(len(body)), **render.HEADERS}
        listed = [(name.encode(), value.encode()) for name, value in headers.items()]
        shown = b"" if self.scope["method"] == "HEAD" else body
        await self.send({"type": "http.response.start", "status": code, "headers": listed})
        await self.send({"type": "http.response.body", "body": shown})


class PublicPages:
    """``/pay/status/{token}``, where a provider may lead by a form too, and ``/pay/{token}``, a
    payment link, whose button is a form."""

    def __init__(
        self,
        database: Database,
        *,
        addresses: Addresses,
        returns: Returns,
        returning: Returning,
        linking: Linking,
    ) -> None:
        self._database = database
        self._addresses = addresses
        self._returns = returns
        self._returning = returning
        self._linking = linking

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        purpose, prefix = ("status", STATUS) if path.startswith(STATUS) else ("link", PREFIX)
        scope["subledger.route"] = f"{prefix}{{token}}"
        if scope["method"] not in {"GET", "HEAD", "POST"}:
            raise Problem(
                "method_not_allowed", detail="A page is read.", headers={"Allow": "GET, POST"}
            )
        query = _pairs(scope["query_string"])
        headers = {name.decode("latin-1"): v.decode("latin-1") for name, v in scope["headers"]}
        form = _pairs(await _body(receive)) if scope["method"] == "POST" else {}
        visit = _Visit(
            scope=scope,
            send=send,
            language=texts.choose(query.get("lang", ""), headers.get("accept-language"), "en"),
            wants_json="application/json" in headers.get("accept", ""),
        )
        key = self._addresses.read(purpose, path.removeprefix(prefix))
        if key is None:
            await visit.answer(404, _NOBODY)
            return
        scope["subledger.tenant"] = key[0]
        if purpose == "link":
            await self._link(visit, key, form if scope["method"] == "POST" else None)
            return
        # What a provider sends along is its own; ours are the language and the count of looks.
        params = {name: v for name, v in (query | form).items() if name not in _OURS}
        await self._status(visit, key, params)

    async def _link(
        self, visit: _Visit, key: tuple[UUID, UUID], form: Mapping[str, str] | None
    ) -> None:
        opened = await self._linking.look(*key)
        if opened is None:
            await visit.answer(404, _NOBODY)
            return
        problem = None
        if form is not None and opened.state == "open" and opened.invoice is not None:
            if form.get("amount") != str(opened.invoice.due_minor):
                problem = "changed"
            else:
                cause = visit.scope["subledger.request_id"]
                address = await self._linking.pay(opened, cause=cause)
                if address is not None:
                    await visit.go_to(address)
                    return
                opened, problem = await self._linking.look(*key) or opened, "no_page"
        back = await self._back(key[0], opened.link.return_url)
        code = link.CODES.get(opened.state, 200 if problem is None else 409)
        told = link.told(opened, back=back, problem=problem)
        await visit.answer(code, told, link.data(opened, back=back))

    async def _status(
        self, visit: _Visit, key: tuple[UUID, UUID], params: Mapping[str, str]
    ) -> None:
        seen = await self._returning.look(*key, params=params)
        if seen is None:
            await visit.answer(404, _NOBODY)
            return
        back = await self._back(key[0], seen.payment.return_url)
        told = status.told(seen.payment, back=back)
        await visit.answer(200, told, status.data(seen.payment, back=back))

    async def _back(self, tenant_id: UUID, address: str | None) -> str | None:
        """The way back to the shop, by the settings of this moment."""
        if address is None:
            return None

        async def read(tx: Tx) -> bool:
            return await self._returns.allowed(tx, tenant_id, address)

        allowed = await self._database.transact(_READ, read, tenants=[tenant_id])
        return address if allowed else None


def _pairs(given: bytes) -> dict[str, str]:
    """Fields of an address or a form, the first of each name; too many are an empty set."""
    try:
        listed = parse_qsl(given.decode("utf-8", "replace"), max_num_fields=MOST_FIELDS)
    except ValueError:
        return {}
    found: dict[str, str] = {}
    for name, value in listed:
        found.setdefault(name, value)
    return found


async def _body(receive: Receive) -> bytes:
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientDisconnect
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MOST_FORM_BYTES:
            raise Problem(
                "body_too_large",
                detail="The form is larger than 16 KiB.",
                fix="Open the address again.",
                headers={"Connection": "close"},
            )
    return bytes(body)
