"""Capturing and voiding what was authorized (``POST /v1/charges`` with ``capture: false``)."""

from __future__ import annotations

from subledger.platform.db import Database, Tx, story
from subledger.providers.sandbox import authorizations, faults
from subledger.providers.sandbox.http import wire
from subledger.providers.sandbox.http.wire import Answer, Refused, Request, Route
from subledger.providers.sandbox.journal import Told

_CAPTURE = story("sandbox.capture")
_VOID = story("sandbox.void")


class Authorizations:
    def __init__(self, database: Database) -> None:
        self._database = database

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/v1/charges/{}/capture", self.capture),
            Route("POST", "/v1/charges/{}/void", self.void),
        ]

    async def capture(self, request: Request) -> Answer:
        """``{amount_minor?}``: whole or a part, once; an expired or voided one says so."""
        charge_id = wire.parsed_id("ch", request.name)
        data = request.data or {}
        amount = wire.amount(data) if data.get("amount_minor") is not None else None

        async def work(tx: Tx) -> tuple[Told, str | None]:
            return await authorizations.capture(tx, request.tenant_id, charge_id, amount)

        try:
            told, fault = await self._database.transact(_CAPTURE, work, tenants=[request.tenant_id])
        except authorizations.NotThere:
            raise Refused(404, "not_found") from None
        except authorizations.TooMuch:
            raise Refused(422, "capture_exceeds_authorization") from None
        except authorizations.AlreadyCaptured:
            raise Refused(422, "already_captured") from None
        if fault in {faults.CAPTURE_NO_REPLY, faults.CAPTURE_LOST}:
            return wire.CUT, None
        if fault == faults.CAPTURE_500:
            return 500, {"code": "internal_error"}
        return 200, told.answer()

    async def void(self, request: Request) -> Answer:
        charge_id = wire.parsed_id("ch", request.name)

        async def work(tx: Tx) -> Told:
            return await authorizations.void(tx, request.tenant_id, charge_id)

        try:
            told = await self._database.transact(_VOID, work, tenants=[request.tenant_id])
        except authorizations.NotThere:
            raise Refused(404, "not_found") from None
        return 200, told.answer()
