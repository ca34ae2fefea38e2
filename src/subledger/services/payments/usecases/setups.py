"""Methods that a payer saves on a page without paying: wished for, looked after, closed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from subledger.core.states import DUE_RANK
from subledger.platform.db import Tx
from subledger.platform.due import Due
from subledger.services.payments.store import intents, method_tasks, methods
from subledger.services.payments.store.payments import Key

LOOK_AFTER: Final = timedelta(hours=1)
"""How often a page is looked up although no webhook came (tenant's clock)."""
OPEN_FOR: Final = timedelta(hours=23)
"""A page that nobody used is closed at the provider, and its method has failed."""


async def start(
    tx: Tx,
    *,
    tenant_id: UUID,
    method_id: UUID,
    customer_id: UUID,
    connection_id: UUID,
    make_default: bool,
    return_url: str,
) -> None:
    """Record the wish; the provider is asked for its page after the commit."""
    now = await tx.now(tenant_id)
    row = {
        "tenant_id": tenant_id,
        "id": method_id,
        "customer_id": customer_id,
        "connection_id": connection_id,
        "status": "attaching",
        "token": "",
        "brand": "",
        "last_four": "",
        "test_kind": None,
        "make_default": make_default,
        "expires_on": None,
    }
    key = (tenant_id, method_id)
    await methods.insert_methods(tx, [row], created_at=now)
    await methods.set_setups(
        tx,
        [
            {"tenant_id": tenant_id, "id": method_id, "provider_ref": ""}
            | {"return_url": return_url, "redirect_url": None}
        ],
    )
    await method_tasks.ask(tx, [key], "setup")
    await _look_later(tx, [(key, customer_id)])


async def _look_later(tx: Tx, found: Sequence[tuple[Key, UUID]]) -> None:
    clocks = await tx.clocks({key[0] for key, _ in found})
    await intents.due.put(
        tx,
        [
            Due(
                tenant_id=key[0],
                kind=intents.SETUP,
                id=key[1],
                account_id=customer_id,
                due_at=clocks[key[0]] + LOOK_AFTER,
                rank=DUE_RANK[intents.SETUP],
            )
            for key, customer_id in found
        ],
    )


async def look_again(tx: Tx, rows: Sequence[Due]) -> None:
    """Ask about pages whose moment has come, and close those that have been open long enough; each
    is due again until its method is saved or has failed."""
    found = await methods.methods(tx, ((row.tenant_id, row.id) for row in rows))
    waiting = {key: row for key, row in found.items() if row.status == "attaching"}
    if not waiting:
        return
    clocks = await tx.clocks({tenant for tenant, _ in waiting})
    opened = {key for key, row in waiting.items() if row.provider_ref}
    old = {key for key in opened if clocks[key[0]] - waiting[key].created_at >= OPEN_FOR}
    await method_tasks.ask(tx, opened - old, "look")
    await method_tasks.ask(tx, old, "expire")
    await _look_later(tx, [(key, row.customer_id) for key, row in sorted(waiting.items())])
