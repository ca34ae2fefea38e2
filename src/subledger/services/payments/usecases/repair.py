"""Setting differences right: each by the one thing that is right for it, and told once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.events import Event
from subledger.contracts.repairs import RepairAnswer, RepairRequest
from subledger.core.states import ATTEMPT, PAYMENT, step
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.services.payments import facts
from subledger.services.payments.protocol import Captured, Closed, Finding, Refused
from subledger.services.payments.store import differences as stored
from subledger.services.payments.store import methods, payments
from subledger.services.payments.store import reconciliations as store
from subledger.services.payments.store import refunds as refund_store
from subledger.services.payments.store.payments import Key
from subledger.services.payments.usecases import differences, refunds
from subledger.services.payments.usecases.adopt import Adopted, adopt
from subledger.services.payments.usecases.settle import Result, settle

Repair = Callable[[Tx, Row[Any], RepairRequest], Awaitable[RepairAnswer]]
ASK: Final = "ask"
ACTIONS: Final = {
    differences.PAYMENT_UNKNOWN: (ASK, "succeeded", "failed"),
    differences.REFUND_UNKNOWN: (ASK, "succeeded", "failed"),
    differences.DISPUTE_UNKNOWN: (ASK,),
    differences.CAPTURE_UNMATCHED: ("assign",),
    differences.REFUND_UNMATCHED: (ASK,),
    differences.PAYMENT_MISSING: ("reverse",),
    differences.REFUND_MISSING: ("fail",),
    differences.AMOUNT_DIFFERS: ("correct",),
    differences.CLEARING_DIFFERS: (ASK,),
}
"""What can be done about each kind, the one right thing first."""
DONE: Final = RepairAnswer(done=True)
BY_HAND: Final = "settled_by_hand"


def refused(refusal: str) -> RepairAnswer:
    """The answer that nothing was done."""
    return RepairAnswer(done=False, refusal=refusal)


def action_of(kind: str, request: RepairRequest) -> str | None:
    """The action that is meant; None if the kind does not know it."""
    known = ACTIONS[kind]
    wanted = request.action or known[0]
    return wanted if wanted in known else None


async def read(tx: Tx, key: Key) -> Row[Any] | None:
    """The difference, locked."""
    return (await stored.lock(tx, [key])).get(key)


async def lock_root(tx: Tx, row: Row[Any]) -> None:
    """Lock the payment or refund that a difference is about: before the difference, as whatever
    settles it does."""
    if row.subject.startswith("ref_"):
        await refund_store.lock(tx, [(row.tenant_id, refund_of(row))])
    elif row.payment_id is not None:
        await payments.lock(tx, [(row.tenant_id, attempt_of(row))])


async def succeeded(tx: Tx, row: Row[Any], request: RepairRequest) -> RepairAnswer:
    """A person knows (``reference``) that an unknown payment or refund was made: it is told as if
    the provider had said so."""
    return await _by_hand(tx, row, request, Captured(), how="succeeded")


async def failed(tx: Tx, row: Row[Any], request: RepairRequest) -> RepairAnswer:
    """A person knows (``reference``) that an unknown payment or refund was never made."""
    refused = Refused(decline="soft", code=BY_HAND, counted=False)
    return await _by_hand(tx, row, request, refused, how="failed")


async def _by_hand(
    tx: Tx, row: Row[Any], request: RepairRequest, finding: Finding, *, how: str
) -> RepairAnswer:
    if not request.reference:
        return refused("no_reference")
    await _close(tx, row, request, how=how)  # first: settled, it would be over by itself
    if row.kind == differences.REFUND_UNKNOWN:
        refund = (row.tenant_id, ids.parse("ref", row.subject))
        await refunds.settle(tx, [refunds.Result(refund, finding, looked=True)])
    else:
        attempt = (row.tenant_id, ids.parse("att", row.subject))
        # A page takes no refusal: it is closed, and took nothing.
        if not await settle(tx, [Result(attempt, finding, action="hand")]) and how == "failed":
            await settle(tx, [Result(attempt, Closed(), action="hand")])
    return DONE


async def assign(tx: Tx, row: Row[Any], request: RepairRequest) -> RepairAnswer:
    """A capture that names nobody is this customer's money: unapplied, to be used or refunded."""
    if request.customer_id is None:
        return refused("no_customer")
    owner = (row.tenant_id, request.customer_id)
    if owner not in await methods.customers(tx, [owner]):
        return refused("no_customer")
    connection = (row.tenant_id, row.connection_id)
    listed = await store.entries(tx, connection, attempts=[], refs=[row.subject])
    said = msgspec.json.decode(row.data)
    attempt = None if said["attempt_id"] is None else ids.parse("att", said["attempt_id"])
    await adopt(
        tx,
        [
            Adopted(
                tenant_id=row.tenant_id,
                connection_id=row.connection_id,
                customer_id=request.customer_id,
                invoice_id=None,
                attempt_id=attempt,
                provider_ref=each.provider_ref,
                amount_minor=each.amount_minor,
                currency=each.currency,
                at=each.at,
            )
            for each in listed
        ],
    )
    await _close(tx, row, request, how="assign")
    return DONE


