"""Refunds: asked for, granted or refused by billing, and what the provider says became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.events import Event
from subledger.contracts.refunds import RefundGrant
from subledger.core.states import DUE_RANK, REFUND, step
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.due import Due
from subledger.platform.http.problems import Problem
from subledger.services.payments import facts, problems
from subledger.services.payments.disputing import HELD
from subledger.services.payments.protocol import Finding, Lost
from subledger.services.payments.refunding import (
    LIVE,
    OVER,
    Decision,
    Known,
    Listed,
    Standing,
    compare,
    decide,
)
from subledger.services.payments.store import disputes, intents, looks
from subledger.services.payments.store import refunds as store
from subledger.services.payments.store.payments import Key
from subledger.services.payments.usecases import differences
from subledger.services.payments.usecases.differences import Found

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Wish:
    """A refund as a person asks for it. ``amount_minor`` None is all that is left."""

    tenant_id: UUID
    payment_id: UUID
    amount_minor: int | None
    to: str
    source: str
    reason: str
    cancel_subscription: bool = False


async def refundable(tx: Tx, wish: Wish) -> Row[Any]:
    """The payment (locked) that ``wish`` may be asked of, as far as payments can tell.

    Raises Problem: not_found, payment_not_refundable, refund_exceeds_payment and payment_disputed
    (with ``left_minor``); what was asked for before counts until it has failed, what a dispute took
    until it is won.
    """
    key = (wish.tenant_id, wish.payment_id)
    row = (await store.lock_payments(tx, [key])).get(key)
    if row is None or row.customer_id is None:
        raise Problem("not_found", detail="There is no such payment.")
    if row.status != "succeeded":
        raise Problem(problems.NOT_REFUNDABLE, detail=f"The payment is {row.status}.")
    if row.connection_id is None:
        raise Problem(
            problems.NOT_REFUNDABLE,
            detail="No provider took this money: it is given back outside.",
            fix="Reverse it by POST /v1/payments/{id}/reverse if it was none after all; else give"
            " it back yourself.",
        )
    disputed = sum(
        each.amount_minor
        for each in (await disputes.of_payments(tx, [key])).get(key, [])
        if each.state in HELD
    )
    if wish.to == "credit" and not disputed:
        return row
    earlier = (await store.of_payments(tx, [key])).get(key, [])
    gone = sum(
        each.amount_minor or each.asked_minor or row.amount_minor
        for each in earlier
        if each.destination == "method" and each.state in LIVE
    )
    wanted, left = wish.amount_minor or 1, max(row.amount_minor - gone, 0)
    undisputed = max(left - disputed, 0)
    if wanted > left and wish.to == "method":
        raise exceeds(undisputed)
    if wanted > undisputed:
        raise taken(undisputed)
    return row


def taken(left_minor: int) -> Problem:
    """The problem of a refund of money that a dispute has taken."""
    return Problem(
        problems.DISPUTED,
        detail=f"{left_minor} of the payment is not disputed and can go back so.",
        pointer="/amount_minor",
        left_minor=left_minor,
    )


def refusal(code: str | None, left_minor: int) -> Problem:
    """Billing's refusal as a problem."""
    return taken(left_minor) if code == "disputed" else exceeds(left_minor)


def exceeds(left_minor: int) -> Problem:
    """The problem of a refund of more than can go back."""
    return Problem(
        problems.REFUND_EXCEEDS,
        detail=f"{left_minor} of the payment can go back so.",
        pointer="/amount_minor",
        left_minor=left_minor,
    )


async def request(tx: Tx, wish: Wish, *, refund_id: UUID, cause: UUID) -> None:
    """Write down that a refund is wanted; billing decides whether it may be. Raises as
    ``refundable``."""
    payment = await refundable(tx, wish)
    at = max(await tx.now(wish.tenant_id), payment.occurred_at)
    asked = _row(payment, refund_id=refund_id, at=at, cause=cause) | {
        "destination": wish.to,
        "source": wish.source,
        "origin": "asked",
        "reason": wish.reason,
        "cancel_subscription": wish.cancel_subscription,
        "asked_minor": wish.amount_minor,
        "state": "requested",
    }
    await store.insert(tx, [asked])


def _row(payment: Row[Any], *, refund_id: UUID, at: datetime, cause: UUID | None) -> dict[str, Any]:
    return {
        "tenant_id": payment.tenant_id,
        "id": refund_id,
        "payment_id": payment.id,
        "attempt_id": payment.attempt_id,
        "cancel_subscription": False,
        "asked_minor": None,
        "amount_minor": None,
        "currency": payment.currency,
        "provider_ref": None,
        "cause": cause,
        "occurred_at": at,
        "finished_at": None,
    }


