"""A payment's whole history: attempts, what the provider answered, notifications, refunds."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

import msgspec
from fastapi import APIRouter
from pydantic import Field
from sqlalchemy import Row

from subledger.platform.db import Database, Tx, story
from subledger.platform.http.callers import CallerRead
from subledger.platform.http.fields import Strict, Timestamp
from subledger.platform.http.problems import Problem, problems
from subledger.services.payments.addresses import Addresses
from subledger.services.payments.facts import STATUS
from subledger.services.payments.http import lists
from subledger.services.payments.refund_schemas import RefundId
from subledger.services.payments.schemas import AttemptId, Payment, PaymentId, ReceivedId
from subledger.services.payments.store import answers, payments, refunds
from subledger.services.payments.store.intents import OF_REFUND

_READ = story("payments.read_history", reads=True)
MOST_REFUNDS = 200


class HistoryEntry(Strict):
    """Something that happened. ``answer``: what the provider said (``operation`` asked,
    ``http_status``, the answer with secrets and personal fields masked, cut above 4 KiB, a ``note``
    where none came) and the ``state`` that it left the attempt in; ``webhook``: its notification,
    whose ``operation`` is its kind. A charge that just succeeded keeps no answer: its
    ``attempt_finished`` says all."""

    at: Timestamp
    kind: Literal[
        "payment_created",
        "attempt_created",
        "answer",
        "webhook",
        "attempt_finished",
        "refund_created",
        "refund_finished",
        "payment_finished",
    ]
    attempt_id: AttemptId | None = None
    state: str | None = None
    operation: str | None = None
    http_status: int | None = None
    answer: Any = None
    note: str | None = None
    provider_ref: str | None = None
    webhook_id: ReceivedId | None = None
    refund_id: RefundId | None = None
    amount_minor: int | None = None


class History(Strict):
    """A payment and all that happened to it, oldest first. Of each attempt the newest 40 answers
    are kept, of the refunds the newest 200 are shown."""

    payment: Payment
    entries: list[HistoryEntry] = Field(description="By time.")


_RANK = {
    name: place
    for place, name in enumerate(
        (
            "payment_created",
            "attempt_created",
            "answer",
            "webhook",
            "attempt_finished",
            "payment_finished",
            "refund_created",
            "refund_finished",
        )
    )
} | {"webhook": 2}


def router(database: Database, addresses: Addresses) -> APIRouter:
    """``/v1/payments/{payment_id}/history``."""
    routes = APIRouter(prefix="/v1/payments", tags=["Payments"])

    @routes.get(
        "/{payment_id}/history",
        response_model=History,
        response_model_exclude_none=True,
        summary="Get a payment's history",
        description="Attempts in order with their states, the provider's references and masked"
        " answers, its notifications, and refunds.",
        responses={**problems("not_found")},
    )
    async def get_payment_history(payment_id: PaymentId, caller: CallerRead) -> History:
        key = (caller.tenant_id, payment_id)

        async def read(tx: Tx) -> History:
            found = (await payments.payments(tx, [key])).get(key)
            if found is None:
                raise Problem("not_found", detail="There is no such payment.")
            attempts = (await payments.attempts_of(tx, [key])).get(key, [])
            kept = await answers.of_attempts(tx, ((key[0], each.id) for each in attempts))
            returned = await refunds.listed(tx, *key, before=lists.before(None), limit=MOST_REFUNDS)
            return History(
                payment=Payment.of(found, attempts, addresses=addresses),
                entries=_entries(found, attempts, list(kept), list(returned)),
            )

        return await database.transact(_READ, read, tenants=[caller.tenant_id])

    return routes


def _entries(
    payment: Row[Any],
    attempts: list[Row[Any]],
    kept: list[Row[Any]],
    returned: list[Row[Any]],
) -> list[HistoryEntry]:
    listed: list[tuple[UUID, HistoryEntry]] = []

    def add(row_id: UUID, **values: Any) -> None:
        if values["at"] is not None:
            listed.append((row_id, HistoryEntry(**values)))

    add(payment.id, at=payment.created_at, kind="payment_created")
    add(payment.id, at=payment.finished_at, kind="payment_finished", state=payment.status)
    for each in attempts:
        add(each.id, at=each.created_at, kind="attempt_created", attempt_id=each.id)
        add(
            each.id,
            at=each.finished_at,
            kind="attempt_finished",
            attempt_id=each.id,
            state=each.state,
            provider_ref=each.provider_ref,
        )
    for each in kept:
        add(
            each.id,
            at=each.occurred_at,
            kind=each.kind,
            attempt_id=each.attempt_id,
            state=each.state,
            operation=each.operation,
            http_status=each.status,
            answer=None if each.body is None else msgspec.json.decode(each.body),
            note=each.note,
            webhook_id=each.webhook_id,
        )
    for each in returned:
        told = {"refund_id": each.id, "amount_minor": each.amount_minor or each.asked_minor}
        add(each.id, at=each.created_at, kind="refund_created", **told)
        add(each.id, at=each.finished_at, kind="refund_finished", state=STATUS[each.state], **told)
    listed.sort(key=lambda pair: (pair[1].at, _rank(pair[1]), pair[0]))
    return [entry for _, entry in listed]


def _rank(entry: HistoryEntry) -> int:
    """The order of what happened at one moment of the tenant's clock."""
    of_refund = (entry.operation or "").startswith(OF_REFUND)
    return _RANK["refund_finished" if of_refund else entry.kind]
