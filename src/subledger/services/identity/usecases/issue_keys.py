"""Give tenants API keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from subledger.contracts.events import API_KEY_CREATED, Event
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.services.identity import credentials, store


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """A key ``key_id`` for a tenant of ``mode``; ``role`` is ``admin`` or ``read``."""

    tenant_id: UUID
    key_id: UUID
    mode: str
    role: str
    name: str
    cause: UUID | None = None


async def issue_keys(tx: Tx, requests: Sequence[KeyRequest]) -> list[str]:
    """Make the keys and return their texts, in the order asked: the only time they are seen."""
    made = [credentials.create(each.mode) for each in requests]
    clocks = await tx.clocks({each.tenant_id for each in requests})
    await store.insert_keys(
        tx,
        [
            {
                "tenant_id": each.tenant_id,
                "id": each.key_id,
                "key_hash": key.digest,
                "last_four": key.last_four,
                "role": each.role,
                "name": each.name,
                "created_at": clocks[each.tenant_id],
            }
            for each, key in zip(requests, made, strict=True)
        ],
    )
    tx.emit(
        Event(
            type=API_KEY_CREATED,
            tenant_id=each.tenant_id,
            subject=each.tenant_id,
            data={"api_key_id": ids.text("key", each.key_id), "role": each.role},
            occurred_at=clocks[each.tenant_id],
            cause=each.cause,
        )
        for each in requests
    )
    return [key.text for key in made]
