"""Refunds: asked for by the merchant, listed by attempt."""

from __future__ import annotations

from typing import Any

from subledger.platform.db import Database, Tx, story
from subledger.providers.sandbox import faults, refunds
from subledger.providers.sandbox.http import wire
from subledger.providers.sandbox.http.wire import Answer, Refused, Request, Route

_REFUND = story("sandbox.refund")
_READ = story("sandbox.read_refunds", reads=True)


class Refunds:
    def __init__(self, database: Database) -> None:
        self._database = database

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/v1/refunds", self.refund),
            Route("GET", "/v1/refunds", self.of_attempt),
        ]

    async def refund(self, request: Request) -> Answer:
        data, tenant_id = request.data, request.tenant_id
        named = data.get("refund_id")
        wanted = refunds.Wanted(
            tenant_id=tenant_id,
            key=wire.key(request.key),
            attempt_id=wire.key(data["attempt_id"]),
            refund_id=None if named is None else wire.key(named),
            amount_minor=wire.amount(data),
            currency=wire.currency(data),
        )

        async def work(tx: Tx) -> tuple[dict[str, Any], str | None]:
            return await refunds.refund(tx, wanted)

        try:
            answer, fault = await self._database.transact(_REFUND, work, tenants=[tenant_id])
        except refunds.NoCapture:
            raise Refused(422, "nothing_captured") from None
        except refunds.TooMuch:
            raise Refused(422, "refund_exceeds_charge") from None
        except refunds.Disputed:
            raise Refused(422, "charge_disputed") from None
        except refunds.KeyReused:
            raise Refused(422, "idempotency_key_reused") from None
        match fault:
            case "refund_500":
                return 500, {"code": "internal_error"}
            case "refund_html":
                return 200, wire.HTML
            case "refund_no_reply":
                return wire.CUT, None
            case _:
                return 200, answer

    async def of_attempt(self, request: Request) -> Answer:
        attempt_id = wire.key(request.asked("attempt_id"))
        if await wire.is_silent(self._database, request.tenant_id, faults.REFUNDS_SILENT):
            return wire.CUT, None

        async def read(tx: Tx) -> list[dict[str, Any]]:
            return await refunds.listed(tx, request.tenant_id, attempt_id)

        listed = await self._database.transact(_READ, read, tenants=[request.tenant_id])
        return 200, {"data": listed}
