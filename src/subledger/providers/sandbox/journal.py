"""The journal of charges: concurrent charges share one transaction, each answers after commit."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform import ids
from subledger.platform.db import Database, Tx, story
from subledger.providers.sandbox import cards, store

_CHARGE = story("sandbox.charge")
MOST = 200


@dataclass(frozen=True, slots=True)
class Asked:
    """One charge as it was asked for. ``key`` is its idempotency key."""

    tenant_id: UUID
    key: str
    attempt_id: str
    token: str
    amount_minor: int
    currency: str

    def hash(self) -> bytes:
        text = f"{self.attempt_id}|{self.token}|{self.amount_minor}|{self.currency}"
        return hashlib.sha256(text.encode()).digest()


@dataclass(frozen=True, slots=True)
class Told:
    """What became of it. ``fault`` is how the answer goes wrong on its way, if it does."""

    status: str
    code: str
    charge_id: str
    amount_minor: int
    at: str
    fault: str | None = None


class KeyReused(Exception):
    """The idempotency key belongs to a charge with other input."""


class Journal:
    """Group commit: what arrives while a transaction runs joins the next one (at most 200)."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[tuple[Asked, asyncio.Future[Told]]] = []
        self._running: asyncio.Task[None] | None = None

    async def charge(self, asked: Asked) -> Told:
        """Charge once per idempotency key; a repeat gets the first answer. Raises KeyReused."""
        future: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, future))
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._drain())
        return await future

    async def _drain(self) -> None:
        await asyncio.sleep(0)  # let the rest of a gather arrive
        while self._waiting:
            batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            try:
                await self._commit(batch)
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
            except BaseException:
                for _, future in batch:
                    future.cancel()
                raise

    async def _commit(self, batch: Sequence[tuple[Asked, asyncio.Future[Told]]]) -> None:
        first: dict[tuple[UUID, str], Asked] = {}
        for asked, _ in batch:
            first.setdefault((asked.tenant_id, asked.key), asked)

        async def work(tx: Tx) -> dict[tuple[UUID, str], tuple[bytes, Told]]:
            return await _charge(tx, list(first.values()))

        told = await self._database.transact(
            _CHARGE, work, tenants={asked.tenant_id for asked, _ in batch}
        )
        for asked, future in batch:
            given, answer = told[asked.tenant_id, asked.key]
            if future.done():
                continue
            if given != asked.hash():
                future.set_exception(KeyReused())
            else:
                future.set_result(answer)


async def _charge(tx: Tx, asked: Sequence[Asked]) -> dict[tuple[UUID, str], tuple[bytes, Told]]:
    keys = [(each.tenant_id, each.key) for each in asked]
    known = await store.charges_by_key(tx, keys)
    told = {key: (bytes(row.request_hash), _told(row)) for key, row in known.items()}
    fresh = [each for each in asked if (each.tenant_id, each.key) not in told]
    if not fresh:
        return told
    tokens = list(dict.fromkeys((each.tenant_id, each.token) for each in fresh))
    methods = await store.methods(tx, tokens)
    counted = [key for key, row in methods.items() if cards.is_counted(row.kind)]
    if counted:
        methods |= await store.methods(tx, counted, lock=True)
    clocks = await tx.clocks({each.tenant_id for each in fresh})
    wanted: dict[UUID, int] = {}
    for each in fresh:
        wanted[each.tenant_id] = wanted.get(each.tenant_id, 0) + 1
    faults = await store.take_faults(tx, wanted)

    tries = {key: row.tries for key, row in methods.items()}
    rows = []
    for each in fresh:
        method = methods.get((each.tenant_id, each.token))
        verdict = _judge(method, tries)
        fault = None if verdict.reply else "charge_no_reply"
        if faults.get(each.tenant_id):
            fault = faults[each.tenant_id].pop()
        row = {
            "tenant_id": each.tenant_id,
            "idempotency_key": each.key,
            "id": tx.ids.new(),
            "attempt_id": each.attempt_id,
            "token": each.token,
            "amount_minor": each.amount_minor,
            "currency": each.currency,
            "status": "succeeded" if verdict.captured else "declined",
            "code": verdict.code,
            "request_hash": each.hash(),
            "at": clocks[each.tenant_id],
        }
        if verdict.code != "lost":
            rows.append(row)
        told[each.tenant_id, each.key] = (each.hash(), _told(row, fault))
    await store.add_charges(tx, rows)
    await store.count_tries(
        tx,
        [{"tenant_id": key[0], "token": key[1], "tries": tries[key]} for key in counted],
    )
    return told


def _judge(method: Row[Any] | None, tries: dict[tuple[UUID, str], int]) -> cards.Verdict:
    if method is None:
        return cards.Verdict(captured=False, code="unknown_token")
    key = (method.tenant_id, method.token)
    verdict = cards.judge(method.kind, tries[key])
    tries[key] += 1
    return verdict


def _told(row: Row[Any] | Mapping[str, Any], fault: str | None = None) -> Told:
    values = row if isinstance(row, Mapping) else row._mapping
    return Told(
        status=values["status"],
        code=values["code"],
        charge_id=ids.text("ch", values["id"]),
        amount_minor=values["amount_minor"],
        at=values["at"].isoformat(),
        fault=fault,
    )
