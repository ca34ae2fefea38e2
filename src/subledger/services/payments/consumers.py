"""What payments does when something happened elsewhere, or became due."""

from __future__ import annotations

from subledger.contracts import events
from subledger.platform.eventlog.consumer import Group
from subledger.services.payments.store.holds import switch
from subledger.services.payments.usecases import collect, customers, look

GROUP = Group(
    name="payments",
    schema="payments",
    handlers={
        events.INVOICE_FINALIZED: collect.collect_finalized,
        events.INVOICE_DUE: collect.collect_finalized,
        events.RETRY_REQUIRED: collect.collect_retries,
        events.CUSTOMER_CREATED: customers.learn,
        events.CUSTOMER_UPDATED: customers.learn,
        events.CUSTOMER_DELETED: customers.forget,
        events.WEBHOOK_RECEIVED: look.take_hints,
        events.KILL_SWITCH_CHANGED: switch.hear,
    },
)
"""No account is locked here: these handlers insert payments, intents and customers, and whatever
changes a payment locks the payment."""
