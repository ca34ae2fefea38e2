"""Refunds of captured charges: once per idempotency key, together never more than was captured."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.providers.sandbox import cards, disputes_store, faults, store
from subledger.providers.sandbox.callbacks import Owed, owe
from subledger.providers.sandbox.disputes import held_minor


@dataclass(frozen=True, slots=True)
class Wanted:
    """One refund as it was asked for. ``refund_id`` is the merchant's own name for it, if any."""

    tenant_id: UUID
    key: str
    attempt_id: str
    refund_id: str | None
    amount_minor: int
    currency: str

    def hash(self) -> bytes:
        text = f"{self.attempt_id}|{self.refund_id}|{self.amount_minor}|{self.currency}"
        return hashlib.sha256(text.encode()).digest()


class NoCapture(Exception):
    """The attempt has captured nothing, or in another currency."""


class TooMuch(Exception):
    """More than is left of the capture."""


class Disputed(Exception):
    """What is left of the capture is under dispute, or was lost to one."""


class KeyReused(Exception):
    """The idempotency key belongs to a refund with other input."""


async def refund(tx: Tx, wanted: Wanted) -> tuple[dict[str, Any], str | None]:
    """Give money back; the answer and the fault that spoils it. Raises NoCapture, TooMuch,
    Disputed, KeyReused.

    A merchant's refunds are made one after the other, so that two of the rest cannot both pass.
    """
    tenant = wanted.tenant_id
    await store.lock_merchant(tx, tenant)
    now = await tx.now(tenant)
    known = await store.refund_of_key(tx, tenant, wanted.key)
    if known is not None:
        if bytes(known.request_hash) != wanted.hash():
            raise KeyReused
        return told(known._mapping, now), None
    charge = await _captured(tx, wanted, now)
    earlier = await store.refunds_of(tx, tenant, wanted.attempt_id)
    gone = sum(each.amount_minor for each in earlier if each.status == "succeeded")
    if wanted.amount_minor > charge.amount_minor - gone:
        raise TooMuch
    gone += held_minor(await disputes_store.of_attempt(tx, tenant, wanted.attempt_id))
    if wanted.amount_minor > charge.amount_minor - gone:
        raise Disputed
    spent = (await store.take_faults(tx, {tenant: 1}, modes=faults.at("refund"))).get(tenant)
    fault = spent.pop() if spent else None
    row = _row(wanted, charge, fault, refund_id=tx.ids.new(), now=now)
    await store.add_refunds(tx, [row])
    await owe(tx, [_settled(row, now)])
    return told(row, now), fault


async def listed(tx: Tx, tenant_id: UUID, attempt_id: str) -> list[dict[str, Any]]:
    """All refunds of an attempt's capture, the oldest first."""
    now = await tx.now(tenant_id)
    rows: Sequence[Row[Any]] = await store.refunds_of(tx, tenant_id, attempt_id)
    return [told(row._mapping, now) for row in rows]


async def _captured(tx: Tx, wanted: Wanted, now: datetime) -> Row[Any]:
    for row in await store.charges_of(tx, wanted.tenant_id, wanted.attempt_id):
        settled = row.settles_at is None or row.settles_at <= now
        if row.status == "succeeded" and settled and row.currency == wanted.currency:
            return row
    raise NoCapture


def _row(
    wanted: Wanted, charge: Row[Any], fault: str | None, *, refund_id: UUID, now: datetime
) -> dict[str, Any]:
    declined = fault in faults.REFUND_DECLINED
    later = fault in faults.REFUND_LATER
    return {
        "tenant_id": wanted.tenant_id,
        "idempotency_key": wanted.key,
        "id": refund_id,
        "charge_id": charge.id,
        "attempt_id": wanted.attempt_id,
        "refund_id": wanted.refund_id,
        "amount_minor": wanted.amount_minor,
        "currency": wanted.currency,
        "status": "declined" if declined else "succeeded",
        "code": "refund_declined" if declined else "ok",
        "request_hash": wanted.hash(),
        "at": now,
        "settles_at": now + timedelta(seconds=cards.SETTLES_AFTER_S) if later else None,
    }


def _settled(row: dict[str, Any], now: datetime) -> Owed:
    """The webhook of a refund that is decided."""
    kind = "refund.succeeded" if row["status"] == "succeeded" else "refund.failed"
    data = {
        "attempt_id": row["attempt_id"],
        "charge_id": ids.text("ch", row["charge_id"]),
        "refund_id": ids.text("rf", row["id"]),
    }
    return Owed(row["tenant_id"], kind, row["id"], data, row["settles_at"] or now)


def told(row: Any, now: datetime) -> dict[str, Any]:
    """A row as the interface says it at ``now``: until ``settles_at`` the bank has not decided."""
    pending = row["settles_at"] is not None and row["settles_at"] > now
    return {
        "id": ids.text("rf", row["id"]),
        "attempt_id": row["attempt_id"],
        "refund_id": row["refund_id"],
        "status": "processing" if pending else row["status"],
        "code": "processing" if pending else row["code"],
        "amount_minor": row["amount_minor"],
        "currency": row["currency"],
        "at": row["at"].isoformat(),
    }
