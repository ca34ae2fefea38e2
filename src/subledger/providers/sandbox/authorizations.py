"""Two stages: money is set aside on a card first, and captured, voided or let expire later.

The journal of charges knows nothing of an authorization until it is captured: only what was
captured counts as money. A merchant's authorizations change one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.db import Tx
from subledger.providers.sandbox import (
    authorizations_store,
    cards,
    faults,
    journal,
    secure_store,
    settlements_store,
    store,
)
from subledger.providers.sandbox.journal import Asked, KeyReused, Raced, Told

EXPIRES_AFTER: Final = timedelta(days=7)
"""An authorization that was neither captured nor voided is over then (tenant's clock)."""
FAULTS: Final = (faults.DECLINED, "charge_500", faults.NO_REPLY)
_SHARED: Final = (
    *("tenant_id", "idempotency_key", "id", "attempt_id", "token", "amount_minor", "currency"),
    *("request_hash", "at"),
)


class NotThere(Exception):
    """The merchant has no such authorization."""


class TooMuch(Exception):
    """More is to be captured than was authorized."""


class AlreadyCaptured(Exception):
    """It was captured, with another amount: an authorization is captured once."""


async def authorize(tx: Tx, asked: Asked, *, faulty: bool) -> Told:
    """Set money aside once per idempotency key; a repeat is told how it stands. A card that asks
    its payer waits for the answer; one that would settle or be disputed later is simply authorized.

    ``faulty`` lets the tenant's fault settings spoil it. Raises KeyReused, and Raced if the payer
    decides at this moment: look again.
    """
    tenant = asked.tenant_id
    await store.lock_merchant(tx, tenant)
    now = await tx.now(tenant)
    known = await _known(tx, asked, now)
    if known is not None:
        return known
    method_key = (tenant, asked.token)
    method = (await store.methods(tx, [method_key], lock=True)).get(method_key)
    spoiled = await store.take_faults(tx, {tenant: 1}, modes=FAULTS) if faulty else {}
    fault = next(iter(spoiled.get(tenant, ())), None)
    tries = {} if method is None else {method_key: method.tries}
    verdict = journal.judge(asked, method, tries, fault)
    if method is not None and cards.is_counted(method.kind):
        await store.count_tries(
            tx, [{"tenant_id": tenant, "token": asked.token, "tries": tries[method_key]}]
        )
    if not verdict.reply:
        fault = faults.NO_REPLY
    row = _row(asked, charge_id=tx.ids.new(), now=now)
    refused = row | {"status": "declined", "code": verdict.code, "settles_at": None}
    if verdict.code == cards.LOST:
        return journal.told(refused, now, fault)
    await settlements_store.add_subjects(tx, [asked])
    if verdict.asks:
        asking = journal.challenge(asked, row, state="open")
        return (await journal.ask_payers(tx, [asking]))[tenant, asked.key][1]
    if not verdict.captured:
        await store.add_charges(tx, [refused])
        return journal.told(refused, now, fault)
    return _told(await set_aside(tx, row), now, fault)


def _row(asked: Asked, *, charge_id: UUID, now: datetime) -> dict[str, Any]:
    return {
        "tenant_id": asked.tenant_id,
        "idempotency_key": asked.key,
        "id": charge_id,
        "attempt_id": asked.attempt_id,
        "token": asked.token,
        "amount_minor": asked.amount_minor,
        "currency": asked.currency,
        "request_hash": asked.hash(),
        "at": now,
    }


async def set_aside(tx: Tx, row: Mapping[str, Any]) -> dict[str, Any]:
    """Authorize what ``row`` (a charge's, or a confirmed challenge's) asks for; as it stands."""
    held = {name: row[name] for name in _SHARED}
    held |= {"state": "open", "expires_at": row["at"] + EXPIRES_AFTER}
    await authorizations_store.add(tx, held)
    return held


async def _known(tx: Tx, asked: Asked, now: datetime) -> Told | None:
    """What became of the key before."""
    key = (asked.tenant_id, asked.key)
    charge = (await store.charges_by_key(tx, [key])).get(key)
    held = await authorizations_store.by_key(tx, *key)
    asking = (await secure_store.by_key(tx, [key])).get(key)
    standing = charge or held or asking
    if standing is None:
        return None
    if bytes(standing.request_hash) != asked.hash():
        raise KeyReused
    if charge is not None:
        return journal.told(charge, now)
    if held is not None:
        return told(held, now)
    if standing.state != "open":
        raise Raced
    return journal.waiting(standing)


async def capture(
    tx: Tx, tenant: UUID, authorization_id: UUID, amount_minor: int | None
) -> tuple[Told, str | None]:
    """Take the money, whole (None) or a part, once: what is left of it is free again. How it stands
    then, and the fault that spoils the answer. Raises NotThere, TooMuch, AlreadyCaptured."""
    await store.lock_merchant(tx, tenant)
    row = await authorizations_store.by_id(tx, tenant, authorization_id)
    if row is None:
        raise NotThere
    now = await tx.now(tenant)
    amount = row.amount_minor if amount_minor is None else amount_minor
    if row.state == "captured":
        key = (tenant, row.idempotency_key)
        charge = (await store.charges_by_key(tx, [key]))[key]
        if charge.amount_minor != amount:
            raise AlreadyCaptured
        return journal.told(charge, now), None
    if not is_open(row, now):
        return told(row, now), None
    if amount > row.amount_minor:
        raise TooMuch
    spoiled = await store.take_faults(tx, {tenant: 1}, modes=faults.at("capture"))
    fault = next(iter(spoiled.get(tenant, ())), None)
    charged = {
        "tenant_id": tenant,
        "idempotency_key": row.idempotency_key,
        "id": row.id,
        "attempt_id": row.attempt_id,
        "token": row.token,
        "amount_minor": amount,
        "currency": row.currency,
        "status": "succeeded",
        "code": "ok",
        "request_hash": row.request_hash,
        "at": now,
        "settles_at": None,
    }
    if fault == faults.CAPTURE_DECLINED:
        return journal.told(charged | {"status": "declined", "code": "do_not_honor"}, now), fault
    if fault == faults.CAPTURE_LOST:
        return told(row, now), fault
    added = await store.add_charges(tx, [charged])
    assert added == 1, "an authorization that is open has no charge yet"
    await authorizations_store.set_state(tx, row, "captured")
    return journal.told(charged, now), fault


async def void(tx: Tx, tenant: UUID, authorization_id: UUID) -> Told:
    """Let the money go; what was captured before stands. Raises NotThere."""
    await store.lock_merchant(tx, tenant)
    row = await authorizations_store.by_id(tx, tenant, authorization_id)
    if row is None:
        raise NotThere
    now = await tx.now(tenant)
    if row.state == "captured":
        key = (tenant, row.idempotency_key)
        return journal.told((await store.charges_by_key(tx, [key]))[key], now)
    if row.state == "open":
        await authorizations_store.set_state(tx, row, "voided")
    return told(await authorizations_store.by_id(tx, tenant, authorization_id) or row, now)


def is_open(row: Row[Any], now: datetime) -> bool:
    """Whether it can be captured at ``now`` of the tenant's clock."""
    return bool(row.state == "open" and now < row.expires_at)


def told(row: Row[Any], now: datetime) -> Told:
    """An authorization that was not captured, as it is told at ``now``."""
    return _told(dict(row._mapping), now, None)


def _told(values: dict[str, Any], now: datetime, fault: str | None) -> Told:
    is_on = values["state"] == "open" and now < values["expires_at"]
    return Told(
        key=values["idempotency_key"],
        charge_id=values["id"],
        attempt_id=values["attempt_id"],
        status="authorized" if is_on else "expired",
        code="ok" if is_on else ("voided" if values["state"] == "voided" else "expired"),
        amount_minor=values["amount_minor"],
        currency=values["currency"],
        at=values["at"],
        fault=fault,
        expires_at=values["expires_at"],
    )
