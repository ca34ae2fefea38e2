"""The journal of charges: concurrent charges share one transaction, each answers after commit."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform import ids
from subledger.platform.db import Database, Tx, story
from subledger.providers.sandbox import (
    cards,
    disputes,
    faults,
    secure_store,
    settlements_store,
    store,
)
from subledger.providers.sandbox.callbacks import Owed, owe

_CHARGE = story("sandbox.charge")
MOST = 200
MOST_RACES = 5

Key = tuple[UUID, str]


@dataclass(frozen=True, slots=True)
class Asked:
    """One charge as it was asked for. ``key`` is its idempotency key.

    ``secret_hash`` is of the unguessable part of the address at which the payer may have to
    confirm it, ``return_url`` where the payer goes then. ``page_id`` is set for a try on a page;
    ``declined`` if that is to be declined whatever the card; ``mandate`` is what its payer agreed
    to, if the card is to be kept. ``customer_id`` and ``invoice_id`` are what the merchant says
    that it is for. Without ``capture`` the money is only to be set aside.
    """

    tenant_id: UUID
    key: str
    attempt_id: str
    token: str
    amount_minor: int
    currency: str
    customer_id: str | None = None
    invoice_id: str | None = None
    secret_hash: bytes = b""
    return_url: str = ""
    page_id: UUID | None = None
    mandate: str | None = None
    declined: bool = False
    capture: bool = True

    def hash(self) -> bytes:
        text = f"{self.attempt_id}|{self.token}|{self.amount_minor}|{self.currency}"
        if not self.capture:
            text += "|authorize"
        return hashlib.sha256(text.encode()).digest()


@dataclass(frozen=True, slots=True)
class Told:
    """What became of it: ``succeeded``, ``declined``, ``requires_action`` while the payer is to
    confirm it, or ``processing`` until the bank decides.

    ``fault`` is how the answer goes wrong on its way, if it does.
    """

    key: str
    charge_id: UUID
    attempt_id: str
    status: str
    code: str
    amount_minor: int
    currency: str
    at: datetime
    fault: str | None = None
    expires_at: datetime | None = None
    """Until when an authorization can be captured."""

    def answer(self) -> dict[str, Any]:
        """As the interface says it."""
        answer = {
            "id": ids.text("ch", self.charge_id),
            "attempt_id": self.attempt_id,
            "status": self.status,
            "code": self.code,
            "amount_minor": self.amount_minor,
            "currency": self.currency,
            "at": self.at.isoformat(),
        }
        if self.expires_at is not None:
            answer["expires_at"] = self.expires_at.isoformat()
        return answer


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
    modes = faults.at("charge")
    spoiled = await store.take_faults(tx, wanted, modes=modes) if faulty else {}

    tries = {key: row.tries for key, row in methods.items()}
    answers, rows, owed, asking, disputed = {}, [], [], [], []
    for each in fresh:
        now = clocks[each.tenant_id]
        spent = spoiled.get(each.tenant_id)
        fault = spent.pop() if spent else None
        verdict = judge(each, methods.get((each.tenant_id, each.token)), tries, fault)
        row = _row(each, verdict, charge_id=tx.ids.new(), now=now)
        if verdict.asks or verdict.code == cards.LATE:
            asking.append(challenge(each, row, state="open" if verdict.asks else "checking"))
        if verdict.asks:
            continue
        if fault == faults.KEY_EXPIRED:
            row["idempotency_key"] += f".{row['id'].hex}"
        answer = told(row, now, fault)
        if verdict.captured and fault in {faults.PHANTOM, faults.SHORT}:
            answer, row = replace(answer, fault=None), _falsified(row, str(fault))
        if verdict.code != cards.LOST:
            rows.append(row)
        if row["settles_at"] is not None or fault == faults.WEBHOOK_FIRST:
            owed.append(settled(row))
        if verdict.disputed_after_s is not None:
            disputed.append((row, timedelta(seconds=verdict.disputed_after_s)))
        if not verdict.reply:
            answer = replace(answer, fault=faults.NO_REPLY)
        answers[each.tenant_id, each.key] = (row["request_hash"], answer)
    if await store.add_charges(tx, rows) < len(rows):
        raise Raced
    answers |= await ask_payers(tx, asking)
    await settlements_store.add_subjects(tx, fresh)
    await store.count_tries(
        tx, [{"tenant_id": key[0], "token": key[1], "tries": tries[key]} for key in counted]
    )
    await owe(tx, owed)
    await disputes.open_later(tx, disputed)
    return answers


async def ask_payers(tx: Tx, asking: Sequence[Mapping[str, Any]]) -> dict[Key, tuple[bytes, Told]]:
    """Begin what payers have to confirm; asked again it is the same. Raises Raced if one of them
    has just decided."""
    standing = await secure_store.add(tx, asking)
    if any(row.state in {"confirmed", "declined", "expired"} for row in standing.values()):
        raise Raced  # decided meanwhile: the journal has it
    return {
        key: (bytes(row.request_hash), waiting(row))
        for key, row in standing.items()
        if row.state == "open"
    }


def challenge(asked: Asked, row: Mapping[str, Any], *, state: str) -> dict[str, Any]:
    """What the payer of a charge is asked to confirm."""
    shared = ("tenant_id", "idempotency_key", "id", "attempt_id", "token", "amount_minor")
    return {name: row[name] for name in shared} | {
        "currency": row["currency"],
        "request_hash": row["request_hash"],
        "secret_hash": asked.secret_hash,
        "page_id": asked.page_id,
        "mandate": asked.mandate,
        "return_url": asked.return_url,
        "state": state,
        "created_at": row["at"],
        "capture": asked.capture,
    }


def waiting(row: Row[Any]) -> Told:
    """A charge that its payer has to confirm."""
    return Told(
        key=row.idempotency_key,
        charge_id=row.id,
        attempt_id=row.attempt_id,
        status="requires_action",
        code="requires_action",
        amount_minor=row.amount_minor,
        currency=row.currency,
        at=row.created_at,
    )


def judge(
    asked: Asked, method: Row[Any] | None, tries: dict[Key, int], fault: str | None
) -> cards.Verdict:
    """What the bank says to a charge; counts the try."""
    if method is None or method.detached_at is not None:
        return cards.Verdict(captured=False, code="unknown_token")
    key = (method.tenant_id, method.token)
    verdict = cards.judge(method.kind, tries[key], on_page=asked.page_id is not None)
    tries[key] += 1
    if fault == faults.DECLINED or asked.declined:
        return cards.Verdict(False, "do_not_honor")
    if fault == faults.STORED_500:
        return cards.Verdict(False, cards.STORED)
    if fault == faults.ACTION_LATE:
        return cards.Verdict(True, cards.LATE, settles_after_s=cards.LATE_AFTER_S)
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


def _falsified(row: dict[str, Any], fault: str) -> dict[str, Any]:
    """What the journal says although the answer says otherwise."""
    if fault == faults.PHANTOM or row["amount_minor"] == 1:
        return row | {"status": "declined", "code": "phantom"}
    return row | {"amount_minor": row["amount_minor"] - 1}


def settled(row: Mapping[str, Any]) -> Owed:
    """The webhook of a charge, due when the bank has decided."""
    kind = "charge.succeeded" if row["status"] == "succeeded" else "charge.failed"
    data = {"attempt_id": row["attempt_id"], "charge_id": ids.text("ch", row["id"])}
    return Owed(row["tenant_id"], kind, row["id"], data, row["settles_at"] or row["at"])


def told(row: Row[Any] | Mapping[str, Any], now: datetime, fault: str | None = None) -> Told:
    """A row of the journal as it is told at ``now`` of the tenant's clock.

    The verdict of a pending charge stands in its row from the start, so that the journal is only
    ever added to; it is told from ``settles_at`` on.
    """
    values = row if isinstance(row, Mapping) else row._mapping
    pending = values["settles_at"] is not None and values["settles_at"] > now
    undecided = "requires_action" if values["code"] == cards.LATE else "processing"
    return Told(
        key=values["idempotency_key"],
        charge_id=values["id"],
        attempt_id=values["attempt_id"],
        status=undecided if pending else values["status"],
        code=undecided if pending else values["code"],
        amount_minor=values["amount_minor"],
        currency=values["currency"],
        at=values["at"] if pending or values["settles_at"] is None else values["settles_at"],
        fault=fault,
    )
