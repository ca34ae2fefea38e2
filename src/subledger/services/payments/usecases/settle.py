"""What was found out about attempts: applied once, whatever came first.

Call, webhook, reconciler and page all end here. The payments are locked, ``protocol.decide``
says what each finding changes, and attempts, payments, due moments and facts change together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import structlog
from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.events import Event
from subledger.core.states import DUE_RANK
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.due import Due
from subledger.providers.hearing import Heard
from subledger.services.payments import facts
from subledger.services.payments.protocol import (
    TERMINAL,
    Decision,
    Finding,
    Saved,
    Standing,
    decide,
    expiry,
)
from subledger.services.payments.store import (
    authorizations,
    intents,
    looks,
    methods,
    payments,
)
from subledger.services.payments.store.payments import Key
from subledger.services.payments.usecases import answers, differences
from subledger.services.payments.usecases.differences import Found

_DUE_STATES = frozenset({"unknown", "requires_action", "authorized"})
_FOUND_LATE = frozenset({"unknown", "failed", "canceled"})
_log = structlog.get_logger()
_json = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Result:
    """A finding about an attempt. ``action`` says why we looked, ``asked_at`` when (see
    ``protocol.Standing``); ``connection_id`` and ``claimed_at`` are known to the one who called."""

    attempt: Key
    finding: Finding
    action: str = "call"
    connection_id: UUID | None = None
    asked_at: datetime | None = None
    claimed_at: datetime | None = None
    answers: Sequence[Heard] = ()
    """What the provider answered on the way."""


@dataclass(frozen=True, slots=True)
class _Changed:
    """A locked row, what changes, when, and through which connection and method."""

    row: Row[Any]
    decision: Decision
    at: datetime
    connection_id: UUID | None
    method_id: UUID | None


async def settle(tx: Tx, results: Sequence[Result]) -> int:
    """Apply findings; tells how many changed something. The tenants' rows must be visible.

    A finding about an attempt that is over changes nothing, except money that arrives late.
    """
    assert len({each.attempt for each in results}) == len(results), "one finding per attempt"
    locked = await payments.lock(tx, (each.attempt for each in results))
    clocks = await tx.clocks({tenant for tenant, _ in locked})
    decided: list[tuple[Result, Row[Any], Decision, datetime]] = []
    for each in results:
        row = locked.get(each.attempt)
        if row is None:
            continue
        at = max(clocks[row.tenant_id], row.occurred_at)
        standing = Standing(
            kind=row.kind,
            state=row.state,
            payment_status=row.status,
            tries=row.tries,
            fetches=row.fetches,
            lost_at=row.lost_at,
            action=each.action,
            asked_at=each.asked_at,
            is_current=each.claimed_at in {None, row.claimed_at},
        )
        decision = decide(standing, each.finding, at)
        if decision is not None:
            decided.append((each, row, decision, at))
    if decided:
        await _save(tx, decided)
    return len(decided)


async def _save(tx: Tx, decided: Sequence[tuple[Result, Row[Any], Decision, datetime]]) -> None:
    saved = await _save_methods(tx, decided)
    changed = [
        _Changed(
            row=row,
            decision=decision,
            at=at,
            connection_id=row.connection_id or result.connection_id,
            method_id=saved.get((row.tenant_id, row.id), row.method_id),
        )
        for result, row, decision, at in decided
    ]
    await payments.save_payments(
        tx, [_payment(each) for each in changed if each.decision.event is not None]
    )
    await payments.save_attempts(tx, [_attempt(each) for each in changed])
    await _set_due(tx, changed)
    await _follow_authorizations(tx, changed)
    await _tell_people(tx, changed)
    await answers.keep(
        tx,
        (
            answers.Learnt(
                (row.tenant_id, row.attempt_id),
                operation=result.action if result.action != "call" else row.kind,
                state=decision.state,
                note=decision.note,
                at=at,
                heard=result.answers,
                looks=row.tries + row.fetches,
            )
            for result, row, decision, at in decided
            # A plain success says nothing that its attempt does not say, and there are many.
            if decision.captured is None or result.action not in {"call", "offline"}
        ),
    )
    # Money that was found late may have gone back before anybody here knew of it.
    late = [
        (each.row.tenant_id, each.row.attempt_id)
        for each in changed
        if each.decision.captured is not None and each.row.state in _FOUND_LATE
    ]
    await looks.REFUNDS.ask(tx, late)
    await looks.DISPUTES.ask(tx, late)
    others = await _others(tx, changed)
    tx.emit(_event(each, others) for each in changed if each.decision.event is not None)


async def _others(tx: Tx, changed: Sequence[_Changed]) -> Mapping[Key, Sequence[Row[Any]]]:
    """What else the payers of refused payments in dunning could be charged by."""
    owners = {
        (each.row.tenant_id, each.row.customer_id)
        for each in changed
        if each.row.dunning and each.decision.refused is not None
    }
    return await methods.in_order(tx, owners) if owners else {}


def _payment(each: _Changed) -> dict[str, Any]:
    row, decision = each.row, each.decision
    refused = decision.refused
    return {
        "tenant_id": row.tenant_id,
        "id": row.id,
        "connection_id": each.connection_id,
        "method_id": each.method_id,
        "status": decision.payment_status,
        "decline": refused.decline if refused else None,
        "failure_code": refused.code if refused else None,
        "redirect_url": decision.redirect_url,
        "occurred_at": each.at,
        "finished_at": each.at if decision.payment_status in TERMINAL else None,
    }


def _attempt(each: _Changed) -> dict[str, Any]:
    row, decision = each.row, each.decision
    return {
        "tenant_id": row.tenant_id,
        "id": row.attempt_id,
        "state": decision.state,
        "ready_at": _later(row.wall_at, decision.back_off_s)
        if decision.back_off_s
        else row.ready_at,
        "tries": decision.tries,
        "fetches": decision.fetches,
        "lost_at": each.at if decision.lost else row.lost_at,
        "exhausted_at": each.at if decision.exhausted else row.exhausted_at,
        "provider_ref": decision.provider_ref or row.provider_ref,
        "outcome": _json(_outcome(decision)).decode(),
        "finished_at": each.at if decision.state in TERMINAL else None,
    }


def _outcome(decision: Decision) -> dict[str, Any]:
    """What is kept of the answer: no token, no address, nothing of the payer."""
    kept: dict[str, Any] = {}
    if decision.refused is not None:
        kept = {
            "decline": decision.refused.decline,
            "code": decision.refused.code,
            "counted": decision.refused.counted,
        }
    elif decision.authorized is not None:
        kept = {"authorized_minor": decision.authorized.amount_minor}
    elif decision.captured is not None and decision.captured.amount_minor is not None:
        kept = {"captured_minor": decision.captured.amount_minor}
    elif decision.note is not None:
        kept = {"reason": decision.note}
    return kept


def _is_part(each: _Changed) -> bool:
    captured = each.decision.captured
    return (
        each.row.capture_method == "manual"
        and captured is not None
        and captured.amount_minor is not None
        and captured.amount_minor < each.row.amount_minor
    )


async def _follow_authorizations(tx: Tx, changed: Sequence[_Changed]) -> None:
    """Remember what was authorized; nothing is wanted any more of what is over; a payment is of
    what was captured."""
    staged = [each for each in changed if each.row.capture_method == "manual"]
    if not staged:
        return
    await authorizations.open_all(
        tx,
        [
            {
                "tenant_id": each.row.tenant_id,
                "attempt_id": each.row.attempt_id,
                "authorized_minor": each.decision.authorized.amount_minor,
                "expires_at": expiry(each.decision.authorized, each.at),
                "tries": 0,
            }
            for each in staged
            if each.decision.authorized is not None
        ],
    )
    over = [each.row for each in staged if each.decision.state in TERMINAL]
    held = await authorizations.lock(tx, ((row.tenant_id, row.attempt_id) for row in over))
    await authorizations.save(tx, [authorizations.changed(row, wish=None) for row in held.values()])
    await authorizations.set_amounts(
        tx,
        [
            {
                "tenant_id": each.row.tenant_id,
                "id": each.row.id,
                "amount_minor": each.decision.captured.amount_minor,
            }
            for each in staged
            if each.decision.captured is not None and _is_part(each)
        ],
    )


def _later(moment: datetime, seconds: float) -> datetime:
    return moment + timedelta(seconds=seconds)


async def _set_due(tx: Tx, changed: Sequence[_Changed]) -> None:
    rows, over = [], []
    for each in changed:
        row, decision = each.row, each.decision
        # An attempt that just ended has due moments only if it had to be looked after before.
        if decision.state in TERMINAL and row.state in _DUE_STATES:
            over.append((row.tenant_id, row.id))
        if decision.exhausted:
            _log.error(
                "payment.needs_a_person",
                tenant=str(row.tenant_id),
                payment_id=str(row.id),
                attempt_id=str(row.attempt_id),
                state=decision.state,
            )
        for kind, wait in (
            (intents.RECONCILE, decision.reconcile_in),
            (intents.PAGE_EXPIRY, decision.expire_in),
            (intents.AUTHORIZATION, decision.let_go_in),
        ):
            if wait is not None:
                rows.append(
                    Due(
                        tenant_id=row.tenant_id,
                        kind=kind,
                        id=row.id,
                        account_id=row.customer_id,
                        due_at=each.at + wait,
                        rank=DUE_RANK[kind],
                    )
                )
    await intents.drop_due(tx, over)
    if rows:
        await intents.due.put(tx, rows)


async def _tell_people(tx: Tx, changed: Sequence[_Changed]) -> None:
    """What was asked about often enough needs a person, until it is settled after all."""
    kind = differences.PAYMENT_UNKNOWN
    await differences.open_all(
        tx,
        [
            Found(
                tenant_id=row.tenant_id,
                connection_id=each.connection_id,
                kind=kind,
                subject=ids.text("att", row.attempt_id),
                customer_id=row.customer_id,
                payment_id=row.id,
                data={
                    "attempt_id": ids.text("att", row.attempt_id),
                    "state": each.decision.state,
                    "amount_minor": row.amount_minor,
                    "currency": row.currency,
                },
            )
            for each in changed
            for row in [each.row]
            if each.decision.exhausted and each.connection_id is not None
        ],
    )
    await differences.close_about(
        tx,
        (
            (row.tenant_id, kind, ids.text("att", row.attempt_id))
            for each in changed
            for row in [each.row]
            if row.exhausted_at is not None and each.decision.state in TERMINAL
        ),
        how=differences.AGREES,
    )


def _event(each: _Changed, others: Mapping[Key, Sequence[Row[Any]]]) -> Event:
    row, decision = each.row, each.decision
    assert decision.event is not None
    data = facts.payment(row, connection_id=each.connection_id, method_id=each.method_id)
    if decision.captured is not None:
        data["captured_at"] = each.at.isoformat()
        if decision.captured.amount_minor is not None:
            data["amount_minor"] = decision.captured.amount_minor
            # Less than was authorized, by our own wish: it pays its part of the invoice.
            if _is_part(each):
                data["part"] = True
    elif decision.authorized is not None and decision.let_go_in is not None:
        data["amount_minor"] = decision.authorized.amount_minor
        data["capture_before_at"] = (each.at + decision.let_go_in).isoformat()
    elif decision.refused is not None:
        refused = decision.refused
        data |= {
            "decline": refused.decline,
            "code": refused.code,
            "counted": refused.counted,
            "retry_not_before": refused.retry_not_before and refused.retry_not_before.isoformat(),
            "final": True,
            "other_method_ids": [
                ids.text("pm", other.id)
                for other in others.get((row.tenant_id, row.customer_id), ())
                if other.id != each.method_id
            ],
        }
    return Event(
        type=decision.event,
        tenant_id=row.tenant_id,
        subject=row.customer_id,
        data=data,
        occurred_at=each.at,
        cause=row.cause,
    )


async def _save_methods(
    tx: Tx, decided: Sequence[tuple[Result, Row[Any], Decision, datetime]]
) -> Mapping[Key, UUID]:
    """Keep the methods that payers saved on the page; the method of each payment concerned."""
    offered: dict[tuple[UUID, UUID, str], tuple[Row[Any], Saved, datetime]] = {}
    of_payment: dict[Key, tuple[UUID, UUID, str]] = {}
    for result, row, decision, at in decided:
        taken = decision.captured or decision.authorized
        connection = row.connection_id or result.connection_id
        if taken is None or taken.saved is None or connection is None:
            continue
        token = (row.tenant_id, connection, taken.saved.token)
        offered[token] = (row, taken.saved, at)
        of_payment[row.tenant_id, row.id] = token
    if not offered:
        return {}
    customers = await methods.lock_customers(
        tx, {(row.tenant_id, row.customer_id) for row, _, _ in offered.values()}
    )
    known = await methods.by_token(tx, offered)
    defaulted: set[Key] = set()
    for token in sorted(offered):
        row, saved, at = offered[token]
        customer = customers[row.tenant_id, row.customer_id]
        if token in known or customer.deleted_at is not None:
            continue
        method_id = known[token] = tx.ids.new()
        owner = (row.tenant_id, row.customer_id)
        is_default = customer.default_method_id is None and owner not in defaulted
        if is_default:
            defaulted.add(owner)
        await _insert_method(tx, method_id, token[1], row, saved, at, is_default=is_default)
    return {key: known[token] for key, token in of_payment.items() if token in known}


async def _insert_method(
    tx: Tx,
    method_id: UUID,
    connection_id: UUID,
    row: Row[Any],
    saved: Saved,
    at: datetime,
    *,
    is_default: bool,
) -> None:
    """A method that a payer saved on the page, and the fact."""
    made = {
        "tenant_id": row.tenant_id,
        "id": method_id,
        "customer_id": row.customer_id,
        "connection_id": connection_id,
        "status": "active",
        "token": saved.token,
        "brand": saved.brand,
        "last_four": saved.last_four,
        "test_kind": None,
        "make_default": is_default,
        "expires_on": None,
    }
    await methods.insert_methods(tx, [made], created_at=at)
    key = (row.tenant_id, method_id)
    inserted = (await methods.methods(tx, [key]))[key]
    await methods.describe(tx, [methods.described(inserted, saved)])
    if is_default:
        default = {"tenant_id": row.tenant_id, "id": row.customer_id}
        await methods.set_defaults(tx, [default | {"default_method_id": method_id}])
    tx.emit(
        [
            facts.method(
                events.PAYMENT_METHOD_ATTACHED,
                tenant_id=row.tenant_id,
                method_id=method_id,
                customer_id=row.customer_id,
                brand=saved.brand,
                last_four=saved.last_four,
                is_default=is_default,
                occurred_at=at,
                cause=row.cause,
            )
        ]
    )
