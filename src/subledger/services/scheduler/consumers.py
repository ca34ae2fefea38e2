"""What the scheduler hears."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from subledger.contracts.events import (
    INVOICE_PAID,
    INVOICE_UNCOLLECTIBLE,
    INVOICE_VOIDED,
    KILL_SWITCH_CHANGED,
    PAYMENT_CANCELED,
    PAYMENT_FAILED,
    Recorded,
)
from subledger.platform.db import Tx
from subledger.platform.eventlog.consumer import Group
from subledger.services.scheduler.holds import switch
from subledger.services.scheduler.usecases.plan_retries import end_collections, plan_retries


async def _ended(tx: Tx, events: Sequence[Recorded], *, outcome: str) -> None:
    await end_collections(tx, events, outcome=outcome)


GROUP = Group(
    name="scheduler",
    schema="scheduler",
    handlers={
        PAYMENT_FAILED: plan_retries,
        PAYMENT_CANCELED: plan_retries,
        INVOICE_PAID: partial(_ended, outcome="paid"),
        INVOICE_VOIDED: partial(_ended, outcome="void"),
        INVOICE_UNCOLLECTIBLE: partial(_ended, outcome="uncollectible"),
        KILL_SWITCH_CHANGED: switch.hear,
    },
)
"""No lock of its own: handlers lock the collections of a batch, in order, in one statement."""
