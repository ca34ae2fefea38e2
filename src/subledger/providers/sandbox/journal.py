"""The journal of charges: concurrent charges share one transaction, each answers after commit."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform import ids
from subledger.platform.db import Database, Tx, story
from subledger.providers.sandbox import cards, faults, store
from subledger.providers.sandbox.callbacks import Owed, owe

_CHARGE = story("sandbox.charge")
MOST = 200
MOST_RACES = 5

Key = tuple[UUID, str]


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
    """What became of it: ``succeeded``, ``declined``, or ``processing`` until the bank decides.

    ``fault`` is how the answer goes wrong on its way, if it does.
    """

    charge_id: UUID
    attempt_id: str
    status: str
    code: str
    amount_minor: int
    currency: str
    at: datetime
    fault: str | None = None

    def answer(self) -> dict[str, Any]:
        """As the interface says it."""
        return {
            "id": ids.text("ch", self.charge_id),
            "attempt_id": self.attempt_id,
            "status": self.status,
            "code": self.code,
            "amount_minor": self.amount_minor,
            "currency": self.currency,
            "at": self.at.isoformat(),
        }


class KeyReused(Exception):
    """The idempotency key belongs to a charge with other input."""


class Raced(Exception):
    """Another transaction charged one of the keys first: look again."""


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

        told = await self._charge(list(first.values()))
        for asked, future in batch:
            given, answer = told[asked.tenant_id, asked.key]
            if future.done():
                continue
            if given != asked.hash():
                future.set_exception(KeyReused())
            else:
                future.set_result(answer)

    async def _charge(self, asked: Sequence[Asked]) -> dict[Key, tuple[bytes, Told]]:
        async def work(tx: Tx) -> dict[Key, tuple[bytes, Told]]:
            return await charge_all(tx, asked, faulty=True)

        tenants = {each.tenant_id for each in asked}
        for _ in range(MOST_RACES):
            try:
                return await self._database.transact(_CHARGE, work, tenants=tenants)
            except Raced:
                continue
        raise Raced


async def charge_all(
    tx: Tx, asked: Sequence[Asked], *, faulty: bool
) -> dict[Key, tuple[bytes, Told]]:
    """Charge what was not charged before; the input's hash and the answer of every key.

    ``faulty`` lets the tenant's fault settings spoil the answers. Raises Raced if another
    transaction charged one of the keys at the same time: nothing of this one may be kept then.
    """
    known = await store.charges_by_key(tx, [(each.tenant_id, each.key) for each in asked])
    clocks = {}
    if known:
        clocks = dict(await tx.clocks({row.tenant_id for row in known.values()}))
    answers = {
        key: (bytes(row.request_hash), told(row, clocks[key[0]])) for key, row in known.items()
    }
    fresh = [each for each in asked if (each.tenant_id, each.key) not in answers]
    if fresh:
        answers |= await _charge_fresh(tx, fresh, faulty=faulty)
    return answers


async def _charge_fresh(
    tx: Tx, fresh: Sequence[Asked], *, faulty: bool
) -> dict[Key, tuple[bytes, Told]]:
    methods = await store.methods(
        tx, list(dict.fromkeys((each.tenant_id, each.token) for each in fresh))
    )
    counted = sorted(key for key, row in methods.items() if cards.is_counted(row.kind))
    if counted:
        methods |= await store.methods(tx, counted, lock=True)
    clocks = await tx.clocks({each.tenant_id for each in fresh})
    wanted: dict[UUID, int] = {}
    for each in fresh:
        wanted[each.tenant_id] = wanted.get(each.tenant_id, 0) + 1
    spoiled = await store.take_faults(tx, wanted, modes=faults.CHARGE) if faulty else {}

    tries = {key: row.tries for key, row in methods.items()}
    answers, rows, later = {}, [], []
    for each in fresh:
        now = clocks[each.tenant_id]
        verdict = _judge(methods.get((each.tenant_id, each.token)), tries)
        spent = spoiled.get(each.tenant_id)
        fault = spent.pop() if spent else None
        row = _row(each, verdict, charge_id=tx.ids.new(), now=now)
        if verdict.code != cards.LOST:
            rows.append(row)
        if row["settles_at"] is not None:
            later.append(row)
        if not verdict.reply:
            fault = faults.NO_REPLY
        answers[each.tenant_id, each.key] = (row["request_hash"], told(row, now, fault))
    if await store.add_charges(tx, rows) < len(rows):
        raise Raced
    await store.count_tries(
        tx, [{"tenant_id": key[0], "token": key[1], "tries": tries[key]} for key in counted]
    )
    await owe(tx, [_settled(row) for row in later])
    return answers


def _judge(method: Row[Any] | None, tries: dict[Key, int]) -> cards.Verdict:
    if method is None:
        return cards.Verdict(captured=False, code="unknown_token")
    key = (method.tenant_id, method.token)
    verdict = cards.judge(method.kind, tries[key])
    tries[key] += 1
    return verdict


def _row(asked: Asked, verdict: cards.Verdict, *, charge_id: UUID, now: datetime) -> dict[str, Any]:
    after = verdict.settles_after_s
    return {
        "tenant_id": asked.tenant_id,
        "idempotency_key": asked.key,
        "id": charge_id,
        "attempt_id": asked.attempt_id,
        "token": asked.token,
        "amount_minor": asked.amount_minor,
        "currency": asked.currency,
        "status": "succeeded" if verdict.captured else "declined",
        "code": verdict.code,
        "request_hash": asked.hash(),
        "at": now,
        "settles_at": now + timedelta(seconds=after) if after else None,
    }


def _settled(row: Mapping[str, Any]) -> Owed:
    """The webhook of a charge that the bank decides later."""
    kind = "charge.succeeded" if row["status"] == "succeeded" else "charge.failed"
    data = {"attempt_id": row["attempt_id"], "charge_id": ids.text("ch", row["id"])}
    return Owed(row["tenant_id"], kind, row["id"], data, row["settles_at"])


def told(row: Row[Any] | Mapping[str, Any], now: datetime, fault: str | None = None) -> Told:
    """A row of the journal as it is told at ``now`` of the tenant's clock.

    The verdict of a pending charge stands in its row from the start, so that the journal is only
    ever added to; it is told from ``settles_at`` on.
    """
    values = row if isinstance(row, Mapping) else row._mapping
    pending = values["settles_at"] is not None and values["settles_at"] > now
    return Told(
        charge_id=values["id"],
        attempt_id=values["attempt_id"],
        status="processing" if pending else values["status"],
        code="processing" if pending else values["code"],
        amount_minor=values["amount_minor"],
        currency=values["currency"],
        at=values["at"] if pending or values["settles_at"] is None else values["settles_at"],
        fault=fault,
    )
