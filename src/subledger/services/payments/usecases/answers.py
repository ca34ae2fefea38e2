"""What is kept of providers' answers and notifications, attempt by attempt, for people to read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from subledger.platform.db import Tx
from subledger.providers.hearing import Heard
from subledger.services.payments.store import answers as store
from subledger.services.payments.store.payments import Key

_TRIM_FROM = 8
"""Attempts that were looked at less often have not more rows than are kept."""


@dataclass(frozen=True, slots=True)
class Learnt:
    """What changed an attempt: the answers on the way, the state that it left it in."""

    attempt: Key
    operation: str
    state: str
    note: str | None
    at: datetime
    heard: Sequence[Heard]
    looks: int


async def keep(tx: Tx, learnt: Iterable[Learnt]) -> None:
    """Write answers down; of each attempt the newest ``store.MOST`` stay."""
    given = list(learnt)
    rows: list[dict[str, Any]] = []
    for each in given:
        answers = each.heard or (Heard(each.operation),)
        rows += [_row(tx, each, heard, last=heard is answers[-1]) for heard in answers]
    await store.insert(tx, rows)
    await store.trim(tx, (each.attempt for each in given if each.looks >= _TRIM_FROM))


def _row(tx: Tx, each: Learnt, heard: Heard, *, last: bool) -> dict[str, Any]:
    note = heard.note or each.note
    return {
        "tenant_id": each.attempt[0],
        "attempt_id": each.attempt[1],
        "id": tx.ids.new(),
        "kind": "answer",
        "operation": heard.operation,
        "status": heard.status,
        "body": heard.kept(),
        "note": None if note is None else note[:200],
        "state": each.state if last else None,
        "webhook_id": None,
        "occurred_at": each.at,
    }


async def note_webhooks(tx: Tx, found: Mapping[Key, UUID], kinds: Mapping[Key, str]) -> None:
    """Note which notifications (by tenant and id) spoke of which attempts."""
    if not found:
        return
    clocks = await tx.clocks({tenant for tenant, _ in found})
    rows = [
        {
            "tenant_id": tenant,
            "attempt_id": attempt,
            "id": webhook,
            "kind": "webhook",
            "operation": kinds[tenant, webhook][:100],
            "status": None,
            "body": None,
            "note": None,
            "state": None,
            "webhook_id": webhook,
            "occurred_at": clocks[tenant],
        }
        for (tenant, webhook), attempt in found.items()
    ]
    await store.insert(tx, rows)
    await store.trim(tx, ((tenant, attempt) for (tenant, _), attempt in found.items()))
