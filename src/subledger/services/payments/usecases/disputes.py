"""Disputes: what a provider's lists say of them, written down and told once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.events import Event
from subledger.core.states import DUE_RANK
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.due import Due
from subledger.services.payments import facts
from subledger.services.payments.disputing import (
    OPEN,
    Decision,
    Found,
    Known,
    Waiting,
    compare,
    look_again,
    next_look,
)
from subledger.services.payments.store import disputes as store
from subledger.services.payments.store import intents, refunds
from subledger.services.payments.store.payments import Key
from subledger.services.payments.usecases import differences


async def take_list(tx: Tx, looked: Sequence[tuple[Row[Any], Sequence[Found] | None]]) -> None:
    """The provider's lists of attempts' disputes (None: it did not say). New and changed disputes
    are written down and told; the next look is due.

    A provider that has disputes of an attempt that has captured nothing, as far as we know, knows
    more of it: the attempt is asked about, and its disputes again later.
    """
    payments = {(row.tenant_id, row.payment_id) for row, _ in looked}
    locked = await refunds.lock_payments(tx, payments)
    ours = await store.of_payments(tx, payments)
    clocks = await tx.clocks({tenant for tenant, _ in payments})
    due: list[Due] = []
    over: list[Key] = []
    settled: list[tuple[UUID, str, str]] = []
    for row, listed in looked:
        key = (row.tenant_id, row.payment_id)
        payment = locked[key]
        known = [each for each in ours.get(key, []) if each.attempt_id == row.attempt_id]
        at = max(clocks[row.tenant_id], payment.occurred_at, *(each.occurred_at for each in known))
        taught = listed is not None
        if listed and payment.attempt_id != row.attempt_id:
            await intents.ask(tx, {(row.tenant_id, row.attempt_id): "fetch"})
            taught = False
        elif listed:
            taken = await _in_currency(tx, payment, row.attempt_id, listed)
            await _take(tx, payment, known, taken, at)
            known = (await store.of_payments(tx, [key])).get(key, [])  # all are of this capture
        look = await _next(tx, payment, row, known, at, taught=taught)
        waits = [each for each in known if each.state == OPEN]
        if taught and not any(look is None or each.exhausted_at for each in waits):
            settled.append((row.tenant_id, differences.DISPUTE_UNKNOWN, _name(row.attempt_id)))
        if look is None:
            over.append((row.tenant_id, row.attempt_id))
        else:
            due.append(look)
    await intents.due.drop(tx, ((tenant, store.DUE, attempt) for tenant, attempt in over))
    await intents.due.put(tx, due)
    await differences.close_about(tx, settled, how=differences.AGREES)


async def _in_currency(
    tx: Tx, payment: Row[Any], attempt_id: UUID, listed: Sequence[Found]
) -> list[Found]:
    """Disputes in the payment's currency; one in another nobody could book: a person is called."""
    for each in listed:
        if each.currency != payment.currency:
            said = {
                "provider_ref": each.provider_ref,
                "reason": "another_currency",
                "amount_minor": each.amount_minor,
                "currency": each.currency,
            }
            await _call(tx, payment, attempt_id, said, subject=each.provider_ref)
    return [each for each in listed if each.currency == payment.currency]


async def _take(
    tx: Tx,
    payment: Row[Any],
    known: Sequence[Row[Any]],
    listed: Sequence[Found],
    at: datetime,
) -> None:
    by_ref = {each.provider_ref: each for each in known}
    decided = compare(
        [
            Known(each.id, each.provider_ref, each.state, each.evidence_due_at, each.fee_minor)
            for each in known
        ],
        listed,
    )
    made, saved = [], []
    for before, found, decision in decided:
        if before is None:
            row = _new(tx, payment, found, at) | _changed(decision, at)
            made.append(row)
        else:
            row = by_ref[found.provider_ref]._asdict() | _changed(decision, at)
            saved.append(row)
        shown = row | {"invoice_id": payment.invoice_id, "connection_id": payment.connection_id}
        tx.emit(_event(kind, shown, at) for kind in decision.events)
    await store.insert(tx, made)
    await store.save(tx, saved)


