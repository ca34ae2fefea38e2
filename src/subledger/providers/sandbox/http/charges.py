"""Charges of saved methods, and what became of an attempt."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row

from subledger.platform import ids
from subledger.platform.db import Database, Tx, story
from subledger.providers.sandbox import (
    authorizations,
    authorizations_store,
    cards,
    faults,
    secure_store,
    store,
)
from subledger.providers.sandbox.http import wire
from subledger.providers.sandbox.http.methods import shown
from subledger.providers.sandbox.http.wire import Answer, Refused, Request, Route
from subledger.providers.sandbox.journal import (
    MOST_RACES,
    Asked,
    Journal,
    KeyReused,
    Raced,
    Told,
    told,
    waiting,
)
from subledger.providers.sandbox.secure import Addresses, Challenges

_AUTHORIZE = story("sandbox.authorize")
_READ = story("sandbox.read_charges", reads=True)


class Charges:
    """``tell_first`` delivers webhooks that are due before an answer is given (a fault)."""

    def __init__(
        self,
        database: Database,
        *,
        addresses: Addresses,
        challenges: Challenges,
        tell_first: Callable[[], Awaitable[None]],
    ) -> None:
        self._database = database
        self._journal = Journal(database)
        self._addresses = addresses
        self._challenges = challenges
        self._tell_first = tell_first

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/v1/charges", self.charge),
            Route("GET", "/v1/charges", self.by_key),
            Route("GET", "/v1/charges/{}", self.by_id),
            Route("POST", "/v1/charges/{}/cancel", self.cancel),
            Route("GET", "/v1/attempts/{}", self.attempt),
        ]

    async def charge(self, request: Request) -> Answer:
        data, tenant_id = request.data, request.tenant_id
        key = wire.key(request.key)
        about = wire.subject(data)
        asked = Asked(
            tenant_id=tenant_id,
            key=key,
            attempt_id=wire.attempt_of(data),
            token=wire.key(data["token"]),
            amount_minor=wire.amount(data),
            currency=wire.currency(data),
            secret_hash=self._addresses.secret_hash(tenant_id, key),
            return_url=wire.return_url(data) if data.get("return_url") else "",
            customer_id=about["customer_id"],
            invoice_id=about["invoice_id"],
            capture=data.get("capture") is not False,
        )
        try:
            if asked.capture:
                charged = await self._journal.charge(asked)
            else:
                charged = await self._authorized(asked)
        except KeyReused:
            raise Refused(422, "idempotency_key_reused") from None
        if charged.fault == faults.WEBHOOK_FIRST:
            await self._tell_first()
        return _spoiled(charged, self._shown(tenant_id, charged))

    async def _authorized(self, asked: Asked) -> Told:
        async def work(tx: Tx) -> Told:
            return await authorizations.authorize(tx, asked, faulty=True)

        for _ in range(MOST_RACES):
            try:
                return await self._database.transact(_AUTHORIZE, work, tenants=[asked.tenant_id])
            except Raced:
                continue
        raise Raced

    def _shown(self, tenant_id: UUID, charged: Told) -> dict[str, Any]:
        """As the interface says it, with the address that the payer has to go to."""
        answer = charged.answer()
        if charged.status == "requires_action":
            answer["url"] = self._addresses.of_challenge(tenant_id, charged.key)
        return answer

    async def cancel(self, request: Request) -> Answer:
        """Stop waiting for the payer of a charge; what was decided before stands."""
        charge_id = wire.parsed_id("ch", request.name)
        attempt_id = await self._challenges.cancel(request.tenant_id, charge_id)
        if attempt_id is None:
            raise Refused(404, "not_found")

        async def read(tx: Tx) -> Any:
            return await self.state(tx, request.tenant_id, attempt_id)

        return await self._found(read, request.tenant_id)

    async def by_key(self, request: Request) -> Answer:
        key = (request.tenant_id, wire.key(request.asked("idempotency_key")))

        async def read(tx: Tx) -> Any:
            row = (await store.charges_by_key(tx, [key])).get(key)
            asking = None if row else (await secure_store.by_key(tx, [key])).get(key)
            return await self._one(tx, request.tenant_id, row, asking)

        return await self._found(read, request.tenant_id)

    async def by_id(self, request: Request) -> Answer:
        charge_id = wire.parsed_id("ch", request.name)

        async def read(tx: Tx) -> Any:
            row = await store.charge_of_id(tx, request.tenant_id, charge_id)
            asking = None if row else await secure_store.of_id(tx, request.tenant_id, charge_id)
            return await self._one(tx, request.tenant_id, row, asking)

        return await self._found(read, request.tenant_id)

    async def _one(
        self, tx: Tx, tenant_id: UUID, row: Row[Any] | None, asking: Row[Any] | None
    ) -> dict[str, Any] | None:
        """A charge of the journal, or one that waits for its payer."""
        if row is not None:
            return self._shown(tenant_id, told(row, await tx.now(tenant_id)))
        return None if asking is None else self._shown(tenant_id, waiting(asking))

    async def attempt(self, request: Request) -> Answer:
        attempt_id = wire.key(request.name)

        if await wire.is_silent(self._database, request.tenant_id, faults.ATTEMPTS_SILENT):
            return wire.CUT, None

        async def read(tx: Tx) -> Any:
            return await self.state(tx, request.tenant_id, attempt_id)

        return await self._found(read, request.tenant_id)

    async def _found(self, read: Callable[[Tx], Awaitable[Any]], tenant_id: UUID) -> Answer:
        answer = await self._database.transact(_READ, read, tenants=[tenant_id])
        if answer is None:
            raise Refused(404, "not_found")
        return 200, answer

    async def state(self, tx: Tx, tenant_id: UUID, attempt_id: str) -> Any:
        """An attempt as the provider sees it: a capture first, then what is authorized, its page,
        what its payer is to confirm, then a decline."""
        charges = await store.charges_of(tx, tenant_id, attempt_id)
        page = await store.page_of_attempt(tx, tenant_id, attempt_id)
        now = await tx.now(tenant_id)
        known = [told(row, now) for row in charges]
        taken = next((each for each in known if each.status == "succeeded"), None)
        if taken is None:
            held = await authorizations_store.of_attempt(tx, tenant_id, attempt_id)
            taken = None if held is None else authorizations.told(held, now)
        if taken is not None:
            answer = taken.answer()
            if page is not None and page.saved_token:
                found = await store.methods(tx, [(tenant_id, page.saved_token)])
                method = found[tenant_id, page.saved_token]
                answer["method"] = shown(method)
            return answer
        if page is not None:
            return {
                "id": ids.text("page", page.id),
                "status": "requires_action" if page.status == "open" else page.status,
                "url": self._addresses.of_page(tenant_id, attempt_id),
            }
        asking = await secure_store.of_attempt(tx, tenant_id, attempt_id)
        known += [waiting(row) for row in asking if row.state == "open"]
        return self._shown(tenant_id, known[-1]) if known else None


def _spoiled(charged: Told, answer: dict[str, Any]) -> Answer:
    """The answer as its fault lets it arrive."""
    broken: Answer = (500, {"code": "internal_error"})
    if charged.code == cards.STORED:
        return broken
    if charged.fault is None:
        return 200, answer
    arrives: dict[str, Answer] = {
        faults.NO_REPLY: (wire.CUT, None),
        faults.KEY_EXPIRED: (wire.CUT, None),
        faults.HALF_REPLY: (wire.CUT, msgspec.json.encode(answer)),
        faults.IN_FLIGHT: (409, {"code": "idempotency_key_in_use"}),
        "charge_500": broken,
        "charge_html": (200, wire.HTML),
        "charge_unknown_status": (200, answer | {"status": "in_review"}),
    }
    return arrives.get(charged.fault, (200, answer))
