"""What providers answered about saved methods: detached there, changed there, or asked again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import structlog
from sqlalchemy import Row

from subledger.contracts import events
from subledger.platform.db import Tx
from subledger.services.payments import facts
from subledger.services.payments.protocol import (
    HELD_BACK,
    Absent,
    ActionNeeded,
    Closed,
    Lost,
    NotSent,
    Saved,
)
from subledger.services.payments.store import method_tasks, methods
from subledger.services.payments.store.payments import Key
from subledger.services.payments.usecases.methods import detach, finish_attaching

Answer = Closed | Saved | ActionNeeded | Absent | NotSent | Lost
MOST_TRIES: Final = 40
LONGEST_WAIT_S: Final = 3600
"""Tries are 1, 2, 4 … s apart (wall clock), then an hour: together more than a day."""

_log = structlog.get_logger()


async def take_answers(tx: Tx, answers: Sequence[tuple[Row[Any], Answer]]) -> None:
    """Apply what was learnt; what was not is asked again, and given up after a day.

    A method that is given up is never charged here in any case.
    """
    over, again = [], []
    changed: list[tuple[Row[Any], Saved]] = []
    for row, answer in answers:
        if isinstance(answer, NotSent | Lost):
            held = isinstance(answer, NotSent) and answer.reason in HELD_BACK
            tries = row.tries if held else row.tries + 1
            if tries < MOST_TRIES:
                again.append((row, tries, min(2 ** min(row.tries, 20), LONGEST_WAIT_S)))
                continue
            _log.error(
                "payment_method.needs_a_person",
                tenant=str(row.tenant_id),
                method_id=str(row.method_id),
                action=row.action,
            )
        over.append(row)
        if isinstance(answer, Saved) and row.status != "attaching":
            changed.append((row, answer))
    await _set_up(tx, [each for each in answers if each[0].status == "attaching"])
    await _take_over(tx, changed)
    gone = [
        row for row, answer in answers if isinstance(answer, Absent) and row.status != "attaching"
    ]
    for row in sorted(gone, key=lambda each: (each.tenant_id, each.method_id)):
        await detach(
            tx, tenant_id=row.tenant_id, method_id=row.method_id, cause=None, tells_provider=False
        )
    await method_tasks.again(tx, again)
    await method_tasks.done(tx, over)


async def _set_up(tx: Tx, answers: Sequence[tuple[Row[Any], Answer]]) -> None:
    """What became of pages on which methods are saved: where they are, or how they ended."""
    ended: list[tuple[Key, Saved | None]] = []
    opened = []
    for row, answer in answers:
        key = (row.tenant_id, row.method_id)
        if isinstance(answer, ActionNeeded) and row.action == "setup":
            where = {"provider_ref": answer.provider_ref or "", "return_url": row.return_url}
            named = {"tenant_id": row.tenant_id, "id": row.method_id}
            opened.append(named | where | {"redirect_url": answer.redirect_url})
        elif isinstance(answer, Saved):
            ended.append((key, answer))
        elif isinstance(answer, Absent):
            ended.append((key, None))
    keys = {(row["tenant_id"], row["id"]) for row in opened}
    await methods.lock_methods(tx, keys)
    await methods.set_setups(tx, opened)
    if ended:
        await finish_attaching(tx, ended)


async def _take_over(tx: Tx, changed: Sequence[tuple[Row[Any], Saved]]) -> None:
    """Keep what the provider says about methods that can be charged, and tell what is new."""
    if not changed:
        return
    customers = await methods.lock_customers(
        tx, {(row.tenant_id, row.customer_id) for row, _ in changed}
    )
    locked = await methods.lock_methods(tx, ((row.tenant_id, row.method_id) for row, _ in changed))
    taken = await methods.by_token(
        tx, ((row.tenant_id, row.connection_id, saved.token) for row, saved in changed)
    )
    clocks = await tx.clocks({row.tenant_id for row, _ in changed})
    for claimed, saved in changed:
        row = locked[claimed.tenant_id, claimed.method_id]
        said = saved.expires_on or row.expires_on
        now = (saved.token, saved.brand, saved.last_four, said)
        if taken.get((row.tenant_id, row.connection_id, saved.token), row.id) != row.id:
            continue  # another saved method has become this one
        if row.status != "active" or now == (row.token, row.brand, row.last_four, row.expires_on):
            continue
        await methods.describe(tx, [methods.described(row, saved)])
        owner = customers[row.tenant_id, row.customer_id]
        tx.emit(
            [
                facts.method(
                    events.PAYMENT_METHOD_UPDATED,
                    tenant_id=row.tenant_id,
                    method_id=row.id,
                    customer_id=row.customer_id,
                    brand=saved.brand,
                    last_four=saved.last_four,
                    is_default=owner.default_method_id == row.id,
                    occurred_at=clocks[row.tenant_id],
                    cause=None,
                )
            ]
        )
