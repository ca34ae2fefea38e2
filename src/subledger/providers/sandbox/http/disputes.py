"""Disputes: opened and decided by whoever tests, listed by attempt."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from subledger.core import money
from subledger.platform.db import Database, Tx, story
from subledger.providers.sandbox import disputes
from subledger.providers.sandbox.http import wire
from subledger.providers.sandbox.http.wire import Answer, Refused, Request, Route

_OPEN = story("sandbox.open_dispute")
_CLOSE = story("sandbox.close_dispute")
_READ = story("sandbox.read_disputes", reads=True)
_REASON = re.compile(r"[a-z_]{1,40}")


class Disputes:
    def __init__(self, database: Database) -> None:
        self._database = database

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/v1/disputes", self.open),
            Route("GET", "/v1/disputes", self.of_attempt),
            Route("POST", "/v1/disputes/{}/close", self.close),
        ]

    async def open(self, request: Request) -> Answer:
        data, due = request.data, request.data.get("evidence_due_at")
        reason = data.get("reason", "fraudulent")
        if not isinstance(reason, str) or _REASON.fullmatch(reason) is None:
            raise Refused(422, "invalid_reason")
        wanted = disputes.Wanted(
            tenant_id=request.tenant_id,
            attempt_id=wire.key(data["attempt_id"]),
            amount_minor=wire.amount(data) if "amount_minor" in data else None,
            reason=reason,
            fee_minor=_fee(data.get("fee_minor", disputes.FEE_MINOR)),
            evidence_due_at=None if due is None else _moment(due),
        )

        async def work(tx: Tx) -> dict[str, Any]:
            return await disputes.open_one(tx, wanted)

        try:
            answer = await self._database.transact(_OPEN, work, tenants=[request.tenant_id])
        except disputes.NoCapture:
            raise Refused(422, "nothing_captured") from None
        except disputes.TooMuch:
            raise Refused(422, "dispute_exceeds_charge") from None
        return 200, answer

    async def close(self, request: Request) -> Answer:
        outcome, fee = request.data["outcome"], request.data.get("fee_minor")
        if outcome not in {"won", "lost"}:
            raise Refused(422, "invalid_outcome")
        dispute_id = wire.parsed_id("dp", request.name)
        fee_minor = None if fee is None else _fee(fee)

        async def work(tx: Tx) -> dict[str, Any]:
            return await disputes.close(
                tx, request.tenant_id, dispute_id, outcome, fee_minor=fee_minor
            )

        try:
            answer = await self._database.transact(_CLOSE, work, tenants=[request.tenant_id])
        except disputes.Unknown:
            raise Refused(404, "not_found") from None
        except disputes.Closed:
            raise Refused(409, "dispute_closed") from None
        except disputes.TooMuch:
            raise Refused(422, "dispute_exceeds_charge") from None
        return 200, answer

    async def of_attempt(self, request: Request) -> Answer:
        attempt_id = wire.key(request.asked("attempt_id"))

        async def read(tx: Tx) -> list[dict[str, Any]]:
            return await disputes.listed(tx, request.tenant_id, attempt_id)

        listed = await self._database.transact(_READ, read, tenants=[request.tenant_id])
        return 200, {"data": listed}


def _fee(given: Any) -> int:
    if type(given) is not int or given < 0:
        raise Refused(422, "invalid_amount")
    return money.check_amount(given)


def _moment(given: Any) -> datetime:
    moment = datetime.fromisoformat(given)
    if moment.tzinfo is None:
        raise Refused(422, "invalid_moment")
    return moment.astimezone(UTC)
