"""What billing answered when it was asked who may collect."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.collections import Reservation
from subledger.contracts.events import Event
from subledger.core.states import ATTEMPT, PAYMENT, step
from subledger.platform.db import Tx
from subledger.services.payments import facts
from subledger.services.payments.protocol import Captured
from subledger.services.payments.store import methods, payments
from subledger.services.payments.usecases.settle import Result, settle

METHOD_MISMATCH = "payment_method_of_another_customer"


async def apply(tx: Tx, tenant_id: UUID, answers: Sequence[Reservation]) -> int:
    """Granted attempts become ready, refused ones are canceled; tells how many changed.

    An attempt that is not waiting for its reservation any more is left alone: another process
    was quicker, and it got the same answer.
    A refused retry counts for nothing but is told to dunning as a failure, so that the schedule
    goes on if the other payment, which holds the invoice, comes to nothing.
    """
    locked = await payments.lock(tx, ((tenant_id, each.attempt_id) for each in answers))
    now = await tx.now(tenant_id)
    waiting = [
        (answer, row, max(now, row.occurred_at))
        for answer in answers
        if (row := locked.get((tenant_id, answer.attempt_id))) is not None
        and row.state == "reserving"
    ]
    granted = [each for each in waiting if each[0].granted]
    unusable = await _grant(tx, tenant_id, granted)
    refused = [each for each in waiting if not each[0].granted] + unusable
    if refused:
        await _refuse(tx, refused)
    return len(waiting)


async def _grant(
    tx: Tx, tenant_id: UUID, granted: Sequence[tuple[Reservation, Row[Any], datetime]]
) -> list[tuple[Reservation, Row[Any], datetime]]:
    """Fill in amount, customer and method. Returns those whose method is another customer's."""
    if not granted:
        return []
    named = [
        (tenant_id, answer.customer_id, row.method_id)
        for answer, row, _ in granted
        if answer.customer_id is not None
    ]
    chosen = await methods.to_charge(tx, named)
    rows, states, unusable = [], [], []
    for (answer, row, at), name in zip(granted, named, strict=True):
        method_id, connection_id = chosen[name] if row.kind == "charge" else (None, None)
        mismatch = row.mode == "manual" and row.method_id not in {None, method_id}
        if mismatch:
            method_id, connection_id = row.method_id, row.connection_id
        rows.append(
            {
                "tenant_id": tenant_id,
                "id": row.id,
                "customer_id": answer.customer_id,
                "amount_minor": answer.amount_minor,
                "currency": answer.currency,
                "method_id": method_id,
                "connection_id": connection_id,
            }
        )
        if mismatch:
            unusable.append((answer, row, at))
            continue
        states.append(
            {
                "tenant_id": tenant_id,
                "id": row.attempt_id,
                "state": step(ATTEMPT, row.state, "reserved"),
                "finished_at": None,
            }
        )
    await payments.grant(tx, rows)
    await payments.move_attempts(tx, states)
    # What arrived off-line is there: nobody is asked for it.
    await settle(
        tx,
        [
            Result(
                (tenant_id, row.attempt_id),
                Captured(amount_minor=answer.amount_minor),
                action="offline",
            )
            for answer, row, _ in granted
            if row.kind == "offline"
        ],
    )
    return unusable


async def _refuse(tx: Tx, refused: Sequence[tuple[Reservation, Row[Any], datetime]]) -> None:
    """Nothing was asked of a provider. A granted but unusable attempt gives its reservation back
    by its cancellation."""
    rows, states = [], []
    for answer, row, at in refused:
        code = answer.refusal or METHOD_MISMATCH
        # An invoice that is closed needs no retry; one held by another payment may.
        fails = row.dunning and code == "reserved"
        rows.append(
            {
                "tenant_id": row.tenant_id,
                "id": row.id,
                "connection_id": row.connection_id,
                "method_id": row.method_id,
                "status": step(PAYMENT, row.status, "failed" if fails else "canceled"),
                "decline": "soft" if fails else None,
                "failure_code": code,
                "redirect_url": None,
                "occurred_at": at,
                "finished_at": at,
            }
        )
        states.append(
            {
                "tenant_id": row.tenant_id,
                "id": row.attempt_id,
                "state": step(ATTEMPT, row.state, "refused"),
                "finished_at": at,
            }
        )
        customer_id = answer.customer_id or row.customer_id
        if customer_id is not None and answer.granted | row.dunning:
            tx.emit([_refusal(answer, row, at, customer_id=customer_id, fails=fails)])
    await payments.save_payments(tx, rows)
    await payments.move_attempts(tx, states)


def _refusal(
    answer: Reservation, row: Row[Any], at: datetime, *, customer_id: UUID, fails: bool
) -> Event:
    data = facts.payment(
        row, connection_id=row.connection_id, method_id=row.method_id, customer_id=customer_id
    ) | {
        "amount_minor": answer.amount_minor,
        "currency": answer.currency,
    }
    if fails:
        data |= {
            "decline": "soft",
            "code": answer.refusal,
            "counted": False,
            "retry_not_before": None,
            "final": True,
            "other_method_ids": [],
        }
    return Event(
        type=events.PAYMENT_FAILED if fails else events.PAYMENT_CANCELED,
        tenant_id=row.tenant_id,
        subject=customer_id,
        data=data,
        occurred_at=at,
        cause=row.cause,
    )
