"""Telling once more what was received: its facts again, for whoever missed or mishandled them.

Handlers take a notification as a hint and ask the provider, so a replay changes nothing that was
handled already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from cryptography.fernet import InvalidToken, MultiFernet
from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.events import Event
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.platform.rotation import rotated
from subledger.providers.port import Adapter, Hint
from subledger.services.webhooks import problems, store
from subledger.services.webhooks.usecases.receive import key_of, told

MOST_AT_ONCE = 1_000
CIPHERS_AT_ONCE = 500
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Replayed:
    """How many were told again, how many could not be read, and after which row to go on."""

    replayed: int
    unreadable: int
    last: Row[Any] | None


async def replay_one(
    tx: Tx,
    fernet: MultiFernet,
    adapters: Mapping[str, Adapter],
    *,
    tenant_id: UUID,
    received_id: UUID,
    cause: UUID,
) -> None:
    """Raises not_found, and webhook_sealed for a body that no key opens any more."""
    row = await store.received(tx, tenant_id, received_id)
    if row is None:
        raise Problem("not_found", detail="There is no such received webhook.")
    hint = _hint(row, adapters.get(row.provider), fernet)
    if hint is None:
        raise Problem(problems.SEALED, detail="Its body cannot be read any more.")
    await _tell(tx, [(row, hint)], connection_id=row.connection_id, cause=cause)


async def replay_range(
    tx: Tx,
    fernet: MultiFernet,
    adapters: Mapping[str, Adapter],
    *,
    tenant_id: UUID,
    connection_id: UUID,
    after: tuple[datetime, UUID],
    until: datetime,
    cause: UUID,
) -> Replayed:
    """Tell again what a connection received, the oldest first, at most 1,000. Raises not_found."""
    endpoint = await store.endpoint_of(tx, tenant_id, connection_id)
    if endpoint is None:
        raise Problem("not_found", detail="There is no such connection.", pointer="/connection_id")
    rows = await store.in_range(
        tx, tenant_id, endpoint.id, after=after, until=until, limit=MOST_AT_ONCE + 1
    )
    taken = rows[:MOST_AT_ONCE]
    adapter = adapters.get(endpoint.provider)
    read = [(row, hint) for row in taken if (hint := _hint(row, adapter, fernet)) is not None]
    await _tell(tx, read, connection_id=connection_id, cause=cause)
    return Replayed(
        replayed=len(read),
        unreadable=len(taken) - len(read),
        last=taken[-1] if len(rows) > MOST_AT_ONCE else None,
    )


async def reseal(tx: Tx, fernet: MultiFernet, *, tenant_id: UUID, after: UUID) -> UUID | None:
    """Encrypt the tenant's next endpoints with the newest key; where to go on, or None. What no key
    opens any more is left as it is, and logged."""
    rows = await store.lock_ciphers(tx, tenant_id, after=after, limit=CIPHERS_AT_ONCE)
    sealed = []
    for row in rows:
        anew = rotated(fernet, row.token_encrypted, row.secret_encrypted)
        if anew is None:
            _log.error("webhooks.cannot_open", tenant=str(tenant_id), endpoint_id=str(row.id))
        else:
            sealed.append((row.id, *anew))
    await store.save_ciphers(tx, tenant_id, sealed)
    return UUID(int=rows[-1].id.int) if rows else None


def _hint(row: Row[Any], adapter: Adapter | None, fernet: MultiFernet) -> Hint | None:
    """What a kept body says about the row; None if no key opens it."""
    if adapter is None:
        return None
    try:
        hints = adapter.parse(fernet.decrypt(bytes(row.body_encrypted)))
    except (InvalidToken, ValueError):
        return None
    return next((each for each in hints if key_of(each) == row.dedupe_key), None)


async def _tell(
    tx: Tx, read: Sequence[tuple[Row[Any], Hint]], *, connection_id: UUID, cause: UUID
) -> None:
    if not read:
        return
    tenant_id = read[0][0].tenant_id
    now = await tx.now(tenant_id)
    tx.emit(
        Event(
            type=events.WEBHOOK_RECEIVED,
            tenant_id=tenant_id,
            subject=tenant_id,
            data=told(row.id, endpoint_id=row.endpoint_id, connection_id=connection_id, hint=hint),
            occurred_at=now,
            cause=cause,
        )
        for row, hint in read
    )