async def reverse(tx: Tx, row: Row[Any], request: RepairRequest) -> RepairAnswer:
    """A payment that never arrived is ``failed``, and billing is told to take it back. Refused
    (``refunded``) while money of it went back: that has to be settled first."""
    attempt = (row.tenant_id, ids.parse("att", row.subject))
    payment = (await payments.lock(tx, [attempt])).get(attempt)
    if payment is None or payment.state != "succeeded":
        await _close(tx, row, request, how=differences.AGREES)
        return DONE
    key = (payment.tenant_id, payment.id)
    gone = [
        each
        for each in (await refund_store.of_payments(tx, [key])).get(key, [])
        if each.state not in {"failed", "refused"}
    ]
    if gone:
        return refused("refunded")
    at = max(await tx.now(row.tenant_id), payment.occurred_at)
    done = {"tenant_id": payment.tenant_id, "finished_at": at}
    await payments.save_payments(
        tx,
        [
            done
            | {
                "id": payment.id,
                "connection_id": payment.connection_id,
                "method_id": payment.method_id,
                "status": step(PAYMENT, payment.status, "reversed"),
                "decline": None,
                "failure_code": "reversed",
                "redirect_url": None,
                "occurred_at": at,
            }
        ],
    )
    state = step(ATTEMPT, payment.state, "reversed")
    await payments.move_attempts(tx, [done | {"id": payment.attempt_id, "state": state}])
    tx.emit([_told(events.PAYMENT_REVERSED, payment, at)])
    await _close(tx, row, request, how="reverse")
    return DONE


async def fail_refund(tx: Tx, row: Row[Any], request: RepairRequest) -> RepairAnswer:
    """A refund that the provider never made has failed: the money is the customer's credit."""
    refund = (row.tenant_id, ids.parse("ref", row.subject))
    finding = Refused(decline="hard", code="not_made", counted=False)
    await refunds.settle(tx, [refunds.Result(refund, finding, looked=True)])
    await _close(tx, row, request, how="fail")
    return DONE


async def correct(tx: Tx, row: Row[Any], request: RepairRequest) -> RepairAnswer:
    """What the provider captured is what is booked: the difference goes to the customer's unapplied
    money (or is owed by it). Another currency is another booking: the old amount is taken back."""
    said = msgspec.json.decode(row.data)
    attempt = (row.tenant_id, ids.parse("att", said["attempt_id"]))
    payment = (await payments.lock(tx, [attempt])).get(attempt)
    connection = (row.tenant_id, row.connection_id)
    listed = await store.entries(tx, connection, attempts=[], refs=[row.subject])
    known = await store.ours(tx, connection, attempts=[attempt[1]], refs=[])
    if payment is None or not listed or payment.state != "succeeded":
        return refused("unsure")
    if listed[0].currency != payment.currency:
        return refused("no_such_action")
    at = max(await tx.now(row.tenant_id), payment.occurred_at)
    missing = listed[0].amount_minor - known[0].amount_minor
    if missing:
        outcome = msgspec.json.encode({"captured_minor": listed[0].amount_minor}).decode()
        await payments.save_attempts(
            tx,
            [
                {
                    "tenant_id": payment.tenant_id,
                    "id": payment.attempt_id,
                    "state": payment.state,
                    "ready_at": payment.ready_at,
                    "tries": payment.tries,
                    "fetches": payment.fetches,
                    "lost_at": payment.lost_at,
                    "exhausted_at": payment.exhausted_at,
                    "provider_ref": payment.provider_ref,
                    "outcome": outcome,
                    "finished_at": known[0].finished_at,
                }
            ],
        )
        tx.emit([_told(events.PAYMENT_CORRECTED, payment, at, amount_minor=missing)])
    await _close(tx, row, request, how="correct")
    return DONE


async def close_unless_open(tx: Tx, row: Row[Any], request: RepairRequest) -> RepairAnswer:
    """The provider says that it is as we believed: nothing is to be done."""
    await _close(tx, row, request, how=differences.AGREES)
    return DONE


def _told(kind: str, payment: Row[Any], at: Any, **changed: Any) -> Event:
    data = facts.payment(payment, connection_id=payment.connection_id, method_id=payment.method_id)
    return Event(
        type=kind,
        tenant_id=payment.tenant_id,
        subject=payment.customer_id,
        data=data | changed,
        occurred_at=at,
        cause=payment.cause,
    )


async def _close(tx: Tx, row: Row[Any], request: RepairRequest, *, how: str) -> None:
    await differences.close_all(
        tx, [(row.tenant_id, row.id)], by=request.by, how=how, reference=request.reference
    )


def attempt_of(row: Row[Any]) -> UUID:
    """The attempt that a difference is about."""
    said = row.subject if row.subject.startswith("att_") else None
    return ids.parse("att", said or msgspec.json.decode(row.data)["attempt_id"])


def refund_of(row: Row[Any]) -> UUID:
    """The refund that a difference is about."""
    return ids.parse("ref", row.subject)


BY_ACTION: Final[Mapping[str, Repair]] = {
    "succeeded": succeeded,
    "failed": failed,
    "assign": assign,
    "correct": correct,
}
"""What needs no question to the provider."""