def _new(tx: Tx, payment: Row[Any], found: Found, at: datetime) -> dict[str, Any]:
    return {
        "tenant_id": payment.tenant_id,
        "id": tx.ids.new(),
        "payment_id": payment.id,
        "attempt_id": payment.attempt_id,
        "customer_id": payment.customer_id,
        "provider_ref": found.provider_ref,
        "amount_minor": found.amount_minor,
        "currency": found.currency,
        "reason": found.reason,
        "opened_at": at,
        "exhausted_at": None,
    }


def _changed(decision: Decision, at: datetime) -> dict[str, Any]:
    return {
        "state": decision.state,
        "fee_minor": decision.fee_minor,
        "evidence_due_at": decision.evidence_due_at,
        "closed_at": None if decision.state == OPEN else at,
        "occurred_at": at,
    }


def _event(kind: str, values: dict[str, Any], at: datetime) -> Event:
    data = facts.dispute(values)
    if kind == events.DISPUTE_OPENED:
        data["status"] = OPEN
    if kind == events.DISPUTE_CLOSED:
        data["outcome"] = values["state"]
    return Event(
        type=kind,
        tenant_id=values["tenant_id"],
        subject=values["customer_id"],
        data=data,
        occurred_at=at,
    )


async def _next(
    tx: Tx,
    payment: Row[Any],
    row: Row[Any],
    known: Sequence[Row[Any]],
    at: datetime,
    *,
    taught: bool,
) -> Due | None:
    """When the attempt is asked about again, if it is. Open disputes that nobody asks about any
    more are marked, and a person is called."""
    wait = next_look(
        (Waiting(e.opened_at, e.evidence_due_at) for e in known if e.state == OPEN), at
    )
    tries = 0
    if not taught:
        tries = row.tries + 1
        soon = look_again(row.tries)
        wait = min((each for each in (wait, soon) if each is not None), default=None)
    if wait is None:
        await _give_up(tx, payment, row, known, at, taught=taught)
        return None
    return Due(
        tenant_id=row.tenant_id,
        kind=store.DUE,
        id=row.attempt_id,
        account_id=payment.customer_id or payment.id,
        due_at=at + wait,
        rank=DUE_RANK[store.DUE],
        number=tries,
    )


async def _give_up(
    tx: Tx,
    payment: Row[Any],
    row: Row[Any],
    known: Sequence[Row[Any]],
    at: datetime,
    *,
    taught: bool,
) -> None:
    left = [each for each in known if each.state == OPEN and each.exhausted_at is None]
    await store.save(tx, [each._asdict() | {"exhausted_at": at} for each in left])
    if left or not taught:
        waiting = left or [each for each in known if each.state == OPEN]
        said = {
            "reason": "not_decided" if left else "no_answer",
            "amount_minor": sum(each.amount_minor for each in waiting),
            "currency": payment.currency,
        }
        await _call(tx, payment, row.attempt_id, said, subject=_name(row.attempt_id))


async def _call(
    tx: Tx, payment: Row[Any], attempt_id: UUID, said: dict[str, Any], *, subject: str
) -> None:
    """A person has to look, once while it lasts. What no provider was ever asked for has none."""
    if payment.connection_id is None:
        return
    about = differences.Found(
        tenant_id=payment.tenant_id,
        connection_id=payment.connection_id,
        kind=differences.DISPUTE_UNKNOWN,
        subject=subject,
        customer_id=payment.customer_id,
        payment_id=payment.id,
        data={"attempt_id": _name(attempt_id), **said},
    )
    await differences.open_all(tx, [about])


def _name(attempt_id: UUID) -> str:
    return ids.text("att", attempt_id)
