"""Settlements: the journal in order, payouts, the balance, and the terms of all that."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from subledger.platform import ids
from subledger.platform.db import Database, Tx, story
from subledger.providers.sandbox import settlements, settlements_store
from subledger.providers.sandbox.http import wire
from subledger.providers.sandbox.http.wire import Answer, Refused, Request, Route

MOST = 500
_BEGINNING, _END = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
_READ = story("sandbox.read_settlements", reads=True)
_SET = story("sandbox.set_terms")


class Settlements:
    def __init__(self, database: Database) -> None:
        self._database = database

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/v1/settlements", self.listed),
            Route("GET", "/v1/payouts", self.payouts),
            Route("GET", "/v1/balance", self.balance),
            Route("POST", "/v1/settings", self.set_terms),
        ]

    async def listed(self, request: Request) -> Answer:
        """A page of entries: of a time, or of a payout."""
        tenant_id, named = request.tenant_id, request.asked("payout")
        since, until = _moment(request, "since", _BEGINNING), _moment(request, "until", _END)
        limit = _limit(request)
        after = _after(request.asked("after"))
        payout = wire.parsed_id("po", named) if named else None

        async def read(tx: Tx) -> list[dict[str, Any]]:
            agreed = await settlements.terms(tx, tenant_id)
            if payout is not None:
                rows = await settlements_store.of_payout(
                    tx, tenant_id, payout, after=after, limit=limit
                )
            else:
                rows = await settlements_store.listed(
                    tx, tenant_id, since=since, until=until, after=after, limit=limit
                )
            told = [settlements.told(row, agreed) for row in rows]
            for row, each in zip(rows, told, strict=True):
                each["place"] = f"{row.at.isoformat()}_{row.id}"
            return told

        told = await self._database.transact(_READ, read, tenants=[tenant_id])
        places = [each.pop("place") for each in told]
        return 200, {"data": told, "next": places[-1] if len(told) == limit else None}

    async def payouts(self, request: Request) -> Answer:
        async def read(tx: Tx) -> list[dict[str, Any]]:
            rows = await settlements_store.payouts(tx, request.tenant_id, limit=MOST)
            return [
                {
                    "id": ids.text("po", row.id),
                    "amount_minor": row.amount_minor,
                    "fee_minor": row.fee_minor,
                    "currency": row.currency,
                    "at": row.at.isoformat(),
                }
                for row in rows
            ]

        told = await self._database.transact(_READ, read, tenants=[request.tenant_id])
        return 200, {"data": told}

    async def balance(self, request: Request) -> Answer:
        """What is held for the merchant, before fees, now or at an earlier moment."""
        asked = _moment(request, "at", _END)

        async def read(tx: Tx) -> dict[str, int]:
            at = min(asked, await tx.now(request.tenant_id))
            return await settlements_store.balance(tx, request.tenant_id, until=at)

        held = await self._database.transact(_READ, read, tenants=[request.tenant_id])
        return 200, {"amount_minor": held}

    async def set_terms(self, request: Request) -> Answer:
        async def work(tx: Tx) -> settlements.Terms:
            return await settlements.set_terms(tx, request.tenant_id, request.data)

        agreed = await self._database.transact(_SET, work, tenants=[request.tenant_id])
        names = settlements.Terms.__dataclass_fields__
        return 200, {name: getattr(agreed, name) for name in names}


def _limit(request: Request) -> int:
    asked = request.asked("limit")
    limit = int(asked) if asked else MOST
    if not 1 <= limit <= MOST:
        raise Refused(422, "invalid_limit")
    return limit


def _moment(request: Request, name: str, default: datetime) -> datetime:
    asked = request.asked(name)
    moment = datetime.fromisoformat(asked) if asked else default
    if moment.tzinfo is None:
        raise Refused(422, "invalid_moment")
    return moment


def _after(cursor: str) -> tuple[datetime, UUID]:
    if not cursor:
        return _BEGINNING, UUID(int=0)
    at, _, row_id = cursor.partition("_")
    return datetime.fromisoformat(at), UUID(row_id)
