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
from subledger.services.payments.protocol import (
    EXPIRE_AGAIN,
    HELD_BACK_S,
    MOST_TRIES,
    TERMINAL,
    Lost,
    NotSent,
)
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
        "unknown": held.wish == "capture" and held.capture_minor == amount,
        "authorized": held.wish == "capture" and held.capture_minor == amount,
    }
    if again.get(row.state):
        return
    if row.state != "authorized" or held.wish is not None:
        wished = {"capture": "capturing", "void": "canceling"}.get(held.wish or "", row.state)
        raise _not_capturable(wished if row.state == "authorized" else row.state)
    await store.save(
        tx,
        [store.changed(held, wish="capture", capture_minor=amount, tries=0, ready_at=held.wall_at)],
    )


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
            store.changed(row, wish="void", tries=0, ready_at=row.wall_at)
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
        if row.state in TERMINAL or mine.wish is None:
            saved.append(store.changed(mine, wish=None))
            continue
        tries = mine.tries + 1
        goes_on = mine.wish == "capture" and tries < MOST_TRIES
        if row.state == "unknown" and goes_on:
            # It is asked about first: who finds it authorized goes on with the capture.
            saved.append(store.changed(mine, tries=tries))
        elif row.state == "authorized" and goes_on and isinstance(each.finding, NotSent):
            wait_s = each.finding.retry_after_s or min(0.2 * 2**tries, HELD_BACK_S)
            ready_at = mine.wall_at + timedelta(seconds=wait_s)
            saved.append(store.changed(mine, tries=tries, ready_at=ready_at))
        else:
            saved.append(store.changed(mine, wish=None, tries=0))
            if mine.wish == "void" and isinstance(each.finding, Lost | NotSent):
                again.append(row)
    await store.save(tx, saved)
    await _again(tx, again)