# --- billing's answer ----------------------------------------------------------------------------


async def apply_grants(tx: Tx, tenant_id: UUID, answers: Sequence[RefundGrant]) -> int:
    """Granted refunds are ready to be sent, or done if they stay as credit; refused ones are over.
    One that billing cannot judge yet is asked about again. Tells how many changed."""
    locked = await store.lock(tx, ((tenant_id, each.refund_id) for each in answers))
    now = await tx.now(tenant_id)
    saved, told, later = [], [], []
    for answer in answers:
        row = locked.get((tenant_id, answer.refund_id))
        if row is None or row.state != "requested":
            continue
        if answer.refusal == "not_booked":
            later.append((tenant_id, row.id))
            continue
        at = max(now, row.occurred_at)
        trigger = "refused"
        if answer.granted:
            trigger = "granted" if row.destination == "method" else "credited"
        state = step(REFUND, row.state, trigger)
        changed = {
            "tenant_id": tenant_id,
            "id": row.id,
            "amount_minor": answer.amount_minor if answer.granted else None,
            "refundable_minor": answer.refundable_minor,
            "credit_note_id": answer.credit_note_id,
            "state": state,
            "code": answer.refusal,
            "occurred_at": at,
            "finished_at": at if state in OVER else None,
        }
        saved.append(changed)
        if answer.granted:
            values = row._asdict() | changed
            told.append(_event(events.REFUND_CREATED, values, at))
            if state == "succeeded":
                told.append(_event(events.REFUND_SUCCEEDED, values, at))
    await store.save_grants(tx, saved)
    if later:
        await store.put_off(tx, later)
    tx.emit(told)
    return len(saved)


def _event(type_: str, values: Mapping[str, Any], at: datetime) -> Event:
    return Event(
        type=type_,
        tenant_id=values["tenant_id"],
        subject=values["customer_id"],
        data=facts.refund(values),
        occurred_at=at,
        cause=values["cause"],
    )


# --- what the provider says ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Result:
    """A finding about a refund; ``looked`` is false for the end of its own call, claimed at
    ``claimed_at``; ``asked_at`` is when the provider was asked for its list."""

    refund: Key
    finding: Finding
    looked: bool = False
    asked_at: datetime | None = None
    claimed_at: datetime | None = None


async def settle(tx: Tx, results: Sequence[Result]) -> int:
    """Apply findings, each once; tells how many changed something."""
    locked = await store.lock(tx, (each.refund for each in results))
    clocks = await tx.clocks({tenant for tenant, _ in locked})
    decided = []
    for each in results:
        row = locked.get(each.refund)
        if row is None:
            continue
        at = max(clocks[row.tenant_id], row.occurred_at)
        standing = Standing(
            state=row.state,
            tries=row.tries,
            lost_at=row.lost_at,
            looked=each.looked,
            asked_at=each.asked_at,
            is_current=each.claimed_at in {None, row.claimed_at},
        )
        decision = decide(standing, each.finding, at)
        if decision is not None:
            decided.append((row, decision, at))
    await store.save(tx, [_saved(*each) for each in decided])
    await _set_due(tx, decided)
    tx.emit(
        _event(decision.event, row._asdict() | _saved(row, decision, at), at)
        for row, decision, at in decided
        if decision.event is not None
    )
    return len(decided)


def _saved(row: Row[Any], decision: Decision, at: datetime) -> dict[str, Any]:
    waits = timedelta(seconds=decision.back_off_s)
    return {
        "tenant_id": row.tenant_id,
        "id": row.id,
        "state": decision.state,
        "code": decision.code,
        "provider_ref": decision.provider_ref or row.provider_ref,
        "ready_at": row.wall_at + waits if decision.back_off_s else row.ready_at,
        "tries": decision.tries,
        "lost_at": at if decision.lost else row.lost_at,
        "exhausted_at": at if decision.exhausted else row.exhausted_at,
        "occurred_at": at if decision.event else row.occurred_at,
        "finished_at": at if decision.state in OVER else None,
    }


