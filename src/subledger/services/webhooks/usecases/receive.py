"""A provider's notification: kept raw and encrypted, told once, nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from subledger.contracts import events
from subledger.contracts.events import Event
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.providers.port import Hint
from subledger.services.webhooks import store

MOST_HINTS = 100


async def receive(
    tx: Tx,
    *,
    tenant_id: UUID,
    endpoint_id: UUID,
    connection_id: UUID,
    trust: str,
    body_encrypted: bytes,
    hints: Sequence[Hint],
) -> int:
    """Keep and tell the notifications that were not received before; tells how many.

    The fact carries hints only (what it speaks of): whoever handles it asks the provider.
    """
    by_key = {_key(hint): hint for hint in hints[:MOST_HINTS]}
    given = {tx.ids.new(): (key, hint) for key, hint in by_key.items()}
    fresh = await store.receive(
        tx,
        tenant_id=tenant_id,
        endpoint_id=endpoint_id,
        trust=trust,
        body_encrypted=body_encrypted,
        rows=[
            {"id": each, "dedupe_key": key, "kind": _clean(hint.kind)[:100]}
            for each, (key, hint) in given.items()
        ],
    )
    if not fresh:
        return 0
    now = await tx.now(tenant_id)
    tx.emit(
        Event(
            type=events.WEBHOOK_RECEIVED,
            tenant_id=tenant_id,
            subject=tenant_id,
            data={
                "webhook_id": ids.text("whr", each),
                "endpoint_id": ids.text("whe", endpoint_id),
                "connection_id": ids.text("conn", connection_id),
                "hints": [_hint(hint)],
            },
            occurred_at=now,
        )
        for each, (_, hint) in given.items()
        if each in fresh
    )
    return len(fresh)


def _key(hint: Hint) -> str:
    return _clean(hint.dedupe_key)[:300]


def _hint(hint: Hint) -> dict[str, Any]:
    """Only text leaves here, whatever the body held."""
    return {
        "kind": _clean(hint.kind)[:100],
        "attempt_id": _text(hint.attempt_id),
        "provider_ref": _text(hint.provider_ref),
    }


def _clean(value: str) -> str:
    """PostgreSQL's text and JSON hold no NUL."""
    return value.replace("\0", "")


def _text(value: object) -> str | None:
    return value[:200] if isinstance(value, str) and value and "\0" not in value else None
