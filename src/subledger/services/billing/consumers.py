"""What billing does when something happened elsewhere, or became due."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from subledger.contracts import events
from subledger.contracts.events import Recorded
from subledger.platform.db import Tx
from subledger.platform.eventlog.consumer import Group, Handler, Subjects
from subledger.services.billing.store import subscriptions
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import (
    begin,
    cancel,
    change,
    difference_items,
    disputes,
    final_step,
    finalize,
    methods,
    pause,
    reconciled,
    refund_outcomes,
    renew,
    settle,
    unpaid,
)

_UseCase = Callable[[Tx, TermsMemory, Sequence[Recorded]], Awaitable[None]]

_HANDLERS: dict[str, _UseCase] = {
    events.RENEW_REQUIRED: renew.renew,
    events.CHANGE_REQUIRED: change.reach_change,
    events.CANCEL_REQUIRED: cancel.reach_cancellation,
    events.EXPIRY_REQUIRED: unpaid.expire_incomplete,
    events.INVOICE_FINALIZE_REQUIRED: finalize.finalize_due,
    events.INVOICE_COLLECT_REQUIRED: finalize.collect_due,
    events.TRIAL_REMINDER_REQUIRED: begin.remind,
    events.PAUSE_RESUME_REQUIRED: pause.reach,
    events.FINAL_STEP_REQUIRED: final_step.finish_dunning,
    events.PAYMENT_SUCCEEDED: settle.paid,
    events.PAYMENT_FAILED: settle.not_paid,
    events.PAYMENT_CANCELED: settle.not_paid,
    events.REFUND_SUCCEEDED: refund_outcomes.succeeded,
    events.REFUND_FAILED: refund_outcomes.failed,
    events.DISPUTE_OPENED: disputes.follow,
    events.DISPUTE_UPDATED: disputes.follow,
    events.DISPUTE_CLOSED: disputes.follow,
    events.PAYMENT_REVERSED: reconciled.reversed_payments,
    events.PAYMENT_CORRECTED: reconciled.corrected,
    events.PAYOUT_PAID: reconciled.paid_out,
    events.DIFFERENCE_FOUND: difference_items.found,
    events.DIFFERENCE_CLOSED: difference_items.closed,
    events.PAYMENT_METHOD_ATTACHED: methods.know_methods,
    events.PAYMENT_METHOD_DETACHED: methods.know_methods,
}


async def _lock(tx: Tx, subjects: Subjects) -> None:
    await subscriptions.lock_accounts(tx, subjects)


def group(memory: TermsMemory) -> Group:
    """The group ``billing``: accounts are locked in order before any handler runs."""

    def bound(use_case: _UseCase) -> Handler:
        async def handle(tx: Tx, given: Sequence[Recorded]) -> None:
            await use_case(tx, memory, given)

        return handle

    return Group(
        name="billing",
        schema="billing",
        handlers={kind: bound(use_case) for kind, use_case in _HANDLERS.items()},
        lock=_lock,
        tasks=2,
    )
