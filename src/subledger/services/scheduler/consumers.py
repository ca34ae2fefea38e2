"""What the scheduler hears."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from subledger.contracts import events as told
from subledger.contracts.events import Recorded
from subledger.platform.db import Tx
from subledger.platform.eventlog.consumer import Group
from subledger.services.scheduler.holds import switch
from subledger.services.scheduler.usecases.know import know_accounts, know_subscriptions
from subledger.services.scheduler.usecases.plan_retries import end_collections, plan_retries
from subledger.services.scheduler.usecases.retry_now import retry_now


async def _ended(tx: Tx, events: Sequence[Recorded], *, outcome: str) -> None:
    await end_collections(tx, events, outcome=outcome)


GROUP = Group(
    name="scheduler",
    schema="scheduler",
    handlers={
        told.CUSTOMER_CREATED: know_accounts,
        told.CUSTOMER_UPDATED: know_accounts,
        told.SUBSCRIPTION_CREATED: know_subscriptions,
        told.SUBSCRIPTION_CHANGED: know_subscriptions,
        told.SUBSCRIPTION_REACTIVATED: know_subscriptions,
        told.PAYMENT_FAILED: plan_retries,
        told.PAYMENT_CANCELED: plan_retries,
        told.PAYMENT_METHOD_ATTACHED: retry_now,
        told.PAYMENT_METHOD_DEFAULT_CHANGED: retry_now,
        told.PAYMENT_METHOD_UPDATED: retry_now,
        told.INVOICE_PAID: partial(_ended, outcome="paid"),
        told.INVOICE_VOIDED: partial(_ended, outcome="void"),
        told.INVOICE_UNCOLLECTIBLE: partial(_ended, outcome="uncollectible"),
        told.KILL_SWITCH_CHANGED: switch.hear,
    },
)
"""No lock of its own: handlers lock the collections of a batch, in order, in one statement."""