async def _set_due(tx: Tx, decided: Sequence[tuple[Row[Any], Decision, datetime]]) -> None:
    over = [
        (row.tenant_id, store.RECONCILE, row.id)
        for row, decision, _ in decided
        if row.state == "unknown" and decision.state != "unknown"
    ]
    await intents.due.drop(tx, over)
    for row, decision, _ in decided:
        if decision.exhausted:
            _log.error("refund.needs_a_person", tenant=str(row.tenant_id), refund_id=str(row.id))
    await _tell_people(tx, decided)
    await intents.due.put(
        tx,
        [
            Due(
                tenant_id=row.tenant_id,
                kind=store.RECONCILE,
                id=row.id,
                account_id=row.customer_id,
                due_at=at + decision.look_in,
                rank=DUE_RANK[store.RECONCILE],
            )
            for row, decision, at in decided
            if decision.look_in is not None
        ],
    )


async def _tell_people(tx: Tx, decided: Sequence[tuple[Row[Any], Decision, datetime]]) -> None:
    """What was asked about often enough needs a person, until it is settled after all."""
    kind = differences.REFUND_UNKNOWN
    await differences.open_all(
        tx,
        [
            Found(
                tenant_id=row.tenant_id,
                connection_id=row.connection_id,
                kind=kind,
                subject=ids.text("ref", row.id),
                customer_id=row.customer_id,
                payment_id=row.payment_id,
                data={
                    "refund_id": ids.text("ref", row.id),
                    "attempt_id": ids.text("att", row.attempt_id),
                    "amount_minor": row.amount_minor,
                    "currency": row.currency,
                },
            )
            for row, decision, _ in decided
            if decision.exhausted
        ],
    )
    await differences.close_about(
        tx,
        (
            (row.tenant_id, kind, ids.text("ref", row.id))
            for row, decision, _ in decided
            if row.exhausted_at is not None and decision.state in OVER
        ),
        how=differences.AGREES,
    )


async def give_up_waiting(tx: Tx, keys: Sequence[Key], *, lease_s: float) -> int:
    """Refunds whose caller vanished: nobody knows whether they were made, so the provider is asked
    at once. Tells how many."""
    locked = await store.lock(tx, keys)
    vanished = {
        key: row
        for key, row in locked.items()
        if row.state == "in_flight" and row.wall_at - row.claimed_at >= timedelta(seconds=lease_s)
    }
    changed = await settle(tx, [Result(key, Lost("lease_expired")) for key in vanished])
    await looks.REFUNDS.ask(tx, ((row.tenant_id, row.attempt_id) for row in vanished.values()))
    return changed


async def take_list(
    tx: Tx,
    looked: Sequence[tuple[Row[Any], Sequence[Listed] | None]],
    asked_at: Mapping[UUID, datetime],
) -> None:
    """The provider's lists of attempts' refunds (None: it did not say): what became of ours, and
    refunds that somebody made there, which are written down and told as done. ``asked_at``: each
    tenant's clock before the provider was asked."""
    payments = {(row.tenant_id, row.payment_id) for row, _ in looked}
    locked = await store.lock_payments(tx, payments)
    ours = await store.of_payments(tx, payments)
    clocks = await tx.clocks({tenant for tenant, _ in payments})
    results: list[Result] = []
    made: list[dict[str, Any]] = []
    for row, listed in looked:
        payment = locked[row.tenant_id, row.payment_id]
        known = [
            each
            for each in ours.get((row.tenant_id, row.payment_id), [])
            if each.destination == "method" and each.state not in {"requested", "refused"}
        ]
        if listed is None:
            findings: Mapping[UUID, Finding] = {each.id: Lost("no_answer") for each in known}
            outside: Sequence[Listed] = ()
        else:
            findings, outside = compare(
                [Known(each.id, ids.text("ref", each.id), each.provider_ref) for each in known],
                listed,
            )
        results += [
            Result((row.tenant_id, refund), finding, True, asked_at[row.tenant_id])
            for refund, finding in findings.items()
        ]
        if payment.attempt_id is None:
            continue  # looked at again once its capture is known
        at = max(clocks[row.tenant_id], payment.occurred_at)
        made += [
            _row(payment, refund_id=tx.ids.new(), at=at, cause=None)
            | {
                "destination": "method",
                "source": "invoice",
                "origin": "outside",
                "reason": "other",
                "amount_minor": each.amount_minor,
                "state": "succeeded",
                "provider_ref": each.provider_ref,
                "finished_at": at,
            }
            for each in outside
        ]
    await store.insert(tx, made)
    for each in made:
        payment = locked[each["tenant_id"], each["payment_id"]]
        values = payment._asdict() | each | {"credit_note_id": None, "code": None}
        tx.emit([_event(events.REFUND_SUCCEEDED, values, each["occurred_at"])])
    await settle(tx, results)
