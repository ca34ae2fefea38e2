"""Providers' notifications: kept raw and encrypted, told once, nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from subledger.contracts import events
from subledger.contracts.events import Event
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.providers.port import Hint
from subledger.services.webhooks import store

MOST_HINTS = 100


@dataclass(frozen=True, slots=True)
class Arrival:
    """A verified notification at an endpoint, with all that it speaks of."""

    tenant_id: UUID
    endpoint_id: UUID
    connection_id: UUID
    trust: str
    body_encrypted: bytes = field(repr=False)
    hints: Sequence[Hint]


def readable(hints: Sequence[Hint]) -> list[Hint]:
    """The hints that can be kept. Raises ValueError for one without a key to know it again by."""
    kept = list(hints[:MOST_HINTS])
    if any(not key_of(hint) for hint in kept):
        raise ValueError("a notification without an id")
    return kept


async def receive(tx: Tx, arrivals: Sequence[Arrival]) -> int:
    """Keep and tell what was not received before, also within ``arrivals``; tells how much.

    A fact carries hints only (what it speaks of): whoever handles it asks the provider.
    """
    given = {
        tx.ids.new(): (arrival, hint)
        for arrival in arrivals
        for hint in {key_of(each): each for each in arrival.hints}.values()
    }
    if not given:
        return 0
    fresh = await store.receive(
        tx,
        [
            {
                "tenant_id": arrival.tenant_id,
                "id": each,
                "endpoint_id": arrival.endpoint_id,
                "dedupe_key": key_of(hint),
                "kind": _clean(hint.kind)[:100],
                "trust": arrival.trust,
                "body_encrypted": arrival.body_encrypted,
            }
            for each, (arrival, hint) in given.items()
        ],
    )
    if not fresh:
        return 0
    clocks = await tx.clocks({given[each][0].tenant_id for each in fresh})
    tx.emit(
        Event(
            type=events.WEBHOOK_RECEIVED,
            tenant_id=arrival.tenant_id,
            subject=arrival.tenant_id,
            data=told(
                each,
                endpoint_id=arrival.endpoint_id,
                connection_id=arrival.connection_id,
                hint=hint,
            ),
            occurred_at=clocks[arrival.tenant_id],
        )
        for each, (arrival, hint) in given.items()
        if each in fresh
    )
    return len(fresh)


def told(received: UUID, *, endpoint_id: UUID, connection_id: UUID, hint: Hint) -> dict[str, Any]:
    """What ``webhook.received`` says."""
    return {
        "webhook_id": ids.text("whr", received),
        "endpoint_id": ids.text("whe", endpoint_id),
        "connection_id": ids.text("conn", connection_id),
        "hints": [_hint(hint)],
    }


def key_of(hint: Hint) -> str:
    """By what a repeated notification is known."""
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
