"""Two-stage payments: the wish to capture or void, what became of it, and the deadline."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.core.states import DUE_RANK
from subledger.platform.db import Tx
from subledger.platform.due import Due
from subledger.platform.http.problems import Problem
from subledger.services.payments import problems as refusals
from subledger.services.payments import wishes
from subledger.services.payments.protocol import EXPIRE_AGAIN
from subledger.services.payments.store import authorizations as store
from subledger.services.payments.store import intents, payments
from subledger.services.payments.store.payments import Key
from subledger.services.payments.usecases.settle import Result, settle


async def want_capture(tx: Tx, tenant_id: UUID, payment_id: UUID, amount_minor: int | None) -> None:
    """Intend to capture an authorized payment, whole (None) or in part, once. Asked again with the
    same amount it is the same capture.

    Raises not_found, payment_not_capturable with the reason, capture_exceeds_authorization.
    """
    row = await _lock(tx, tenant_id, payment_id)
    attempt = (tenant_id, row.attempt_id)
    held = (await store.lock(tx, [attempt])).get(attempt)
    if held is None:
        raise _not_capturable(row.state if row.capture_method == "manual" else "automatic")
    amount = held.authorized_minor if amount_minor is None else amount_minor
    if amount > held.authorized_minor:
        raise Problem(
            refusals.CAPTURE_EXCEEDS,
            detail=f"{held.authorized_minor} is authorized.",
            pointer="/amount_minor",
            authorized_minor=held.authorized_minor,
        )
    again = {
        "succeeded": row.amount_minor == amount,
        "unknown": held.wish == wishes.CAPTURE and held.capture_minor == amount,
        "authorized": held.wish == wishes.CAPTURE and held.capture_minor == amount,
    }
    if again.get(row.state):
        return
    reason = wishes.refused_because(row.state, held.wish)
    if reason is not None:
        raise _not_capturable(reason)
    wished = {"wish": wishes.CAPTURE, "capture_minor": amount, "tries": 0}
    await store.save(tx, [store.changed(held, ready_at=held.wall_at, **wished)])


def _not_capturable(reason: str) -> Problem:
    return Problem(
        refusals.NOT_CAPTURABLE,
        detail=f"The payment cannot be captured: it is {reason}.",
        reason=reason,
    )


async def _lock(tx: Tx, tenant_id: UUID, payment_id: UUID) -> Row[Any]:
    key = (tenant_id, payment_id)
    attempts = (await payments.attempts_of(tx, [key])).get(key)
    if not attempts:
        raise Problem("not_found", detail="There is no such payment.")
    attempt = (tenant_id, attempts[-1].id)
    return (await payments.lock(tx, [attempt]))[attempt]


async def want_voids(tx: Tx, attempts: Sequence[Key]) -> dict[Key, str | None]:
    """Intend to let authorizations go whose payments are locked; by attempt, what was wanted of
    each before (``capture`` stands)."""
    held = await store.lock(tx, attempts)
    await store.save(
        tx,
        [
            store.changed(row, wish=wishes.VOID, tries=0, ready_at=row.wall_at)
            for row in held.values()
            if row.wish is None
        ],
    )
    return {key: row.wish for key, row in held.items()}


async def reach_deadlines(tx: Tx, rows: Sequence[Due]) -> None:
    """Void what nobody captured in time; what is being captured is looked at again."""
    found = await payments.attempts_of(tx, ((row.tenant_id, row.id) for row in rows))
    newest = [(key[0], each[-1].id) for key, each in found.items() if each]
    locked = await payments.lock(tx, newest)
    standing = {key: row for key, row in locked.items() if row.state == "authorized"}
    await want_voids(tx, list(standing))
    # Also if the void does not get through: the moment comes again until it has.
    await _again(tx, [row for row in locked.values() if row.state in {"authorized", "unknown"}])


async def _again(tx: Tx, rows: Sequence[Row[Any]]) -> None:
    if not rows:
        return
    clocks = await tx.clocks({row.tenant_id for row in rows})
    await intents.due.put(
        tx,
        [
            Due(
                tenant_id=row.tenant_id,
                kind=intents.AUTHORIZATION,
                id=row.id,
                account_id=row.customer_id,
                due_at=clocks[row.tenant_id] + EXPIRE_AGAIN,
                rank=DUE_RANK[intents.AUTHORIZATION],
            )
            for row in rows
        ],
    )


async def record(tx: Tx, results: Sequence[Result]) -> None:
    """Apply what captures and voids came to, and let their intents go or try them again."""
    await settle(tx, results)
    locked = await payments.lock(tx, (each.attempt for each in results))
    held = await store.lock(tx, locked)
    saved, again = [], []
    for each in results:
        row, mine = locked[each.attempt], held[each.attempt]
        left = wishes.left(row.state, mine.wish, mine.tries, each.finding)
        ready_at = None
        if left.ready_in_s is not None:
            ready_at = mine.wall_at + timedelta(seconds=left.ready_in_s)
        saved.append(store.changed(mine, wish=left.kind, tries=left.tries, ready_at=ready_at))
        if left.comes_again:
            again.append(row)
    await store.save(tx, saved)
    await _again(tx, again)
