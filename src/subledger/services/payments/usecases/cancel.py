"""A person does not want a payment any more: nothing was asked of a provider yet, or it is asked to
close what is open there."""

from __future__ import annotations

from uuid import UUID

from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.payments import problems as refusals
from subledger.services.payments import wishes
from subledger.services.payments.protocol import Closed
from subledger.services.payments.store import intents
from subledger.services.payments.store import payments as store
from subledger.services.payments.usecases.capture import want_voids
from subledger.services.payments.usecases.settle import Result, settle

_WHY_NOT = {
    "reserving": "its invoice is being reserved; ask again in a moment",
    "in_flight": "the provider is being asked at this moment",
    "unknown": "the provider has not said yet whether the money moved",
    "succeeded": "it succeeded; refund it instead",
    "failed": "it failed already",
}


async def cancel(tx: Tx, tenant_id: UUID, payment_id: UUID) -> None:
    """Cancel what is not sent yet; what is authorized is let go at the provider; an open page, and
    a charge that waits for its payer's bank, is to be closed there, and the provider says whether
    the payer was quicker. What is canceled already stays so.

    Raises not_found, and payment_not_cancelable with the reason.
    """
    key = (tenant_id, payment_id)
    attempts = (await store.attempts_of(tx, [key])).get(key)
    if not attempts:
        raise Problem("not_found", detail="There is no such payment.")
    attempt = (tenant_id, attempts[-1].id)
    row = (await store.lock(tx, [attempt]))[attempt]
    if row.status == "canceled":
        return
    if row.state == "ready":
        await settle(tx, [Result(attempt, Closed(), action="cancel")])
    elif row.state == "authorized":
        if (await want_voids(tx, [attempt])).get(attempt) == wishes.CAPTURE:
            raise Problem(
                refusals.NOT_CANCELABLE,
                detail="The payment cannot be canceled: it is being captured.",
                reason="capturing",
            )
    elif row.state == "requires_action":
        await intents.ask(tx, {attempt: "expire"})
    else:
        raise Problem(
            refusals.NOT_CANCELABLE,
            detail=f"The payment cannot be canceled: {_WHY_NOT.get(row.state, row.state)}.",
            reason=row.state,
        )
